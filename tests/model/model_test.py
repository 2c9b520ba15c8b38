#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Explores the model in vsnoop.pml completely, shows that each of its deliberate faults is found,
and keeps its rule numbers and those of docs/ack-rules.md and of the code together.

  model_test.py [--deep]     --deep: larger bounds (minutes and gigabytes), for the docs' figures
  model_test.py --play UNIT-TESTS DIRECTORY
                             courses of the model, as packet scripts, through the engine: it must do
                             what the model does, at each step; scripts are left in DIRECTORY
"""

import os
import pathlib
import random
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
          "PAUSES": 1, "GIVEUPS": 0, "CLOSES": 0}
# In `make test`: what a guest takes and what vsnoop can hold, each the smaller one once.
TESTED = ({"PAUSES": 2}, {"WINDOW": 3, "BUDGET": 3}, {"WINDOW": 1, "BUDGET": 3},
          {"WINDOW": 3, "BUDGET": 1}, {"CLOSES": 1, "VANISHES": 0}, {"GIVEUPS": 1, "VANISHES": 0})
DEEP = ({"N": 4, "WINDOW": 3}, {"WINDOW": 3, "PAUSES": 2}, {"LOSSES": 2, "DROPS": 2})
# Fault, and the property that must see it.
FAULTS = (("NO_REDELIVERY", "no_hang"), ("NO_WINDOW_CHECK", "I2"), ("ACK_BEFORE_TAKEN", "I3"),
          ("SWALLOW_NEWS", "I6"), ("NO_REBASE", "I4"), ("NO_RESET", "no_hang"),
          ("LOST_WHEN_PAUSED", "I3"))
# What courses do not play: a script ends with the first reset, and has no FIN.
ENDINGS = (("RESET_ONCE", "no_hang"), ("FIN_PROMISED", "P7"))


def fail(what):
    sys.exit(f"model_test.py: {what}")


def explore(directory, defines, properties):
    """{property: (errors, states, what pan said)} of the model with these defines, and the lines of
    transitions that were never taken."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    arguments = [f"-D{name}={value}" for name, value in defines.items()]
    spin = subprocess.run(["spin", *arguments, "-a", MODEL], cwd=directory, timeout=300,
                          capture_output=True, text=True, check=False)
    if spin.returncode or not (directory / "pan.c").exists():
        fail(f"spin does not read the model:\n{spin.stdout}{spin.stderr}")
    subprocess.run(["gcc", "-O1", "-w", "-DNOREDUCE", "-DCOLLAPSE",
                    "-DMEMLIM=6000", "-o", "pan", "pan.c"],
                   cwd=directory, timeout=300, check=True)
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
    for fault, sees_it in FAULTS + ENDINGS:
        bounds = BOUNDS | ({"CLOSES": 1} if sees_it == "P7" else {})
        errors, _, said = explore(directory, bounds | {fault: 1}, [sees_it])[0][sees_it]
        wanted = "acceptance cycle" if sees_it == "no_hang" else "assertion violated  !( !("
        if not errors or wanted not in said:
            fail(f"the fault {fault} is not seen by {sees_it}:\n{said}")
        trail = subprocess.run(["spin", *(f"-D{k}={v}" for k, v in bounds.items()), f"-D{fault}",
                                "-k", "vsnoop.pml.trail", "-p", MODEL], cwd=directory, timeout=300,
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


HEAD = """host set timer_floor_us 1000000
host set liveness_us 4000000000
host set giveup_us 4000000000
host set promise_age_us 4000000000
host manual
0 < S 0:0(0) win 64240 <mss 1460>
host push
host consumed
guest gets S 0:0(0)
+0 > S. 0:0(0) ack 1 win {window} <mss 1460>
+0 < . 1:1(0) ack 1 win 65535
host push
host consumed
guest gets . 1:1(0)
"""
UNIT = 1000  # bytes of a segment of the model
NOTHING = "255"
COURSES = 240


def at(n):
    return 1 + UNIT * int(n)


def data(n):
    return f"P. {at(n)}:{at(n) + UNIT}({UNIT})"


def shown(ack, edge):
    return f". 1:1(0) ack {at(ack)} win {UNIT * (int(edge) - int(ack))}"


def script(defines, course):
    """A course of the model in the language of tests/packets: what peer, guest and host do is said
    to the engine, what the model's vsnoop does is what the engine must do."""
    lines, ring, from_peer, segment, guest = [], [], True, "", ""
    for (before, *_), (what, *n), (after, *_) in zip([[""]] + course, course, course[1:] + [[""]]):
        if what == "peer":
            from_peer, keep_alive = True, n[0] == NOTHING
            begin = UNIT * defines["N"]
            segment = f". {begin}:{begin}(0)" if keep_alive else data(n[0])
            lines += ["host discards", f"+.002 < {segment} ack 1 win 65535"]
            lines += ["host declines"] if after == "lost" else []
        elif what == "push":
            lines.append("host push")
            ring.append(segment)
        elif what == "guest":
            from_peer, guest = False, shown(*n)
            lines.append(f"+0 > {guest}")
        elif what == "tell":
            lines.append(("vsnoop> " if from_peer else "peer sees ") + shown(*n))
        elif what == "swallow":
            lines.append("peer sees nothing")
        elif what == "feed":
            lines += ["host discards", "host feed"]
            ring.append(data(n[0]))
        elif what == "consumed":
            lines += ["host consumed", f"guest gets {ring.pop(0)}"]
        elif what == "lose-ring":
            lines.append("host loses ring")
            ring.clear()
        elif what == "timer":
            lines.append("+2.2 guest gets nothing")
        elif what == "tell-reset":
            lines += [f"vsnoop< R. {at(n[0])}:{at(n[0])}(0)", "vsnoop> R. 1:1(0)"]
        elif what in ("quiesce", "resume", "stop", "waits", "rests"):
            lines += ["host discards"] if what in ("waits", "rests") else []
            lines.append(f"host {what}")
        if before == "dup":  # three say to vsnoop what one says in the model
            lines += [f"+0 > {guest}", "peer sees nothing"] * 2
        if what == "stop" and after != "tell-reset" or what == "tell-reset":
            break
    return HEAD.format(window=UNIT * defines["WINDOW"]) + "\n".join(lines) + "\n"


def courses(directory, count, fault=None):
    """Random courses of the model, one script each. vsnoop holds what it likes there: how it prices
    memory (I2b) is not the model's."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for seed in range(count):
        rng = random.Random(seed)
        defines = {"N": 3 + seed % 2, "WINDOW": rng.randint(1, 3), "BUDGET": 9,
                   "LOSSES": rng.randint(0, 3), "DROPS": rng.randint(0, 3), "NAPS": rng.randint(0, 1),
                   "VANISHES": rng.choice((0, 0, 1, 3)), "PAUSES": rng.choice((0, 0, 0, 1, 2)),
                   "COURSE": 1}
        arguments = [f"-D{k}={v}" for k, v in defines.items()]
        arguments += [f"-D{fault}"] if fault else []
        said = subprocess.run(["spin", *arguments, f"-n{seed}", "-T", "-u5000", MODEL], timeout=60,
                              cwd=directory, capture_output=True, text=True, check=False).stdout
        course = [line.split() for line in said.splitlines()
                  if re.fullmatch(r"(?!timeout)[a-z-]+( \d+)*", line)]
        (directory / f"course-{seed:03}.pkt").write_text(
            f"// {' '.join(arguments)} -n{seed}\n" + script(defines, course))


def play(unit_tests, directory):
    """What the engine does otherwise than the model."""
    # The usual reporter breaks lines, and words that are longer than one.
    done = subprocess.run([unit_tests, "--reporter", "compact", "packets: scripts of others*"],
                          timeout=120, cwd=ROOT,
                          env=os.environ | {"VSNOOP_PKT_DIR": str(directory)},
                          capture_output=True, text=True, check=False)
    faults = re.findall(r"course-\d+\.pkt: line \d.*", done.stdout)
    if bool(faults) != bool(done.returncode):
        fail(f"{unit_tests} does not play {directory}:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
    return faults


def check_courses(unit_tests, directory):
    courses(directory / "good", COURSES)
    if faults := play(unit_tests, directory / "good"):
        fail(f"the engine leaves the model's course (scripts in {directory}/good):\n"
             + "\n".join(faults[:20]))
    print(f"{COURSES} courses of the model: the engine does the same at each step")
    for fault, _ in FAULTS:
        courses(directory / fault, COURSES // 4, fault)
        if not (faults := play(unit_tests, directory / fault)):
            fail(f"the engine follows a model with the fault {fault}")
        print(f"{fault}: the engine leaves such a model's courses, as it must", flush=True)


def main():
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    if "--play" in sys.argv[1:]:
        if not shutil.which("spin"):
            print("SKIPPED: spin is not installed")
            sys.exit(77)
        check_courses(sys.argv[2], pathlib.Path(sys.argv[3]).resolve())
        return
    check_in_step()
    if not shutil.which("spin"):
        print("SKIPPED: spin is not installed")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="vsnoop-model-") as place:
        directory = pathlib.Path(place) / "pan"
        check_properties(directory, TESTED + (DEEP if "--deep" in sys.argv[1:] else ()))
        check_faults(directory)


main()
