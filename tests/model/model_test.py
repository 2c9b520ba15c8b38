#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Explores the model in vsnoop.pml completely, shows that each of its deliberate faults is found,
and keeps its rule numbers and those of docs/ack-rules.md and of the code together.

  model_test.py [--deep]     --deep: larger bounds (minutes and gigabytes), for the docs' figures
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODEL = HERE / "vsnoop.pml"
PROPERTIES = ("all", "no_hang")  # all: I1, I2, I2b, I3, I4 and I6 at once
BOUNDS = {"N": 3, "WINDOW": 2, "BUDGET": 2, "LOSSES": 1, "DROPS": 1, "NAPS": 1, "VANISHES": 1,
          "PAUSES": 1}
# In `make test`: what a guest takes and what vsnoop can hold, each the smaller one once.
TESTED = ({}, {"WINDOW": 3, "BUDGET": 2, "PAUSES": 2}, {"WINDOW": 1, "BUDGET": 3},
          {"WINDOW": 3, "BUDGET": 1})
DEEP = ({"N": 4, "WINDOW": 3}, {"LOSSES": 2, "DROPS": 2})
# Fault, and the property that must see it.
FAULTS = (("NO_REDELIVERY", "no_hang"), ("NO_WINDOW_CHECK", "I2"), ("ACK_BEFORE_TAKEN", "I3"),
          ("SWALLOW_NEWS", "I6"), ("NO_REBASE", "I4"), ("NO_RESET", "no_hang"))


def fail(what):
    sys.exit(f"model_test.py: {what}")


def explore(directory, defines, properties):
    """{property: (errors, states, what pan said)} of the model with these defines, and the lines of
    transitions that were never taken."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    arguments = [f"-D{name}={value}" for name, value in defines.items()]
    spin = subprocess.run(["spin", *arguments, "-a", MODEL], cwd=directory, timeout=60,
                          capture_output=True, text=True, check=False)
    if spin.returncode or not (directory / "pan.c").exists():
        fail(f"spin does not read the model:\n{spin.stdout}{spin.stderr}")
    subprocess.run(["gcc", "-O1", "-w", "-DNOREDUCE", "-DCOLLAPSE",
                    "-DMEMLIM=6000", "-o", "pan", "pan.c"],
                   cwd=directory, timeout=120, check=True)
    results, missed = {}, None
    for name in properties:
        said = subprocess.run(["./pan", "-a", "-m1000000", "-N", name], cwd=directory,
                              timeout=900, capture_output=True, text=True, check=False).stdout
        errors = re.search(r"errors: (\d+)", said)
        states = re.search(r"(\d+) states, stored", said)
        if not errors or not states:
            fail(f"pan does not say how {name} ended:\n{said}")
        if errors[1] == "0" and ("max search depth too small" in said or "not completed" in said
                                 or "out of memory" in said):
            fail(f"{name} was not explored completely:\n{said}")
        results[name] = int(errors[1]), int(states[1]), said
        unreached = re.findall(r"vsnoop\.pml:(\d+, state \d+), \"(?!-end-)", said)
        missed = set(unreached) if missed is None else missed & set(unreached)
    return results, missed


def check_properties(directory, bounds):
    total, never = 0, None
    for more in bounds:
        defines = BOUNDS | more
        results, missed = explore(directory, defines, PROPERTIES)
        never = missed if never is None else never & missed
        for name, (errors, states, said) in results.items():
            if errors:
                fail(f"{name} does not hold with {defines}:\n{said}")
            total = max(total, states)
        print(f"{' '.join(f'{k}={v}' for k, v in defines.items())}: all invariants and no_hang "
              f"hold in every one of {results['all'][1]} states", flush=True)
    if never:
        fail(f"transitions that no course takes, of {MODEL.name}: lines {sorted(never)}")
    if total < 100_000:
        fail(f"only {total} states: the model does nothing")


def check_faults(directory):
    for fault, sees_it in FAULTS:
        errors, _, said = explore(directory, BOUNDS | {fault: 1}, [sees_it])[0][sees_it]
        wanted = "acceptance cycle" if sees_it == "no_hang" else "assertion violated  !( !("
        if not errors or wanted not in said:
            fail(f"the fault {fault} is not seen by {sees_it}:\n{said}")
        trail = subprocess.run(["spin", *(f"-D{k}={v}" for k, v in BOUNDS.items()), f"-D{fault}",
                                "-k", "vsnoop.pml.trail", "-p", MODEL], cwd=directory, timeout=60,
                               capture_output=True, text=True, check=False).stdout
        print(f"{fault}: {sees_it} fails after {trail.count('proc ')} steps, as it must",
              flush=True)


def rules_of(text):
    return set(re.findall(r"\b([PG]\d+b?)\b", text))


def check_in_step():
    """Each rule of the docs is a label of the model or in its list of those that have none; each
    rule that the code counts verdicts by is one of them."""
    model = MODEL.read_text()
    labels = set(re.findall(r"^([PG]\d+b?)t?:", model, re.M))
    head = model[:model.index("#ifndef")]
    excused = rules_of(head[head.index("which of them have none"):head.index("keeps labels")])
    tables = (ROOT / "docs" / "ack-rules.md").read_text().split("## Mended")[0]
    documented = set(re.findall(r"^\| ([PG]\d+b?) \|", tables, re.M)) | {"P3b"}
    reasons = (ROOT / "snoop-core" / "reasons.def").read_text()
    counted = rules_of(" ".join(re.findall(r'VSNOOP_REASON\(\w+, "([^"]+)"', reasons)))
    code = "".join(path.read_text() for path in (ROOT / "snoop-core").glob("from_*.cc"))
    if labels & excused:
        fail(f"both in the model and excused from it: {sorted(labels & excused)}")
    if labels | excused != documented:
        fail("rules of docs/ack-rules.md and of the model differ: only in the docs "
             f"{sorted(documented - labels - excused)}, only in the model "
             f"{sorted((labels | excused) - documented)}")
    if not counted <= documented:
        fail(f"the code counts by rules that no document has: {sorted(counted - documented)}")
    unnamed = {rule for rule in labels - counted if not re.search(rf"\b{rule}\b", code)}
    if unnamed:
        fail(f"rules of the model that the code does not name: {sorted(unnamed)}")
    print(f"in step: {len(labels)} rules are transitions, {len(excused)} have none, "
          f"{len(documented)} are documented, {len(counted)} are counted by the code")


def main():
    check_in_step()
    if not shutil.which("spin"):
        print("SKIPPED: spin is not installed")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="vsnoop-model-") as place:
        directory = pathlib.Path(place) / "pan"
        check_properties(directory, TESTED + (DEEP if "--deep" in sys.argv[1:] else ()))
        check_faults(directory)


main()
