#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The headline of the simulation: one transfer to a guest that shares its processor, for each way
of networking. Prints tables; writes sim.json with the keys of run.json plus architecture and
scheduler."""

import argparse
import concurrent.futures
import csv
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys

sys.dont_write_bytecode = True

from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
from runreport import format_gain, format_ms, format_size, percentile, rounded, style_of_gain

# Plain netback of the same age: the one with a ring and nothing else for vSnoop's time.
BASE = {"ring-2010": "netback-2010"}
POLICY = {"netback": "off", "netback-2010": "off", "ring": "ring", "ring-2010": "ring",
          "hold": "hold"}
SETTINGS = [
    # guest, linger, connection
    ("io", "0us", "established"),
    ("io", "200us", "established"),
    ("io", "0us", "fresh"),
    ("busy", "0us", "established"),
    ("busy", "0us", "fresh"),
]
# 10 MB take most of the time, and depend little on the phase: half as many.
SIZES = (("10000,100000,1000000", 1), ("10000000", 2))


def run(program, architecture, setting, sizes, repeats):
    guest, linger, connection = setting
    command = [program, f"--architectures={architecture}", "--vmsList=3", f"--guestKinds={guest}",
               f"--linger={linger}", f"--connections={connection}", f"--sizes={sizes}",
               f"--repeats={repeats}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
    return list(csv.DictReader(io.StringIO(done.stdout)))


def cells_of(rows):
    """One cell for each architecture, setting, size and clock."""
    groups = {}
    for row in rows:
        key = (row["architecture"], row["guest"], row["linger_us"], row["connection"],
               int(row["size_bytes"]))
        groups.setdefault(key, []).append(row)
    cells = []
    for (architecture, guest, linger, connection, size), members in groups.items():
        for clock in ("sender", "receiver"):
            times = [float(m[f"{clock}_ms"]) for m in members]
            cells.append({
                "size_bytes": size,
                "policy": POLICY.get(architecture, "none"),
                "vcpus": int(members[0]["vms"]),
                "slice_ms": float(members[0]["slice_ms"]),
                "guest": guest,
                "connection": connection,
                "clock": clock,
                "n": len(times),
                "median_ms": rounded(statistics.median(times)),
                "p10_ms": rounded(percentile(times, 0.1)),
                "p90_ms": rounded(percentile(times, 0.9)),
                "gain_vs_off": None,
                "lost_bytes": 0,  # a simulation that loses one is ended
                "failed": 0,
                "linger_us": float(linger),
                "receive_buffer": "large",
                "repeat": 1,
                "retransmits": sum(int(m["timeouts"]) + int(m["recoveries"]) for m in members),
                "architecture": architecture,
                "scheduler": members[0]["scheduler"],
                "mean_ms": rounded(statistics.fmean(times)),
                "gain_vs_2010": None,
            })

    def place(cell, architecture):
        return (architecture, cell["guest"], cell["linger_us"], cell["connection"],
                cell["size_bytes"], cell["clock"])

    means = {place(cell, cell["architecture"]): cell["mean_ms"] for cell in cells}
    for cell in cells:
        base = means[place(cell, BASE.get(cell["architecture"], "netback"))]
        # Times differ by the phase they begin at: means say what a median of a few cannot.
        cell["gain_vs_off"] = rounded(base / cell["mean_ms"], 3)
        cell["gain_vs_2010"] = rounded(means[place(cell, "netback-2010")] / cell["mean_ms"], 3)
    return cells


def print_tables(console, cells):
    architectures = list(dict.fromkeys(cell["architecture"] for cell in cells))
    for guest, linger, connection in SETTINGS:
        members = [c for c in cells if (c["guest"], c["connection"]) == (guest, connection)
                   and c["linger_us"] == float(linger.removesuffix("us"))]
        lingers = f" that lingers {linger}" if guest == "io" else ""
        console.print(f"\n{connection} connection, {guest} guest{lingers}, one of 3 on a processor, "
                      "30 ms each", style="bold")
        table = Table("architecture")
        for clock in ("sender", "receiver"):
            for size in sorted({c["size_bytes"] for c in members}):
                table.add_column(f"{clock[0]} {format_size(size)}", justify="right")
        for architecture in architectures:
            row = [architecture]
            for clock in ("sender", "receiver"):
                for cell in sorted((c for c in members if c["architecture"] == architecture
                                    and c["clock"] == clock), key=lambda c: c["size_bytes"]):
                    gain = cell["gain_vs_off"]
                    style = style_of_gain(gain)
                    text = format_ms(cell["mean_ms"]).removesuffix(" ms")
                    mark = f" {format_gain(gain)}" if not architecture.startswith("netback") else ""
                    row.append(text + (f"[{style}]{mark}[/]" if style and mark else mark))
            table.add_row(*row)
        console.print(table)
    console.print("Mean times in ms; s: sender's clock (last byte acknowledged), r: receiver's (last "
                  "byte read). Gains are over netback, of ring-2010 over netback-2010.")


def main():
    here = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=here / "build/sim")
    parser.add_argument("--out", type=pathlib.Path, default=here / "build")
    parser.add_argument("--repeats", type=int, default=6, help="phases of the scheduler")
    options = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    program = options.build.resolve() / "vsnoop-transfer"
    if not os.access(program, os.X_OK):
        console.print(f"headline.py: {program} is not there: use 'make sim'")
        return 1
    architectures = subprocess.run([program, "--list"], check=True, capture_output=True,
                                   text=True).stdout.split()
    # The long ones first: none is left alone at the end.
    jobs = [(architecture, setting, sizes, max(1, options.repeats // fewer))
            for sizes, fewer in reversed(SIZES) for architecture in architectures
            for setting in SETTINGS]
    rows = []
    try:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            futures = [pool.submit(run, program, *job) for job in jobs]
            for future in track(futures, "simulating", console=console, transient=True):
                rows += future.result()
    except RuntimeError as error:
        console.print(f"headline.py: {error}", style="red")
        return 1
    cells = cells_of(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "sim.json").write_text(json.dumps(cells, indent=1) + "\n")
    print_tables(console, cells)
    console.print(f"Figures: {options.out}/sim.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
