# text.sh - language models from the command line: published text, sampling, states, the store of prefixes, tokens, bad input.
. "$(dirname "$0")/lib.sh"
stories=$STRAND_SHARED/data/text/stories260K
text() { "$STRAND" text "$@"; }
published=
m=mamba-bytes-strand
if [ -f "$stories/stories260K.bin" ]; then
    published=1
    m=$stories/stories260K.bin
    cp "$stories/expected.txt" told
else
    note "no stories260K in STRAND_SHARED: the built-in model in its place, and no published text"
    printf 'Once upon a time there was a king who had a daughter, and she was the joy of his old age.\n' >told
fi
generate() { text generate -q -m "$m" "$@"; }

if [ $published ]; then
    generate -p "" -n 200 -t 0 >out
    head -c -1 out >x
    same x told "the published text"
fi

# several texts as one batch are what each is alone
generate -p "Tom and" -p "The big" -p "One day" -n 25 -t 0 -f jsonl >batch
for p in "Tom and" "The big" "One day"; do generate -p "$p" -n 25 -t 0 -f jsonl; done >alone
same batch alone "texts of a batch"
printf 'Tom and\nThe big\r\n\nOne day\n' | generate -i - --lines -n 25 -t 0 -f jsonl >lines
same lines batch "prompts as lines"
generate -p "Tom and" -p "The big" -n 15 -s 4 -f jsonl >batch
{ generate -p "Tom and" -n 15 -s 4 -f jsonl; generate -p "The big" -n 15 -s 5 -f jsonl; } >alone
same batch alone "drawn texts of a batch"

# sampling
is "$(generate -p "Once" -n 20 -t 0)" "$(generate -p "Once" -n 20 -k 1 -s 9)" "top-k 1 is greedy"
is "$(generate -p "Once" -n 20 -t 0)" "$(generate -p "Once" -n 20 --min-p 1 -s 9)" "min-p 1 is greedy"
is "$(generate -p "Once" -n 20 -s 5)" "$(generate -p "Once" -n 20 -s 5 -@1)" "one seed, one text"
[ "$(generate -p "Once" -n 20 -s 5 -t 1)" != "$(generate -p "Once" -n 20 -s 6 -t 1)" ] && pass || fault "two seeds, one text"
if [ $published ]; then
    is "$(generate -p "Once upon a time" --only-new -n 60 -t 0 --stop girl --stop park)" ", there was a little " "stop string"
    is "$(generate -p "Once upon a time" --only-new -n 60 -t 0 --stop "girl namex" --stop "named Lil")" ", there was a little girl " \
        "stop strings that begin alike"
fi
whole=$(generate -p "Once upon a time" --only-new -n 60 -t 0)
stop=${whole:20:3}
is "$(generate -p "Once upon a time" --only-new -n 60 -t 0 --stop "$stop")" "${whole%%"$stop"*}" "the text ends before a stop string"
[ "$(generate -p "Once" -n 60 -t 0)" != "$(generate -p "Once" -n 60 -t 0 --repeat-penalty 1.5)" ] && pass || fault "a repetition penalty changes nothing"

# grammars and schemas
printf 'root ::= " " ("yes" | "no") "." # a comment\n' >g
is "$(generate -p "Is it a cat?" --only-new --grammar g -n 20 | tr -d '\n' | sed 's/^ yes\.$/fine/; s/^ no\.$/fine/')" fine "a grammar"
printf 'root ::= [0-9]{3} ("-" [a-f]+){2} "!"\n' >g
generate -p "" --grammar g -n 40 -s 3 | grep -Eq '^[0-9]{3}(-[a-f]+){0,2}!?$' && pass || fault "a grammar with repetitions"
printf '{"type":"object","properties":{"name":{"type":"string","maxLength":6},"age":{"type":"integer"},"kind":{"enum":["cat","dog"]}},"required":["name","kind"]}' >schema
for seed in 1 2 3; do
    generate -p "" --json-schema schema -n 120 -s $seed >json
    if have python3; then
        python3 -c 'import json,sys; d=json.load(open("json")); assert d["kind"] in ("cat","dog") and len(d["name"])<=6 and set(d)<={"name","age","kind"}' && pass || fault "schema: $(cat json)"
    fi
done
printf 'root ::= root "a" | "b"\n' >g; expect 1 "left recursion" generate -p x --grammar g; says "begins with itself" "left recursion"
printf 'root ::= "a" missing\n' >g; expect 1 "a missing rule" generate -p x --grammar g; says "'missing' is used and not there" "a missing rule"
printf 'root ::= (((("a"\n' >g; expect 1 "an open group" generate -p x --grammar g; says "line" "an open group"
printf '{"type":"string","pattern":"a+"}' >schema; expect 1 "a keyword that is not understood" generate -p x --json-schema schema; says "pattern" "its name"

# states: kept, loaded, from a store; each gives what one run gives
generate -p "Once upon a time there" -n 40 -t 0 --only-new >whole
generate -p "Once upon a time there" -n 20 -t 0 --only-new --state-save s >first
generate --state-load s -n 20 -t 0 --only-new >second
is "$(cat first second | tr -d '\n')" "$(tr -d '\n' <whole)" "a state that was kept"
generate -p "Once upon a time there was a big" -n 1 -t 0 -f jsonl --store store >/dev/null
generate -p "Once upon a time there was a big dog who was" -n 20 -t 0 -f jsonl --store store >reused
generate -p "Once upon a time there was a big dog who was" -n 20 -t 0 -f jsonl >fresh
is "$(sed 's/"reused":[0-9]*/"reused":0/' reused)" "$(cat fresh)" "a prefix from the store"
grep -q '"reused":[1-9]' reused && pass || fault "nothing was reused: $(cat reused)"
generate -p "Tom" -n 1 -t 0 --store store --store-limit 1 >/dev/null
is "$(ls store | wc -l)" 0 "a store has its limit"
head -c 100 s >cut; expect 1 "a state that is cut" generate --state-load cut; says "cut: not a state" "it is named"
{ head -c 200 s; printf x; tail -c +202 s; } >bad; expect 1 "a state with a wrong byte" generate --state-load bad; says "damaged" "a wrong byte"

# score and embed
text score -q -m "$m" told >out
if [ $published ]; then
    awk -F'\t' 'NR == 2 { exit !($2 == 464 && $4 == 200 && $5 > -0.5 && $5 < -0.4 && $7 > 0.25 && $7 < 0.32) }' out && pass ||
        fault "score: $(cat out)"
fi
text score -q -m "$m" --each told | awk -F'\t' 'NR > 1 && $3 != "" { s += $3; n++ } END { if (n) printf "%.4f\n", s / n; else print "none" }' >each
is "$(cat each)" "$(awk -F'\t' 'NR == 2 { printf "%.4f\n", $5 }' out)" "the tokens' mean is the mean"
for b in 1 7 64; do
    text score -q -m "$m" --batch $b told | awk -F'\t' 'NR == 2 { printf "%.4f\n", $5 }'
done | sort -u >batches
is "$(wc -l <batches)" 1 "pieces of any size score alike"
width=$("$STRAND" inspect -q -m "$m" | sed -n 's/^ *last_hidden .*, \([0-9]*\)\]$/\1/p')
text embed -q -m "$m" told | awk -F'\t' -v w="$width" 'NF == w + 1 { good++ } END { exit !(NR && good == NR) }' && pass || fault "embed: width is not $width"

# tokens
printf 'Lily had a caf\303\251.\n\nThe  end' >t
text tokenize -q -m "$m" t | text detokenize -q -m "$m" >back; same t back "text comes back"
if [ $published ]; then
    is "$(text tokenize -q -m "$m" -p "Once upon")" "403 407" "ids"
    is "$(text tokenize -q -m "$m" -p "Once upon" --bounds)" "1 403 407" "ids with their bounds"
    is "$(text tokenize -q -m "$m" -p " </s>" --special | tr ' ' '\n' | tail -1)" 2 "a special token where asked for"
fi
expect 1 "an id beyond" text detokenize -m "$m" -p "1 512"; says "'512" "the id"
text tokenize -q -m "$m" -p x --set tokenizer=bytes >out; is "$(cat out)" 120 "another tokenizer"

# a conversation: a turn runs only its own tokens, and from a pipe it is what it is from options
text chat -m "$m" -p "Once upon a time" -p "What then?" -n 30 -t 0 >out 2>err
is "$(grep -c 'of the prompt were run' err)" 2 "two turns"
awk '/were run/ { if (++n == 1) first = $4; else exit !($4 - $2 >= first - 1) }' err && pass || fault "the second turn ran the first again: $(cat err)"
printf 'Once upon a time\n\nWhat then?\n' | text chat -q -m "$m" -n 30 -t 0 >x; same x out "a conversation on the standard input"
printf '{{ raise_exception("not you") }}' >t.jinja
expect 1 "a template that refuses" text chat -m "$m" -p x --chat-template t.jinja; says "not you" "its words"
printf '{%% for x in %%}' >t.jinja; expect 1 "a template that is damaged" text chat -m "$m" -p x --chat-template t.jinja; says "line 1" "where"

# quantised copies of a golden case: opened, run, near the logits of the case
case=$STRAND_SHARED/golden/text/mamba2/orig-d64-n2-l101-g2
[ -d "$case" ] || case=$(ls -d "$STRAND_SOURCE"/tests/golden/text/mamba2/* 2>/dev/null | head -n 1)
if [ -d "$case" ]; then
    for t in f32 f16 q8_0 q6_k q4_k q4_0; do
        expect 0 "quantize $t" "$STRAND" quantize -q "$case" -t $t -o q-$t.gguf
        expect 0 "run $t" "$STRAND" run -q -m q-$t.gguf -i "$case/input.safetensors" -o out.safetensors --outputs logits
    done
    "$STRAND" run -q -m q-f32.gguf -i "$case/input.safetensors" -o f32.st --no-version
    "$STRAND" run -q -m "$case" -i "$case/input.safetensors" -o source.st --no-version
    same f32.st source.st "an F32 copy gives the same bytes"
    "$STRAND" quantize -q q-f32.gguf -t q8_0 -o q2.gguf; same q2.gguf q-q8_0.gguf "from a GGUF file, the same bytes"
    [ "$(stat -c %s q-q8_0.gguf)" -lt "$(stat -c %s q-f16.gguf)" ] && pass || fault "q8_0 is not smaller than f16"
    "$STRAND" inspect -q q-q4_0.gguf | grep -q gguf && pass || fault "inspect of a GGUF file"
    head -c 3000 q-q8_0.gguf >cut.gguf; expect 1 "a GGUF file that is cut" "$STRAND" inspect cut.gguf --model cut.gguf
    expect 1 "a full disk" "$STRAND" quantize -q "$case" -o /dev/full
else
    note "no golden/text in STRAND_SHARED: quantize is not tested"
fi
expect 2 "quantize without -o" "$STRAND" quantize hyenadna-tiny-strand

# the built-in model: at once, the same text again, and what it says of English
if "$STRAND" inspect -q -m mamba-bytes-strand >/dev/null 2>&1; then
    is "$(text generate -q -p "ROMEO:" -n 40 -s 1)" "$(text generate -q -p "ROMEO:" -n 40 -s 1 -@1)" "the built-in model"
    printf 'To be, or not to be: that is the question.\nSpeak, I am bound to hear.\n' >play
    for b in 1 5 64; do text score -q --batch $b play | awk -F'\t' 'NR == 2 { print $7 < 4.5, int($7 * 1000) }'; done | sort -u >bits
    is "$(wc -l <bits)" 1 "pieces of any size score alike: $(cat bits)"
    is "$(cut -c1 bits)" 1 "bits a byte of a play: $(cat bits)"
    expect 0 "quantize the built-in model" "$STRAND" quantize -q mamba-bytes-strand -t q8_0 -o b.gguf
    a=$(text score -q play | awk -F'\t' 'NR == 2 { print $7 }'); b=$(text score -q -m b.gguf play | awk -F'\t' 'NR == 2 { print $7 }')
    awk -v a="$a" -v b="$b" 'BEGIN { exit !(a - b < 0.05 && b - a < 0.05) }' && pass || fault "q8_0: $a and $b bits a byte"
fi

# HyenaDNA is quantised too: its mixers' projections, which are first factors, are F32 again where they run
"$STRAND" quantize -q hyenadna-tiny-strand -t q8_0 -o dna.gguf && printf '>a\nACGTTGCAACGGTTAACCATGCATTTGACC\n' >dna.fa
a=$("$STRAND" dna score -q --no-version dna.fa | awk -F'\t' 'NR == 2 { print $5 }'); b=$("$STRAND" dna score -q --no-version -m dna.gguf dna.fa | awk -F'\t' 'NR == 2 { print $5 }')
awk -v a="$a" -v b="$b" 'BEGIN { exit !(a > 0 && b > 0 && a - b < 0.02 && b - a < 0.02) }' && pass || fault "a quantised HyenaDNA: $a and $b"

# bad input
expect 1 "no such file" text score -m "$m" nothing; says "nothing: cannot be opened" "it is named"
expect 2 "a negative temperature" generate -p x -t -1
expect 2 "top-p 0" generate -p x --top-p 0; says "top-p" "top-p 0"
expect 2 "min-p 2" generate -p x --min-p 2
expect 1 "not a language model" text generate -m spacetime-etth1-strand -p ACGT
expect 2 "no such command" text talk; says "'text talk' is no command" "it is named"
expect 1 "a full disk" generate -p x -n 5 -o /dev/full
generate -p "Once" -n 1000000 -t 0 -f jsonl >out; grep -q '"finish":"length"' out && pass || fault "beyond the context: $(tail -c 200 out)"
finish
