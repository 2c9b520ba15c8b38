# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What may happen to a guest while promises are open, and what its traffic must look like then."""

import dataclasses
import json
import typing

import cells

EXACT = "every byte arrives"
CUT = "the sender is shown a reset; what was read is right"


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One boot. `cases` name the streams (see the function below) with what must become of them."""

    name: str
    script: str
    cases: dict
    machine: dict = dataclasses.field(default_factory=dict)
    also: typing.Callable = lambda results: []  # what else was wrong, by the results' folder

    def judge(self, results):
        """What was not as it must be, in words."""
        wrong = []
        for case, must in self.cases.items():
            path = results / f"{case}.jsonl"
            lines = path.read_text().splitlines() if path.exists() else []
            transfers = [json.loads(line) for line in lines if line.startswith("{\"size\"")]
            said = [line for line in lines if not line.startswith("{")]
            if not transfers:
                wrong.append(f"{case}: no transfers{': ' + said[0] if said else ''}")
                continue
            lost = sum(t["lost_bytes"] for t in transfers)
            failed = [t for t in transfers if t["failed"]]
            if lost:
                wrong.append(f"{case}: {lost} bytes were not as sent")
            if must == EXACT and (failed or said):
                wrong.append(f"{case}: {failed[0]['error'] if failed else said[0]}")
            if must == CUT and not (failed and "reset" in failed[0]["error"]):
                wrong.append(f"{case}: the sender was shown no reset, but "
                             f"'{failed[0]['error'] if failed else 'nothing'}'")
        return wrong + self.also(results)


# stream CASE GUEST [WORD...]: one long transfer from g9 in the background; returns when early ACKs
# flow. ended CASE: waits for its end. settled GUEST: waits until nothing promised is outstanding and
# nothing is held. recorded GUEST NAME: keeps the decision log of what comes. gone NAME...: ends guests
# whose vif has no driver: the toolstack waits 10 s for it. All are paused meanwhile, because a busy
# processor is what costs the emulator time.
_LIB = r"""
counter() { /sbin/ethtool -S "$(vif "$1")" | sed -n "s/^ *$2: //p"; }
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
}
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
gone() {
  for one in $(xl list | awk 'NR > 2 { print $1 }'); do xl pause "$one"; done
  for one in "$@"; do xl destroy "$one" 2>/dev/null; done
  for one in $(xl list | awk 'NR > 2 { print $1 }'); do xl unpause "$one"; done
}
recorded() {
  cat "/sys/kernel/debug/xen-netback/$(vif "$1")/vsnoop_log" >"/results/$2.vslog" &
  recorder=$!
  usleep 200000
}
"""

_UP = """netback /xen-netback.ko
guest g2 1 memory=256
receiver g2
guest g3 1
sender
busy g2 g3
"""


def _short():
    off, hold = cells.short()
    script = _LIB + _UP + f"""guest g4 1
busy g4
cell {off.name()} g2 --seed {off.seed()} --connections 10 --warm 200k --sizes 100k --repeat 20
recorded g2 short
offload g2 hold,engage=always
cell {hold.name()} g2 --seed {hold.seed()} --connections 10 --warm 200k --sizes 100k --repeat 20
stream paused g2
xl pause g2
usleep 700000
xl unpause g2
ended paused
settled g2
offload g2 off
kill $recorder
"""
    return Scenario("short", script, {"paused": EXACT})


def _alive():
    """The vif survives."""
    script = _LIB + _UP + """
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
"""
    return Scenario("alive", script, dict.fromkeys(
        ("paused", "paused-long", "switched-off", "toggled", "quiesced", "guest-drops", "ipv6",
         "vlan", "guest-to-guest", "no-offloads"), EXACT))


def _odd():
    """Guests whose network drivers give trouble."""
    script = _LIB + """netback /xen-netback.ko
guest g2 1 memory=256 modules=/odd-netfront.ko
receiver g2
guest g3 1
sender
busy g2 g3
odd=/sys/module/odd_netfront/parameters
recorded g2 odd
offload g2 hold,engage=always
on g2 "echo 20 >$odd/rx_slots"
stream small-ring g2
ended small-ring
settled g2
on g2 "echo 256 >$odd/rx_slots"

again=$(counter g2 vsnoop_redelivered_frames)
on g2 "echo 97 >$odd/rx_spoil"
stream bad-grants g2
ended bad-grants
[ "$(counter g2 vsnoop_redelivered_frames)" != "$again" ] || fail "bad-grants: nothing was delivered again"
on g2 "echo 0 >$odd/rx_spoil"
settled g2
offload g2 ring,engage=always
on g2 "echo 97 >$odd/rx_spoil"
stream bad-grants-ring g2
ended bad-grants-ring
on g2 "echo 0 >$odd/rx_spoil"
settled g2

# The frontend goes and comes back.
offload g2 hold,engage=always
stream reconnected g2 --limit 120s --repeat 4
on g2 '(usleep 300000; echo vif-0 >/sys/bus/xen/drivers/vif/unbind
  echo vif-0 >/sys/bus/xen/drivers/vif/bind
  until ip link set eth0 up; do usleep 10000; done
  ip addr add 10.0.0.2/24 dev eth0) </dev/null >/dev/null 2>&1 &'
ended reconnected
reached g2
awaits "$(vifpath g2)/vsnoop-state" hold
stream after-reconnect g2
ended after-reconnect
settled g2
offload g2 off
kill $recorder
"""
    return Scenario("odd", script, {"small-ring": EXACT, "bad-grants": EXACT,
                                    "bad-grants-ring": EXACT, "reconnected": EXACT,
                                    "after-reconnect": EXACT})


def _gone():
    """The vif does not survive, or the guest comes back with another."""
    script = _LIB + _UP + """
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
"""
    return Scenario("gone", script, {"saved": EXACT, "unbound": CUT, "detached": CUT,
                                     "destroyed": CUT, "unloading": EXACT,
                                     "unloaded": CUT})


def _tool():
    """The operator's commands."""
    script = _LIB + _UP + """
vsnoop xen list --json >/results/list.json || fail "vsnoop xen list"
vsnoop xen list
vsnoop xen set nobody hold 2>/dev/null && fail "vsnoop xen set: there is no guest 'nobody'"
vsnoop xen set g2 hold --engage always --json >/results/set.json || fail "vsnoop xen set"
stream watched g2 --repeat 6
vsnoop xen top --once --json >/results/top.json || fail "vsnoop xen top"
vsnoop xen flows g2 --json >/results/flows.json || fail "vsnoop xen flows"
vsnoop xen quiesce g2 --json >/results/quiesce.json || fail "vsnoop xen quiesce"
vsnoop xen stats g2 --json >/results/stats.json || fail "vsnoop xen stats"
vsnoop xen resume g2 || fail "vsnoop xen resume"
ended watched
# Debian's Xen has no log-dirty mode for PV guests, so that this fails after quiescing; then all must
# go on.
stream not-migrated g2 --limit 120s --repeat 6
vsnoop-migrate g2 "xl migrate-receive" -s "" >/run/migrate.log 2>&1 && fail "vsnoop-migrate: moved g2"
grep -q "Migration failed" /run/migrate.log || fail "vsnoop-migrate: $(tail -n 1 /run/migrate.log)"
awaits "$(vifpath g2)/vsnoop-state" hold
ended not-migrated
settled g2
vsnoop xen set g2 off || fail "vsnoop xen set"
"""

    def also(results):
        def of(name):
            return json.loads((results / f"{name}.json").read_text())
        guests = {guest["guest"]: guest for guest in of("list")["guests"]}
        vif = of("set")["vifs"][0]
        top = next(vif for vif in of("top")["vifs"] if vif["guest"] == "g2")
        stats = of("stats")[0]
        wrong = {
            "list: g2 waits for its CPU and would gain":
                guests["g2"]["wait"] > 0.4 and guests["g2"]["gain"] == "yes",
            "set: is in force": (vif["setting"], vif["state"]) == ("hold,engage=always", "hold"),
            "top: shows early ACKs": top["early_acks_per_second"] > 0,
            "flows: shows the stream": any(flow["guest"] == "10.0.0.2:5001"
                                           for flow in of("flows")[0]["flows"]),
            "quiesce: waits until it is": of("quiesce")["vifs"][0]["state"] == "quiesced",
            "stats: nothing is outstanding then": stats["counters"]["outstanding"] == 0,
        }
        return [f"vsnoop xen {what}: no" for what, true in wrong.items() if not true]
    return Scenario("tool", script, {"watched": EXACT, "not-migrated": EXACT}, also=also)


def _queues():
    """Two queues, dom0 with two virtual CPUs."""
    script = _LIB + """netback /xen-netback.ko
echo "g2 hold,engage=always" >/etc/vsnoop/xen.conf
vif_script=vif-vsnoop-plain
guest g2 2 memory=256 vcpus=2
awaits "$(vifpath g2)/vsnoop-state" hold
offload g2 off
receiver g2
sender
[ "$(ls -d /sys/class/net/$(vif g2)/queues/tx-* | wc -l)" = 2 ] || fail "the vif does not have two queues"
busy g2
recorded g2 queues
offload g2 hold,engage=always
stream queues g2 --connections 8 --sizes 4M --repeat 16
ended queues
settled g2
offload g2 off
kill $recorder
"""
    return Scenario("queues", script, {"queues": EXACT}, {"dom0_vcpus": 2, "pcpus": 4})


def scenarios(only):
    """Those of `make xen-test`, or the one named."""
    everything = {s.name: s for s in (_short(), _alive(), _odd(), _gone(), _tool(), _queues())}
    if only:
        return [everything[only]]
    return [s for s in everything.values() if s.name != "short"]
