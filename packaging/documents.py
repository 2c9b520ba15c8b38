#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Copies what a user reads into the folder of a package, with the captures of the examples. A link to
what is not copied (sources, say) becomes its text alone, so that every link there leads somewhere.

  documents.py FOLDER
"""

import os
import re
import shutil
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
SHIPPED = sorted(str(path.relative_to(TOP)) for pattern in (
    "README.md", "SECURITY.md", "CITATION.cff", "docs/*.md", "docs/*.svg", "docs/*.png",
    "xen-netback-patch/README.md", "xen-netback-patch/testbed/README.md", "sim/README.md",
    "sim/doc/*.rst", "flowtable/README.md", "tests/captures/*.pcap*") for path in TOP.glob(pattern))


def kept(name, link):
    """Whether a link of document `name` leads to something in the package, or out of the project."""
    if re.match(r"[a-z]+:|#", link):
        return True
    return os.path.normpath(os.path.join(os.path.dirname(name), link.partition("#")[0])) in SHIPPED


def without_dead_links(name, text):
    return re.sub(r"(?<!!)\[([^\[\]]*)\]\(([^()\s]+)\)",
                  lambda link: link[0] if kept(name, link[2]) else link[1], text)


def main(folder):
    for name in SHIPPED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".md"):
            target.write_text(without_dead_links(name, (TOP / name).read_text()))
        else:
            shutil.copyfile(TOP / name, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
