"""Scoring a submission: probes on the tasks that the data define, one report, remembered beside the submission."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kit import tracking
from kit.data.check_split import require_targets
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import PROBES, Options, Probe, Source
from kit.scoring.cells import ScoredRun
from kit.scoring.cohorts import EventCounts
from kit.scoring.conditions import conditions, precision_notes, require_clients
from kit.scoring.entry import FIELDS, Entries, EntryPart, Parts, part_of, undefined_entry
from kit.scoring.evidence import (
    evidence,
    fingerprint_of,
    made_of,
    origin_notes,
    require_replaceable,
    require_same_targets,
    still_asks,
)
from kit.scoring.results import ScoreReport, known_tasks, read_scores, require_writable, runs_of, write_scores
from kit.scoring.scorer import Scorer
from kit.store import DEFAULT_ROOT, Store, digest
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE, Task

Keep = Callable[[ScoreReport], object]


def score_submission(
    submission: Submission,
    folder: DataFolder,
    probe: str = "fast",
    tasks: Sequence[Task] | None = None,
    options: Options | None = None,
    *,
    force: bool = False,
    keep: Keep | None = None,
) -> ScoreReport:
    """Score a submission with one probe. A run that was ever made of the same bytes is not made again: `kit.scoring.cells` keeps
    each, and scores.json, which travels with the submission, is believed as well: also where it holds more runs than are asked
    for, the first of which has the official seed as ever.

    Args:
        submission: what is scored.
        folder: a split data folder.
        probe: a registered probe.
        tasks: None for the challenge's six.
        options: how the probe is run. A probe that has one precision only uses that. With `explain`, a probe whose runs have
            explanations trains again what is known.
        force: score again even if the result is known.
        keep: called with a report of a task as soon as it has one more run, such as to write it: at full size the next may take
            an hour, and a run be killed. What is told again at the end is the whole.

    Raises:
        KitError: bad vectors, ids, labels or options. A task that the data cannot define is no error.
    """
    chosen = PROBES.loaded()[probe]
    asked = options or Options()
    _require_runs(asked)
    require_targets(folder, Store())
    require_clients(submission.folder, submission.ids, folder)
    source = asked.source or Source(submission.folder, folder)
    own = replace(asked, precision=chosen.knows(asked.precision), source=source)
    scoring = _Scoring(submission, folder, chosen, own, list(tasks) if tasks else list(CHALLENGE))
    return scoring.report(force=force, keep=keep)


def score_and_keep(
    submission: Submission,
    folder: DataFolder,
    probe: str = "fast",
    tasks: Sequence[Task] | None = None,
    options: Options | None = None,
    *,
    force: bool = False,
) -> ScoreReport:
    """`score_submission`, and every result goes into scores.json as soon as it is there.

    Raises:
        KitError: also, before anything is trained, where the submission's folder cannot be written.
    """

    def keep(part: ScoreReport) -> None:
        write_scores(submission, [part])

    report = score_submission(submission, folder, probe, tasks, options, force=force, keep=keep)
    # whoever only asks again needs no folder that can be written
    if not report.reused or _may_write(submission.folder):
        keep(report)
    return report


def _require_runs(options: Options) -> None:
    """KitError for numbers of runs that make no sense."""
    if options.seeds < 1:
        raise KitError(f"--seeds {options.seeds} is not a number of runs.", "Give 1 or more.")
    if options.reorder and options.seeds < 2:
        raise KitError(
            f"--reorder changes the runs after the first; --seeds {options.seeds} has none.", "Add --seeds 3."
        )


@dataclass(frozen=True)
class _Scoring:
    """One probe on one submission.

    Attributes:
        submission, folder, probe: as in `score_submission`.
        options: in a precision that the probe knows.
        tasks: wanted.
    """

    submission: Submission
    folder: DataFolder
    probe: Probe
    options: Options
    tasks: list[Task]

    @cached_property
    def scorer(self) -> Scorer:
        """The cells of this probe on this folder."""
        return Scorer(self.folder, self.probe, self.tasks, Store(), self.options)

    def report(self, *, force: bool, keep: Keep | None) -> ScoreReport:
        """All tasks: what is known, unless `force`, and what is not."""
        where = self.submission.folder
        decided = evidence(self.folder, self.probe, self.options.precision)
        fingerprint = fingerprint_of(self.submission, self.folder, decided)
        again = force or (self.options.explain is not None and self.probe.explains is not None)
        told = {} if again else self._told(fingerprint)
        missing = [task for task in self.tasks if task.name not in told]
        if keep is not None and (missing or self.options.explain is not None):  # what explains is written beside, too
            require_writable(where)
        empty = self._empty(decided, fingerprint, self._counts(needed=bool(missing)))
        before = read_scores(where).get(self.probe.name)
        require_replaceable(before, decided, empty.vectors, self.probe, () if force else missing)

        def done(name: str, part: EntryPart) -> None:
            require_same_targets(self.submission, self.folder, empty.targets)
            if keep is not None:
                keep(_filled(empty, {name: part.entry}, {name: part}))

        # whoever only asks again needs no folder that can be written
        needless = not missing and not _may_write(DEFAULT_ROOT)
        with nullcontext() if needless else tracking.run("score", self._about(), DEFAULT_ROOT / "runs"):
            undefined, parts, made = self._run(missing, done, force=again)
            found = told | undefined | {name: part.entry for name, part in parts.items()}
            _track(found, self.tasks, made, self.probe.name)
        return replace(_filled(empty, {task.name: found[task.name] for task in self.tasks}, parts), reused=not made)

    def _about(self) -> dict[str, Any]:
        """What the run's record begins with."""
        about = {"submission": str(self.submission.folder), "data": str(self.folder.root), "probe": self.probe.name}
        return about | {"seeds": self.options.seeds, "precision": self.options.precision}

    def _counts(self, *, needed: bool) -> EventCounts | None:
        """`read_counts`. They are kept in the store; where nothing is scored and it cannot be written, it goes without."""
        try:
            return self.scorer.tables.counts(self.submission.ids)
        except OSError:
            if needed:
                raise
            return None

    def _empty(self, decided: dict[str, Any], fingerprint: str, counts: EventCounts | None) -> ScoreReport:
        """A report without tasks."""
        submission, folder = self.submission, self.folder
        return ScoreReport(
            submission=str(submission),
            data=str(folder.root),
            probe=self.probe.name,
            precision=self.options.precision,
            fingerprint=fingerprint,
            vectors=submission.digest,
            targets=digest(decided["targets"]),
            code=str(decided["code"]),
            tasks={},
            notes=[*origin_notes(submission, folder), *conditions(submission, folder, counts)],
            precision_matters=bool(precision_notes(submission)),
            **runs_of({}),
        )

    def _told(self, fingerprint: str) -> Entries:
        """Entries of scores.json with the runs asked for, or more. A single run is the first of any; further ones have one order
        or others."""
        seeds, reorder = self.options.seeds, self.options.reorder
        found = known_tasks(self.submission.folder, self.probe.name, fingerprint)
        return {
            task.name: entry
            for task in self.tasks
            if (entry := found.get(task.name)) is not None
            and still_asks(task, self.folder, entry)
            and (
                entry["score"] is None
                or seeds == 1
                or (len(entry.get("per_seed", ())) >= seeds and bool(entry.get("reordered")) == reorder)
            )
        }

    def _run(
        self, tasks: Sequence[Task], done: Callable[[str, EntryPart], None], *, force: bool
    ) -> tuple[Entries, Parts, list[Task]]:
        """Entries of the tasks that are not defined, by name; what there is to say of the others, told run by run; and of which
        tasks a run was made now."""
        if not tasks:
            return {}, {}, []
        submission, parts = self.submission, Parts()
        defined, reasons = self.scorer.tables.labels(submission.ids)
        made: list[Task] = []

        def finished(task: Task, runs: list[ScoredRun]) -> None:
            part = part_of(runs, reordered=self.options.reorder)
            parts[task.name] = replace(part, entry=part.entry | made_of(task, self.folder))
            if not runs[-1].known:
                made.append(task)
            done(task.name, parts[task.name])

        wanted = [task for task in tasks if task in defined]
        seeds = range(self.options.seeds)
        self.scorer.runs(
            submission.vectors, submission.ids, submission.digest, wanted, seeds, force=force, finished=finished
        )
        entries = {
            task.name: undefined_entry(reasons[task]) | made_of(task, self.folder) for task in tasks if task in reasons
        }
        return entries, parts, made


def _may_write(folder: Path) -> bool:
    """Whether a folder, or what it would be made in, can be written."""
    above = (folder.absolute(), *folder.absolute().parents)
    return os.access(next(place for place in above if place.exists()), os.W_OK)


def _filled(empty: ScoreReport, entries: Entries, parts: Parts) -> ScoreReport:
    """A report with these tasks."""
    return replace(
        empty,
        tasks=entries,
        influence={name: part.influence for name, part in parts.items()},
        areas={name: part.area for name, part in parts.items() if part.area is not None},
        explanations={name: part.explanation for name, part in parts.items() if part.explanation is not None},
        **runs_of(entries),
    )


def _track(found: dict[str, dict[str, Any]], wanted: list[Task], made: list[Task], probe: str) -> None:
    """Log the numbers of every task to the run."""
    for task in wanted:
        numbers = {name: found[task.name].get(name) for name in (*FIELDS, "seconds")}
        plain = {name: float(value) for name, value in numbers.items() if value is not None}
        tracking.log("score", plain, about={"task": task.name, "probe": probe, "known": task not in made})
