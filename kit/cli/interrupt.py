"""Ctrl-C and requests to end (SIGTERM): one exception each, so that every `finally` runs to its end.

Three things stand in the way. Typer turns KeyboardInterrupt into a silent exit. Polars raises a KeyboardInterrupt of its own
when Ctrl-C falls into a query, after which Python's handler raises a second one, in the middle of the clean-up after the first;
`timeout`, which signals a process and then its group, has the same effect. And where Polars' Rust calls a Python constructor of
its data types it takes no exception but panics: there a signal waits.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from typer.core import TyperGroup

PATIENCE = 5.0
"""Seconds after which another signal ends a clean-up that hangs."""
DELAY = 0.02
"""Seconds after which a signal that came inside `BRITTLE` code comes again."""
BRITTLE = f"polars{os.sep}datatypes{os.sep}"
"""Part of the paths of Python code that Polars' Rust calls and whose exceptions it does not take."""


class Stopped(SystemExit):
    """On the way out because of a signal; the code is 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Interruptible(TyperGroup):
    """A group of commands that lets Ctrl-C out as `Stopped`, for `main` to say a word."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Stopped(signal.SIGINT) from error


class _Listener:
    """The handler of both signals."""

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and BRITTLE in frame.f_code.co_filename:
            threading.Timer(DELAY, os.kill, (os.getpid(), number)).start()
            return
        now = time.monotonic()
        if self.first is None:
            self.first = now
        elif now - self.first > PATIENCE:
            os._exit(128 + number)
        if leaving():
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(number)


def listen() -> None:
    """From now on a signal raises once: KeyboardInterrupt for Ctrl-C, `Stopped` for SIGTERM; not while leaving already."""
    listener = _Listener()
    signal.signal(signal.SIGINT, listener)
    signal.signal(signal.SIGTERM, listener)


def leaving() -> bool:
    """Whether the code at hand runs because of an interrupt: in an `except` or `finally` that handles one."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, KeyboardInterrupt | Stopped):
            return True
        error = error.__context__
    return False
