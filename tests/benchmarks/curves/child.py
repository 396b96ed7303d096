"""One stage in a process of its own: `python -m curves.child JOB.json`, started by cost_curves.py.

Writes what it has to say into the job's folder: `report.json` at the end, `marks.json` while it works, so that something can
be said about a stage that is stopped.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from curves.meter import MIB, memory_of, read_io

MARK_SECONDS: Final = 0.5
"""At most one note of progress in this many seconds."""


@dataclass(frozen=True)
class Order:
    """What a child is asked to do.

    Attributes:
        size: relevant clients. `stage`: name in STAGES or SLICES of `curves.stages`.
        data: the data folder. `place`: a folder of this size's own. `job`: where the child writes its reports.
        threads, seed: as the words say. `cap`: seconds from `started` (time.time()) until the child is stopped.
    """

    size: int
    stage: str
    data: Path
    place: Path
    job: Path
    threads: int
    seed: int
    cap: float
    started: float

    def write(self) -> Path:
        """As JSON into the job's folder; returns the file."""
        path = self.job / "job.json"
        path.write_text(json.dumps(asdict(self), default=str), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Order:
        """What `write` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls(**raw | {name: Path(raw[name]) for name in ("data", "place", "job")})


@dataclass
class Job:
    """What a stage works with: its order, a clock for the part that counts, and somewhere to put findings.

    Attributes:
        order: what was asked.
        details: what the stage reports; numbers, texts, tables.
        seconds, cpu_seconds, before_mib: of the part within `clock`.
        foretold: (seconds of the whole, how) if only a part was run.
    """

    order: Order
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    cpu_seconds: float | None = None
    before_mib: float | None = None
    foretold: tuple[float, str] | None = None
    _began: float = 0.0
    _marked: float = 0.0

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Time the enclosed work."""
        self.before_mib = memory_of("self")[0] / MIB or None
        cpu, self._began = os.times(), time.perf_counter()
        self._note({"began": time.time()})
        yield
        self.seconds = time.perf_counter() - self._began
        self.cpu_seconds = sum(os.times()[:4]) - sum(cpu[:4])

    @property
    def left(self) -> float:
        """Seconds until the cap stops this process."""
        return self.order.started + self.order.cap - time.time()

    def mark(self, done: int, total: int, unit: str) -> None:
        """Note that `done` of `total` equal units are finished."""
        seconds = time.perf_counter() - self._began
        if self._began and (seconds - self._marked > MARK_SECONDS or done == total):
            self._marked = seconds
            self._note({"done": done, "total": total, "unit": unit, "seconds": seconds})

    def _note(self, entry: dict[str, Any]) -> None:
        path = self.order.job / "marks.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(known | entry), encoding="utf-8")
        part.replace(path)

    def report(self) -> dict[str, Any]:
        """For the parent."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "before_mib": self.before_mib,
            "foretold": self.foretold,
            "details": self.details,
            "io": read_io("self"),
        }


def follow(job: Job, name: str) -> None:
    """Turn the kit's own progress called `name` into marks of the job."""
    from kit import progress

    lines = progress._lines

    def marking(called: str, total: int, unit: str, *more: Any) -> progress.Advance:
        advance, done = lines(called, total, unit, *more), 0

        def both(count: int) -> None:
            nonlocal done
            done += count
            if called == name:
                job.mark(done, total, unit)
            advance(count)

        return both

    patch.object(progress, "_lines", marking).start()  # until this process ends


def main(path: Path) -> None:
    """Run the stage that the file asks for."""
    from curves.stages import SLICES, STAGES

    job = Job(Order.read(path))
    stage = (STAGES | SLICES)[job.order.stage]
    for module in stage.imports:
        importlib.import_module(module)
    if stage.progress:
        follow(job, stage.progress)
    stage.run(job)
    (job.order.job / "report.json").write_text(json.dumps(job.report(), default=str), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
