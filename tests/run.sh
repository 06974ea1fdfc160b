#!/usr/bin/env bash
# Sets up a fresh Debian or Ubuntu machine and runs the tests:  tests/run.sh [--suite ci|full] [--no-install] [--part NAME]...
#
#   ci    gcc build with every test, GPU plugins on software devices (lavapipe, PoCL) included, CUDA compiled where nvcc is (one
#         architecture and PTX); clang build and ASan+UBSan build of core, CPU plugin and readers; static builds for this machine and
#         aarch64 (under qemu) with malloc forbidden; the NEON kernels under qemu; the gcc build installed, and used with the build
#         tree out of sight; a sample on other x86-64 levels under qemu; fuzz targets replay their corpus and run some seconds each.
#         Half an hour on two cores. For that it draws a sample, by a seed that it prints (STRAND_TEST_SEED=N takes
#         that one): of every family of operators, on every plugin, each second of the cases that full has (each fourth under clang,
#         the sanitizers and qemu), one of the emulated CUDA driver's tests that have the same cases in several ways, of the golden
#         cases on GPU plugins the smallest ones, an instruction set for clang; and its builds other than gcc's are optimised
#         little.
#   full  every case, with longer samples and fuzzing; everything under the sanitizers, for all instruction sets; all CUDA
#         architectures; every test program in the static builds; and the installed tree is a release build of its own
#
# --part runs one part of it alone, so that a long run can be done in pieces: gcc, clang, asan, static, neon, installed, qemu (the
# last two take gcc's build where it is there; qemu needs it), fuzz. Builds go to build-test/ beside this folder. The last line is
# "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$0")/.."
suite=ci
install=1
all_parts="gcc clang asan static neon installed qemu fuzz"
parts=
while [ $# -gt 0 ]; do
    case "$1" in
    --suite) suite=${2:-}; shift ;;
    --suite=*) suite=${1#*=} ;;
    --no-install) install=0 ;;
    --part) case " $all_parts " in *" ${2:-?} "*) parts="$parts $2"; shift ;; *) echo "unknown part '${2:-}': one of $all_parts" >&2; exit 2 ;; esac ;;
    *) echo "usage: tests/run.sh [--suite ci|full] [--no-install] [--part NAME]..." >&2; exit 2 ;;
    esac
    shift
done
case "$suite" in ci) fuzz_seconds=5 ;; full) fuzz_seconds=120 ;; *) echo "unknown suite '$suite': ci or full" >&2; exit 2 ;; esac

packages="gcc g++ clang libclang-rt-14-dev meson ninja-build pkg-config libcmocka-dev libhts-dev zlib1g-dev libpcre2-dev libutf8proc-dev libmicrohttpd-dev python3 python3-scipy
 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user samtools bcftools tabix
 libvulkan-dev mesa-vulkan-drivers vulkan-validationlayers glslang-tools ocl-icd-opencl-dev opencl-headers pocl-opencl-icd"
if [ $install = 1 ]; then
    missing=
    for p in $packages; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok' || missing="$missing $p"
    done
    # Outside bookworm the sanitizer runtime comes with another version number.
    if [ -n "$missing" ]; then
        sudo=
        [ "$(id -u)" = 0 ] || sudo=sudo
        $sudo apt-get update -qq
        for p in $missing; do
            $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$p" >/dev/null ||
                { [ "$p" = libclang-rt-14-dev ] || { echo "cannot install $p" >&2; exit 1; }; }
        done
    fi
fi

# What is drawn, in ci: each N-th case of a family of operators; sampled N COMMAND... Full has them all, also the golden cases and long
# convolutions on the GPU plugins.
unset STRAND_TEST_ONE_IN STRAND_TEST_SAMPLE EMULATED_CUDA_EXPECT EMULATED_CUDA_SUMS
STRAND_TEST_SEED=${STRAND_TEST_SEED:-$(($(date +%s) % 100000))}
[[ $STRAND_TEST_SEED =~ ^[0-9]{1,9}$ ]] || { echo "STRAND_TEST_SEED is a number of up to nine digits, not '$STRAND_TEST_SEED'" >&2; exit 2; }
export STRAND_TEST_SEED=$((10#$STRAND_TEST_SEED))
echo "seed of the samples: STRAND_TEST_SEED=$STRAND_TEST_SEED"
if [ "$suite" = full ]; then
    export STRAND_TEST_SAMPLE=full
    sampled() { shift; "$@"; }
else
    sampled() { STRAND_TEST_ONE_IN=$1 "${@:2}"; }
fi

out=build-test
mkdir -p "$out/fuzz"
passed=0 failed=0 skipped=0
failures=

note() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

# One check of its own: check NAME COMMAND...
check() {
    local name=$1
    shift
    local code=0
    "$@" >"$out/$name.log" 2>&1 || code=$?
    if [ $code = 0 ]; then
        passed=$((passed + 1))
        echo "ok    $name"
    elif [ $code = 77 ]; then
        skipped=$((skipped + 1))
        echo "SKIP  $name: $(tail -n 1 "$out/$name.log")"
    else
        failed=$((failed + 1))
        failures="$failures $name"
        echo "FAIL  $name"
        tail -n 40 "$out/$name.log"
    fi
}

# build DIR OPTIONS...: configures afresh and builds `targets`, or all; a failure counts.
targets=
build() {
    local dir=$out/$1
    shift
    if [ -d "$dir" ]; then set -- --wipe "$@"; fi
    check "build-$(basename "$dir")" sh -c 'd=$1; t=$2; shift 2; meson setup "$d" "$@" && ninja -C "$d" $t' sh "$dir" "$targets" "$@"
}

# Runs meson's tests in DIR and adds up what they say.
run_tests() {
    local dir=$out/$1 log
    shift
    log=$dir/run.log
    [ -f "$dir/build.ninja" ] || return
    meson test -C "$dir" --no-rebuild --print-errorlogs -t "${multiplier:-1}" "$@" 2>&1 | tee "$log" | grep -E '^ *[0-9]+/[0-9]+|FAILED|SKIP|skipped|seed' | tail -n 150
    local ok fail timeout skip unexpected
    ok=$(sed -n 's/^Ok: *\([0-9]*\).*/\1/p' "$log")
    fail=$(sed -n 's/^Fail: *\([0-9]*\).*/\1/p' "$log")
    timeout=$(sed -n 's/^Timeout: *\([0-9]*\).*/\1/p' "$log")
    unexpected=$(sed -n 's/^Unexpected Pass: *\([0-9]*\).*/\1/p' "$log")
    skip=$(sed -n 's/^Skipped: *\([0-9]*\).*/\1/p' "$log")
    if [ -z "$ok" ]; then
        failed=$((failed + 1))
        failures="$failures $dir"
        tail -n 30 "$log"
        return
    fi
    passed=$((passed + ok))
    failed=$((failed + fail + timeout + unexpected))
    skipped=$((skipped + skip))
    if [ $((fail + timeout + unexpected)) -gt 0 ]; then
        failures="$failures $dir"
        tail -n 200 "$log"
    fi
}

# CUDA is built where nvcc is; without it the build says so and goes on.
cuda=auto
for nvcc in "$(command -v nvcc)" /usr/local/cuda/bin/nvcc; do [ -x "$nvcc" ] && cuda=enabled; done
# Nobody debugs the builds of ci, and what gcc has built with -O3 others need not: half of the time is the compilers'.
archs=ci quick=-Ddebug=false light="-Ddebug=false -Doptimization=1"
[ "$suite" = full ] && archs=all quick= light=
no_gpu="-Dvulkan=disabled -Dopencl=disabled -Dcuda=disabled"

cat >"$out/aarch64.ini" <<'INI'
[binaries]
c = 'aarch64-linux-gnu-gcc'
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
exe_wrapper = ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu']
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
INI

part_gcc() {
    note "gcc, everything; GPU plugins on software devices (CUDA: $cuda)"
    build gcc --prefix "$PWD/$out/prefix" -Dwerror=true -Dvulkan=enabled -Dopencl=enabled -Dcuda=$cuda -Dnvcc_archs=$archs $quick
    rm -rf "$out/cache"
    mkdir -m 700 "$out/cache"
    STRAND_CACHE_DIR=$PWD/$out/cache sampled 2 run_tests gcc # one cache of kernels for all tests, those but which test the cache
}

part_clang() {
    note "clang: core, CPU plugin, readers"
    # One instruction set, which the seed draws: gcc's build has all.
    local drawn= levels=(x86-64)
    if [ "$suite" = ci ] && [ "$(uname -m)" = x86_64 ]; then
        ! grep -qw avx2 /proc/cpuinfo || levels+=(x86-64-v3)
        ! grep -qw avx512vl /proc/cpuinfo || levels+=(x86-64-v4)
        drawn=-Dcpu_variants=${levels[STRAND_TEST_SEED % ${#levels[@]}]}
        echo "${drawn#-D}"
    fi
    CC=clang CXX=clang++ build clang -Dwerror=true -Dapps=false $no_gpu $light $drawn
    sampled 4 run_tests clang --suite core --suite weights --suite ops --suite embed
}

part_asan() {
    note "address and undefined-behaviour sanitizers"
    local suites="--suite core --suite weights --suite plugins --suite ops --suite fuzz"
    [ "$suite" = full ] && suites=
    # One instruction set: the kernels are one source, and compiling them with checks takes minutes each. The command line is in full.
    local variants="-Dcpu_variants=x86-64-v3 -Dapps=false"
    [ "$suite" = full ] && variants=
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    # bgzf_close leaves its buffers behind when the last block cannot be written (a full disk).
    echo 'leak:libhts.so' >"$out/lsan.txt"
    export LSAN_OPTIONS=suppressions=$PWD/$out/lsan.txt:print_suppressions=0
    # -O1: gcc takes ten times as long to optimise kernels for size, or more, when checks are in them.
    build asan $no_gpu $variants -Dbuildtype=debug -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false
    STRAND_TEST_SAMPLE=small multiplier=4 sampled 4 run_tests asan $suites
    unset ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS
}

part_static() {
    note "static, no malloc, here and on aarch64"
    local targets="libstrand.a tests/embed/embed"
    [ "$suite" = full ] && targets=
    build static -Dplugins=static -Dbuildtype=minsize -Dwerror=true
    run_tests static --suite embed
    build aarch64 --cross-file "$out/aarch64.ini" -Dplugins=static -Dbuildtype=minsize -Dwerror=true
    multiplier=4 run_tests aarch64 --suite embed
    local d size
    for d in static aarch64; do
        size=size
        [ $d = aarch64 ] && size=aarch64-linux-gnu-size
        [ -f "$out/$d/libstrand.a" ] && printf '%s: code of libstrand.a %s bytes, of the linked program %s bytes\n' $d \
            "$($size -t "$out/$d/libstrand.a" | awk 'END {print $1}')" "$($size "$out/$d/tests/embed/embed" | awk 'NR == 2 {print $1}')"
        grep -ho 'block [0-9]* bytes.*' "$out/$d/meson-logs/testlog.txt" | sort -u
    done
}

part_neon() {
    note "the NEON kernels on an emulated processor"
    # At -O1 gcc takes what a loop fills for uninitialised.
    build neon --cross-file "$out/aarch64.ini" -Dapps=false $no_gpu -Dwerror=true $light ${light:+-Dc_args=-Wno-maybe-uninitialized}
    multiplier=4 sampled 4 run_tests neon --suite ops
}

part_installed() {
    note "the installed tree; a machine without nvcc"
    local built=
    [ "$suite" = ci ] && [ -x "$out/gcc/apps/strand" ] && built=$out/gcc
    check install bash tests/embed/installed.sh "$out" $built
    rm -rf "$out/no-nvcc"
    check no-nvcc sh -c 'meson setup "$1" -Dnvcc=/nowhere/nvcc -Dtests=false >"$1.txt" && grep "CUDA *: no: needs nvcc" "$1.txt" && ! meson setup "$1-asked" -Dnvcc=/nowhere/nvcc -Dcuda=enabled' sh "$out/no-nvcc"
}

part_qemu() {
    note "other x86-64 levels under qemu"
    check qemu-levels bash tests/ops/qemu.sh "$out/gcc" "$suite"
}

part_fuzz() {
    note "fuzzing, $fuzz_seconds s a target"
    check fuzz env STRAND_FUZZ_DIR="$PWD/$out/fuzz" bash tests/fuzz/run.sh "$fuzz_seconds"
}

for part in ${parts:-$all_parts}; do "part_$part"; done

[ -n "$failures" ] && echo "failed:$failures"
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
