# score.sh - windows, strands, formats that agree, shards, threads, batches.
. "$(dirname "$0")/lib.sh"
need_model
score() { "$STRAND" dna score -q -m "$model" --no-version "$@"; }
{ for i in 1 2 3 4 5 6 7; do fasta "r$i" "$i" $((40 + 130 * i)); done; } >a.fa
fasta long 99 2500 >long.fa

# the three formats agree
score a.fa >sum && score -f tsv a.fa >tsv && score -f bedgraph a.fa >bed
awk -F'\t' 'NR > 1 && $4 != "." { n[$1]++; s[$1] += $4 } END { for (r in n) printf "%s\t%d\t%.4f\n", r, n[r], s[r] / n[r] }' tsv | sort >x
awk -F'\t' 'NR > 1 { printf "%s\t%d\t%.4f\n", $1, $3, $4 }' sum | sort >y
awk -F'\t' 'NR == FNR { v[$1] = $3; n[$1] = $2; next } n[$1] != $2 || v[$1] - $3 > 2e-4 || $3 - v[$1] > 2e-4 { exit 1 }' x y && pass || fault "tsv and summary disagree"
awk -F'\t' 'NR > 1 && $4 != "." { print $1 "\t" $2 - 1 "\t" $2 "\t" $4 }' tsv >x
same x bed "tsv and bedgraph"
awk -F'\t' 'NR > 1 { d = $5 * log(2) + $4; if (d > 1e-5 || d < -1e-5) exit 1 }' sum && pass || fault "bits per base"
awk -F'\t' 'NR > 1 && $4 != "." && ($4 > 0 || $4 < -50) { exit 1 }' tsv && pass || fault "log-likelihoods out of range"

# windows: every base but the first once; with --overlap 0 the first of each window is not scored
score -f tsv -w 200 long.fa >w; is "$(awk 'NR > 1 && $4 == "."' w | wc -l)" 1 "overlap by default"
is "$(wc -l <w)" 2501 "each base once"
score -f tsv -w 200 --overlap 0 long.fa >w0
is "$(awk -F'\t' 'NR > 1 && $4 == "." { printf "%s ", $2 }' w0)" "1 201 401 601 801 1001 1201 1401 1601 1801 2001 2201 2401 " "no overlap"
score -f tsv -w 200 --overlap 199 long.fa >w199; is "$(awk 'NR > 1 && $4 == "."' w199 | wc -l)" 1 "overlap of all but one"
# the first window is what the record's first 200 bases give alone, to the byte
score -f tsv -r long:1-200 long.fa >first
head -201 w >x; same first x "the first window alone"
# and a longer left context than half a window is what each base gets
score -f tsv -w 200 --overlap 100 long.fa >x; same w x "the default overlap is half a window"
# nothing after a base changes it: a prefix of a record scores as in the record when windows are the same
head -c 1206 long.fa >prefix.fa
score -f tsv -w 200 prefix.fa >p
n=$(grep -c . p)
awk -F'\t' 'NR == FNR { v[FNR] = $4; next } FNR > 1 && FNR <= n && v[FNR] != "." { d = v[FNR] - $4; if (d > 1e-4 || d < -1e-4) exit 1 }' n="$n" w p && pass || fault "later bases change earlier scores"

# strands: the mean of a record and of its reverse complement
awk '/^>/ { print; next } { s = s $0 } END { n = length(s); c["A"] = "T"; c["C"] = "G"; c["G"] = "C"; c["T"] = "A"
      for (i = n; i > 0; i--) printf "%s", c[substr(s, i, 1)]; print "" }' long.fa >rev.fa
score -f tsv -w 200 rev.fa >r && score -f tsv -w 200 --rc mean long.fa >m
awk -F'\t' 'FILENAME == "w" { f[$2] = $4; next } FILENAME == "r" { b[2501 - $2] = $4; next } FNR > 1 {
        want = f[$2] == "." ? b[$2] : b[$2] == "." ? f[$2] : (f[$2] + b[$2]) / 2; d = want - $4; if (d > 2e-6 || d < -2e-6) exit 1 }' w r m &&
    pass || fault "--rc mean is not the mean of both strands"
is "$(score --rc mean long.fa | awk 'NR > 1 { print $3 }')" 2500 "--rc mean scores every base"
score --rc mean rev.fa | cut -f2- >x; score --rc mean long.fa | cut -f2- >y; same x y "--rc mean does not know the strand"

# the same bytes whatever the threads, the batch, the neighbours, the memory, the shard
for o in "-@1" "-@ 2" "--threads=3" "--batch 1" "--batch 7" "--batch=3"; do
    # shellcheck disable=SC2086
    score -f tsv $o a.fa >x; same x tsv "score $o"
done
score -f tsv -w 200 -@1 long.fa >x; same x w "windows with one thread"
score -f tsv -w 200 --batch 1 long.fa >x; same x w "windows one by one"
for i in 1 2 3 4 5 6 7; do fasta "r$i" "$i" $((40 + 130 * i)) >one.fa; score one.fa | tail -1; done >x
tail -n +2 sum >y; same x y "records alone and among others"
score --memory 1G a.fa >x; same x sum "a memory limit that does not bind"
for n in 1 2 3 7 9; do
    for f in summary tsv bedgraph; do
        : >x
        for i in $(seq "$n"); do score -f $f --shard "$i/$n" a.fa >>x || fault "shard $i/$n"; done
        case $f in summary) same x sum "cat of $n shards, $f" ;; tsv) same x tsv "cat of $n shards, $f" ;; *) same x bed "cat of $n shards, $f" ;; esac
    done
done
score --shard 2-of-3 a.fa >x; score --shard 2/3 a.fa >y; same x y "2-of-3 is 2/3"
printf 'r1\t1\t50\nr2\t1\t60\nr3\t1\t70\n' >regions.tsv
score -R regions.tsv a.fa >y; for i in 1 2; do score --shard $i/2 -R regions.tsv a.fa; done >x; same x y "shards of regions"
expect 1 "a shard of stdin" score --shard 1/2 - <a.fa

# headers
"$STRAND" dna score -q -m "$model" a.fa >h1
grep -q '^# strand 0.1.0$' h1 && grep -q '^# model .* sha256 [0-9a-f]\{64\} precision ' h1 && grep -q '^# backend cpu' h1 && grep -q '^# command strand dna score -q' h1 && pass ||
    fault "header: $(head -6 h1)"
grep -v '^#' h1 >x; same x sum "only the header differs from --no-version"
"$STRAND" dna score -q -m "$model" --shard 2/2 a.fa | grep -q '^#' && fault "a later shard has a header" || pass
score -o file.tsv a.fa >out && is "$(wc -c <out)" 0 "nothing on stdout with -o" && same file.tsv sum "-o"
score --set shift=0.25 a.fa >x || fault "--set"
cmp -s x sum && fault "--set shift=0.25 changes nothing" || pass

# A model of bytes that keeps a state from run to run: each window is a sequence of its own, whatever was scored before.
evo=$STRAND_SHARED/golden/dna/evo1-small
if [ -d "$evo" ]; then
    printf '>one\nACGTTGCAAGGTACCA\n>two\nGATTACAGATTACA\n>one_again\nACGTTGCAAGGTACCA\n' >evo.fa
    "$STRAND" dna score -q --no-version -m "$evo" evo.fa >evo.tsv || fault "Evo"
    is "$(awk 'NR > 1 { print $3 }' evo.tsv | tr '\n' ' ')" "15 13 15 " "Evo: bases scored"
    is "$(awk '$1 == "one_again" { print $4 }' evo.tsv)" "$(awk '$1 == "one" { print $4 }' evo.tsv)" "Evo: the same record twice"
else
    note "../shared is not here: Evo is skipped"
fi
finish
