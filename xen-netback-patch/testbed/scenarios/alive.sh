# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# The vif survives.
up

recorded g2 alive
offload g2 hold,engage=always
stream paused g2
xl pause g2
usleep 700000
xl unpause g2
ended paused
# Longer than a packet may wait in netback's own queue (10 s).
stream paused-long g2
xl pause g2
xl pause g3
sleep 12
xl unpause g3
xl unpause g2
ended paused-long
settled g2

stream switched-off g2
echo N >/sys/module/xen_netback/parameters/vsnoop
awaits "$(vifpath g2)/vsnoop-state" off
usleep 200000
echo Y >/sys/module/xen_netback/parameters/vsnoop
awaits "$(vifpath g2)/vsnoop-state" hold
ended switched-off
stream toggled g2
for setting in off hold,engage=always ring,engage=always hold,engage=always off hold,engage=always; do
  xenstore-write "$(vifpath g2)/vsnoop" $setting
  usleep 150000
done
ended toggled
settled g2

stream quiesced g2
xenstore-write "$(vifpath g2)/vsnoop/quiesce" 1
awaits "$(vifpath g2)/vsnoop-state" quiesced
settled g2
xenstore-write "$(vifpath g2)/vsnoop/quiesce" 0
awaits "$(vifpath g2)/vsnoop-state" hold
ended quiesced

on g2 'modprobe iptable_filter; modprobe xt_tcpudp; modprobe xt_statistic
  xtables-legacy-multi iptables -A INPUT -p tcp --dport 5001 -m statistic --mode random --probability 0.02 -j DROP'
stream guest-drops g2
ended guest-drops
on g2 'xtables-legacy-multi iptables -F INPUT'
settled g2

early=$(counter g2 vsnoop_early_acks)
on g9 'xen-load send --to fd00::2 --connections 4 --sizes 4M --repeat 8 --phase 30ms 2>&1' >/results/ipv6.jsonl
[ "$(counter g2 vsnoop_early_acks)" != "$early" ] || fail "ipv6: no early ACKs"
for one in g2 g9; do
  on $one "modprobe 8021q 2>/dev/null; ip link add link eth0 name vlan7 type vlan id 7
    ip addr add 10.7.0.${one#g}/24 dev vlan7; ip link set vlan7 up"
done
early=$(counter g2 vsnoop_early_acks)
on g9 'xen-load send --to 10.7.0.2 --connections 4 --sizes 4M --repeat 8 --phase 30ms 2>&1' >/results/vlan.jsonl
[ "$(counter g2 vsnoop_early_acks)" != "$early" ] || fail "vlan: no early ACKs"
on g3 'xen-load send --to 10.0.0.2 --connections 4 --sizes 4M --repeat 8 --phase 30ms 2>&1' >/results/guest-to-guest.jsonl
on g9 'ethtool -K eth0 tx off gso off tso off sg off' >/dev/null
stream no-offloads g2
ended no-offloads
on g9 'ethtool -K eth0 tx on sg on tso on gso on' >/dev/null
offload g2 off
kill $recorder
settled g2
