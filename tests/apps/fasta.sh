# fasta.sh - what comes in: formats, compressions, line ends, letters, broken files.
. "$(dirname "$0")/lib.sh"
need_model
score() { "$STRAND" dna score -q -m "$model" --no-version "$@"; }

{ fasta one 7 130; fasta two 8 61; fasta three 9 60; } >a.fa
expect 0 "plain FASTA" score a.fa
cp out plain
is "$(awk 'NR > 1 { print $1, $2, $3 }' plain | tr '\n' ';')" "one 130 129;two 61 60;three 60 59;" "summary rows"
is "$(head -1 plain)" "$(printf 'name\tlength\tscored\tmean_loglik\tbits_per_base')" "column header"

score - <a.fa >out; same out plain "standard input as -"
score <a.fa >out; same out plain "standard input without a name"
cat a.fa | score >out; same out plain "a pipe"
gzip -c a.fa >a.fa.gz && score a.fa.gz >out; same out plain "gzip"
score <a.fa.gz >out; same out plain "gzip on stdin"
if have bgzip; then
    bgzip -c a.fa >b.fa.gz && score b.fa.gz >out; same out plain "bgzip"
    head -c $(($(stat -c %s b.fa.gz) - 28)) b.fa.gz >cut.fa.gz
    expect 1 "bgzip without its end" score cut.fa.gz
    says "end of the file is missing" "bgzip without its end"
else
    note "no bgzip: skipped"
fi
sed 's/$/\r/' a.fa >crlf.fa && score crlf.fa >out; same out plain "CRLF"
{ cat a.fa | head -c -1; } >nonl.fa && score nonl.fa >out; same out plain "no newline at the end"
sed 's/$/\r/' a.fa | head -c -1 >crnonl.fa && score crnonl.fa >out; same out plain "CRLF without the last newline"
awk '/^>/ { print; next } { print; print "" }' a.fa >blank.fa && score blank.fa >out; same out plain "blank lines"
awk '/^>/ { print; next } { print; print "\r" }' a.fa >blankcr.fa && score blankcr.fa >out; same out plain "blank CRLF lines"
{ echo; cat a.fa; } >first.fa && score first.fa >out; same out plain "a blank first line"
awk '/^>/ { print $0 " some words\tmore"; next } { print }' a.fa >words.fa && score words.fa >out; same out plain "names are the first word"
awk '/^>/ { if (s) print s; s = ""; print; next } { s = s $0 } END { print s }' a.fa >long.fa && score long.fa >out; same out plain "one line a record"
tr ACGT acgt <a.fa | sed 's/^>.*/\L&/' >lower.fa && score lower.fa >out; same out plain "lower case reads as upper"
sed '/^>/! s/T/U/g' a.fa >rna.fa && score rna.fa >out; same out plain "U reads as T"
sed '/^>/! s/T/u/g' a.fa >rnalow.fa && score rnalow.fa >out; same out plain "u reads as T"

# FASTQ
awk '/^>/ { if (s) out(); n = substr($1, 2); s = ""; next } { s = s $0 } END { out() }
     function out(q) { q = s; gsub(/./, "I", q); print "@" n "\n" s "\n+\n" q }' a.fa >a.fq
score a.fq >out; same out plain "FASTQ"
head -n 7 a.fq >cut.fq
expect 1 "FASTQ without its last quality line" score cut.fq
says "quality" "FASTQ without quality"
says "two" "the record is named"

# soft masks and letters that are no bases
printf '>m\nACGTACGTNNACgtacRYKM\n' >mask.fa
score -f tsv mask.fa >out
is "$(awk 'NR > 1 { printf "%s", ($4 == "." ? "." : "x") }' out)" ".xxxxxxx..xxxxxx...." "upper: N and IUPAC are not scored"
score -f tsv --soft-mask n mask.fa >out
is "$(awk 'NR > 1 { printf "%s", ($4 == "." ? "." : "x") }' out)" ".xxxxxxx..xx........" "n: lower case is not scored"
is "$(awk 'NR > 1 { printf "%s", $3 }' out)" "ACGTACGTNNACgtacRYKM" "letters are shown as they came"
score -f tsv --soft-mask keep --softmax 16 mask.fa >out
is "$(awk 'NR > 1 { printf "%s", ($4 == "." ? "." : "x") }' out)" ".xxxxxxxxxxxxxxxxxxx" "16: everything but the first is scored"
{ echo ">n"; awk 'BEGIN { for (i = 0; i < 30; i++) print "NNNNNNNNNNNNNNNNNNNN" }'; } >n.fa
expect 0 "a record of N" score n.fa
is "$(tail -1 out)" "$(printf 'n\t600\t0\t.\t.')" "a record of N"

# records without bases, files without records
printf '>e\n>f\nACGT\n>g\n' >empty.fa
expect 0 "empty records" score empty.fa
is "$(awk 'NR > 1 { print $1, $2, $3 }' out | tr '\n' ';')" "e 0 0;f 4 3;g 0 0;" "empty records"
printf '>s\nA\n' | score -f bedgraph >out; is "$(wc -c <out)" 0 "a record of one base has no score"
: >nothing.fa
expect 0 "an empty file" score nothing.fa
is "$(wc -l <out)" 1 "an empty file gives the header"
gzip -c nothing.fa >nothing.fa.gz
expect 0 "an empty gzip file" score nothing.fa.gz
"$STRAND" dna score -m "$model" --no-version nothing.fa >out 2>err && says "no records" "an empty file is remarked"

# bytes that cannot be sequence: that record fails, the others do not
printf '>ok\nACGTACGT\n>bad\nACG1ACGT\n>ok2\nACGTACGT\n' >digit.fa
score digit.fa >out 2>err
is $? 3 "a record with a digit: exit code"
says "base 4" "a record with a digit: place"
is "$(awk 'NR > 1 { print $1, $3 }' out | tr '\n' ';')" "ok 7;bad 0;ok2 7;" "a record with a digit: rows"

# not sequences at all
expect 1 "a folder" score .
says "directory" "a folder"
echo "hello, world" >text.txt
expect 1 "plain text" score text.txt
says "FASTA" "plain text"
printf '##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n' >v.vcf
expect 1 "VCF as sequence" score v.vcf
says "variants" "VCF as sequence"
head -c 1000 /dev/urandom | tr '\000' x >noise.bin
expect 1 "noise" score noise.bin
if have samtools; then
    printf '@HD\tVN:1.6\n@SQ\tSN:c\tLN:100\nr\t0\tc\t1\t9\t4M\t*\t0\t0\tACGT\tIIII\n' >x.sam
    samtools view -b -o x.bam x.sam 2>/dev/null
    expect 1 "BAM" score x.bam
    says "samtools fasta" "BAM"
    expect 1 "SAM" score x.sam
else
    note "no samtools: skipped"
fi
head -c 60 a.fa.gz >cut.gz
expect 1 "gzip cut off" score cut.gz
expect 1 "a URL is no file" score http://localhost/a.fa
finish
