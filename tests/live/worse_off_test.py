#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Off is the oracle, with real kernels: the same connections through the same network, with the
offload off and with the policy. What completes with `off` completes with the policy: every byte, no
reset, and not much later.

Each seed is a scenario: faults of the link (the same frames on the peer's side, as long as the
courses are the same), the guest's share of its processor, what its TCP offers, sizes, programs that
stop reading. VSNOOP_SEEDS=N tries N of them, VSNOOP_SEED=N begins there.
"""

import dataclasses
import os
import pathlib
import random
import time

import harness
from harness import check

FIRST = int(os.environ.get("VSNOOP_SEED", "1"))
SEEDS = int(os.environ.get("VSNOOP_SEEDS", "5"))
# As the differential oracle's; the machine's own noise is within the slack.
FACTOR, SLACK = 4, 5
LIMIT = 40


@dataclasses.dataclass
class Stream:
    size: int
    seed: int
    buffer: int  # of the guest; 0: the kernel's
    start: float
    pause: float  # the guest's program does not read for so long


@dataclasses.dataclass
class Outcome:
    error: str = ""
    seconds: float = 0


class Scenario:
    def __init__(self, seed):
        draw = random.Random(seed)
        self.seed = seed
        loss = draw.choice((0, 0, 0.3, 1))
        faults = [f"loss={loss}%", f"reorder={draw.choice((0, 0, 1, 3))}%",
                  f"dup={draw.choice((0, 0, 1))}%"]
        self.arguments = ["--fault", f"peer:{','.join(faults)},seed={seed}",
                          "--vcpus", str(draw.choice((1, 2, 3, 4))),
                          "--slice", draw.choice(("10ms", "30ms")),
                          "--rate", draw.choice(("100M", "1G")),
                          "--ring", draw.choice(("256", "256", "32"))]
        self.guest_loss = draw.choice((0, 0, 0.5))
        if self.guest_loss:
            self.arguments += ["--fault", f"guest:loss={self.guest_loss}%,seed={seed + 1}"]
        self.sysctls = {"tcp_timestamps": draw.choice((1, 1, 0)), "tcp_sack": draw.choice((1, 1, 0)),
                        "tcp_window_scaling": draw.choice((1, 1, 0)),
                        "tcp_recovery": draw.choice((1, 1, 0))}
        self.streams = [Stream(size=int(10 ** draw.uniform(2, 6.2)), seed=draw.randrange(1 << 30),
                               buffer=draw.choice((0, 0, 4096, 65536)),
                               start=draw.uniform(0, 0.5), pause=draw.choice((0, 0, 0, 1.5)))
                        for _ in range(draw.choice((1, 3, 8)))]

    def __str__(self):
        return (f"seed {self.seed}: {' '.join(self.arguments)}; {self.sysctls}; "
                + "; ".join(map(str, self.streams)))


def set_sysctls(bed, values):
    """In both ends' namespaces."""
    for namespace in (bed.peer, bed.guest):
        with harness.Inside(namespace):
            for name, value in values.items():
                path = pathlib.Path("/proc/sys/net/ipv4") / name
                if path.exists():
                    path.write_text(str(value))


def play(bed, scenario, policy):
    """Returns each stream's outcome, and the counters."""
    live = bed.live("--policy", policy, *scenario.arguments)
    listeners, transfers, outcomes = [], [], []
    began = time.monotonic()
    for number, stream in sorted(enumerate(scenario.streams), key=lambda pair: pair[1].start):
        time.sleep(max(0, began + stream.start - time.monotonic()))
        listener = bed.listener(port=7000 + number, receive_buffer=stream.buffer)
        listeners.append(listener)
        at = time.monotonic()
        transfer = harness.Transfer(*bed.connect(listener), stream.size, stream.seed, LIMIT)
        if stream.pause:
            transfer.receiver.go.clear()
        transfers.append((number, stream, at, transfer))
    paused = [(at + stream.pause, transfer) for _, stream, at, transfer in transfers if stream.pause]
    for end, transfer in sorted(paused, key=lambda pair: pair[0]):
        time.sleep(max(0, end - time.monotonic()))
        transfer.receiver.go.set()
    outcomes = {}
    for number, stream, at, transfer in transfers:
        try:
            transfer.receiver.join(LIMIT)
            seconds = time.monotonic() - at
            transfer.check_exact()
            outcomes[number] = Outcome(seconds=seconds)
        except harness.Failure as failure:
            outcomes[number] = Outcome(error=str(failure))
    for listener in listeners:
        listener.close()
    return outcomes, live.stop()


def worse_off(bed):
    bed.single_frames()
    promised = late = 0
    for seed in range(FIRST, FIRST + SEEDS):
        scenario = Scenario(seed)
        set_sysctls(bed, scenario.sysctls)
        without, _ = play(bed, scenario, "off")
        outcomes, counters = play(bed, scenario, "hold")
        counters_text = counters.dump()
        check(counters["broken_promise_bytes"] == 0, f"promises were broken; {scenario}\n{counters_text}")
        promised += counters.engine("promised_bytes")
        for number, off in without.items():
            if off.error:
                continue
            policy = outcomes[number]
            check(not policy.error, f"stream {number} completes with off after {off.seconds:.1f} s, "
                                    f"and with hold: {policy.error}\n{scenario}\n{counters_text}")
            check(policy.seconds <= FACTOR * off.seconds + SLACK,
                  f"stream {number} takes {off.seconds:.1f} s with off, {policy.seconds:.1f} s with "
                  f"hold\n{scenario}\n{counters_text}")
            late += policy.seconds > 2 * off.seconds + 1
    check(promised > 0, "nothing was promised: this compares nothing")
    return f"{SEEDS} scenarios from seed {FIRST}, {promised} bytes promised, {late} beyond 2x + 1 s"


harness.run([worse_off], 100 if SEEDS <= 5 else 60 * SEEDS)
