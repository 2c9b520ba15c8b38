#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Guests and driver domains that go away, with promises outstanding, and come back."""

import signal
import socket
import struct

import harness
import netns
from harness import DATA, GUEST, check, wait_for

# A program in the guest that reads some and then stops reading, without closing.
READER = f"""
import socket, time
listener = socket.socket()
listener.bind(("{GUEST}", 7100))
listener.listen()
print("listening", flush=True)
connection = listener.accept()[0]
got = 0
while got < 300000:
    got += len(connection.recv(65536))
print("read", got, flush=True)
time.sleep(1000)
"""


def guests_program_is_killed(bed):
    live = bed.live(*harness.CONTENDED)
    reader = bed.python(bed.guest, READER)
    wait_for(lambda: "listening" in reader.output(), "the guest's program listens")
    peer = bed.socket(bed.peer)
    peer.settimeout(20)
    peer.connect((GUEST, 7100))
    sender = harness.Sender(peer, None)
    wait_for(lambda: "read" in reader.output(), "the guest's program has read")
    check(sender.error is None, f"the connection failed too early: {sender.error!r}")
    reader.signal(signal.SIGKILL)
    sender.join(5)
    check(not sender.is_alive(), "the sender hangs 5 s after the receiver's death")
    check(isinstance(sender.error, (ConnectionResetError, BrokenPipeError)),
          f"the sender was not reset, but: {sender.error!r}")
    # The guest restarts its program.
    harness.transfer(bed, 1_000_000, port=7100)
    live.stop().check_offloaded()


def loaded(bed, *options):
    """A bridge, and a transfer under way."""
    live = bed.live(*harness.CONTENDED, "--rate", "300M", *options)
    one = harness.Transfer(*bed.connect(bed.listener()))
    one.wait_for_more()
    return live, one


def outage(bed, namespace, interface):
    """Takes a link away in the middle of a transfer. Returns the counters."""
    live, one = loaded(bed)
    netns.ip("-n", namespace, "link", "set", interface, "down")
    one.wait_until_stuck()
    netns.ip("-n", namespace, "link", "set", interface, "up")
    one.wait_for_more()
    one.check_exact()
    counters = live.stop()
    counters.check_offloaded(early_acks=10, promised=one.sent() // 4)
    return counters


def guests_link_goes_down_and_up(bed):
    counters = outage(bed, bed.guest, "guest")
    check(counters.engine("redelivered_frames") > 0, f"no re-delivery:\n{counters.dump()}")


def drivers_link_goes_down_and_up(bed):
    counters = outage(bed, bed.driver_domain, bed.GUEST_INTERFACE)
    check(counters["guest_lost"] == 1, f"the outage was not noticed:\n{counters.dump()}")


def peers_link_goes_down_and_up(bed):
    outage(bed, bed.driver_domain, bed.PEER_INTERFACE)


def guest_goes_for_good_and_another_comes(bed):
    live, one = loaded(bed, "--grace", "500ms")
    one.receiver.go.clear()  # promises stay open
    netns.ip("-n", bed.guest, "link", "delete", "guest")
    # Its kernel is gone as far as the peer can see: only vsnoop can tell.
    one.check_reset(5)
    bed._connect(bed.guest, "guest", GUEST, bed.GUEST_INTERFACE)
    harness.transfer(bed, 1_000_000, port=7101)
    counters = live.stop(expected=3)
    check(counters["guest_lost"] >= 1, f"the loss was not noticed:\n{counters.dump()}")
    check(counters.engine("outstanding_bytes") == 0, f"promises are left:\n{counters.dump()}")
    check(counters.engine("flows") < 10, f"flows are left:\n{counters.dump()}")


def guest_reboots_in_mid_transfer(bed):
    """A guest that is back within the grace time and remembers nothing is given what was promised;
    it answers with a reset, and that reaches the peer."""
    live, one = loaded(bed, "--grace", "10s")
    one.receiver.go.clear()
    one.wait_until_stuck()
    netns.ip("-n", bed.guest, "link", "delete", "guest")
    connection = one.ends[1]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()  # nobody hears of it
    bed._connect(bed.guest, "guest", GUEST, bed.GUEST_INTERFACE)
    one.check_reset(10)
    harness.transfer(bed, 1_000_000, port=7102)
    counters = live.stop()
    counters.check_offloaded()
    check(counters["guest_lost"] == 1, f"the reboot was not noticed:\n{counters.dump()}")
    check(counters.engine("reasons").get("guest_reset", 0) > 0,
          f"the guest did not reset the connection:\n{counters.dump()}")


def sigterm_under_load(bed):
    """Promises drain; a plain bridge takes over and no byte is lost."""
    live, one = loaded(bed)
    counters = live.stop()
    said = live.output()
    check("promised bytes to drain" in said, f"it does not say what is outstanding: {said}")
    counters.check_offloaded()
    plain = bed.live("--policy", "off")
    one.wait_for_more()
    one.check_exact()
    plain.stop()


def sigterm_and_promises_that_do_not_drain(bed):
    live, one = loaded(bed, "--drain-timeout", "1s")
    bed.firewall("-A", *DATA, "-j", "DROP")
    wait_for(lambda: bed.firewall_dropped() >= 2, "the firewall drops promised data")
    counters = live.stop(expected=3, seconds=5)
    check(counters["broken_promise_bytes"] > 0, f"no promise was broken:\n{counters.dump()}")
    check("were reset" in live.output(), f"it does not say so: {live.output()}")
    one.check_reset(5)
    one.receiver.join(5)
    check(not one.receiver.is_alive(), "the guest is not reset and waits")
    check(isinstance(one.receiver.error, ConnectionResetError),
          f"the guest is not shown a reset: {one.receiver.error!r}")


harness.run([guests_program_is_killed, guests_link_goes_down_and_up,
             drivers_link_goes_down_and_up, peers_link_goes_down_and_up,
             guest_goes_for_good_and_another_comes, guest_reboots_in_mid_transfer,
             sigterm_under_load,
             sigterm_and_promises_that_do_not_drain], 40)
