#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""TCP over IPv6, and in an 802.1Q VLAN."""

import fcntl
import os
import select
import socket
import struct
import threading

import harness
import netns
from harness import check

SOL_PACKET, AUXDATA, IGNORE_OUTGOING, PROMISC = 263, 8, 23, 1
TUNSETIFF, IFF_TAP_NO_PI = 0x400454CA, 0x1002
VLAN_VALID = 0x10
VLAN = 7


class Tagger(threading.Thread):
    """A VLAN interface in user space, as not every kernel has them: a TAP whose frames go out of a
    real interface with a tag."""

    def __init__(self, bed, namespace, interface):
        super().__init__(daemon=True)
        if not os.path.exists("/dev/net/tun"):
            raise harness.Skip("there is no /dev/net/tun")
        with harness.Inside(namespace):
            self._tap = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(self._tap, TUNSETIFF, struct.pack("16sH22x", b"vlan", IFF_TAP_NO_PI))
            self._link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._link.setsockopt(SOL_PACKET, AUXDATA, 1)
            self._link.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
            self._link.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            self._link.bind((interface, 3))
            index = socket.if_nametoindex(interface)
            self._link.setsockopt(SOL_PACKET, PROMISC, struct.pack("IHH8s", index, 1, 0, bytes(8)))
        self._wake, self._waker = os.pipe()
        self.tagged = 0
        self.start()
        bed.keep(self)

    def run(self):
        while True:
            ready = select.select([self._wake, self._tap, self._link], [], [])[0]
            if self._wake in ready:
                return
            if self._tap in ready:
                frame = os.read(self._tap, 2000)
                self._link.send(frame[:12] + struct.pack("!HH", 0x8100, VLAN) + frame[12:])
            if self._link in ready:
                frame, extra, _, _ = self._link.recvmsg(70000, 64)
                if self._ours(extra):
                    self.tagged += 1
                    os.write(self._tap, frame)

    @staticmethod
    def _ours(extra):
        for _, _, data in extra:
            status, _, _, _, _, tci, _ = struct.unpack("IIIHHHH", data[:20])
            return bool(status & VLAN_VALID) and tci & 0xFFF == VLAN
        return False

    def end(self):
        os.write(self._waker, b"x")
        self.join()
        os.close(self._tap)
        self._link.close()


def ipv6(bed):
    bed.enable_ipv6([(bed.peer, "peer", "fd77::1"), (bed.guest, "guest", "fd77::2")])
    live = bed.live(*harness.CONTENDED)
    for seed in (1, 2):
        harness.transfer(bed, 5_000_000, seed=seed, address="fd77::2")
    live.stop().check_offloaded(early_acks=5, promised=5_000_000)


def ipv6_with_faults(bed):
    bed.enable_ipv6([(bed.peer, "peer", "fd77::1"), (bed.guest, "guest", "fd77::2")])
    bed.single_frames()
    live = bed.live(*harness.CONTENDED, "--fault", "peer:loss=1%,reorder=1%,seed=3",
                    "--fault", "guest:loss=1%,seed=4")
    harness.transfer(bed, 3_000_000, address="fd77::2")
    counters = live.stop()
    counters.check_offloaded(early_acks=5)
    check(counters["faults"]["lost"] > 0, f"nothing was lost:\n{counters.dump()}")


def vlan(bed):
    taggers = []
    for namespace, interface, address in ((bed.peer, "peer", "10.78.0.1"),
                                          (bed.guest, "guest", "10.78.0.2")):
        taggers.append(Tagger(bed, namespace, interface))
        netns.ip("-n", namespace, "address", "add", f"{address}/24", "dev", "vlan")
        netns.ip("-n", namespace, "link", "set", "vlan", "up")
    live = bed.live(*harness.CONTENDED)
    harness.transfer(bed, 3_000_000, address="10.78.0.2")
    live.stop().check_offloaded(early_acks=5, promised=1_500_000)
    for tagger in taggers:
        check(tagger.tagged > 100, f"only {tagger.tagged} frames had a tag")


harness.run([ipv6, ipv6_with_faults, vlan], 45)
