"""Neighbour sampling for graphs too large to convolve whole: CSR in NumPy, vectorised, seeded.

A layer of LightGCN is a weighted sum over neighbours. Drawing k of them with replacement in proportion to |weight| and giving
each the row's total / k keeps that sum's expectation exact, whatever the degree (importance sampling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Nodes = NDArray[np.int64]


@dataclass(frozen=True)
class Hop:
    """One sampled layer: row i of `matrix` mixes the previous layer's vectors into node i of this layer.

    Attributes:
        matrix: CSR float32 (nodes of this layer, nodes of the layer below).
        own: int64, where the nodes of this layer stand among the nodes of the layer below.
    """

    matrix: sparse.csr_matrix
    own: Nodes


@dataclass(frozen=True)
class Sample:
    """What it takes to convolve `seeds`.

    Attributes:
        nodes: int64, nodes whose input vectors are needed.
        hops: from the inputs to the seeds.
    """

    nodes: Nodes
    hops: tuple[Hop, ...]


class NeighbourSampler:
    """Samples the neighbourhoods of seeds.

    Args:
        adjacency: CSR (n, n) with weights ≥ 0; row i holds what node i receives.
        fanouts: neighbours per node in each layer, seeds first; None takes all of them with their own weights (exact).
    """

    def __init__(self, adjacency: sparse.csr_matrix, fanouts: Sequence[int | None]) -> None:
        if any(fanout is not None and fanout < 1 for fanout in fanouts):
            raise ValueError(f"fanouts must be at least 1, however: {list(fanouts)}")
        self.adjacency, self.fanouts = adjacency, tuple(fanouts)
        self.starts = adjacency.indptr.astype(np.int64)
        self.cumulative = np.concatenate([[0.0], np.cumsum(adjacency.data, dtype=np.float64)])
        self.totals = self.cumulative[self.starts[1:]] - self.cumulative[self.starts[:-1]]

    def sample(self, seeds: Nodes, rng: np.random.Generator) -> Sample:
        """Neighbourhoods of `seeds` (distinct), layer by layer."""
        hops: list[Hop] = []
        nodes = seeds
        for fanout in self.fanouts:
            rows, columns, weights = self._all(nodes) if fanout is None else self._draw(nodes, fanout, rng)
            below = np.union1d(nodes, columns)
            shape = (len(nodes), len(below))
            matrix = sparse.csr_matrix((weights, (rows, np.searchsorted(below, columns))), shape=shape)
            hops.append(Hop(matrix, np.searchsorted(below, nodes)))
            nodes = below
        return Sample(nodes, tuple(reversed(hops)))

    def _all(self, nodes: Nodes) -> tuple[Nodes, Nodes, NDArray[np.float32]]:
        """Every edge of the nodes: (row, neighbour, weight)."""
        chosen = sparse.coo_matrix(self.adjacency[nodes])
        return chosen.row.astype(np.int64), chosen.col.astype(np.int64), chosen.data.astype(np.float32)

    def _draw(self, nodes: Nodes, fanout: int, rng: np.random.Generator) -> tuple[Nodes, Nodes, NDArray[np.float32]]:
        """`fanout` draws per node by inversion of the row's stretch of the cumulative sum; nodes without edges get none."""
        rows = np.flatnonzero(self.totals[nodes] > 0)
        kept = nodes[rows]
        points = self.cumulative[self.starts[kept], None] + rng.random((len(kept), fanout)) * self.totals[kept, None]
        found = np.searchsorted(self.cumulative, points.ravel(), side="right") - 1
        # Rounding may push a point over the end of its row's stretch.
        found = np.clip(found, np.repeat(self.starts[kept], fanout), np.repeat(self.starts[kept + 1] - 1, fanout))
        weights = np.repeat(self.totals[kept] / fanout, fanout).astype(np.float32)
        return np.repeat(rows, fanout), self.adjacency.indices[found].astype(np.int64), weights
