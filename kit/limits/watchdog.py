"""A soft limit: a thread looks at the memory in use and stops the run, with everything finished kept, when it is too much.

Why not the system's own limits (RLIMIT_AS, RLIMIT_DATA)? They count addresses that are reserved, not memory that is used:
Polars and torch reserve many times what they touch. And where they strike, an allocation fails inside Rust or C++, which
ends the process without a word and without tidying up. Watching has a price too: one single allocation far above the limit is
seen only after it happened. So estimates come first (`kit.limits.need`), and this is what catches them when they are wrong.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kit.errors import KitError
from kit.limits.memory import children, in_use, own_use
from kit.limits.size import shown
from kit.progress import say

EVERY: Final = 0.1
"""Seconds between two looks."""
OTHERS: Final = 20
"""Looks at this process for one at those that it started."""
GRACE: Final = 15.0
"""Seconds that a run may take to stop by itself before it is ended; what it leaves, the next run clears away."""

_stages: list[str] = []


@contextmanager
def doing(stage: str) -> Iterator[None]:
    """Names what is being done, for the message of a watchdog that has to stop it."""
    _stages.append(stage)
    try:
        yield
    finally:
        _stages.pop()


class Watchdog:
    """Looks at the memory in use until it is closed.

    Args:
        limit: bytes; above them the main thread is interrupted, once. None = only look.

    Attributes:
        peak: most bytes seen in use.
        stage: what was being done when the limit was passed; None while it was not.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.peak = 0
        self.stage: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        passed = None
        looks = others = 0
        while not self._over.wait(EVERY):
            if looks % OTHERS == 0:
                others = in_use() - own_use()
            looks += 1
            used = own_use() + others
            self.peak = max(self.peak, used)
            if self.limit is None or used <= self.limit:
                continue
            if passed is None:
                passed = time.monotonic()
                self.stage = _stages[-1] if _stages else "the run"
                os.kill(os.getpid(), signal.SIGINT)  # a real signal: Polars listens to it in the middle of a query
            elif time.monotonic() - passed > GRACE:
                _end(self.error(used))

    def error(self, used: int | None = None) -> KitError:
        """What to tell the user."""
        used = self.peak if used is None else used
        return KitError(
            f"{self.stage} took {shown(used)}, above the limit of {shown(self.limit or 0)}: it was stopped.",
            "Finished stages are kept. Raise --memory-limit, or see `kit submit --dry-run` for the setting that lowers it.",
        )


@contextmanager
def watched(limit: int | None) -> Iterator[Watchdog]:
    """Watch the enclosed work, which runs in the main thread.

    Raises:
        KitError: it took more than `limit`; names the stage (`doing`).
    """
    watchdog = Watchdog(limit)
    try:
        try:
            yield watchdog
        finally:
            watchdog.close()
    except KeyboardInterrupt as error:
        if watchdog.stage is None:
            raise
        raise watchdog.error() from error


def _end(error: KitError) -> None:
    """The run does not listen (it may be inside one long call of a library): end it and the processes it started."""
    say(f"error: {error.what}\n       {error.remedy}")
    for child in children():
        child.kill()
    os._exit(2)
