# cli.sh - commands, options, exit codes, generated help, writes that fail.
. "$(dirname "$0")/lib.sh"

# -- version and help need no model
expect 0 version "$STRAND" --version
is "$(head -1 out)" "strand 0.1.0" "first line of --version"
expect 0 help "$STRAND" help
commands="dna_score dna_embed dna_classify dna_variants dna_generate forecast run inspect backends plan bench merge"
for c in $commands; do
    c=${c/_/ }
    # shellcheck disable=SC2086
    expect 0 "help $c" "$STRAND" help $c
    grep -q -- --help out && pass || fault "help $c: no options"
    cp out help.a
    # shellcheck disable=SC2086
    expect 0 "$c --help" "$STRAND" $c --help
    same out help.a "$c --help"
    awk 'length($0) > 100 { exit 1 }' out && pass || fault "help $c: lines of more than 100 columns"
done
expect 0 "man page" "$STRAND" --generate man
for c in SCORE EMBED CLASSIFY VARIANTS GENERATE; do grep -q "^.SH STRAND DNA $c" out && pass || fault "man page: no $c"; done
if have man && man --warnings -l out >/dev/null 2>man.err; then [ -s man.err ] && fault "man page: $(cat man.err)" || pass; fi
for shell in bash zsh fish; do
    expect 0 "completion for $shell" "$STRAND" --generate $shell
    grep -q soft-mask out && pass || fault "$shell completion: no --soft-mask"
done
"$STRAND" --generate bash >completion.bash && bash -n completion.bash && pass || fault "bash completion: syntax"
cat >complete.sh <<'END'
. ./completion.bash
COMP_WORDS=(strand dna score --fo) COMP_CWORD=3; _strand; echo "${COMPREPLY[*]}"
COMP_WORDS=(strand dna score --format b) COMP_CWORD=4; _strand; echo "${COMPREPLY[*]}"
COMP_WORDS=(strand dna e) COMP_CWORD=2; _strand; echo "${COMPREPLY[*]}"
END
is "$(bash complete.sh | tr '\n' ' ')" "--format bedgraph embed " "bash completion"

# -- wrong usage is 2, in one line
expect 2 "no command" "$STRAND"
expect 2 "unknown command" "$STRAND" frobnicate
expect 2 "dna without command" "$STRAND" dna
expect 2 "unknown dna command" "$STRAND" dna frobnicate
expect 2 "help of nothing" "$STRAND" help frobnicate
expect 2 "unknown option" "$STRAND" dna score --frobnicate x.fa
says "--frobnicate" "unknown option"
expect 2 "unknown short option" "$STRAND" dna score -Z x.fa
expect 2 "missing value" "$STRAND" dna score x.fa -f
expect 2 "value for a flag" "$STRAND" dna score --quiet=1 x.fa
expect 2 "bad choice" "$STRAND" dna score -f csv x.fa
says "summary|tsv|bedgraph" "bad choice"
expect 2 "bad number" "$STRAND" dna score -@ four x.fa
expect 2 "negative number" "$STRAND" dna score --batch=-1 x.fa
expect 2 "bad size" "$STRAND" dna score --memory 2X x.fa
expect 2 "two inputs" "$STRAND" dna score a.fa b.fa
expect 2 "bad shard" "$STRAND" dna score --shard 3/2 x.fa
expect 2 "shard 0" "$STRAND" dna score --shard 0/2 x.fa
expect 2 "bad shard words" "$STRAND" dna score --shard 1-from-2 x.fa
expect 2 "variants without reference" "$STRAND" dna variants x.vcf
expect 2 "generate without prompt" "$STRAND" dna generate
expect 2 "generate with a bad prompt" "$STRAND" dna generate -p AC-GT
expect 2 "run without model" "$STRAND" run
expect 2 "run without input" "$STRAND" run some
expect 2 "plan without length" "$STRAND" plan
expect 2 "merge without output" "$STRAND" merge a b
expect 2 "merge without shards" "$STRAND" merge -o x
expect 2 "embed to npy on stdout" "$STRAND" dna embed -f npy /dev/null

# -- writes that fail
if [ -w /dev/full ]; then
    for c in "--version" "help" "help dna score" "--generate man" "backends" "backends -f json"; do
        # shellcheck disable=SC2086
        "$STRAND" $c >/dev/full 2>err
        is $? 1 "$c > /dev/full"
        grep -q 'cannot write' err && pass || fault "$c > /dev/full: $(cat err)"
    done
fi
need_model
fasta a 1 200 >a.fa
expect 1 "missing model" "$STRAND" dna score -m no/such/model a.fa
expect 1 "missing file" "$STRAND" dna score -m "$model" no-such.fa
says "no-such.fa" "missing file"
if [ -w /dev/full ]; then
    "$STRAND" dna score -m "$model" a.fa >/dev/full 2>err
    is $? 1 "score > /dev/full"
    expect 1 "score -o /dev/full" "$STRAND" dna score -m "$model" -o /dev/full a.fa
    expect 1 "embed -o /dev/full" "$STRAND" dna embed -m "$model" -f tsv -o /dev/full a.fa
    "$STRAND" plan -m "$model" --length 100 >/dev/full 2>err
    is $? 1 "plan > /dev/full"
fi
expect 1 "unwritable folder" "$STRAND" dna score -m "$model" -o no/such/folder/x a.fa
expect 1 "output is a folder" "$STRAND" dna score -m "$model" -o . a.fa
expect 2 "overlap too large" "$STRAND" dna score -m "$model" --window 64 --overlap 64 a.fa
expect 2 "window too large" "$STRAND" dna score -m "$model" --window 99999999 a.fa
says "limit" "window too large"
expect 1 "unknown backend" "$STRAND" dna score -m "$model" --backend nosuch a.fa
expect 1 "unknown setting" "$STRAND" dna score -m "$model" --set nosuch=1 a.fa
expect 0 "options anywhere, --" "$STRAND" dna score -q -m "$model" --no-version -o x.tsv -- a.fa
expect 0 "= and spaces" "$STRAND" dna score --model="$model" -@2 --memory=1GiB --no-version a.fa
same out x.tsv "two spellings of one command"
expect 0 "weights held in memory" "$STRAND" dna score -m "$model" --no-mmap --no-version a.fa
same out x.tsv "weights held in memory"
is "$(stat -c %a x.tsv)" "$(touch y; stat -c %a y)" "permissions of an output"
ln -s x.tsv link.tsv
expect 0 "output through a link" "$STRAND" dna score -m "$model" --no-version -o link.tsv a.fa
[ -L link.tsv ] && pass || fault "an output that is a link was replaced"
expect 0 backends "$STRAND" backends
grep -q '^cpu' out && pass || fault "backends: no cpu"
grep -q '^  type *processor$' out && grep -q 'instruction set: ' out && pass || fault "backends: no type or features"
expect 0 "backends as JSON" "$STRAND" backends -f json
if command -v python3 >/dev/null; then
    python3 -c 'import json, sys
d = json.load(open("out"))
c = [b for b in d["backends"] if b["name"] == "cpu"][0]
assert c["host_memory"] and c["features"]["type"] == "processor" and "refused" in d' 2>err && pass || fault "backends -f json: $(cat err)"
else
    note "no python3: the JSON of backends is not parsed"
fi
expect 0 devices "$STRAND" backends --devices
expect 0 inspect "$STRAND" inspect -m "$model"
grep -q '^sha256 *[0-9a-f]\{64\}$' out && pass || fault "inspect: no SHA-256"
grep -q input_ids out && pass || fault "inspect: no input_ids"
expect 1 "inspect nothing" "$STRAND" inspect no-such-file
expect 0 plan "$STRAND" plan -m "$model" --length 1000 --batch 2
grep -q 'lower bound' out && pass || fault "plan: no totals"
expect 0 "plan --tsv" "$STRAND" plan -m "$model" --length 1000 --tsv
awk -F'\t' 'NF != 13 { exit 1 }' out && pass || fault "plan --tsv: columns"
expect 1 "plan too long" "$STRAND" plan -m "$model" --length 100000000
expect 1 "plan in too little memory" "$STRAND" plan -m "$model" --length 1000 --memory 10K
ls -A | grep -q 'part-' && fault "temporary files left: $(ls -A)" || pass
finish
