"""Gives way to other busy programs: threads of a step that wait for each other sleep while the machine is crowded.

OpenMP's threads meet at the end of every operation, and who comes first waits in a loop: the quickest way alone (a TwHIN step
takes 1.3 times as long where they sleep at once), and the worst beside other work, because the loop keeps the core from the
very thread that is awaited (16 times as long). How long they loop is read from the environment when torch is imported and
cannot be changed later; but libgomp, which torch brings on Linux, loops a three-hundredth as long while a process has more
threads in its teams than it has processors. So a thread looks at what other programs use, and while they leave too little for
our threads, it holds a second team that does nothing. Sums keep their order, since the teams that compute keep their size.
See tests/benchmarks/beside.py.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil

EVERY: Final = 0.25
"""Seconds between two looks."""
TOLERATED: Final = 0.4
"""Processors that others may take from our threads before we give way: the system itself is never quite idle."""
PATIENCE: Final = 8
"""Quiet looks after which threads may loop again; a single crowded one is enough to give way."""

_lock = threading.Lock()
_holders = 0
_watch: _Watch | None = None


@contextmanager
def give_way() -> Iterator[None]:
    """While inside, threads of torch's operations that wait for each other sleep whenever other programs need the processors.

    May be nested and used in several threads at a time; does nothing where torch does not bring libgomp (beyond Linux).
    """
    global _holders, _watch  # noqa: PLW0603 - there is one machine to look at per process
    if not sys.platform.startswith("linux"):
        yield
        return
    with _lock:
        _holders += 1
        if _watch is None:
            _watch = _Watch()
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders and _watch is not None:
                _watch.close()
                _watch = None


class _Watch:
    """Looks at the machine until closed, and holds idle teams while it is crowded."""

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="kit-crowd", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking and let the idle teams go."""
        self._closed.set()
        self._thread.join()

    def _look(self) -> None:
        usage, quiet, teams = Usage(), 0, IdleTeams()
        try:
            while not self._closed.wait(EVERY):
                torch = sys.modules.get("torch")
                if torch is None or not hasattr(torch, "get_num_threads"):  # not needed yet, or being imported
                    continue
                threads = torch.get_num_threads()
                crowded = usage.others() + threads > usage.processors + TOLERATED
                quiet = 0 if crowded else quiet + 1
                if crowded:
                    teams.hold(threads, usage.processors)
                elif quiet >= PATIENCE:
                    teams.release()
        finally:
            teams.release()


class Usage:
    """How many of the processors that this process may use others are using.

    Attributes:
        processors: how many there are.
    """

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._mine = sorted(self._own.cpu_affinity())
        self.processors = len(self._mine)
        self._before = self._now()

    def others(self) -> float:
        """Processors in use by other programs since the last call, this process's children among them."""
        now = self._now()
        (total, busy, own), self._before = (new - old for new, old in zip(now, self._before, strict=True)), now
        seconds = total / self.processors
        return max(0.0, busy - own) / seconds if seconds > 0 else 0.0

    def _now(self) -> tuple[float, float, float]:
        """Seconds of all processors together: passed, busy, busy for this process."""
        every = psutil.cpu_times(percpu=True)
        # What a guest uses is counted in user and nice already.
        times = [every[at] for at in self._mine if at < len(every)]
        idle = sum(one.idle + one.iowait for one in times)
        total = sum(sum(one) - one.guest - one.guest_nice for one in times)
        own = self._own.cpu_times()
        return total, total - idle, own.user + own.system


class IdleTeams:
    """Threads that each keep an OpenMP team of their own, asleep: libgomp counts it and lets all waiting threads sleep soon."""

    def __init__(self) -> None:
        self._free = threading.Event()
        self._threads: list[threading.Thread] = []

    def hold(self, threads: int, processors: int) -> None:
        """Hold as many teams of `threads` as make more threads than processors, beside the one that computes.

        One thread alone waits for nobody: nothing is held then.
        """
        while threads > 1 and threads + len(self._threads) * (threads - 1) <= processors:
            ready = threading.Event()
            keeper = threading.Thread(target=self._keep, args=(ready,), name="kit-idle-team", daemon=True)
            keeper.start()
            ready.wait()
            self._threads.append(keeper)

    def release(self) -> None:
        """Let them go."""
        self._free.set()
        for keeper in self._threads:
            keeper.join()
        self._threads, self._free = [], threading.Event()

    def _keep(self, ready: threading.Event) -> None:
        import torch

        free = self._free
        torch.zeros(1 << 18).mul_(2.0)  # large enough to be shared out: this thread's team is made
        ready.set()
        free.wait()
