# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# A frontend that keeps to no rule, beside a guest with checked transfers. $policy, $seed and $seconds (of
# virtual time) are set before.
guest_loglevel=5
netback /xen-netback.ko max_queues=${queues:-8}
guest g2 1 memory=256 modules=/hostile-netfront.ko,xen-netfront \
  'cfg:vif=["bridge=br0,script=vif-plain,mac=00:16:3e:00:00:02","bridge=br0,script=vif-plain,mac=00:16:3e:00:00:42"]' \
  "options=seed=$seed"
guest g3 1
receiver g3
sender
d=$(xl domid g2)
path=/local/domain/0/backend/vif/$d/1
parameters=/sys/module/hostile_netfront/parameters
# It may be too busy to say.
did() { printf 'cat %s\nexit\n' "$parameters/$1" | timeout 10 nc 10.0.0.2 23; }
threads() { cat /proc/[0-9]*/comm | grep -c "^vif$d\.1"; }
available() {
  echo 3 >/proc/sys/vm/drop_caches
  awk '/^MemAvailable/ { print $2 }' /proc/meminfo
}
on g9 '/sbin/ip neigh add 10.0.0.66 lladdr 00:16:3e:00:00:42 dev eth0 nud permanent'
offload g3 hold,engage=always
xenstore-write "$path/vsnoop" "$policy"
# A vif that its frontend has given up is made anew, as an administrator would.
nurse() {
  until [ -e /run/over ]; do
    if ! [ -e "/sys/class/net/vif$d.1" ]; then
      xenstore-write "$path/state" 1
      tries=0
      until [ -e "/sys/class/net/vif$d.1" ] || [ $tries -gt 100 ]; do
        usleep 10000
        tries=$((tries + 1))
      done
      vif=vif$d.1 XENBUS_PATH=$path /etc/xen/scripts/vif-plain online 2>/dev/null
      echo anew >>/results/anew.txt
    fi
    [ "$(xenstore-read "$path/hotplug-status" 2>/dev/null)" = connected ] ||
      vif=vif$d.1 XENBUS_PATH=$path /etc/xen/scripts/vif-plain online 2>/dev/null
    usleep 300000
  done
}
peers() {
  until [ -e /run/over ]; do
    on g9 "timeout 2 nc -w 1 10.0.0.66 $1 </dev/zero >/dev/null 2>&1"
    usleep 50000
  done
}
wakes() {
  until [ -e /run/over ]; do
    cat "/sys/kernel/debug/xen-netback/vif$d.1/vsnoop_flows" >/dev/null 2>&1
    timeout 0.2 cat "/sys/kernel/debug/xen-netback/vif$d.1/vsnoop_log" >/dev/null 2>&1
    usleep 700000
  done
}
usleep 500000
: >/results/anew.txt
before=$(available)
nurse &
peers 5001 &
peers 5003 &
peers 5005 &
wakes &
early=0
i=0
on g9 "xen-load send --to 10.0.0.3 --connections 2 --warm 0 --sizes 100k --repeat $((seconds * 2)) --phase 500ms 2>&1" \
  >/results/beside.jsonl &
while [ $i -lt "$seconds" ]; do
  sleep 10
  i=$((i + 10))
  now=$(/sbin/ethtool -S "vif$d.1" 2>/dev/null | sed -n 's/^ *vsnoop_early_acks: //p')
  early=$((early + ${now:-0}))
  [ $((i % 30)) = 0 ] && say "hostile: $i s, $(did lives) lives"
done
on g2 "echo Y >$parameters/paused"
: >/run/over
wait
say "hostile: $(did lives) lives, $(did connected_lives) connected, $(did steps) steps, $(did segments) segments," \
  "$early early ACKs seen, $(wc -l </results/anew.txt) times made anew"
echo "{\"lives\":$(did lives),\"connected\":$(did connected_lives),\"segments\":$(did segments),\"early\":$early}" \
  >/results/hostile.json
sleep 3
offload g3 off
# One vif more than before may be connected or not; frames, engines and threads do not add up.
after=$(available)
say "hostile: dom0 had $before KiB before, has $after KiB now; $(threads) threads of the vif"
[ $after -gt $((before - 12288)) ] || fail "dom0 has grown by $((before - after)) KiB"
xl destroy g2
guest g4 1
say "case hostile ended"
