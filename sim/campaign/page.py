#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Pictures (SVG and PNG) and one HTML page of a campaign's results.

  page.py DIR     reads DIR/<experiment>.csv, writes DIR/pictures/ and DIR/index.html
"""

import html
import pathlib
import re
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

INK, FAINT = "#30343b", "#dfe2e6"
COLOURS = {
    "netback-2010": "#b9bec6", "netback": "#7d838c", "ring-2010": "#9cc7ea", "ring": "#2f7fc1",
    "hold": "#d9541e", "hold, no early SACK": "#f0a988", "seth": "#8a6fc0", "split-proxy": "#2a9d8f",
    "outsourcing": "#3a7d44", "leulo": "#a3b14b", "linsock": "#c2a83e", "windows-device": "#e0d3a0",
    "native": "#111111",
}
SIZES = {10_000: "10 KB", 100_000: "100 KB", 1_000_000: "1 MB", 10_000_000: "10 MB",
         100_000_000: "100 MB"}
# What the abstracts say (NA: nothing that could be compared), beside what the models give.
PUBLISHED = [
    # experiment, what, published, value of the model, why they differ
    ("cost", "SETH: CPU time of a byte received, over native", 1.836, ("seth", "receive"),
     "calibrated"),
    ("cost", "netback: CPU time of a byte received, over native", 2.414, ("netback", "receive"),
     "calibrated"),
    ("cost", "SETH: CPU time of a byte sent, over native", 2.420, ("seth", "transmit"), "calibrated"),
    ("cost", "netback: CPU time of a byte sent, over native", 3.349, ("netback", "transmit"),
     "calibrated"),
    ("cost", "SETH: CPU time of a round trip, over native", 36.77 / 14.14, ("seth", "pingpong"),
     "calibrated"),
    ("cost", "netback: CPU time of a round trip, over native", 44.16 / 14.14,
     ("netback", "pingpong"), "calibrated"),
    ("fast", "Linsock: throughput at 10 Gb/s, over the device it replaces", 4.0,
     ("linsock", "windows-device"), "“more than 300 %” better; the device's cost is an assumption"),
]


def table(frame, formats=None):
    text = frame.to_html(
        index=False, border=0, na_rep="", formatters=formats or {},
        float_format=number)
    return re.sub(r"<td>(?=[A-Za-z“])", '<td class="text">', text)


class Page:
    """Sections with pictures, in the order they are added."""

    def __init__(self, folder):
        self._folder = folder
        self._parts = []
        (folder / "pictures").mkdir(exist_ok=True)

    def heading(self, text, reading):
        self._parts.append(f"<h2>{html.escape(text)}</h2>\n<p>{reading}</p>")

    def picture(self, name, figure, says):
        for kind in ("svg", "png"):
            figure.savefig(self._folder / "pictures" / f"{name}.{kind}", bbox_inches="tight",
                           dpi=120)
        plt.close(figure)
        self._parts.append(f'<figure><img src="pictures/{name}.svg" alt="{html.escape(says)}">'
                           f"<figcaption>{html.escape(says)}</figcaption></figure>")

    def text(self, says):
        self._parts.append(f"<p>{html.escape(says)}</p>")

    def table(self, text):
        self._parts.append(f'<div class="table">{text}</div>')

    def write(self):
        style = """body{font:16px/1.5 system-ui,sans-serif;color:#30343b;max-width:68rem;
          margin:2rem auto;padding:0 1rem} figure{margin:1rem 0} img{max-width:100%}
          figcaption{color:#666;font-size:.9rem} .table{overflow-x:auto}
          table{border-collapse:collapse;font-size:.8rem} td,th{padding:.2rem .45rem;
          text-align:right;border-bottom:1px solid #dfe2e6;white-space:nowrap}
          td:first-child,th:first-child{text-align:left}
          td:last-child{white-space:normal} td.text{text-align:left}"""
        (self._folder / "index.html").write_text(
            "<!doctype html><html lang=en><meta charset=utf-8><title>vsnoop in simulation</title>"
            f"<meta name=viewport content='width=device-width'><style>{style}</style>"
            "<h1>vsnoop in simulation</h1><p>The same core that runs in Xen and in user space, in "
            "ns-3, beside other ways to solve the problem. All times are virtual. Every picture is "
            "made of the CSV file of the same name in this folder.</p>"
            + "\n".join(self._parts) + "</html>\n", encoding="utf-8")


def axes(count, width=3.6, height=3.2, **options):
    figure, panels = plt.subplots(1, count, figsize=(width * count, height), squeeze=False, **options)
    for panel in panels[0]:
        panel.grid(color=FAINT, linewidth=0.6)
        panel.set_axisbelow(True)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    return figure, panels[0]


def kind_of(row):
    return "io, lingers 200 us" if row["guest"] == "io" and row["linger_us"] else row["guest"]


def means(frame, keys, values):
    return frame.groupby(keys, sort=False)[values].mean().reset_index()


def lines(panel, frame, x, y, by="architecture"):
    for name, rows in frame.groupby(by, sort=False):
        rows = rows.sort_values(x)
        panel.plot(rows[x], rows[y], marker="o", markersize=3, linewidth=1.4, label=name,
                   color=COLOURS.get(name))


def time_axis(panel):
    """Times of many magnitudes: logarithmic, and named as they are."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(10, (1, 2, 5), numticks=30))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def number(value):
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def count_axis(panel, values, label):
    """A few numbers that double or so: logarithmic, and named as they are."""
    panel.set_xscale("log")
    panel.set_xticks(sorted(set(values)), [str(value) for value in sorted(set(values))])
    panel.set_xticks([], minor=True)
    panel.set_xlabel(label)


def bars(panel, frame, x, y, by="architecture"):
    groups, names = list(dict.fromkeys(frame[x])), list(dict.fromkeys(frame[by]))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        rows = frame[frame[by] == name].set_index(x)[y]
        panel.bar([j + (i - len(names) / 2 + 0.5) * width for j in range(len(groups))],
                  [rows.get(group, 0) for group in groups], width, label=name,
                  color=COLOURS.get(name))
    panel.set_xticks(range(len(groups)), groups, rotation=30, ha="right", fontsize=8)


def legend(figure, panel, columns=6):
    figure.legend(*panel.get_legend_handles_labels(), loc="upper center", ncols=columns,
                  bbox_to_anchor=(0.5, -0.02), frameon=False, fontsize=8)
    figure.tight_layout()


def transfers(page, frames):
    page.heading("One transfer, by size", "Gain means: where netback waits for the guest's "
                 "processor, hold does not. The sender is done at the link's rate until the guest's "
                 "window or the budget is full; the receiver gains when the transfer spans several "
                 "slices. A guest that lingers, and one that is busy, leaves less to gain: the "
                 "scheduler's behaviour, not the network, sets the base.")
    for name, says in (("transfer", "established connections"), ("fresh", "fresh connections: the "
                       "handshake waits for the guest wherever TCP ends in it")):
        data = frames[name]
        data = data[data["vms"] == 3].copy()
        data["kind"] = data.apply(kind_of, axis=1)
        mean = means(data, ["kind", "architecture", "size_bytes"], ["sender_ms", "receiver_ms"])
        kinds = list(dict.fromkeys(mean["kind"]))
        for clock in ("sender", "receiver"):
            figure, panels = axes(len(kinds), sharey=True)
            for panel, kind in zip(panels, kinds):
                lines(panel, mean[mean["kind"] == kind], "size_bytes", f"{clock}_ms")
                panel.set(xscale="log", title=f"guest: {kind}")
                time_axis(panel)
                panel.set_xticks(list(SIZES)[:4], list(SIZES.values())[:4], fontsize=8)
            panels[0].set_ylabel(f"{clock}'s time, ms")
            legend(figure, panels[0])
            page.picture(f"{name}-{clock}", figure,
                         f"Mean time of one transfer on the {clock}'s clock, one of 3 VMs, 30 ms "
                         f"slices; {says}.")
    data = frames["transfer"].copy()
    data["kind"] = data.apply(kind_of, axis=1)
    mean = means(data[data["size_bytes"] == 1_000_000], ["kind", "architecture", "vms"],
                 ["sender_ms", "receiver_ms"])
    kinds = list(dict.fromkeys(mean["kind"]))
    figure, panels = axes(len(kinds), sharey=True)
    for panel, kind in zip(panels, kinds):
        lines(panel, mean[mean["kind"] == kind], "vms", "sender_ms")
        panel.set(title=f"guest: {kind}")
        time_axis(panel)
        count_axis(panel, mean["vms"], "VMs on the processor")
    panels[0].set_ylabel("sender's time of 1 MB, ms")
    legend(figure, panels[0])
    page.picture("vms", figure, "1 MB by the number of VMs: alone all are the same.")


def matrix(page, frames):
    page.heading("All architectures", "Mean times of one of 3 VMs with 30 ms slices, established "
                 "connection; gain over today's netback (ring-2010: over netback-2010) in brackets.")
    data = pandas.concat([frames["transfer"], frames["long"]])
    data = data[data["vms"] == 3].copy()
    data["kind"] = data.apply(kind_of, axis=1)
    mean = means(data, ["kind", "size_bytes", "architecture"], ["sender_ms", "receiver_ms"])
    index = mean.set_index(["kind", "size_bytes", "architecture"])
    for kind in dict.fromkeys(mean["kind"]):
        rows = []
        for architecture in dict.fromkeys(mean["architecture"]):
            row = {f"guest: {kind}": architecture}
            base = "netback-2010" if architecture == "ring-2010" else "netback"
            for clock in ("sender", "receiver"):
                for size, label in SIZES.items():
                    if (kind, size, architecture) not in index.index:
                        row[f"{clock[0]} {label}"] = ""
                        continue
                    time = index.loc[(kind, size, architecture), f"{clock}_ms"]
                    text = number(time)
                    if not architecture.startswith("netback") and (kind, size, base) in index.index:
                        text += f" ({index.loc[(kind, size, base), f'{clock}_ms'] / time:.3g}×)"
                    row[f"{clock[0]} {label}"] = text
            rows.append(row)
        page.table(table(pandas.DataFrame(rows)))


def overview_of(frames):
    """One row a workload, one column an architecture; empty where it was not run."""
    rows = {}

    def add(label, frame, value, **where):
        for key, wanted in where.items():
            frame = frame[frame[key] == wanted]
        rows[label] = frame.groupby("architecture", sort=False)[value].mean()

    for name, connection in (("transfer", "open"), ("fresh", "new")):
        for guest in ("io", "busy"):
            for size in (100_000, 10_000_000):
                for clock in ("sender", "receiver"):
                    add(f"{SIZES[size]}, {connection}, {guest}, {clock}: ms", frames[name],
                        f"{clock}_ms", vms=3, linger_us=0, guest=guest, size_bytes=size)
    add("16 peers to one io guest, last reader: ms", frames["incast"], "receiver_last_ms", guest="io",
        peers=16)
    clients = frames["web"]["clients"].min()
    add(f"web auction, {clients} clients: ms", frames["web"], "mean_ms", linger_us=200,
        clients=clients)
    for operation in ("pingpong", "alltoall", "allreduce"):
        add(f"MPI {operation}, 100 KB: ms", frames["mpi"], "round_ms", linger_us=200,
            operation=operation, size_bytes=100_000)
    add("between two VMs: Mb/s", frames["intervm"], "throughput_mbps")
    add("10 Gb/s link: Mb/s", frames["fast"], "throughput_mbps")
    for mode in ("receive", "transmit"):
        add(f"{mode}: ns of CPU a byte", frames["cost"], "ns_per_byte", mode=mode)
    names = list(dict.fromkeys(frames["transfer"]["architecture"])) + ["windows-device"]
    return pandas.DataFrame(rows).T.reindex(columns=names).rename_axis(
        index="workload", columns=None).reset_index()


def overview(page, frames):
    page.heading("Architectures and workloads", "One of 3 VMs with 30 ms slices where nothing else is "
                 "said; guests of web and MPI linger 200 us. Empty: not run. What was published, and "
                 "why the models differ from it, is below.")
    page.table(table(overview_of(frames)))


# The goals of the project for the simulation: guest, size, clock, gain over netback-2010.
GOALS = (("io", 100_000, "sender", 100), ("io", 100_000, "receiver", 3),
         ("io", 1_000_000, "sender", 30), ("io", 1_000_000, "receiver", 6),
         ("io", 10_000_000, "sender", 10), ("io", 10_000_000, "receiver", 7),
         ("busy", 100_000, "sender", 15), ("busy", 10_000_000, "sender", 2),
         ("busy", 10_000_000, "receiver", 1.7))


def goals(page, frames):
    page.heading("Goals", "What was asked of policy hold, one of 3 VMs, established connection; the "
                 "goals were set beside the netback of 2010, a ring and nothing else.")
    data = frames["transfer"]
    data = data[(data["vms"] == 3) & (data["linger_us"] == 0)]
    mean = means(data, ["guest", "size_bytes", "architecture"], ["sender_ms", "receiver_ms"])
    index = mean.set_index(["guest", "size_bytes", "architecture"])
    rows = []
    for guest, size, clock, wanted in GOALS:
        time = {name: index.loc[(guest, size, name), f"{clock}_ms"]
                for name in ("netback-2010", "netback", "hold", "outsourcing")}
        gain = time["netback-2010"] / time["hold"]
        rows.append({"guest": guest, "size": SIZES[size], "clock": clock, "wanted": f"{wanted:g}×",
                     "over netback-2010": f"{gain:.3g}×",
                     "over netback": f"{time['netback'] / time['hold']:.3g}×",
                     "time over outsourcing's": f"{time['hold'] / time['outsourcing']:.3g}",
                     "reached": "yes" if gain >= wanted else "no"})
    page.table(table(pandas.DataFrame(rows)))
    ratios = index.xs("netback", level="architecture") / index.xs("hold", level="architecture")
    page.text(f"The least gain of hold over netback in these and all other sizes: "
              f"{ratios['sender_ms'].min():.3g}× on the sender's clock, "
              f"{ratios['receiver_ms'].min():.3g}× on the receiver's.")


def published(page, frames):
    page.heading("Beside what was published", "Only what the public abstracts and tables say. "
                 "The paper on vSnoop gives no number there.")
    cost = means(frames["cost"], ["architecture", "mode"], ["ns_per_byte", "us_per_round"])
    cost = cost.set_index(["architecture", "mode"])
    rows = []
    for experiment, what, figure, (one, other), why in PUBLISHED:
        if experiment == "cost":
            column = "us_per_round" if other == "pingpong" else "ns_per_byte"
            value = cost.loc[(one, other), column] / cost.loc[("native", other), column]
        else:
            speed = frames[experiment].set_index("architecture")["throughput_mbps"]
            value = speed[one] / speed[other]
        rows.append({"what": what, "published": figure, "model": value,
                     "difference": f"{(value / figure - 1) * 100:+.0f} %", "why": why})
    page.table(table(pandas.DataFrame(rows)))
    page.heading("Cost", "CPU time of guest and driver domain together. Acknowledging early costs "
                 "the driver domain something; no architecture has free work.")
    figure, panels = axes(2, width=5)
    data = frames["cost"]
    bars(panels[0], data[data["mode"] != "pingpong"], "mode", "ns_per_byte")
    panels[0].set_ylabel("ns for a byte")
    bars(panels[1], data[data["mode"] == "pingpong"], "mode", "us_per_round")
    panels[1].set_ylabel("us for a round trip")
    legend(figure, panels[0], 4)
    page.picture("cost", figure, "CPU time at 1 Gb/s, the guest alone on its processor.")
    figure, panels = axes(2, width=5)
    for panel, name, label in zip(panels, ("fast", "intervm"), ("10 Gb/s link", "between two VMs")):
        data = frames[name].copy()
        data["link"] = label
        bars(panel, data, "link", "throughput_mbps")
        panel.set_ylabel("Mb/s")
        panel.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    page.picture("throughput", figure, "Throughput of one stream when processors, not the link, are "
                 "the limit (frames of 1500 bytes, no segmentation offload).")


def schedulers(page, frames):
    page.heading("Schedulers", "Shorter slices, credit2 and a processor of one's own cure most of the "
                 "delay without any offload; a cap under credit makes it worst. Where a setting can be "
                 "changed, change it first.")
    data = frames["schedulers"].copy()
    data["kind"] = data.apply(kind_of, axis=1)
    mean = means(data[data["size_bytes"] == 1_000_000], ["kind", "setting", "architecture"],
                 ["sender_ms", "receiver_ms"])
    kinds = list(dict.fromkeys(mean["kind"]))
    for clock in ("sender", "receiver"):
        figure, panels = axes(len(kinds), width=4.6, sharey=True)
        for panel, kind in zip(panels, kinds):
            bars(panel, mean[mean["kind"] == kind], "setting", f"{clock}_ms")
            panel.set(title=f"guest: {kind}")
            time_axis(panel)
        panels[0].set_ylabel(f"{clock}'s time of 1 MB, ms")
        legend(figure, panels[0])
        page.picture(f"schedulers-{clock}", figure, f"1 MB by scheduler, {clock}'s clock.")


def impairments(page, frames):
    page.heading("Loss and reordering", "Early SACK lets the peer repair losses at the driver "
                 "domain's round trip; without it the guest has to say what is missing, when it runs. "
                 "With netback each recovery takes waits of the guest, and a frame that was overtaken "
                 "may begin one; with hold it has arrived before anybody speaks of it.")
    data = means(frames["loss"], ["impairment", "guest", "size_bytes", "variant", "rate"],
                 ["sender_ms", "receiver_ms"])
    figure, panels = axes(4, width=3.4, sharey=True)
    for panel, (what, guest) in zip(panels, [(w, g) for w in ("loss", "reorder")
                                             for g in ("io", "busy")]):
        rows = data[(data["impairment"] == what) & (data["guest"] == guest)
                    & (data["size_bytes"] == 10_000_000)].copy()
        rows["part"] = rows["rate"].map(lambda rate: f"{rate * 100:g} %")
        bars(panel, rows, "part", "receiver_ms", "variant")
        panel.set(title=f"{what}, guest: {guest}")
        time_axis(panel)
    panels[0].set_ylabel("receiver's time of 10 MB, ms")
    legend(figure, panels[0])
    page.picture("loss", figure, "10 MB with a part of the frames lost, or overtaken by 50 us. Other "
                 "frames in each transfer, the same for all.")
    rows = []
    for key, group in data.groupby(["impairment", "guest", "size_bytes"], sort=False):
        for rate in dict.fromkeys(group["rate"]):
            times = group[group["rate"] == rate].set_index("variant")
            row = {"what": key[0], "guest": key[1], "size": SIZES[key[2]],
                   "rate": f"{rate * 100:g} %"}
            for clock in ("sender", "receiver"):
                base = times.loc["netback", f"{clock}_ms"]
                row[f"{clock[0]} netback, ms"] = base
                for variant in times.index.drop("netback"):
                    row[f"{clock[0]} {variant}"] = f"{base / times.loc[variant, f'{clock}_ms']:.3g}×"
            rows.append(row)
    page.table(table(pandas.DataFrame(rows)))


def rooms(page, frames):
    page.heading("Ring and hold", "What acknowledges only what is in the ring is limited by the ring; "
                 "what holds frames needs about what the link brings while the guest is off its "
                 "processor.")
    data = means(frames["room"], ["guest", "architecture", "room_bytes"], ["sender_ms"])
    figure, panels = axes(2, width=4.6, sharey=True)
    for panel, guest in zip(panels, ("io", "busy")):
        lines(panel, data[data["guest"] == guest], "room_bytes", "sender_ms")
        panel.set(xscale="log", title=f"guest: {guest}", xlabel="bytes of room")
        time_axis(panel)
    panels[0].set_ylabel("sender's time of 10 MB, ms")
    legend(figure, panels[0])
    page.picture("room", figure, "10 MB by the room that frames have: slots of the ring times 1448, or "
                 "the budget for held frames.")


def workloads(page, frames):
    page.heading("Many flows to one guest", "Fairness is Jain's index of the receivers' rates. Held "
                 "flows gain on the receiver's clock; on the sender's, several gain less than one.")
    data = means(frames["incast"], ["guest", "architecture", "peers"],
                 ["sender_last_ms", "receiver_last_ms", "fairness", "drops"])
    figure, panels = axes(4, width=3.4)
    for panel, (guest, column) in zip(panels, [(g, c) for g in ("io", "busy")
                                               for c in ("sender_last_ms", "receiver_last_ms")]):
        lines(panel, data[data["guest"] == guest], "peers", column)
        panel.set(title=f"guest: {guest}", ylabel=f"{column.split('_')[0]}'s time of the last, ms")
        time_axis(panel)
        count_axis(panel, data["peers"], "peers, 100 KB each")
    legend(figure, panels[0])
    page.picture("incast", figure, "Time until the last of several peers is done.")
    page.table(table(data))
    page.heading("Two-tier web auction", "A request waits for the front end, the database and the "
                 "front end again: early ACKs shorten only how the request comes in.")
    data = frames["web"]
    figure, panels = axes(2, width=4.8, sharey=True)
    for panel, linger in zip(panels, (0, 200)):
        bars(panel, data[data["linger_us"] == linger], "clients", "mean_ms")
        panel.set(title=f"guests linger {linger} us", xlabel="clients")
    panels[0].set_ylabel("mean response time, ms")
    legend(figure, panels[0])
    page.picture("web", figure, "Response time; front end, database and two computing neighbours "
                 "share a processor.")
    page.heading("Bulk-synchronous program", "Sending, too, needs the processor: early ACKs help "
                 "large messages, not the wait of each step.")
    data = frames["mpi"]
    figure, panels = axes(3, width=4)
    for panel, operation in zip(panels, ("pingpong", "alltoall", "allreduce")):
        rows = data[(data["operation"] == operation) & (data["linger_us"] == 200)].copy()
        rows["size"] = rows["size_bytes"].map(lambda size: SIZES.get(size, f"{size} B"))
        bars(panel, rows, "size", "round_ms")
        panel.set(title=operation, ylabel="ms for a round")
        time_axis(panel)
    legend(figure, panels[0])
    page.picture("mpi", figure, "4 ranks on 4 hosts, each with a computing neighbour; guests linger "
                 "200 us (without: mpi.csv).")
    page.heading("Migration", "A guest loses its network for 100 ms and 20 MB on the way with it. What is "
                 "promised has to be drained first (quiesce), or to move along (a guest that comes back to "
                 "the same driver domain); else the connection is reset, because its sender will not send "
                 "again what it was promised. A ring cannot move.")
    page.table(table(frames["migrate"][["architecture", "quiesce", "custody_moves", "drained_ms",
                                        "promised_at_detach_bytes", "survived", "receiver_ms"]]))
    page.heading("Cost of simulating", "Wall time is of the machine that ran it, beside other work.")
    page.table(table(frames["scale"][["architecture", "hosts", "guests", "simulated_s",
                                      "received_bytes", "events", "cpu_s", "wall_s", "memory_mb"]]))


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    frames = {path.stem: pandas.read_csv(path) for path in folder.glob("*.csv")}
    matplotlib.rcParams.update({"font.size": 9, "text.color": INK, "axes.labelcolor": INK,
                                "svg.hashsalt": "vsnoop", "axes.titlesize": 9})
    page = Page(folder)
    transfers(page, frames)
    goals(page, frames)
    overview(page, frames)
    matrix(page, frames)
    published(page, frames)
    schedulers(page, frames)
    impairments(page, frames)
    rooms(page, frames)
    workloads(page, frames)
    page.write()
    print(f"{folder.resolve()}/index.html")


if __name__ == "__main__":
    main()
