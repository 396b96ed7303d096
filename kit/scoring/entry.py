"""A task's entry in a report of scores, and what else comes out of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kit.probes.registry import Explanation, TaskRun
from kit.scoring.cohorts import Masks, slice_scores
from kit.scoring.results import Influence
from kit.tasks.influence import area_influence
from kit.tasks.labels import TaskData

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


def part_of(
    data: TaskData, runs: Sequence[TaskRun], clients: NDArray[np.int64], masks: Masks | None, *, reordered: bool
) -> EntryPart:
    """What the runs of a task come to; cohorts and influences are of the first, which has the official seed.

    Args:
        data: the task's labels.
        runs: with their predictions kept.
        clients: (n,) ids in the order of the vectors.
        masks: of cohorts; None where there is no history to make them from.
        reordered: whether the runs after the first read the rows in other orders.
    """
    first = runs[0]
    entry = entry_of(runs, reordered=reordered) | {"slices": _slices(masks, data, first)}
    return EntryPart(entry, _influence(data, first, clients), first.explanation, _area(data, first, clients))


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


def _slices(masks: Masks | None, data: TaskData, run: TaskRun) -> dict[str, dict[str, dict[str, Any]]] | None:
    """Scores within cohorts, from the official seed's run; None where there is no history to make cohorts from."""
    return None if masks is None or run.logits is None else slice_scores(masks, data, run.logits)


def _influence(data: TaskData, run: TaskRun, client_ids: NDArray[np.int64]) -> Influence:
    """Ids of the task's clients, sorted, and what each adds to the score."""
    if run.logits is None:
        raise ValueError(f"the probe kept no predictions for {data.task.name}")
    clients = client_ids[data.rows]
    order = np.argsort(clients)
    return clients[order], data.task.metric.influence(run.logits, data.validation, data.popularity)[order]


def _area(data: TaskData, run: TaskRun, client_ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """What each client adds to the AUROC, in the order of `_influence`: what a score of three terms does not say."""
    if run.logits is None or not data.task.metric.spreads:
        return None
    order = np.argsort(client_ids[data.rows])
    return area_influence(run.logits, data.validation)[order].astype(np.float32)


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 6)
