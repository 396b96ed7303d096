"""Logistic ridge on random features: what a wide network learns in a given number of steps, in closed form.

Features are those of the official network before its first step: its input layer and LayerNorm, and GELU units behind them.
AdamW's normalised steps of rate η through batches of B clients move a weight by about η √B / σ for each unit of expected
gradient, σ = √(p (1 − p)) being the noise of one client's gradient; T such steps reach the directions of the features that a
ridge penalty of 1 / (η √B T σ) per client leaves standing. So the penalty is given by the official number of steps and each
label's rate, not chosen. Outputs are one Newton step of a logistic regression from the base rate: logits, as the score wants.

Closed form knows no order of rows, and no step size of the input layer: a profile that is punished for either is not punished
here. Where this ranks as the official probe does, these do not matter.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from kit.probes.mlp import BATCH, BLOCK, EPOCHS
from kit.probes.network import LEARNING_RATE, OFFICIAL, Network, Shape, build
from kit.probes.registry import Options, TaskRun, Vectors
from kit.tasks.labels import TaskData

Floats = NDArray[np.float64]
UNITS: Final = 512
"""Random units of each of the two kinds."""
FEW: Final = 0.5
"""Positives added to every label, and clients without, so that the base rate is never 0 or 1."""


def ridge(vectors: Vectors, tasks: Sequence[TaskData], options: Options, units: int = UNITS) -> list[TaskRun]:
    """A TaskRun with one epoch per task and seed; `units` of each kind of feature. Tasks on the same clients share all work."""
    runs: dict[tuple[int, int], TaskRun] = {}
    for seed in options.seed_numbers():
        network = build(vectors.shape[1], 1, Shape(units, units, blocks=1), seed)
        for group in _same_clients(tasks):
            began = time.perf_counter()
            labels = sp.hstack([tasks[index].train for index in group], format="csr")
            logits = _learn(vectors, tasks[group[0]].rows, labels, network)
            share = (time.perf_counter() - began) / len(group)
            ends = np.cumsum([tasks[index].width for index in group])
            for index, own in zip(group, np.split(logits, ends[:-1], axis=1), strict=True):
                runs[index, seed] = _run_of(tasks[index], seed, np.ascontiguousarray(own), share, options)
    return [runs[index, seed] for index in range(len(tasks)) for seed in options.seed_numbers()]


def _same_clients(tasks: Sequence[TaskData]) -> list[list[int]]:
    """Indices of the tasks, grouped by the clients that take part."""
    groups: dict[bytes, list[int]] = {}
    for index, data in enumerate(tasks):
        groups.setdefault(data.rows.tobytes(), []).append(index)
    return list(groups.values())


def _run_of(data: TaskData, seed: int, logits: NDArray[np.float32], seconds: float, options: Options) -> TaskRun:
    began = time.perf_counter()
    metrics = data.task.metric.evaluate(logits, data.validation, data.popularity, threads=options.threads)
    kept = logits if options.keep_logits else None
    return TaskRun(data.task, seed, (metrics,), seconds + time.perf_counter() - began, kept)


def _learn(vectors: Vectors, rows: NDArray[np.int64], labels: sp.csr_matrix, network: Network) -> NDArray[np.float32]:
    """Logits (m, L) of the clients in `rows` (m,), learnt from `labels` (m, L)."""
    count = len(rows)
    starts = range(0, count, BLOCK)
    width = 2 * network.enter.out_features
    gram, total, cross = np.zeros((width, width)), np.zeros(width), np.zeros((width, labels.shape[1]))
    for start in starts:
        features = _features(vectors, rows[start : start + BLOCK], network)
        gram += features.T @ features
        total += features.sum(axis=0, dtype=np.float64)
        cross += labels[start : start + BLOCK].T.dot(features).T
    rate = (np.asarray(labels.sum(axis=0), dtype=np.float64).ravel() + FEW) / (count + 2 * FEW)
    mean = total / count
    covariance = gram / count - np.outer(mean, mean)
    target = cross / count - np.outer(mean, np.asarray(labels.mean(axis=0), dtype=np.float64).ravel())
    weights = _solve(covariance, target, rate, EPOCHS * -(-count // BATCH))
    offset = np.log(rate / (1 - rate)) - mean @ weights
    out = np.empty(labels.shape, dtype=np.float32)
    for start in starts:
        out[start : start + BLOCK] = _features(vectors, rows[start : start + BLOCK], network) @ weights + offset
    return out


def _features(vectors: Vectors, rows: NDArray[np.int64], network: Network) -> NDArray[np.float32]:
    """(len(rows), 2 units) float32, scaled so that their squares add up to what they do in the official network."""
    with torch.no_grad():
        inner = network.enter_norm(network.enter(torch.from_numpy(np.asarray(vectors[rows], dtype=np.float32))))
        outer = F.gelu(network.bottlenecks[0].widen(inner))  # type: ignore[operator]
        joined = torch.cat([inner, outer], dim=1)
    scale = np.sqrt(OFFICIAL.thin / network.enter.out_features)
    return np.asarray(joined.numpy() * np.float32(scale))


def _solve(covariance: Floats, target: Floats, rate: Floats, steps: int) -> Floats:
    """Weights (features, L) in logits for each label's own penalty; see the module's head."""
    values, basis = np.linalg.eigh(covariance)
    variance = rate * (1 - rate)
    penalty = 1 / (LEARNING_RATE * np.sqrt(BATCH) * steps * np.sqrt(variance))
    inside = basis.T @ (target / variance)
    return np.asarray(basis @ (inside / (np.maximum(values, 0.0)[:, None] + penalty)))
