"""Progress that suits the place: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
QUIET_SECONDS = 5.0
"""Away from a terminal, at most one line in this many seconds."""


def say(message: str) -> None:
    """One plain line to stderr, so that stdout stays free for results and --json."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Says how long the enclosed work took, once it is done."""
    began = time.perf_counter()
    yield
    say(f"  {name}: {time.perf_counter() - began:.1f} s")


def track(items: Iterable[T], name: str, total: int) -> Iterator[T]:
    """Yields `items` while reporting how many of `total` are done and how long the rest may take."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, name, total=total, console=Console(stderr=True), transient=True)
        return
    began = said = time.perf_counter()
    for done, item in enumerate(items):
        now = time.perf_counter()
        if done and now - said > QUIET_SECONDS:
            left = (now - began) / done * (total - done)
            say(f"  {name}: {done} of {total}, about {left:.0f} s left")
            said = now
        yield item
