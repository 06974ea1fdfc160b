#!/usr/bin/env bash
# peers.sh - installs the libraries that tests/bench/run compares with, as far as this machine can get them, into build-peers/ (not
# part of the repository) and by apt. Says for each what it has. Nothing in Strand needs any of them.
#
#   tests/bench/peers.sh [FOLDER]
#
#   OpenBLAS, FFTW    Debian's
#   FFTW with AVX-512 from Debian's source package, compiled here: the released package has no instructions newer than AVX
#   PyTorch           Debian's python3-torch
#   ONNX Runtime      from PyPI, in FOLDER/venv
#   VkFFT             Debian's libvkfft-dev: build with -Dvkfft=/usr/include/vkFFT.h for bench_vkfft_vulkan and bench_vkfft_opencl
#   ggml, llama.cpp   not installed here: build it as its own manual says, with shared libraries, and say where it is:
#                     STRAND_BENCH_GGML=.../libggml-cpu.so, or .../libggml-vulkan.so beside a GPU plugin (its kernels on the benchmarks' own data)
# FOLDER/env holds the variables that tests/bench/run takes; it reads the file by itself.
set -u
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../build-peers}
mkdir -p "$folder" && folder=$(cd "$folder" && pwd) || exit 1
: >"$folder/env.new"
have() { echo "have: $*"; }
lack() { echo "do without: $*"; }
log=$folder/log
: >"$log"
apt=apt-get
[ "$(id -u)" = 0 ] || apt="sudo -n apt-get"

# -- by apt
$apt update >>"$log" 2>&1
for package in libopenblas0-pthread libfftw3-single3 python3-numpy python3-torch python3-venv; do
    if nice $apt install -y --no-install-recommends "$package" >>"$log" 2>&1; then have "$package"; else lack "$package"; fi
done

# -- FFTW with every instruction set, from Debian's source package
fftw=$folder/fftw/lib/libfftw3f.so.3
if [ ! -e "$fftw" ]; then
    mkdir -p "$folder/src/lists/partial" "$folder/src/cache/archives/partial"
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # the machine's own sources with deb-src in place of deb, in lists of our own
    {
        sed -n 's/^deb \(.*debian.*\)/deb-src \1/p' /etc/apt/sources.list 2>/dev/null
        for f in /etc/apt/sources.list.d/*.sources; do [ -e "$f" ] && grep -q 'Components:.*main' "$f" && grep -v '^#' "$f" | sed 's/^Types:.*/Types: deb-src/' && echo; done
    } >"$folder/src/all"
    grep -q '^Types:' "$folder/src/all" && mv "$folder/src/all" "$folder/src/peers.sources" || mv "$folder/src/all" "$folder/src/peers.list"
    options=(-o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$folder/src" -o "Dir::State::lists=$folder/src/lists" -o "APT::Get::List-Cleanup=0")
    (
        cd "$folder/src" && apt-get "${options[@]}" update && apt-get "${options[@]}" source --download-only fftw3 &&
            rm -rf tree && mkdir tree && tar -xf fftw3_*.orig.tar.gz -C tree --strip-components=1 && cd tree &&
            ./configure --prefix="$folder/fftw" --enable-single --enable-shared --disable-static --disable-fortran --disable-doc \
                --enable-sse2 --enable-avx --enable-avx2 --enable-avx512 CFLAGS="-O3 -fomit-frame-pointer -fstrict-aliasing" &&
            nice -n 10 make -j1 && make install
    ) >>"$log" 2>&1 || true
fi
if [ -e "$fftw" ]; then
    have "FFTW with AVX-512: $fftw"
    echo "STRAND_BENCH_FFTW=$fftw" >>"$folder/env.new"
else
    lack "FFTW with AVX-512 ($codename's source package could not be had or compiled; see $log)"
fi

# -- ONNX Runtime
if [ ! -x "$folder/venv/bin/python" ]; then python3 -m venv "$folder/venv" >>"$log" 2>&1; fi
if "$folder/venv/bin/python" -m pip install -q numpy onnx onnxruntime >>"$log" 2>&1 && "$folder/venv/bin/python" -c 'import onnx, onnxruntime' 2>>"$log"; then
    have "ONNX Runtime $("$folder/venv/bin/python" -c 'import onnxruntime; print(onnxruntime.__version__)')"
    echo "STRAND_BENCH_ORT_PYTHON=$folder/venv/bin/python" >>"$folder/env.new"
else
    lack "ONNX Runtime (see $log)"
fi
for python in /usr/bin/python3 python3; do
    if "$python" -c 'import torch, numpy' 2>>"$log"; then
        have "PyTorch $("$python" -c 'import torch; print(torch.__version__)')"
        echo "STRAND_BENCH_TORCH_PYTHON=$python" >>"$folder/env.new"
        break
    fi
done
if [ -n "${STRAND_BENCH_GGML:-}" ] && [ -e "$STRAND_BENCH_GGML" ]; then
    have "ggml: $STRAND_BENCH_GGML"
    echo "STRAND_BENCH_GGML=$STRAND_BENCH_GGML" >>"$folder/env.new"
else
    lack "ggml (set STRAND_BENCH_GGML)"
fi
mv "$folder/env.new" "$folder/env"
