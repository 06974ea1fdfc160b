# signals.sh - Ctrl-C, a closed pipe: nothing half-written, nothing said, the right way to die.
. "$(dirname "$0")/lib.sh"
need_model
fasta big 17 600000 >big.fa
mkdir o
run() { # SIGNAL COMMAND...: sends the signal once the temporary file is there
    local signal=$1 i
    shift
    # a background child of a script ignores SIGINT; a child of `setsid`-less perl does not, so ask bash for job control
    set -m
    "$@" >out 2>err &
    local pid=$!
    set +m
    for i in $(seq 100); do
        ls -A o | grep -q part- && break
        sleep 0.05
    done
    sleep 0.2
    kill -s "$signal" "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    echo $?
}
is "$(run INT "$STRAND" dna score -q -m "$model" -f tsv -o o/x.tsv big.fa)" 130 "Ctrl-C: dies by the signal"
is "$(ls -A o)" "" "Ctrl-C: nothing left"
is "$(cat err)" "" "Ctrl-C: nothing said"
is "$(run TERM "$STRAND" dna embed -q -m "$model" -p none -o o/x.npy big.fa)" 143 "SIGTERM"
is "$(ls -A o)" "" "SIGTERM: nothing left"
is "$(run INT "$STRAND" dna score -q -m "$model" -o o/x.tsv --rc mean big.fa)" 130 "Ctrl-C in a summary"
is "$(ls -A o)" "" "Ctrl-C in a summary: nothing left"
# an old output stays when a new one is broken off
echo old >o/keep.tsv
run INT "$STRAND" dna score -q -m "$model" -f tsv -o o/keep.tsv big.fa >/dev/null
is "$(cat o/keep.tsv)" old "Ctrl-C: the old file stays"
rm -f o/*
# waiting for standard input
mkfifo fifo
sleep 30 >fifo &
holder=$!
set -m
"$STRAND" dna score -q -m "$model" -o o/y - <fifo >out 2>err &
pid=$!
set +m
sleep 1
kill -INT $pid
wait $pid 2>/dev/null
is $? 130 "Ctrl-C while waiting for input"
kill $holder 2>/dev/null
is "$(ls -A o)" "" "Ctrl-C while waiting: nothing left"
# SIGPIPE is quiet
head -c 60000 big.fa >mid.fa
"$STRAND" dna score -q -m "$model" -f tsv mid.fa 2>err | head -2 >out
is "${PIPESTATUS[0]}" 141 "a closed pipe: dies by SIGPIPE"
is "$(cat err)" "" "a closed pipe: nothing said"
is "$(wc -l <out)" 2 "a closed pipe: what was read"
"$STRAND" help | head -1 >out
is "${PIPESTATUS[0]}:${PIPESTATUS[1]}" "0:0" "help | head" 2>/dev/null || true
# progress goes to terminals only
"$STRAND" dna score -m "$model" -o o/z mid.fa 2>err
is "$(wc -c <err)" 0 "no progress without a terminal"
if have script; then
    head -c 150000 big.fa >part.fa
    script -qec "$STRAND dna score -m $model -o o/z part.fa" /dev/null >tty 2>&1 </dev/null && grep -q 'bases.*left' tty && pass || fault "no progress on a terminal: $(head -c 200 tty)"
fi
finish
