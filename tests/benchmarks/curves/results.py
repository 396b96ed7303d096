"""What was measured: one JSON file per number of clients and stage, so that a rerun measures only what is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

from kit.store import write_json

State = Literal["measured", "extrapolated", "cut", "failed", "skipped"]
NEAR_LINEAR: Final = 1.1
"""Largest exponent that counts as near-linear."""
BUSY: Final = 0.3
"""Load average per core, beyond the benchmark's own threads, from which a time is said to be disturbed."""
SHORTEST: Final = 0.1
"""Seconds below which a time says nothing about growth."""


@dataclass(frozen=True)
class Result:
    """One stage at one number of clients.

    Attributes:
        size: relevant clients.
        stage: its name.
        state: measured = ran to its end; extrapolated = `seconds` follow from a part, as `note` says; cut = stopped at the
            cap, `seconds` are a lower bound; failed; skipped.
        whole: whether its output is there for the stages that read it.
        note: why it is not simply measured; "" otherwise.
        seconds: wall-clock of the work itself, imports and starting left out; None if there is nothing to tell.
        cpu_seconds: of the same, over all threads and child processes; for a cut or failed stage of the whole process.
        spent_seconds: what was really waited for, from the process's start to its end.
        before_mib, anonymous_mib, resident_mib: memory of the process and its children: anonymous pages before the work and
            at the peak (None except on Linux), resident pages (mapped files included) at the peak.
        read_mib, written_mib: bytes passed by system calls, cached files included, mapped ones not; None except on Linux.
        disk_read_mib, disk_written_mib: of those, what reached the disk.
        details: what the stage itself reports.
        setting: machine, versions, commit, threads, load average at the start, cap, instant, name of the data folder, run.
    """

    size: int
    stage: str
    state: State
    note: str = ""
    whole: bool = True
    seconds: float | None = None
    cpu_seconds: float | None = None
    spent_seconds: float | None = None
    before_mib: float | None = None
    anonymous_mib: float | None = None
    resident_mib: float | None = None
    read_mib: float | None = None
    written_mib: float | None = None
    disk_read_mib: float | None = None
    disk_written_mib: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    setting: dict[str, Any] = field(default_factory=dict)

    @property
    def tells(self) -> bool:
        """Whether `seconds` stand for the whole stage."""
        return self.state in ("measured", "extrapolated") and self.seconds is not None

    @property
    def disturbed(self) -> bool:
        """Whether other work kept the machine busy when it began: more load than the benchmark's own threads explain."""
        cores, load = self.setting.get("machine", {}).get("cores"), self.setting.get("load")
        return bool(cores) and load is not None and load > self.setting.get("threads", cores) + BUSY * cores

    @property
    def per_client(self) -> float | None:
        """Microseconds per client."""
        return None if self.seconds is None else 1e6 * self.seconds / self.size


class Results:
    """The results in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, size: int, stage: str) -> Path:
        """File of one result."""
        return self.folder / f"{size:09d}-{stage}.json"

    def read(self, size: int, stage: str) -> Result | None:
        """One result, None if there is none (or a file of another shape, which counts as none)."""
        try:
            return Result(**json.loads(self.path(size, stage).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, result: Result) -> None:
        """Keep one result."""
        write_json(self.path(result.size, result.stage), asdict(result))

    def all(self) -> list[Result]:
        """Every result, by size and stage."""
        named = [path.stem.split("-", maxsplit=1) for path in sorted(self.folder.glob("*-*.json"))]
        found = [self.read(int(size), stage) for size, stage in named if size.isdigit()]
        return [result for result in found if result is not None]

    def stands(self, size: int, stage: str, cap_seconds: float) -> bool:
        """Whether a result need not be measured again: it told the whole, or was stopped by a cap no smaller than this one."""
        known = self.read(size, stage)
        if known is None or known.state in ("failed", "skipped"):
            return False
        return known.state == "measured" or float(known.setting.get("cap_seconds", 0)) >= cap_seconds


def exponent(smaller: tuple[float, float], larger: tuple[float, float]) -> float:
    """Slope of log value over log size between two (size, value) points: 1 is linear."""
    return math.log(larger[1] / smaller[1]) / math.log(larger[0] / smaller[0])


@dataclass(frozen=True)
class Step:
    """Growth from one size to the next.

    Attributes:
        exponent: None where the values cannot tell (missing, cut, or too short).
        estimated: whether an extrapolated value is in it.
    """

    low: int
    high: int
    exponent: float | None
    estimated: bool = False

    @property
    def steep(self) -> bool:
        """Faster than near-linear."""
        return self.exponent is not None and self.exponent > NEAR_LINEAR


def steps(results: Sequence[Result], quantity: str = "seconds") -> list[Step]:
    """Growth of a quantity between neighbouring sizes of one stage.

    Args:
        results: of one stage, by ascending size.
        quantity: `seconds`, `cpu_seconds` or `anonymous_mib`; the latter two are those of the part where only a part ran, and
            tell nothing then.
    """
    found = []
    for low, high in pairwise(results):
        values = [getattr(result, quantity) for result in (low, high)]
        reckoned = quantity == "seconds"
        usable = all(result.tells if reckoned else result.state == "measured" for result in (low, high))
        if not usable or not all(values) or (quantity != "anonymous_mib" and min(values) < SHORTEST):
            found.append(Step(low.size, high.size, None))
            continue
        value = exponent((low.size, values[0]), (high.size, values[1]))
        found.append(Step(low.size, high.size, value, "extrapolated" in (low.state, high.state)))
    return found


@dataclass(frozen=True)
class Line:
    """A least-squares line through (x, y) points.

    Attributes:
        base, slope: y = base + slope · x.
        residual: largest distance of a point from the line, as a share of its y.
    """

    base: float
    slope: float
    residual: float

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Line:
        """Fit at least two points with different x."""
        n = len(points)
        mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
        spread = sum((x - mean_x) ** 2 for x, _ in points)
        if spread == 0:
            raise ValueError("a line needs points with different x")
        slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
        base = mean_y - slope * mean_x
        return cls(base, slope, max(abs(base + slope * x - y) / y for x, y in points))

    def at(self, x: float) -> float:
        """The line's y at x."""
        return self.base + self.slope * x
