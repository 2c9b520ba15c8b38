#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The process: it drains whatever ends it, waits for nobody who reads what it says, keeps no right
that it does not need, and names what it could not keep."""

import os
import signal
import stat
import subprocess
import time

import harness
import netns
from harness import GUEST, check, wait_for

# Away for 1.45 of 1.5 s: what is promised stays promised for a while.
RARELY_ON = ("--vcpus", "30", "--slice", "50ms")


def promised(bed, port):
    """A bridge that has promised what the guest has not seen, and the transfer it is part of."""
    live = bed.live(*RARELY_ON)
    peer, guest = bed.connect(bed.listener(port=port))
    one = harness.Transfer(peer, guest, 200_000)
    wait_for(lambda: not one.sender.is_alive(), "everything is sent")
    return live, one


def every_signal_drains(bed):
    """What the sender was told had arrived arrives, and a plain bridge takes over."""
    used = (signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGPIPE, signal.SIGUSR2,
            signal.SIGPWR, signal.SIGRTMIN)
    for port, number in enumerate(used, 7000):
        live, one = promised(bed, port)
        live.signal(number)
        if number == signal.SIGHUP:
            live.signal(signal.SIGTERM)  # as a service manager does: no second request
        counters = live.result()
        check("promised bytes to drain" in live.output(), f"{number!r}: {live.output()}")
        counters.check_offloaded()
        plain = bed.live("--policy", "off")
        one.check_exact()
        plain.stop()
    return f"{len(used)} signals"


def nobody_reads_what_it_says(bed):
    """Closed, full, and unread: what is lost is text."""
    unread, unread_end = os.pipe()
    closed, closed_end = os.pipe()
    os.close(closed)
    for what, end in (("closed pipe", closed_end), ("full disk", os.open("/dev/full", os.O_WRONLY)),
                      ("unread pipe", unread_end)):
        process = subprocess.Popen(
            ["ip", "netns", "exec", bed.driver_domain, bed.vsnoop, "live", "--peer-if",
             bed.PEER_INTERFACE, "--guest-if", bed.GUEST_INTERFACE, "--stats", "1ms", "--json", "-"],
            stdin=subprocess.DEVNULL, stdout=end, stderr=end)
        try:
            time.sleep(0.5)  # the pipe holds 64 KiB; no test depends on its being full
            harness.transfer(bed, 1_000_000)
            check(process.poll() is None, f"{what}: it ended, {process.returncode}")
            process.terminate()
            if what == "unread pipe":  # --json - at the end may wait for its reader
                os.set_blocking(unread, False)
                wait_for(lambda: drained(unread, process), "it ends")
            status = process.wait(10)
            wanted = 0 if what == "unread pipe" else 1  # the JSON is lost, and that is said
            check(status == wanted, f"{what}: status {status}")
        finally:
            process.kill()
            process.wait()


def a_full_disk(bed):
    """Transfers go on; that the log is not whole is said, and the exit status is not 0."""
    folder = bed.directory / "full"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", folder],
                      check=False).returncode:
        raise harness.Skip("nothing can be mounted here")
    try:
        bed.single_frames()
        (folder / "fill").write_bytes(bytes(8192))
        live = bed.live("--log", folder / "log", "--metrics", folder / "live.prom")
        (folder / "fill").write_bytes(bytes(65536 - 12288))
        harness.transfer(bed, 4_000_000)
        live.stop(expected=1).check_offloaded()
        check("log is incomplete" in live.output(), f"it is not told: {live.output()}")
        check({path.name for path in folder.iterdir()} == {"fill", "log", "live.prom"},
              f"something else is left: {sorted(folder.iterdir())}")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def drained(pipe, process):
    try:
        while os.read(pipe, 65536):
            pass
    except BlockingIOError:
        pass
    return process.poll() is not None


def it_keeps_two_rights(bed):
    live = bed.live("--user", "nobody")
    status = dict(line.split(":\t", 1) for line in
                  open(f"/proc/{live.process.pid}/status", encoding="ascii").read().splitlines())
    check(set(status["Uid"].split()) == {"65534"}, f"it runs as {status['Uid']}")
    check(status["Groups"].strip() in ("", "65534"), f"it has the groups {status['Groups']}")
    two = 1 << 12 | 1 << 13  # CAP_NET_ADMIN, CAP_NET_RAW
    for which, wanted in (("CapEff", two), ("CapPrm", two), ("CapBnd", two), ("CapInh", 0),
                          ("CapAmb", 0)):
        check(int(status[which], 16) == wanted, f"{which} is {status[which]}")
    check(status["NoNewPrivs"].strip() == "1", "it may gain rights")
    # An interface that comes back needs no more than these.
    for interface in (bed.GUEST_INTERFACE, bed.PEER_INTERFACE):
        netns.ip("-n", bed.driver_domain, "link", "set", interface, "down")
        wait_for(lambda: "is gone" in live.output(), "the loss is told")
        netns.ip("-n", bed.driver_domain, "link", "set", interface, "up")
        side = "guest" if interface == bed.GUEST_INTERFACE else "peer"
        wait_for(lambda: f"{side}'s interface is back" in live.output(), "the return is told")
    harness.transfer(bed, 1_000_000)
    live.stop().check_offloaded()


def refused(bed, *options):
    """What it says when it does not start."""
    child = bed.run(bed.driver_domain, bed.vsnoop, "live", "--peer-if", bed.PEER_INTERFACE,
                    "--guest-if", bed.GUEST_INTERFACE, *options)
    status = child.wait(10)
    check(status in (1, 2), f"{options}: status {status}: {child.output()}")
    return child.output()


def its_files_are_its_own(bed):
    log, link, other = (bed.directory / name for name in ("log", "link", "other"))
    other.write_text("precious")
    link.symlink_to(other)
    for option in ("--log", "--json"):
        check("symbolic link" in refused(bed, option, str(link)), f"{option} followed a link")
    check(other.read_text() == "precious", "what the link names was changed")
    os.chown(other, 12345, 12345)
    check("another user" in refused(bed, "--json", str(other)), "it took over another's file")
    bed.single_frames()
    live = bed.live("--log", str(log), "--log-limit", "64Ki")
    harness.transfer(bed, 2_000_000)
    counters = live.stop()
    for path in (log, live._json):
        check(stat.S_IMODE(path.stat().st_mode) == 0o600, f"{path} has mode {path.stat().st_mode:o}")
    check("--log-limit" in live.output(), f"the end of the log is not told: {live.output()}")
    check(32768 < log.stat().st_size <= 65536, f"the log has {log.stat().st_size} bytes")
    counters.check_offloaded()
    bed.run(bed.peer, bed.vsnoop, "replay", "--log", log).succeed(20)


def broken_promises_are_named(bed):
    live = bed.live(*harness.CONTENDED, "--rate", "300M", "--grace", "500ms")
    one = harness.Transfer(*bed.connect(bed.listener()))
    one.wait_for_more()
    one.receiver.go.clear()
    netns.ip("-n", bed.guest, "link", "delete", "guest")
    port = one.ends[0].getsockname()[1]
    wait_for(lambda: f"reset {netns.PEER_ADDRESS}:{port} -> {GUEST}:7000" in live.output(),
             "the connection is named at once", 5)
    one.check_reset(5)
    counters = live.stop(expected=3)
    check(counters["broken_promise_bytes"] > 0 and counters["broken_connections"] == 1,
          f"it was not counted:\n{counters.dump()}")


def counters_while_it_runs(bed):
    folder = bed.directory / "metrics"
    folder.mkdir()
    check("--user" in refused(bed, "--metrics", str(folder / "live.prom")),
          "a folder that it may not write to was accepted")
    os.chown(folder, 65534, 65534)
    live = bed.live("--metrics", str(folder / "live.prom"))
    harness.transfer(bed, 1_000_000)
    live.signal(signal.SIGUSR1)
    wait_for(lambda: "early ACKs" in live.output(), "SIGUSR1 prints a line")
    counters = live.stop()
    text = (folder / "live.prom").read_text()
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    check(values["vsnoop_live_promised_bytes_total"] == counters.engine("promised_bytes"),
          f"the metrics say something else than the JSON:\n{text}")
    frames = 'vsnoop_live_frames_total{direction="from_peer"}'
    check(values[frames] == counters["from_peer"]["frames"], f"{frames}:\n{text}")
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            check(line.split()[3] in ("counter", "gauge", "summary"), line)
    check([path.name for path in folder.iterdir()] == ["live.prom"], "something else is left there")


harness.run([every_signal_drains, nobody_reads_what_it_says, a_full_disk, it_keeps_two_rights,
             its_files_are_its_own, broken_promises_are_named, counters_while_it_runs], 60)
