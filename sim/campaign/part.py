#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Runs one part of an experiment and writes its rows, with the columns of the part, as CSV.

  part.py PROGRAMS EXPERIMENT PART OUTPUT full|usual|quick"""

import csv
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True

from experiments import EXPERIMENTS, SIZES

folder, experiment, part, output, size = sys.argv[1:]
program, parts = EXPERIMENTS[experiment]
columns, arguments = parts[part]
arguments += " " + SIZES[size].get(program, "")
command = [pathlib.Path(folder) / program, *arguments.split()]
done = subprocess.run(command, text=True, stdout=subprocess.PIPE)
if done.returncode != 0:
    sys.exit(f"part.py: failed: {' '.join(map(str, command))}")
rows = list(csv.reader(done.stdout.splitlines()))
with open(output, "w", encoding="ascii", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*columns, *rows[0]])
    writer.writerows([*columns.values(), *row] for row in rows[1:])
