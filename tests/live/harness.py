# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the live tests share: namespaces, `vsnoop live` between them, checked transfers.

A test is a function that gets a Bed; run() calls it with a deadline and cleans up after it. What
fails raises Failure; what cannot run here raises Skip, which CTest counts as skipped.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

import netns

SKIPPED = 77
READY = "vsnoop live: ready"
# A guest that shares its CPU with two others: gone for 60 of every 90 ms.
CONTENDED = ("--policy", "hold", "--vcpus", "3", "--slice", "30ms")
PEER, GUEST = netns.PEER_ADDRESS, netns.GUEST_ADDRESS
# What iptables calls a segment with data, more or less.
DATA = ("-p", "tcp", "-m", "length", "--length", "100:65535")


class Failure(Exception):
    """Something is not as it should be; the text says what."""


class Skip(Exception):
    """The test cannot run on this machine; the text says why."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def need(command, package):
    """The path of a command; Skip if it is not installed."""
    path = shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Skip(f"there is no '{command}' (package {package})")
    return path


def wait_for(condition, what, seconds=10):
    """Waits until condition() is true and returns what it gave."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, f"waited {seconds} s in vain: {what}")
        time.sleep(0.01)


class Inside:
    """Sockets and files of /proc that this thread opens in here belong to the namespace."""

    _libc = ctypes.CDLL(None, use_errno=True)
    _CLONE_NEWNET = 0x40000000

    def __init__(self, namespace):
        self._namespace = namespace

    def _enter(self, path):
        with open(path, "rb") as file:
            if self._libc.setns(file.fileno(), self._CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {path}")

    def __enter__(self):
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._enter(f"/run/netns/{self._namespace}")

    def __exit__(self, *_):
        self._enter(f"/proc/self/fd/{self._home}")
        os.close(self._home)


class Child:
    """A process in a namespace, that ends when this one does, however it ends."""

    def __init__(self, namespace, command, user=None, parent_death="KILL", **options):
        prefix = ["ip", "netns", "exec", namespace, "setpriv", "--pdeathsig", parent_death]
        if user:
            prefix += ["--reuid", user, "--regid", user, "--clear-groups"]
        self.name = pathlib.Path(str(command[0])).name
        self._last_signal = signal.Signals[f"SIG{parent_death}"]
        self._output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*prefix, *map(str, command)], stdin=subprocess.DEVNULL, stdout=self._output,
            stderr=subprocess.STDOUT, **options)

    def output(self):
        return os.pread(self._output.fileno(), 1 << 24, 0).decode(errors="replace")

    def running(self):
        return self.process.poll() is None

    def wait(self, seconds):
        """The exit status; Failure if the process has not ended by then."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} hangs: not ended after {seconds:g} s\n"
                          f"{self.output()[-2000:]}") from None

    def succeed(self, seconds):
        """Waits for status 0 and returns what was printed."""
        status = self.wait(seconds)
        check(status == 0, f"{self.name} ended with status {status}:\n{self.output()[-2000:]}")
        return self.output()

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        if self.running():
            self.process.send_signal(self._last_signal)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self._output.close()


class Live(Child):
    """`vsnoop live` in the driver domain."""

    def __init__(self, bed, arguments):
        self._json = bed.directory / f"live-{time.monotonic_ns()}.json"
        super().__init__(bed.driver_domain, [
            bed.vsnoop, "live", "--peer-if", bed.PEER_INTERFACE, "--guest-if", bed.GUEST_INTERFACE,
            "--json", self._json, *arguments])

    def wait_until_ready(self):
        wait_for(lambda: READY in self.output() or not self.running(), "vsnoop live gets ready")
        check(self.running(), f"vsnoop live did not start:\n{self.output()}")

    def stop(self, expected=0, seconds=15):
        """SIGTERM. Returns the counters."""
        check(self.running(), f"vsnoop live ended by itself, status {self.process.returncode}:\n"
                              f"{self.output()[-2000:]}")
        self.signal(signal.SIGTERM)
        return self.result(expected, seconds)

    def result(self, expected=0, seconds=15):
        status = self.wait(seconds)
        check(status == expected,
              f"vsnoop live ended with status {status}, not {expected}:\n{self.output()[-2000:]}")
        return Counters(json.loads(self._json.read_text()))


class Counters(dict):
    """What `--json` wrote."""

    def engine(self, name):
        check("engine" in self, f"there was no offload at all:\n{self.dump()}")
        return self["engine"][name]

    def dump(self):
        return json.dumps(self, indent=1)

    def check_offloaded(self, early_acks=1, promised=1):
        """The offload took place, and broke nothing."""
        for name, least in (("early_acks", early_acks), ("promised_bytes", promised)):
            check(self.engine(name) >= least,
                  f"{name} is {self.engine(name)}, not {least} or more:\n{self.dump()}")
        check(self.engine("outstanding_bytes") == 0, f"promises are outstanding:\n{self.dump()}")
        check(self["broken_promise_bytes"] == 0, f"promises were broken:\n{self.dump()}")


class Bed(netns.Testbed):
    """Namespaces, a temporary directory, and processes that end with the test."""

    def __init__(self, vsnoop, load):
        super().__init__()
        self.vsnoop, self.load = vsnoop, load

    def __enter__(self):
        with contextlib.ExitStack() as stack:  # undoes a creation that fails half-way
            stack.callback(self.delete)
            # World-readable: some servers give up root's rights.
            self.directory = pathlib.Path(stack.enter_context(
                tempfile.TemporaryDirectory(prefix=f"vsnoop-live-{os.getpid()}-")))
            self.directory.chmod(0o755)
            self.create()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def keep(self, thing):
        """Ends or closes it when the test is over."""
        self._stack.callback(getattr(thing, "end", None) or thing.close)
        return thing

    def run(self, namespace, *command, **options):
        """Starts a command; see Child."""
        return self.keep(Child(namespace, command, **options))

    def python(self, namespace, code, *arguments):
        return self.run(namespace, "/usr/bin/python3", "-c", code, *arguments)

    def live(self, *arguments):
        live = self.keep(Live(self, arguments))
        live.wait_until_ready()
        return live

    def socket(self, namespace, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        with Inside(namespace):
            return self.keep(socket.socket(family, kind, protocol))

    def listener(self, namespace=None, address=GUEST, port=7000, receive_buffer=0):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        one = self.socket(namespace or self.guest, family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        one.bind((address, port))
        one.listen(64)
        one.settimeout(20)
        return one

    def connect(self, listener, namespace=None):
        """Both ends of a connection, the peer's first."""
        peer = self.socket(namespace or self.peer, listener.family)
        peer.settimeout(20)
        peer.connect(listener.getsockname()[:2])
        guest = self.keep(listener.accept()[0])
        return peer, guest

    def single_frames(self):
        """No GSO and GRO: thousands of frames instead of dozens, each with a fate of its own."""
        ethtool = need("ethtool", "ethtool")
        for namespace, interface in ((self.peer, "peer"), (self.guest, "guest"),
                                     (self.driver_domain, self.PEER_INTERFACE),
                                     (self.driver_domain, self.GUEST_INTERFACE)):
            self.run(namespace, ethtool, "-K", interface, "tso", "off", "gso", "off",
                     "gro", "off").succeed(10)

    def firewall(self, action, *rule):
        """Adds (-A) or deletes (-D) a rule of the guest's INPUT."""
        command = self.run(self.guest, need("iptables", "iptables"), "-w", action, "INPUT", *rule)
        if command.wait(10) != 0:
            if action == "-A":
                raise Skip(f"iptables does not work here: {command.output().strip()}")
            raise Failure(f"iptables {action}: {command.output()}")

    def firewall_dropped(self):
        """Packets that its first rule has taken."""
        said = self.run(self.guest, "iptables", "-w", "-nvxL", "INPUT").succeed(10)
        return int(said.splitlines()[2].split()[0])

    def enable_ipv6(self, addresses):
        """Gives addresses to interfaces: {(namespace, interface): (own MAC, address)}."""
        for namespace, interface, address in addresses:
            for where in ("all", interface):
                path = pathlib.Path(f"/proc/sys/net/ipv6/conf/{where}/disable_ipv6")
                with Inside(namespace):
                    if not path.exists():
                        raise Skip("this kernel has no IPv6")
                    path.write_text("0")
            netns.ip("-n", namespace, "address", "add", f"{address}/64", "dev", interface, "nodad")


def pattern(size, seed=1):
    return random.Random(seed).randbytes(size)


class Sender(threading.Thread):
    """Sends `size` bytes, or until finish() if that is None, and then FIN. `error` is what went
    wrong, such as a reset."""

    CHUNK = 65536

    def __init__(self, connection, size, seed=1, seconds=30):
        super().__init__(daemon=True)
        self._connection, self._size = connection, size
        self._connection.settimeout(seconds)
        self._random = random.Random(seed)
        self._finish = threading.Event()
        self.data = bytearray()  # given to the kernel, all but the last chunk
        self.error = None
        self.start()

    def finish(self):
        """No more than the size that was asked for, or than what has been sent so far."""
        if self._size is None:
            self._finish.set()

    def run(self):
        try:
            while not self._finish.is_set() and self._size != len(self.data):
                chunk = self._random.randbytes(self.CHUNK)
                if self._size is not None:
                    chunk = chunk[:self._size - len(self.data)]
                self.data += chunk
                self._connection.sendall(chunk)
            self._connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.error = error


class Receiver(threading.Thread):
    """Reads to the end of the stream. go.clear() stops reading."""

    def __init__(self, connection, seconds):
        super().__init__(daemon=True)
        self._connection = connection
        self._connection.settimeout(seconds)
        self.error = None
        self.data = bytearray()
        self.go = threading.Event()
        self.go.set()
        self.start()

    def run(self):
        try:
            while self.go.wait() and (part := self._connection.recv(65536)):
                self.data += part
        except OSError as error:
            self.error = error


class Transfer:
    """Bytes on their way from one end of a connection to the other: so many, or (None) until
    check_exact() is called."""

    def __init__(self, sender, receiver, size=None, seed=1, seconds=30):
        self.ends = sender, receiver
        self.limit = seconds
        self.receiver = Receiver(receiver, seconds)
        self.sender = Sender(sender, size, seed, seconds)

    def received(self):
        return len(self.receiver.data)

    def sent(self):
        return len(self.sender.data)

    def wait_until_received(self, size):
        wait_for(lambda: self.received() >= size or self.sender.error or self.receiver.error,
                 f"{size} bytes received", self.limit)
        self._check_errors()

    def wait_for_more(self, size=500_000):
        """Waits until so many bytes more have been received."""
        self.wait_until_received(self.received() + size)

    def wait_until_stuck(self):
        """Waits until nothing has been sent and received for half a second."""
        seen, since = None, 0

        def stuck():
            nonlocal seen, since
            now = self.sent(), self.received()
            if now != seen:
                seen, since = now, time.monotonic()
            return time.monotonic() - since > 0.5
        wait_for(stuck, "the transfer stands still")
        self._check_errors()

    def _check_errors(self):
        for thread in (self.sender, self.receiver):
            check(thread.error is None, f"{type(thread).__name__}: {thread.error!r}; "
                                        f"{self.received()} bytes of {self.sent()} received")

    def _join(self):
        self.sender.finish()
        end = time.monotonic() + self.limit
        for thread in (self.sender, self.receiver):
            thread.join(max(0, end - time.monotonic()))
            check(not thread.is_alive(), f"hung: {self.received()} of {self.sent()} bytes received "
                                         f"after {self.limit} s")

    def check_exact(self, answer=True):
        """Every byte arrives; and an answer, if the receiver may still send one."""
        self._join()
        self._check_errors()
        got, wanted = self.receiver.data, self.sender.data
        if got != wanted:
            at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b),
                      min(len(got), len(wanted)))
            raise Failure(f"{len(got)} bytes received of {len(wanted)}, wrong from byte {at}")
        sender, receiver = self.ends
        wanted = b"thanks" if answer else b""
        got = b""
        try:
            if answer:
                receiver.sendall(wanted)
            receiver.close()
            while part := sender.recv(100):
                got += part
        except OSError as error:
            raise Failure(f"the answer of the receiver: {error!r}") from None
        check(got == wanted, f"the receiver's answer arrived as {got!r}")
        sender.close()

    def check_reset(self, seconds):
        """The sender is shown a reset within `seconds`; what was received is right so far."""
        self.sender.finish()
        self.sender.join(seconds)
        check(not self.sender.is_alive(), f"the sender still waits after {seconds} s")
        if self.sender.error is None:  # all is in its buffer: the reset shows when it reads
            sender = self.ends[0]
            sender.settimeout(seconds)
            try:
                got = sender.recv(100)
                raise Failure(f"the sender was not reset, but read {got!r}")
            except OSError as error:
                self.sender.error = error
        check(isinstance(self.sender.error, (ConnectionResetError, BrokenPipeError)),
              f"the sender was not reset, but: {self.sender.error!r}")
        got = bytes(self.receiver.data)
        check(got == self.sender.data[:len(got)], "wrong bytes were received before the reset")


def transfer(bed, size, port=7000, seed=1, seconds=30, address=GUEST):
    """A checked transfer from the peer to the guest."""
    listener = bed.listener(address=address, port=port)
    Transfer(*bed.connect(listener), size, seed, seconds).check_exact()
    listener.close()


def run(tests, seconds):
    """Runs the tests one after the other, each in a new Bed, at most so long; exits."""
    try:
        vsnoop, load = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
    except ValueError:
        sys.exit(f"usage: {sys.argv[0]} PATH-OF-VSNOOP PATH-OF-VSNOOP-LOAD [TEST]...")
    chosen = sys.argv[3:]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _interrupt)
    skipped = failed = False
    for test in tests:
        if chosen and test.__name__ not in chosen:
            continue
        started = time.monotonic()
        signal.alarm(seconds)
        try:
            if os.geteuid() != 0:
                raise Skip("network namespaces need root")
            _delete_stale()
            with Bed(vsnoop, load) as bed:
                said = test(bed)
            result = "ok" + (f": {said}" if said else "")
        except Skip as reason:
            result, skipped = f"SKIPPED: {reason}", True
        except (Failure, netns.Error) as reason:
            result, failed = f"FAILED: {reason}", True
        signal.alarm(0)
        print(f"{test.__name__} ({time.monotonic() - started:.1f} s): {result}", flush=True)
    sys.stdout.flush()
    # Threads that hang in a socket must not keep the process.
    os._exit(1 if failed else SKIPPED if skipped else 0)


def _delete_stale():
    """Removes what a killed test left."""
    netns.delete_stale()
    for path in pathlib.Path(tempfile.gettempdir()).glob("vsnoop-live-*-*"):
        if not os.path.exists(f"/proc/{path.name.split('-')[2]}"):
            shutil.rmtree(path, ignore_errors=True)


def _interrupt(number, _):
    raise Failure("not finished in time" if number == signal.SIGALRM
                  else f"ended by {signal.Signals(number).name}")
