"""The evaluator's metrics: AUROC, novelty and diversity, vectorised and lean in memory; the score made of them: `metric`.

Source: sections 4 and 5 of the challenge contract; the organisers compute AUROC with torchmetrics and the other two with
their own code in float32 (epsilon 1e-9). Logits are (n, L) float32: one row per client, one column per label.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from kit.challenge import NOVELTY_TOP
from kit.errors import KitError

EPSILON: Final = 1e-9
"""The organisers write 10e-10; it sits inside the logarithm of diversity and beside both counts."""
EVALUATOR_BATCH: Final = 128
"""torchmetrics decides once per batch whether it was given logits or probabilities; the evaluator's batches have this size."""
ROWS: Final = 8192
"""Rows handled at a time by novelty and diversity."""
COLUMNS: Final = 8
"""Columns copied at a time by the multi-label AUROC where a row is contiguous; where a column is, none is copied."""

Matrix: TypeAlias = Any
"""(n, L) dense array or scipy.sparse matrix; scipy ships no types."""


def sigmoid(logits: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """1 / (1 + exp(-x)) in the precision of its input: in float32 it reaches exactly 1 above 17, as in the evaluator."""
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def auroc(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Probability that a positive scores above a negative, ties counting half: the area under the ROC curve.

    Args:
        scores: (n,) any monotone score.
        labels: (n,) 1 or True for positives.

    Returns:
        A number in [0, 1], or NaN when there are no positives or no negatives.

    Raises:
        KitError: a score is NaN.
    """
    return _auroc_of(np.asarray(scores), np.flatnonzero(labels))


def auroc_multilabel(
    logits: NDArray[Any],
    labels: Matrix,
    batch: int | None = None,
    threads: int | None = None,
    rows: NDArray[np.integer[Any]] | None = None,
) -> NDArray[np.float64]:
    """AUROC of every label. Exact, by sorting: needs a few numbers per client and thread, whatever the number of labels.

    Args:
        logits: (n, L).
        labels: (n, L) sparse or dense; non-zero marks a positive.
        batch: None ranks the logits themselves; a number ranks what torchmetrics ranks when it is updated with batches
            of that many rows: float32 sigmoids, or the logits where a whole batch lies in [0, 1].
        threads: columns ranked at a time; None for one per core.
        rows: (k,) which rows of the logits to rank, in place of all; labels are then (k, L), and `batch` is None.

    Returns:
        (L,) float64; NaN marks labels without positives or without negatives.
    """
    n, count = logits.shape if rows is None else (len(rows), logits.shape[1])
    if labels.shape != (n, count):
        raise ValueError(f"labels are {labels.shape}, logits are {(n, count)}")
    if rows is not None and batch is not None:
        raise ValueError("batches are made of all rows")
    columns = sp.csc_matrix(labels)
    columns.eliminate_zeros()
    squash = None if batch is None else _given_logits(logits, batch)
    together = 1 if logits.flags.f_contiguous else COLUMNS

    def rank(start: int) -> list[float]:
        block = logits[:, start : start + together].T
        block = np.ascontiguousarray(block) if rows is None else block[:, rows]  # (≤ COLUMNS, n)
        begins = columns.indptr[start : start + len(block) + 1]
        return [
            _auroc_of(_ranked(scores, squash), columns.indices[begins[i] : begins[i + 1]]) if n else float("nan")
            for i, scores in enumerate(block)
        ]

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:  # np.sort releases the lock
        values = [value for block in pool.map(rank, range(0, count, together)) for value in block]
    return np.array(values, dtype=np.float64)


def novelty(logits: NDArray[Any], popularity: NDArray[Any]) -> float:
    """(1 - mean over clients of the popularity of their best targets) to the power of 100.

    Args:
        logits: (n, L).
        popularity: (L,) popularity of each target, in label order. The k = min(10, L) best targets of a client count
            with their probability; the k most popular targets with probability 1 would give 0.
    """
    k = min(NOVELTY_TOP, len(popularity))
    weights = np.asarray(popularity, dtype=np.float64) / np.sort(popularity)[-k:].sum()
    total = 0.0
    for rows in row_chunks(logits):
        chosen = np.argpartition(rows, rows.shape[1] - k, axis=1)[:, -k:]
        total += float(np.sum(sigmoid(np.take_along_axis(rows, chosen, axis=1)) * weights[chosen]))
    return float((1.0 - total / (len(logits) + EPSILON)) ** 100)


def diversity(logits: NDArray[Any]) -> float:
    """Mean over clients of the entropy of their probabilities normalised to sum 1, as a share of the largest possible.

    Args:
        logits: (n, L) with L ≥ 2.
    """
    total = 0.0
    for rows in row_chunks(logits):
        chances = sigmoid(rows)
        sums = chances.sum(axis=1, keepdims=True)
        lost = np.flatnonzero(sums[:, 0] == 0)  # every probability underflows: their ratios are those of exp(logit)
        if len(lost):
            chances[lost] = np.exp(rows[lost] - rows[lost].max(axis=1, keepdims=True))
            sums[lost] = chances[lost].sum(axis=1, keepdims=True)
        shares = chances / sums
        total -= float(np.sum(shares * np.log2(shares + shares.dtype.type(EPSILON)), dtype=np.float64))
    return float(total / ((len(logits) + EPSILON) * np.log2(logits.shape[1])))


def _ranked(scores: NDArray[Any], squash: NDArray[np.bool_] | None) -> NDArray[Any]:
    """What torchmetrics ranks in place of these logits (n,)."""
    if squash is None or not squash.any():
        return scores
    return sigmoid(scores) if squash.all() else np.where(squash, sigmoid(scores), scores)


def _auroc_of(scores: NDArray[Any], positives: NDArray[np.integer[Any]]) -> float:
    """Mann-Whitney by one sort: only the rarer class is looked up in the sorted scores."""
    n, count = len(scores), len(positives)
    if count in (0, n):
        return float("nan")
    ordered = np.sort(scores)
    if np.isnan(ordered[-1]):
        raise KitError(
            f"{int(np.isnan(scores).sum())} of {n} predictions are NaN: the probe diverged.",
            "Look for huge or constant columns in the vectors (`kit validate`).",
        )
    rare = positives
    if count > n - count:
        others = np.ones(n, dtype=np.bool_)
        others[positives] = False
        rare = np.flatnonzero(others)
    chosen = np.sort(scores[rare])
    below = int(np.searchsorted(ordered, chosen, side="left").sum())
    up_to = int(np.searchsorted(ordered, chosen, side="right").sum())
    won = (below + up_to - len(rare) ** 2) / 2  # midranks minus the pairs within the class
    share = won / (len(rare) * (n - len(rare)))
    return share if rare is positives else 1.0 - share


def _given_logits(logits: NDArray[Any], batch: int) -> NDArray[np.bool_]:
    """(n,): whether torchmetrics takes the row's batch for logits, that is, something in it lies outside [0, 1]."""
    n = len(logits)
    if not n:
        return np.zeros(0, dtype=np.bool_)
    outside = np.concatenate([(rows.min(axis=1) < 0) | (rows.max(axis=1) > 1) for rows in row_chunks(logits)])
    starts = np.arange(0, n, batch)
    return np.repeat(np.logical_or.reduceat(outside, starts), batch)[:n]


def row_chunks(logits: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Row blocks of at least float32, a row contiguous: the order of a sum is that of the memory."""
    for start in range(0, len(logits), ROWS):
        rows = np.ascontiguousarray(logits[start : start + ROWS])
        yield rows.astype(np.float32) if rows.dtype == np.float16 else rows
