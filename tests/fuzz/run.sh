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

# One target for SECONDS; what it has to say goes to a file, so that two can run beside each other.
fuzz_one() {
  local name=$1 options
  mkdir -p "$work/corpus/$name" "$work/findings/$name"
  cp -n "$here/corpus/$name"/* "$work/corpus/$name/"
  options=(-max_total_time="$seconds" -artifact_prefix="$work/findings/$name/" -rss_limit_mb=4096 -timeout=20 -print_final_stats=1)
  [ ! -e "$here/$name.dict" ] || options+=(-dict="$here/$name.dict")
  echo "fuzz-$name: $seconds s"
  rm -f "$work/$name.found"
  if ! "$work/build/tests/fuzz/fuzz-$name" "${options[@]}" "$work/corpus/$name" >"$work/$name.log" 2>&1; then
    touch "$work/$name.found"
    tail -n 40 "$work/$name.log"
    echo "fuzz-$name: FOUND SOMETHING, see $work/findings/$name and $work/$name.log"
  fi
  grep -E '^stat::number_of_executed_units|^stat::peak_rss' "$work/$name.log" || true
}

# As many at a time as there are processors, two at most.
cores=$(nproc)
for name in "${targets[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge $((cores < 2 ? 1 : 2)) ]; do wait -n || true; done
  fuzz_one "$name" >"$work/$name.said" 2>&1 &
done
wait
found=0
for name in "${targets[@]}"; do
  cat "$work/$name.said"
  grep -q '^stat::number_of_executed_units' "$work/$name.said" && [ ! -e "$work/$name.found" ] || found=1
done

[ "$found" -ne 0 ] || [ -n "${STRAND_FUZZ_DIR:-}" ] || rm -rf "$work"
exit "$found"
