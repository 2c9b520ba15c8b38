#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Makes the captures in this directory: real Linux TCP between two network namespaces.

A small bridge in user space stands between peer and guest where a driver domain would: it records
what passes, and holds the guest's side up while the guest's virtual CPU is away (10 of every 30 ms
are the guest's). Needs root, iproute2 and ethtool. The captures are committed; tests assert only
what every run of this script gives.

    make-captures.py [NAME...]     all, or those named
"""

import ctypes
import heapq
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time

PEER, GUEST = "vsnoop-cap-peer", "vsnoop-cap-guest"
HERE = os.path.dirname(os.path.abspath(__file__))
SLICE, PERIOD = 0.010, 0.030
VNET_HEADER = 10  # struct virtio_net_hdr: carries GSO and partial checksums across the bridge
CLONE_NEWNET = 0x40000000
SOL_PACKET, PACKET_IGNORE_OUTGOING, PACKET_VNET_HDR = 263, 23, 15


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Inside:
    """Sockets that are made in here belong to the namespace."""

    libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self, name):
        self.name = name

    def enter(self, path):
        with open(path, "rb") as file:
            if self.libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {path}")

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.enter(f"/run/netns/{self.name}")

    def __exit__(self, *_):
        self.enter(f"/proc/self/fd/{self.home}")
        os.close(self.home)


class Capture:
    def __init__(self, path, snaplen, vlan):
        self.file = open(path, "wb")
        self.snaplen, self.vlan = snaplen, vlan
        self.start()

    def start(self):  # pcap with nanoseconds, Ethernet
        self.file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, self.snaplen, 1))

    def record(self, now, bytes_, wire):
        seconds, ns = divmod(now, 10**9)
        self.file.write(struct.pack("<IIII", seconds, ns, len(bytes_), wire) + bytes_)

    def write(self, now, frame):
        if self.vlan:
            frame = frame[:12] + struct.pack("!HH", 0x8100, self.vlan) + frame[12:]
        self.record(now, frame[: self.snaplen], len(frame))

    def close(self):
        self.file.close()


class CaptureNg(Capture):
    def block(self, kind, body):
        length = struct.pack("<I", len(body) + 12)
        self.file.write(struct.pack("<I", kind) + length + body + length)

    def start(self):
        self.block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
        resolution = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
        self.block(1, struct.pack("<HHI", 1, 0, self.snaplen) + resolution)

    def record(self, now, bytes_, wire):
        head = struct.pack("<IIIII", 0, now >> 32, now & 0xFFFFFFFF, len(bytes_), wire)
        self.block(6, head + bytes_ + bytes(-len(bytes_) % 4))


class Bridge(threading.Thread):
    def __init__(self, capture, lose):
        super().__init__(daemon=True)
        self.capture, self.lose = capture, lose
        self.ports = {}
        for name in ("to-peer", "to-guest"):
            port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            port.bind((name, 3))
            port.setsockopt(SOL_PACKET, 1, struct.pack("IHH8s", socket.if_nametoindex(name), 1, 0,
                                                       bytes(8)))  # promiscuous
            self.ports[port] = name
        self.done = False
        self.data_frames = 0

    def run(self):
        by_name = {name: port for port, name in self.ports.items()}
        order, waiting = 0, []
        while not self.done or waiting:
            timeout = max(0, waiting[0][0] - time.monotonic()) if waiting else 0.05
            for port in select.select(list(self.ports), [], [], timeout)[0]:
                frame, now = port.recv(70000), time.monotonic()
                phase = now % PERIOD
                due = now if phase < SLICE else now - phase + PERIOD
                to_guest = self.ports[port] == "to-peer"
                if to_guest and self.record(frame):
                    continue  # lost behind the driver domain
                order += 1
                heapq.heappush(waiting, (due, order, to_guest, frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, to_guest, frame = heapq.heappop(waiting)
                if not to_guest:
                    self.record(frame)
                by_name["to-guest" if to_guest else "to-peer"].send(frame)

    def record(self, frame):
        """Records a TCP frame; true if it is one of the peer's data frames that get lost."""
        frame = frame[VNET_HEADER:]
        four = frame[12:14] == b"\x08\x00"
        if frame[23 if four else 20] != 6:
            return False
        self.capture.write(time.time_ns(), frame)
        if len(frame) < 200:
            return False
        self.data_frames += 1
        return self.data_frames in self.lose


def set_up(mtu, offload):
    for name, side, number in (("to-peer", PEER, 1), ("to-guest", GUEST, 2)):
        run("ip", "netns", "add", side)
        run("ip", "link", "add", name, "mtu", str(mtu), "type", "veth",
            "peer", "name", "eth0", "mtu", str(mtu), "netns", side)
        run("ip", "-n", side, "link", "set", "eth0", "address", f"02:00:00:00:00:0{number}")
        run("ip", "-n", side, "addr", "add", f"10.7.0.{number}/24", "dev", "eth0")
        if mtu >= 1280:
            run("ip", "-n", side, "addr", "add", f"fd07::{number}/64", "dev", "eth0", "nodad")
        for place in ((), ("-n", side)):
            run("ip", *place, "link", "set", name if not place else "eth0", "up")
        if not offload:
            run("ip", "netns", "exec", side, "ethtool", "-K", "eth0", "tx", "off")
    for side, other in ((PEER, 2), (GUEST, 1)):
        for address in (f"10.7.0.{other}", f"fd07::{other}"):
            if mtu >= 1280 or "." in address:
                run("ip", "-n", side, "neigh", "replace", address, "lladdr",
                    f"02:00:00:00:00:0{other}", "dev", "eth0", "nud", "permanent")


def tear_down():
    for command in (("netns", "del", PEER), ("netns", "del", GUEST),
                    ("link", "del", "to-peer"), ("link", "del", "to-guest")):
        subprocess.run(("ip",) + command, stderr=subprocess.DEVNULL, check=False)


def connect(six, receive_buffer, port=0):
    """The peer connects to the guest, from `port` if that is not 0. Returns both ends."""
    family = socket.AF_INET6 if six else socket.AF_INET
    address = "fd07::2" if six else "10.7.0.2"
    with Inside(GUEST):
        listener = socket.socket(family)
    with Inside(PEER):
        peer = socket.socket(family)
    if receive_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if port:
        peer.bind(("", port))
    listener.bind((address, 80))
    listener.listen()
    peer.connect((address, 80))
    guest = listener.accept()[0]
    listener.close()
    return peer, guest


def wait_until_away():
    """Until the guest's virtual CPU has just been taken away."""
    time.sleep((SLICE - time.monotonic()) % PERIOD)


def transfer(peer, guest, size):
    wait_until_away()
    sender = threading.Thread(target=lambda: (peer.sendall(bytes(range(256)) * (size // 256)),
                                              peer.shutdown(socket.SHUT_WR)))
    sender.start()
    while guest.recv(65536):
        pass
    sender.join()
    guest.sendall(b"thanks")
    guest.close()
    while peer.recv(100):
        pass
    peer.close()


def aborted(peer, guest, size):
    """The guest's program goes away while data is on its way."""
    peer.sendall(bytes(512))
    guest.recv(512)
    guest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until_away()
    for i in range(size // 512):
        try:
            peer.send(bytes(512))
        except OSError:
            break
        time.sleep(0.004)
        if i == 2:
            guest.close()
    time.sleep(0.1)
    peer.close()


def stalled(peer, guest, size):
    """The guest's program does not read for a while: its window closes."""
    sender = threading.Thread(target=lambda: (peer.sendall(bytes(size)),
                                              peer.shutdown(socket.SHUT_WR)))
    wait_until_away()
    sender.start()
    time.sleep(1)
    while guest.recv(65536):
        pass
    sender.join()
    guest.close()
    time.sleep(0.2)
    peer.close()


def reused(peer, guest, size):
    """The peer resets the connection, and uses its port at once for another."""
    port = peer.getsockname()[1]
    wait_until_away()
    peer.sendall(bytes(size))
    while size:
        size -= len(guest.recv(size))
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    try:
        guest.recv(1)
    except ConnectionResetError:
        pass
    guest.close()
    transfer(*connect(False, None, port), 4096)


CAPTURES = {  # what is run, and how the network is
    "download.pcap": dict(size=12 * 1024, mtu=600),
    "offload.pcap": dict(size=12 * 1024, offload=True),
    "headers.pcap": dict(size=48 * 1024, mtu=600, snaplen=90),
    "vlan6.pcapng": dict(size=8 * 1024, six=True, vlan=7),
    "loss.pcap": dict(size=16 * 1024, mtu=600, lose=(6, 7, 15)),
    "reset.pcap": dict(size=16 * 1024, mtu=600, play=aborted),
    "window.pcap": dict(size=64 * 1024, mtu=1500, snaplen=90, play=stalled, receive_buffer=4096),
    "reuse.pcap": dict(size=4096, mtu=600, play=reused),
}


def make(name, size, mtu=1500, offload=False, snaplen=65535, six=False, vlan=0, lose=(),
         play=transfer, receive_buffer=0):
    kind = CaptureNg if name.endswith("ng") else Capture
    tear_down()
    capture = kind(os.path.join(HERE, name), snaplen, vlan)
    try:
        set_up(mtu, offload)
        bridge = Bridge(capture, lose)
        bridge.start()
        play(*connect(six, receive_buffer), size)
        time.sleep(0.2)
        bridge.done = True
        bridge.join()
    finally:
        tear_down()
        capture.close()


def main():
    names = sys.argv[1:] or list(CAPTURES)
    for name in names:
        if name not in CAPTURES:
            sys.exit(f"make-captures.py: no capture '{name}'; there are: {', '.join(CAPTURES)}")
    if os.geteuid() != 0:
        sys.exit("make-captures.py: network namespaces need root")
    for name in names:
        make(name, **CAPTURES[name])
        print(f"{name}: {os.path.getsize(os.path.join(HERE, name))} bytes")


if __name__ == "__main__":
    main()
