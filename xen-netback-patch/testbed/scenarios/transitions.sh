# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# Every way in which a frontend leaves one state for another while promises are open. Where the guest's
# driver knows of it (resume), it comes back; where states are written over its head, it does not.
netback /xen-netback.ko
guest g3 1
sender
busy g3
odd=/sys/module/odd_netfront/parameters
anew() {
  xl destroy g2 2>/dev/null
  xl pause g3
  guest g2 2 memory=256 vcpus=2 modules=/odd-netfront.ko
  xl unpause g3
  receiver g2
  busy g2
  offload g2 hold,engage=always
  front=/local/domain/$(xl domid g2)/device/vif/0
}
# back CASE COMMAND: on the guest's side, after which the frontend comes back.
back() {
  stream "$1" g2 --limit 60s
  on g2 "$2"
  ended "$1"
  if ! within 5 "$1: g2 does not come back" answers g2; then
    anew
    return
  fi
  awaits "$(vifpath g2)/vsnoop-state" hold
  settled g2
}
# lost CASE STATE...: states written over the guest's head, '-' for the key's removal. No guest runs while
# custody waits 30 s for a frontend that starts anew: that would only cost the emulator time.
lost() {
  case=$1
  shift
  stream "$case" g2 --limit 60s
  for state in "$@"; do
    case $state in
      -) xenstore-rm "$front/state" ;;
      *) xenstore-write "$front/state" "$state" ;;
    esac
    usleep 30000
  done
  xl pause g2
  xl pause g3
  ended "$case"
  xl unpause g3
  anew
}
anew
[ "$(ls -d "/sys/class/net/$(vif g2)/queues"/tx-* | wc -l)" = 2 ] || fail "the vif does not have two queues"
back resumed "echo 1 >$odd/resume"
back resumed-twice "echo 1 >$odd/resume; usleep 20000; echo 1 >$odd/resume"
back fewer-queues "echo 1 >$odd/max_queues; echo 1 >$odd/resume"
back more-queues "echo 2 >$odd/max_queues; echo 1 >$odd/resume"
/sbin/ip link set "$(vif g2)" mtu 1000
back smaller-mtu "ip link set eth0 mtu 1000; echo 1 >$odd/resume"
/sbin/ip link set "$(vif g2)" mtu 1500
back larger-mtu "ip link set eth0 mtu 1500; echo 1 >$odd/resume"
back fewer-features "echo Y >$odd/plain; echo 1 >$odd/resume"
back more-features "echo N >$odd/plain; echo 1 >$odd/resume"
back rebound '(usleep 100000; echo vif-0 >/sys/bus/xen/drivers/vif/unbind
  echo vif-0 >/sys/bus/xen/drivers/vif/bind
  until ip link set eth0 up; do usleep 10000; done
  ip addr add 10.0.0.2/24 dev eth0) </dev/null >/dev/null 2>&1 &'
lost closing 5
lost closing-twice 5 5 6 5 6
lost closing-and-back 5 4
lost closed 6
lost initialising 1
lost initialising-closing 1 5 6
lost initialised 1 3
lost vanished -
lost vanished-between 5 -
lost vanished-after-initialising 1 -
lost reconfiguring-closing 7 5
lost unheard-of 99
# Detached by the toolstack while it is closing, and ended while it comes back.
stream detached g2 --limit 30s
xenstore-write "$front/state" 5
xl network-detach g2 0 >/dev/null 2>&1
ended detached
anew
stream ended-while-back g2 --limit 30s
on g2 "(echo 1 >$odd/resume) </dev/null >/dev/null 2>&1 &"
xl destroy g2
ended ended-while-back
