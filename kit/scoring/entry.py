"""A task's entry in a report of scores, and what else comes out of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kit.probes.registry import Explanation, TaskRun
from kit.scoring.cells import ScoredRun
from kit.scoring.results import Influence

Entries: TypeAlias = dict[str, dict[str, Any]]
FIELDS: Final = ("score", "auroc", "novelty", "diversity", "auroc_defined", "labels_without_positives")


@dataclass(frozen=True)
class EntryPart:
    """A task's entry in the report, what each client adds, and what the margins are made of, if that was asked for.

    Attributes:
        area: (m,) what each of the clients of `influence` adds to the AUROC, where the score is more than that; else None.
    """

    entry: dict[str, Any]
    influence: Influence
    explanation: Explanation | None
    area: NDArray[np.float32] | None = None


Parts: TypeAlias = dict[str, EntryPart]


def part_of(runs: Sequence[ScoredRun], *, reordered: bool) -> EntryPart:
    """What the runs of a task come to; cohorts and influences are of the first, which has the official seed.

    Args:
        runs: in the order of their seeds.
        reordered: whether the runs after the first read the rows in other orders.
    """
    first = runs[0]
    entry = entry_of([scored.run for scored in runs], reordered=reordered) | {"slices": first.slices}
    return EntryPart(entry, (first.clients, first.each), first.explanation, first.area)


def entry_of(runs: Sequence[TaskRun], *, reordered: bool = False) -> dict[str, Any]:
    """The entry of a scored task: the run with the official seed, and the spread over seeds if there are several."""
    first = runs[0]
    entry: dict[str, Any] = {name: _rounded(getattr(first.best, name)) for name in FIELDS}
    entry["score"] = round(first.best.score, 4)  # as the evaluator rounds
    entry["epochs"] = [_rounded(epoch.score) for epoch in first.epochs]
    entry["seconds"] = round(sum(run.seconds for run in runs), 2)
    if len(runs) > 1:
        scores = np.array([run.best.score for run in runs])
        entry["reordered"] = reordered
        entry["per_seed"] = {str(run.seed): _rounded(run.best.score) for run in runs}
        entry["mean"] = _rounded(float(scores.mean()))
        entry["standard_error"] = _rounded(float(scores.std(ddof=1) / np.sqrt(len(scores))))
    return entry


def undefined_entry(reason: str) -> dict[str, Any]:
    """The entry of a task that this data cannot define."""
    return dict.fromkeys((*FIELDS, "epochs", "seconds", "slices")) | {
        "undefined": f"not defined here, because {reason}"
    }


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 6)
