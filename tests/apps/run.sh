# run.sh - `strand run` on small tensor files: names, shapes, types, limits.
. "$(dirname "$0")/lib.sh"
need_model
compare=${STRAND_COMPARE:?the program that compares}
# a safetensors file by hand: header text, then data
tensors() { # FILE HEADER DATA(octal escapes)
    local n=${#2}
    # shellcheck disable=SC2059
    { printf "\\x$(printf %x $((n % 256)))\\x$(printf %x $((n / 256)))\\0\\0\\0\\0\\0\\0"; printf '%s' "$2"; printf "$3"; } >"$1"
}
i64() { for v in "$@"; do printf '\\%03o\\0\\0\\0\\0\\0\\0\\0' "$v"; done; }
u8() { for v in "$@"; do printf '\\%03o' "$v"; done; }
run() { "$STRAND" run "$model" --no-version "$@"; }

tensors in.st '{"input_ids":{"dtype":"I64","shape":[2,5],"data_offsets":[0,80]}}' "$(i64 7 8 9 10 7 10 10 8 7 9)"
expect 0 run run -q -i in.st -o out.st
is "$("$compare" shape out.st logits | cut -d, -f1-2)" "[2,5" "shape of the result"
is "$("$compare" shape out.st hidden | cut -d, -f1-2)" "[2,5" "shape of hidden"
is "$(wc -c <err)" 0 "nothing to remark"
tensors u8.st '{"input_ids":{"dtype":"U8","shape":[2,5],"data_offsets":[0,10]}}' "$(u8 7 8 9 10 7 10 10 8 7 9)"
expect 0 "ids of one byte" run -q -i u8.st -o x.st
same x.st out.st "ids of one byte"
expect 0 "one output" run -q -i in.st -o one.st --outputs logits
true_that "one output: the same" "$compare" tensors one.st logits out.st logits 0
"$compare" shape one.st hidden >/dev/null 2>&1 && fault "one output: hidden is there too" || pass
tensors extra.st '{"input_ids":{"dtype":"I64","shape":[2,5],"data_offsets":[0,80]},"other":{"dtype":"U8","shape":[3],"data_offsets":[80,83]}}' \
    "$(i64 7 8 9 10 7 10 10 8 7 9)$(u8 1 2 3)"
expect 0 "a tensor too many" run -i extra.st -o x.st
says "'other' is ignored" "a tensor too many"
same x.st out.st "a tensor too many"
# a record alone gives the bytes it gives in a batch
tensors alone.st '{"input_ids":{"dtype":"I64","shape":[1,5],"data_offsets":[0,40]}}' "$(i64 7 8 9 10 7)"
run -q -i alone.st -o x.st --outputs logits
n=$(($(stat -c %s x.st) - 8 - $(od -An -N4 -tu4 x.st)))
tail -c $n x.st >a; h=$(($(stat -c %s one.st) - 2 * n)); tail -c +$((h + 1)) one.st | head -c $n >b; same a b "alone and in a batch"

tensors other.st '{"ids":{"dtype":"I64","shape":[1,5],"data_offsets":[0,40]}}' "$(i64 7 8 9 10 7)"
expect 1 "a missing input" run -i other.st -o x2.st
says "input_ids" "a missing input"
tensors rank.st '{"input_ids":{"dtype":"I64","shape":[5],"data_offsets":[0,40]}}' "$(i64 7 8 9 10 7)"
expect 1 "a shape of one axis" run -i rank.st -o x2.st
says "\[batch, length\]" "a shape of one axis"
tensors float.st '{"input_ids":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}' "$(u8 0 0 0 0 0 0 0 0)"
expect 1 "float ids" run -i float.st -o x2.st
tensors id.st '{"input_ids":{"dtype":"U8","shape":[1,2],"data_offsets":[0,2]}}' "$(u8 7 200)"
expect 1 "an id outside the vocabulary" run -i id.st -o x2.st
expect 1 "an unknown output" run -i in.st -o x2.st --outputs nosuch
expect 1 "a damaged input" run -i "$0" -o x2.st
expect 1 "a missing input file" run -i no.st -o x2.st
tensors empty.st '{"input_ids":{"dtype":"I64","shape":[1,0],"data_offsets":[0,0]}}' ""
expect 1 "no length" run -i empty.st -o x2.st
n=4000000
{ printf '\\x%x' 1 >/dev/null; h="{\"input_ids\":{\"dtype\":\"U8\",\"shape\":[1,$n],\"data_offsets\":[0,$n]}}"; tensors long.st "$h" ""; head -c $n /dev/zero >>long.st; }
expect 1 "longer than the model allows" run -i long.st -o x2.st
grep -q '[0-9]' err && pass || fault "the limit is not named: $(cat err)"
[ -e x2.st ] && fault "a failed run left its output" || pass
[ -w /dev/full ] && expect 1 "run to /dev/full" run -q -i in.st -o /dev/full
expect 0 "inspect a file of tensors" "$STRAND" inspect in.st
grep -q input_ids out && pass || fault "inspect a file of tensors"
"$STRAND" run "$model" -q -i in.st -o h.st && grep -q model_sha256 h.st && pass || fault "no provenance"
finish
