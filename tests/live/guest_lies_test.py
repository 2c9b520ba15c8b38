#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Guests that do not take what has been promised for them: firewalls, buffers that shrink."""

import socket

import harness
from harness import DATA, check, wait_for


def firewall_for_a_while(bed):
    live = bed.live(*harness.CONTENDED, "--rate", "300M")
    one = harness.Transfer(*bed.connect(bed.listener()))
    one.wait_for_more()
    bed.firewall("-A", *DATA, "-j", "DROP")
    # Several: data comes again and again while the firewall stands.
    wait_for(lambda: bed.firewall_dropped() >= 4, "the firewall drops promised data")
    bed.firewall("-D", *DATA, "-j", "DROP")
    one.wait_for_more()
    one.check_exact()
    counters = live.stop()
    counters.check_offloaded(early_acks=10, promised=one.sent() // 2)
    check(counters.engine("redelivered_frames") > 0, f"no re-delivery:\n{counters.dump()}")


def firewall_that_drops_some(bed):
    bed.single_frames()
    live = bed.live(*harness.CONTENDED)
    bed.firewall("-A", *DATA, "-m", "statistic", "--mode", "random", "--probability", "0.02",
                 "-j", "DROP")
    harness.transfer(bed, 3_000_000)
    check(bed.firewall_dropped() > 5, "the firewall dropped next to nothing")
    counters = live.stop()
    counters.check_offloaded(early_acks=10)
    check(counters.engine("redelivered_frames") > 5, f"no re-delivery:\n{counters.dump()}")


def receive_buffer_shrinks(bed):
    """The guest's program stops reading and takes its buffer back after the promise."""
    live = bed.live(*harness.CONTENDED)
    peer, guest = bed.connect(bed.listener(receive_buffer=1 << 20))
    one = harness.Transfer(peer, guest)
    one.wait_for_more()
    one.receiver.go.clear()
    guest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.wait_until_stuck()
    one.receiver.go.set()
    one.wait_for_more(100_000)
    guest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    one.check_exact()
    live.stop().check_offloaded(early_acks=10, promised=one.sent() // 4)


def window_closes_and_opens(bed):
    """A guest that reads by fits and starts, with a small buffer."""
    live = bed.live(*harness.CONTENDED)
    one = harness.Transfer(*bed.connect(bed.listener(receive_buffer=8192)))
    for _ in range(4):
        one.wait_for_more(50_000)
        one.receiver.go.clear()
        one.wait_until_stuck()
        one.receiver.go.set()
    one.check_exact()
    live.stop().check_offloaded(early_acks=10, promised=one.sent() // 4)


def guest_closes_its_half_first(bed):
    """Nothing is promised for a guest that has sent its FIN: it may be about to refuse data."""
    live = bed.live(*harness.CONTENDED, "--rate", "300M")
    peer, guest = bed.connect(bed.listener())
    one = harness.Transfer(peer, guest)
    one.wait_for_more()
    guest.shutdown(socket.SHUT_WR)
    check(peer.recv(100) == b"", "the guest's FIN did not arrive")
    one.wait_for_more()
    one.check_exact(answer=False)
    live.stop().check_offloaded(early_acks=3)


def idle_guest_loses_requests(bed):
    """The guest sleeps, and the last frame of a request is lost on the way to it: no further frame
    shows the hole, and the peer thinks that all is well."""
    live = bed.live("--policy", "hold", "--vcpus", "3", "--slice", "5ms", "--guest", "io",
                    "--fault", "guest:loss=10%,dir=out,seed=5")
    peer, guest = bed.connect(bed.listener())
    guest.settimeout(20)
    for number in range(100):
        request = harness.pattern(1 + number * 97 % 3000, number)
        peer.sendall(request)
        got = b""
        while len(got) < len(request):
            got += guest.recv(len(request) - len(got))
        check(got == request, f"request {number} arrived changed")
        guest.sendall(b"done")
        check(peer.recv(100) == b"done", f"the answer to request {number} is wrong")
    guest.close()
    check(peer.recv(1) == b"", "the guest's FIN did not arrive")
    peer.close()
    counters = live.stop()
    counters.check_offloaded(early_acks=50)
    check(counters.engine("redelivered_frames") >= 5, f"no re-delivery:\n{counters.dump()}")


harness.run([firewall_for_a_while, firewall_that_drops_some, receive_buffer_shrinks,
             window_closes_and_opens, guest_closes_its_half_first, idle_guest_loses_requests], 45)
