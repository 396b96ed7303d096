"""Placing clients that training never saw: the vector that fits a head's edges best, in closed form, tables fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kit.models.graph.edges import Edges, Graph
from kit.models.graph.twhin import TwHIN


@dataclass(frozen=True)
class Tables:
    """What training leaves behind, enough to place new heads.

    Attributes:
        vectors: node type → float32 (size, d).
        translations: relation name → float32 (d,).
        tails: relation name → its tail's node type.
        popular: relation name → float64 (size,), each tail's share of the relation's weight.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    translations: Mapping[str, NDArray[np.float32]]
    tails: Mapping[str, str]
    popular: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, model: TwHIN, graph: Graph) -> Tables:
        """Tables of a trained model."""
        arrays = model.vectors()
        translations = {name: arrays["translation"][row] for name, row in model.position.items()}
        tails = {name: relation.tail for name, relation in graph.relations.items()}
        popular = {}
        for name, tail in tails.items():
            edges = graph.edges[name]
            weight = np.bincount(edges.tail, weights=edges.weight, minlength=graph.sizes[tail]).astype(np.float64)
            popular[name] = weight / max(float(weight.sum()), 1e-12)
        vectors = {key: value for key, value in arrays.items() if key != "translation"}
        return cls(vectors, translations, tails, popular)

    @cached_property
    def expectations(self) -> dict[str, Expectation]:
        """Per relation with tails: what does not depend on the head, computed once for all ranges of heads."""
        return {name: self._expectation(name) for name, tail in self.tails.items() if len(self.vectors[tail])}

    def _expectation(self, name: str) -> Expectation:
        vectors = self.vectors[self.tails[name]].astype(np.float64)
        popular = self.popular[name]
        drawn = 0.5 * popular + 0.5 * (popular > 0) / max(int((popular > 0).sum()), 1)  # how often each was a negative
        return Expectation(
            mean=drawn @ vectors,
            negative=vectors.T @ (drawn[:, None] * vectors),
            positive=vectors.T @ (popular[:, None] * vectors),
            score=vectors @ self.translations[name].astype(np.float64),
        )

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return len(next(iter(self.translations.values())))


@dataclass(frozen=True)
class Expectation:
    """What the tails of a relation look like.

    Attributes:
        mean: of a negative, float64 (d,).
        negative, positive: second moments of negatives and positives, float64 (d, d).
        score: each tail's product with the translation, float64 (size,).
    """

    mean: NDArray[np.float64]
    negative: NDArray[np.float64]
    positive: NDArray[np.float64]
    score: NDArray[np.float64]


HEADS_AT_ONCE = 4096
"""Heads solved for at a time: (HEADS_AT_ONCE, d, d) float64 is 134 MB at d = 64."""


def embed_heads(tables: Tables, edges: Mapping[str, Edges], count: int, *, ridge: float = 10.0) -> NDArray[np.float32]:
    """Vectors of `count` heads (clients, or skus of the catalogue) from their edges alone, tables fixed.

    Minimises, per head u, the training loss to second order around score 0, with the negatives' expectation in closed form:

        Σ_r [ Σ_e w_e (−x_e/2 + x_e²/8) + W_r E_n (x_n/2 + x_n²/8) ] + ridge/2 ‖θ‖²,   x = (θ + θ_r) · θ_t

    where W_r is u's total weight in relation r, and the positives' second moment is that of the whole relation (pooled, as in
    discriminant analysis). A head's bits depend on its own edges only, not on who else is embedded.

    Args:
        tables: fitted, possibly at another cut.
        edges: relation → edges with head in [0, count), tails numbered as in `tables`.
        count: number of heads.
        ridge: pull towards 0: heads with little evidence stay short.

    Returns:
        float32 (count, d); NaN for heads without any edge.
    """
    d = tables.dim
    right = np.zeros((count, d))
    totals: list[NDArray[np.float64]] = []
    moments: list[NDArray[np.float64]] = []
    for name, part in edges.items():
        vectors = tables.vectors[tables.tails[name]]
        if len(part) == 0 or len(vectors) == 0:
            continue
        shift = tables.translations[name].astype(np.float64)
        expected = tables.expectations[name]
        met, tail = np.unique(part.tail, return_inverse=True)  # a range of heads meets few of the tails
        weights = Edges(part.head, tail.astype(np.int32), part.weight).matrix(count, len(met)).astype(np.float64)
        total = np.asarray(weights.sum(axis=1)).ravel()
        pull = vectors[met].astype(np.float64) * (0.5 - 0.25 * expected.score[met])[:, None]
        right += weights @ pull - total[:, None] * (0.5 * expected.mean + 0.25 * expected.negative @ shift)
        totals.append(total)
        moments.append((expected.positive + expected.negative) / 4)
    found = np.full((count, d), np.nan, dtype=np.float32)
    known = np.flatnonzero(np.sum(totals, axis=0) > 0) if totals else np.empty(0, dtype=np.int64)
    for first in range(0, len(known), HEADS_AT_ONCE):
        rows = known[first : first + HEADS_AT_ONCE]
        left = np.broadcast_to(ridge * np.eye(d), (len(rows), d, d)).copy()
        for total, moment in zip(totals, moments, strict=True):
            left += total[rows, None, None] * moment
        found[rows] = np.linalg.solve(left, right[rows, :, None])[:, :, 0]
    return found
