"""Probe `centroid`: how near a client lies to those who bought in the first window."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kit.probes.registry import Options, TaskRun, Vectors, probe
from kit.tasks.labels import TaskData

Values = NDArray[np.float32]


@probe("centroid", "Nearest centroid: no training, blind to seeds.")
def centroid(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Logits are the products of standardised vectors with the mean of each label's positives."""
    runs = []
    for data in tasks:
        began = time.perf_counter()
        rows, weights = fitted(vectors, data)
        logits = (rows @ weights).astype(np.float32)
        metrics = data.task.metric.evaluate(logits, data.validation, data.popularity, threads=options.threads)
        kept = logits if options.keep_logits else None
        seconds = time.perf_counter() - began
        runs += [TaskRun(data.task, seed, (metrics,), seconds, kept) for seed in options.seed_numbers()]
        options.tell(runs, [data.task])
    return runs


def fitted(vectors: Vectors, data: TaskData) -> tuple[Values, Values]:
    """Standardised rows of the task's clients (m, d), and the mean of each label's positives (d, L)."""
    rows = np.asarray(vectors[data.rows], dtype=np.float32)
    rows = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-3)
    positives = np.maximum(np.asarray(data.train.sum(axis=0)), 1.0)
    return rows, (data.train.T @ rows).T / positives
