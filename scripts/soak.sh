#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The promise oracle for a while, then the differential one, one process per processor; then live
# connections in churn, as root. Every second half begins at SEED, the other at the date and time, so
# that each soak sees scenarios that none has seen. Ends with the figures, or with the first failure.
#   scripts/soak.sh SEED MINUTES
# PAIRS=N: scenarios of the differential oracle (1000000). CONNECTIONS=N: live connections (100000;
# 0: none). A failing scenario's script: build/soak/*.pkt, *.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

seed=${1:?usage: soak.sh SEED MINUTES} minutes=${2:?usage: soak.sh SEED MINUTES}
pairs=${PAIRS:-1000000} connections=${CONNECTIONS:-100000} jobs=${JOBS:-$(nproc)}
today=$(date +%y%m%d%H%M)
oracles=build/release/tests/oracle
scripts/build.sh release
mkdir -p build/soak
rm -f build/soak/*.log

# soak I: what one processor does.
soak() {
  local i=$1 first
  for first in "$seed" "$today"; do
    first=$((first + 1000000 * i))
    "$oracles/oracle" --seed "$first" --minutes $(((minutes + 1) / 2)) \
      --script "build/soak/failure-$i-$first.pkt" || return
    "$oracles/differential" --seed "$first" --scenarios $((pairs / jobs / 2)) \
      --script "build/soak/worse-$i-$first.txt" || return
  done
}

processes=()
for ((i = 0; i < jobs; ++i)); do
  soak "$i" >"build/soak/oracle-$i.log" 2>&1 &
  processes+=($!)
done
trap 'kill "${processes[@]}" 2>/dev/null || true' EXIT
echo "soak: $jobs processes: promise oracle for $minutes minutes, $pairs pairs of the differential" \
  "one, from $seed and from $today; build/soak/oracle-*.log"
status=0
for i in "${!processes[@]}"; do
  wait "${processes[i]}" || status=1
  tr '\r' '\n' <"build/soak/oracle-$i.log" |
    grep -A 40 -E '^oracle: (seed|[0-9]+ scenarios \(seed)|^differential: (world|known|[0-9]+ pairs)' || true
done
trap - EXIT
((status == 0)) || exit 1

if ((connections)); then
  echo "soak: $connections live connections"
  VSNOOP_CHURN=$connections scripts/as-root.sh tests/live/churn_test.py build/release/tools/vsnoop \
    build/release/tools/vsnoop-load churn
fi
