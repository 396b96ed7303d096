"""The study behind the fast probe: which cheap stand-in ranks profiles as the official probe does, and at what cost.

Every score of a profile by a probe on a task is a small file, written as soon as it is known and named with the fingerprint of
what decided it. A study can be stopped at any time; the same call goes on, and a changed stand-in is measured again alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from kit.challenge import PROBE_SEED
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.fingerprint import code_of, function_code
from kit.probes.registry import PROBES, Options, Precision, Run, TaskRun
from kit.progress import say
from kit.scoring.cohorts import read_counts
from kit.store import DEFAULT_ROOT, digest, write_json
from kit.studies.calibration.report import OFFICIAL, CalibrationStudy, write_report
from kit.studies.calibration.stand_ins import STAND_INS
from kit.studies.calibration.variants import ProfileVariant, read_source, variants
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE, Task
from kit.tasks.labels import TaskData, UndefinedTask, load_task, own_digest, targets_digest

Part = TypeVar("Part")
USUAL: Final = Options(precision="bf16")
"""Of the official probe: a study scores many profiles."""


@dataclass(frozen=True)
class CalibrationPlan:
    """What a study covers.

    Attributes:
        out: folder of all results; a rerun goes on from what it holds.
        tasks: empty for the challenge's six.
        stand_ins: names; empty for all that are default.
        profiles: only the first so many; None for all.
        minutes: start nothing after this long; None for no limit.
        twice: how many profiles the official probe scores a second time, from another seed and with the rows in another
            random order, to learn the noise of both; at most all. Profiles that are an order are left out. Few can mislead:
            of thirteen runs twelve repeated to .02, one was off by .08 (docs/measured.md).
        options: threads, and the precision of the official probe.
    """

    out: Path
    tasks: tuple[Task, ...] = ()
    stand_ins: tuple[str, ...] = ()
    profiles: int | None = None
    minutes: float | None = None
    twice: int = 6
    options: Options = USUAL


@dataclass(frozen=True)
class Contestant:
    """A probe in the study: its name, run, seeds, first seed, whether tasks run together, and its code's digest."""

    name: str
    run: Run
    options: Options
    together: bool
    code: str


def calibrate(submissions: Sequence[Submission], folder: DataFolder, plan: CalibrationPlan) -> dict[str, Any]:
    """Run what is missing of a study and write report.json and report.md into its folder.

    Args:
        submissions: one or more, made on `folder`; profiles are made from them.
        folder: a split data folder.
        plan: what to cover.

    Returns:
        the content of report.json.

    Raises:
        KitError: bad submissions, names or numbers, or no task is defined on this data.
    """
    check_plan(plan)
    folder.require_split()
    chosen = variants([read_source(one, lambda ids: _activity(folder, ids)) for one in submissions])[: plan.profiles]
    stand_ins = [_stand_in(name, plan) for name in plan.stand_ins or _defaults()]
    official, again = _official(plan, 0), _official(plan, 1)
    twice = spread([variant for variant in chosen if not variant.ordered], plan.twice)
    targets, clock = targets_digest(folder), _Clock(plan.minutes)
    study = CalibrationStudy(
        plan.out, str(folder.root), [str(one) for one in submissions], plan.options.precision, plan.minutes
    )
    study.targets = targets
    for number, variant in enumerate(chosen):
        if clock.over():
            break
        seeded = [again] if variant in twice else []
        work = _Work(variant, folder, plan, targets, clock)
        say(f"  {number + 1} of {len(chosen)}: {variant.name}")
        for contestant in [*stand_ins, official, *seeded]:
            for task, cell in work.measure(contestant).items():
                study.add(variant.name, variant.about, work.width, contestant.name, task, cell)
        study.undefined |= work.undefined
    if study.undefined and not study.cells:
        raise KitError(f"No task is defined here: {'; '.join(study.undefined.values())}.", "Choose other data.")
    study.complete = not clock.stopped
    return write_report(study, {part.name: STAND_INS[part.name].description for part in stand_ins})


def spread(parts: Sequence[Part], most: int) -> list[Part]:
    """At most so many of them, evenly spaced: neighbours are alike."""
    places = np.linspace(0, len(parts) - 1, min(most, len(parts)))
    return [parts[place] for place in np.unique(places.round().astype(int))]


def plan_study(
    folder: DataFolder,
    out: Path | None,
    tasks: Sequence[Task] | None,
    stand_ins: Sequence[str] | None,
    profiles: int | None,
    minutes: float | None,
    twice: int | None = None,
    options: Options | None = None,
) -> CalibrationPlan:
    """A Plan from what a command line gives; without `out`, results are kept in the store under the data folder's name."""
    place = out or DEFAULT_ROOT / "calibration" / folder.root.resolve().name
    names = tuple(dict.fromkeys(stand_ins or ()))
    again = CalibrationPlan.twice if twice is None else twice
    return CalibrationPlan(place, tuple(tasks or ()), names, profiles, minutes, again, options or USUAL)


def check_plan(plan: CalibrationPlan) -> None:
    """KitError for numbers that mean nothing, before anything is read."""
    if plan.profiles is not None and plan.profiles < 3:
        raise KitError(
            f"--profiles {plan.profiles} cannot be ranked.", "Give 3 or more; 16 for a τ that means something."
        )
    if plan.minutes is not None and plan.minutes <= 0:
        raise KitError(f"--minutes {plan.minutes} is no time.", "Give a positive number.")
    for name in plan.stand_ins:
        _ = STAND_INS[name]


class _Work:
    """One profile and its tasks; labels are read when the first missing score asks for them."""

    def __init__(
        self, variant: ProfileVariant, folder: DataFolder, plan: CalibrationPlan, targets: str, clock: _Clock
    ) -> None:
        self.variant, self.folder, self.plan, self.targets, self.clock = variant, folder, plan, targets, clock
        self.ids, self.vectors = variant.make()
        self.width = int(self.vectors.shape[1])
        self.bytes = digest([_digest_array(self.ids), _digest_array(self.vectors)])
        self.undefined: dict[Task, str] = {}
        self.tasks: dict[Task, TaskData] = {}

    def measure(self, contestant: Contestant) -> dict[Task, dict[str, Any]]:
        """Cells of all tasks that are known or could be measured in time; new ones are written at once."""
        cells, missing = {}, []
        for task in self.plan.tasks or CHALLENGE:
            path, fingerprint = self._cell(contestant, task)
            known = _read(path)
            if known is not None and known.get("fingerprint") == fingerprint:
                cells[task] = known
            elif (data := self._load(task)) is not None:
                missing.append(data)
        groups = [missing] if contestant.together else [[data] for data in missing]
        for group in groups:
            if not group or self.clock.over():
                continue
            for data, cell in zip(group, _timed(contestant, self.vectors, group), strict=True):
                path, fingerprint = self._cell(contestant, data.task)
                cells[data.task] = cell | {"fingerprint": fingerprint}
                write_json(path, cells[data.task])
        return cells

    def _cell(self, contestant: Contestant, task: Task) -> tuple[Path, str]:
        place = self.plan.out / "cells" / self.variant.name.replace("/", "--")
        own = own_digest(task, self.folder)
        decided = [self.bytes, self.targets, contestant.code, contestant.options.precision, contestant.options.seeds]
        decided += [] if own is None else [own]
        return place / f"{contestant.name}--{task.name}.json", digest([*decided, contestant.options.first_seed])

    def _load(self, task: Task) -> TaskData | None:
        if task not in self.tasks and task not in self.undefined:
            try:
                self.tasks[task] = load_task(task, self.ids, self.folder)
            except UndefinedTask as error:
                self.undefined[task] = f"{task.name} is not defined here, because {error.reason}"
        return self.tasks.get(task)


def _timed(contestant: Contestant, vectors: NDArray[np.float16], group: list[TaskData]) -> list[dict[str, Any]]:
    """A cell per task: the mean score over the contestant's seeds, and its share of the time that all took together."""
    began, busy = time.perf_counter(), _busy()
    runs = contestant.run(vectors, group, contestant.options)
    seconds, processor = time.perf_counter() - began, _busy() - busy
    own = [[run for run in runs if run.task is data.task] for data in group]
    spent = [sum(run.seconds for run in mine) for mine in own]
    shares = [part / sum(spent) if sum(spent) else 1 / len(group) for part in spent]
    return [
        _cell_of(mine, seconds=share * seconds, cpu_seconds=share * processor)
        for mine, share in zip(own, shares, strict=True)
    ]


def _cell_of(runs: list[TaskRun], **times: float) -> dict[str, Any]:
    best = [run.best for run in runs]
    return {
        "score": float(np.mean([metrics.score for metrics in best])),
        "auroc": float(np.mean([metrics.auroc for metrics in best])),
        "per_seed": {str(run.seed): run.best.score for run in runs},
        **times,
    }


def _busy() -> float:
    """Processor seconds of this process and its ended children."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0))


class _Clock:
    def __init__(self, minutes: float | None) -> None:
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        self.stopped = False

    def over(self) -> bool:
        self.stopped = self.stopped or (self.end is not None and time.monotonic() > self.end)
        return self.stopped


def _defaults() -> tuple[str, ...]:
    return tuple(name for name, part in STAND_INS.items() if part.default)


def _stand_in(name: str, plan: CalibrationPlan) -> Contestant:
    part = STAND_INS[name]
    probes = PROBES.loaded()
    precision: Precision = probes[name].usual if name in probes else "fp32"  # as the machine decides
    return Contestant(
        name, part.run, replace(plan.options, seeds=part.seeds, precision=precision), True, _code(part.run)
    )


def _official(plan: CalibrationPlan, first_seed: int) -> Contestant:
    run = PROBES.loaded()[OFFICIAL].run
    name = OFFICIAL if not first_seed else f"{OFFICIAL}-{PROBE_SEED + first_seed}"
    options = replace(plan.options, seeds=1, first_seed=first_seed, reorder=True)
    return Contestant(name, run, options, together=False, code=_code(run))


def _code(run: Callable[..., Any]) -> str:
    """Of one contestant alone: another one's change must not throw away hours of results."""
    return (function_code(run) | code_of("kit.tasks.challenge", "kit.tasks.labels")).digest


def _activity(folder: DataFolder, ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
    counts = read_counts(folder, ids)
    return None if counts is None else counts.total


def _digest_array(values: NDArray[Any]) -> str:
    head = f"{values.dtype}{values.shape}".encode()
    return hashlib.blake2b(head + np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None  # absent, or damaged: measured again
