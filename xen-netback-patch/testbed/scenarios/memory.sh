# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# What dom0 really spends on frames in custody, while the guest that they are for does not run, is within
# what the administrator allowed: with small frames, from another guest (whose pages are copied), with a guest
# that throws frames away, so that parts are delivered again.
total=16384
netback /xen-netback.ko vsnoop_total_kib=$total
guest g2 1 memory=256
on g2 'sysctl -q -w net.ipv4.tcp_rmem="4096 6000000 6291456"
  modprobe iptable_filter; modprobe xt_tcpudp; modprobe xt_statistic
  xen-load sink </dev/null >/dev/null 2>/run/sink.log &'
guest g3 1 memory=256
# Each frame by itself, as from a network card without GRO.
on g3 'ethtool -K eth0 tso off gso off >/dev/null; sysctl -q -w net.ipv4.tcp_wmem="4096 2000000 4194304"'
available() { awk '/^MemAvailable/ { print $2 }' /proc/meminfo; }
# spends CASE MSS [COMMAND]: transfers from g3 with segments of that size; prints the peak.
spends() {
  on g2 "ip route replace 10.0.0.0/24 dev eth0 src 10.0.0.2 advmss $2"
  offload g2 hold,engage=always
  [ "$3" ] && on g2 "$3"
  # The least of a few looks before, the least of many during.
  before=$(available)
  early=$(counter g2 vsnoop_early_acks)
  (
    on g3 "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
      xen-load send --to 10.0.0.2 --connections 1 --warm 0 --sizes 3M --repeat 1 --phase 0 --seed \$i --limit 120s 2>&1 &
    done; wait" >"/results/$1.jsonl"
    : >"/run/$1.end"
  ) &
  tries=0
  until [ "$(counter g2 vsnoop_early_acks)" -gt $((early + 100)) ] || [ $tries -gt 300 ]; do
    tries=$((tries + 1))
    usleep 10000
  done
  least=$before
  for round in 1 2 3; do
    xl pause g2
    for look in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      now=$(available)
      [ "$now" -lt "$least" ] && least=$now
      usleep 50000
    done
    say "$1: held $(counter g2 vsnoop_held) outstanding $(counter g2 vsnoop_outstanding) $((before - now)) KiB"
    xl unpause g2
    usleep 300000
  done
  ended "$1"
  [ "$3" ] && on g2 'xtables-legacy-multi iptables -F INPUT'
  settled g2
  say "$1: dom0 spent up to $((before - least)) KiB, $(counter g2 vsnoop_peak_held) bytes of them charged"
  # Beside the frames: the engine, netback's own queue of 512 KiB, what the page allocator keeps for each CPU.
  [ $((before - least)) -le $((total + 4096)) ] || fail "$1: dom0 spent $((before - least)) KiB of $total"
  offload g2 off
}
drops='xtables-legacy-multi iptables -A INPUT -p tcp --dport 5001 -m statistic --mode random --probability 0.02 -j DROP'
spends small 130
spends middle 536
spends large 1448
spends again 536 "$drops"
on g3 'ethtool -K eth0 gso on tso on >/dev/null'
spends super 1448
spends super-small 130
spends super-again 1448 "$drops"
