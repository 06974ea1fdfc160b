#!/bin/sh
# Sets up a fresh Debian or Ubuntu machine, builds, and scores DNA with the built-in model:  apps/try.sh [FILE.fa]
# Without a file it scores what the model itself generates.
set -eu
cd "$(dirname "$0")/.."
packages="gcc meson ninja-build pkg-config libhts-dev zlib1g-dev libpcre2-dev libutf8proc-dev libmicrohttpd-dev"
missing=
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok' || missing="$missing $p"
done
if [ -n "$missing" ]; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
fi
[ -f build/build.ninja ] || meson setup build -Dtests=false -Dbuildtype=release -Dnvcc_archs=ci >/dev/null
ninja -C build >/dev/null
strand=build/apps/strand
if [ $# -gt 0 ]; then
    exec $strand dna score "$@"
fi
$strand dna generate --prompt ATGGCCTTAAGC -n 600 --seed 1 >build/generated.fa
exec $strand dna score build/generated.fa
