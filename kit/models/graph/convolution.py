"""LightGCN (He et al. 2020, arXiv 2002.02126) on clients, items and their side nodes.

    E⁽ˡ⁺¹⁾ = D^−½ A D^−½ E⁽ˡ⁾,    final vector = mean over layers 0 … L,    trained by BPR or sampled softmax

All relations are poured into one weighted, undirected graph. Clients have no vector of their own at layer 0: what a client is
follows from its edges, so a new client, or a known one at another cut, is embedded by the very formula of training. Small
graphs are convolved whole; large ones by sampled neighbourhoods (`sampler`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid
from torch_geometric.nn import MessagePassing

from kit.models.graph.edges import CLIENT, Edges, Graph
from kit.models.graph.sampler import NeighbourSampler, Sample
from kit.models.graph.twhin import WeightedSampler

INITIAL = 0.1
"""Standard deviation of fresh item vectors."""
Objective = Literal["bpr", "softmax"]


def offsets(graph: Graph) -> dict[str, int]:
    """Node type → number of its first node in the joint numbering; clients come first."""
    kinds = [CLIENT, *(kind for kind in graph.sizes if kind != CLIENT)]
    ends = np.cumsum([graph.sizes[kind] for kind in kinds])
    return {kind: int(end) - graph.sizes[kind] for kind, end in zip(kinds, ends, strict=True)}


def joint_adjacency(graph: Graph) -> sparse.csr_matrix:
    """Symmetric weights of all relations together, CSR float32 (nodes, nodes); parallel edges add up."""
    first, size = offsets(graph), sum(graph.sizes.values())
    rows, columns, weights = [], [], []
    for name, edges in graph.edges.items():
        relation = graph.relations[name]
        rows.append(edges.head + first[relation.head])
        columns.append(edges.tail + first[relation.tail])
        weights.append(edges.weight)
    empty: list[Any] = [np.empty(0, dtype=np.int64)]
    row, column = np.concatenate(rows or empty), np.concatenate(columns or empty)
    half = sparse.csr_matrix((np.concatenate(weights or empty).astype(np.float32), (row, column)), shape=(size, size))
    whole: sparse.csr_matrix = (half + half.T).tocsr()
    whole.sort_indices()
    return whole


def normalised(adjacency: sparse.csr_matrix) -> tuple[sparse.csr_matrix, NDArray[np.float32]]:
    """D^−½ A D^−½ with D = weighted degrees, and D^−½ itself (n,); 0 for nodes without edges."""
    degree = np.asarray(adjacency.sum(axis=1, dtype=np.float64)).ravel()
    root = np.zeros_like(degree)
    np.divide(1.0, np.sqrt(degree), out=root, where=degree > 0)
    scaled: sparse.csr_matrix = (sparse.diags(root) @ adjacency @ sparse.diags(root)).tocsr().astype(np.float32)
    scaled.sort_indices()
    return scaled, root.astype(np.float32)


def as_torch(matrix: sparse.csr_matrix) -> Tensor:
    """A SciPy CSR matrix as torch sparse CSR float32."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data.astype(np.float32)),
            size=matrix.shape,
            check_invariants=False,  # SciPy's matrices are sound
        )


class _Multiply(torch.autograd.Function):
    """A @ x with the transpose at hand: autograd would transpose A anew in every backward pass, ten times the cost."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transpose: Tensor, x: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(transpose)
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:  # noqa: ANN401
        (transpose,) = ctx.saved_tensors
        return None, None, transpose @ gradient


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix of torch with its transpose (the same object if symmetric)."""

    matrix: Tensor
    transpose: Tensor

    @classmethod
    def of(cls, matrix: sparse.csr_matrix, *, symmetric: bool = False) -> SparseRows:
        """From SciPy."""
        forward = as_torch(matrix)
        return cls(forward, forward if symmetric else as_torch(matrix.T.tocsr()))

    def to(self, device: torch.device) -> SparseRows:
        """The same on a device."""
        return SparseRows(self.matrix.to(device), self.transpose.to(device))


class Convolution(MessagePassing):  # type: ignore[misc]
    """One parameter-free layer: each node's new vector is the weighted sum of its neighbours' (PyG's fused sum path)."""

    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(self, x: Tensor, rows: SparseRows) -> Tensor:
        """x float32 (m, d) → (rows, d)."""
        return self.message_and_aggregate(rows, x)

    def message_and_aggregate(self, edge_index: SparseRows, x: Tensor) -> Tensor:
        """The sparse product."""
        found: Tensor = _Multiply.apply(edge_index.matrix, edge_index.transpose, x)  # type: ignore[no-untyped-call]
        return found


@dataclass(frozen=True)
class PairBatch:
    """Clients, items that they touched, and items shared as negatives, all in joint numbering, int64; and, when sampled, their
    neighbourhood: `nodes` are then the inputs and the three are positions among the sample's seeds."""

    client: Tensor
    item: Tensor
    negative: Tensor
    nodes: Tensor | None = None
    hops: tuple[tuple[SparseRows, Tensor], ...] = ()

    def to(self, device: torch.device) -> PairBatch:
        """The same on a device."""
        hops = tuple((rows.to(device), own.to(device)) for rows, own in self.hops)
        nodes = None if self.nodes is None else self.nodes.to(device)
        return PairBatch(self.client.to(device), self.item.to(device), self.negative.to(device), nodes, hops)


class LightGCN(nn.Module):
    """Item and side-node vectors, convolved with the clients.

    Args:
        clients: number of client nodes: the first of the joint numbering, without vectors of their own.
        others: number of all other nodes.
        dim: d.
        layers: L ≥ 0; 0 is no convolution at all.
        adjacency: normalised, symmetric; None when only sampled batches will come.
        objective: `bpr` = mean −log σ(positive − negative), `softmax` = cross-entropy against the shared negatives.
        temperature: scores are divided by it.
        l2: weight of the mean squared norm of a batch's input vectors.
    """

    def __init__(
        self,
        clients: int,
        others: int,
        dim: int,
        layers: int,
        adjacency: sparse.csr_matrix | None,
        *,
        objective: Objective = "softmax",
        temperature: float = 1.0,
        l2: float = 0.0,
    ) -> None:
        super().__init__()
        self.clients, self.layers, self.objective = clients, layers, objective
        self.temperature, self.l2 = temperature, l2
        self.table = nn.Parameter(torch.randn(others, dim) * INITIAL)
        self.convolve = Convolution()
        self.rows = None if adjacency is None else SparseRows.of(adjacency, symmetric=True)

    def inputs(self, nodes: Tensor | None = None) -> Tensor:
        """Layer 0: zeros for clients, own vectors for the others; of all nodes or of those given."""
        if nodes is None:
            return torch.cat([self.table.new_zeros(self.clients, self.table.shape[1]), self.table])
        known = nodes >= self.clients
        return self.table[(nodes - self.clients).clamp(min=0)] * known[:, None]

    def propagate(self) -> list[Tensor]:
        """E⁽⁰⁾ … E⁽ᴸ⁾ of all nodes, each (nodes, d)."""
        if self.rows is None:
            raise ValueError("whole-graph convolution needs the adjacency")
        levels = [self.inputs()]
        for _ in range(self.layers):
            levels.append(self.convolve(levels[-1], self.rows.to(self.table.device)))
        return levels

    def sampled(self, batch: PairBatch) -> Tensor:
        """Final vectors of the seeds of a sampled batch, (seeds, d): the mean over layers, carried along hop by hop.

        After hop l a node holds E⁽⁰⁾ … E⁽ˡ⁾: the levels are convolved side by side.
        """
        if batch.nodes is None:
            raise ValueError("the batch was not sampled")
        levels = [self.inputs(batch.nodes)]
        for rows, own in batch.hops:
            d = levels[0].shape[1]
            deeper = self.convolve(torch.cat(levels, dim=1), rows).split(d, dim=1)
            levels = [levels[0][own], *deeper]
        return torch.stack(levels).mean(dim=0)

    def forward(self, batch: PairBatch) -> dict[str, Tensor]:
        """The objective on a batch, plus the norm penalty if there is one."""
        final = self.sampled(batch) if batch.nodes is not None else torch.stack(self.propagate()).mean(dim=0)
        client, item, negative = final[batch.client], final[batch.item], final[batch.negative]
        positive = (client * item).sum(dim=1) / self.temperature
        wrong = client @ negative.T / self.temperature
        same = batch.item[:, None] == batch.negative
        if self.objective == "bpr":
            gains = logsigmoid(positive[:, None] - wrong).masked_fill(same, 0.0)
            loss = -gains.sum() / (~same).sum().clamp(min=1)
        else:
            logits = torch.cat([positive[:, None], wrong.masked_fill(same, -torch.inf)], dim=1)
            loss = cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
        terms: dict[str, Tensor] = {self.objective: loss}
        if self.l2:
            terms["l2"] = self.l2 * (item.square().sum(dim=1).mean() + client.square().sum(dim=1).mean())
        return terms


@dataclass(frozen=True)
class Convolved:
    """What training leaves behind.

    Attributes:
        levels: float32 (L + 1, nodes without clients, d): E⁽⁰⁾ … E⁽ᴸ⁾.
        root: float32 (nodes without clients,), D^−½ of the fitted graph.
        first: node type → its first row in `levels`.
        sizes: node type → number of nodes.
    """

    levels: NDArray[np.float32]
    root: NDArray[np.float32]
    first: Mapping[str, int]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, table: NDArray[np.float32], graph: Graph, layers: int) -> Convolved:
        """Convolve trained item vectors over the whole graph, by SciPy row after row."""
        clients = graph.sizes[CLIENT]
        matrix, root = normalised(joint_adjacency(graph))
        level = np.concatenate([np.zeros((clients, table.shape[1]), dtype=np.float32), table])
        levels = [level]
        for _ in range(layers):
            level = np.asarray(matrix @ level, dtype=np.float32)
            levels.append(level)
        first = {kind: start - clients for kind, start in offsets(graph).items() if kind != CLIENT}
        return cls(np.stack(levels)[:, clients:], root[clients:], first, dict(graph.sizes))

    def of_type(self, kind: str) -> NDArray[np.float32]:
        """Final vectors of a node type: the mean over layers 0 … L, float32 (size, d)."""
        rows = slice(self.first[kind], self.first[kind] + self.sizes[kind])
        mean: NDArray[np.float32] = self.levels[:, rows].mean(axis=0)
        return mean

    def embed_clients(self, edges: Mapping[str, Edges], tails: Mapping[str, str], count: int) -> NDArray[np.float32]:
        """Final vectors of `count` clients from their edges alone, float32 (count, d); NaN for clients without edges.

        Args:
            edges: client relation → edges, tails numbered within their types as at the fit.
            tails: relation → tail's node type.
            count: number of clients.
        """
        size, d = self.levels.shape[1:]
        mixed = sparse.csr_matrix((count, size), dtype=np.float32)
        for name, part in edges.items():
            shifted = Edges(part.head, part.tail + self.first[tails[name]], part.weight)
            mixed = mixed + shifted.matrix(count, size)
        degree = np.asarray(mixed.sum(axis=1, dtype=np.float64)).ravel()
        below = self.levels[:-1].sum(axis=0) * self.root[:, None]
        summed = np.asarray(mixed @ below) / np.sqrt(np.maximum(degree, 1e-30))[:, None] / len(self.levels)
        found = np.full((count, d), np.nan, dtype=np.float32)
        found[degree > 0] = summed[degree > 0]
        return found


def pair_batches(
    graph: Graph,
    relations: Sequence[str],
    *,
    pairs: int,
    negatives: int,
    steps: int,
    seed: int,
    sampler: NeighbourSampler | None = None,
) -> Callable[[int], Sequence[Callable[[], PairBatch]]]:
    """epoch → batches of (client, item) drawn in proportion to weight, with shared negatives: half uniform, half the batch's.

    Args:
        graph: what to draw from.
        relations: client relations whose edges are positives; batches alternate between their item types.
        pairs: positives per batch.
        negatives: shared per batch.
        steps: batches per epoch.
        seed: batch i of epoch e is a function of (seed, e, i).
        sampler: sample neighbourhoods rather than convolve the whole graph.
    """
    first = offsets(graph)
    names = [name for name in relations if len(graph.edges[name])]
    kinds = sorted({graph.relations[name].tail for name in names})
    parts = {kind: _pooled(graph, [n for n in names if graph.relations[n].tail == kind]) for kind in kinds}
    samplers = {kind: WeightedSampler(part.weight) for kind, part in parts.items()}

    def draw(epoch: int, index: int) -> PairBatch:
        rng = np.random.default_rng([seed, epoch, index])
        kind = kinds[index % len(kinds)]
        chosen = samplers[kind].draw(rng, pairs)
        item = parts[kind].tail[chosen]
        own = item[rng.integers(0, len(item), negatives - negatives // 2)]
        negative = np.concatenate([rng.integers(0, graph.sizes[kind], negatives // 2), own]) + first[kind]
        client, item = parts[kind].head[chosen], item + first[kind]
        if sampler is None:
            return PairBatch(torch.from_numpy(client), torch.from_numpy(item), torch.from_numpy(negative))
        seeds = np.unique(np.concatenate([client, item, negative]))
        return _sampled(sampler.sample(seeds, rng), seeds, client, item, negative)

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
