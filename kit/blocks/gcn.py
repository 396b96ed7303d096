"""Block `gcn`: LightGCN on clients, products, urls and their side nodes.

Technique C2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from kit.blocks.base import block
from kit.blocks.graph import GraphBlock, GraphSettings
from kit.blocks.sizes import graph_size
from kit.claims import Claim
from kit.errors import require_known
from kit.limits.need import Counts, Need, matrix
from kit.models.checkpoint import TrainReport
from kit.models.graph.convolution import (
    Convolved,
    LightGCN,
    joint_adjacency,
    normalised,
)
from kit.models.graph.edges import CLIENT, RELATIONS, Edges, Graph
from kit.models.graph.pairs import pair_batches
from kit.models.graph.sampler import NeighbourSampler
from kit.models.losses import AnyLoss, LossSettings, make_loss
from kit.models.losses.bpr import BPRSettings
from kit.models.losses.softmax import uncorrected
from kit.models.negatives import AnySampler
from kit.models.negatives.batch import BatchSettings
from kit.models.training import TrainSettings, train, unvalidated
from kit.recipe import Strict

WHOLE = 4_000_000
"""Graphs of at most so many stored weights are convolved whole by default."""


class GCNSettings(GraphSettings):
    """Settings of the convolution."""

    layers: int = Field(3, ge=1, le=6)
    mode: Literal["auto", "whole", "sampled"] = Field("auto", description="auto: whole up to 4 million weights.")
    fanout: int = Field(8, ge=1, description="Neighbours drawn per node and layer when sampled.")
    positives: tuple[str, ...] = Field(("buys", "carts", "visits"), description="Client relations to predict.")
    batch: int = Field(8192, ge=2, description="Positive pairs per step.")
    negatives: int = Field(512, ge=2, description="Shared negatives per step.")
    steps: int = Field(12, ge=1, description="Steps per epoch.")
    sampler: AnySampler = Field(BatchSettings(), description="What draws negatives.")
    objective: AnyLoss = Field(BPRSettings(), description="Loss of positives against their negatives.")
    temperature: float = Field(1.0, gt=0)
    l2: float = Field(0.0, ge=0)
    train: TrainSettings = TrainSettings(epochs=3, lr=0.05, weight_decay=0.0)

    @field_validator("objective")
    @classmethod
    def _uncorrected(cls, objective: LossSettings) -> LossSettings:
        return uncorrected(objective)

    @field_validator("train")
    @classmethod
    def _unvalidated(cls, train: TrainSettings) -> TrainSettings:
        return unvalidated(train)

    @field_validator("positives")
    @classmethod
    def _known(cls, positives: tuple[str, ...]) -> tuple[str, ...]:
        require_known("client relation", positives, [name for name, r in RELATIONS.items() if r.head == CLIENT])
        return positives


@block
class GCNBlock(GraphBlock):
    """Client vectors convolved from their items', float32 (n, dim); NaN for clients without edges."""

    kind = "gcn"
    description = "Graph convolution (LightGCN) over clients, products, urls, categories, prices and codes."
    prefix = "gcn"
    Settings: ClassVar[type[Strict]] = GCNSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim("communities", margin=0.04, twin={"train": {"lr": 1e-9}}, given={"dim": 8, "layers": 2, "steps": 6}),
    )

    def learn(self, graph: Graph) -> TrainReport | None:
        """Sampled softmax or BPR on clients' items."""
        settings = cast(GCNSettings, self.settings)
        positives = [name for name in settings.positives if name in graph.relations and len(graph.edges[name])]
        if not positives:
            return None
        adjacency, _ = normalised(joint_adjacency(graph))
        whole = settings.mode == "whole" or (settings.mode == "auto" and adjacency.nnz <= WHOLE)
        sampler = None if whole else NeighbourSampler(adjacency, [settings.fanout] * settings.layers)
        torch.manual_seed(self.seed)
        clients = graph.sizes[CLIENT]
        model = LightGCN(
            clients, adjacency.shape[0] - clients, settings.dim, settings.layers, adjacency if whole else None,
            loss=make_loss(settings.objective), temperature=settings.temperature, l2=settings.l2,
        )  # fmt: skip
        batches = pair_batches(
            graph, positives, pairs=settings.batch, negatives=settings.negatives, steps=settings.steps,
            seed=self.seed, sampler=sampler, negative=settings.sampler,
        )  # fmt: skip
        size = lambda batch: len(batch.client)  # noqa: E731
        report = train(
            model, batches, settings.train, seed=self.seed, name=self.kind, size=size, checkpoint=self.checkpoint()
        )
        self.convolved = Convolved.of(model.table.detach().cpu().numpy(), graph, settings.layers)
        self.tails = {name: relation.tail for name, relation in graph.relations.items()}
        return report

    def need(self, counts: Counts) -> Need:
        """As for all graph blocks, and the symmetric adjacency: twice every edge (12), as it was, made symmetric, normalised
        and for torch (20); and when it is convolved whole, every layer's vectors and their gradients."""
        settings, base = cast(GCNSettings, self.settings), super().need(counts)
        size = graph_size(counts, settings.edges)
        weights = 2 * (size.edges + size.catalogue)
        whole = settings.mode == "whole" or (settings.mode == "auto" and weights <= WHOLE)
        levels = (
            2 * (settings.layers + 1) if whole else 3
        )  # after training it is convolved whole, three levels at a time
        more = weights * (3 * 12 + 20) + levels * matrix(size.nodes + counts.clients, settings.dim)
        return replace(base, memory=base.memory + more, floor=base.floor + more)

    def embed(self, edges: Mapping[str, Edges], count: int) -> NDArray[np.float32]:
        """See `Convolved.embed_clients`."""
        return self.convolved.embed_clients(edges, self.tails, count)

    def nodes(self, kind: str) -> NDArray[np.float32]:
        """Convolved vectors of a node type."""
        return self.convolved.of_type(kind)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Final vectors by node type, and `passed`, what nodes pass on to clients: the types one after the other."""
        finals = {kind: self.nodes(kind) for kind in self.convolved.first}
        return {**finals, "passed": self.convolved.passed}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """The convolved vectors."""
        passed = arrays.pop("passed")
        sizes = {kind: len(vectors) for kind, vectors in arrays.items()}
        ends = np.cumsum(list(sizes.values()))
        first = {kind: int(end) - size for (kind, size), end in zip(sizes.items(), ends, strict=True)}
        self.convolved = Convolved(np.concatenate(list(arrays.values())), passed, first, sizes)
        relations = cast(GCNSettings, self.settings).edges.relations()
        self.tails = {name: relation.tail for name, relation in relations.items()}
