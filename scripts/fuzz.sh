#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Fuzzes each target for a while, beginning with its corpus; findings are kept in build/fuzz.
#   scripts/fuzz.sh SECONDS [TARGET]...      targets: parse edit engine pcap log
# COVERAGE=1: prints the covered lines of snoop-core afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: fuzz.sh SECONDS [TARGET]...}
shift
(($#)) || set -- parse edit engine pcap log
flags="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"
if [[ ${COVERAGE:-0} == 1 ]]; then flags+=" -fprofile-instr-generate -fcoverage-mapping"; fi
cmake -S . -B build/fuzz -G Ninja -DCMAKE_C_COMPILER=clang-14 -DCMAKE_CXX_COMPILER=clang++-14 \
  -DCMAKE_CXX_FLAGS="$flags" -DVSNOOP_FUZZ=ON >/dev/null
cmake --build build/fuzz --parallel "${JOBS:-$(nproc)}" --target "${@/#/fuzz-}"

status=0
for target in "$@"; do
  found=build/fuzz/found-$target corpus=build/fuzz/corpus-$target
  mkdir -p "$found" "$corpus"
  seeds=("tests/fuzz/corpus/$target")
  if [[ $target == pcap ]]; then seeds+=(tests/captures); fi
  echo "== $target: $seconds s"
  LLVM_PROFILE_FILE=build/fuzz/$target.profraw "build/fuzz/tests/fuzz/fuzz-$target" \
    -max_total_time="$seconds" -print_final_stats=1 -rss_limit_mb=2048 -timeout=10 -max_len=8192 \
    -artifact_prefix="$found/" "$corpus" "${seeds[@]}" 2>"build/fuzz/$target.log" || status=1
  grep -E 'SUMMARY|: .*: |^stat::(number_of_executed|peak)' "build/fuzz/$target.log" | tail -n 4
  sed -n 's/^.*DONE *\(cov: .* corp: [^ ]*\).*/\1/p' "build/fuzz/$target.log"
  if [[ ${COVERAGE:-0} == 1 ]]; then
    llvm-profdata-14 merge -o "build/fuzz/$target.profdata" "build/fuzz/$target.profraw"
    llvm-cov-14 report "build/fuzz/tests/fuzz/fuzz-$target" snoop-core \
      -instr-profile "build/fuzz/$target.profdata" | grep -E '^(Filename|TOTAL|.*\.cc)' || true
  fi
done
((status == 0)) || echo "fuzz.sh: findings in build/fuzz/found-*, what was said in build/fuzz/*.log" >&2
exit "$status"
