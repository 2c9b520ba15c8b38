# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# Guests whose network drivers give trouble.
netback /xen-netback.ko
guest g2 1 memory=256 modules=/odd-netfront.ko
receiver g2
guest g3 1
sender
busy g2 g3
odd=/sys/module/odd_netfront/parameters
recorded g2 odd
offload g2 hold,engage=always
on g2 "echo 20 >$odd/rx_slots"
stream small-ring g2
ended small-ring
settled g2
on g2 "echo 256 >$odd/rx_slots"

again=$(counter g2 vsnoop_redelivered_frames)
on g2 "echo 97 >$odd/rx_spoil"
stream bad-grants g2
ended bad-grants
[ "$(counter g2 vsnoop_redelivered_frames)" != "$again" ] || fail "bad-grants: nothing was delivered again"
on g2 "echo 0 >$odd/rx_spoil"
settled g2
offload g2 ring,engage=always
on g2 "echo 97 >$odd/rx_spoil"
stream bad-grants-ring g2
ended bad-grants-ring
on g2 "echo 0 >$odd/rx_spoil"
settled g2

# The frontend goes and comes back.
offload g2 hold,engage=always
stream reconnected g2 --limit 120s --repeat 4
on g2 '(usleep 300000; echo vif-0 >/sys/bus/xen/drivers/vif/unbind
  echo vif-0 >/sys/bus/xen/drivers/vif/bind
  until ip link set eth0 up; do usleep 10000; done
  ip addr add 10.0.0.2/24 dev eth0) </dev/null >/dev/null 2>&1 &'
ended reconnected
reached g2
awaits "$(vifpath g2)/vsnoop-state" hold
stream after-reconnect g2
ended after-reconnect
settled g2
offload g2 off
kill $recorder
