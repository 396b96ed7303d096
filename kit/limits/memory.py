"""Memory: how much there is, how much this run uses, and arrays that go into files when they would not fit.

Memory here is anonymous memory: what cannot be dropped and read again. Pages of mapped files are left out, because the system
takes them back when it needs room; a container's limit works the same way.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

GROUPS = Path("/sys/fs/cgroup")
HALF = 2
"""A single array may take one HALFth of the room that is left: the rest is for the work on it."""


@dataclass(frozen=True)
class Memory:
    """Bytes, the container's limit taken into account."""

    total: int
    available: int


@dataclass(frozen=True)
class _Budget:
    limit: int
    scratch: Path


_budget: _Budget | None = None


def memory() -> Memory:
    """What this machine, or the tightest control group around this process, offers."""
    here = psutil.virtual_memory()
    total, available = int(here.total), int(here.available)
    for limit, used in _groups():
        total, available = min(total, limit), min(available, max(limit - used, 0))
    return Memory(total, available)


def in_use() -> int:
    """Anonymous bytes of this process and its children (training may start some)."""
    return own_use() + sum(map(_anonymous, children()))


def own_use() -> int:
    """Anonymous bytes of this process alone: microseconds to find out, where `in_use` has to look at every process."""
    return _anonymous(psutil.Process())


def children() -> list[psutil.Process]:
    """Processes that this one started, and those that they started."""
    return list(psutil.Process().children(recursive=True))


@contextmanager
def within(limit: int, scratch: Path) -> Iterator[None]:
    """While inside, work is cut to keep `in_use` below `limit` bytes; large arrays that do not fit lie in `scratch`.

    Chunks are cut where the result does not depend on them, so equal inputs give equal bytes whatever the limit.
    """
    global _budget  # noqa: PLW0603 - one process has one budget
    before, _budget = _budget, _Budget(limit, scratch)
    try:
        yield
    finally:
        _budget = before


def room() -> int | None:
    """Bytes left below the limit, at least 0; None where there is none."""
    return None if _budget is None else max(_budget.limit - in_use(), 0)


def at_once(each: float, most: int, least: int) -> int:
    """How many things of `each` bytes to work on together: `most`, or as many as fit in the room, and never below `least`."""
    left = room()
    return most if left is None else max(least, min(most, int(left / max(each, 1))))


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """`np.empty`, in memory if it fits well, else in a file that goes away with the array (and with the process)."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    left = room()
    if left is None or _budget is None or size == 0 or size * HALF <= left:
        return np.empty(shape, dtype=dtype)
    _budget.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=_budget.scratch) as stream:  # the mapping keeps it alive, without a name
        return np.asarray(np.memmap(stream, dtype=dtype, mode="w+", shape=shape))


def _anonymous(process: psutil.Process) -> int:
    """Resident bytes without shared file pages; all resident ones where the system does not tell them apart."""
    try:
        info = process.memory_info()
    except psutil.Error:  # it ended meanwhile
        return 0
    return int(info.rss - getattr(info, "shared", 0)) if sys.platform == "linux" else int(info.rss)


def _groups() -> Iterator[tuple[int, int]]:
    """(limit, used) of every control group above this process that has a limit; file pages that may go are not used."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names not in ("", "memory"):
            continue
        root = GROUPS / names
        inner = root / path.lstrip("/")
        limit_name, used_name = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if names else ("memory.max", "memory.current")
        )
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(root):
                break
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None:
                yield limit, used - _droppable(folder / "memory.stat")


def _droppable(path: Path) -> int:
    """Bytes of file pages that a control group can drop at once."""
    try:
        pairs = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        return next((int(value) for name, value in pairs if name in ("inactive_file", "total_inactive_file")), 0)
    except (OSError, ValueError):
        return 0


def _number(path: Path) -> int | None:
    """A control group's limit; None if there is none (`max`) or no such file."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
