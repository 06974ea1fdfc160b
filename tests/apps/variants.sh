# variants.sh - VCF and BCF in and out, deltas against hand-made windows, every reason, shards, statistics.
. "$(dirname "$0")/lib.sh"
need_model
s1=$(random_bases 31 3000)
s2=$(random_bases 32 150)
s3=$(random_bases 33 400)
{ echo ">1"; echo "$s1" | fold -w 60; echo ">chr2"; echo "$s2" | fold -w 60; echo ">3"; echo "${s3:0:200}NNNNN${s3:200}" | fold -w 60; } >ref.fa
base() { local s=$1; echo "${s:$(($2 - 1)):${3:-1}}"; } # SEQUENCE POS [LENGTH], 1-based
other() { case $1 in A) echo C ;; C) echo G ;; G) echo T ;; *) echo A ;; esac; }
variants() { "$STRAND" dna variants -q -m "$model" --no-version -f ref.fa "$@"; }
row() { printf '%s\t%s\t%s\t%s\t%s\t.\t.\t.\n' "$@" >>v.vcf; }
{
    printf '##fileformat=VCFv4.2\n##contig=<ID=1>\n##contig=<ID=chr2>\n##contig=<ID=2>\n##contig=<ID=3>\n##contig=<ID=9>\n'
    printf '##ALT=<ID=DEL,Description="x">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n'
} >head.vcf
cp head.vcf v.vcf
r=$(base "$s1" 1500)
row 1 1500 snv "$r" "$(other "$r")"
row 1 1600 mnv "$(base "$s1" 1600 3)" TTT
row 1 1700 ins "$(base "$s1" 1700)" "$(base "$s1" 1700)ACGTACG"
row 1 1800 del "$(base "$s1" 1800 6)" "$(base "$s1" 1800)"
r=$(base "$s1" 1900)
row 1 1900 multi "$r" "$(other "$r"),${r}GG,*"
row 1 5 edge "$(base "$s1" 5)" "$(other "$(base "$s1" 5)")"
row 1 3000 lastbase "$(base "$s1" 3000)" "$(other "$(base "$s1" 3000)")"
row 1 2000 mismatch "$(other "$(base "$s1" 2000)")" "$(base "$s1" 2000)"
row 1 2010 symbolic "$(base "$s1" 2010)" "<DEL>"
row 1 2020 breakend "$(base "$s1" 2020)" "$(base "$s1" 2020)[1:5["
row 1 2030 noalt "$(base "$s1" 2030)" .
row 1 2040 iupac "$(base "$s1" 2040)" R
row 1 2050 toolong "$(base "$s1" 2050)" "$(base "$s1" 2050)$s2"
row 1 3001 outside A C
row 2 50 renamed "$(base "$s2" 50)" "$(other "$(base "$s2" 50)")"
row 3 190 nearn "$(base "$s3" 190)" "$(other "$(base "$s3" 190)")"
row 9 10 nocontig A C
expect_partial() {
    variants -w 200 "$@" >out 2>err
    is $? 3 "exit code of $*"
}
expect_partial v.vcf
cp out scored.vcf
info() { awk -F'\t' -v id="$1" '$3 == id { print $8 }' "${2:-scored.vcf}"; }
reason() { info "$1" "${2:-scored.vcf}" | tr ';' '\n' | sed -n 's/^STRAND=//p' | tr ',' '\n' | awk -F'|' '{ printf "%s%s", (NR > 1 ? "," : ""), $5 }'; }
delta() { info "$1" "${2:-scored.vcf}" | tr ';' '\n' | sed -n 's/^STRAND_DELTA=//p'; }
for pair in snv:. mnv:. ins:. del:. multi:.,.,STAR edge:. lastbase:. mismatch:REF_MISMATCH symbolic:SYMBOLIC breakend:SYMBOLIC noalt:NO_ALT \
    iupac:N_IN_ALLELE toolong:TOO_LONG outside:OUT_OF_RANGE renamed:CHR_RENAMED nearn:N_IN_WINDOW nocontig:CONTIG_MISSING; do
    is "$(reason "${pair%%:*}")" "${pair#*:}" "reason of ${pair%%:*}"
done
is "$(grep -vc '^#' scored.vcf)" 17 "every record passes through"
is "$(delta mismatch)" . "no delta without a score"
is "$(delta multi | tr ',' '\n' | grep -c '^-\{0,1\}[0-9]')" 2 "two deltas and a missing one"
grep -q '##INFO=<ID=STRAND,Number=.,Type=String,.*Format: ALLELE|DELTA|REF_LOGLIK|ALT_LOGLIK|REASON">' out && pass || fault "INFO header"
grep -q '##INFO=<ID=STRAND_DELTA,Number=A,Type=Float' out && pass || fault "INFO header of STRAND_DELTA"
grep -q '##strand' out && fault "--no-version leaves lines of ours" || pass

# deltas against windows made by hand: half a window left of POS, the longer allele fills the window
sum() { printf '>w\n%s\n' "$1" | "$STRAND" dna score -q -m "$model" --no-version -f tsv "${@:2}" | awk -F'\t' 'NR > 1 && $4 != "." { s += $4 } END { printf "%.5f\n", s }'; }
by_hand() { # POS REF ALT [options]
    local pos=$1 ref=$2 alt=$3 long=${#2}
    shift 3
    [ ${#alt} -gt "$long" ] && long=${#alt}
    local left=${s1:$((pos - 101)):100} right=${s1:$((pos - 1 + ${#ref})):$((100 - long))}
    awk -v a="$(sum "$left$alt$right" "$@")" -v r="$(sum "$left$ref$right" "$@")" 'BEGIN { print a - r }'
}
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(d < 2e-3 && d > -2e-3) }' && pass || fault "$3: $1 and by hand $2"; }
near "$(delta snv)" "$(by_hand 1500 "$(base "$s1" 1500)" "$(other "$(base "$s1" 1500)")")" "delta of an SNV"
near "$(delta mnv)" "$(by_hand 1600 "$(base "$s1" 1600 3)" TTT)" "delta of an MNV"
near "$(delta ins)" "$(by_hand 1700 "$(base "$s1" 1700)" "$(base "$s1" 1700)ACGTACG")" "delta of an insertion"
near "$(delta del)" "$(by_hand 1800 "$(base "$s1" 1800 6)" "$(base "$s1" 1800)")" "delta of a deletion"
r=$(base "$s1" 1900)
near "$(delta multi | cut -d, -f2)" "$(by_hand 1900 "$r" "${r}GG")" "delta of the second ALT"
expect_partial --rc mean v.vcf
rc_hand=$(awk -v a="$(by_hand 1500 "$(base "$s1" 1500)" "$(other "$(base "$s1" 1500)")")" 'BEGIN { print a }')
[ "$(delta snv out)" != "$(delta snv)" ] && pass || fault "--rc mean changes nothing ($rc_hand)"

# what may not matter
for o in "-@1" "--batch 1" "--batch 5"; do
    # shellcheck disable=SC2086
    expect_partial $o v.vcf
    same out scored.vcf "variants $o"
done
expect_partial - <v.vcf; same out scored.vcf "standard input"
gzip -c v.vcf | expect_partial; gzip -c v.vcf | variants -w 200 2>/dev/null >x; same x scored.vcf "gzip on standard input"
sed 's/$/\r/' v.vcf >crlf.vcf; tr acgt ACGT <ref.fa >/dev/null
{ cat head.vcf; grep snv v.vcf; } >one.vcf
expect 0 "a file without failures" variants -w 200 one.vcf
is "$(grep -v '^#' out)" "$(grep snv scored.vcf)" "a record alone and among others"
sed '/^>/! s/.*/\L&/' ref.fa >low.fa
"$STRAND" dna variants -q -m "$model" --no-version -f low.fa -w 200 v.vcf >x; same x scored.vcf "a lower-case reference"
expect_partial --allow-n v.vcf; is "$(reason nearn out)" N_IN_WINDOW "--allow-n notes"; [ "$(delta nearn out)" != . ] && pass || fault "--allow-n does not score"

# statistics
expect_partial --stats stats.json v.vcf
for want in '"records": 17' '"records_failed": 9' '"alleles": 19' '"alleles_scored": 9' '"REF_MISMATCH": 1' '"SYMBOLIC": 2' '"CHR_RENAMED": 1' '"STAR": 1'; do
    grep -q "$want" stats.json && pass || fault "stats: no $want in $(cat stats.json)"
done

# formats
for f in v:x.vcf z:x.vcf.gz b:x.bcf u:y.bcf; do
    expect_partial -O "${f%%:*}" -o "${f#*:}" v.vcf
    is "$(wc -c <out)" 0 "-O ${f%%:*}: nothing on stdout"
done
same x.vcf scored.vcf "-O v"
gzip -dc x.vcf.gz >x; same x scored.vcf "-O z"
expect_partial -o auto.bcf v.vcf; same auto.bcf x.bcf "the name says BCF"
expect_partial -o auto.vcf.gz v.vcf; same auto.vcf.gz x.vcf.gz "the name says bgzip"
expect_partial -O b v.vcf; same out x.bcf "BCF on stdout"
if have bcftools; then
    for f in x.vcf.gz x.bcf y.bcf; do
        bcftools view --no-version -H $f >x 2>err; grep -v '^#' scored.vcf >y
        cut -f1-5 x >x5; cut -f1-5 y >y5; same x5 y5 "bcftools reads $f"
        [ -s err ] && fault "bcftools: $(cat err)" || pass
    done
    is "$(bcftools query -f '%INFO/STRAND_DELTA\n' x.bcf | head -1 | cut -c1-6)" "$(delta snv | cut -c1-6)" "bcftools query"
    bcftools view -Ob -o in.bcf v.vcf 2>/dev/null
    expect_partial in.bcf; grep -v '^#' out >x; grep -v '^#' scored.vcf >y; same x y "BCF in"
    bcftools view -Oz -o in.vcf.gz v.vcf 2>/dev/null
    expect_partial in.vcf.gz; grep -v '^#' out >x; same x y "bgzip VCF in"
    head -c $(($(stat -c %s in.vcf.gz) - 28)) in.vcf.gz >cut.vcf.gz
    expect 1 "bgzip VCF without its end" variants cut.vcf.gz
else
    note "no bcftools: skipped"
fi
expect_partial scored.vcf; same out scored.vcf "scoring what is scored"

# shards
for n in 2 3 20; do
    : >x; bcfs= vcfs=
    for i in $(seq $n); do
        variants -w 200 --shard $i/$n v.vcf >>x
        variants -w 200 --shard $i/$n -O b -o s$i.bcf v.vcf; variants -w 200 --shard $i/$n -o s$i.vcf.gz v.vcf
        bcfs="$bcfs s$i.bcf" vcfs="$vcfs s$i.vcf.gz"
    done
    same x scored.vcf "cat of $n VCF shards"
    # shellcheck disable=SC2086
    expect 0 "merge BCF" "$STRAND" merge --no-version -o m.bcf $bcfs
    same m.bcf x.bcf "merged BCF, $n shards"
    # shellcheck disable=SC2086
    expect 0 "merge VCF" "$STRAND" merge --no-version -o m.vcf.gz $vcfs
    same m.vcf.gz x.vcf.gz "merged bgzip VCF, $n shards"
done
expect 1 "a shard of stdin" variants --shard 1/2 - <v.vcf

# what cannot be read or written
expect 1 "no reference file" "$STRAND" dna variants -m "$model" -f no.fa v.vcf
expect 1 "FASTA as VCF" variants ref.fa
says "VCF" "FASTA as VCF"
: >nothing.vcf
expect 1 "an empty file" variants nothing.vcf
expect 0 "a header alone" variants head.vcf
{ cat head.vcf; grep snv v.vcf; printf '1\t7\t.\tA\n'; } >cols.vcf
expect 1 "a line that is cut off" variants cols.vcf
says "record 2" "a line that is cut off"
{ cat head.vcf; printf '1\tx\t.\tA\tC\t.\t.\t.\n'; } >pos.vcf
expect 1 "a position that is none" variants pos.vcf
says "record 1" "a position that is none"
{ grep -v contig head.vcf; grep snv v.vcf; } >undeclared.vcf
expect 0 "contigs that are not declared" variants -w 200 undeclared.vcf
expect 1 "which BCF cannot hold" variants -w 200 -O b -o u.bcf undeclared.vcf
says "declare" "which BCF cannot hold"
[ -e u.bcf ] && fault "a failed run left its output" || pass
if [ -w /dev/full ]; then
    for o in v z b u; do
        variants -w 200 -O $o one.vcf >/dev/full 2>err
        is $? 1 "-O $o > /dev/full"
        [ "$(wc -l <err)" = 1 ] && pass || fault "-O $o > /dev/full: $(cat err)"
        expect 1 "-O $o -o /dev/full" variants -w 200 -O $o -o /dev/full one.vcf
    done
fi
"$STRAND" dna variants -q -m "$model" -f ref.fa -w 200 one.vcf >h
grep -q '^##strand_variantsVersion=0.1.0' h && grep -q '^##strand_variantsModel=.*sha256=' h && grep -q '^##strand_variantsCommand=strand dna variants' h && pass || fault "provenance"
finish
