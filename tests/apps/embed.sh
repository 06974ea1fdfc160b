# embed.sh - embeddings: three formats of one truth, pooling, shards, merge; classification.
. "$(dirname "$0")/lib.sh"
need_model
embed() { "$STRAND" dna embed -q -m "$model" --no-version "$@"; }
compare=${STRAND_COMPARE:?the program that compares}
{ for i in 1 2 3 4 5 6 7; do fasta "r$i" "$i" $((10 + 60 * i)); done; printf '>empty\n'; fasta last 9 33; } >a.fa

# formats
for pool in mean last none; do
    expect 0 "npy, $pool" embed --pool $pool -o $pool.npy a.fa
    expect 0 "safetensors, $pool" embed --pool $pool -o $pool.safetensors a.fa
    expect 0 "tsv, $pool" embed --pool $pool -o $pool.tsv a.fa
    true_that "npy and safetensors, $pool" "$compare" npy $pool.npy $pool.safetensors embedding
    true_that "tsv and safetensors, $pool" "$compare" rows $pool.tsv 2 $pool.safetensors embedding
    is "$(head -1 $pool.npy.tsv)" "$(printf 'name\tlength\trows')" "table beside NPY"
done
channels=$("$compare" shape mean.safetensors embedding | tr -d '[]' | cut -d, -f2)
is "$("$compare" shape mean.safetensors embedding)" "[9,$channels]" "a row a record"
is "$("$compare" shape none.safetensors embedding)" "[1783,$channels]" "a row a base"
is "$(head -c 10 mean.npy | od -An -tx1 | tr -d ' \n')" "934e554d505901007600" "NPY magic, version and header length"
is "$(awk 'NR > 1 { print $3 }' none.npy.tsv | tr '\n' ' ')" "70 130 190 250 310 370 430 0 33 " "rows of each record"
is "$(awk -F'\t' '$1 == "empty" { print $3 }' mean.tsv)" nan "no vector without bases"
# the mean is the mean, the last is the last
awk -F'\t' 'NR > 1 && $1 == "r1" { n++; s += $3; last = $3 } END { printf "%.5f %.5f\n", s / n, last }' none.tsv >x
echo "$(awk -F'\t' '$1 == "r1" { printf "%.5f", $3 }' mean.tsv) $(awk -F'\t' '$1 == "r1" { printf "%.5f", $3 }' last.tsv)" >y
awk 'NR == FNR { a = $1; b = $2; next } { d = a - $1; e = b - $2; exit !(d * d < 4e-10 && e * e < 4e-10) }' x y && pass || fault "pools: $(cat x y)"
# windows: the same first window, each position once
embed -f tsv -p none -w 100 a.fa >x; is "$(wc -l <x)" 1784 "windows: each position once"
printf '>r7\n%s\n' "$(random_bases 7 430 | cut -c1-100)" >first.fa
embed -f tsv -p none first.fa | tail -n +2 >y
awk '$1 == "r7"' x | head -100 >z; same z y "the first window alone"
fasta big 5 40000 >big.fa
embed -p none -w 512 -o big.npy big.fa; is "$(stat -c %s big.npy)" $((128 + 40000 * channels * 4)) "one vector a base, many pieces"

# equal bytes whatever threads, batch; header only without --no-version
embed -@1 --batch 1 -o x.npy a.fa; same x.npy mean.npy "-@1 --batch 1"
"$STRAND" dna embed -q -m "$model" -o h.safetensors a.fa; grep -q model_sha256 h.safetensors && pass || fault "safetensors: no provenance"
grep -q model_sha256 mean.safetensors && fault "--no-version leaves provenance" || pass

# shards
for pool in mean none; do
    for n in 2 4; do
        shards_npy= shards_st=
        : >cat.tsv
        for i in $(seq $n); do
            embed -p $pool --shard "$i/$n" -o "s$i.npy" a.fa && embed -p $pool --shard "$i/$n" -o "s$i.safetensors" a.fa || fault "shard"
            embed -p $pool --shard "$i/$n" a.fa >>cat.tsv
            shards_npy="$shards_npy s$i.npy" shards_st="$shards_st s$i.safetensors"
        done
        same cat.tsv $pool.tsv "cat of $n shards"
        # shellcheck disable=SC2086
        expect 0 "merge NPY" "$STRAND" merge -o m.npy $shards_npy
        same m.npy $pool.npy "merged NPY, $n shards, $pool"
        same m.npy.tsv $pool.npy.tsv "merged table, $n shards, $pool"
        # shellcheck disable=SC2086
        expect 0 "merge safetensors" "$STRAND" merge --no-version -o m.safetensors $shards_st
        same m.safetensors $pool.safetensors "merged safetensors, $n shards, $pool"
    done
done
expect 1 "merge of two kinds" "$STRAND" merge -o f mean.npy mean.safetensors
expect 1 "merge of text" "$STRAND" merge -o f mean.tsv mean.tsv
says "cat" "merge of text"
head -c 300 mean.npy >cut.npy
expect 1 "merge of a short NPY" "$STRAND" merge -o f cut.npy mean.npy
expect 1 "merge of a missing file" "$STRAND" merge -o f mean.npy no.npy
[ -e f ] && fault "a failed merge left a file" || pass

# classification
expect 1 "classify without a head" "$STRAND" dna classify -m "$model" a.fa
says "class_logits" "classify without a head"
head=$STRAND_SHARED/golden/dna/hyenadna-d32-n2-l333-classifier
if [ -d "$head" ]; then
    { fasta short 3 333; fasta toolong 4 1100; printf '>none\n'; fasta other 5 100; } >c.fa
    "$STRAND" dna classify -q -m "$head" --no-version c.fa >out 2>err
    is $? 3 "classify: some records fail"
    says "toolong" "classify names the record"
    says "1024" "classify names the limit"
    is "$(awk 'NR > 1 { print $1, $2, ($3 == "." ? "." : "c") }' out | tr '\n' ';')" "short 333 c;toolong 1100 .;none 0 .;other 100 c;" "classify rows"
    awk -F'\t' 'NR > 1 && $3 != "." { s = 0; for (i = 4; i <= NF; i++) { s += $i; if ($i > $($3 + 4)) exit 1 } if (s < 0.99999 || s > 1.00001) exit 1 }' out && pass ||
        fault "classify: probabilities"
    for i in 1 2; do "$STRAND" dna classify -q -m "$head" --no-version --shard $i/2 c.fa 2>/dev/null; done >x
    same x out "classify: shards"
else
    note "no ../shared: a classifier is not tried"
fi
finish
