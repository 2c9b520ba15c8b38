#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Shows acknowledgement offload at work on real TCP: transfers from a peer to a guest through
`vsnoop live`, with the offload off and on. Prints tables; writes run.json, run.svg and
run-fresh.svg."""

import argparse
import asyncio
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import time

sys.dont_write_bytecode = True  # run as root in a user's tree

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import netns
import runplot
import runreport
from runmeasure import Failure, Setting, measure

POLICIES = ("off", "ring", "hold")
# A guest that sleeps as soon as its queue is empty is the extreme case, so one that waits a little
# before it sleeps is measured as well.
LINGER_CONTROL_US = 200


def plan(options):
    """The stages, one after the other; the settings of a stage are interleaved over the lanes that
    the stage names, so that slow changes of the machine meet all policies alike."""
    base = {"vcpus": options.vcpus, "slice_ms": options.slice_ms, "linger_us": options.linger_us}
    sweep = [(policy, 1) for policy in POLICIES]
    if not options.quick:
        sweep.append(("off", 2))

    def settings(guest, connection):
        return [Setting(policy=policy, repeat=repeat, guest=guest, connection=connection, **base)
                for policy, repeat in sweep]

    if options.quick:
        return [(4, [s for guest in ("busy", "io") for connection in ("established", "fresh")
                     for s in settings(guest, connection)])]

    stages = []
    if options.vcpus > 1:
        stages.append((1, [Setting(policy, 1, options.slice_ms, "busy", "established",
                                   repeat=repeat)
                           for policy, repeat in (("off", 1), ("hold", 1))]))
    # A busy guest keeps link and processor busy too while it runs: one at a time.
    for connection in ("established", "fresh"):
        stages.append((1, [s for s in settings("busy", connection)
                           if s.repeat == 1 or connection == "established"]))
    # Without a large receive buffer it is the guest's window that limits long transfers.
    stages.append((1, [dataclasses.replace(s, receive_buffer="auto")
                       for s in settings("busy", "established")
                       if s.policy in ("off", "hold") and s.repeat == 1]))
    io = settings("io", "established") + settings("io", "fresh")
    control = [s for s in io if s.connection == "established" and s.policy in ("off", "hold")
               and s.repeat == 1]
    if options.vcpus > 1 and options.linger_us == 0:
        io += [dataclasses.replace(s, linger_us=LINGER_CONTROL_US) for s in control]
    # With a guest that sleeps nearly all the time is spent waiting. The largest size takes as long as
    # all others: on its own it may run beside them.
    parts = (tuple(options.sizes[-1:]), tuple(options.sizes[:-1]))
    stages.append((options.lanes, [dataclasses.replace(s, sizes=part) for part in parts if part
                                   for s in io if s.repeat == 1]))
    return stages


def expected_ms(setting, size):
    """Rough duration of a transfer; only the progress bar depends on it."""
    rate = 110e3 if setting.vcpus == 1 else 40e3 if setting.guest == "busy" else 8e3
    wait = 10 if setting.vcpus == 1 else setting.vcpus * setting.slice_ms
    return wait + size / rate


async def run_stage(options, testbeds, settings, results, progress, task):
    """Carries the settings out, as many at a time as there are testbeds."""
    waiting = list(settings)
    running = []

    def on_transfer(setting, event):
        progress.advance(task, expected_ms(setting, event["size"]))

    async def lane(testbed):
        while waiting:
            setting = waiting.pop(0)
            running.append(setting)
            progress.update(task, description=describe(running))
            results.append(await measure(options, testbed, setting, on_transfer))
            running.remove(setting)
            if running:
                progress.update(task, description=describe(running))

    tasks = [asyncio.create_task(lane(testbed)) for testbed in testbeds]
    try:
        await asyncio.gather(*tasks)
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def describe(running):
    if len(running) == 1:
        return running[0].name()
    return f"{running[0].name()} and {len(running) - 1} more"


async def run_all(options, console, results):
    """Measures everything that is planned; `results` grows as settings are finished."""
    stages = plan(options)
    total = sum(expected_ms(setting, size) * options.repeat
                for _, settings in stages for setting in settings
                for size in setting.sizes or options.sizes)
    testbeds = [netns.Testbed(n)
                for n in range(max(min(lanes, len(settings)) for lanes, settings in stages))]
    with Progress(TextColumn("{task.description}"), BarColumn(),
                  TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), console=console,
                  transient=True) as progress:
        task = progress.add_task("preparing", total=total)
        try:
            for testbed in testbeds:
                testbed.create()
            for lanes, settings in stages:
                await run_stage(options, testbeds[:lanes], settings, results, progress, task)
        finally:
            for testbed in testbeds:
                testbed.delete()


def parse_quantity(units, what):
    def parse(text):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", text)
        if not match or match[2] not in units:
            raise argparse.ArgumentTypeError(
                f"'{text}' is no {what}: write a number and one of {' '.join(u for u in units if u)}")
        return float(match[1]) * units[match[2]]
    return parse


_size = parse_quantity({"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30},
                       "size")
_ms = parse_quantity({"ns": 1e-6, "us": 1e-3, "ms": 1, "s": 1e3}, "duration")


def parse_sizes(text):
    sizes = sorted({int(_size(part)) for part in text.split(",")})
    if sizes[0] < 1:
        raise argparse.ArgumentTypeError("a transfer of 0 bytes cannot be timed")
    return sizes


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def parse_options():
    here = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=here / "build/release",
                        help="folder with tools/vsnoop and tools/vsnoop-load")
    parser.add_argument("--out", type=pathlib.Path, default=here / "build",
                        help="folder for run.json and the pictures")
    parser.add_argument("--quick", action="store_true",
                        help="few transfers of two sizes: shows that all works, measures little")
    parser.add_argument("--sizes", type=parse_sizes, help="default: 10k,100k,1M,10M")
    parser.add_argument("--repeat", type=positive, help="transfers of each size (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the random phases")
    parser.add_argument("--vcpus", type=positive, default=3, help="virtual CPUs that share one CPU")
    parser.add_argument("--slice", type=_ms, default=30.0, dest="slice_ms",
                        help="time that one keeps it (default: 30ms)")
    parser.add_argument("--linger", type=lambda text: _ms(text) * 1000, default=0.0,
                        dest="linger_us", help="idle time before an io guest yields (default: 0us)")
    parser.add_argument("--rate", default="1G", help="bits per second of the peer's link")
    parser.add_argument("--lanes", type=positive, default=8,
                        help="io guests measured at the same time")
    parser.add_argument("--timeout", type=positive, default=285,
                        help="seconds after which the measurement is given up")
    options = parser.parse_args()
    options.sizes = options.sizes or parse_sizes("10k,1M" if options.quick else "10k,100k,1M,10M")
    options.repeat = options.repeat or (3 if options.quick else 20)
    options.vsnoop = options.build.resolve() / "tools/vsnoop"
    options.load = options.build.resolve() / "tools/vsnoop-load"
    return options


def check_machine(options):
    if os.geteuid() != 0:
        raise Failure("needs root to make network namespaces: run it as root, or use 'make run'")
    for program in (options.vsnoop, options.load):
        if not os.access(program, os.X_OK):
            raise Failure(f"{program} is not there: build first ('make build'), or name the folder "
                          "with --build")
    for command, package in (("ip", "iproute2"), ("gnuplot", "gnuplot-nox"),
                             ("setpriv", "util-linux")):
        if not shutil.which(command):
            raise Failure(f"there is no '{command}' command: install the package {package}")


async def run_guarded(options, console, results):
    """run_all(), ended by SIGINT, SIGTERM and SIGHUP with everything cleaned up."""
    task = asyncio.create_task(run_all(options, console, results))
    caught = []

    def interrupt(number):
        if not caught:
            caught.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    try:
        await asyncio.wait_for(task, options.timeout)
    except asyncio.TimeoutError:
        raise Failure(f"not finished after {options.timeout} s (--timeout)") from None
    except asyncio.CancelledError:
        raise Failure(f"ended by {signal.Signals(caught[0]).name}") from None


def report(options, console, results):
    """Files, tables, pictures. Returns whether every byte arrived."""
    order = [setting for _, settings in plan(options) for setting in settings]
    results = sorted(results, key=lambda result: order.index(result.setting))
    cells = runreport.cells_of(results, options.sizes)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "run.json").write_text(json.dumps(cells, indent=1) + "\n")
    runreport.print_tables(console, cells)
    pictures = runplot.plot(cells, options.out)
    clean = runreport.print_summary(console, cells)
    console.print(f"Figures: {options.out}/run.json. Pictures: {', '.join(map(str, pictures))}.",
                  soft_wrap=True)
    return clean


def main():
    options = parse_options()
    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False)
    results = []
    started = time.monotonic()
    try:
        check_machine(options)
        netns.delete_stale()
        console.print("TCP in both namespaces: cubic, " + ", ".join(
            f"{name.rpartition('.')[2]} {value}" for name, value in netns.SYSCTLS.items()
            if ".tcp_" in name), style="dim")
        try:
            asyncio.run(run_guarded(options, console, results))
        except (Failure, netns.Error) as error:
            # What has been measured is worth showing, but not a success.
            if results:
                report(options, console, results)
            raise Failure(f"incomplete: {error}" if results else str(error)) from None
        clean = report(options, console, results)
        console.print(f"Done in {time.monotonic() - started:.0f} s.")
        return 0 if clean else 1
    except (Failure, runplot.Error, OSError) as error:
        errors.print(f"[bold red]run.py: {escape(str(error))}[/]", soft_wrap=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
