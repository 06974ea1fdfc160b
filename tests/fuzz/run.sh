#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for SECONDS on a copy of its corpus. Exits non-zero on a finding, whose input
# it keeps and names. Usage: tests/fuzz/run.sh SECONDS [TARGET...]
# STRAND_FUZZ_DIR: where to build and to keep the grown corpus from run to run; else a temporary folder.
set -euo pipefail

seconds=${1:?usage: run.sh SECONDS [TARGET...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work=${STRAND_FUZZ_DIR:-$(mktemp -d)}
targets=("$@")
[ ${#targets[@]} -gt 0 ] || for file in "$here"/fuzz_*.c; do
  name=$(basename "$file" .c)
  targets+=("${name#fuzz_}")
done

[ -e "$work/build/build.ninja" ] || CC=clang meson setup "$work/build" "$source" -Dfuzz=true -Dapps=false -Dvulkan=disabled -Dopencl=disabled -Dcuda=disabled >"$work/setup.log" 2>&1 || {
  cat "$work/setup.log" >&2
  exit 2
}
ninja -C "$work/build" "${targets[@]/#/tests/fuzz/fuzz-}" >"$work/build.log" || {
  cat "$work/build.log" >&2
  exit 2
}

found=0
for name in "${targets[@]}"; do
  mkdir -p "$work/corpus/$name" "$work/findings/$name"
  cp -n "$here/corpus/$name"/* "$work/corpus/$name/"
  options=(-max_total_time="$seconds" -artifact_prefix="$work/findings/$name/" -rss_limit_mb=4096 -timeout=20 -print_final_stats=1)
  [ ! -e "$here/$name.dict" ] || options+=(-dict="$here/$name.dict")
  echo "fuzz-$name: $seconds s"
  if ! "$work/build/tests/fuzz/fuzz-$name" "${options[@]}" "$work/corpus/$name" >"$work/$name.log" 2>&1; then
    found=1
    tail -n 40 "$work/$name.log"
    echo "fuzz-$name: FOUND SOMETHING, see $work/findings/$name and $work/$name.log"
  fi
  grep -E '^stat::number_of_executed_units|^stat::peak_rss' "$work/$name.log" || true
done

[ "$found" -ne 0 ] || [ -n "${STRAND_FUZZ_DIR:-}" ] || rm -rf "$work"
exit "$found"
