"""What the graph blocks share: vocabulary, edges, inductive client vectors, item vectors. Registers nothing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kit.arrays import read_array, read_arrays
from kit.blocks.base import Block, BlockOutput
from kit.blocks.edges import EdgeSettings, NodeVocabulary, build_graph, build_vocabulary, client_edges
from kit.blocks.sizes import edge_bytes, graph_size
from kit.features.shared import catalogue
from kit.history import History
from kit.limits.need import Counts, Need, matrix
from kit.models.checkpoint import TrainReport, read_report
from kit.models.graph.edges import SKU, Edges, Graph
from kit.recipe import Strict
from kit.store import write_json

CLIENTS_AT_ONCE = 50_000
"""Clients embedded at a time: bounds the memory of their edges."""


class GraphSettings(Strict):
    """Settings that graph blocks share."""

    dim: int = Field(64, ge=1, le=1024, description="Length of a vector.")
    edges: EdgeSettings = EdgeSettings()


class GraphBlock(Block):
    """A graph encoder as a block. Clients are embedded from their edges before the history's cut, by tables that may have been
    fitted at another cut: nothing is kept per client.

    After `fit`: `vocabulary`, `report` (the training's record; None if there was nothing to train on).
    """

    prefix: ClassVar[str]
    vocabulary: NodeVocabulary
    report: TrainReport | None

    def fit(self, history: History) -> GraphBlock:
        """Learn node vectors from the history's graph: its relevant clients' events and the catalogue."""
        settings = cast(GraphSettings, self.settings).edges
        self.vocabulary = build_vocabulary(history, settings)
        self.catalogue = catalogue(history)["sku"].to_numpy()
        self.report = self.learn(build_graph(history, self.vocabulary, settings))
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """Vectors of `clients`, float32 (n, dim); NaN for clients without any edge."""
        columns = tuple(f"{self.prefix}_{i}" for i in range(cast(GraphSettings, self.settings).dim))
        return BlockOutput(self.client_vectors(history, clients), columns)

    def client_vectors(self, history: History, clients: NDArray[np.int64]) -> NDArray[np.float32]:
        """The numbers of `transform`: float32 (n, dim), row i = clients[i] (sorted), edges before history.cut only."""
        settings = cast(GraphSettings, self.settings)
        values = np.full((len(clients), settings.dim), np.nan, dtype=np.float32)
        if self.report is None:
            return values
        for first in range(0, len(clients), CLIENTS_AT_ONCE):
            some = clients[first : first + CLIENTS_AT_ONCE]
            edges = client_edges(history, some, self.vocabulary, settings.edges)
            values[first : first + len(some)] = self.embed(edges, len(some))
        return values

    def item_vectors(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Skus of the catalogue, sorted int64 (m,), and their vectors as known at the cut of the fit, float32 (m, dim).

        A product without events has one from its category, price and codes. All NaN if there was nothing to train on.
        """
        if self.report is None:
            return self.catalogue, np.full((len(self.catalogue), cast(GraphSettings, self.settings).dim), np.nan, "f4")
        return self.catalogue, self.nodes(SKU)[np.searchsorted(self.vocabulary.skus, self.catalogue)]

    def need(self, counts: Counts) -> Need:
        """Edges, vectors of clients and nodes (row-wise optimiser: one number a row more), and their float64 copies while the
        clients are placed."""
        settings = cast(GraphSettings, self.settings)
        size = graph_size(counts, settings.edges)
        making, edges, kept = edge_bytes(counts, size)
        tables = matrix(size.nodes + counts.clients, settings.dim + 1)
        values = matrix(counts.clients, settings.dim)
        placing = matrix(size.nodes, 2 * settings.dim, 8) + matrix(
            min(CLIENTS_AT_ONCE, counts.clients), settings.dim, 8
        )
        memory = max(making, edges + 2 * tables, tables + values + placing)
        disk = values + matrix(size.nodes, settings.dim) + kept
        helps = "`edges.min_clients` higher (fewer nodes), `dim` smaller, an `edges.weights` table without visits"
        return Need(memory, memory, disk, settings.dim, helps)

    def save(self, folder: Path) -> None:
        """skus.npy, urls.npy, categories.npy and catalogue.npy int64; tables.npz; training.json. Nothing per client."""
        for name in ("skus", "urls", "categories"):
            np.save(folder / f"{name}.npy", getattr(self.vocabulary, name))
        np.save(folder / "catalogue.npy", self.catalogue)
        if self.report is not None:
            np.savez(folder / "tables.npz", **self.arrays())  # type: ignore[arg-type]
            timeless = {key: value for key, value in self.report.as_json().items() if "second" not in key}
            write_json(folder / "training.json", timeless)

    def load(self, folder: Path) -> GraphBlock:
        """Nodes and tables; clients are placed by their edges, as `transform` always does."""
        ids = {name: read_array(folder / f"{name}.npy") for name in ("skus", "urls", "categories", "catalogue")}
        self.catalogue = ids.pop("catalogue")
        self.vocabulary = NodeVocabulary(**ids)
        self.report = None
        if (folder / "tables.npz").exists():
            self.report = TrainReport(**read_report(folder / "training.json"))
            self.restore(read_arrays(folder / "tables.npz"))
        return self

    @abstractmethod
    def learn(self, graph: Graph) -> TrainReport | None:
        """Train on a graph; None if it has no edges to train on."""

    @abstractmethod
    def embed(self, edges: Mapping[str, Edges], count: int) -> NDArray[np.float32]:
        """Vectors of `count` clients from their edges, NaN without edges; a row's bits depend on its own edges alone."""

    @abstractmethod
    def nodes(self, kind: str) -> NDArray[np.float32]:
        """Vectors of a node type, float32 (size, dim)."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned, by name, for `save`."""

    @abstractmethod
    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave."""


class GraphFeatures:
    """Graph vectors for a network on top: tables fitted once at an early cut, clients embedded at any cut from then on.

        graph = GraphFeatures(TwHINBlock(TwHINSettings(), seed)).fit(early)
        graph.clients(later, later.clients)    # float32 (n, dim), NaN for clients without edges before later.cut
        graph.items()                          # skus int64 (m,), float32 (m, dim): the whole catalogue

    Args:
        block: an unfitted graph block.
    """

    def __init__(self, block: GraphBlock) -> None:
        self.block = block

    def fit(self, early: History) -> GraphFeatures:
        """Learn the tables from what was known before early.cut."""
        self.block.fit(early)
        self.cut = early.cut
        return self

    def clients(self, history: History, clients: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of `clients` (sorted) from their edges before history.cut, float32 (n, dim).

        Raises:
            ValueError: the history's cut lies before the cut of the fit: its vectors would know its future.
        """
        if history.cut < self.cut:
            raise ValueError(f"tables fitted at {self.cut} know the future of a history cut at {history.cut}")
        return self.block.client_vectors(history, clients)

    def items(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The catalogue's skus, sorted, and their vectors as known at the cut of the fit; cold products included."""
        return self.block.item_vectors()
