# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# The kernel's messages go to g2 (netconsole), by the bridge and g2's vif, with interrupts off: while its
# queue is full, in the middle of a stream, and while promises are made.
up
modprobe netconsole 2>/dev/null
mount -t configfs none /sys/kernel/config 2>/dev/null
target=/sys/kernel/config/netconsole/g2
mkdir $target || fail "no netconsole"
echo br0 >$target/dev_name
echo 10.0.0.1 >$target/local_ip
echo 10.0.0.2 >$target/remote_ip
echo 00:16:3e:00:00:02 >$target/remote_mac
echo 1 >$target/enabled || fail "netconsole does not start"
heard() { on g2 'set -- $(grep "^Udp: [0-9]" /proc/net/snmp); echo $(($2 + $3))'; }
talk() {
  i=0
  while [ $i -lt "$1" ]; do
    echo "<4>netpoll $i" >/dev/kmsg
    i=$((i + 1))
  done
}
offload g2 hold,engage=always
before=$(heard)
stream talked g2 --repeat 2
talk 300
ended talked
settled g2
[ "$(heard)" -gt $((before + 200)) ] || fail "of 300 messages $(($(heard) - before)) came"
stream talked-full g2 --repeat 2
xl pause g2
ping -c 12 -W 1 -s 60000 -i 0.02 10.0.0.2 >/dev/null
talk 100
xl unpause g2
ended talked-full
settled g2
offload g2 ring,engage=always
stream talked-ring g2 --repeat 2
talk 100
xl pause g2
talk 100
xl unpause g2
ended talked-ring
echo 0 >$target/enabled
offload g2 off
