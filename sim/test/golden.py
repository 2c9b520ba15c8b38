#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compares the throughput matrix of today's models with the committed one (golden.csv).

A difference is no fault in itself: a change of the models has to be explained, and the new matrix
is committed with it (--update)."""

import argparse
import csv
import io
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden.csv"
KEYS = ("architecture", "vms", "guest", "connection", "size_bytes")
CLOCKS = ("sender_ms", "receiver_ms")
TOLERANCE = 0.005  # CUBIC's cube roots may differ in the last digits of another libm


def measure(program):
    """Mean times of three transfers for each cell."""
    output = subprocess.run(
        [program, "--architectures=all", "--vmsList=1,3", "--guestKinds=io,busy",
         "--connections=established,fresh", "--sizes=10000,100000,1000000", "--repeats=3"],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    cells = {}
    for row in csv.DictReader(io.StringIO(output)):
        cells.setdefault(tuple(row[k] for k in KEYS), []).append([float(row[c]) for c in CLOCKS])
    return {key: [sum(column) / len(column) for column in zip(*rows)]
            for key, rows in cells.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="vsnoop-transfer")
    parser.add_argument("--update", action="store_true", help="write golden.csv anew")
    options = parser.parse_args()
    cells = measure(options.program)
    if options.update:
        with open(GOLDEN, "w", encoding="ascii", newline="") as file:
            file.write("# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(KEYS + CLOCKS)
            for key, times in cells.items():
                writer.writerow(list(key) + [f"{time:.4f}" for time in times])
        print(f"{GOLDEN.name}: {len(cells)} cells written")
        return 0
    with open(GOLDEN, encoding="ascii") as file:
        golden = {tuple(row[k] for k in KEYS): [float(row[c]) for c in CLOCKS]
                  for row in csv.DictReader(line for line in file if not line.startswith("#"))}
    faults = [f"{' '.join(key)}: it is in only one of golden.csv and the simulation"
              for key in golden.keys() ^ cells.keys()]
    for key in golden.keys() & cells.keys():
        for clock, old, new in zip(CLOCKS, golden[key], cells[key]):
            if abs(new - old) > TOLERANCE * old:
                faults.append(f"{' '.join(key)}: {clock} was {old:.4f}, is {new:.4f}")
    print("\n".join(sorted(faults)) or f"{len(cells)} cells as committed")
    if faults:
        print(f"{len(faults)} differences: explain them and run {GOLDEN.with_suffix('.py')} --update")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
