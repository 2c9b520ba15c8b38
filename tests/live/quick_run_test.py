#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`make run` in its short form: ends well, and its figures can be read."""

import json
import pathlib
import subprocess

import harness
from harness import check

RUN = pathlib.Path(__file__).resolve().parents[2] / "scripts/run.py"
KEYS = {"size_bytes", "policy", "vcpus", "slice_ms", "guest", "connection", "clock", "n",
        "median_ms", "p10_ms", "p90_ms", "gain_vs_off", "lost_bytes"}


def quick_run(bed):
    for module, package in (("rich", "python3-rich"),):
        if subprocess.run(["/usr/bin/python3", "-c", f"import {module}"], capture_output=True,
                          check=False).returncode != 0:
            raise harness.Skip(f"there is no python module '{module}' (package {package})")
    harness.need("gnuplot", "gnuplot-nox")
    build = bed.vsnoop.parent.parent
    run = subprocess.run([RUN, "--quick", "--build", build, "--out", bed.directory, "--sizes",
                          "100k,1M"], capture_output=True, text=True, timeout=100, check=False)
    check(run.returncode == 0, f"run.py ended with {run.returncode}:\n{run.stdout[-3000:]}"
                               f"{run.stderr[-2000:]}")
    cells = json.loads((bed.directory / "run.json").read_text())
    seen = set()
    for cell in cells:
        check(KEYS <= cell.keys(), f"keys are missing: {KEYS - cell.keys()}")
        check(cell["lost_bytes"] == 0, f"bytes were lost: {cell}")
        check(cell["n"] >= 3 and 0 < cell["p10_ms"] <= cell["median_ms"] <= cell["p90_ms"],
              f"no sane times: {cell}")
        seen.add((cell["policy"], cell["guest"], cell["connection"], cell["clock"],
                  cell["size_bytes"]))
    wanted = {(policy, guest, connection, clock, size)
              for policy in ("off", "ring", "hold") for guest in ("busy", "io")
              for connection in ("fresh", "established") for clock in ("sender", "receiver")
              for size in (100_000, 1_000_000)}
    check(wanted <= seen, f"cells are missing: {sorted(wanted - seen)[:5]}")
    # What it is all for. The issue asks for 15; far less than that only a fault explains.
    gain = max(cell["gain_vs_off"] for cell in cells
               if (cell["policy"], cell["guest"], cell["connection"], cell["clock"],
                   cell["size_bytes"]) == ("hold", "busy", "established", "sender", 100_000))
    check(gain > 3, f"100 kB to a busy guest: only {gain} times as fast as without offload")
    for picture in ("run.svg", "run-fresh.svg"):
        check("<svg" in (bed.directory / picture).read_text(), f"{picture} is no picture")
    return f"gain {gain}"


harness.run([quick_run], 110)
