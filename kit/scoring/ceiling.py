"""The ceiling of a synthetic shop: the scores of a prediction made from the generator's own probabilities.

It knows the tastes and rates at the cut of clients who came more than once, and of the others what history shows: of those who
came once the posterior of both (`kit.data.shop.posterior`), of those who never came their group's mean. Whether somebody has left
and what else is hidden enters as a posterior for all (`belief`, `expect`). Written beside the data: `ceiling.json` and the
probabilities, which can be sent through a probe as a profile.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.data.layout import CEILING_VERSION, DataFolder
from kit.data.shop.evidence import seen_cells
from kit.data.shop.predict import Targets, predict
from kit.data.shop.truth import FOLDER, Truth, load_truth
from kit.data.targets import CHALLENGE_LISTS
from kit.errors import KitError
from kit.progress import stage
from kit.tasks import CHALLENGE, Task
from kit.tasks.labels import UndefinedTask, load_targets, load_task, targets_digest

PROBABILITIES: Final = "ceiling_probabilities.npz"
HOW: Final = (
    "Analytic expectation of the generating process in the validation window, given tastes, rates and restock rhythm at the "
    "cut of clients who came more than once; of those who came once, tastes and rates enter as the posterior that their visit "
    "allows. Whether a silent client has left, and what else history does not show, enters as a posterior; changes after the "
    "cut are averaged over; clients without history share one prediction."
)


def write_ceiling(root: Path) -> None:
    """Score the near-optimal prediction of a split synthetic folder; writes ceiling.json and truth/ceiling_probabilities.npz.

    Raises:
        KitError: the folder is not split, was not made by `kit data synth`, or was made for windows of another length: the truth
            was kept at another day.
    """
    folder = DataFolder(root)
    folder.require_split()
    truth = load_truth(root)
    if truth.days != (length := folder.split().days):
        raise KitError(
            f"{root} is split into windows of {length} days, and its truth was kept for windows of {truth.days}.",
            f"Make a shop with `kit data synth DIR --days {length}` for a ceiling.",
        )
    with stage("ceiling"):
        ids, chances = ceiling_probabilities(folder, truth)
        tasks = {task.name: _score(folder, task, ids, chances[task.name]) for task in CHALLENGE}
    _save(root / FOLDER / PROBABILITIES, ids, chances)
    sampled = len(ids) < truth.preset.relevant
    result = {
        "version": CEILING_VERSION,
        "preset": truth.preset.name,
        "seed": truth.seed,
        "days": truth.days,
        "how": HOW + (f" Computed on {len(ids)} of {truth.preset.relevant} relevant clients." if sampled else ""),
        "clients": len(ids),
        "targets": targets_digest(folder),
        "tasks": tasks,
    }
    part = folder.ceiling.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(folder.ceiling)


def ceiling_probabilities(folder: DataFolder, truth: Truth) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
    """Sorted client ids (n,) and per task (n, labels) probabilities; churn and conversion: of no purchase."""
    lists = {name: load_targets(folder.targets(name)) for name in CHALLENGE_LISTS if folder.targets(name).exists()}
    chances = predict(truth, Targets.of(truth.catalogue, lists), seen_cells(folder, truth))
    order = np.argsort(truth.clients.id)
    return truth.clients.id[order], {task: values[order] for task, values in chances.items()}


def as_logits(chances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities as logits, away from infinity."""
    safe = np.clip(chances.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(safe / (1 - safe)).astype(np.float32)


def _score(folder: DataFolder, task: Task, ids: NDArray[np.int64], chances: NDArray[np.float32]) -> dict[str, Any]:
    """The task's metrics in the shape of ceiling.json; a task that the folder cannot define says why."""
    try:
        data = load_task(task, ids, folder)
    except UndefinedTask as undefined:
        return {"undefined": undefined.reason}
    return asdict(task.metric.evaluate(as_logits(chances[data.rows]), data.validation, data.popularity))


def _save(path: Path, ids: NDArray[np.int64], chances: dict[str, NDArray[np.float32]]) -> None:
    """client_ids int64 (n,) and one float32 (n, labels) array per task, named as the task."""
    part = path.with_suffix(".part.npz")
    arrays: dict[str, Any] = dict(chances)
    np.savez_compressed(part, client_ids=ids, **arrays)
    part.replace(path)
