#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Each rule of docs/ack-rules.md has unit tests, and its tag finds all that are named after it.

  tags_test.py [TREE]   another tree than this one
"""

import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) == 2 else Path(__file__).parents[2])
RULE = r"[PGI]\d+[a-z]?"
STRINGS = r'(?:"(?:[^"\\]|\\.)*"\s*)+'


def joined(strings):
    """Adjacent string literals, as the compiler sees them."""
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', strings or ""))


def rules():
    """Rows of the tables and invariants, before the table of what was mended."""
    text = (ROOT / "docs/ack-rules.md").read_text().split("\n## Mended")[0]
    return set(re.findall(rf"^(?:\| |- \*\*)({RULE})(?: \||\*\*)", text, re.M))


def main():
    faults, tagged = [], set()
    for path in sorted([*ROOT.glob("tests/unit/**/*.cc"), *ROOT.glob("tests/packets/*.cc"), *ROOT.glob("tests/host/*.cc")]):
        for test in re.finditer(rf"TEST_CASE\(\s*({STRINGS})(?:,\s*({STRINGS}))?\)",
                                path.read_text()):
            name, tags = joined(test[1]), re.findall(r"\[(.*?)\]", joined(test[2]))
            tagged.update(tags)
            head = re.match(rf"{RULE}(?:(?:, | and |/){RULE})*(?=:? )", name)
            faults += [f'{path.relative_to(ROOT)}: "{name}" lacks the tag [{rule}]'
                       for rule in re.findall(RULE, head[0] if head else "") if rule not in tags]
    if not rules():
        faults.append("docs/ack-rules.md: no rules found")
    faults += [f"no unit test has the tag of rule {rule}" for rule in sorted(rules() - tagged)]
    print("\n".join(faults) or f"{len(rules())} rules, all with tests")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
