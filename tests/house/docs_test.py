#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the documents say and a program can check: links and their anchors, files, targets of make,
options and subcommands of vsnoop, how many mutants and which reasons there are.

  docs_test.py VSNOOP [TREE]   the built program, whose --help says which options there are; the
                               documents of another tree
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(sys.argv[2] if len(sys.argv) == 3 else Path(__file__).parents[2]).resolve()
# Words that are a placeholder for the reader's own: FILE, NAME, X.
PLACEHOLDER = re.compile(r"[A-Z]{1,}\b|[*<>{}|$]|\.\.\.")


def tracked():
    """The files of the project: those that git knows, or, in a tarball, all but what is built."""
    try:
        names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                               cwd=ROOT, check=True, capture_output=True, text=True).stdout
        return {name for name in names.splitlines() if (ROOT / name).exists()}
    except (OSError, subprocess.CalledProcessError):
        return {str(path.relative_to(ROOT)) for path in ROOT.rglob("*")
                if path.is_file() and path.relative_to(ROOT).parts[0] not in ("build", ".git")}


def slug(heading):
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class Document:
    def __init__(self, name):
        self.name = name
        self.tokens = MarkdownIt().enable("table").parse((ROOT / name).read_text())
        self.links, self.codes, self.texts, self.anchors = [], [], [], set()
        for at, token in enumerate(self.tokens):
            line = token.map[0] + 1 if token.map else 0
            if token.type in ("fence", "code_block"):
                self.codes += [(line + 1 + row, text)
                               for row, text in enumerate(token.content.splitlines())]
            if token.type == "heading_open":
                self.add_anchor(self.tokens[at + 1])
            for child in token.children or ():
                if child.type == "link_open":
                    self.links.append((line, child.attrGet("href")))
                elif child.type == "image":
                    self.links.append((line, child.attrGet("src")))
                elif child.type == "code_inline":
                    self.codes.append((line, child.content))
                elif child.type == "text":
                    self.texts.append((line, child.content))

    def add_anchor(self, inline):
        text = "".join(child.content for child in inline.children or ()
                       if child.type in ("text", "code_inline"))
        anchor, n = slug(text), 0
        while anchor + (f"-{n}" if n else "") in self.anchors:
            n += 1
        self.anchors.add(anchor + (f"-{n}" if n else ""))


class Checker:
    def __init__(self, vsnoop):
        self.vsnoop = vsnoop
        self.files = tracked()
        self.folders = {str(parent) for name in self.files for parent in Path(name).parents}
        self.names = {Path(name).name for name in self.files}
        self.top = {Path(name).parts[0] for name in self.files}
        self.targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
        self.documents = {name: Document(name) for name in sorted(self.files)
                          if name.endswith(".md")}
        self.help = {}
        self.faults = []
        self.checked = 0

    def fault(self, where, line, text):
        self.faults.append(f"{where}:{line}: {text}")

    # -- links

    def check_link(self, document, line, link):
        if re.match(r"[a-z]+:", link):
            return
        self.checked += 1
        path, _, anchor = link.partition("#")
        name = document.name
        if path:
            name = os.path.relpath(ROOT / os.path.dirname(document.name) / path, ROOT)
            if name not in self.files and name not in self.folders:
                self.fault(document.name, line, f"there is no {path}")
                return
        if anchor and name in self.documents and anchor not in self.documents[name].anchors:
            self.fault(document.name, line, f"{name} has no heading #{anchor}")

    # -- files

    def check_paths(self, document, line, code):
        for word in re.findall(r"[\w./+-]+", code):
            word = word.rstrip(".,:")
            if PLACEHOLDER.search(word) and not word.endswith(".md") or word.startswith(("/", "-")):
                continue
            first = word.split("/")[0]
            if "/" in word and first in self.top and first not in (".", ".."):
                self.checked += 1
                if not any(os.path.normpath(base + word) in self.files | self.folders
                           for base in ("", os.path.dirname(document.name) + "/")):
                    self.fault(document.name, line, f"there is no {word}")
            elif "/" not in word.rstrip("/") and word.endswith(".md"):
                self.checked += 1
                if word not in self.names:
                    self.fault(document.name, line, f"there is no {word}")
            elif re.fullmatch(r"\w+/[\w/-]+\.md", word):
                self.checked += 1
                if os.path.normpath(os.path.dirname(document.name) + "/" + word) not in self.files:
                    self.fault(document.name, line, f"there is no {word}")
            elif re.fullmatch(r"(test|bench|fuzz)_\w+\.(cc|py)|\w+_test\.(py|sh)", word):
                self.checked += 1
                if word not in self.names:
                    self.fault(document.name, line, f"there is no file {word}")

    # -- make

    def check_make(self, document, line, code):
        for target in re.findall(r"(?:^|[;&(]\s*|[A-Z]+=\S+\s+)make((?:\s+[a-z][a-z-]*)+)", code):
            for name in target.split():
                self.checked += 1
                if name not in self.targets:
                    self.fault(document.name, line, f"make has no target {name}")

    # -- vsnoop

    def help_of(self, words):
        """The help text of a subcommand, or None if there is none."""
        key = tuple(words)
        if key not in self.help:
            run = subprocess.run([self.vsnoop, *words, "--help"], capture_output=True, text=True,
                                 check=False)
            self.help[key] = run.stdout if run.returncode == 0 else None
        return self.help[key]

    def check_vsnoop(self, document, line, code):
        code = code.split("#")[0]
        for call in re.findall(r"(?:^|[\s/;(])vsnoop((?:\s+[^;&>\n]+)?)", code):
            words = call.split()
            path = []
            text = self.help_of([])
            for word in words:
                if not re.fullmatch(r"[a-z]+", word) or f"\n  {word} " not in text:
                    break
                path.append(word)
                text = self.help_of(path)
            for option in re.findall(r"(?<![\w-])(--?[a-z][a-z0-9-]*)", call):
                self.checked += 1
                if not re.search(rf"(?<![\w-]){option}(?![\w-])", text):
                    self.fault(document.name, line,
                               f"`vsnoop {' '.join(path)}` has no option {option}")
            if words and not path and re.fullmatch(r"[a-z]+", words[0]):
                self.checked += 1
                self.fault(document.name, line, f"vsnoop has no command {words[0]}")

    def check_manual(self, name, command):
        """A man page names the options there are, and no others."""
        text = (ROOT / name).read_text().replace("\\-", "-")
        there = self.help_of(command)
        subcommands = re.findall(r"^  ([a-z]+)  ", there, re.M)
        for sub in subcommands:
            there += self.help_of([*command, sub]) or ""
        # "vsnoop replay --log" in the manual of another command is that one's.
        text = re.sub(rf"vsnoop (?!{command[0]}\b)[a-z]+( --?[\w-]+)+", "", text)
        said = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*)", text))
        offered = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*)", there))
        self.checked += len(said) + len(offered)
        for option in sorted(said - offered):
            self.fault(name, 0, f"`vsnoop {' '.join(command)}` has no option {option}")
        for option in sorted(offered - said - {"--help", "--version"}):
            self.fault(name, 0, f"does not say what {option} does")

    # -- numbers

    def check_counts(self, document):
        listed = (ROOT / "tests/mutants/mutants.py").read_text()
        listed = re.search(r"^MUTANTS = \((.*?)^\)", listed, re.M | re.S)[1]
        mutants = len(re.findall(r'^    \("', listed, re.M))
        text = (ROOT / document.name).read_text()
        for count in re.findall(r"(\d+)\s+deliberate\s+faults\s+in\s+the\s+core", text):
            self.checked += 1
            if int(count) != mutants:
                self.fault(document.name, 0, f"{count} mutants: there are {mutants}")

    # -- reasons

    def check_reasons(self, name):
        """The table of reasons says of each what snoop-core/reasons.def says, and which tests
        have to do with it; it has them all, in the list's order."""
        listed = re.findall(r'^VSNOOP_REASON\((\w+), (\w+), "(.*?)", "(.*)"\)',
                            (ROOT / "snoop-core/reasons.def").read_text(), re.M)[1:]
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\S+) \| (.*?) \| .*? \| (.*?) \|$",
                          (ROOT / name).read_text(), re.M)
        said = {row[0]: row[1:4] for row in rows if row[0] in {reason[0] for reason in listed}}
        for reason, *words in listed:
            self.checked += 1
            if said.get(reason) != tuple(words):
                self.fault(name, 0, f"of the reason {reason} it says {said.get(reason)}, "
                                    f"the list {tuple(words)}")
        if list(said) != [reason[0] for reason in listed if reason[0] in said]:
            self.fault(name, 0, "the reasons stand in another order than in the list")
        for reason, *_, tests in rows:
            if reason not in said:
                continue
            files = re.findall(r"`(\w+\.cc)`", tests)
            if not files:
                self.fault(name, 0, f"no test has to do with the reason {reason}")
            for test in files:
                self.checked += 1
                path = ROOT / "tests/unit" / test
                if path.exists() and f"VSNOOP_REASON_{reason}" not in path.read_text():
                    self.fault(name, 0, f"{test} has nothing to do with the reason {reason}")

    def run(self):
        for document in self.documents.values():
            for line, link in document.links:
                self.check_link(document, line, link)
            for line, code in document.codes:
                self.check_paths(document, line, code)
                self.check_make(document, line, code)
                self.check_vsnoop(document, line, code)
            for line, text in document.texts:
                self.check_paths(document, line, " ".join(re.findall(r"\w[\w/-]*\.md\b", text)))
            self.check_counts(document)
        if "docs/safety.md" in self.files:
            self.check_reasons("docs/safety.md")
        for name in sorted(self.files):
            manual = re.fullmatch(r"docs/vsnoop-([a-z]+)\.[18]", name)
            if manual:
                self.check_manual(name, [manual[1]])
        for fault in self.faults:
            print(fault)
        print(f"{self.checked} statements of {len(self.documents)} documents checked, "
              f"{len(self.faults)} untrue")
        return 1 if self.faults or self.checked < 100 else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(Checker(sys.argv[1]).run())
