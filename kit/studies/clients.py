"""A map of clients: two axes from their vectors, coloured by what they did in the scored window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from kit.challenge import PRICE_BUCKETS
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.studies.health import sample_rows
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE, Task
from kit.tasks.labels import UndefinedTask, load_targets, load_task

MOST: Final = 1_500
"""Clients drawn: more would only cover each other."""
TOP: Final = 4
"""Categories with a colour of their own."""
Method = Literal["pca", "umap"]
Coloured = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Panel:
    """The map coloured by one task.

    Attributes:
        task: which.
        groups: name → mask (m,) of the drawn clients, in drawing order (the last lies on top); no client is in two.
        muted: the group that is background: those who did nothing, or do not take part.
        ordered: whether the groups are steps of one scale rather than kinds.
    """

    task: Task
    groups: Coloured
    muted: str
    ordered: bool = False


@dataclass(frozen=True)
class ClientMap:
    """Positions and panels.

    Attributes:
        points: (m, 2), each axis scaled to [0, 1], 0.2 % of outliers on either side clamped.
        method: how the axes were made.
        explained: share of the variance on each axis; empty for UMAP.
        panels: one per defined task.
    """

    points: NDArray[np.float64]
    method: Method
    explained: tuple[float, ...]
    panels: tuple[Panel, ...]


def client_map(submission: Submission, folder: DataFolder, method: Method = "pca") -> ClientMap:
    """Project a sample of the submission's clients and label them by the validation window.

    Raises:
        KitError: UMAP is wanted and not installed.
    """
    vectors, clients = submission.contents.vectors, submission.contents.ids
    assert vectors is not None and clients is not None, "looked at before"
    rows = sample_rows(len(vectors), MOST)
    points, explained = project(np.asarray(vectors[rows], dtype=np.float32), method)
    panels = []
    for task in CHALLENGE:
        try:
            panels.append(_panel(task, folder, clients, rows))
        except UndefinedTask:
            continue
    return ClientMap(points, method, explained, tuple(panels))


def project(wide: NDArray[np.float32], method: Method) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Two coordinates in [0, 1] per row, and the share of the variance that each axis holds (PCA only)."""
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError as error:
            raise KitError("UMAP is not installed.", "pip install 'kit[umap]', or leave --map out for PCA.") from error
        flat = np.asarray(UMAP(random_state=0, n_jobs=1).fit_transform(wide), dtype=np.float64)
        explained: tuple[float, ...] = ()
    else:
        axes = PCA(min(2, *wide.shape), svd_solver="full" if wide.shape[1] < 64 else "randomized", random_state=0)
        flat = np.zeros((len(wide), 2))
        found = axes.fit_transform(wide.astype(np.float64))
        flat[:, : found.shape[1]] = found
        explained = tuple(float(value) for value in axes.explained_variance_ratio_)
    low, high = np.quantile(flat, 0.002, axis=0), np.quantile(flat, 0.998, axis=0)
    return np.clip((flat - low) / np.maximum(high - low, 1e-12), 0, 1), explained


def _panel(task: Task, folder: DataFolder, clients: NDArray[np.int64], rows: NDArray[np.int64]) -> Panel:
    data = load_task(task, clients, folder)
    position = np.full(len(clients), -1)
    position[data.rows] = np.arange(len(data.rows))
    here = position[rows]
    takes_part = here >= 0
    labels = sp.csr_matrix((len(rows), data.width), dtype=np.float32).tolil()
    labels[takes_part] = data.validation[here[takes_part]]
    matrix = labels.tocsr()
    bought = np.asarray(matrix.sum(axis=1)).ravel() > 0
    no, yes = task.words
    if task.column is None:
        return Panel(task, _one_label(task, takes_part, bought), yes if task.absent else no)
    targets = load_targets(folder.targets(task.name))
    if task.shown == "which":
        return Panel(task, _top_labels(task, matrix, targets), no)
    if task.shown == "how much":
        return Panel(task, _price_steps(task, matrix, targets), no, ordered=True)
    return Panel(task, {no: ~bought, yes: bought}, no)


def _one_label(task: Task, takes_part: NDArray[np.bool_], label: NDArray[np.bool_]) -> Coloured:
    """Those who did nothing first: they lie below."""
    no, yes = task.words
    groups = {no: takes_part & ~label, yes: takes_part & label}
    ordered = {name: groups[name] for name in ((yes, no) if task.absent else (no, yes))}
    return ({"never bought before": ~takes_part} if (~takes_part).any() else {}) | ordered


def _top_labels(task: Task, matrix: sp.csr_matrix, targets: NDArray[np.int64]) -> Coloured:
    """The TOP labels with most buyers, each client under the first that it bought; others; none."""
    counts = np.asarray(matrix.sum(axis=0)).ravel()
    top = np.lexsort((np.arange(len(counts)), -counts))[:TOP]
    free = np.ones(matrix.shape[0], dtype=np.bool_)
    named: Coloured = {}
    for label in top[counts[top] > 0]:
        mine = free & (matrix[:, [label]].toarray().ravel() > 0)
        named[f"{task.column} {targets[label]}"] = mine
        free &= ~mine
    bought = np.asarray(matrix.sum(axis=1)).ravel() > 0
    return {task.words[0]: ~bought, task.words[1]: bought & free, **named}


def _price_steps(task: Task, matrix: sp.csr_matrix, targets: NDArray[np.int64]) -> Coloured:
    """Thirds of the price scale by the mean bucket bought."""
    count = np.asarray(matrix.sum(axis=1)).ravel()
    mean = (matrix @ targets.astype(np.float64)) / np.maximum(count, 1)
    third = PRICE_BUCKETS / 3
    step = np.minimum((mean // third).astype(int), 2)
    names = ("cheap third", "middle third", "dear third")
    return {task.words[0]: count == 0} | {name: (count > 0) & (step == k) for k, name in enumerate(names)}
