# bench.sh - strand bench: rows, forms, profile, and what it refuses. Times themselves are not judged.
. "$(dirname "$0")/lib.sh"

expect 2 "a length that is none" "$STRAND" bench --length 10,x
says "--length: 'x' is no list" "a length that is none"
expect 2 "a length of 0" "$STRAND" bench --length 0
expect 2 "threads below 0" "$STRAND" bench --threads -1
expect 2 "no repeats" "$STRAND" bench --repeat 0
expect 2 "too many repeats" "$STRAND" bench --repeat 2000
expect 2 "another form" "$STRAND" bench -f xml
need_model

# -- rows: models x backends x threads x lengths
expect 0 "a table" "$STRAND" bench -q "$model" -l 64,100 -n 2 -@ 1,2
is "$(wc -l <out)" 5 "rows of a table"
head -1 out | grep -q 'time, ms.*per second.*arena, MiB.*peak RSS, MiB' && pass || fault "a table: title: $(head -1 out)"
expect 0 csv "$STRAND" bench -q "$model" "$model" -l 64 -n 3 -b 2 -@ 1 --backend cpu --backend cpu -f csv -o rows.csv
is "$(wc -l <rows.csv)" 5 "rows of csv"
is "$(head -1 rows.csv)" "model,backend,threads,batch,length,seconds,least_seconds,most_seconds,per_second,unit,arena_bytes,peak_rss_bytes,startup_seconds,first_seconds" "keys"
awk -F, 'NR > 1 && !(NF == 14 && $2 == "cpu" && $3 == 1 && $4 == 2 && $5 == 64 && $6 > 0 && $7 <= $6 && $6 <= $8 && $10 == "bases" && $11 > 0 && $12 > $11 / 2 && $13 > 0 && $14 > 0) { print; bad = 1 } END { exit bad }' rows.csv \
    && pass || fault "values: $(cat rows.csv)"
awk -F, 'NR > 1 { r = $9 * $6 / 128; if (r < 0.999 || r > 1.001) exit 1 }' rows.csv && pass || fault "bases a second: $(cat rows.csv)"
expect 0 md "$STRAND" bench -q "$model" -l 64 -n 1 -f md
awk -F'|' 'NF != 16 { exit 1 }' out && pass || fault "md: $(cat out)"
sed -n 2p out | grep -q '^|---|---|--:' && pass || fault "md: $(sed -n 2p out)"
expect 0 json "$STRAND" bench -q "$model" -l 64,65 -n 1 -f json
is "$(grep -c '"model": ' out)" 2 "json objects"
if have jq; then true_that "json is json" jq -e 'length == 2 and .[1].length == 65' out; fi
expect 0 "default lengths" "$STRAND" bench -q "$model" -n 1 -f csv
awk -F, 'NR == 2 { exit $5 != 256 }' out && pass || fault "default lengths: $(cat out)"

# -- a window that is too short leaves the length out; nothing left is a failure
expect 1 "all too long" "$STRAND" bench -q "$model" -l 100000000
says "nothing was measured" "all too long"
"$STRAND" bench "$model" -l 64,100000000 -n 1 -f csv >out 2>err
is "$?:$(wc -l <out)" 0:2 "one too long"
says "left out" "one too long"
expect 1 "too little memory" "$STRAND" bench -q "$model" -l 200 --memory 10K
expect 1 "no such model" "$STRAND" bench no/such/model
expect 1 "no such backend" "$STRAND" bench -q "$model" -l 64 --backend nosuch

# -- where the time goes: every operator of the plan, and shares of 100 %
"$STRAND" plan "$model" --length 128 --tsv >plan.tsv
expect 0 profile "$STRAND" bench -q "$model" -l 128 -n 2 --profile -f csv
awk -v RS= 'NR == 2' out >nodes.csv
is "$(head -1 nodes.csv)" "name,op,backend,calls,seconds,share,work_flop,flop_per_second" "keys of a profile"
awk -F, 'NR > 1 { s += $6 } END { exit !(s > 0.97 && s < 1.03) }' nodes.csv && pass || fault "shares do not add up: $(cat nodes.csv)"
lost=$(awk -F'\t' 'NR > 1 && $10 != 1 && $5 < 0 { print $1 }' plan.tsv | while read -r name; do grep -q "^$name," nodes.csv || echo "$name"; done)
is "$lost" "" "operators that the profile lacks"
grep -q '^(input),\|^input,(input)' nodes.csv && pass || fault "profile: no input"
expect 0 "profile in md" "$STRAND" bench -q "$model" -l 128 -n 1 --profile -f md
grep -q '^### Kinds of operators' out && grep -q '^### Operators of' out && pass || fault "profile in md"
expect 0 "profile in json" "$STRAND" bench -q "$model" -l 128,64 -n 1 --profile -f json
if have jq; then true_that "json is json" jq -e '(.profiles | length) == 2 and (.rows | length) == 2 and .profiles[1].row == 1' out; fi
if [ -w /dev/full ]; then
    "$STRAND" bench -q "$model" -l 64 -n 1 >/dev/full 2>err
    is $? 1 "bench > /dev/full"
fi
# language models: the columns of llama-bench
published=$STRAND_SHARED/data/text/stories260K/stories260K.bin
lm=$published
[ -f "$lm" ] || { lm=mamba-bytes-strand; note "no stories260K in STRAND_SHARED: --pp beyond a model's context is not tested"; }
"$STRAND" bench -q "$lm" --pp 32,64 --tg 8 --depth 0,16 -n 2 -f csv >out
is "$(head -1 out)" "model,size_bytes,params,backend,threads,test,depth,tokens_per_second,deviation,peak_rss_bytes" "the columns"
is "$(cut -d, -f6 out | tail -n +2 | tr '\n' ' ')" "pp32 pp64 tg8 pp32 @ d16 pp64 @ d16 tg8 @ d16 " "the tests"
awk -F, 'NR > 1 && !($8 > 0) { exit 1 }' out && pass || fault "rates: $(cat out)"
expect 2 "no numbers" "$STRAND" bench "$lm" --pp 5x
if [ -f "$published" ]; then
    expect 1 "longer than the context" "$STRAND" bench -q "$lm" --pp 5000; says "nothing was measured" "longer than the context"
fi
finish
