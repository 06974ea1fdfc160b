#!/usr/bin/env bash
# Proof that each build of the CPU plugin keeps to its instruction set: a sample of the operator tests on emulated processors
# that have no more. Also that a build which the processor cannot run says so and is not entered.
#   qemu.sh BUILD_FOLDER [ci|full]
# AVX-512 is not emulated by qemu 7.2: the v4 build is tested by the plain run, on machines that have it, and only refused here.
set -euo pipefail
build=$1
cases=3
[ "${2:-ci}" = full ] && cases=12
command -v qemu-x86_64 >/dev/null || { echo "no qemu-x86_64 here"; exit 1; }
[ "$(uname -m)" = x86_64 ] || { echo "not an x86-64 machine"; exit 77; }
seed=${STRAND_TEST_SEED:-$(( $(date +%s) % 100000 ))}
echo "seed $seed"

plugin() { echo "$build/backends/cpu/strand-cpu-$1.so"; }
ops() { # ops CPU VARIANT
    echo "== $2 on $1"
    qemu-x86_64 -cpu "$1" "$build/tests/ops/test_ops" --plugin "$(plugin "$2")" --reference "$(plugin reference)" --cases "$cases" --seed "$seed"
}
chosen() { # chosen CPU: what the library itself takes there
    qemu-x86_64 -cpu "$1" "$build/apps/strand" backends | sed -n 's/^ *plugin .*strand-cpu-\(.*\)\.so.*/\1/p' | grep -v reference
}

ops Nehalem x86-64 >"$build/nehalem.log" 2>&1 &
nehalem=$!
bad=0
ops Haswell x86-64-v3 >"$build/haswell.log" 2>&1 || bad=1
if wait $nehalem; then
    cat "$build/nehalem.log" "$build/haswell.log"
else
    bad=1
    cat "$build/haswell.log" "$build/nehalem.log" # what failed comes last
fi
[ $bad = 0 ] || { echo "seed $seed"; exit 1; }
for pair in Nehalem:x86-64 Haswell:x86-64-v3; do
    got=$(chosen "${pair%%:*}")
    echo "on ${pair%%:*} the library chooses ${got:-nothing}"
    [ "$got" = "${pair#*:}" ]
done
if qemu-x86_64 -cpu Nehalem "$build/tests/ops/test_ops" --plugin "$(plugin x86-64-v3)" --reference "$(plugin reference)" --cases 1 >"$build/refused.log" 2>&1 &&
    ! grep -qi skip "$build/refused.log"; then
    echo "the v3 build claims to run on a processor without AVX2"
    exit 1
fi
grep -i -m 1 -E 'skip|cannot|AVX' "$build/refused.log"
