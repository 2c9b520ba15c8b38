# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What may happen to a guest while promises are open, and what its traffic must look like then. What
happens is in scenarios/NAME.sh, for dom0's shell; here is how it must end."""

import dataclasses
import json
import pathlib
import typing

import cells

HERE = pathlib.Path(__file__).resolve().parent
# Of "hostile": policy of the vif, seed, seconds of virtual time.
HOSTILE = [(policy, seed, 300) for seed in (1, 2) for policy in ("hold", "ring", "off")]
NAMES = sorted(path.stem for path in (HERE / "scenarios").glob("*.sh")) + \
    [f"hostile-{policy}-{seed}" for policy, seed, _ in HOSTILE]

EXACT = "every byte arrives"
CUT = "the sender is shown a reset; what was read is right"
SAFE = "every byte arrives, or the sender is shown a reset"


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One boot of scenarios/FILE.sh (NAME.sh). `cases` name the streams (`stream` of dom0-lib.sh) with
    what must become of them, `variables` are set in the shell before. `complaints`: upstream's netback
    may complain of the guest's second vif."""

    name: str
    cases: dict
    machine: dict = dataclasses.field(default_factory=dict)
    variables: dict = dataclasses.field(default_factory=dict)
    also: typing.Callable = lambda results: []  # what else was wrong, by the results' folder
    file: str = ""
    complaints: bool = False

    @property
    def script(self):
        said = "".join(f"{name}='{value}'\n" for name, value in self.variables.items())
        return said + (HERE / "scenarios" / f"{self.file or self.name}.sh").read_text()

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
            if must == SAFE and not failed:
                continue
            if must != EXACT and not (failed and "reset" in failed[0]["error"]):
                wrong.append(f"{case}: the sender was shown no reset, but "
                             f"'{failed[0]['error'] if failed else 'nothing'}'")
        return wrong + self.also(results)


def _tool(results):
    """What the operator's commands said."""
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


def _names(results):
    """What the commands print of a name with control bytes."""
    wrong = []
    for name in ("list.txt", "top.txt"):
        text = (results / name).read_bytes()
        if any(byte < 0x20 and byte != 0x0a for byte in text) or b"\n==" in text:
            wrong.append(f"{name}: a guest's name drives the terminal")
    json.loads((results / "top.json").read_text())
    guests = json.loads((results / "list.json").read_text())["guests"]
    if len(guests) != 3:
        wrong.append(f"list.json: {len(guests)} domains, not 3")
    return wrong


_TWO = {"dom0_vcpus": 2, "pcpus": 4}


def _hostile(policy, seed, seconds):
    def also(results):
        path = results / "hostile.json"
        did = json.loads(path.read_text()) if path.exists() else {}
        wrong = []
        if not did.get("lives", 0) > seconds:
            wrong.append(f"hostile: only {did.get('lives', 0)} lives in {seconds} s")
        if not did.get("connected", 0) * 2 > did.get("lives", 0):
            wrong.append("hostile: most lives were never connected")
        if policy != "off" and not did.get("early", 0):
            wrong.append("hostile: nothing was promised for it")
        beside = [json.loads(line) for line in (results / "beside.jsonl").read_text().splitlines()
                  if line.startswith("{\"size\"")]
        slow = [t["sender_ms"] for t in beside if not t["failed"] and t["sender_ms"] > 1000]
        if slow:
            wrong.append(f"beside: {len(slow)} of {len(beside)} transfers took up to {max(slow)} ms")
        return wrong

    setting = policy if policy == "off" else f"{policy},engage=always"
    return Scenario(f"hostile-{policy}-{seed}", {"beside": EXACT}, file="hostile", also=also,
                    variables={"policy": setting, "seed": seed, "seconds": seconds}, complaints=True)


def _short():
    off, hold = cells.short()
    return Scenario("short", {"paused": EXACT}, variables={
        "off_cell": off.name(), "off_seed": off.seed(), "hold_cell": hold.name(),
        "hold_seed": hold.seed()})


def scenarios(only):
    """Those of `make xen-test`, or those named, by scenario or file."""
    everything = {s.name: s for s in (
        _short(),
        Scenario("alive", dict.fromkeys(
            ("paused", "paused-long", "switched-off", "toggled", "quiesced", "guest-drops", "ipv6",
             "vlan", "guest-to-guest", "no-offloads"), EXACT)),
        Scenario("odd", {**dict.fromkeys(("small-ring", "bad-grants", "bad-grants-ring",
                                          "after-reconnect"), EXACT), "reconnected": CUT}),
        Scenario("gone", {"saved": EXACT, "unbound": CUT, "detached": CUT, "destroyed": CUT,
                          "unloading": EXACT, "unloaded": CUT}),
        Scenario("tool", {"watched": EXACT, "not-migrated": EXACT, "timed-out": CUT,
                          "after-reset": EXACT}, also=_tool),
        Scenario("queues", {"queues": EXACT}, _TWO),
        Scenario("transitions", {
            **dict.fromkeys(("resumed", "resumed-twice", "fewer-queues", "more-queues", "smaller-mtu",
                             "larger-mtu", "more-features"), EXACT),
            "fewer-features": SAFE,
            **dict.fromkeys(("rebound", "closing", "closing-twice", "closing-and-back", "closed", "initialising",
                             "initialising-closing", "initialised", "vanished", "vanished-between",
                             "vanished-after-initialising", "reconfiguring-closing", "unheard-of",
                             "detached", "ended-while-back"), CUT)}, _TWO),
        Scenario("shutdown", {"powered-off": CUT, "halted": CUT, "shut-down": CUT, "rebooted": CUT,
                              "after-reboot": EXACT, "crashed": CUT}),
        Scenario("log", {"read": EXACT, "not-read": EXACT, "come-and-go": EXACT}),
        Scenario("headroom", {"beside": EXACT, "after-off": EXACT, "after-ring": EXACT,
                              "after-hold": EXACT}),
        Scenario("stalled", {f"stalled-{i}": EXACT for i in range(1, 13)}, _TWO),
        Scenario("netpoll", {"talked": EXACT, "talked-full": EXACT, "talked-ring": EXACT}),
        Scenario("memory", dict.fromkeys(("small", "middle", "large", "again", "super", "super-small",
                                          "super-again"), EXACT)),
        Scenario("many", {"many-g2": EXACT, "many-g3": EXACT, "many-g4": EXACT}),
        Scenario("wider", {"widened": CUT, "not-promised": EXACT, "not-promised-again": EXACT,
                           "narrowed": EXACT, "wide": EXACT}, _TWO),
        Scenario("names", {}, also=_names),
        Scenario("rogue", {}, complaints=True),
        *(_hostile(*one) for one in HOSTILE),
    )}
    if only:
        return [s for s in everything.values() if s.name in only or s.file in only]
    return [s for s in everything.values() if s.name != "short" and s.file != "hostile"]
