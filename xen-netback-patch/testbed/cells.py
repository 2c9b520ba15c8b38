# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is measured: cells, and the script that measures some of them in one boot."""

import dataclasses
import itertools
import zlib

# name: (Xen's scheduler, receiver's cap in percent, slice in ms)
SCHEDULERS = {
    "credit 30 ms": ("credit", 0, 30),
    "credit 1 ms": ("credit", 0, 1),
    "credit cap 33 %": ("credit", 33, 30),
    "own pCPU": ("credit", 0, 30),
    "credit2": ("credit2", 0, 0),
    "credit2 cap 33 %": ("credit2", 33, 0),
}

# What is written to the vif's key.
SETTINGS = {"pristine": "off", "off": "off", "ring": "ring,engage=always",
            "hold": "hold,engage=always", "auto": "hold,engage=auto"}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One series of transfers. `guests` share the receiver's physical CPU, itself included; all but
    the receiver are busy, and the receiver too if `receiver` says so."""

    policy: str  # off, ring, hold, auto: hold with engage=auto, pristine: off, unpatched module
    scheduler: str = "credit 30 ms"
    guests: int = 3
    receiver: str = "busy"  # or idle
    connection: str = "established"
    repeat: int = 1  # 2, 3: the same again, to show how far equal measurements lie apart
    place: str = "spread"  # or one-pcpu: everything on one physical CPU, to count instructions
    wire: int = 0  # Mb/s between sender and dom0; 0: as fast as dom0 is

    def name(self):
        return "-".join((self.scheduler.replace(" ", "").replace("%", ""), str(self.guests),
                         self.receiver, self.connection, self.policy, str(self.repeat),
                         self.place, *([f"{self.wire}Mbps"] if self.wire else [])))

    def machine(self):
        """Cells with the same value can share a boot."""
        return (SCHEDULERS[self.scheduler][0], self.place, self.policy == "pristine")

    def seed(self):
        """Of the phases: the same for all policies, another for each repetition."""
        same = dataclasses.replace(self, policy="")
        return zlib.crc32(same.name().encode())


def _counted(repeats):
    """Cells for dom0's instructions."""
    for repeat in repeats:
        for policy in ("pristine", "off", "ring", "hold"):
            yield Cell(policy, guests=1, receiver="idle", repeat=repeat, place="one-pcpu")


def story():
    """The cells of `make xen-test`: what a reader needs to judge."""
    for policy, repeat in (("off", 1), ("off", 2), ("ring", 1), ("hold", 1)):
        yield Cell(policy, repeat=repeat)
    yield Cell("off", guests=1)
    yield Cell("off", scheduler="own pCPU")
    yield Cell("off", scheduler="credit 1 ms")
    for policy in ("off", "hold"):
        yield Cell(policy, connection="fresh")
        yield Cell(policy, receiver="idle")
        yield Cell(policy, receiver="idle", wire=400)
        yield Cell(policy, guests=2)
        yield Cell(policy, guests=1, receiver="idle")
        yield Cell(policy, scheduler="credit cap 33 %", guests=1)
        yield Cell(policy, scheduler="credit2")
    yield from _counted((1,))


def short():
    """The cells inside `make test`."""
    yield Cell("off")
    yield Cell("hold")


def campaign():
    """All of them, three times."""
    for repeat in (1, 2, 3):
        for scheduler, guests, receiver, connection, policy in itertools.product(
                SCHEDULERS, (1, 2, 3), ("busy", "idle"), ("established", "fresh"),
                ("off", "ring", "hold")):
            # A receiver alone on its processor has it to itself anyway.
            if scheduler == "own pCPU" and guests < 3:
                continue
            yield Cell(policy, scheduler, guests, receiver, connection, repeat)
        yield Cell("auto", receiver="idle", repeat=repeat)
        for policy in ("off", "hold"):
            yield Cell(policy, receiver="idle", wire=400, repeat=repeat)
    yield from _counted((1, 2))


def boots(cells, most):
    """Lists of at most `most` cells that can share a boot, in an order with few changes between
    them."""
    groups = {}
    for cell in cells:
        groups.setdefault(cell.machine(), []).append(cell)
    for group in groups.values():
        group.sort(key=lambda c: (list(SCHEDULERS).index(c.scheduler), c.guests, c.receiver,
                                  c.connection, c.wire, c.repeat, c.policy != "off", c.policy))
        parts = -(-len(group) // most)
        for part in range(parts):
            yield group[part * len(group) // parts:(part + 1) * len(group) // parts]


def script(cells, amount):
    """The scenario that measures `cells` (of one machine) one after the other. `amount`: words for
    xen-load send that say what is transferred in each, and how often."""
    lines = ["netback /xen-netback.ko"]
    one = cells[0].place == "one-pcpu"
    receiver_pcpu = 0 if one else 1
    lines += [f"guest g2 {receiver_pcpu} memory=256", "receiver g2"]
    for n in range(3, 2 + max(cell.guests for cell in cells)):
        lines.append(f"guest g{n} {receiver_pcpu}")
    lines.append("card_sender" if one else "sender")
    now = {"slice": 30, "cap": 0, "policy": "off", "busy": set(), "pcpu": receiver_pcpu,
           "wire": 0}
    for cell in cells:
        scheduler, cap, slice_ms = SCHEDULERS[cell.scheduler]
        if scheduler == "credit" and now["slice"] != slice_ms:
            lines.append(f"xl sched-credit -s -t {slice_ms}")
            now["slice"] = slice_ms
        if now["cap"] != cap:
            lines.append(f"xl sched-{scheduler} -d g2 -c {cap}")
            now["cap"] = cap
        neighbours = [f"g{n}" for n in range(3, 2 + cell.guests)]
        busy = set(neighbours) | ({"g2"} if cell.receiver == "busy" else set())
        # Neighbours first: with nobody busy the change is quick.
        lines += [f"calm {g}" for g in sorted(now["busy"] - busy)]
        lines += [f"busy {g}" for g in sorted(busy - now["busy"])]
        now["busy"] = busy
        pcpu = 2 if cell.scheduler == "own pCPU" else receiver_pcpu
        if neighbours and now["pcpu"] != pcpu:
            lines += [f"xl vcpu-pin {g} 0 {pcpu}" for g in neighbours]
            now["pcpu"] = pcpu
        if now["wire"] != cell.wire:
            lines.append(f"wire {cell.wire}")
            now["wire"] = cell.wire
        if now["policy"] != cell.policy:
            lines.append(f"offload g2 {SETTINGS[cell.policy]}")
            now["policy"] = cell.policy
        lines.append(f"cell {cell.name()} g2 --connection {cell.connection} --seed {cell.seed()} "
                     f"--phase {30 * max(cell.guests, 2)}ms {amount}")
    return "\n".join(lines) + "\n"
