"""Guides as programs: fenced blocks in their order. `python guide.py` runs the kit's commands that it reads from stdin."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is to be written to (or None), its text."""

    language: str
    file: str | None
    text: str


def blocks(path: Path) -> list[Block]:
    """All fenced blocks of a Markdown file that name a language."""
    return [Block(*found.groups()) for found in FENCE.finditer(path.read_text(encoding="utf-8"))]


def commands(text: str) -> list[list[str]]:
    """The `kit …` lines of a shell block as lists of words; ValueError for any other line."""
    lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]
    for words in lines:
        if words and words[0] != "kit":
            raise ValueError(f"a guide's shell block holds something else than kit commands: {words}")
    return [words for words in lines if words]


def run(text: str) -> None:
    """Run commands one after another in this process; SystemExit naming the first that does not exit with 0."""
    from kit.cli.main import app

    for words in commands(text):
        print("$", *words, flush=True)
        try:
            app(words[1:])
        except SystemExit as error:
            if error.code not in (0, None):
                sys.exit(f"{' '.join(words)}: exit {error.code}")


if __name__ == "__main__":
    run(sys.stdin.read())
