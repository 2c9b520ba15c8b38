# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Peer, driver domain and guest as network namespaces of this machine.

    peer --- veth --- driver domain --- veth --- guest
    10.77.0.1         (no addresses)             10.77.0.2

Only what goes over TCP shall cross the driver domain: neighbours are preset, IPv6 is off.
"""

import os
import re
import subprocess

PEER_ADDRESS = "10.77.0.1"
GUEST_ADDRESS = "10.77.0.2"
_MACS = {"peer": "02:00:0a:4d:00:01", "guest": "02:00:0a:4d:00:02"}
_NAME = re.compile(r"vsn-(?:peer|dd|guest)-(\d+)(?:-\d+)?")

# What a guest may receive ahead of its application: the window it can advertise. "large" is what a
# server for bulk data is given; "auto" is Linux's own default, which grows with use up to 6 MB.
RECEIVE_BUFFERS = {"large": "4096 8388608 16777216", "auto": "4096 131072 6291456"}

# Linux's own defaults, but for the last two, so that a tuned host measures what others do. No route
# shall remember one transfer's congestion window for the next.
SYSCTLS = {
    "net.ipv4.tcp_rmem": RECEIVE_BUFFERS["auto"],
    "net.ipv4.tcp_wmem": "4096 16384 4194304",
    "net.ipv4.tcp_slow_start_after_idle": "1",
    "net.ipv4.tcp_window_scaling": "1",
    "net.ipv4.tcp_timestamps": "1",
    "net.ipv4.tcp_sack": "1",
    "net.ipv4.tcp_no_metrics_save": "1",
    "net.ipv6.conf.all.disable_ipv6": "1",
}


class Error(Exception):
    """Something about the namespaces went wrong; the text says what."""


def ip(*arguments):
    """Runs one ip command; its complaint becomes the Error."""
    command = ["ip", *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise Error("there is no 'ip' command: install the package iproute2") from None
    except subprocess.TimeoutExpired:
        raise Error(f"'{' '.join(command)}' does not finish") from None
    if result.returncode != 0:
        raise Error(f"'{' '.join(command)}': {result.stderr.strip() or 'failed'}")


class Testbed:
    """The three namespaces of one driver domain. Several may exist side by side."""

    PEER_INTERFACE = "to-peer"
    GUEST_INTERFACE = "to-guest"

    def __init__(self, number=0):
        suffix = f"{os.getpid()}-{number}"
        self.peer = f"vsn-peer-{suffix}"
        self.driver_domain = f"vsn-dd-{suffix}"
        self.guest = f"vsn-guest-{suffix}"

    def create(self):
        for namespace in (self.peer, self.driver_domain, self.guest):
            ip("netns", "add", namespace)
            self._set_sysctls(namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        self._connect(self.peer, "peer", PEER_ADDRESS, self.PEER_INTERFACE)
        self._connect(self.guest, "guest", GUEST_ADDRESS, self.GUEST_INTERFACE)
        for namespace, role, other, address in (
            (self.peer, "peer", "guest", GUEST_ADDRESS),
            (self.guest, "guest", "peer", PEER_ADDRESS),
        ):
            ip("-n", namespace, "neigh", "replace", address, "lladdr", _MACS[other],
               "dev", role, "nud", "permanent")

    def set_receive_buffer(self, kind):
        """`kind`: of RECEIVE_BUFFERS; for the guest's connections from now on."""
        ip("netns", "exec", self.guest, "sh", "-ec",
           f"echo '{RECEIVE_BUFFERS[kind]}' > /proc/sys/net/ipv4/tcp_rmem")

    def delete(self):
        """Removes what create() made, however far it came. Never raises."""
        for namespace in (self.peer, self.guest, self.driver_domain):
            if os.path.exists(f"/run/netns/{namespace}"):
                try:
                    ip("netns", "delete", namespace)
                except Error:
                    pass

    def _connect(self, namespace, role, address, far_interface):
        ip("-n", namespace, "link", "add", role, "address", _MACS[role], "type", "veth",
           "peer", "name", far_interface, "netns", self.driver_domain)
        ip("-n", namespace, "address", "add", f"{address}/24", "dev", role)
        ip("-n", namespace, "link", "set", role, "up")
        ip("-n", self.driver_domain, "link", "set", far_interface, "up")

    @staticmethod
    def _set_sysctls(namespace):
        lines = "\n".join(
            f"echo '{value}' > /proc/sys/{name.replace('.', '/')}"
            for name, value in SYSCTLS.items()
            # A kernel without IPv6 has nothing to switch off.
            if os.path.exists(f"/proc/sys/{name.replace('.', '/')}")
        )
        ip("netns", "exec", namespace, "sh", "-ec", lines)


def delete_stale():
    """Deletes namespaces of testbeds whose process was killed before it could."""
    if not os.path.isdir("/run/netns"):
        return
    for name in os.listdir("/run/netns"):
        match = _NAME.fullmatch(name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            try:
                ip("netns", "delete", name)
            except Error:
                pass
