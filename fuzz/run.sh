#!/usr/bin/env bash
# Runs the fuzz targets, as many at once as there are cores, each from its seeds, and fails on the
# first finding.
#
#   fuzz/run.sh [RUNS [TARGET]]    RUNS executions a target, default 20000; only TARGET if given
#
# FUZZ_SECONDS ends each target after that time, however few its runs were by then.
# Builds in build/fuzz (preset "fuzz": ASan, UBSan). What a run finds new is kept in
# build/fuzz/corpus, what breaks in build/fuzz/findings. FUZZ_SEED changes the random numbers.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
runs=${1:-20000}
only=${2:-}
build=$root/build/fuzz

cmake -S "$root" --preset fuzz --log-level=WARNING > /dev/null
cmake --build "$build" --target "${only:-fuzzers}" -j "${ZIPLLM_JOBS:-$(nproc)}" > "$build/fuzzers.log" ||
  { cat "$build/fuzzers.log" >&2; exit 1; }
mkdir -p "$build/findings"

export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=0:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

# Fuzzes one target and says how it went.
fuzz() {
  local target=$1 executions coverage start=$SECONDS
  local seeds=$root/fuzz/corpus/$target found=$build/corpus/$target log=$build/findings/$target.log
  mkdir -p "$found"
  local args=(-runs="$runs" -seed="${FUZZ_SEED:-1}" -timeout=20 -rss_limit_mb=2048
              -print_final_stats=1 -max_total_time="${FUZZ_SECONDS:-0}"
              -artifact_prefix="$build/findings/$target-")
  [[ -f $root/fuzz/$target.dict ]] && args+=(-dict="$root/fuzz/$target.dict")
  # New inputs go to the first folder.
  if ! "$build/fuzz/$target" "${args[@]}" "$found" $([[ -d $seeds ]] && echo "$seeds") > "$log" 2>&1; then
    tail -n 60 "$log" >&2
    echo "$target: FINDING after $((SECONDS - start)) s, see $log" >&2
    return 255  # xargs starts no other
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -n 1)
  echo "$target: $executions executions, ${coverage:-cov: 0} in $((SECONDS - start)) s, no finding"
}
export -f fuzz
export root build runs

basename -s .cc "$root"/fuzz/${only:-*_fuzzer}.cc |
  xargs -P "${ZIPLLM_JOBS:-$(nproc)}" -I {} bash -c 'fuzz {}'
