"""The graph as flat arrays: node types with sizes, relations with (head, tail, weight) edges. No frames, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

CLIENT: Final = "client"
SKU: Final = "sku"
URL: Final = "url"
CATEGORY: Final = "category"
PRICE: Final = "price"
CODE: Final = "code"
"""Name codes: node m · 256 + c is value c at position m."""
QUERY: Final = "query"
"""Query codes, numbered as name codes are; unused when both share the nodes of CODE."""


@dataclass(frozen=True)
class Relation:
    """A kind of edge and the node types that it joins."""

    name: str
    head: str
    tail: str


RELATIONS: Final[Mapping[str, Relation]] = {
    relation.name: relation
    for relation in (
        Relation("buys", CLIENT, SKU),
        Relation("carts", CLIENT, SKU),
        Relation("removes", CLIENT, SKU),
        Relation("visits", CLIENT, URL),
        Relation("searched", CLIENT, CODE),
        Relation("in_category", SKU, CATEGORY),
        Relation("priced", SKU, PRICE),
        Relation("has_code", SKU, CODE),
    )
}
"""Every relation. With separate query codes the tail of `searched` is QUERY: `Graph.relations` says which."""


@dataclass(frozen=True)
class Edges:
    """Edges of one relation, one row per pair, sorted by head then tail.

    Attributes:
        head, tail: int32 (m,) node numbers within their types; possibly mapped files.
        weight: float32 (m,), > 0.
    """

    head: NDArray[np.int32]
    tail: NDArray[np.int32]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.head)

    def matrix(self, heads: int, tails: int) -> sparse.csr_matrix:
        """Weights as CSR float32 (heads, tails)."""
        starts = np.searchsorted(self.head, np.arange(heads + 1, dtype=self.head.dtype))
        return sparse.csr_matrix((self.weight, self.tail, starts), shape=(heads, tails))


@dataclass(frozen=True)
class Graph:
    """Node counts per type and edges per relation.

    Attributes:
        sizes: node type → number of nodes.
        relations: name → relation, in a fixed order: a relation's position is its translation's row.
        edges: name → edges; a relation without edges has an empty entry.

    Raises:
        ValueError: an edge points outside its node types, or has a weight that is not finite and positive.
    """

    sizes: Mapping[str, int]
    relations: Mapping[str, Relation]
    edges: Mapping[str, Edges]

    def __post_init__(self) -> None:
        for name, edges in self.edges.items():
            relation = self.relations[name]
            for end, kind in ((edges.head, relation.head), (edges.tail, relation.tail)):
                if len(end) and (end.min() < 0 or end.max() >= self.sizes[kind]):
                    raise ValueError(f"{name}: node {end.max()} is outside of the {self.sizes[kind]} of type {kind}")
            if not (np.isfinite(edges.weight).all() and (edges.weight > 0).all()):
                raise ValueError(f"{name}: weights must be finite and positive")

    @property
    def trained(self) -> list[str]:
        """Names of the relations that have edges, in order."""
        return [name for name in self.relations if len(self.edges[name])]
