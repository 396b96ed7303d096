"""TwHIN: translating embeddings of a typed graph (El-Kishky et al. 2022, arXiv 2202.05387).

    f(s, r, t) = (θ_s + θ_r) · θ_t        L = −Σ_edges [ log σ(f) + ½ Σ_sides mean_negatives log σ(−f') ]

Negatives corrupt the tail or the head with a node that stands at that end of some edge of the relation (so a product never
bought is not taught that nobody wants it), half of them uniform, half the batch's own ends; the translation is part of their
score too. All edges of a relation in a batch share their negatives, so that scoring them is one
matrix product per side. (The public release labels negatives 1 and cuts the translations' gradient: tests hold us apart.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from kit.models.graph.edges import CLIENT, Graph
from kit.models.negatives import NegativeSampler, SamplerSettings, make_sampler
from kit.models.negatives.batch import BatchSettings

INITIAL = 0.1
"""Standard deviation of fresh vectors: scores start near 0."""


@dataclass(frozen=True)
class RelationBatch:
    """Positive edges of one relation and the negatives that they share, int64 node numbers.

    Attributes:
        head, tail: (b,) ends of the positives.
        heads, tails: (k,) corrupting heads and tails, of the relation's own node types.
        share: this relation's part of the batch's loss.
    """

    head: Tensor
    tail: Tensor
    heads: Tensor
    tails: Tensor
    share: float

    def to(self, device: torch.device) -> RelationBatch:
        """The same on a device."""
        ends = [part.to(device) for part in (self.head, self.tail, self.heads, self.tails)]
        return RelationBatch(ends[0], ends[1], ends[2], ends[3], self.share)


Batch = dict[str, RelationBatch]


class TwHIN(nn.Module):
    """Vectors per node type and one translation per relation.

    Args:
        graph: node types, sizes and relations.
        dim: d, length of a vector.
        l2: weight of the mean squared norm of a batch's vectors.
    """

    def __init__(self, graph: Graph, dim: int, l2: float = 0.0) -> None:
        super().__init__()
        self.l2 = l2
        self.relations = dict(graph.relations)
        self.position = {name: row for row, name in enumerate(self.relations)}
        used = {end for relation in self.relations.values() for end in (relation.head, relation.tail)}
        self.tables = nn.ModuleDict(
            {kind: nn.Embedding(size, dim, sparse=True) for kind, size in graph.sizes.items() if kind in used}
        )
        for kind in self.tables:
            nn.init.normal_(self.table(kind).weight, std=INITIAL)
        self.translations = nn.Parameter(torch.zeros(len(self.relations), dim))

    def table(self, kind: str) -> nn.Embedding:
        """The vectors of a node type."""
        return cast(nn.Embedding, self.tables[kind])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of each relation in the batch, times its share."""
        return {name: part.share * self.loss(name, part) for name, part in batch.items()}

    def loss(self, name: str, batch: RelationBatch) -> Tensor:
        """Mean logistic loss of positives plus, per side, of their negatives; a negative equal to the positive's own end is
        no negative and left out."""
        relation, shift = self.relations[name], self.translations[self.position[name]]
        table_head, table_tail = self.table(relation.head), self.table(relation.tail)
        head, tail = table_head(batch.head), table_tail(batch.tail)
        shifted = head + shift
        positive = softplus(-(shifted * tail).sum(dim=1)).mean()
        wrong_tail = _negatives(shifted, table_tail(batch.tails), _same(batch.tail, batch.tails))
        wrong_head = _negatives(tail, table_head(batch.heads) + shift, _same(batch.head, batch.heads))
        total: Tensor = positive + 0.5 * (wrong_tail + wrong_head)
        if self.l2:
            total = total + self.l2 * (head.square().sum(dim=1).mean() + tail.square().sum(dim=1).mean())
        return total

    def vectors(self) -> dict[str, NDArray[np.float32]]:
        """Node type → float32 (size, d), and `translation` → float32 (relations, d); clients' training rows are left out."""
        kept: dict[str, Tensor] = {kind: self.table(kind).weight for kind in self.tables if kind != CLIENT}
        arrays = {**kept, "translation": self.translations}
        return {key: value.detach().cpu().numpy().copy() for key, value in arrays.items()}


class _SoftplusOfProduct(torch.autograd.Function):
    """Σ softplus(X Yᵀ), remembering σ(X Yᵀ): half the passes over the matrix that autograd would take."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:  # noqa: ANN401
        scores = (left @ right.T).float()
        total = softplus(scores).sum()
        ctx.save_for_backward(left, right, scores.sigmoid_())
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        left, right, slope = ctx.saved_tensors
        return (slope @ right) * gradient, (slope.T @ left) * gradient


def _negatives(left: Tensor, right: Tensor, same: tuple[Tensor, Tensor]) -> Tensor:
    """Mean softplus of all scores left · right (b, k), without the pairs `same` (rows, columns)."""
    rows, columns = same
    excess = softplus((left[rows] * right[columns]).sum(dim=1)).sum()
    total: Tensor = _SoftplusOfProduct.apply(left, right)  # type: ignore[no-untyped-call]
    return (total - excess) / max(len(left) * len(right) - len(rows), 1)


def _same(ends: Tensor, corrupt: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) of the pairs with ends[row] == corrupt[column]: a join by sorting, without a (b, k) comparison."""
    ordered, order = torch.sort(ends)
    first = torch.searchsorted(ordered, corrupt)
    count = torch.searchsorted(ordered, corrupt, right=True) - first
    columns = torch.repeat_interleave(torch.arange(len(corrupt), device=ends.device), count)
    starts = torch.repeat_interleave(first - (torch.cumsum(count, 0) - count), count)
    return order[starts + torch.arange(len(columns), device=ends.device)], columns


def edge_batches(
    graph: Graph, *, edges: int, negatives: int, steps: int, seed: int, sampler: SamplerSettings | None = None
) -> Callable[[int], Sequence[Callable[[], Batch]]]:
    """epoch → batches: every one holds edges of all relations, drawn in proportion to weight.

    A relation's share of a batch goes with the root of its total weight, so that page views do not drown purchases.

    Args:
        graph: what to draw from.
        edges: positives per batch, over all relations.
        negatives: shared corruptions per relation and side.
        steps: batches per epoch.
        seed: batch i of epoch e is a function of (seed, e, i).
        sampler: what draws corruptions, among nodes that stand at that end of some edge of the relation; None = half of them
            uniform, half the batch's own.
    """
    names = graph.trained
    roots = np.sqrt([float(graph.edges[name].weight.sum(dtype=np.float64)) for name in names])
    shares = roots / roots.sum() if len(names) else roots
    samplers = [WeightedSampler(graph.edges[name].weight) for name in names]
    corrupt = [
        tuple(
            end_sampler(sampler, end, graph.edges[name].weight)
            for end in (graph.edges[name].head, graph.edges[name].tail)
        )
        for name in names
    ]

    def draw(epoch: int, index: int) -> Batch:
        rng = np.random.default_rng([seed, epoch, index])
        batch = {}
        for name, share, positives, (heads, tails) in zip(names, shares, samplers, corrupt, strict=True):
            part = graph.edges[name]
            chosen = positives.draw(rng, max(2, round(edges * share)))
            head, tail = part.head[chosen].astype(np.int64), part.tail[chosen].astype(np.int64)
            wrong = heads.draw(rng, head, negatives), tails.draw(rng, tail, negatives)
            ends = [torch.from_numpy(end) for end in (head, tail, *wrong)]
            batch[name] = RelationBatch(ends[0], ends[1], ends[2], ends[3], float(share))
        return batch

    def epoch_batches(epoch: int) -> Sequence[Callable[[], Batch]]:
        return [lambda index=index: draw(epoch, index) for index in range(steps)]  # type: ignore[misc]

    return epoch_batches


def end_sampler(
    settings: SamplerSettings | None, ends: NDArray[np.int32], weight: NDArray[np.float32]
) -> NegativeSampler:
    """A sampler of the nodes that stand at one end of some edges; `frequency` is by the edges' weights."""
    pool = np.unique(ends)

    def frequency() -> NDArray[np.float64]:
        total = np.bincount(np.searchsorted(pool, ends), weights=weight, minlength=len(pool))
        share: NDArray[np.float64] = total / total.sum()
        return share

    return make_sampler(settings or BatchSettings(), pool, frequency)


class WeightedSampler:
    """Draws positions in proportion to weights, by inversion of the cumulative sum: O(log n) a draw."""

    def __init__(self, weight: NDArray[np.float32]) -> None:
        self.cumulative = np.cumsum(weight, dtype=np.float64)

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """int64 (count,) positions, with replacement."""
        points = rng.random(count) * self.cumulative[-1]
        # Looked up in rising order: over tens of millions of edges every step is a cache miss otherwise.
        order = np.argsort(points)
        drawn = np.empty(count, dtype=np.int64)
        drawn[order] = np.searchsorted(self.cumulative, points[order], side="right")
        return np.minimum(drawn, len(self.cumulative) - 1)
