#!/bin/sh
# Each public header compiles alone, warning-free, as C99 and as C++17: header.sh FOLDER
set -eu
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for header in strand.h strand_ops.h strand_plugin.h; do
    for compiler in gcc clang; do
        command -v "$compiler" >/dev/null || { echo "no $compiler here: skipped for $header"; continue; }
        "$compiler" -x c -std=c99 -pedantic -Wall -Wextra -Werror -Wno-pragma-once-outside-header -Wno-unused-function -c "$1/$header" -o "$out"
        "$compiler" -x c++ -std=c++17 -pedantic -Wall -Wextra -Werror -Wno-pragma-once-outside-header -Wno-unused-function -c "$1/$header" -o "$out"
    done
done
