# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# A frontend that comes back with more queues than its interface was made for: dom0's limit was raised since.
# It is connected as without vsnoop, and not promised for until it has as many as the interface.
netback /xen-netback.ko max_queues=1
guest g2 2 memory=256 vcpus=2 modules=/odd-netfront.ko
receiver g2
sender
busy g2
odd=/sys/module/odd_netfront/parameters
queues() { find "/sys/kernel/debug/xen-netback/$(vif g2)" -name 'io_ring_q*' | wc -l; }
# resume QUEUES: the guest comes back with so many.
resume() {
  xenstore-write "$(vifpath g2)/multi-queue-max-queues" "$1"
  on g2 "echo 1 >$odd/resume"
  within 10 "g2 does not come back with $1 queues" answers g2
  [ "$(queues)" = "$1" ] || fail "the frontend has $(queues) queues, not $1"
}
echo 2 >/sys/module/xen_netback/parameters/max_queues
offload g2 hold,engage=always
stream widened g2 --limit 60s
resume 2
ended widened
awaits "$(vifpath g2)/vsnoop-state" "error: frontend has more queues than the interface"
# As if there were no vsnoop; nor does it matter that the switch is turned.
on g9 'xen-load send --to 10.0.0.2 --connections 8 --sizes 1M --repeat 16 2>&1' >/results/not-promised.jsonl
for setting in off ring hold,engage=always; do
  xenstore-write "$(vifpath g2)/vsnoop" $setting
  usleep 300000
done
awaits "$(vifpath g2)/vsnoop-state" "error: frontend has more queues than the interface"
on g9 'xen-load send --to 10.0.0.2 --connections 8 --sizes 1M --repeat 16 2>&1' >/results/not-promised-again.jsonl
resume 1
awaits "$(vifpath g2)/vsnoop-state" hold
stream narrowed g2
ended narrowed
settled g2
# The interface that is made anew is wide enough.
echo vif-"$(xl domid g2)"-0 >/sys/bus/xen-backend/drivers/vif/unbind
gone g2
guest g2 2 memory=256 vcpus=2 modules=/odd-netfront.ko
receiver g2
[ "$(queues)" = 2 ] || fail "g2 has $(queues) queues, not 2"
offload g2 hold,engage=always
stream wide g2
ended wide
settled g2
offload g2 off
