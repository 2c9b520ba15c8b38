# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One setting of `make run`: `vsnoop live` between the namespaces, vsnoop-load in them."""

import asyncio
import contextlib
import dataclasses
import json
import subprocess
import time

import netns

READY = "vsnoop live: ready"
READY_TIMEOUT = 15
STOP_TIMEOUT = 15
TRANSFER_LIMIT = 60


class Failure(Exception):
    """The measurement cannot go on; the text says why."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What one `vsnoop live` is started with, and how it is used."""

    policy: str
    vcpus: int
    slice_ms: float
    guest: str
    connection: str
    linger_us: float = 0
    receive_buffer: str = "large"  # of netns.RECEIVE_BUFFERS
    sizes: tuple = ()  # empty: all that are measured
    repeat: int = 1  # 2: measured again, to show how far two equal measurements lie apart

    def name(self):
        parts = [self.policy + (" again" if self.repeat > 1 else "")]
        parts.append(self.guest if self.vcpus > 1 else "not contended")
        parts.append(self.connection)
        if self.linger_us:
            parts.append(f"linger {self.linger_us:g} us")
        if self.receive_buffer != "large":
            parts.append(f"{self.receive_buffer} receive buffer")
        return ", ".join(parts)


@dataclasses.dataclass
class Result:
    """The transfers of one setting, as vsnoop-load printed them."""

    setting: Setting
    transfers: list = dataclasses.field(default_factory=list)
    other_lost_bytes: int = 0  # wrong before the first transfer, or belonging to none


def child_command(*command):
    """A command that ends when this script does, however it ends."""
    return ["setpriv", "--pdeathsig", "KILL", *map(str, command)]


async def stop(process, timeout):
    """SIGTERM, and SIGKILL if that does not help in time. Returns whether it was not needed."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), timeout)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            return False
    return True


class Live:
    """`vsnoop live` in the driver domain of a testbed, as an asynchronous context."""

    def __init__(self, options, testbed, setting):
        self._name = setting.name()
        self._command = child_command(
            "ip", "netns", "exec", testbed.driver_domain, options.vsnoop, "live",
            "--peer-if", testbed.PEER_INTERFACE, "--guest-if", testbed.GUEST_INTERFACE,
            "--policy", setting.policy, "--rate", options.rate, "--vcpus", setting.vcpus,
            "--slice", f"{setting.slice_ms:g}ms", "--guest", setting.guest,
            "--linger", f"{setting.linger_us:g}us")
        self._said = []

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            *self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True)
        self.ready_ns = 0
        ready = asyncio.Event()
        self._reader = asyncio.create_task(self._read(ready))
        try:
            await asyncio.wait_for(ready.wait(), READY_TIMEOUT)
        except asyncio.TimeoutError:
            await self._close()
            raise Failure(f"vsnoop live ({self._name}) was not ready within {READY_TIMEOUT} s"
                          f"{self.last_words()}") from None
        except asyncio.CancelledError:
            await self._close()
            raise
        if not self.ready_ns:
            await self._close()
            raise Failure(f"vsnoop live ({self._name}) did not start{self.last_words()}")
        return self

    async def __aexit__(self, kind, error, trace):
        gone = self.process.returncode is not None
        in_time = await self._close()
        if kind is not None:
            return
        if gone:
            raise Failure(f"vsnoop live ({self._name}) ended by itself{self.last_words()}")
        if not in_time:
            raise Failure(f"vsnoop live ({self._name}) did not end within {STOP_TIMEOUT} s of "
                          f"SIGTERM{self.last_words()}")
        if self.process.returncode != 0:
            raise Failure(f"vsnoop live ({self._name}) ended with status "
                          f"{self.process.returncode}{self.last_words()}")

    async def _close(self):
        in_time = await stop(self.process, STOP_TIMEOUT)
        await self._reader
        return in_time

    async def _read(self, ready):
        async for line in self.process.stderr:
            self._said.append(line.decode(errors="replace").rstrip())
            if self._said[-1].startswith(READY):
                self.ready_ns = time.monotonic_ns()
                ready.set()
        ready.set()

    def last_words(self):
        said = [line for line in self._said if not line.startswith(READY)]
        return f": {said[-1]}" if said else ""


async def measure(options, testbed, setting, on_transfer):
    """All transfers of one setting."""
    period_ms = setting.vcpus * setting.slice_ms if setting.vcpus > 1 else 10
    result = Result(setting)
    sizes = setting.sizes or options.sizes
    testbed.set_receive_buffer(setting.receive_buffer)
    async with Live(options, testbed, setting) as live:
        # Phases count from the start of the guest's first slice, so that all policies meet the same.
        command = child_command(
            options.load, "--peer-netns", testbed.peer, "--guest-netns", testbed.guest,
            "--address", netns.GUEST_ADDRESS, "--sizes", ",".join(map(str, sizes)),
            "--connection", setting.connection, "--repeat", options.repeat,
            "--phase", f"{round(period_ms * 1e6)}ns", "--epoch", live.ready_ns,
            "--seed", options.seed,
            "--limit", f"{TRANSFER_LIMIT}s", "--congestion", "cubic")
        load = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True)
        complaints = asyncio.create_task(load.stderr.read())
        gone = asyncio.create_task(live.process.wait())
        try:
            while True:
                line = asyncio.create_task(load.stdout.readline())
                await asyncio.wait({line, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not line.done():
                    line.cancel()
                    raise Failure(f"vsnoop live ({setting.name()}) ended during the transfers"
                                  f"{live.last_words()}")
                if not line.result():
                    break
                event = json.loads(line.result())
                if "size" in event:
                    result.transfers.append(event)
                    on_transfer(setting, event)
                elif event["event"] == "warm":
                    result.other_lost_bytes += event["lost_bytes"]
                elif event["event"] == "end":
                    result.other_lost_bytes += event["stray_bytes"]
            status = await load.wait()
            if status not in (0, 1) or len(result.transfers) != len(sizes) * options.repeat:
                said = (await complaints).decode(errors="replace").strip()
                raise Failure(f"vsnoop-load ({setting.name()}) ended with status {status}"
                              f"{': ' + said if said else ''}")
        finally:
            gone.cancel()
            await stop(load, 1)
            await complaints
    return result
