#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loss, reordering and duplication: between peer and driver domain, where the peer repairs it, and
behind the driver domain, where only re-delivery can."""

import subprocess

import harness
from harness import check

SIZE = 4_000_000
PEER_FAULTS = ("loss=1%", "reorder=3%", "dup=3%", "loss=1%,reorder=2%,dup=2%,corrupt=0.5%")
GUEST_FAULTS = ("loss=1%", "reorder=3%", "dup=3%", "loss=2%,reorder=2%,dup=2%")


def with_faults(bed, *faults, options=(), log=False):
    """A transfer with single frames through the faults. Returns the counters."""
    arguments = [*harness.CONTENDED, *options]
    for fault in faults:
        arguments += ["--fault", fault]
    if log:
        arguments += ["--log", bed.directory / "decisions"]
    live = bed.live(*arguments)
    harness.transfer(bed, SIZE)
    counters = live.stop()
    # How much is promised between two holes is a matter of timing; that it goes on is not.
    counters.check_offloaded(early_acks=10, promised=SIZE // 10)
    wanted = {"loss": "lost", "reorder": "held", "dup": "repeated", "corrupt": "corrupted"}
    for name, counted in wanted.items():
        if any(f"{name}=" in fault for fault in faults):
            check(counters["faults"][counted] > 0, f"no frame was {counted}:\n{counters.dump()}")
    return counters


def peer_side(bed):
    bed.single_frames()
    for i, fault in enumerate(PEER_FAULTS):
        with_faults(bed, f"peer:{fault},seed={7 + i}")


def peer_side_of_a_slow_link(bed):
    """Frames that the faults make or hold back have to pass the pacer, too."""
    bed.single_frames()
    with_faults(bed, "peer:dup=2%,reorder=2%,corrupt=1%,delay=1%,seed=12",
                options=["--rate", "300M"])


def guest_side(bed):
    bed.single_frames()
    for i, fault in enumerate(GUEST_FAULTS):
        counters = with_faults(bed, f"guest:{fault},seed={17 + i}")
        if "loss" in fault:
            check(counters.engine("redelivered_frames") > 0,
                  f"promised frames were lost, and none was delivered again:\n{counters.dump()}")


def both_sides_without_early_sack(bed):
    bed.single_frames()
    faults = "peer:loss=1%,reorder=1%,seed=31", "guest:loss=1%,reorder=1%,seed=32"
    counters = with_faults(bed, *faults, options=["--no-early-sack"])
    check(counters.engine("redelivered_frames") > 0, f"no re-delivery:\n{counters.dump()}")


def whole_super_frames(bed):
    """GSO frames are trimmed, cut and delivered again, too."""
    counters = with_faults(bed, "peer:loss=3%,reorder=3%,seed=41", "guest:loss=8%,seed=42")
    check(counters.engine("redelivered_frames") > 0, f"no re-delivery:\n{counters.dump()}")


def decision_log(bed):
    """`vsnoop replay --log` comes to the same verdicts."""
    bed.single_frames()
    with_faults(bed, "peer:loss=1%,reorder=1%,dup=1%,seed=51", "guest:loss=1%,seed=52", log=True)
    log = bed.directory / "decisions"
    replay = subprocess.run([bed.vsnoop, "replay", "--log", log], capture_output=True, text=True,
                            timeout=20, check=False)
    check(replay.returncode == 0, f"replay ended with {replay.returncode}:\n"
                                  f"{replay.stdout[-1000:]}{replay.stderr[-1000:]}")
    # A log that has been tampered with must not be reproduced: else the check above checks nothing.
    data = bytearray(log.read_bytes())
    check(len(data) > 100_000, f"the log has only {len(data)} bytes")
    middle = len(data) // 2
    data[middle:middle + 4000] = bytes(byte ^ 0x10 for byte in data[middle:middle + 4000])
    log.write_bytes(data)
    replay = subprocess.run([bed.vsnoop, "replay", "--log", log], capture_output=True, timeout=20,
                            check=False)
    check(replay.returncode > 0, f"a changed log is 'reproduced', status {replay.returncode}")


harness.run([peer_side, peer_side_of_a_slow_link, guest_side, both_sides_without_early_sack,
             whole_super_frames, decision_log], 60)
