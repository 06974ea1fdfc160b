#!/bin/sh
# The symbols that libstrand exports are the committed list, no more and no less: exported.sh LIBRARY LIST
set -eu
nm -D --defined-only "$1" | awk '$2 ~ /[TDBRVW]/ {print $3}' | LC_ALL=C sort | diff "$2" - || {
    echo "exported symbols differ from $2 (< expected, > found)" >&2
    exit 1
}
