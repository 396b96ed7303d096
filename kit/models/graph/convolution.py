"""LightGCN (He et al. 2020, arXiv 2002.02126) on clients, items and their side nodes.

    E⁽ˡ⁺¹⁾ = D^−½ A D^−½ E⁽ˡ⁾,    final vector = mean over layers 0 … L,    trained by BPR or sampled softmax

All relations are poured into one weighted, undirected graph. Clients have no vector of their own at layer 0: what a client is
follows from its edges, so a new client, or a known one at another cut, is embedded by the very formula of training. Small
graphs are convolved whole; large ones by sampled neighbourhoods (`sampler`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch_geometric.nn import MessagePassing

from kit.models.graph.edges import CLIENT, Edges, Graph
from kit.models.losses import PairLoss, PairScores, make_loss
from kit.models.losses.softmax import SoftmaxSettings

INITIAL = 0.1
"""Standard deviation of fresh item vectors."""
DENSE_ROWS = 200_000
"""Tables of more rows take row-sparse gradients where neighbourhoods are sampled: a batch meets few of them."""


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
        loss: of positives against the shared negatives.
        temperature: scores are divided by it.
        l2: weight of the mean squared norm of a batch's convolved vectors (the paper's penalty is on E⁽⁰⁾; clients have none
            here). 0 leaves it out.
    """

    def __init__(
        self,
        clients: int,
        others: int,
        dim: int,
        layers: int,
        adjacency: sparse.csr_matrix | None,
        *,
        loss: PairLoss | None = None,
        temperature: float = 1.0,
        l2: float = 0.0,
    ) -> None:
        super().__init__()
        self.clients, self.layers = clients, layers
        self.loss = loss or make_loss(SoftmaxSettings())
        self.temperature, self.l2 = temperature, l2
        self.table = nn.Parameter(torch.randn(others, dim) * INITIAL)
        self.convolve = Convolution()
        self.sparse = adjacency is None and others > DENSE_ROWS
        self.rows = None if adjacency is None else SparseRows.of(adjacency, symmetric=True)

    def inputs(self, nodes: Tensor | None = None) -> Tensor:
        """Layer 0: zeros for clients, own vectors for the others; of all nodes or of those given."""
        if nodes is None:
            return torch.cat([self.table.new_zeros(self.clients, self.table.shape[1]), self.table])
        known = nodes >= self.clients
        places = (nodes - self.clients).clamp(min=0)
        found = embedding(places, self.table, sparse=True) if self.sparse else self.table[places]
        return found * known[:, None]

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
        """The loss of a batch under its kind, plus the norm penalty if there is one."""
        final = self.sampled(batch) if batch.nodes is not None else torch.stack(self.propagate()).mean(dim=0)
        client, item, negative = final[batch.client], final[batch.item], final[batch.negative]
        positive = (client * item).sum(dim=1) / self.temperature
        wrong = client @ negative.T / self.temperature
        same = batch.item[:, None] == batch.negative
        terms = {self.loss.kind: self.loss(PairScores(positive, wrong, same))}
        if self.l2:
            terms["l2"] = self.l2 * (item.square().sum(dim=1).mean() + client.square().sum(dim=1).mean())
        return terms


@dataclass(frozen=True)
class Convolved:
    """What training leaves behind, for all nodes but the clients.

    Attributes:
        final: float32 (nodes, d), mean of E⁽⁰⁾ … E⁽ᴸ⁾.
        passed: float32 (nodes, d), D^−½ (E⁽⁰⁾ + … + E⁽ᴸ⁻¹⁾) / (L + 1): what a node passes on to a new client.
        first: node type → its first row in both.
        sizes: node type → number of nodes.
    """

    final: NDArray[np.float32]
    passed: NDArray[np.float32]
    first: Mapping[str, int]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, table: NDArray[np.float32], graph: Graph, layers: int) -> Convolved:
        """Convolve trained item vectors over the whole graph, by SciPy row after row."""
        clients = graph.sizes[CLIENT]
        matrix, root = normalised(joint_adjacency(graph))
        level = np.concatenate([np.zeros((clients, table.shape[1]), dtype=np.float32), table])
        total = level.copy()
        below = np.zeros_like(level)
        for _ in range(layers):
            below += level
            level = np.asarray(matrix @ level, dtype=np.float32)
            total += level
        first = {kind: start - clients for kind, start in offsets(graph).items() if kind != CLIENT}
        share = np.float32(1 / (layers + 1))
        passed = below[clients:] * root[clients:, None] * share
        return cls(total[clients:] * share, passed, first, dict(graph.sizes))

    def of_type(self, kind: str) -> NDArray[np.float32]:
        """Final vectors of a node type, float32 (size, d)."""
        return self.final[self.first[kind] : self.first[kind] + self.sizes[kind]]

    def embed_clients(self, edges: Mapping[str, Edges], tails: Mapping[str, str], count: int) -> NDArray[np.float32]:
        """Final vectors of `count` clients from their edges alone, float32 (count, d); NaN for clients without edges.

        Args:
            edges: client relation → edges, tails numbered within their types as at the fit.
            tails: relation → tail's node type.
            count: number of clients.
        """
        size, d = self.passed.shape
        mixed = sparse.csr_matrix((count, size), dtype=np.float32)
        for name, part in edges.items():
            shifted = Edges(part.head, part.tail + self.first[tails[name]], part.weight)
            mixed = mixed + shifted.matrix(count, size)
        degree = np.asarray(mixed.sum(axis=1, dtype=np.float64)).ravel()
        known = degree > 0
        found = np.full((count, d), np.nan, dtype=np.float32)
        found[known] = np.asarray(mixed @ self.passed)[known] / np.sqrt(degree[known])[:, None]
        return found
