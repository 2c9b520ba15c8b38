#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The promise oracle can fail: blamed for what a lying guest loses, it says what was lost, makes the
scenario small, and leaves a script that tests/packets plays to the same end.

  oracle_test.py ORACLE UNIT-TESTS DIRECTORY
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ORACLE, UNIT_TESTS, DIRECTORY = (pathlib.Path(word).resolve() for word in sys.argv[1:])


def check(condition, what, said):
    if not condition:
        sys.exit(f"oracle_test.py: {what}:\n{said}")


def main():
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir()
    script = DIRECTORY / "failure.pkt"
    command = [ORACLE, "--strict", "--seed", "1", "--scenarios", "5000", "--script", script]
    first, second = (subprocess.run(command, timeout=200, capture_output=True, text=True, check=False)
                     for _ in range(2))
    said = first.stderr
    check(first.returncode == 1, "a guest that lies is not seen to lose bytes", first.stdout + said)
    check(re.search(r"^oracle: seed 1: .*(never arrived|lacks bytes|never sent)", said, re.M),
          "it does not say what was lost", said)
    scenario = said[said.index("scenario:"):]
    check(re.findall(r"fault: (\w+)", scenario) in (["lie_little"], ["lie_far"])
          and scenario.count("stream:") == 1, "the scenario was not made small", said)
    check("played again" not in said, "played again it ends otherwise", said)
    check(second.stderr.splitlines()[-20:] == said.splitlines()[-20:],
          "the same seed does not come to the same end", second.stderr)
    played = subprocess.run([UNIT_TESTS, "packets: scripts of others*"], timeout=100, cwd=ROOT,
                            env=os.environ | {"VSNOOP_PKT_DIR": str(DIRECTORY)},
                            capture_output=True, text=True, check=False)
    check(played.returncode == 0 and "1 connections tracked" in played.stdout,
          "the script does not play", played.stdout + script.read_text())
    print(said.splitlines()[-1], f"{len(script.read_text().splitlines())} lines of script")


main()
