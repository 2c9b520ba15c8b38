#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""SETH's tables 2-5: CPU time of a byte received, of a byte sent and of a round trip, relative to a
native host. The models of SETH, of netback and of the native host are calibrated to them."""

import csv
import io
import subprocess
import sys

TOLERANCE = 0.05
TABLES = {  # mode: column, over native
    "receive": ("ns_per_byte", {"seth": 1.836, "netback": 2.414}),
    "transmit": ("ns_per_byte", {"seth": 2.420, "netback": 3.349}),
    "pingpong": ("us_per_round", {"seth": 36.77 / 14.14, "netback": 44.16 / 14.14}),
}

output = subprocess.run([sys.argv[1], "--architectures=native,seth,netback"], check=True,
                        stdout=subprocess.PIPE, text=True).stdout
costs = {(row["mode"], row["architecture"]): row for row in csv.DictReader(io.StringIO(output))}
failed = False
for mode, (column, published) in TABLES.items():
    for name, wanted in published.items():
        value = float(costs[mode, name][column]) / float(costs[mode, "native"][column])
        good = abs(value / wanted - 1) <= TOLERANCE
        failed |= not good
        print(f"{'ok' if good else 'FAIL'}: {mode}, {name}: {value:.3f}, published {wanted:.3f}")
sys.exit(failed)
