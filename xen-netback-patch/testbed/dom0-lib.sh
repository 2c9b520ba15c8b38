# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034
# What scenarios in dom0 are written with. Guests are named g2, g3, ... after the last byte of their
# address 10.0.0.N. What a scenario prints in a line "== FAILED: ..." makes the whole boot fail.

say() { echo "== $*"; }
fail() { say "FAILED: $*"; }

# netback [FILE.ko [PARAMETER...]]: loads it and makes the bridge; without a file the kernel
# package's own module.
netback() {
  if [ -n "$1" ]; then insmod "$@"; else modprobe xen-netback; fi || fail "insmod $*"
  modprobe bridge
  [ -e /sys/class/net/br0 ] && return
  /sbin/ip link add br0 type bridge stp_state 0 mcast_snooping 0
  /sbin/ip addr add 10.0.0.1/24 dev br0
  echo 0 >/proc/sys/net/ipv6/conf/br0/accept_dad
  /sbin/ip link set br0 up
  /sbin/ip -6 addr add fd00::1/64 dev br0 nodad
}

# guest NAME PCPU [WORD...]: makes it on that physical CPU and waits until it answers.
#   memory=MB vcpus=N   modules=A,B options=KEY=VALUE,... (of a module named by its path)
#   sysctl=KEY:VALUE;...   cfg:LINE (of its xl configuration)
#   vif:KEY=VALUE (of its vif); other words go to its kernel's command line.
guest() {
  name=$1 pcpu=$2
  shift 2
  n=${name#g} extra="" vif="" file=/run/$name.cfg memory=128 vcpus=1
  : >"$file"
  for word in "$@"; do
    case $word in
      cfg:*) echo "${word#cfg:}" >>"$file" ;;
      vif:*) vif="$vif,${word#vif:}" ;;
      memory=*) memory=${word#memory=} ;;
      vcpus=*) vcpus=${word#vcpus=} ;;
      modules=* | options=* | sysctl=*) extra="$extra vs.$word" ;;
      *) extra="$extra $word" ;;
    esac
  done
  cat >>"$file" <<EOT
name="$name"
type="pv"
kernel="/boot/vmlinux"
ramdisk="/boot/guest.cpio"
memory=$memory
vcpus=$vcpus
cpus="$pcpu"
tsc_mode="native"
on_crash="preserve"
extra="console=hvc0 loglevel=${guest_loglevel:-5} mitigations=off tsc=nowatchdog vs.ip=10.0.0.$n$extra"
EOT
  grep -q ^vif= "$file" || printf 'vif=["bridge=br0,script=%s,mac=00:16:3e:00:00:%02x%s"]\n' \
    "${vif_script:-vif-plain}" "$n" "$vif" >>"$file"
  xl create -q "$file" >/run/xl.out 2>&1 || fail "xl create $name: $(tail -n 1 /run/xl.out)"
  reached "$name"
}

# reached NAME: waits until it answers pings.
reached() {
  pings=0
  until ping -c 1 -W 1 "10.0.0.${1#g}" >/dev/null 2>&1; do
    pings=$((pings + 1))
    if [ $pings -gt 60 ]; then
      fail "$1 does not answer"
      return 1
    fi
    if ! xl list "$1" 2>/dev/null | tail -n 1 | grep -q ' [r-][b-]---* '; then
      fail "$1 is gone"
      cat "/var/log/xen/console/guest-$1.log"
      return 1
    fi
  done
}

# sender: g9, a network namespace of dom0 on the bridge.
sender() {
  modprobe veth
  /sbin/ip netns add g9
  /sbin/ip link add g9 type veth peer name eth0 netns g9
  /sbin/ip link set g9 master br0 up
  on g9 'echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; /sbin/ip link set lo up; /sbin/ip link set eth0 up
    /sbin/ip addr add 10.0.0.9/24 dev eth0; /sbin/ip -6 addr add fd00::9/64 dev eth0 nodad'
  sender_memory
}

# wire MBPS: the rate at which the sender's frames come to dom0; 0: as fast as dom0 is.
wire() {
  on g9 '/sbin/tc qdisc del dev eth0 root 2>/dev/null'
  [ "$1" = 0 ] && return
  modprobe sch_tbf
  on g9 "/sbin/tc qdisc add dev eth0 root tbf rate ${1}mbit burst 128k latency 100ms" || fail "wire $1"
}

# card_sender [WORD...]: g9 is a guest on physical CPU 0, with a network card of its own, wired to dom0's
# eth0, which is in the bridge. What it sends comes to dom0 as from another machine.
card_sender() {
  modprobe xen-pciback
  xl pci-assignable-add 00:11.0 >/dev/null || fail "00:11.0 cannot be given away"
  modprobe e1000e
  # The wire between the cards has no rate: bursts must find room.
  /sbin/ethtool -G eth0 rx 4096
  /sbin/ip link set eth0 master br0 up
  guest g9 0 'cfg:pci=["00:11.0,permissive=1"]' 'cfg:vif=[]' modules=xen-pcifront,e1000e memory=256 "$@"
  sender_memory
}

# As on a machine with more memory.
sender_memory() {
  on g9 'sysctl -q -w net.ipv4.tcp_wmem="4096 16384 4194304" net.ipv4.tcp_rmem="4096 131072 6291456"'
}

# receiver NAME: starts the sink in it.
receiver() {
  on "$1" 'sysctl -q -w net.ipv4.tcp_rmem="4096 131072 6291456"
    xen-load sink </dev/null >/dev/null 2>/run/sink.log &'
}

# on NAME COMMAND...: runs it in a guest's shell, prints what it prints.
on() {
  if [ -e "/run/netns/$1" ]; then
    namespace=$1
    shift
    /sbin/ip netns exec "$namespace" /bin/sh -c "$*" </dev/null
    return
  fi
  address=10.0.0.${1#g}
  shift
  printf '%s\nexit\n' "$*" | nc "$address" 23
}

# busy NAME..., calm NAME...: starts or stops a loop that keeps a guest's virtual CPU busy. It gives
# way to whatever else the guest has to do.
busy() {
  for one in "$@"; do
    on "$one" 'xen-load busy </dev/null >/dev/null 2>&1 & echo $! >/run/busy'
  done
}
calm() { for one in "$@"; do on "$one" 'kill $(cat /run/busy)'; done; }

# vif NAME: its (first) vif in dom0. vifpath NAME: the vif's backend folder in xenstore.
vif() { echo "vif$(xl domid "$1").0"; }
vifpath() { echo "/local/domain/0/backend/vif/$(xl domid "$1")/0"; }

# offload NAME SETTING: off, ring, hold,... and waits until the module says so.
offload() {
  at=$(vifpath "$1")
  # The unpatched module has no such switch; it is always off.
  if [ "$2" = off ] && ! xenstore-exists "$at/vsnoop-state"; then return; fi
  xenstore-write "$at/vsnoop" "$2"
  awaits "$at/vsnoop-state" "${2%%,*}"
}

# awaits KEY VALUE: waits until a key of xenstore has a value.
awaits() {
  tries=0
  until [ "$(xenstore-read "$1" 2>/dev/null)" = "$2" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 500 ]; then
      fail "$1 is '$(xenstore-read "$1" 2>&1)', not '$2'"
      return 1
    fi
    usleep 10000
  done
}

# within SECONDS WHAT COMMAND...: fails, with WHAT, unless the command succeeds in time; asks every 50 ms.
within() {
  looks=$(($1 * 20)) what=$2
  shift 2
  until "$@"; do
    looks=$((looks - 1))
    if [ $looks -lt 0 ]; then
      fail "$what"
      return 1
    fi
    usleep 50000
  done
}
# over PID: that process has ended. absent NAME: there is no such guest. answers NAME: to one ping.
over() { ! kill -0 "$1" 2>/dev/null; }
absent() { ! xl domid "$1" >/dev/null 2>&1; }
answers() { ping -c 1 -W 1 "10.0.0.${1#g}" >/dev/null 2>&1; }

# cell ID RECEIVER WORD...: one series of transfers from g9, as xen-load's words say.
cell() {
  id=$1 to=$2
  shift 2
  say "cell $id"
  /sbin/ethtool -S "$(vif "$to")" >"/results/$id.before"
  xen-cputime >"/results/$id.cpu"
  on g9 "xen-load send --to 10.0.0.${to#g} $* 2>&1" >"/results/$id.jsonl"
  xen-cputime >>"/results/$id.cpu"
  /sbin/ethtool -S "$(vif "$to")" >"/results/$id.after"
  say "done $id"
}

# counter NAME COUNTER: what `ethtool -S` says of its vif.
counter() { /sbin/ethtool -S "$(vif "$1")" | sed -n "s/^ *$2: //p"; }

# stream CASE GUEST [WORD...]: one long transfer from g9 in the background; returns when early ACKs flow.
stream() {
  case=$1 to=$2
  shift 2
  early=$(counter "$to" vsnoop_early_acks)
  (
    on g9 "xen-load send --to 10.0.0.${to#g} --connections 1 --warm 0 --repeat 1 --sizes 40M --phase 0 $* 2>&1" \
      >"/results/$case.jsonl"
    : >"/run/$case.end"
  ) &
  tries=0
  while [ "$(counter "$to" vsnoop_early_acks)" = "$early" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 500 ]; then
      fail "$case: no early ACKs"
      break
    fi
    usleep 10000
  done
  usleep 50000
}

# ended CASE: waits for the end of a stream.
ended() {
  tries=0
  until [ -e "/run/$1.end" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 1200 ]; then
      fail "$1: the transfers do not end"
      return
    fi
    usleep 100000
  done
  say "case $1 ended"
  sed -n 's/.*"failed":true.*"error":\("[^"]*"\).*/   the sender was shown \1/p' "/results/$1.jsonl"
}

# settled GUEST: waits until nothing promised is outstanding and nothing is held.
settled() {
  tries=0
  until [ "$(counter "$1" vsnoop_outstanding) $(counter "$1" vsnoop_held)" = "0 0" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 500 ]; then
      fail "$1: $(counter "$1" vsnoop_outstanding) bytes outstanding, $(counter "$1" vsnoop_held) held"
      return
    fi
    usleep 10000
  done
}

# gone NAME...: ends guests whose vif has no driver: the toolstack waits 10 s for it. All are paused
# meanwhile, because a busy processor is what costs the emulator time.
gone() {
  for one in $(xl list | awk 'NR > 2 { print $1 }'); do xl pause "$one"; done
  for one in "$@"; do xl destroy "$one" 2>/dev/null; done
  for one in $(xl list | awk 'NR > 2 { print $1 }'); do xl unpause "$one"; done
}

# recorded GUEST NAME: keeps the decision log of what comes.
recorded() {
  cat "/sys/kernel/debug/xen-netback/$(vif "$1")/vsnoop_log" >"/results/$2.vslog" &
  recorder=$!
  usleep 200000
}

# up: the guests of most scenarios: g2 receives, g3 runs beside it, both are busy; g9 sends.
up() {
  netback /xen-netback.ko
  guest g2 1 memory=256
  receiver g2
  guest g3 1
  sender
  busy g2 g3
}
