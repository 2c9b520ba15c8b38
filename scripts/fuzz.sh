#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Fuzzes each target for a while, beginning with its corpus; findings are kept in build/fuzz.
#   scripts/fuzz.sh SECONDS [TARGET]...      targets: parse edit engine pcap log
#                                            xenstore flows conf settings
# SECONDS are of CPU time: on a busy machine it takes longer, not less. COVERAGE=1: prints the
# covered lines of snoop-core afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: fuzz.sh SECONDS [TARGET]...}
shift
(($#)) || set -- parse edit engine pcap log xenstore flows conf settings
flags="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"
if [[ ${COVERAGE:-0} == 1 ]]; then flags+=" -fprofile-instr-generate -fcoverage-mapping"; fi
cmake -S . -B build/fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
  -DCMAKE_CXX_FLAGS="$flags" -DVSNOOP_FUZZ=ON >/dev/null
cmake --build build/fuzz --parallel "${JOBS:-$(nproc)}" --target "${@/#/fuzz-}"

# CPU time, in seconds, of all processes that this script has waited for.
children_seconds() {
  awk '{ print int(($16 + $17) / hertz) }' hertz="$(getconf CLK_TCK)" "/proc/$$/stat"
}

status=0
for target in "$@"; do
  found=build/fuzz/found-$target corpus=build/fuzz/corpus-$target
  mkdir -p "$found" "$corpus"
  seeds=("tests/fuzz/corpus/$target")
  if [[ $target == pcap ]]; then seeds+=(tests/captures); fi
  echo "== $target: $seconds s of CPU time"
  # libFuzzer counts wall-clock time: in parts of five minutes, until the CPU's time is reached. An
  # input that hangs is one that takes two minutes, which no busy machine makes of milliseconds.
  used=0 executions=0 part=0
  while ((part == 0 && used < seconds)); do
    part=$((seconds - used < 300 ? seconds - used : 300))
    before=$(children_seconds)
    LLVM_PROFILE_FILE=build/fuzz/$target.profraw "build/fuzz/tests/fuzz/fuzz-$target" \
      -max_total_time="$part" -print_final_stats=1 -rss_limit_mb=2048 -timeout=120 -max_len=8192 \
      -artifact_prefix="$found/" "$corpus" "${seeds[@]}" 2>"build/fuzz/$target.log" && part=0
    used=$((used + $(children_seconds) - before))
    ran=$(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$target.log" | tail -n 1)
    executions=$((executions + ${ran:-0}))
    echo "$used s of CPU time, $executions executions," \
      "$(sed -n 's/^.*DONE *\(cov: .* corp: [^ ]*\).*/\1/p' "build/fuzz/$target.log")"
  done
  if ((part)); then
    status=1
    grep -E 'SUMMARY|: .*: ' "build/fuzz/$target.log" | tail -n 4 || true
  fi
  if [[ ${COVERAGE:-0} == 1 ]]; then
    llvm-profdata merge -o "build/fuzz/$target.profdata" "build/fuzz/$target.profraw"
    llvm-cov report "build/fuzz/tests/fuzz/fuzz-$target" snoop-core \
      -instr-profile "build/fuzz/$target.profdata" | grep -E '^(Filename|TOTAL|.*\.cc)' || true
  fi
done
((status == 0)) || echo "fuzz.sh: findings in build/fuzz/found-*, what was said in build/fuzz/*.log" >&2
exit "$status"
