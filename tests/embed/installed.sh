#!/usr/bin/env bash
# Installs to a fresh prefix and uses only what is there: header, library, pkg-config, plugins, built-in model, program, man
# page. installed.sh BUILD_FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
prefix=$out/prefix
rm -rf "$prefix" "$out/installed"
meson setup "$out/installed" "$here" --prefix "$prefix" -Dtests=false -Dbuildtype=release -Dnvcc_archs=ci
ninja -C "$out/installed"
meson install -C "$out/installed" --no-rebuild
rm -rf "$out/installed/backends" "$out/installed/models" # nothing of the build tree may be needed
cd /
pc=$(dirname "$(find "$prefix" -name strand.pc)")
lib=$(dirname "$(find "$prefix" -name libstrand.so)")
export PKG_CONFIG_PATH=$pc LD_LIBRARY_PATH=$lib
unset STRAND_BACKEND_PATH
cc "$here/docs/examples/score.c" $(pkg-config --cflags --libs strand) -lm -o "$out/score"
"$out/score"
test -f "$prefix/include/strand.h"
test -f "$prefix/include/strand_plugin.h"
test -f "$prefix/include/strand_ops.h"
test -f "$(find "$prefix" -name 'strand.1*')"
test "$("$prefix/bin/strand" --version | head -n 1)" = "strand $(pkg-config --modversion strand)"
printf '>a\nGATTACAGATTACAGGGATTACCA\n' | "$prefix/bin/strand" dna score -
"$prefix/bin/strand" backends
