# regions.sh - -r as samtools reads it, -R as BED or table, indexes.
. "$(dirname "$0")/lib.sh"
need_model
bases() { "$STRAND" dna score -q -m "$model" --no-version -f tsv "$@" | awk 'NR > 1 { printf "%s", $3 } END { print "" }'; }
score() { "$STRAND" dna score -q -m "$model" --no-version "$@"; }
{ fasta chr1 21 500; fasta 'HLA:01:02' 22 130; fasta 2 23 90; } >g.fa

if have samtools; then
    cp g.fa s.fa
    for r in chr1 chr1:1-100 chr1:11 chr1:1,0-2,0 chr1:490-600 '{HLA:01:02}:3-9' '{HLA:01:02}' 'HLA:01:02' 2:90 2:-5; do
        want=$(samtools faidx s.fa "$r" 2>/dev/null | grep -v '^>' | tr -d '\n')
        is "$(bases -r "$r" g.fa 2>/dev/null)" "$want" "-r $r"
    done
else
    note "no samtools: comparison skipped"
fi
seq=$(random_bases 21 500)
is "$(bases -r chr1:11-20 g.fa)" "${seq:10:10}" "-r is 1-based, both ends included"
is "$(bases -r chr1:491 g.fa)" "${seq:490}" "chr1:5 is from there to the end"
score -r chr1:11-30 -r 2:1-40 g.fa >out
is "$(awk 'NR > 1 { print $1, $2 }' out | tr '\n' ';')" "chr1:11-30 20;2:1-40 40;" "two regions"
score -f tsv -r chr1:11-30 g.fa >out
is "$(awk 'NR == 2 || NR == 21 { print $1, $2 }' out | tr '\n' ';')" "chr1 11;chr1 30;" "positions are those of the contig"
score -f bedgraph -r chr1:11-30 g.fa >out
is "$(head -1 out | cut -f1-3 | tr '\t' ' ')" "chr1 11 12" "bedgraph positions of a region"

printf '#comment\ntrack name=x\nchr1\t10\t20\tname\n2\t0\t5\n' >r.bed
is "$(score -R r.bed g.fa | awk 'NR > 1 { print $1, $2 }' | tr '\n' ';')" "chr1:11-20 10;2:1-5 5;" "BED is 0-based, half-open"
is "$(bases -R r.bed -r chr1:1-3 g.fa)" "${seq:0:3}${seq:10:10}$(random_bases 23 90 | cut -c1-5)" "-r comes before -R"
printf 'chr1\t11\t20\n2\t5\r\n' >r.tsv
is "$(score -R r.tsv g.fa | awk 'NR > 1 { print $1, $2 }' | tr '\n' ';')" "chr1:11-20 10;2:5-5 1;" "a table is 1-based, both ends included"
gzip -c r.bed >z.bed.gz
is "$(score -R z.bed.gz g.fa | wc -l)" 3 "a BED file with gzip"

for bad in "chr1:20-10" "chr1:x-9"; do expect 1 "-r $bad" score -r "$bad" g.fa; done
expect 1 "past the end" score -r chr1:501-510 g.fa
says "has 500" "past the end"
expect 1 "unknown contig" score -r chr9 g.fa
says "chr9" "unknown contig"
expect 1 "chr prefix" score -r chr2:1-9 g.fa
says "there is '2'" "chr prefix"
"$STRAND" dna score -m "$model" --no-version -r chr1:490-600 g.fa >out 2>err && says "cut there" "a region over the end is remarked"
printf 'chr1\t30\t20\n' >bad.bed
expect 1 "BED line backwards" score -R bad.bed g.fa
says "bad.bed:1" "BED line backwards: place"
printf 'chr1\t1\t20\nchr7\t1\t5\n' >bad2.bed
expect 1 "BED with an unknown contig" score -R bad2.bed g.fa
says "bad2.bed:2" "BED with an unknown contig: place"
expect 1 "missing BED" score -R no.bed g.fa
expect 1 "regions of stdin" score -r chr1 - <g.fa

# indexes
rm -f g.fa.fai
score -r chr1:1-9 g.fa >one && [ -f g.fa.fai ] && pass || fault "no index was made"
score -r chr1:1-9 g.fa >two; same one two "with the index"
gzip -c g.fa >g1.fa.gz
expect 1 "gzip has no index" score -r chr1 g1.fa.gz
says "bgzip" "gzip has no index"
if have bgzip; then
    bgzip -c g.fa >g2.fa.gz
    score -r chr1:1-9 g2.fa.gz >two; same one two "bgzip"
    [ -f g2.fa.gz.fai ] && [ -f g2.fa.gz.gzi ] && pass || fault "no index of a bgzip file"
    score -r chr1:1-9 g2.fa.gz >two; same one two "bgzip with its index"
fi
mkdir ro && cp g.fa ro && chmod 555 ro
if ! touch ro/x 2>/dev/null; then
    score -r chr1:1-9 ro/g.fa >two; same one two "an index where none can be written"
else
    rm -f ro/x
    note "this user writes everywhere: read-only folder not tried"
fi
chmod 755 ro
printf '>a\nACGT\nACGTACGT\nAC\n' >ragged.fa
expect 1 "lines of several widths" score -r a ragged.fa
ls -A | grep -q 'fai-' && fault "index leftovers: $(ls -A)" || pass
finish
