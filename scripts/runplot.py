# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Pictures of run.json by gnuplot: transfer time over size, a panel for each guest and clock."""

import math
import subprocess

_POLICIES = (
    # policy, colour, point type, place beside the others (a factor on the size axis)
    ("off", "#7d838c", 5, 0.89),
    ("ring", "#2f7fc1", 7, 1.0),
    ("hold", "#d9541e", 9, 1.12),
)
_GUESTS = ("busy", "io")
_CLOCKS = (("sender", "sender’s clock: last byte acknowledged"),
           ("receiver", "receiver’s clock: last byte read"))
_INK = "#30343b"
_FAINT = "#dfe2e6"


class Error(Exception):
    """A picture could not be made; the text says why."""


def plot(cells, folder):
    """Writes run.svg (established connections) and run-fresh.svg; returns the paths written."""
    paths = []
    for connection, name in (("established", "run.svg"), ("fresh", "run-fresh.svg")):
        chosen = [c for c in cells
                  if c["connection"] == connection and c["repeat"] == 1 and c["median_ms"]
                  and c["receive_buffer"] == "large"
                  and c["vcpus"] == max(o["vcpus"] for o in cells)]
        if chosen:
            # Settings measured beside the main ones have a longer linger.
            linger = min(c["linger_us"] for c in chosen)
            path = folder / name
            _gnuplot(_script([c for c in chosen if c["linger_us"] == linger], connection, path))
            paths.append(path)
    return paths


def _gnuplot(script):
    try:
        done = subprocess.run(["gnuplot"], input=script, capture_output=True, text=True,
                              timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise Error(f"gnuplot (package gnuplot-nox): {error}") from None
    if done.returncode != 0:
        raise Error(f"gnuplot: {done.stderr.strip()}")


def _decades(values):
    """The smallest range of whole thirds of a decade around the values."""
    low = 10 ** (math.floor(math.log10(min(values)) * 3 - 0.7) / 3)
    high = 10 ** (math.ceil(math.log10(max(values)) * 3 + 0.2) / 3)
    return low, high


def _ticks(values, labels):
    return ", ".join(f'"{label}" {value:g}' for value, label in zip(values, labels))


def _size_label(size):
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


def _time_label(exponent):
    return f"{10 ** (exponent - 3)} s" if exponent >= 3 else f"{10.0 ** exponent:g} ms"


def _gain_label(gain):
    return f"{gain:.0f}×" if gain >= 9.95 else f"{gain:.1f}×"


def _lighter(colour):
    """Two thirds of the way to white."""
    channels = (int(colour[i:i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{255 - (255 - c) // 3:02x}" for c in channels)


def _script(cells, connection, path):
    sizes = sorted({c["size_bytes"] for c in cells})
    low, high = _decades([c[k] for c in cells for k in ("p10_ms", "p90_ms")])
    exponents = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    sample = cells[0]
    lines = [
        "set terminal svg size 1000,770 enhanced font 'DejaVu Sans,Helvetica,Arial,sans-serif,13'"
        " background rgb 'white' dashlength 0.6 linewidth 1",
        f'set output "{path}"',
        "set multiplot",
        f"set label 1 \"Time of one TCP transfer into a guest with 1 of {sample['vcpus']} virtual "
        f"CPUs, {sample['slice_ms']:g} ms each\" at screen 0.5,0.972 center font ',17' "
        f"textcolor rgb '{_INK}'",
        f"set label 2 \"{connection} connections · median of {max(c['n'] for c in cells)} random "
        "phases, bars from the 10th to the 90th percentile · numbers: gain of hold over off\" "
        "at screen 0.5,0.937 center font ',11.5' "
        "textcolor rgb '#6b717b'",
        "set logscale xy",
        f"set xrange [{sizes[0] / 1.7:g}:{sizes[-1] * 2.4:g}]",
        f"set yrange [{low:g}:{high:g}]",
        f"set xtics ({_ticks(sizes, map(_size_label, sizes))}) nomirror scale 0 "
        f"textcolor rgb '{_INK}'",
        f"set grid xtics ytics linetype 1 linecolor rgb '{_FAINT}' linewidth 1",
        "set border 3 linecolor rgb '#aab0b8' linewidth 1",
        "set errorbars 0",
    ]
    labels = (list(map(_time_label, exponents)), [""] * len(exponents))
    blocks, panels = [], []
    for row, (clock, clock_title) in enumerate(_CLOCKS):
        for column, guest in enumerate(_GUESTS):
            left, bottom = 0.075 + 0.47 * column, 0.49 - 0.435 * row
            panel = [
                f"set lmargin at screen {left:g}", f"set rmargin at screen {left + 0.44:g}",
                f"set bmargin at screen {bottom:g}", f"set tmargin at screen {bottom + 0.345:g}",
                f"set title \"{{/:Bold {guest} guest}}, {clock_title}\" offset 0,-0.3 "
                f"font ',12.5' textcolor rgb '{_INK}'",
                # The two panels of a row share their axis.
                f"set ytics ({_ticks([10.0 ** e for e in exponents], labels[column])}) "
                f"nomirror scale 0 textcolor rgb '{_INK}'",
                "set key at screen 0.5,0.905 center center horizontal maxrows 1 samplen 2.2 width 3"
                f" font ',13' textcolor rgb '{_INK}'" if row + column == 0 else "unset key",
            ]
            layers = []
            for policy, colour, point, place in _POLICIES:
                data = sorted((c for c in cells if (c["policy"], c["guest"], c["clock"]) ==
                               (policy, guest, clock)), key=lambda c: c["size_bytes"])
                if not data:
                    continue
                block = f"$d{row}{column}{policy}"
                blocks.append(f"{block} << EOD")
                blocks += [f"{c['size_bytes'] * place:g} {c['median_ms']} {c['p10_ms']} "
                           f"{c['p90_ms']} \"{_gain_label(c['gain_vs_off'] or 1)}\"" for c in data]
                blocks.append("EOD")
                layers.append((0, f"{block} using 1:2:3:4 with yerrorbars linecolor rgb "
                                  f"'{_lighter(colour)}' linewidth 4 pointtype -1 notitle"))
                layers.append((1, f"{block} using 1:2 with linespoints linecolor rgb '{colour}' "
                                  f"linewidth 2.2 pointtype {point} pointsize 0.8 "
                                  f"title \"{policy}\""))
                if policy == "hold":
                    layers.append((2, f"{block} using 1:2:5 with labels left offset 0.9,-0.55 "
                                      f"font ',12.5' textcolor rgb '{colour}' notitle"))
            if layers:
                layers.sort(key=lambda layer: layer[0])
                panels += panel + ["plot " + ", \\\n ".join(text for _, text in layers),
                                   "unset label 1", "unset label 2"]
    return "\n".join(blocks + lines + panels + ["unset multiplot", ""])
