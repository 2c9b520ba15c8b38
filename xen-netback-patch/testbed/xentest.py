#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Boots Xen with the patched xen-netback and real guests in an emulator, in virtual time, and
measures and checks it. Fetches what it needs from Debian's archive."""

import argparse
import concurrent.futures
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

from rich.console import Console
from rich.markup import escape

import cells
import image
import lifecycle
import machine
import packages
import report

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
# What xen-load transfers in a cell. Established connections have carried so much before that the
# guest has opened its window beyond 1 MB.
AMOUNT = "--connections 5 --warm 4M --warm-chunk 1M --sizes 10k,100k,1M,10M --repeat 40 --most 60M"
COUNTED_AMOUNT = "--connections 10 --sizes 1M --repeat 60"

# Lines that no kernel may say, and those of a module that is not the distribution's.
BAD = re.compile(r"\bBUG\b|WARNING:|\bOops\b|Call Trace|general protection|non-static key|RCU.*stall|"
                 r"suspicious RCU|use-after-free|scheduling while atomic|blocked for more than|"
                 r"Kernel panic|refcount_t|hung_task")
OURS = re.compile(r"xen[_-]netback|vif[ -]|vsnoop", re.IGNORECASE)
COMPLAINT = re.compile(r"vif\d+\.1\b|vif[- ]vif-\d+-1:|xen_netback:.*\bvif\d+\.1")
TAINTS = ("loading out-of-tree module taints kernel", "module verification failed")


class Testbed:
    """What all boots of one run share."""

    def __init__(self, options, console):
        self.console = console
        self.out = options.out.resolve()
        self.kernel = options.kernel
        self.packs = packages.fetch(self.out / "packages", options.kernel, self.say)
        self.base = None
        self.modules = {}
        self.debug = None  # build folder of dom0's kernel, if it is not Debian's
        self._lock = threading.Lock()
        self.started = time.monotonic()

    def say(self, text):
        self.console.print(escape(text), soft_wrap=True)

    def progress(self, text):
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self.say(f"{minutes:3d}:{seconds:02d}  {text}")

    def prepare(self, kinds, debug=False):
        """Builds the RAM disks and the kinds of the module that are needed; `debug`: for a dom0
        kernel with lockdep and kmemleak, which is built as well."""
        if debug:
            self.debug = self.packs.debug_kernel(HERE / "debug.config",
                                                 HERE / "debug-gntdev.patch",
                                                 self.out / f"debug-{self.kernel}", self.say)
        self.say("building programs, RAM disks and xen-netback")
        self.base = image.ensure(self.packs, self.out / f"image-{self.kernel}")
        for kind in kinds:
            folder = self.out / f"netback-{self.kernel}-{kind}{'-debug' if debug else ''}"
            packages.run([HERE.parent / "build.sh", "--kernel", self.kernel, "--headers",
                          self.debug or self.packs.headers, "--source", self.packs.source, "--out", folder,
                          *(["--pristine"] if kind == "pristine" else [])])
            self.modules[kind] = folder / "xen-netback.ko"

    def boot(self, name, script, *, kind="vsnoop", on_line=None, complaints=False, **machine_options):
        """One boot in a folder of its own, whose logs must be clean; `complaints`: but for netback's of
        vifs with handle 1. Returns the results' folder."""
        folder = self.out / "boots" / f"{self.kernel}-{name}{'-debug' if self.debug else ''}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        initrd = folder / "initrd"
        image.with_overlay(self.base, {"scenario.sh": script.encode(),
                                       "xen-netback.ko": self.modules[kind]}, folder, initrd)
        said = []

        def line(text):
            if text.startswith("== FAILED"):
                said.append(text[3:])
            if on_line:
                on_line(text)

        try:
            machine.boot(self.packs, initrd, folder, on_line=line,
                         kernel=self.debug and self.debug / "vmlinux", **machine_options)
        finally:
            initrd.unlink()
        said += bad_lines(folder / "results", complaints)
        if said:
            raise machine.Failure(f"boot {name}: {said[0]}"
                                  f"{f' (and {len(said) - 1} more)' if len(said) > 1 else ''}; "
                                  f"see {folder}")
        return folder / "results"


def bad_lines(results, complaints=False):
    """Lines of the kernels' logs that must not be there. `complaints`: those of netback about a vif with
    handle 1, which is a rogue's, may."""
    found = []
    for path in [results / "dom0-dmesg.txt", *results.glob("guest-*.log"),
                 results / "xen-dmesg.txt"]:
        if not path.exists():
            found.append(f"{path.name} is missing")
            continue
        for text in path.read_text(errors="replace").splitlines():
            level = re.match(r"<(\d+)>", text)
            ours = OURS.search(text) and level and int(level[1]) % 8 < 5
            if complaints and COMPLAINT.search(text):
                ours = False
            if BAD.search(text) or (ours and not any(taint in text for taint in TAINTS)):
                found.append(f"{path.name}: {text}")
    leaks = results / "kmemleak.txt"
    if leaks.exists() and "[xen_netback]" in leaks.read_text():
        found.append("kmemleak.txt: memory of xen-netback that nothing points to")
    return found


def measure(testbed, group, amount, number, done):
    """Boots once, measures the cells of `group`; writes one file for each. `done` is called with
    each cell that was measured."""
    by_name = {cell.name(): cell for cell in group}
    scheduler, place, pristine = group[0].machine()

    def on_line(text):
        if text.startswith("== done "):
            done(by_name[text.split()[2]])

    results = testbed.boot(
        f"cells-{number}", cells.script(group, COUNTED_AMOUNT if place == "one-pcpu" else amount),
        kind="pristine" if pristine else "vsnoop", on_line=on_line, scheduler=scheduler,
        pcpus=1 if place == "one-pcpu" else 3, timeout=6000)
    for cell in group:
        collect(testbed, results, cell)


def collect(testbed, results, cell):
    """Reads what a boot left of one cell, and keeps it in a file. Returns it."""
    name = cell.name()
    transfers = []
    for text in (results / f"{name}.jsonl").read_text().splitlines():
        if not text.startswith("{"):
            raise machine.Failure(f"cell {name}: {text}")
        transfers.append(json.loads(text))
    result = {
        "cell": dataclasses.asdict(cell),
        "warm_bytes": sum(t["warm_bytes"] for t in transfers if "size" not in t),
        "transfers": [t for t in transfers if "size" in t],
        "warm_lost_bytes": sum(t["lost_bytes"] for t in transfers if "size" not in t),
        "cpu": [json.loads(text) for text in (results / f"{name}.cpu").read_text().splitlines()],
        "counters": {key: after - before for key, before, after in
                     counters(results / f"{name}.before", results / f"{name}.after")},
    }
    if not result["transfers"]:
        raise machine.Failure(f"cell {name}: no transfers; see {results}")
    folder = testbed.out / "cells" / testbed.kernel
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result))
    return result


def counters(before, after):
    """(name, first value, second value) from two outputs of ethtool -S."""
    tables = [dict(re.findall(r"^\s+(\S+): (\d+)$", path.read_text(), re.MULTILINE))
              for path in (before, after)]
    return [(key, int(tables[0].get(key, 0)), int(value)) for key, value in tables[1].items()]


def run_cells(testbed, wanted, amount, most, jobs, fresh):
    """Measures the cells, `jobs` boots at a time; those measured before are not measured again
    unless `fresh`. Returns the results."""
    folder = testbed.out / "cells" / testbed.kernel
    wanted = list(wanted)
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    missing = [cell for cell in wanted if not (folder / f"{cell.name()}.json").exists()]
    groups = list(cells.boots(missing, most))
    testbed.say(f"{len(wanted)} cells, {len(wanted) - len(missing)} measured before; "
                f"{len(groups)} boots, {jobs} at a time")
    count = [0]
    lock = threading.Lock()

    def done(cell):
        with lock:
            count[0] += 1
            testbed.progress(f"{count[0]}/{len(missing)}  {cell.scheduler}, "
                             f"{cell.guests} guests, receiver {cell.receiver}, {cell.connection}, "
                             f"{cell.policy}{f', {cell.wire} Mb/s' if cell.wire else ''}")

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(measure, testbed, group, amount, number, done)
                   for number, group in enumerate(groups)]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            machine.stop_all()
            raise
    return [json.loads((folder / f"{cell.name()}.json").read_text()) for cell in wanted]


def check(console, results):
    """Whether every byte arrived as it was sent."""
    transfers = [t for result in results for t in result["transfers"]]
    lost = sum(t["lost_bytes"] for t in transfers)
    lost += sum(result["warm_lost_bytes"] for result in results)
    failed = sum(t["failed"] for t in transfers)
    if lost or failed:
        console.print(f"[bold red]{lost} bytes wrong or missing, {failed} of {len(transfers)} "
                      "transfers failed[/]")
        return False
    console.print(f"{len(transfers)} transfers, every byte of them arrived as it was sent.")
    return True


def replay(testbed, results):
    """The decision logs of a boot give the same verdicts at a desk. Returns what went wrong."""
    program = TOP / "build/release/tools/vsnoop"
    wrong = []
    for log in sorted(results.glob("*.vslog")):
        done = subprocess.run([program, "replay", "--log", log], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            wrong.append(f"{log.name}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
        else:
            testbed.say(f"{log.name}: {done.stdout.strip().splitlines()[-1]}")
    return wrong


def run_cases(testbed, only, jobs):
    """The life-cycle cases. Returns whether all passed, and the results' folders."""
    good = True
    folders = []

    def run(scenario):
        started = time.monotonic()

        def on_line(text):
            ended = re.match(r"== case (\S+) ended$", text)
            if ended:
                testbed.progress(f"{scenario.name}: {ended[1]}")

        results = testbed.boot(f"case-{scenario.name}", scenario.script, on_line=on_line,
                               complaints=scenario.complaints, timeout=5400, **scenario.machine)
        return results, scenario.judge(results) + replay(testbed, results), \
            time.monotonic() - started

    scenarios = list(lifecycle.scenarios(only))
    testbed.say(f"{sum(len(scenario.cases) for scenario in scenarios)} cases of a guest's life; "
                f"{len(scenarios)} boots, {jobs} at a time")
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(run, scenario): scenario for scenario in scenarios}
        for future in concurrent.futures.as_completed(futures):
            scenario = futures[future]
            try:
                results, wrong, took = future.result()
                folders.append(results)
            except machine.Failure as error:
                wrong, took = [str(error)], 0
            testbed.say(f"{scenario.name}: {', '.join(scenario.cases)}: "
                        f"{'passed' if not wrong else 'FAILED'} ({took:.0f} s)")
            for text in wrong:
                testbed.console.print(f"[bold red]{escape(text)}[/]", soft_wrap=True)
            good = good and not wrong
    return good, folders


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("test", "short", "campaign", "cases"))
    parser.add_argument("--kernel", default=packages.USUAL_KERNEL, choices=packages.KERNELS)
    parser.add_argument("--out", type=pathlib.Path, default=TOP / "build/xen")
    parser.add_argument("--jobs", type=int, default=machine.at_a_time(),
                        help="boots at a time (default: one a processor, if memory allows: %(default)s)")
    parser.add_argument("--again", action="store_true", help="campaign: forget what was measured")
    parser.add_argument("--only", nargs="+", choices=lifecycle.NAMES, metavar="NAME",
                        help="cases: those of these scenarios; there are " + ", ".join(lifecycle.NAMES))
    parser.add_argument("--debug", action="store_true",
                        help="cases: dom0's kernel with lockdep and kmemleak (6.1)")
    options = parser.parse_args()
    if options.debug and (options.what, options.kernel) != ("cases", "6.1"):
        parser.error("--debug is for 'cases' on kernel 6.1")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 110  # a file has room for the widest table
    try:
        testbed = Testbed(options, console)
        good, results = True, []
        if options.what == "short":
            testbed.prepare(["vsnoop"])
            good, folders = run_cases(testbed, ["short"], 1)
            results = [collect(testbed, folder, cell) for folder in folders
                       for cell in cells.short()]
        elif options.what == "cases":
            testbed.prepare(["vsnoop"], options.debug)
            good, _ = run_cases(testbed, options.only, options.jobs)
        else:
            testbed.prepare(["vsnoop", "pristine"])
            story = options.what == "test"
            results = run_cells(testbed, cells.story() if story else cells.campaign(), AMOUNT,
                                7 if story else 12, options.jobs, story or options.again)
        if results:
            rows = report.rows_of(results)
            path = testbed.out / "xen.json" if options.out != TOP / "build/xen" else \
                TOP / "build/xen.json"
            path.write_text(json.dumps(rows, indent=1) + "\n")
            if options.what == "test":
                good, _ = run_cases(testbed, None, options.jobs)
            report.print_tables(console, rows)
            report.print_alternatives(console, rows)
            report.print_instructions(console, rows)
            report.print_bound(console, rows)
            drawn = report.picture(rows, path.with_suffix(".svg"))
            console.print(f"Figures: {path}{', picture beside it' if drawn else ''}; logs of each "
                          f"boot: {testbed.out}/boots", soft_wrap=True)
            good = check(console, results) and good
        console.print(f"Done in {time.monotonic() - testbed.started:.0f} s.")
        return 0 if good else 1
    except (packages.Error, machine.Failure) as error:
        console.print(f"[bold red]xentest.py: {escape(str(error))}[/]", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
