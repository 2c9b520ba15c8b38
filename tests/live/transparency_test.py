#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What vsnoop does not speak for leaves exactly as it came, in order."""

import socket
import struct
import threading

import harness
from harness import GUEST, PEER, check, wait_for

SOL_PACKET, VNET_HDR, AUXDATA, STATISTICS = 263, 15, 8, 6
OUTGOING = 4
VLAN_VALID = 0x10
MACS = bytes.fromhex("02000a4d0002"), bytes.fromhex("02000a4d0001")
LAST = b"".join(MACS) + b"\x88\xb5the last frame"


class Capture(threading.Thread):
    """All frames of an interface with their virtio-net headers: those it sent, those it got."""

    def __init__(self, bed, namespace, interface):
        super().__init__(daemon=True)
        self.sent, self.got = [], []
        with harness.Inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(SOL_PACKET, VNET_HDR, 1)
            self._socket.setsockopt(SOL_PACKET, AUXDATA, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
            self._socket.bind((interface, 3))
        bed.keep(self._socket)
        self.start()

    def run(self):
        try:
            while True:
                frame, extra, _, address = self._socket.recvmsg(70000, 64)
                frame = without_hint(whole(frame, extra))
                (self.sent if address[2] == OUTGOING else self.got).append(frame)
        except OSError:
            pass

    def check_complete(self):
        _, drops = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, STATISTICS, 8))
        check(drops == 0, f"the test's own capture lost {drops} frames")


def whole(frame, extra):
    """The frame with the VLAN tag that the kernel took out."""
    for _, _, data in extra:
        status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
        if status & VLAN_VALID:
            return frame[:22] + struct.pack("!HH", tpid or 0x8100, tci) + frame[22:]
    return frame


def without_hint(frame):
    """The frame without hdr_len of its virtio-net header: that says how the kernel keeps it."""
    return frame[:2] + frame[4:]


def odd_frames():
    """Frames that a bridge must not judge: broken, tagged, of protocols nobody knows."""
    ethernet = b"".join(MACS)
    ip = bytes.fromhex("4500002800010000400600000a4d00010a4d0002")
    yield ethernet + b"\x88\xb5" + b"unknown protocol"
    yield ethernet + b"\x88\xb5"
    yield ethernet + b"\x08\x00" + ip[:7]                             # cut
    yield ethernet + b"\x08\x00" + b"\x4f" + ip[1:] + bytes(20)       # options that are not there
    yield ethernet + b"\x08\x00" + ip + b"\xff" * 20                  # TCP with all flags
    yield ethernet + b"\x08\x00" + ip[:6] + b"\x20\x05" + ip[8:] + bytes(40)  # fragment
    yield ethernet + b"\x86\xdd" + b"\x60" + bytes(60)
    yield ethernet + b"\x81\x00\x00\x07\x08\x00" + ip + bytes(40)
    yield ethernet + b"\x88\xa8\x00\x09\x81\x00\x00\x07\x08\x00" + ip + bytes(40)
    yield b"\xff" * 6 + MACS[1] + b"\x08\x06" + bytes(28)
    yield ethernet + b"\x88\xb5" + bytes(range(256)) * 5 + bytes(200)  # nearly the MTU


def send_frames(bed, namespace, interface, frames):
    link = bed.socket(namespace, socket.AF_PACKET, socket.SOCK_RAW)
    link.bind((interface, 0))
    for frame in frames:
        link.send(frame)


def datagrams(bed):
    """UDP both ways, some of it in fragments."""
    guest, peer = (bed.socket(namespace, kind=socket.SOCK_DGRAM)
                   for namespace in (bed.guest, bed.peer))
    guest.bind((GUEST, 7001))
    peer.bind((PEER, 7001))
    for one, other, address in ((peer, guest, GUEST), (guest, peer, PEER)):
        other.settimeout(10)
        for size in (0, 1, 1000, 1472, 5000):
            one.sendto(harness.pattern(size), (address, 7001))
            check(other.recv(9000) == harness.pattern(size), f"a datagram of {size} bytes changed")


def compare(bed, use):
    """Uses the bridge and compares what went in with what came out. Returns the frames' number."""
    in_one_order(bed)
    peer = Capture(bed, bed.peer, "peer")
    guest = Capture(bed, bed.guest, "guest")
    use()
    send_frames(bed, bed.peer, "peer", [LAST])
    wait_for(lambda: up_to_last(guest.got), "the last frame gets to the guest")
    send_frames(bed, bed.guest, "guest", [LAST])
    wait_for(lambda: up_to_last(peer.got), "the last frame gets to the peer")
    for capture in (peer, guest):
        wait_for(lambda: up_to_last(capture.sent), "the last frame is captured")
        capture.check_complete()
    for what, sent, got in (("peer to guest", peer.sent, guest.got),
                            ("guest to peer", guest.sent, peer.got)):
        sent, got = up_to_last(sent), up_to_last(got)
        for i, (a, b) in enumerate(zip(sent, got)):
            check(a == b, f"frame {i} {what} changed:\n{a[:120].hex()}\n{b[:120].hex()}")
        check(len(got) == len(sent), f"{len(sent)} frames went in {what}, {len(got)} came out")
    return len(up_to_last(peer.sent)), len(up_to_last(guest.sent))


def up_to_last(frames):
    """The frames until LAST; none if it is not among them. A connection that ends late comes after."""
    for i, frame in enumerate(frames):
        if LAST in frame[8:]:
            return frames[:i + 1]
    return []


def in_one_order(bed):
    """Each interface receives on one processor: on several, the kernel may swap two frames between
    the sender's capture and vsnoop. Where only real root may say so it stays as it is."""
    for namespace, interfaces in ((bed.peer, ["peer"]), (bed.guest, ["guest"]),
                                  (bed.driver_domain, [bed.PEER_INTERFACE, bed.GUEST_INTERFACE])):
        for interface in interfaces:
            harness.netns.ip("netns", "exec", namespace, "sh", "-ec",
                             f"echo 1 2>/dev/null >/sys/class/net/{interface}/queues/rx-0/rps_cpus || :")


def policy_off_changes_nothing(bed):
    live = bed.live("--policy", "off", "--vcpus", "3", "--slice", "30ms")

    def use():
        send_frames(bed, bed.peer, "peer", odd_frames())
        datagrams(bed)
        harness.transfer(bed, 2_000_000)

    to_guest, to_peer = compare(bed, use)
    check(to_guest > 50 and to_peer > 20, f"only {to_guest} and {to_peer} frames were compared")
    counters = live.stop()
    check("engine" not in counters, "there is an engine with policy off")
    check(counters["to_guest"]["frames"] == counters["from_peer"]["frames"] >= to_guest,
          f"the counters do not say {to_guest} frames:\n{counters.dump()}")
    return f"{to_guest} + {to_peer} frames"


def hold_leaves_alone_what_it_does_not_promise(bed):
    live = bed.live(*harness.CONTENDED)

    def use():
        send_frames(bed, bed.peer, "peer", odd_frames())
        datagrams(bed)

    to_guest, to_peer = compare(bed, use)
    harness.transfer(bed, 1_000_000, port=7005)
    live.stop().check_offloaded()
    return f"{to_guest} + {to_peer} frames"


harness.run([policy_off_changes_nothing, hold_leaves_alone_what_it_does_not_promise], 40)
