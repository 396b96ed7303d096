"""The net under every command: whatever is raised ends in a sentence with a remedy, and exit code 2."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

import typer

from kit.cli.interrupt import Stopped
from kit.cli.streams import drop_output, output_error, prepare
from kit.errors import KitError
from kit.trouble import VARIABLE, sentence, unforeseen

PIPED = 141
"""Exit code where the reader of the output went away, as the shell tells of a program that SIGPIPE ended."""


def caught(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; no exception passes.

    0 fine, 1 findings, 2 an error, told in two lines on stderr, 130 after Ctrl-C, 141 where whoever read the output is gone.
    """
    prepare()
    try:
        code, trouble = _run(command), None
    except BaseException as error:
        code, trouble = 2, error
    printed = output_error()
    if printed is not None:
        drop_output()
        return _not_printed(printed)
    return code if trouble is None else _told(trouble)


def _run(command: Callable[[], object]) -> int:
    """The exit code that a command ends with."""
    try:
        command()
    except Stopped:
        raise
    except SystemExit as error:
        if isinstance(error.code, int):
            return error.code
        if error.code is None:
            return 0
        typer.echo(error.code, err=True)
        return 1
    return 0


def _told(error: BaseException) -> int:
    """Say what happened; the exit code."""
    if isinstance(error, KeyboardInterrupt | Stopped):
        typer.echo("stopped; finished stages are kept, the same command goes on from there", err=True)
        return int(error.code or 130) if isinstance(error, Stopped) else 130
    if os.environ.get(VARIABLE, "0") not in ("", "0"):
        traceback.print_exception(error, file=sys.stderr)
    told = in_words(error)
    typer.secho(f"error: {told.what}", fg="red", err=True)
    typer.echo(f"       {told.remedy}", err=True)
    return 2


def _not_printed(error: OSError) -> int:
    """What was to be printed did not arrive: no word where its reader went away, as `head` does."""
    if isinstance(error, BrokenPipeError):
        return PIPED
    typer.secho(f"error: What was to be printed could not be written ({error.strerror}).", fg="red", err=True)
    typer.echo("       Make room where the output goes, or send it elsewhere.", err=True)
    return 2


def in_words(error: BaseException) -> KitError:
    """The sentence for any error; one that nobody foresaw leaves its traceback in a file."""
    from kit.store import DEFAULT_ROOT

    return sentence(error) or unforeseen(error, DEFAULT_ROOT / "errors")
