"""Where the time of a feature build goes: each family, and what families share, charged to itself alone."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from curves.child import Job

MOST: Final = 60
"""Entries that are reported by name."""


class Ledger:
    """Charges seconds to names; work inside work is charged to the inner name only.

    Args:
        job: gets a mark per finished family and chunk, and at the end the table.
        total: families × chunks.
    """

    def __init__(self, job: Job, total: int) -> None:
        self.job, self.total, self.done = job, total, 0
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[float] = []

    @contextmanager
    def charged(self, name: str) -> Iterator[None]:
        """Charge the enclosed time to `name`, but for what is charged within."""
        began = time.perf_counter()
        self._open.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - began
            self.seconds[name] += whole - self._open.pop()
            if self._open:
                self._open[-1] += whole

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Watch the build: families as they run, and shared intermediates (History.once, History.here) as they are made."""
        from kit.features import build
        from kit.history import History

        run_family, originals = build.run_family, {name: getattr(History, name) for name in ("once", "here")}

        def family(item: Any, history: Any, settings: Any) -> Any:
            with self.charged(item.name):
                frame = run_family(item, history, settings)
            self.done += 1
            self.job.mark(self.done, self.total, "families × chunks")
            return frame

        def shared(name: str) -> Callable[..., Any]:
            def made(history: Any, key: str, compute: Callable[[], Any]) -> Any:
                def timed() -> Any:
                    with self.charged(key):
                        return compute()

                return originals[name](history, key, timed)

            return made

        once, here = patch.object(History, "once", shared("once")), patch.object(History, "here", shared("here"))
        with patch.object(build, "run_family", family), once, here:
            yield

    def report(self) -> None:
        """Into the job's details: seconds by name, largest first, and the rest (aligning, copying, writing)."""
        ordered = sorted(self.seconds.items(), key=lambda pair: -pair[1])
        table = {name: round(seconds, 3) for name, seconds in ordered[:MOST]}
        table["aligning, copying, writing"] = round((self.job.seconds or 0.0) - sum(self.seconds.values()), 3)
        if ordered[MOST:]:
            table["smaller ones"] = round(sum(seconds for _, seconds in ordered[MOST:]), 3)
        self.job.details["parts"] = table
