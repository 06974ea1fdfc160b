#!/usr/bin/env bash
# Installs to a fresh prefix and uses only what is there: header, library, pkg-config, plugins, built-in model, program, man
# page. installed.sh FOLDER [BUILT]: builds afresh in FOLDER/installed for FOLDER/prefix, or installs BUILT, a build for that prefix.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
prefix=$out/prefix
rm -rf "$prefix"
if [ -n "${2:-}" ]; then
    built=$(cd "$2" && pwd)
    [ "$(meson introspect "$built" --buildoptions | python3 -c 'import json, sys; print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')" = "$prefix" ] || {
        echo "$built is not for $prefix" >&2
        exit 1
    }
else
    built=$out/installed
    rm -rf "$built"
    meson setup "$built" "$here" --prefix "$prefix" -Dtests=false -Dbuildtype=release -Dnvcc_archs=ci
fi
ninja -C "$built"
meson install -C "$built" --no-rebuild
cd /
rm -rf "$built.away" # of a run that was killed
trap 'mv -T "$built.away" "$built"' EXIT # nothing of the build tree may be needed
mv -T "$built" "$built.away"
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
