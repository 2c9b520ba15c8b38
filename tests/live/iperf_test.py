#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""iperf3 with several connections at a time, in both directions."""

import json

import harness
from harness import GUEST, check, wait_for

STREAMS = 4


def iperf(bed, *arguments, streams=STREAMS):
    """One run of the client in the peer. Returns its results."""
    server = bed.run(bed.guest, harness.need("iperf3", "iperf3"), "-s", "-1", "--forceflush")
    wait_for(lambda: "listening" in server.output(), "iperf3's server listens")
    client = bed.run(bed.peer, "iperf3", "-c", GUEST, "-P", streams, "-t", "3", "--json",
                     "--connect-timeout", "5000", *arguments)
    status = client.wait(25)
    result = json.loads(client.output())
    check(status == 0 and "error" not in result, f"iperf3: {result.get('error', status)}")
    server.succeed(10)
    for stream in result["end"]["streams"]:
        check(stream["receiver"]["bytes"] > 0, f"a connection stood still: {stream['receiver']}")
    check(len(result["end"]["streams"]) >= streams, "connections are missing")
    return result["end"]


def peer_to_guest(bed):
    live = bed.live(*harness.CONTENDED)
    end = iperf(bed)
    got = end["sum_received"]["bytes"]
    counters = live.stop()
    counters.check_offloaded(early_acks=20, promised=got // 2)
    return f"{end['sum_received']['bits_per_second'] / 1e6:.0f} Mb/s"


def guest_to_peer(bed):
    live = bed.live(*harness.CONTENDED)
    end = iperf(bed, "-R")
    counters = live.stop()
    counters.check_offloaded()  # of the commands that iperf3 sends
    check(counters["from_guest"]["bytes"] > end["sum_received"]["bytes"] > 1_000_000,
          f"the guest sent too little:\n{counters.dump()}")
    return f"{end['sum_received']['bits_per_second'] / 1e6:.0f} Mb/s"


def both_at_once(bed):
    live = bed.live(*harness.CONTENDED)
    end = iperf(bed, "--bidir")
    live.stop().check_offloaded(early_acks=20)
    return f"{end['sum_received']['bits_per_second'] / 1e6:.0f} Mb/s to the guest"


def many_in_a_small_budget(bed):
    """Most have to wait for room that others free."""
    live = bed.live(*harness.CONTENDED, "--hold", "256Ki", "--rate", "300M")
    end = iperf(bed, streams=16)
    counters = live.stop()
    counters.check_offloaded(early_acks=20)
    check(counters.engine("peak_held_bytes") <= 256 << 10,
          f"more was held than is allowed:\n{counters.dump()}")
    return f"{end['sum_received']['bits_per_second'] / 1e6:.0f} Mb/s"


harness.run([peer_to_guest, guest_to_peer, both_at_once, many_in_a_small_budget], 40)
