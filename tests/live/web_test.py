#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""HTTP: nginx and curl, on either side."""

import hashlib

import harness
from harness import GUEST, PEER, check, wait_for

SIZE = 20_000_000
CONFIGURATION = """
pid {directory}/nginx.pid;
error_log {directory}/error.log;
daemon off;
master_process off;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_max_body_size 100m;
  server {{
    listen {address}:8080;
    root {directory}/files;
  }}
}}
"""


def serve(bed, namespace, address):
    """nginx with one file. Returns its digest."""
    nginx = harness.need("nginx", "nginx-light")
    (bed.directory / "files").mkdir()
    data = harness.pattern(SIZE)
    (bed.directory / "files/file").write_bytes(data)
    configuration = bed.directory / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(
        directory=bed.directory, address=address))
    bed.run(namespace, nginx, "-p", bed.directory, "-e", bed.directory / "error.log",
            "-c", configuration)
    wait_for(lambda: listens(namespace, 8080), "nginx listens")
    return hashlib.sha256(data).hexdigest()


def listens(namespace, port):
    with harness.Inside(namespace), open("/proc/thread-self/net/tcp", encoding="ascii") as table:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
                   for line in table.readlines()[1:])


def curl(bed, namespace, url, *arguments):
    target = bed.directory / "got"
    bed.run(namespace, harness.need("curl", "curl"), "--silent", "--show-error", "--fail",
            "--max-time", "30", "--output", target, *arguments, url).succeed(35)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def guest_downloads(bed):
    live = bed.live(*harness.CONTENDED)
    digest = serve(bed, bed.peer, PEER)
    check(curl(bed, bed.guest, f"http://{PEER}:8080/file") == digest, "the file is another")
    live.stop().check_offloaded(early_acks=10, promised=SIZE // 2)


def peer_downloads(bed):
    live = bed.live(*harness.CONTENDED)
    digest = serve(bed, bed.guest, GUEST)
    check(curl(bed, bed.peer, f"http://{GUEST}:8080/file") == digest, "the file is another")
    live.stop().check_offloaded()  # of the request


def guest_downloads_in_parts(bed):
    """Several connections that live on from one request to the next."""
    live = bed.live(*harness.CONTENDED)
    digest = serve(bed, bed.peer, PEER)
    parts = 8
    step = SIZE // parts
    urls = []
    for i in range(parts):
        last = SIZE - 1 if i == parts - 1 else (i + 1) * step - 1
        urls += ["--next"] if i else []
        urls += ["--silent", "--show-error", "--fail", "--max-time", "30",
                 "--output", bed.directory / f"part{i}", "--range", f"{i * step}-{last}",
                 f"http://{PEER}:8080/file"]
    bed.run(bed.guest, harness.need("curl", "curl"), "--parallel", "--parallel-max", "3",
            *urls).succeed(35)
    whole = b"".join((bed.directory / f"part{i}").read_bytes() for i in range(parts))
    check(hashlib.sha256(whole).hexdigest() == digest, "the parts are not the file")
    live.stop().check_offloaded(early_acks=10, promised=SIZE // 2)


harness.run([guest_downloads, peer_downloads, guest_downloads_in_parts], 45)
