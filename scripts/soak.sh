#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The promise oracle for a while, one process per processor, each with seeds of its own; then live
# connections in churn, as root. Ends with the figures, or with the first failure.
#   scripts/soak.sh SEED MINUTES
# CONNECTIONS=N: live connections (100000; 0: none). A failing scenario's script: build/soak/*.pkt.
set -euo pipefail
cd "$(dirname "$0")/.."

seed=${1:?usage: soak.sh SEED MINUTES} minutes=${2:?usage: soak.sh SEED MINUTES}
connections=${CONNECTIONS:-100000}
scripts/build.sh release
mkdir -p build/soak

processes=()
for ((i = 0; i < ${JOBS:-$(nproc)}; ++i)); do
  build/release/tests/oracle/oracle --seed $((seed + 1000000 * i)) --minutes "$minutes" \
    --script "build/soak/failure-$i.pkt" >"build/soak/oracle-$i.log" 2>&1 &
  processes+=($!)
done
trap 'kill "${processes[@]}" 2>/dev/null || true' EXIT
echo "soak: ${#processes[@]} promise oracles for $minutes minutes; build/soak/oracle-*.log"
status=0
for i in "${!processes[@]}"; do
  wait "${processes[i]}" || status=1
  tr '\r' '\n' <"build/soak/oracle-$i.log" | grep -A 40 -E '^oracle: (seed|[0-9]+ scenarios \(seed)' || true
done
trap - EXIT
((status == 0)) || exit 1

if ((connections)); then
  echo "soak: $connections live connections"
  VSNOOP_CHURN=$connections scripts/as-root.sh tests/live/churn_test.py build/release/tools/vsnoop \
    build/release/tools/vsnoop-load churn
fi
