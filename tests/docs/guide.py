"""Guides as programs: fenced blocks in their order. As a program, this performs the blocks that its argument tells as JSON."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable
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


def perform(todo: Iterable[Block]) -> None:
    """Write blocks to their files or run them, one after another in this process; SystemExit naming what does not work.

    A Python block knows nothing of the blocks before it; what a guide adds to the package must come before all that runs.
    """
    for block in todo:
        if block.file is not None:
            path = Path(block.file)
            if path.exists():
                sys.exit(f"{path} is there already: a guide must not replace what it teaches to add to")
            if path.suffix == ".py" and "kit" in sys.modules:
                sys.exit(f"{path} comes too late: the package has been imported")
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            try:
                exec(compile(block.text, "<a guide's block>", "exec"), {"__name__": "__main__"})
            except BaseException:
                print(block.text, file=sys.stderr)  # tracebacks have its line numbers only
                raise
        else:
            run(block.text)


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
    perform(Block(*fields) for fields in json.loads(sys.argv[1]))
