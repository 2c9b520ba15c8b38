#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# What snoop-core decided in a simulation it decides again in `vsnoop replay --log`.
#   decision-log.sh VSNOOP-TRANSFER VSNOOP
set -euo pipefail

transfer=$1 vsnoop=$2
if [[ ! -x $vsnoop ]]; then
  echo "decision-log.sh: $vsnoop is not there: build it first (make build)" >&2
  exit 1
fi
log=$(mktemp)
trap 'rm -f "$log" "$log.wrong"' EXIT

for setting in \
  "--architectures=hold --vmsList=3 --guestKinds=io --connections=fresh" \
  "--architectures=hold --vmsList=3 --guestKinds=busy --loss=0.01 --reorder=0.01" \
  "--architectures=ring --vmsList=3 --guestKinds=io"; do
  # shellcheck disable=SC2086
  "$transfer" $setting --sizes=1000000 --repeats=1 --csv=/dev/null \
    --ns3::SnoopEngine::LogFile="$log" --ns3::SnoopEngine::EarlySack=true
  echo "$setting"
  "$vsnoop" replay --log "$log"
done

# A log in which the verdict on one frame is another one must be found out: the digest of the
# first record of a peer's frame (type 3) that is in the middle.
/usr/bin/python3 - "$log" "$log.wrong" <<'PYTHON'
import struct
import sys
data = bytearray(open(sys.argv[1], "rb").read())
at, peers = 0, []
while at < len(data):
    kind, _, length = struct.unpack_from("<BBH", data, at)
    if kind == 3:
        peers.append(at + 4 + 8 + 2 + 1 + 4 + 4)  # time, guest, checksum, wire, memory
    at += 4 + length
data[peers[len(peers) // 2]] ^= 1
open(sys.argv[2], "wb").write(data)
PYTHON
if "$vsnoop" replay --log "$log.wrong" >/dev/null 2>&1; then
  echo "decision-log.sh: a changed verdict was not found" >&2
  exit 1
fi
