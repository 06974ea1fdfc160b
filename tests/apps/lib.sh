# lib.sh - what the scripts share: a scratch folder, checks that count, a model to work with.
set -u
: "${STRAND:?the program under test}"
: "${STRAND_SHARED:=}"
LC_ALL=C
export LC_ALL
unset POSIXLY_CORRECT
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/strand-apps-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
passed=0

pass() { passed=$((passed + 1)); }
fault() {
    failures=$((failures + 1))
    echo "FAIL: $*"
}
note() { echo "note: $*"; }

# expect RC WHAT COMMAND...: runs it with out and err caught; exactly RC, and one line at most on stderr that begins with "strand: "
expect() {
    local want=$1 what=$2
    shift 2
    "$@" >out 2>err
    local got=$?
    if [ "$got" != "$want" ]; then
        fault "$what: exit code $got, not $want; $(head -c 300 err)"
    else
        pass
    fi
    if [ "$want" = 1 ] || [ "$want" = 2 ]; then
        [ "$(wc -l <err)" = 1 ] && grep -q '^strand: ' err || fault "$what: stderr is not one line of 'strand: ...': $(cat err)"
    fi
}
# says TEXT WHAT: the last caught stderr has it
says() { grep -q -- "$1" err && pass || fault "$2: stderr does not say '$1': $(cat err)"; }
same() { cmp -s "$1" "$2" && pass || fault "$3: $1 and $2 differ"; }
is() { [ "$1" = "$2" ] && pass || fault "$3: '$1' is not '$2'"; }
true_that() {
    local what=$1
    shift
    "$@" >/dev/null 2>&1 && pass || fault "$what"
}
have() { command -v "$1" >/dev/null 2>&1; }

# python_with MODULES: the first Python that has them; the one on PATH need not be the one that the distribution's packages are for
python_with() {
    local p
    for p in "${STRAND_TEST_PYTHON:-python3}" python3 /usr/bin/python3; do
        "$p" -c "import $1" 2>/dev/null && echo "$p" && return
    done
    return 1
}

# A model: the built-in one, else the published tiny-1k of ../shared. Without one the script is skipped.
need_model() {
    if "$STRAND" inspect -q >/dev/null 2>&1; then
        model=hyenadna-tiny-strand
    elif [ -f "$STRAND_SHARED/data/dna/hyenadna-tiny-1k/model.pth" ]; then
        model=$STRAND_SHARED/data/dna/hyenadna-tiny-1k
        note "no built-in model; using $model"
    else
        echo "SKIP: no model"
        exit 77
    fi
}
# random_bases SEED N: N bases on one line, the same everywhere
random_bases() {
    awk -v s="$1" -v n="$2" 'BEGIN { for (i = 0; i < n; i++) { s = (s * 16807) % 2147483647; printf "%s", substr("ACGT", int(s / 1000) % 4 + 1, 1) } print "" }'
}
fasta() { # NAME SEED N [WIDTH]
    echo ">$1"
    random_bases "$2" "$3" | fold -w "${4:-60}"
}
finish() {
    echo "$passed checks passed, $failures failed"
    [ "$failures" = 0 ]
    exit
}
