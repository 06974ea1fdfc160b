#!/usr/bin/env bash
# Sets up a fresh Debian or Ubuntu machine and runs the tests:  tests/run.sh [--suite ci|full] [--no-install] [--part NAME]...
#
#   ci    gcc build with every test, GPU plugins on software devices (lavapipe, PoCL) included, CUDA compiled where nvcc is; clang
#         build and ASan+UBSan build of core, CPU plugin and readers; static builds for this machine and aarch64 (under qemu) with
#         malloc forbidden; the installed tree; a sample on other x86-64 levels under qemu; fuzz targets replay their corpus and
#         run some seconds each
#   full  the same with longer samples and fuzzing, and everything under the sanitizers
#
# --part runs one part of it alone: gcc, clang, asan, static, neon, installed, qemu (which takes gcc's build), fuzz. Builds go to build-test/ beside this folder. The last line is "N passed, N failed, N skipped".
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
case "$suite" in ci) fuzz_seconds=8 ;; full) fuzz_seconds=120 ;; *) echo "unknown suite '$suite': ci or full" >&2; exit 2 ;; esac

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

[ "$suite" = full ] && export STRAND_TEST_SAMPLE=full # golden cases and long convolutions on the GPU plugins, all of them

out=build-test
mkdir -p "$out/fuzz"
passed=0 failed=0 skipped=0
failures=

note() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

# One check of its own: check NAME COMMAND...
check() {
    local name=$1
    shift
    if "$@" >"$out/$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        failures="$failures $name"
        echo "FAIL  $name"
        tail -n 40 "$out/$name.log"
    fi
}

# setup DIR OPTIONS...: configures (afresh when options changed) and builds; a failure counts.
build() {
    local dir=$out/$1
    shift
    if [ -d "$dir" ]; then set -- --wipe "$@"; fi
    check "build-$(basename "$dir")" sh -c 'd=$1; shift; meson setup "$d" "$@" && ninja -C "$d"' sh "$dir" "$@"
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
archs=ci
[ "$suite" = full ] && archs=all
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
    build gcc -Dwerror=true -Dvulkan=enabled -Dopencl=enabled -Dcuda=$cuda -Dnvcc_archs=$archs
    run_tests gcc
}

part_clang() {
    note "clang: core, CPU plugin, readers"
    CC=clang CXX=clang++ build clang -Dwerror=true -Dapps=false $no_gpu
    run_tests clang --suite core --suite weights --suite ops --suite embed
}

part_asan() {
    note "address and undefined-behaviour sanitizers"
    local suites="--suite core --suite weights --suite plugins --suite ops --suite fuzz"
    [ "$suite" = full ] && suites=
    # One instruction set: the kernels are one source, and compiling them with checks takes minutes each.
    local variants=-Dcpu_variants=x86-64-v3
    [ "$suite" = full ] && variants=
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    # bgzf_close leaves its buffers behind when the last block cannot be written (a full disk).
    echo 'leak:libhts.so' >"$out/lsan.txt"
    export LSAN_OPTIONS=suppressions=$PWD/$out/lsan.txt:print_suppressions=0
    build asan $no_gpu $variants -Dbuildtype=debug -Doptimization=s -Db_sanitize=address,undefined -Db_lundef=false
    STRAND_TEST_SAMPLE=small multiplier=4 run_tests asan $suites
    unset ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS
}

part_static() {
    note "static, no malloc, here and on aarch64"
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
    build neon --cross-file "$out/aarch64.ini" -Dapps=false $no_gpu -Dwerror=true
    multiplier=4 run_tests neon --suite ops
}

part_installed() {
    note "the installed tree; a machine without nvcc"
    check install bash tests/embed/installed.sh "$out"
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
