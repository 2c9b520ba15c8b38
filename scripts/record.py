#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Runs a command in a terminal and draws what stands there at its end, as SVG. The pictures of a
terminal in docs/ are made so (scripts/deps.sh record):

  scripts/record.py docs/run-terminal.svg make run
  scripts/record.py docs/replay-terminal.svg vsnoop replay tests/captures/download.pcap
"""

import os
import pty
import re
import shlex
import sys

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, ROWS = 96, 400


def run(command):
    """The screen after the command, and its exit status."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.environ["PATH"] = os.pathsep.join(["build/release/tools", os.environ["PATH"]])
        os.execvp(command[0], command)
    while True:
        try:
            stream.feed(os.read(terminal, 1 << 16))
        except OSError:  # EIO: the command has ended
            break
    return screen, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def color(name):
    """pyte's name of a colour as rich's."""
    if name == "default":
        return None
    if len(name) == 6 and set(name) <= set("0123456789abcdef"):
        return "#" + name
    return {"brown": "yellow"}.get(name, name.replace("bright", "bright_"))


def line(screen, row):
    text = Text()
    for column in range(COLUMNS):
        char = screen.buffer[row][column]
        text.append(char.data, Style(color=color(char.fg), bgcolor=color(char.bg), bold=char.bold,
                                     italic=char.italics, underline=char.underscore))
    text.rstrip()
    return text


def main(out, command):
    screen, status = run(command)
    lines = [line(screen, row) for row in range(ROWS)]
    while lines and not lines[-1].plain:
        lines.pop()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text("$ " + shlex.join(command), style="bold"))
        for text in lines:
            console.print(text, no_wrap=True, overflow="crop")
    # The reader's own fixed font instead of one from the net.
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.S)
    form = form.replace("Fira Code, monospace", "monospace")
    console.save_svg(out, title="vsnoop", code_format=form)
    return status


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
