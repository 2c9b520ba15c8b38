#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Interfaces of all kinds: they work, or one line says why not."""

import fcntl
import os
import select
import signal
import socket
import struct
import threading
import time

import harness
import netns
from harness import GUEST, PEER, check, wait_for

# Seconds for which a machine is paused. By hand: longer than a minute.
PAUSE = int(os.environ.get("VSNOOP_PAUSE", "5"))


def link(bed, *words):
    netns.ip("-n", bed.driver_domain, "link", *words)


def start(bed, peer, guest, *options):
    return bed.run(bed.driver_domain, bed.vsnoop, "live", "--peer-if", peer, "--guest-if", guest,
                   *options)


def check_refused(bed, peer, guest, why):
    child = start(bed, peer, guest)
    check(child.wait(10) == 1, f"{peer}, {guest}: status {child.process.returncode}")
    said = child.output()
    check(why in said and said.count("\n") == 1, f"{peer}, {guest}: not '{why}' but: {said}")


def what_cannot_work_is_refused(bed):
    link(bed, "set", "lo", "up")
    check_refused(bed, bed.PEER_INTERFACE, "lo", "no Ethernet header")
    netns.ip("-n", bed.driver_domain, "tuntap", "add", "mode", "tun", "tun0")
    link(bed, "set", "tun0", "up")
    check_refused(bed, bed.PEER_INTERFACE, "tun0", "no Ethernet header")
    check_refused(bed, "tun0", bed.GUEST_INTERFACE, "no Ethernet header")
    check_refused(bed, bed.PEER_INTERFACE, "nothing", "no such interface")
    check_refused(bed, bed.PEER_INTERFACE, bed.PEER_INTERFACE, "same interface")
    link(bed, "add", "v0", "type", "veth", "peer", "name", "v1")
    check_refused(bed, bed.PEER_INTERFACE, "v0", "is down")
    for end in ("v0", "v1"):
        link(bed, "set", end, "up")
    check_refused(bed, "v0", "v1", "two ends of one veth pair")
    link(bed, "add", "br0", "up", "type", "bridge")
    link(bed, "set", "v0", "master", "br0")
    check_refused(bed, "br0", "v0", "a port of it")
    link(bed, "set", bed.GUEST_INTERFACE, "master", "br0")
    check_refused(bed, "v0", bed.GUEST_INTERFACE, "ports of one bridge")
    # v1 is in a bridge only by its other end; then by two bridges that a cable joins.
    check_refused(bed, "v1", bed.GUEST_INTERFACE, "joined already")
    link(bed, "add", "br1", "up", "type", "bridge")
    link(bed, "set", bed.GUEST_INTERFACE, "master", "br1")
    separate = start(bed, "v1", bed.GUEST_INTERFACE)
    wait_for(lambda: harness.READY in separate.output(), "two bridges apart are no matter")
    separate.signal(signal.SIGTERM)
    separate.succeed(10)
    link(bed, "add", "c0", "up", "master", "br0", "type", "veth", "peer", "name", "c1")
    link(bed, "set", "c1", "up", "master", "br1")
    check_refused(bed, "v1", bed.GUEST_INTERFACE, "joined already")
    check_refused(bed, "v0", bed.GUEST_INTERFACE, "joined already")
    link(bed, "set", bed.GUEST_INTERFACE, "nomaster")
    link(bed, "add", "link", "v1", "name", "over", "type", "macvlan", "mode", "passthru")
    link(bed, "set", "over", "up")
    check_refused(bed, "v1", "over", "stands on the other")
    first = bed.live()
    check_refused(bed, bed.PEER_INTERFACE, bed.GUEST_INTERFACE, "another vsnoop live")
    check_refused(bed, bed.GUEST_INTERFACE, bed.PEER_INTERFACE, "another vsnoop live")
    harness.transfer(bed, 1_000_000)
    first.stop().check_offloaded()
    again = bed.live()
    again.stop()


def what_may_not_work_is_said(bed):
    link(bed, "add", "v0", "mtu", "1400", "type", "veth", "peer", "name", "v1")
    link(bed, "set", "v0", "up")
    link(bed, "add", "link", bed.PEER_INTERFACE, "name", "mv0", "type", "macvlan", "mode", "bridge")
    link(bed, "set", "mv0", "up")
    for peer, guest, texts in ((bed.PEER_INTERFACE, "v0", ("has no carrier", "MTUs", "1400")),
                               ("mv0", bed.GUEST_INTERFACE, ("only frames for its own address",))):
        live = start(bed, peer, guest)
        wait_for(lambda: harness.READY in live.output(), "it gets ready")
        for text in texts:
            check(text in live.output(), f"{peer}, {guest}: no '{text}' in: {live.output()}")
        live.signal(signal.SIGTERM)
        live.succeed(10)


def other_names(bed):
    """Alternative names, also long ones; an interface that is renamed, and then flaps."""
    long_name = "the-interface-of-the-guest-with-a-name-of-its-own"
    for name in ("alt0", long_name):
        link(bed, "property", "add", "dev", bed.GUEST_INTERFACE, "altname", name)
    for name in ("alt0", long_name):
        live = start(bed, bed.PEER_INTERFACE, name)
        wait_for(lambda: harness.READY in live.output(), "it gets ready")
        harness.transfer(bed, 500_000)
        live.signal(signal.SIGTERM)
        live.succeed(10)
    live = bed.live()
    link(bed, "set", bed.GUEST_INTERFACE, "name", "other")
    link(bed, "set", "other", "down")
    wait_for(lambda: "guest's interface is gone" in live.output(), "the loss is told")
    link(bed, "set", "other", "up")
    wait_for(lambda: "guest's interface is back" in live.output(), "the return is told")
    harness.transfer(bed, 500_000)
    netns.ip("-n", bed.guest, "link", "set", "guest", "down")
    wait_for(lambda: "lost its carrier" in live.output(), "the carrier's loss is told")
    netns.ip("-n", bed.guest, "link", "set", "guest", "up")
    wait_for(lambda: "its carrier again" in live.output(), "the carrier's return is told")
    harness.transfer(bed, 500_000)
    live.stop().check_offloaded()


def a_user_namespace(bed):
    """Root of a user namespace may use the interfaces of its own network namespace."""
    script = f"""
ip link add a0 type veth peer name a1 && ip link add b0 type veth peer name b1
for i in a0 a1 b0 b1; do ip link set $i up; done
exec {bed.vsnoop} live --peer-if a1 --guest-if b0
"""
    live = bed.run(bed.peer, "unshare", "-Urn", "sh", "-ec", script)
    wait_for(lambda: harness.READY in live.output() or not live.running(), "it gets ready")
    if "unshare:" in live.output():
        raise harness.Skip(f"no user namespaces here: {live.output().strip()}")
    check(live.running(), f"it did not start: {live.output()}")
    live.signal(signal.SIGTERM)
    live.succeed(10)


# A virtual machine's tap in the driver domain, and its own interface in the guest's namespace.
class Machine(threading.Thread):
    def __init__(self, bed):
        super().__init__(daemon=True)
        netns.ip("-n", bed.driver_domain, "link", "delete", bed.GUEST_INTERFACE)
        self.ends = self._tap(bed.driver_domain, "vnet0"), self._tap(bed.guest, "guest")
        netns.ip("-n", bed.guest, "link", "set", "guest", "address", "02:00:0a:4d:00:02")
        netns.ip("-n", bed.guest, "address", "add", f"{GUEST}/24", "dev", "guest")
        netns.ip("-n", bed.guest, "link", "set", "guest", "up")
        netns.ip("-n", bed.guest, "neigh", "replace", PEER, "lladdr", "02:00:0a:4d:00:01", "dev",
                 "guest", "nud", "permanent")
        netns.ip("-n", bed.driver_domain, "link", "set", "vnet0", "up")
        self.runs = threading.Event()
        self.runs.set()
        self.start()

    @staticmethod
    def _tap(namespace, name):
        with harness.Inside(namespace):
            tap = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x1002))
        os.set_blocking(tap, False)
        return tap

    def run(self):
        while True:
            self.runs.wait()
            for end in select.select(self.ends, [], [], 0.05)[0]:
                other = self.ends[1] if end == self.ends[0] else self.ends[0]
                try:
                    for _ in range(64):
                        if not self.runs.is_set():
                            break
                        os.write(other, os.read(end, 70000))
                except OSError:
                    pass


def unacknowledged(connection):
    return struct.unpack("i", fcntl.ioctl(connection.fileno(), 0x5411, bytes(4)))[0]


def a_machine_that_stops_is_not_spoken_for(bed):
    """Its tap goes on taking frames: that is no life. Paused for longer than a guest may take to
    acknowledge (VSNOOP_PAUSE=75: for longer than a minute), and woken again, it has lost nothing."""
    try:
        machine = Machine(bed)
    except OSError as error:
        raise harness.Skip(f"no taps here: {error}") from None
    live = start(bed, bed.PEER_INTERFACE, "vnet0", "--liveness", "1s")
    wait_for(lambda: harness.READY in live.output(), "it gets ready")
    peer, guest = bed.connect(bed.listener())
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one = harness.Receiver(guest, 120 + PAUSE)
    peer.sendall(bytes(1000))
    wait_for(lambda: len(one.data) == 1000, "the first bytes arrive")
    machine.runs.clear()
    sent, promised_at = 1000, []
    for second in range(PAUSE):
        peer.sendall(bytes(500))
        sent += 500
        time.sleep(1)
        if unacknowledged(peer) == 0:
            promised_at.append(second)
    check(promised_at and max(promised_at) <= 2,
          f"with its machine stopped it acknowledged what was sent after {promised_at} s")
    machine.runs.set()
    # The sender asks again after as long as it was not answered.
    wait_for(lambda: len(one.data) == sent, "the machine gets everything", 30 + PAUSE)
    check(one.error is None, f"the connection ended: {one.error!r}")
    wait_for(lambda: unacknowledged(peer) == 0, "everything is acknowledged")
    live.signal(signal.SIGTERM)
    live.succeed(10)


harness.run([what_cannot_work_is_refused, what_may_not_work_is_said, other_names, a_user_namespace,
             a_machine_that_stops_is_not_spoken_for], 60 + PAUSE)
