# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# A guest ends in its own ways while promises are open.
up
# The guest hears nothing more of the stream: what is promised stays open until it ends.
deaf='xtables-legacy-multi iptables -A INPUT -p tcp --dport 5001 -j DROP'
filter='modprobe iptable_filter; modprobe xt_tcpudp'
on g2 "$filter"
anew() {
  # The sender knows before the toolstack has cleared up.
  within 20 "g2 is still there" absent g2 || xl destroy g2
  xl pause g3 # two that share a processor would cost the emulator twice the time
  guest g2 1 memory=256
  xl unpause g3
  receiver g2
  busy g2
  on g2 "$filter"
}
# ending CASE COMMAND: in the guest, with promises open. Its domain goes.
ending() {
  offload g2 hold,engage=always
  stream "$1" g2 --limit 20s --sizes 200M
  on g2 "$deaf; $2 </dev/null >/dev/null 2>&1 &"
  ended "$1"
}
ending powered-off 'poweroff -f'
anew
ending halted 'halt -f'
xl destroy g2 2>/dev/null
anew
offload g2 hold,engage=always
stream shut-down g2 --limit 20s --sizes 200M
on g2 "$deaf"
xl shutdown g2 || fail "xl shutdown"
ended shut-down
anew
ending rebooted 'reboot -f'
within 30 "g2 does not come back" answers g2
offload g2 hold,engage=always
receiver g2
busy g2
on g2 "$filter"
stream after-reboot g2
ended after-reboot
settled g2
# A crashed domain is kept (on_crash): its vif stays until the administrator ends it.
stream crashed g2 --limit 40s --sizes 200M
on g2 "$deaf; echo c >/proc/sysrq-trigger" &
sleep 4
xl destroy g2
ended crashed
sed -i '/sysrq: Trigger a crash/,$d' /var/log/xen/console/guest-g2.log # it was told to
[ "$(xenstore-list /local/domain/0/backend/vif)" = "$(xl domid g3)" ] ||
  fail "vifs are left of guests that are gone: $(xenstore-list /local/domain/0/backend/vif | tr '\n' ' ')"
