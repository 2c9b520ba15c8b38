# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# The vif does not survive, or the guest comes back with another.
up

offload g2 hold,engage=always
stream saved g2 --limit 120s
xenstore-write "$(vifpath g2)/vsnoop/quiesce" 1
awaits "$(vifpath g2)/vsnoop-state" quiesced
xl save g2 /run/g2.save >/dev/null 2>&1 || fail "xl save"
xl restore /run/g2.save >/dev/null 2>&1 || fail "xl restore"
rm /run/g2.save
reached g2
offload g2 hold,engage=always
ended saved
settled g2

stream unbound g2 --limit 20s
echo "vif-$(xl domid g2)-0" >/sys/bus/xen-backend/drivers/vif/unbind
ended unbound
gone g2

guest g2 1 memory=256
receiver g2
busy g2
offload g2 hold,engage=always
stream detached g2 --limit 20s
xl network-detach g2 0 || fail "xl network-detach"
ended detached
xl destroy g2

guest g2 1 memory=256
receiver g2
busy g2
offload g2 hold,engage=always
stream destroyed g2 --limit 20s
xl destroy g2
ended destroyed

guest g2 1 memory=256
receiver g2
busy g2
offload g2 hold,engage=always
stream unloading g2
rmmod xen-netback 2>/dev/null && fail "rmmod with a guest attached"
ended unloading
settled g2

stream unloaded g2 --limit 20s
for device in /sys/bus/xen-backend/drivers/vif/vif-*; do
  echo "${device##*/}" >/sys/bus/xen-backend/drivers/vif/unbind
done
rmmod xen-netback || fail "rmmod with no vif left"
ended unloaded
gone g2 g3
netback /xen-netback.ko
guest g2 1
