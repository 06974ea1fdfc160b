# generate.sh - sampling: greedy, seeded, limited, beyond the window.
. "$(dirname "$0")/lib.sh"
need_model
generate() { "$STRAND" dna generate -q -m "$model" --no-version "$@"; }
new() { generate --only-new "$@" | grep -v '^>' | tr -d '\n'; }

is "$(new -p ACGTACGT -n 25 -t 0)" "$(new -p ACGTACGT -n 25 -t 0 -s 99)" "greedy does not know the seed"
is "$(new -p ACGTACGT -n 25 -t 0)" "$(new -p acguacgu -n 25 -k 1 -s 3)" "top-k of 1 is greedy"
is "$(new -p ACGTACGT -n 40 -s 5)" "$(new -p ACGTACGT -n 40 -s 5 -@1)" "one seed, one answer"
[ "$(new -p ACGTACGT -n 40 -s 5)" != "$(new -p ACGTACGT -n 40 -s 6)" ] && pass || fault "two seeds, one answer"
a=$(new -p ACGTACGT -n 70)
is "${#a}" 70 "the number of bases"
case $a in *[!ACGT]*) fault "letters: $a" ;; *) pass ;; esac
generate -p ACGTACGT -n 70 >out
is "$(grep -v '^>' out | tr -d '\n')" "ACGTACGT$a" "the prompt comes first"
is "$(head -1 out)" ">generated" "name"
is "$(awk 'NR > 1 && length($0) > 60' out | wc -l)" 0 "lines of 60"
"$STRAND" dna generate -q -m "$model" -p ACGT -n 3 -s 7 | grep -q '^>generated strand=0.1.0 model=.* sha256=[0-9a-f]\{64\} .* seed=7$' && pass || fault "provenance"
# a greedy base is the likeliest: forced scoring says so
printf '>x\nACGTACGT%s\n' "$(new -p ACGTACGT -n 10 -t 0)" | "$STRAND" dna score -q -m "$model" --no-version -f tsv |
    awk 'NR > 9 && $4 < log(0.25) { exit 1 }' && pass || fault "a greedy base is less likely than a quarter"
# beyond the window: as if started from the last half
long=$(random_bases 3 40)
is "$(new -w 32 -p "$long" -n 1 -t 0)" "$(new -p "${long:24}" -n 1 -t 0)" "a full window keeps its last half"
is "$(new -w 32 -p "$long" -n 100 -t 0 | wc -c)" 100 "far beyond the window"
# prompts from a file, one seed each
printf '>p1\nACGTAC\n>p2\nGGGTTT\n' >p.fa
generate -i p.fa -n 12 -s 4 >out
is "$(grep '>' out | tr '\n' ' ')" ">p1 >p2 " "names of a prompt file"
is "$(awk '/^>p2/ { getline; print }' out)" "GGGTTT$(new -p GGGTTT -n 12 -s 5)" "record 2 uses the next seed"
generate -i - -n 12 -s 4 <p.fa >x; same x out "prompts on standard input"
printf '>p1\nACGTAC\n>p2\n>p3\nAC\n' | generate -i - -n 2 >out 2>err
is $? 3 "an empty prompt: exit code"
is "$(grep -c '>' out)" 2 "an empty prompt: the others"
expect 2 "no bases" generate -p ACGT -n 0
finish
