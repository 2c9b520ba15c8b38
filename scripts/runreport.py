# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The results of `make run` as cells, the rows of run.json, and as tables."""

import statistics

from rich.table import Table

CLOCKS = ("sender", "receiver")


def percentile(values, share):
    """Linear between the two nearest values."""
    values = sorted(values)
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def rounded(value, digits=4):
    return None if value is None else round(value, digits)


def cells_of(results, sizes):
    """One cell for each setting, size and clock, with its gain over `off`."""
    cells = []
    for result in results:
        setting = result.setting
        for index, size in enumerate(setting.sizes or sizes):
            transfers = [t for t in result.transfers if t["size"] == size]
            lost = sum(t["lost_bytes"] for t in transfers)
            lost += result.other_lost_bytes if index == 0 else 0
            good = [t for t in transfers if not t["failed"]]
            for clock in CLOCKS:
                times = [t[f"{clock}_ms"] for t in good]
                cells.append({
                    "size_bytes": size,
                    "policy": setting.policy,
                    "vcpus": setting.vcpus,
                    "slice_ms": setting.slice_ms,
                    "guest": setting.guest,
                    "connection": setting.connection,
                    "clock": clock,
                    "n": len(times),
                    "median_ms": rounded(statistics.median(times)) if times else None,
                    "p10_ms": rounded(percentile(times, 0.1)) if times else None,
                    "p90_ms": rounded(percentile(times, 0.9)) if times else None,
                    "gain_vs_off": None,
                    "lost_bytes": lost,
                    "failed": len(transfers) - len(good),
                    "linger_us": setting.linger_us,
                    "receive_buffer": setting.receive_buffer,
                    "repeat": setting.repeat,
                    "retransmits": sum(t["retransmits"] for t in transfers),
                })

    def key(cell):
        return tuple(cell[k] for k in
                     ("size_bytes", "vcpus", "guest", "connection", "clock", "linger_us",
                      "receive_buffer"))

    off = {key(c): c["median_ms"] for c in cells if c["policy"] == "off" and c["repeat"] == 1}
    for cell in cells:
        base = off.get(key(cell))
        if base and cell["median_ms"]:
            cell["gain_vs_off"] = rounded(base / cell["median_ms"], 3)
    return cells


def format_size(size):
    for factor, unit in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "KB")):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


def format_ms(ms):
    if ms is None:
        return "failed"
    return (f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}") + " ms"


def format_gain(gain):
    return "" if gain is None else f"{gain:.2f}×" if gain < 10 else f"{gain:.0f}×"


def style_of_gain(gain):
    return "" if gain is None else "bold green" if gain >= 1.5 else "red" if gain < 0.9 else ""


def print_tables(console, cells):
    """A table for each guest, connection and linger: a row for each clock and size, a column for
    each policy."""
    groups = {}
    for cell in cells:
        group = (cell["vcpus"], cell["guest"], cell["linger_us"], cell["receive_buffer"],
                 cell["connection"])
        groups.setdefault(group, []).append(cell)
    for (vcpus, guest, linger_us, receive_buffer, connection), members in groups.items():
        title = f"\n{connection} connections, "
        title += (f"{guest} guest with 1 of {vcpus} virtual CPUs, {members[0]['slice_ms']:g} ms each"
                  if vcpus > 1 else "guest with a CPU of its own")
        if linger_us:
            title += f", lingers {linger_us:g} us"
        if receive_buffer != "large":
            title += f", {receive_buffer} receive buffer"
        console.print(title, style="bold")
        columns = [(policy, repeat) for policy, repeat in
                   (("off", 1), ("off", 2), ("ring", 1), ("hold", 1))
                   if any((c["policy"], c["repeat"]) == (policy, repeat) for c in members)]
        table = Table("clock")
        table.add_column("size", justify="right")
        for policy, repeat in columns:
            table.add_column(policy + (" again" if repeat > 1 else ""), justify="right")
        by_key = {(c["size_bytes"], c["clock"], c["policy"], c["repeat"]): c for c in members}
        for clock in CLOCKS:
            name = clock
            for size in sorted({c["size_bytes"] for c in members}):
                row = [name, format_size(size)]
                for policy, repeat in columns:
                    cell = by_key.get((size, clock, policy, repeat))
                    if not cell:  # the measurement was given up before
                        row.append("")
                        continue
                    text = format_ms(cell["median_ms"])
                    if (policy, repeat) != ("off", 1):
                        gain = f"{format_gain(cell['gain_vs_off']):>5}"
                        style = style_of_gain(cell["gain_vs_off"])
                        text += f"  [{style}]{gain}[/]" if style else f"  {gain}"
                    row.append(text)
                table.add_row(*row)
                name = ""
            table.add_section()
        console.print(table)


def print_summary(console, cells):
    """The least favourable figures, and faults in red. Returns whether there were none."""
    again = [c["gain_vs_off"] for c in cells if c["repeat"] > 1 and c["gain_vs_off"]]
    others = [c for c in cells if c["policy"] != "off" and c["gain_vs_off"]]
    if again:
        console.print(f"'off' measured again lies between {min(again):.2f}× and {max(again):.2f}× "
                      "of 'off'.")
    if others:
        worst = min(others, key=lambda c: c["gain_vs_off"])
        console.print(
            f"The least gain of all: {worst['gain_vs_off']:.2f}× ({worst['policy']}, "
            f"{format_size(worst['size_bytes'])}, {worst['guest']} guest, {worst['connection']}, "
            f"{worst['vcpus']} virtual CPU{'s' if worst['vcpus'] > 1 else ''}, "
            f"{worst['clock']}'s clock).")
    # Both clocks tell of the same transfers.
    lost = sum(c["lost_bytes"] for c in cells if c["clock"] == "sender")
    failed = sum(c["failed"] for c in cells if c["clock"] == "sender")
    total = sum(c["n"] + c["failed"] for c in cells if c["clock"] == "sender")
    if lost or failed:
        console.print(f"[bold red]{lost} bytes were wrong or missing, {failed} of {total} transfers "
                      "failed.[/]")
        return False
    console.print(f"{total} transfers, every byte of them arrived as it was sent.")
    return True
