# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# Two queues, dom0 with two virtual CPUs.
netback /xen-netback.ko
echo "g2 hold,engage=always" >/etc/vsnoop/xen.conf
vif_script=vif-vsnoop-plain
guest g2 2 memory=256 vcpus=2
awaits "$(vifpath g2)/vsnoop-state" hold
offload g2 off
receiver g2
sender
[ "$(ls -d "/sys/class/net/$(vif g2)/queues"/tx-* | wc -l)" = 2 ] || fail "the vif does not have two queues"
busy g2
recorded g2 queues
offload g2 hold,engage=always
stream queues g2 --connections 8 --sizes 4M --repeat 16
ended queues
settled g2
offload g2 off
kill $recorder
