#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a kernel bridge carries, `vsnoop live` carries, at any size; what it cannot send it drops,
counts, and goes on."""

import socket
import struct
import threading
import time

import harness
import netns
from harness import GUEST, PEER, check, need

SOL_PACKET, VNET_HDR, AUXDATA, IGNORE_OUTGOING = 263, 15, 8, 23
VLAN_VALID = 0x10
MACS = bytes.fromhex("02000a4d000202000a4d0001")
TCP, UDP, IPIP, GRE, OTHER = 6, 17, 4, 47, 253
NEEDS_CSUM, GSO_NONE, GSO_TCP4, GSO_UDP = 1, 0, 1, 5


def inet_sum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def ethernet(kind, payload):
    return MACS + struct.pack("!H", kind) + payload


def tagged(*tags, payload, kind=0x0800):
    return MACS + b"".join(struct.pack("!HH", *tag) for tag in tags) + struct.pack("!H", kind) + payload


def ipv4(payload, protocol):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, protocol, 0,
                         socket.inet_aton(PEER), socket.inet_aton(GUEST))
    return header[:10] + struct.pack("!H", inet_sum(header) ^ 0xffff) + header[12:] + payload


def super_segment(size):
    """A TCP segment with its pseudo-header's sum in the place of the checksum."""
    pseudo = inet_sum(socket.inet_aton(PEER) + socket.inet_aton(GUEST)
                      + struct.pack("!HH", TCP, 20 + size))
    return struct.pack("!HHIIBBHHH", 1, 2, 100, 200, 0x50, 0x18, 500, pseudo, 0) + bytes(size)


def datagram(payload, port=2):
    return struct.pack("!HHHH", 1, port, 8 + len(payload), 0) + payload


def vnet(kind=GSO_NONE, size=0, start=0, offset=0, headers=0, flags=NEEDS_CSUM):
    return struct.pack("<BBHHHH", flags, kind, headers, size, start, offset)


PLAIN = vnet(flags=0)


def frames():
    """(name, virtio-net header, frame)"""
    full = ipv4(bytes(1480), OTHER)
    small = ipv4(bytes(100), OTHER)
    yield "as long as the MTU", PLAIN, ethernet(0x0800, full)
    for kind in (0x8100, 0x88a8, 0x9100):
        yield f"tag {kind:x}, full", PLAIN, tagged((kind, 5), payload=full)
    yield "QinQ, full", PLAIN, tagged((0x88a8, 5), (0x8100, 6), payload=full)
    yield "two tags, full", PLAIN, tagged((0x8100, 5), (0x8100, 6), payload=full)
    yield "three tags, full", PLAIN, tagged((0x8100, 5), (0x8100, 6), (0x8100, 7), payload=full)
    for tci in (0, 0xe000, 0x1005, 4095):
        yield f"tag {tci:04x}", PLAIN, tagged((0x8100, tci), payload=small)
    yield "nothing behind Ethernet", PLAIN, ethernet(0x88b5, b"")
    yield "one byte", PLAIN, ethernet(0x88b5, b"x")
    yield "tag cut", PLAIN, ethernet(0x8100, b"\x00\x05")
    yield "802.3, LLC", PLAIN, ethernet(20, b"\x42\x42\x03" + bytes(17))
    yield "802.3, SNAP", PLAIN, ethernet(30, b"\xaa\xaa\x03\0\0\0\x08\0" + bytes(22))
    yield "802.3, no length", PLAIN, ethernet(0, bytes(46))
    yield "802.3, full", PLAIN, ethernet(1500, bytes(1500))
    for kind in (0x8847, 0x8864, 0x88e5, 0x88cc, 0x8906, 0x8808, 0x88f7, 0x22f3, 0x0806, 0xffff):
        yield f"EtherType {kind:04x}", PLAIN, ethernet(kind, bytes(60))
    yield "MPLS, four bytes over", PLAIN, ethernet(0x8847, b"\0\0\x11\x40" + full)
    yield "five bytes over", PLAIN, ethernet(0x88b5, bytes(1505))
    yield "far too long", PLAIN, ethernet(0x88b5, bytes(1700))
    yield "broadcast", PLAIN, b"\xff" * 6 + ethernet(0x88b5, bytes(50))[6:]
    yield "multicast", PLAIN, bytes.fromhex("01005e000001") + ethernet(0x88b5, bytes(50))[6:]
    for size in (1000, 3000, 20000, 60000):
        packet = ipv4(super_segment(size), TCP)
        yield f"TCP super-frame of {size}", vnet(GSO_TCP4, 1448, 34, 16, 54), ethernet(0x0800, packet)
        yield ("the same, tag", vnet(GSO_TCP4, 1448, 38, 16, 58),
               tagged((0x8100, 5), payload=packet))
        yield ("the same, QinQ", vnet(GSO_TCP4, 1448, 42, 16, 62),
               tagged((0x88a8, 4), (0x8100, 5), payload=packet))
    packet = ipv4(super_segment(3000), TCP)
    yield "TCP super-frame, ECN", vnet(GSO_TCP4 | 0x80, 1448, 34, 16, 54), ethernet(0x0800, packet)
    packet = ipv4(datagram(bytes(5000)), UDP)
    yield "UDP super-frame", vnet(GSO_UDP, 1200, 34, 6, 42), ethernet(0x0800, packet)
    yield "the same, tag", vnet(GSO_UDP, 1200, 38, 6, 46), tagged((0x8100, 5), payload=packet)
    yield "checksum of UDP open", vnet(start=34, offset=6), ethernet(0x0800, ipv4(
        datagram(bytes(100)), UDP))
    yield "checksum of SCTP open", vnet(start=34, offset=8), ethernet(0x0800, ipv4(
        struct.pack("!HHII", 1, 2, 3, 0) + bytes(100), 132))
    yield "checksum somewhere", vnet(start=20, offset=6), ethernet(0x88b5, bytes(100))


def receive(sock):
    """What has arrived: (virtio-net header without hdr_len, frame with its tag)."""
    got = []
    while True:
        try:
            frame, extra, _, _ = sock.recvmsg(70000, 64)
        except TimeoutError:
            return got
        for _, _, data in extra:
            status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
            if status & VLAN_VALID:
                frame = frame[:22] + struct.pack("!HH", tpid or 0x8100, tci) + frame[22:]
        got.append((frame[:2] + frame[4:10], frame[10:]))


def send_all(bed):
    """{name: what arrived of it at the guest}"""
    with harness.Inside(bed.guest):
        there = bed.keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        for option in (VNET_HDR, AUXDATA, IGNORE_OUTGOING):
            there.setsockopt(SOL_PACKET, option, 1)
        there.bind(("guest", 3))
    with harness.Inside(bed.peer):
        here = bed.keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        here.setsockopt(SOL_PACKET, VNET_HDR, 1)
        here.bind(("peer", 0))
    there.settimeout(0.1)
    receive(there)
    arrived = {}
    for name, header, frame in frames():
        try:
            here.send(header + frame)
        except OSError:
            continue  # this kernel knows no such super-frame
        arrived[f"{name} ({len(frame)})"] = receive(there)
    return arrived


def as_a_bridge(bed):
    """Each kind of frame through a bridge of the kernel, then through vsnoop live."""
    inside = "-n", bed.driver_domain, "link"
    netns.ip("-n", bed.peer, "link", "set", "peer", "mtu", "9000")
    netns.ip(*inside, "set", bed.PEER_INTERFACE, "mtu", "9000")
    netns.ip(*inside, "add", "br0", "up", "type", "bridge", "mcast_snooping", "0")
    for port in (bed.PEER_INTERFACE, bed.GUEST_INTERFACE):
        netns.ip(*inside, "set", port, "master", "br0")
    bridge = send_all(bed)
    netns.ip(*inside, "delete", "br0")
    live = bed.live("--policy", "off")
    ours = send_all(bed)
    counters = live.stop()
    check(sum(map(bool, bridge.values())) > 40, f"the bridge passed too little: {bridge}")
    # A veth counts a tag that is in the frame, and that of a bridge is beside it: with two tags, a
    # full frame is too long for it, and that is said.
    worse = {name: (len(got), len(ours[name])) for name, got in bridge.items()
             if got != ours[name] and not name.endswith("(1522)")}
    check(not worse, f"kinds that do not pass as through a bridge (frames there, here): {worse}")
    lost = sum(not got for name, got in ours.items() if int(name.split("(")[-1][:-1]) > 1518)
    check(lost >= 2 and counters["dropped"]["refused_too_long"] == lost,
          f"{lost} were too long, but counted was:\n{counters.dump()}\n{ours}")
    # Four bytes more at the guest's end, and they pass.
    netns.ip("-n", bed.guest, "link", "set", "guest", "mtu", "1504")
    netns.ip(*inside, "set", bed.GUEST_INTERFACE, "mtu", "1504")
    live = bed.live("--policy", "off")
    ours = send_all(bed)
    live.stop()
    worse = {name: (len(got), len(ours[name])) for name, got in bridge.items()
             if got and got != ours[name]}
    check(not worse, f"kinds that do not pass with an MTU of 1504: {worse}")
    return f"{len(bridge)} kinds"


def exchange(bed, port, address=GUEST, size=3_000_000):
    """Checked transfers, both ways at one time."""
    listener = bed.listener(address=address, port=port)
    transfers = []
    for number in range(2):
        ends = bed.connect(listener)
        transfers.append(harness.Transfer(*(ends if number == 0 else ends[::-1]), size, number))
    for one in transfers:
        one.check_exact()
    listener.close()


def tunnel(bed, number, name, kind, *options):
    """The same tunnel at both ends. Returns the guest's address in it; None if this kernel has no
    such thing."""
    for namespace, here, there, device, last in ((bed.peer, PEER, GUEST, "peer", 1),
                                                 (bed.guest, GUEST, PEER, "guest", 2)):
        words = [word.format(here=here, there=there, device=device) for word in options]
        below = ("link", device) if kind == "vlan" else ()
        try:
            netns.ip("-n", namespace, "link", "add", *below, "name", name, "type", kind, *words)
        except netns.Error as error:
            if "not supported" in str(error) or "Unknown device" in str(error):
                return None
            raise
        netns.ip("-n", namespace, "address", "add", f"10.78.{number}.{last}/24", "dev", name)
        netns.ip("-n", namespace, "link", "set", name, "up")
    return f"10.78.{number}.2"


TUNNELS = (
    ("vxlan", "vxlan", "id", "42", "remote", "{there}", "dstport", "4789", "dev", "{device}"),
    ("vxlansum", "vxlan", "id", "43", "remote", "{there}", "dstport", "5789", "dev", "{device}",
     "udpcsum"),
    ("geneve", "geneve", "id", "44", "remote", "{there}"),
    ("gre", "gre", "local", "{here}", "remote", "{there}"),
    ("gresum", "gre", "local", "{here}", "remote", "{there}", "key", "7", "csum"),
    ("gretap", "gretap", "local", "{here}", "remote", "{there}", "key", "8"),
    ("ipip", "ipip", "local", "{here}", "remote", "{there}"),
    ("vlan7", "vlan", "id", "7"),
)


def tunnels(bed):
    """TCP inside of tunnels comes as super-frames that the kernel does not take back."""
    live = bed.live(*harness.CONTENDED)
    used = []
    for number, (name, kind, *options) in enumerate(TUNNELS):
        address = tunnel(bed, number, name, kind, *options)
        if not address:
            continue
        try:
            exchange(bed, 7300, address, 1_000_000)
        except harness.Failure as failure:
            raise harness.Failure(f"{name}: {failure}") from None
        used.append(name)
    exchange(bed, 7301)
    counters = live.stop()
    check(len(used) >= 2, f"only {used} exist here")
    check(counters["dropped"]["refused_by_kernel"] == 0, f"frames were refused:\n{counters.dump()}")
    return ", ".join(used)


def big_tcp(bed):
    """Super-frames of more than 64 KiB pass, in parts, and fast."""
    for namespace, interface in ((bed.peer, "peer"), (bed.guest, "guest"),
                                 (bed.driver_domain, bed.PEER_INTERFACE),
                                 (bed.driver_domain, bed.GUEST_INTERFACE)):
        for family in ("", "_ipv4"):
            try:
                netns.ip("-n", namespace, "link", "set", interface, f"gso{family}_max_size", "185000",
                         f"gro{family}_max_size", "185000")
            except netns.Error as error:
                if family:
                    continue
                raise harness.Skip(f"no BIG TCP here: {error}") from None
    bed.enable_ipv6([(bed.peer, "peer", "fd77::1"), (bed.guest, "guest", "fd77::2")])
    for policy in ("off", "hold"):
        live = bed.live("--policy", policy)
        for address in (GUEST, "fd77::2"):
            exchange(bed, 7310, address, 30_000_000)
        counters = live.stop()
        check(counters["dropped"]["oversized"] == 0, f"frames were too long:\n{counters.dump()}")


def udp_super_frames(bed):
    """Datagrams that the sender's kernel was to cut (UDP_SEGMENT: QUIC, WireGuard)."""
    live = bed.live(*harness.CONTENDED)
    for here, there, address in ((bed.peer, bed.guest, GUEST), (bed.guest, bed.peer, PEER)):
        receiver = bed.socket(there, kind=socket.SOCK_DGRAM)
        receiver.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
        receiver.bind((address, 7320))
        receiver.settimeout(1)
        sender = bed.socket(here, kind=socket.SOCK_DGRAM)
        for number in range(20):
            sender.sendmsg([b"".join(bytes([number, part]) * 600 for part in range(10))],
                           [(socket.SOL_UDP, 103, struct.pack("H", 1200))], 0, (address, 7320))
            time.sleep(0.005)
        got = [receiver.recv(70000) for _ in range(200)]
        wanted = [bytes([number, part]) * 600 for number in range(20) for part in range(10)]
        check(got == wanted, f"to {address}: datagrams changed, or changed their order")
    live.stop()


def a_frame_that_is_refused_stops_nothing(bed):
    """A filter at the way out refuses a neighbour's frames, one after the other."""
    tc = need("tc", "iproute2")
    for command in (("qdisc", "add", "dev", bed.GUEST_INTERFACE, "clsact"),
                    ("filter", "add", "dev", bed.GUEST_INTERFACE, "egress", "protocol", "0x88b5",
                     "matchall", "action", "drop")):
        if (said := bed.run(bed.driver_domain, tc, *command)).wait(10) != 0:
            raise harness.Skip(f"no filters here: {said.output().strip()}")
    live = bed.live()
    here = bed.socket(bed.peer, socket.AF_PACKET, socket.SOCK_RAW)
    here.bind(("peer", 0))
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            for _ in range(20):
                here.send(ethernet(0x88b5, bytes(100)))
            time.sleep(0.002)

    neighbour = threading.Thread(target=disturb, daemon=True)
    neighbour.start()
    started = time.monotonic()
    try:
        exchange(bed, 7330, size=20_000_000)
    finally:
        stop.set()
        neighbour.join()
    counters = live.stop()
    counters.check_offloaded()
    check(counters["dropped"]["refused_no_room"] > 100, f"nothing was refused:\n{counters.dump()}")
    return f"{time.monotonic() - started:.1f} s, {counters['dropped']['refused_no_room']} refused"


harness.run([as_a_bridge, tunnels, big_tcp, udp_super_frames,
             a_frame_that_is_refused_stops_nothing], 60)
