"""Writes the references of commands and recipes from what they describe: `python -m kit.cli.reference docs/reference`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

EVERYWHERE = {"--help", "--install-completion", "--show-completion"}
"""Options that say the same everywhere, or depend on the shell at hand."""
HEAD = """# Reference: commands

Written by `python -m kit.cli.reference docs/reference` from the commands themselves; do not edit. Exit codes of all: 0 fine,
1 findings, 2 an error, told in a sentence with a remedy (`KIT_TRACEBACK=1` shows the traceback too), 130 stopped by Ctrl-C, 141
whoever read the output is gone (`kit … | head`). Every command has `--help`, and
`kit --install-completion` teaches the shell to complete them.
"""


def commands() -> Iterator[tuple[str, Any, Any]]:
    """(`kit data synth`, command, context) of every command and of `kit` itself, groups left out, in the order of the help."""
    from kit.cli.main import app

    top = typer.main.get_command(app)
    yield from _walk("kit", top, top.make_context("kit", [], resilient_parsing=True))


def _walk(name: str, command: Any, context: Any) -> Iterator[tuple[str, Any, Any]]:  # noqa: ANN401
    inner = getattr(command, "commands", {})
    if not inner or name == "kit":
        yield name, command, context
    for key, child in inner.items():
        yield from _walk(f"{name} {key}", child, child.make_context(key, [], parent=context, resilient_parsing=True))


def options_of(command: Any) -> set[str]:  # noqa: ANN401
    """Every spelling of a command's options."""
    return {spelling for param in command.params for spelling in (*param.opts, *param.secondary_opts)} | {"--help"}


def command_reference() -> str:
    """All commands as Markdown: what they do, arguments and options, an example."""
    parts = [HEAD]
    for name, command, context in commands():
        help_text = re.sub(r"\[/?bold\]", "", command.help or "").strip()
        paragraphs = [" ".join(part.split()) for part in help_text.split("\n\n")]
        pieces = [
            re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), piece)
            for piece in command.collect_usage_pieces(context)
        ]
        usage = " ".join([name, *pieces])
        parts += [f"## `{name}`", *[_example(part) for part in paragraphs], f"    {usage}"]
        shown = [param for param in command.get_params(context) if param.get_help_record(context)]
        rows = [_row(param, context) for param in shown if not set(param.opts) & EVERYWHERE]
        parts += ["\n".join(["| argument or option | what it is |", "|---|---|", *rows])] if rows else []
    return "\n\n".join(parts) + "\n"


def _row(param: Any, context: Any) -> str:  # noqa: ANN401
    record: tuple[str, str] = param.get_help_record(context)
    label, about = (" ".join(text.split()).replace("|", "\\|") for text in record)
    return f"| `{label}` | {about} |"


def _example(paragraph: str) -> str:
    """Code in its own type: `Example: kit …` → Example: `kit …`."""
    return re.sub(r"Example: (.*)", r"Example: `\1`", paragraph)


def main() -> None:
    """Write both references into the folder given."""
    from kit.submission.reference import recipe_reference

    if len(sys.argv) != 2:
        sys.exit("usage: python -m kit.cli.reference FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "commands.md").write_text(command_reference(), encoding="utf-8")
    (folder / "recipes.md").write_text(recipe_reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
