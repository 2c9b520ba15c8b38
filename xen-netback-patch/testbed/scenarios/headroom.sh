# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# What a frontend may write into xdp-headroom: every value around the sizes that count and some of all
# others, with frames of one slot and of many, under each policy. Refused or not, dom0 lives, frames that
# the guest's driver bears arrive, and a neighbour does not notice.
up
calm g2 g3
receiver g3
front=/local/domain/$(xl domid g2)/device/vif/0
on g9 'xen-load send --to 10.0.0.3 --connections 1 --warm 0 --sizes 50k --repeat 400 --phase 300ms 2>&1' \
  >/results/beside.jsonl &
beside=$!
# headroom VALUE: the guest asks for it; $had is what it gets: none, if it asked for too much.
headroom() {
  had=$1
  case $1 in x | -*) had=0 ;; esac
  [ "$had" -le 3584 ] || had=0
  xenstore-write "$front/xdp-headroom" "$1"
  xenstore-write "$front/state" 7
  awaits "$(vifpath g2)/state" 8
  xenstore-write "$front/state" 4
  usleep 3000
}
all="0 1 64 255 256 257 1024 2047 2048 2049 3000 3071 3072 3073 3500 3583 3584 3585 3600 3839 3840 3841 4000
  4031 4032 4064 4080 4090 4091 4092 4093 4094 4095 4096 4097 4098 4100 4352 5000 8191 8192 8193 12288 16383
  16384 20000 24576 28672 32766 32767 32768 65535 65536 65792 4294967295 4294971392 -1 x"
for policy in off ring,engage=always hold,engage=always; do
  offload g2 $policy
  for value in $all; do
    headroom $value
    for size in 1 1000 1400; do
      # The driver takes the headroom for the frame's place, and for a part of its length.
      [ $((2 * had + 42 + size)) -le 4096 ] || continue
      ping -c 1 -W 1 -s $size 10.0.0.2 >/dev/null || fail "headroom $value, $policy: no answer to $size bytes"
    done
    # Frames of up to 64 KB. What the guest makes of as many slots is its own affair.
    on g9 'xen-load send --to 10.0.0.2 --connections 1 --warm 0 --repeat 1 --sizes 200k --phase 0 --limit 100ms \
      >/dev/null 2>&1'
  done
  headroom 0
  offload g2 $policy
  on g9 'xen-load send --to 10.0.0.2 --connections 2 --sizes 1M --repeat 4 2>&1' >"/results/after-${policy%%,*}.jsonl"
  settled g2
  say "case after-${policy%%,*} ended"
  all="0 1 256 2048 3583 3584 3585 4095 4096 4097 32767 65535 65536 4294967295 x"
done
offload g2 off
kill $beside
