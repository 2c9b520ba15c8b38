#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many connections, floods, caps that are reached and recovered from, and a bridge that is killed:
no wrong byte, memory within what was asked for, and everything as before afterwards.

VSNOOP_CHURN: connections of the churn in all (3000; `make soak`: 100000), 1000 at a time."""

import os
import random
import resource
import selectors
import signal
import socket
import struct
import time

import harness
from harness import GUEST, check, wait_for

CONNECTIONS = int(os.environ.get("VSNOOP_CHURN", "3000"))
AT_ONCE = 1000
FIRST_PORT, PORTS = 7200, 32
MACS = bytes.fromhex("02000a4d0002"), bytes.fromhex("02000a4d0001")

# The guest's server: tells each connection how many bytes it got, and their sum; then closes.
SERVER = f"""
import selectors, socket, resource
most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
chooser = selectors.DefaultSelector()
for port in range({FIRST_PORT}, {FIRST_PORT + PORTS}):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("{GUEST}", port))
    listener.listen(4096)
    listener.setblocking(False)
    chooser.register(listener, selectors.EVENT_READ, None)
print("listening", flush=True)
while True:
    for event, _ in chooser.select():
        if event.data is None:
            try:
                connection = event.fileobj.accept()[0]
            except OSError:
                continue
            connection.setblocking(False)
            chooser.register(connection, selectors.EVENT_READ, [0, 0])
            continue
        try:
            part = event.fileobj.recv(65536)
        except BlockingIOError:
            continue
        except OSError:
            part = None
        if part:
            event.data[0] += len(part)
            event.data[1] = (event.data[1] + sum(part)) % 1000003
            continue
        if part == b"":
            event.fileobj.send(b"%d %d" % tuple(event.data))
        chooser.unregister(event.fileobj)
        event.fileobj.close()
"""


def memory_of(process):
    """Peak resident memory of a process in bytes."""
    for line in open(f"/proc/{process.pid}/status", encoding="ascii"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def churn(bed):
    """Thousands of short connections, each with its own bytes, a thousand of them at a time."""
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    live = bed.live(*harness.CONTENDED)
    for name, value in (("ip_local_port_range", "1024 65535"), ("tcp_tw_reuse", "1")):
        bed.run(bed.peer, "sysctl", "-qw", f"net.ipv4.{name}={value}").succeed(10)
    server = bed.python(bed.guest, SERVER)
    wait_for(lambda: "listening" in server.output(), "the guest's server listens")
    rng = random.Random(5)
    blob = harness.pattern(20000)
    chooser = selectors.DefaultSelector()
    started = finished = most = 0
    deadline = time.monotonic() + max(60, CONNECTIONS / 150)
    open_now = {}

    def begin(number):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((GUEST, FIRST_PORT + number % PORTS))
        size = rng.choice((1, 300, 1460, 6000, 20000))
        start = rng.randrange(len(blob) - size + 1)
        open_now[connection] = [blob[start:start + size], 0, b"", size, blob[start:start + size]]
        chooser.register(connection, selectors.EVENT_WRITE)

    with harness.Inside(bed.peer):
        while finished < CONNECTIONS:
            check(time.monotonic() < deadline,
                  f"{finished} of {CONNECTIONS} connections finished, {len(open_now)} hang")
            while started < CONNECTIONS and len(open_now) < AT_ONCE:
                begin(started)
                started += 1
            most = max(most, len(open_now))
            for event, _ in chooser.select(1):
                connection = event.fileobj
                state = open_now[connection]
                try:
                    if event.events & selectors.EVENT_WRITE:
                        state[0] = state[0][connection.send(state[0]):]
                        if not state[0]:
                            connection.shutdown(socket.SHUT_WR)
                            chooser.modify(connection, selectors.EVENT_READ)
                        continue
                    part = connection.recv(100)
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise harness.Failure(f"connection {started}: {error!r}") from None
                if part:
                    state[2] += part
                    continue
                wanted = b"%d %d" % (state[3], sum(state[4]) % 1000003)
                check(state[2] == wanted, f"the guest got {state[2]!r}, not {wanted!r}")
                chooser.unregister(connection)
                connection.close()
                del open_now[connection]
                finished += 1
    peak = memory_of(live.process)
    counters = live.stop()
    counters.check_offloaded(early_acks=CONNECTIONS // 10)
    check(most >= min(AT_ONCE, CONNECTIONS), f"only {most} connections at a time")
    return f"{finished} connections, {most} at a time, peak memory {peak >> 20} MiB"


def frames_of(kind, count, seed):
    """Frames from the peer's side: SYNs or ACKs of tuples that nobody knows."""
    rng = random.Random(seed)
    for _ in range(count):
        source = struct.pack("!BBH", 198, 18 + rng.randrange(2), rng.randrange(65536))
        flags = 0x02 if kind == "syn" else 0x10
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, source,
                         socket.inet_aton(GUEST))
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        tcp = struct.pack("!HHIIBBHHH", rng.randrange(1024, 65536), 7000, rng.getrandbits(32),
                          0 if kind == "syn" else rng.getrandbits(32), 0x50, flags, 65535, 0, 0)
        pseudo = source + socket.inet_aton(GUEST) + struct.pack("!BBH", 0, 6, 20)
        tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
        yield b"".join(MACS) + b"\x08\x00" + ip + tcp


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def flood(bed, kind):
    """A flood of 30,000 frames while a transfer goes on: the transfer ends, memory stays."""
    live = bed.live(*harness.CONTENDED)
    one = harness.Transfer(*bed.connect(bed.listener()))
    one.wait_for_more()
    before = memory_of(live.process)
    link = bed.socket(bed.peer, socket.AF_PACKET, socket.SOCK_RAW)
    link.bind(("peer", 0))
    for frame in frames_of(kind, 30000, 3):
        try:
            link.send(frame)
        except OSError:
            time.sleep(0.001)  # the test's own queue is full
    one.wait_for_more()
    one.check_exact()
    grown = memory_of(live.process) - before
    counters = live.stop()
    counters.check_offloaded(early_acks=10)
    check(grown < 24 << 20, f"memory grew by {grown} bytes")
    check(counters.engine("flows") < 10, f"the flood left flows:\n{counters.dump()}")
    return f"memory grew by {grown >> 10} KiB"


def syn_flood(bed):
    return flood(bed, "syn")


def ack_flood(bed):
    return flood(bed, "ack")


def port_scan(bed):
    """Connections to ports where nobody listens are refused by the guest, as without vsnoop."""
    live = bed.live("--policy", "hold")
    refused = 0
    with harness.Inside(bed.peer):
        for port in range(20000, 22000):
            with socket.socket() as probe:
                probe.settimeout(5)
                refused += probe.connect_ex((GUEST, port)) == 111
    check(refused == 2000, f"only {refused} of 2000 were refused")
    harness.transfer(bed, 1_000_000)
    counters = live.stop()
    counters.check_offloaded()
    check(counters.engine("flows") < 10, f"the scan left flows:\n{counters.dump()}")


def caps_reached_and_recovered_from(bed):
    """More connections than the flow table holds, and less memory than they want."""
    live = bed.live(*harness.CONTENDED, "--flows", "16", "--hold", "64Ki")
    listener = bed.listener()
    transfers = [harness.Transfer(*bed.connect(listener), 300_000, seed=i) for i in range(40)]
    for one in transfers:
        one.check_exact()
    harness.transfer(bed, 1_000_000, port=7001)
    counters = live.stop()
    counters.check_offloaded()
    check(counters.engine("peak_held_bytes") <= 64 << 10,
          f"more was held than allowed:\n{counters.dump()}")
    reasons = counters.engine("reasons")
    check(reasons.get("table_full", 0) > 0, f"the flow table was never full:\n{counters.dump()}")
    check(reasons.get("no_budget", 0) > 0, f"the budget was never reached:\n{counters.dump()}")


def kill_minus_nine(bed):
    """A crash of the bridge: what was promised is lost with it, which no one can help (README);
    but no wrong byte arrives, and a new bridge serves new connections at once."""
    live = bed.live(*harness.CONTENDED, "--rate", "300M")
    one = harness.Transfer(*bed.connect(bed.listener()))
    one.wait_for_more()
    live.signal(signal.SIGKILL)
    live.process.wait(5)
    got = bytes(one.receiver.data)
    again = bed.live(*harness.CONTENDED)
    harness.transfer(bed, 1_000_000, port=7001)
    again.stop().check_offloaded()
    now = bytes(one.receiver.data)
    check(now[:len(got)] == got and now == bytes(one.sender.data[:len(now)]),
          "wrong bytes after the crash")


harness.run([churn, syn_flood, ack_flood, port_scan, caps_reached_and_recovered_from,
             kill_minus_nine], int(max(100, CONNECTIONS / 100)))
