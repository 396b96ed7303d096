"""The study behind the fast probe: which cheap stand-in ranks profiles as the official probe does, and at what cost.

Every score of a profile by a probe on a task is a cell (`kit.scoring.cells`), kept as soon as it is known. A study can be stopped
at any time; the same call goes on, and a changed stand-in is measured again alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from kit.arrays import digest_of
from kit.challenge import PROBE_SEED
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.fingerprint import code_of, function_code
from kit.probes.registry import PROBES, Options, Precision, Probe, Run, TaskRun, Vectors
from kit.progress import say
from kit.scoring.cohorts import read_counts
from kit.scoring.evidence import probe_code
from kit.scoring.scorer import LabelTables, Scorer
from kit.store import DEFAULT_ROOT, Store
from kit.studies.calibration.report import OFFICIAL, CalibrationStudy, write_report
from kit.studies.calibration.stand_ins import STAND_INS
from kit.studies.calibration.variants import ProfileVariant, read_source, variants
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE, Task
from kit.tasks.labels import TaskData, targets_digest

Part = TypeVar("Part")
USUAL: Final = Options(precision="bf16")
"""Of the official probe: a study scores many profiles."""


@dataclass(frozen=True)
class CalibrationPlan:
    """What a study covers.

    Attributes:
        out: folder of the report.
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

    @property
    def last(self) -> int:
        """The index after that of its last seed."""
        return self.options.first_seed + self.options.seeds


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
        work = _Work(variant, folder, plan, clock)
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

    def __init__(self, variant: ProfileVariant, folder: DataFolder, plan: CalibrationPlan, clock: _Clock) -> None:
        self.folder, self.plan, self.clock = folder, plan, clock
        self.ids, self.vectors = variant.make()
        self.width = int(self.vectors.shape[1])
        self.key = digest_of(self.ids, self.vectors)
        self.undefined: dict[Task, str] = {}
        self.tasks = list(plan.tasks or CHALLENGE)
        self.tables = LabelTables(folder, tuple(self.tasks), Store())

    def measure(self, contestant: Contestant) -> dict[Task, dict[str, Any]]:
        """Cells of all tasks that are known or could be measured in time; new ones are kept at once."""
        scorer, seeds = self._scorer(contestant), range(contestant.options.first_seed, contestant.last)
        about = self.vectors, self.ids, self.key
        there = [task for task in self.tasks if scorer.knows(*about, task, seeds)]
        missing = [task for task in self.tasks if task not in there]
        if missing:
            labels, reasons = self.tables.labels(self.ids)
            told = {task: f"{task.name} is not defined here, because {reason}" for task, reason in reasons.items()}
            self.undefined |= {task: told[task] for task in missing if task in told}
            missing = [task for task in missing if task in labels]
        for group in [missing] if contestant.together else [[task] for task in missing]:
            if group and not self.clock.over():
                scorer.runs(*about, group, seeds)
                there += group
        found = scorer.runs(*about, there, seeds)
        return {task: _cell_of([scored.run for scored in found[task]]) for task in self.tasks if task in found}

    def _scorer(self, contestant: Contestant) -> Scorer:
        options = contestant.options
        name = OFFICIAL if contestant.name.startswith(OFFICIAL) else contestant.name
        probe = Probe(name, name, _timed(contestant.run), (options.precision,))
        return Scorer(self.folder, probe, self.tasks, Store(), options, contestant.code, self.tables)


def _timed(run: Run) -> Run:
    """A run whose seconds are each task's share of the time that all took together, what they share included."""

    def timed(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
        began = time.perf_counter()
        runs = run(vectors, tasks, replace(options, finished=None))
        whole, spent = time.perf_counter() - began, sum(one.seconds for one in runs)
        return [replace(one, seconds=whole * (one.seconds / spent if spent else 1 / len(runs))) for one in runs]

    return timed


def _cell_of(runs: list[TaskRun]) -> dict[str, Any]:
    """The mean over a contestant's seeds, and what all of them took."""
    best = [run.best for run in runs]
    return {
        "score": float(np.mean([metrics.score for metrics in best])),
        "auroc": float(np.mean([metrics.auroc for metrics in best])),
        "per_seed": {str(run.seed): run.best.score for run in runs},
        "seconds": sum(run.seconds for run in runs),
    }


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
    code = _code(part.run) if name not in probes else probe_code(probes[name])
    return Contestant(name, part.run, replace(plan.options, seeds=part.seeds, precision=precision), True, code)


def _official(plan: CalibrationPlan, first_seed: int) -> Contestant:
    probe = PROBES.loaded()[OFFICIAL]
    name = OFFICIAL if not first_seed else f"{OFFICIAL}-{PROBE_SEED + first_seed}"
    options = replace(plan.options, seeds=1, first_seed=first_seed, reorder=True)
    return Contestant(name, probe.run, options, together=False, code=probe_code(probe))


def _code(run: Callable[..., Any]) -> str:
    """Of one contestant alone: another one's change must not throw away hours of results."""
    return (function_code(run) | code_of("kit.tasks.challenge", "kit.tasks.labels")).digest


def _activity(folder: DataFolder, ids: NDArray[np.int64]) -> NDArray[np.int64] | None:
    counts = read_counts(folder, ids)
    return None if counts is None else counts.total
