"""Batches of (client, item) pairs for the convolution, with shared negatives and, on large graphs, sampled neighbourhoods."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from kit.models.graph.convolution import PairBatch, SparseRows, offsets
from kit.models.graph.edges import Edges, Graph
from kit.models.graph.sampler import NeighbourSampler, Sample
from kit.models.graph.twhin import WeightedSampler, end_sampler
from kit.models.negatives import SamplerSettings


def pair_batches(
    graph: Graph,
    relations: Sequence[str],
    *,
    pairs: int,
    negatives: int,
    steps: int,
    seed: int,
    sampler: NeighbourSampler | None = None,
    negative: SamplerSettings | None = None,
) -> Callable[[int], Sequence[Callable[[], PairBatch]]]:
    """epoch → batches of (client, item) drawn in proportion to weight, with shared negatives among the items
    that anybody touched.

    Args:
        graph: what to draw from.
        relations: client relations whose edges are positives; batches alternate between their item types.
        pairs: positives per batch.
        negatives: shared per batch.
        steps: batches per epoch.
        seed: batch i of epoch e is a function of (seed, e, i).
        sampler: sample neighbourhoods rather than convolve the whole graph.
        negative: what draws negatives; None = half of them uniform, half the batch's own.
    """
    first = offsets(graph)
    names = [name for name in relations if len(graph.edges[name])]
    kinds = sorted({graph.relations[name].tail for name in names})
    parts = {kind: _pooled(graph, [n for n in names if graph.relations[n].tail == kind]) for kind in kinds}
    samplers = {kind: WeightedSampler(part.weight) for kind, part in parts.items()}
    wrong = {kind: end_sampler(negative, part.tail, part.weight) for kind, part in parts.items()}

    def draw(epoch: int, index: int) -> PairBatch:
        rng = np.random.default_rng([seed, epoch, index])
        kind = kinds[index % len(kinds)]
        chosen = samplers[kind].draw(rng, pairs)
        client, item = parts[kind].head[chosen].astype(np.int64), parts[kind].tail[chosen].astype(np.int64)
        others = wrong[kind].draw(rng, item, negatives) + first[kind]
        item = item + first[kind]
        if sampler is None:
            return PairBatch(torch.from_numpy(client), torch.from_numpy(item), torch.from_numpy(others))
        seeds = np.unique(np.concatenate([client, item, others]))
        return _sampled(sampler.sample(seeds, rng), seeds, client, item, others)

    def epoch_batches(epoch: int) -> Sequence[Callable[[], PairBatch]]:
        return [lambda index=index: draw(epoch, index) for index in range(steps)]  # type: ignore[misc]

    return epoch_batches


def _pooled(graph: Graph, names: Sequence[str]) -> Edges:
    parts = [graph.edges[name] for name in names]
    return Edges(
        np.concatenate([part.head for part in parts]),
        np.concatenate([part.tail for part in parts]),
        np.concatenate([part.weight for part in parts]),
    )


def _sampled(
    sample: Sample,
    seeds: NDArray[np.int64],
    client: NDArray[np.int64],
    item: NDArray[np.int64],
    negative: NDArray[np.int64],
) -> PairBatch:
    """Positions among the seeds, and the hops as torch matrices."""
    ends = [torch.from_numpy(np.searchsorted(seeds, part)) for part in (client, item, negative)]
    hops = tuple((SparseRows.of(hop.matrix), torch.from_numpy(hop.own)) for hop in sample.hops)
    return PairBatch(ends[0], ends[1], ends[2], torch.from_numpy(sample.nodes), hops)
