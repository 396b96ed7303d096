"""What each client adds to a score: the derivative of AUROC, novelty and diversity by the weight of a client.

A score is a function of the weights of the clients (all 1). For AUROC the derivatives are DeLong's structural components (DeLong,
DeLong & Clarke-Pearson 1988). What is made of them: `kit.scoring.statistics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from kit.challenge import NOVELTY_TOP
from kit.tasks.metrics import EPSILON, Matrix, row_chunks, sigmoid

Floats = NDArray[np.float64]


def auroc_influence(scores: NDArray[Any], positives: NDArray[np.integer[Any]]) -> Floats:
    """Derivative of the AUROC by each client's weight, (n,); zeros when a class is empty. Sums to zero.

    Args:
        scores: (n,) any monotone score, ties counting half.
        positives: indices of the positive clients.
    """
    n, count = len(scores), len(positives)
    gradient = np.zeros(n)
    if count in (0, n):
        return gradient
    ordered, own = np.sort(scores), np.sort(scores[positives])
    below_own = (np.searchsorted(own, scores, "left") + np.searchsorted(own, scores, "right")) / 2
    mine = scores[positives]
    below_all = (np.searchsorted(ordered, mine, "left") + np.searchsorted(ordered, mine, "right")) / 2
    wins = (below_all - below_own[positives]) / (n - count)  # share of the negatives that a positive beats
    area = wins.mean()
    gradient[:] = (1 - below_own / count - area) / (n - count)  # share of the positives that beat a negative
    gradient[positives] = (wins - area) / count
    return gradient


def area_influence(logits: NDArray[Any], labels: Matrix) -> Floats:
    """Derivative of the mean AUROC over all labels, (n,).

    Args:
        logits: (n, L) float32.
        labels: (n, L) sparse or dense.
    """
    columns = sp.csc_matrix(labels)
    columns.eliminate_zeros()
    n, width = logits.shape
    area = np.zeros(n)
    for label in range(width):
        positives = columns.indices[columns.indptr[label] : columns.indptr[label + 1]]
        area += auroc_influence(np.ascontiguousarray(logits[:, label]), positives)
    area /= width
    return area


def spread_influences(logits: NDArray[Any], popularity: NDArray[Any]) -> tuple[Floats, Floats]:
    """Derivatives of novelty, (n,), and of diversity times n, (n,).

    Args:
        logits: (n, L) float32.
        popularity: (L,) popularity of each target.
    """
    parts = [(_fame(chances, popularity), _entropy(chances)) for chances in map(sigmoid, row_chunks(logits))]
    fame, entropy = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _novelty_influence(fame), entropy - entropy.mean()


def _fame(chances: NDArray[Any], popularity: NDArray[Any]) -> Floats:
    """m_i of novelty: the popularity of each client's best targets, as a share of the largest possible."""
    k = min(NOVELTY_TOP, len(popularity))
    weights = np.asarray(popularity, dtype=np.float64) / np.sort(popularity)[-k:].sum()
    chosen = np.argpartition(chances, chances.shape[1] - k, axis=1)[:, -k:]
    return np.asarray(np.sum(np.take_along_axis(chances, chosen, axis=1) * weights[chosen], axis=1))


def _novelty_influence(fame: Floats) -> Floats:
    """Novelty is (1 − mean_i m_i)^100, so its derivative is −100 (1 − m̄)^99 (m_i − m̄) / n."""
    return np.asarray(-100 * (1 - fame.mean()) ** 99 * (fame - fame.mean()) / len(fame))


def _entropy(chances: NDArray[Any]) -> Floats:
    """What each client adds to diversity, times n."""
    shares = chances / np.maximum(chances.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(-np.sum(shares * np.log2(shares + EPSILON), axis=1, dtype=np.float64) / np.log2(chances.shape[1]))
