# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# The backend disables a vif of several queues whose frontend has lied: no thread of it goes on running.
netback /xen-netback.ko
guest g2 1 memory=256 modules=/hostile-netfront.ko,xen-netfront options=acts=512,queues=2,linger=20000 \
  'cfg:vif=["bridge=br0,script=vif-plain,mac=00:16:3e:00:00:02","bridge=br0,script=vif-plain,mac=00:16:3e:00:00:42"]'
spent() { xen-cputime | sed 's/.*"0":\([0-9]*\).*/\1/'; }
tries=0
until dmesg | grep -q "fatal error; disabling device"; do
  tries=$((tries + 1))
  if [ $tries -gt 200 ]; then
    fail "the vif is not disabled"
    break
  fi
  usleep 50000
done
usleep 500000
before=$(spent)
sleep 4
spent=$((($(spent) - before) / 1000))
say "dom0 ran $spent us of 4 s"
[ $spent -lt 400000 ] || fail "threads of a disabled vif cost dom0 $spent us of 4 s"
on g2 'echo Y >/sys/module/hostile_netfront/parameters/paused'
xl destroy g2
say "case rogue ended"
