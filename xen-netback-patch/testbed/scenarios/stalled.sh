# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# One of two queues stands still in the guest: what comes for the other goes on.
netback /xen-netback.ko
guest g2 2 memory=256 vcpus=2 modules=/odd-netfront.ko
receiver g2
sender
odd=/sys/module/odd_netfront/parameters
[ "$(ls -d "/sys/class/net/$(vif g2)/queues"/tx-* | wc -l)" = 2 ] || fail "the vif does not have two queues"
# Connections that are there before, one for each process; half of them come by each queue.
connections="1 2 3 4 5 6 7 8 9 10 11 12"
offload g2 hold,engage=always
for i in $connections; do
  on g9 "xen-load send --to 10.0.0.2 --connections 1 --warm 100k --sizes 400k --repeat 8 --phase 400ms --seed $i 2>&1" \
    >"/results/stalled-$i.jsonl" &
done
sleep 1
on g2 "(echo 0 >$odd/stalled; sleep 8; echo -1 >$odd/stalled) </dev/null >/dev/null 2>&1 &"
sleep 1
for i in $connections; do wc -l <"/results/stalled-$i.jsonl" >"/run/before-$i"; done
sleep 4
moved=0
for i in $connections; do
  [ "$(wc -l <"/results/stalled-$i.jsonl")" -gt "$(cat "/run/before-$i")" ] && moved=$((moved + 1))
done
say "$moved of 12 connections went on while one queue stood still"
# Of a process both connections, data and reports, have to come by the other queue: about a quarter of them.
[ $moved -ge 1 ] || fail "a queue that stands still keeps the other from going on"
[ $moved -lt 12 ] || fail "no queue stood still"
wait
settled g2
say "case stalled ended"
