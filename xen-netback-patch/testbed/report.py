# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Measured cells as rows of xen.json, as tables and as a picture."""

import pathlib
import statistics
import subprocess
import sys

from rich.table import Table

import cells as plan

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "scripts"))
import runreport  # noqa: E402
from runreport import format_gain, format_ms, format_size, percentile, rounded, style_of_gain

NS_PER_INSTRUCTION = 2  # machine.py: -icount shift=1
MSS = 1448
POLICIES = ("pristine", "off", "ring", "hold", "auto")
INK = "#30343b"
COLOURS = {"off": "#7d838c", "ring": "#2f7fc1", "hold": "#d9541e"}


def _cpu(result):
    """Seconds the cell took and processor seconds of each domain in it."""
    before, after = result["cpu"]
    used = {int(domain): (ns - before["domains"].get(domain, 0)) / 1e9
            for domain, ns in after["domains"].items()}
    return (after["now"] - before["now"]) / 1e9, used


def _neighbour_loss(cell, seconds, used):
    """Share of its processor time that a neighbour lost against a receiver that gets no data."""
    neighbours = [used[1 + n] for n in range(1, cell.guests)]
    if not neighbours:
        return None
    with_receiver = cell.receiver == "busy" and cell.scheduler != "own pCPU"
    fair = seconds / (cell.guests if with_receiver else cell.guests - 1)
    return 1 - statistics.mean(neighbours) / fair


def rows_of(results):
    """One row for each cell, size and clock, with its gain over `off`: of means, because a transfer
    either waits for a CPU or does not, and the median of such times jumps from one side to the other."""
    rows = []
    for result in results:
        cell = plan.Cell(**result["cell"])
        seconds, used = _cpu(result)
        good = [t for t in result["transfers"] if not t["failed"]]
        received = sum(t["read_bytes"] for t in result["transfers"]) + result["warm_bytes"]
        instructions = None
        if cell.place == "one-pcpu":
            instructions = used[0] * 1e9 / NS_PER_INSTRUCTION / (received / MSS)
        for size in sorted({t["size"] for t in result["transfers"]}):
            transfers = [t for t in result["transfers"] if t["size"] == size]
            for clock in runreport.CLOCKS:
                times = [t[f"{clock}_ms"] for t in good if t["size"] == size]
                rows.append({
                    "size_bytes": size,
                    "policy": cell.policy,
                    "vcpus": cell.guests,
                    "slice_ms": plan.SCHEDULERS[cell.scheduler][2],
                    "guest": cell.receiver,
                    "connection": cell.connection,
                    "clock": clock,
                    "n": len(times),
                    "median_ms": rounded(statistics.median(times)) if times else None,
                    "mean_ms": rounded(statistics.mean(times)) if times else None,
                    "p10_ms": rounded(percentile(times, 0.1)) if times else None,
                    "p90_ms": rounded(percentile(times, 0.9)) if times else None,
                    "gain_vs_off": None,
                    "lost_bytes": sum(t["lost_bytes"] for t in transfers),
                    "failed": len(transfers) - len(times),
                    "linger_us": 0,
                    "receive_buffer": "auto",
                    "repeat": cell.repeat,
                    "retransmits": sum(t["retransmits"] for t in transfers),
                    "scheduler": cell.scheduler,
                    "busy_guests": cell.guests - 1 + (cell.receiver == "busy"),
                    "neighbour_cpu_loss": rounded(_neighbour_loss(cell, seconds, used)),
                    "dom0_cpu_share": rounded(used[0] / seconds),
                    "dom0_instructions_per_packet": rounded(instructions, 0),
                    "place": cell.place,
                    "wire_mbps": cell.wire or None,
                })
    off = {_key(r): r["mean_ms"] for r in rows if r["policy"] == "off" and r["repeat"] == 1}
    for row in rows:
        base = off.get(_key(row))
        if base and row["mean_ms"]:
            row["gain_vs_off"] = rounded(base / row["mean_ms"], 3)
    return rows


def _key(row):
    return tuple(row[k] for k in ("size_bytes", "scheduler", "vcpus", "guest", "connection",
                                  "clock", "place", "wire_mbps"))


def print_tables(console, rows):
    """A table of means for each scheduler, number of guests, receiver and connection."""
    groups = {}
    for row in rows:
        if row["place"] == "spread":
            group = (row["scheduler"], row["vcpus"], row["guest"], row["connection"],
                     row["wire_mbps"])
            groups.setdefault(group, []).append(row)
    for (scheduler, guests, receiver, connection, wire), members in groups.items():
        console.print(f"\n{scheduler}, {guests} guest{'s' if guests > 1 else ''} on the receiver's "
                      f"pCPU, receiver {receiver}, {connection} connections"
                      f"{f', a wire of {wire} Mb/s' if wire else ''}: means", style="bold")
        columns = sorted({(r["repeat"], r["policy"]) for r in members},
                         key=lambda c: (POLICIES.index(c[1]), c[0]))
        table = Table("clock")
        table.add_column("size", justify="right")
        for repeat, policy in columns:
            table.add_column(policy + (f" ({repeat})" if repeat > 1 else ""), justify="right")
        by_key = {(r["size_bytes"], r["clock"], r["repeat"], r["policy"]): r for r in members}
        for clock in runreport.CLOCKS:
            for size in sorted({r["size_bytes"] for r in members}):
                line = [clock, format_size(size)]
                for column in columns:
                    row = by_key.get((size, clock, *column))
                    text = format_ms(row["mean_ms"]) if row else ""
                    if row and column != (1, "off"):
                        style = style_of_gain(row["gain_vs_off"])
                        gain = f"{format_gain(row['gain_vs_off']):>5}"
                        text += f"  [{style}]{gain}[/]" if style else f"  {gain}"
                    line.append(text)
                table.add_row(*line)
            table.add_section()
        for name, key in (("dom0's CPU", "dom0_cpu_share"), ("neighbours lost",
                                                           "neighbour_cpu_loss")):
            values = [next((r[key] for r in members if (r["repeat"], r["policy"]) == column), None)
                      for column in columns]
            if any(value is not None for value in values):
                table.add_row(name, "", *("" if v is None else f"{100 * v:.1f} %" for v in values))
        console.print(table)


# What an administrator can do instead, without any code: (heading, policy, scheduler).
ALTERNATIVES = (("off", "off", "credit 30 ms"), ("ring", "ring", "credit 30 ms"),
                ("hold", "hold", "credit 30 ms"), ("1 ms slices", "off", "credit 1 ms"),
                ("credit2", "off", "credit2"), ("own pCPU", "off", "own pCPU"))


def print_alternatives(console, rows):
    """One table of what can be done for a busy receiver with two busy neighbours."""
    chosen = {(r["policy"], r["scheduler"], r["clock"], r["size_bytes"]): r["mean_ms"] for r in rows
              if (r["vcpus"], r["guest"], r["connection"], r["repeat"], r["place"], r["wire_mbps"]) ==
              (3, "busy", "established", 1, "spread", None) and r["mean_ms"]}
    columns = [a for a in ALTERNATIVES if any(key[:2] == a[1:] for key in chosen)]
    if len(columns) < 4:
        return
    console.print("\n3 guests, all busy, established connections, credit 30 ms, against what can be "
                  "had without vsnoop: means", style="bold")
    table = Table("clock")
    for heading in ("size", *(heading for heading, _, _ in columns)):
        table.add_column(heading, justify="right")
    for clock in runreport.CLOCKS:
        for size in sorted({key[3] for key in chosen}):
            base = chosen.get(("off", "credit 30 ms", clock, size))
            line = []
            for _, policy, scheduler in columns:
                value = chosen.get((policy, scheduler, clock, size))
                line.append("" if value is None else format_ms(value) + (
                    f"  {format_gain(base / value):>5}" if base and base != value else ""))
            table.add_row(clock, format_size(size), *line)
        table.add_section()
    console.print(table)


def print_instructions(console, rows):
    """dom0's instructions for each MSS that the guest received, by policy."""
    counts = {}
    for row in rows:
        if row["dom0_instructions_per_packet"]:
            counts.setdefault(row["policy"], {})[row["repeat"]] = row["dom0_instructions_per_packet"]
    if "pristine" not in counts:
        return
    base = statistics.mean(counts["pristine"].values())
    table = Table("dom0's instructions per MSS received", *counts)
    table.add_row("each run", *(", ".join(f"{v:.0f}" for v in c.values()) for c in counts.values()))
    table.add_row("of the unpatched module",
                  *(f"{statistics.mean(c.values()) / base:.3f}×" for c in counts.values()))
    console.print(table)


def print_bound(console, rows):
    """What the receiver's share of its CPU allows, and what 10 MB got of it."""
    def mean(policy, guests, receiver):
        return next((r["mean_ms"] for r in rows if r["size_bytes"] == 10_000_000
                     and not r["wire_mbps"]
                     and (r["policy"], r["vcpus"], r["guest"], r["scheduler"], r["connection"],
                          r["clock"], r["repeat"], r["place"]) ==
                     (policy, guests, receiver, "credit 30 ms", "established", "receiver", 1,
                      "spread")), None)
    alone, shared = mean("off", 1, "busy"), mean("hold", 3, "busy")
    if alone and shared:
        console.print(f"10 MB at the receiver, hold, 3 guests, all busy: {3 * alone / shared:.0%} "
                      f"of its rate alone ({80_000 / alone:.0f} Mb/s) times its share of the CPU.")


def picture(rows, path):
    """Writes an SVG: sender's and receiver's time over size, credit 30 ms, 3 guests, all busy."""
    chosen = [r for r in rows if r["mean_ms"] and r["repeat"] == 1 and r["place"] == "spread" and
              not r["wire_mbps"] and
              (r["scheduler"], r["vcpus"], r["guest"], r["connection"]) ==
              ("credit 30 ms", 3, "busy", "established")]
    if not chosen:
        return False
    lines = ["set terminal svg size 1000,430 enhanced font 'DejaVu Sans,sans-serif,13' background "
             "rgb 'white'", f'set output "{path}"',
             "set multiplot layout 1,2 title 'TCP into a Xen guest that shares its CPU with two busy "
             "ones (credit, 30 ms), established connections: mean, 10th to 90th percentile' "
             "font ',13'", "set logscale xy", "set format y '%g ms'",
             "set grid linecolor rgb '#dfe2e6'", "set key top left", "set errorbars 0",
             "set xtics (" + ", ".join(f'"{format_size(s)}" {s}' for s in
                                       sorted({r["size_bytes"] for r in chosen})) + ")",
             f"set xrange [{min(r['size_bytes'] for r in chosen) / 2}:"
             f"{max(r['size_bytes'] for r in chosen) * 2}]"]
    for clock in runreport.CLOCKS:
        parts = []
        for place, (policy, colour) in enumerate(COLOURS.items()):
            data = sorted((r for r in chosen if (r["policy"], r["clock"]) == (policy, clock)),
                          key=lambda r: r["size_bytes"])
            if not data:
                continue
            block = f"${clock}{policy}"
            lines += [f"{block} << EOD", *(f"{r['size_bytes'] * (0.9 + 0.1 * place):g} "
                                           f"{r['mean_ms']} {r['p10_ms']} {r['p90_ms']}"
                                           for r in data), "EOD"]
            parts += [f"{block} using 1:2:3:4 with yerrorbars linecolor rgb '{colour}' pointtype -1 "
                      "notitle", f"{block} using 1:2 with linespoints linewidth 2 pointtype 7 "
                      f"pointsize 0.6 linecolor rgb '{colour}' title '{policy}'"]
        lines += [f"set title \"{clock}'s clock\" textcolor rgb '{INK}'", "plot " + ", ".join(parts)]
    lines.append("unset multiplot")
    subprocess.run(["gnuplot"], input="\n".join(lines) + "\n", text=True, check=True, timeout=60)
    return True
