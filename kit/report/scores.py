"""The numbers of a report: each task beside baseline, ceiling and board, with intervals paired over clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from kit.scoring.board import PUBLISHED, REAL_CLIENTS, Row, as_json, comparable, rank, submissions_on
from kit.scoring.remarks import notes_on
from kit.scoring.results import current_scores, moved_on, read_comparable, read_scored, read_scores, total
from kit.scoring.statistics import Scored, Verdict, compare, together
from kit.tasks import CHALLENGE, Task

PROBE_ORDER: Final = ("official", "fast", "gbm")
"""The first of these that scored a submission is the one that its report speaks of."""


@dataclass(frozen=True)
class Gain:
    """A difference to another submission and its 95 % interval."""

    difference: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True)
class TaskRow:
    """One task of one probe. Fields that do not apply are None; `undefined` says why a task has no score at all."""

    task: str
    score: float | None
    auroc: float | None
    novelty: float | None
    diversity: float | None
    empty_labels: int | None
    error: float | None
    ceiling: float | None
    ceiling_auroc: float | None
    epochs: list[float]
    undefined: str = ""


@dataclass(frozen=True)
class Against:
    """Another submission under the same probe on the same data: `gap` is the share of the way from it to the ceiling's AUROC."""

    name: str
    scores: dict[str, float]
    aurocs: dict[str, float]
    gains: dict[str, Gain]
    total: Gain | None
    gap: dict[str, float]

    def count(self, verdict: Verdict) -> list[str]:
        """Tasks with that verdict."""
        return [task for task, gain in self.gains.items() if gain.verdict == verdict]

    @property
    def mean_gap(self) -> float | None:
        """Mean over the tasks that have one."""
        return float(np.mean(list(self.gap.values()))) if self.gap else None


@dataclass(frozen=True)
class ProbeScores:
    """All that one probe says of a submission. `why_alone`: why there is nobody to compare with, if so."""

    probe: str
    precision: str
    seeds: int
    data: str
    rows: list[TaskRow]
    sum: float
    notes: list[str]
    against: list[Against] = field(default_factory=list)
    board: list[dict[str, Any]] = field(default_factory=list)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    slices: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def collect_scores(
    submission: Path,
    others: Sequence[Path],
    ceiling: dict[str, dict[str, Any]],
    clients: int,
    targets: str | None = None,
) -> list[ProbeScores]:
    """One entry per probe that scored the submission, the one that speaks first.

    Args:
        submission: its folder.
        others: submissions to compare with; those not scored by a probe on the same data are left out there.
        ceiling: task → fields of the ceiling; empty without one.
        clients: how many the submission holds: with the real number, published rows are shown.
        targets: digest of the target files that the ceiling is of; scores on others stand without it. None if unknown.
    """
    stored = current_scores(submission)
    order = sorted(stored, key=lambda name: PROBE_ORDER.index(name) if name in PROBE_ORDER else len(PROBE_ORDER))
    return [
        _one(submission, name, report, others, ceiling if targets in (None, report["targets"]) else {}, clients)
        for name, report in ((name, stored[name]) for name in order)
    ]


def _one(
    submission: Path,
    probe: str,
    report: dict[str, Any],
    others: Sequence[Path],
    ceiling: dict[str, dict[str, Any]],
    clients: int,
) -> ProbeScores:
    own = read_comparable(submission, probe)
    scored = {task.name: found for task, found in own.items()}
    rows = [_row(name, entry, scored.get(name), ceiling.get(name, {})) for name, entry in report["tasks"].items()]
    slices = {name: entry["slices"] for name, entry in report["tasks"].items() if entry.get("slices")}
    published = {}
    if clients == REAL_CLIENTS:
        published = {team: dict(zip((t.name for t in CHALLENGE), row, strict=True)) for team, row in PUBLISHED.items()}
    comparable = [
        path for path in others if _same_data(path, probe, report) and own.keys() & read_comparable(path, probe)
    ]
    return ProbeScores(
        probe=probe,
        precision=str(report["precision"]),
        seeds=int(report["seeds"]),
        data=str(report["data"]),
        rows=rows,
        sum=total({row.task: {"score": row.score} for row in rows}),
        notes=[*report.get("notes", []), *_notes(submission, probe, report, comparable)],
        against=[_against(path, probe, own, rows) for path in comparable] if own else [],
        board=as_json(_board(submission, probe, report)),
        published=published,
        slices=slices or dict(report.get("slices") or {}),
    )


def _row(task: str, entry: dict[str, Any], own: Scored | None, ceiling: dict[str, Any]) -> TaskRow:
    return TaskRow(
        task=task,
        score=entry.get("mean", entry["score"]),
        auroc=entry["auroc"],
        novelty=entry["novelty"],
        diversity=entry["diversity"],
        empty_labels=entry["labels_without_positives"],
        error=own.half_width if own else None,
        ceiling=ceiling.get("score"),
        ceiling_auroc=ceiling.get("auroc"),
        epochs=list(entry.get("epochs") or []),
        undefined=str(entry.get("undefined", "")),
    )


def _same_data(path: Path, probe: str, report: dict[str, Any]) -> bool:
    other = read_scores(path).get(probe)
    return other is not None and other.get("targets") == report.get("targets") and bool(read_comparable(path, probe))


def _notes(submission: Path, probe: str, report: dict[str, Any], others: Sequence[Path]) -> list[str]:
    """What a reader of these numbers should know besides what the probe said."""
    notes = []
    if int(report["seeds"]) > 1:
        notes.append(
            "scores are means over the runs; AUROC, novelty, diversity, gap and cohorts are of the official seed."
        )
    if (moved := moved_on(report)) is not None:
        notes.append(moved)
    for path in others:
        notes += notes_on({submission.name: report, path.name: read_scores(path)[probe]})
    return notes


def _against(path: Path, probe: str, own: dict[Task, Scored], rows: list[TaskRow]) -> Against:
    other, entries = read_scored(path, probe), read_scores(path)[probe]["tasks"]
    common = [task for task in own if task in other]
    gains = {}
    for task in common:
        found = compare(own[task], other[task])
        gains[task.name] = Gain(found.difference, *found.interval, found.verdict)
    aurocs = {task.name: float(entries[task.name]["auroc"]) for task in common}
    gap = {}
    for row in rows:
        base, best = aurocs.get(row.task), row.ceiling_auroc
        if base is not None and best is not None and row.auroc is not None and best > base:
            gap[row.task] = (row.auroc - base) / (best - base)
    scores = {task.name: other[task].score for task in common}
    six = any(task.in_challenge for task in common)
    return Against(path.name, scores, aurocs, gains, total_gain(own, other) if six else None, gap)


def total_gain(own: dict[Task, Scored], other: dict[Task, Scored]) -> Gain:
    """The difference of the sums over the challenge's tasks that both have."""
    common = [task for task in own if task in other and task.in_challenge]
    found = compare(*(together([side[task] for task in common]) for side in (own, other)))
    return Gain(found.difference, *found.interval, found.verdict)


def _board(submission: Path, probe: str, report: dict[str, Any]) -> list[Row]:
    """The board of the submission's own folder; empty where it would stand alone."""
    home = submission.resolve()
    places = submissions_on(home.parent, Path(str(report["data"])), probe)
    found = [path for path, place in places.items() if place == places.get(home)]
    found, _ = comparable(found, probe)
    return rank(found, probe) if len(found) > 1 and home in found else []
