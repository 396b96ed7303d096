"""Progress that suits the place: bars with rate and remaining time on a terminal, a plain line every few seconds elsewhere.

Everything goes to stderr. Bars are drawn by the main thread of the main process alone: workers would draw over each other.
They are redrawn when work is done, not by a thread of their own, so that nothing runs beside a computation or a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
Advance = Callable[[int], None]
"""Call it with the number of units done since the last call."""
QUIET_SECONDS: Final = 5.0
"""Away from a terminal, at most one line in this many seconds."""
REDRAW_SECONDS: Final = 0.1
"""On a terminal, at most one drawing in this many seconds."""

_drawn: list[Progress] = []
"""The bars on the terminal, if any: work inside work adds a line below them."""


def now() -> float:
    """Seconds on the clock that rates are measured with."""
    return time.perf_counter()


def say(message: str) -> None:
    """One plain line to stderr, so that stdout stays free for results and --json."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Says how long the enclosed work took, once it is done."""
    began = now()
    yield
    say(f"  {name}: {now() - began:.1f} s")


@dataclass(frozen=True)
class Cost:
    """What one unit of uneven work is expected to take.

    Attributes:
        seconds: known beforehand.
        measured: on this machine, for the like; else reckoned, and corrected by what the reckoned units so far really took.
    """

    seconds: float
    measured: bool


def track(
    items: Iterable[T], name: str, total: int, unit: str = "steps", costs: Sequence[Cost] | None = None
) -> Iterator[T]:
    """Yields `items` while reporting how many of `total` are done, how fast, and how long the rest may take.

    Args:
        items: what to go through.
        name: what is being done.
        total: how many items there are.
        unit: what an item is called, in the plural.
        costs: of every item in order, where they are not alike: the rest is judged by them and not by the mean so far.
    """
    with progress(name, total, unit, costs) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def progress(name: str, total: int, unit: str = "steps", costs: Sequence[Cost] | None = None) -> Iterator[Advance]:
    """Reports on the enclosed work, which says by the function it is given how many units it has done.

    Args:
        name: what is being done.
        total: units in all.
        unit: what is counted, in the plural.
        costs: see `track`.
    """
    tell = partial(outlook, unit=unit) if costs is None else partial(_Remaining(costs).words, unit=unit)
    if not _on_terminal():
        yield _lines(name, total, unit, tell)
        return
    bars = _drawn[-1] if _drawn else _bars()
    outermost = not _drawn
    if outermost:
        _drawn.append(bars)
        bars.start()
    line = bars.add_task(name, total=total, outlook="")
    bars.refresh()
    began = drawn = now()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, drawn
        done += count
        if done and now() - drawn >= REDRAW_SECONDS:
            drawn = now()
            bars.update(line, completed=done, outlook=tell(done, total, drawn - began), refresh=True)

    try:
        yield advance
    finally:
        bars.remove_task(line)
        if outermost:
            bars.stop()
            _drawn.clear()


def outlook(done: int, total: int, seconds: float, unit: str) -> str:
    """Rate and remaining time in words, by the mean of the `seconds` so far: `35 batches/s, about 12 s left`."""
    rate = done / max(seconds, 1e-9)
    pace = f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:,.1f} s each"
    return f"{pace}, about {_duration((total - done) / rate)} left"


class _Remaining:
    """How long uneven units will still take.

    Args:
        costs: of all of them, in order.
    """

    def __init__(self, costs: Sequence[Cost]) -> None:
        self.costs = costs
        self.took: list[float] = []
        self.before = 0.0

    def words(self, done: int, total: int, seconds: float, unit: str) -> str:
        """`about 12 s left`; there is no rate worth telling. Called after every unit, as their number tells.

        Args:
            done: units done.
            total: units in all.
            seconds: since the beginning.
            unit: what is counted; not told.
        """
        share = (seconds - self.before) / max(done - len(self.took), 1)
        self.took += [share] * (done - len(self.took))
        self.before = seconds
        return f"about {_duration(self.left(done))} left"

    def left(self, done: int) -> float:
        """Seconds for all units after the first `done`."""
        reckoned = [
            (cost.seconds, took) for cost, took in zip(self.costs, self.took, strict=False) if not cost.measured
        ]
        expected, took = (sum(each) for each in zip(*reckoned, strict=True)) if reckoned else (0.0, 0.0)
        pace = took / expected if expected else 1.0
        return sum(cost.seconds * (1.0 if cost.measured else pace) for cost in self.costs[done:])


def _duration(seconds: float) -> str:
    """Two digits or so: nobody plans by more."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _on_terminal() -> bool:
    """Whether bars may be drawn here."""
    alone = multiprocessing.parent_process() is None and threading.current_thread() is threading.main_thread()
    return alone and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _lines(name: str, total: int, unit: str, tell: Callable[[int, int, float], str]) -> Advance:
    """Progress as plain lines, none of them after the last unit."""
    began = said = now()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        if not 0 < done < total:
            return
        told = tell(done, total, now() - began)  # also where it is not said: costs are learned unit by unit
        if now() - said > QUIET_SECONDS:
            said = now()
            say(f"  {name}: {done} of {total} {unit}, {told}")

    return advance


def _bars() -> Progress:
    """Bars that vanish when the work is done; what is said meanwhile appears above them, and stdout is left alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[outlook]}", markup=False),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        expand=True,
    )
