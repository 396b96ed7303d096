"""Block `twhin`: translating embeddings of the client–product–url–code graph.

Technique C1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from kit.blocks.base import block
from kit.blocks.graph import GraphBlock, GraphSettings
from kit.claims import Claim
from kit.models.checkpoint import TrainReport
from kit.models.graph.edges import CLIENT, Edges, Graph
from kit.models.graph.inductive import Tables, embed_heads
from kit.models.graph.twhin import TwHIN, edge_batches
from kit.models.negatives import AnySampler
from kit.models.negatives.batch import BatchSettings
from kit.models.optim import RowAdagrad
from kit.models.training import LoopSettings, train, unvalidated
from kit.recipe import Strict


class TwHINSettings(GraphSettings):
    """Settings of the translating embeddings."""

    batch: int = Field(8192, ge=2, description="Positive edges per step, over all relations.")
    negatives: int = Field(256, ge=2, description="Shared corruptions per relation and side.")
    sampler: AnySampler = Field(BatchSettings(), description="What draws corruptions.")
    passes: float = Field(1.0, gt=0, description="Edges drawn per epoch, as a multiple of the clients' edges.")
    l2: float = Field(
        0.1,
        ge=0,
        description="Weight of the mean squared norm of a batch's vectors; 0 overfits, 0.25 collapses the table.",
    )
    ridge: float = Field(
        100.0, gt=0, description="Pull of a client's vector towards 0: the more, the more edges it takes."
    )
    train: LoopSettings = LoopSettings(epochs=3, lr=0.3, clip=100.0)
    """Its optimiser is row-wise Adagrad, which has no weight decay and no other way to move rows."""

    @field_validator("train")
    @classmethod
    def _unvalidated(cls, train: LoopSettings) -> LoopSettings:
        return unvalidated(train)


@block
class TwHINBlock(GraphBlock):
    """Client vectors from a TwHIN graph embedding, float32 (n, dim); NaN for clients without edges."""

    kind = "twhin"
    description = "Translating graph embeddings (TwHIN) over buys, carts, removes, visits, searches and the catalogue."
    prefix = "twhin"
    Settings: ClassVar[type[Strict]] = TwHINSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim("communities", margin=0.08, twin={"train": {"lr": 1e-9}}, given={"dim": 8}),
    )

    def learn(self, graph: Graph) -> TrainReport | None:
        """Row-wise Adagrad on batches of edges of all relations."""
        settings = cast(TwHINSettings, self.settings)
        observed = sum(len(graph.edges[n]) for n in graph.trained if graph.relations[n].head == CLIENT)
        if observed == 0:
            return None
        steps = max(1, round(settings.passes * observed / settings.batch))
        torch.manual_seed(self.seed)
        model = TwHIN(graph, settings.dim, settings.l2)
        report = train(
            model,
            edge_batches(
                graph,
                edges=settings.batch,
                negatives=settings.negatives,
                steps=steps,
                seed=self.seed,
                sampler=settings.sampler,
            ),
            settings.train,
            seed=self.seed,
            name=self.kind,
            size=lambda batch: sum(len(part.head) for part in batch.values()),
            checkpoint=self.checkpoint(),
            optimizer=RowAdagrad(model.parameters(), lr=settings.train.lr),
        )
        self.tables = Tables.of(model, graph)
        return report

    def embed(self, edges: Mapping[str, Edges], count: int) -> NDArray[np.float32]:
        """See `embed_heads`."""
        return embed_heads(self.tables, edges, count, ridge=cast(TwHINSettings, self.settings).ridge)

    def nodes(self, kind: str) -> NDArray[np.float32]:
        """Trained vectors of a node type."""
        return self.tables.vectors[kind]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Tables by node type, `to_<relation>` translations, and `of_<relation>`, float64: its tails' shares."""
        shifts = {f"to_{name}": shift for name, shift in self.tables.translations.items()}
        shares = {f"of_{name}": share for name, share in self.tables.popular.items()}
        return {**self.tables.vectors, **shifts, **shares}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """The tables."""
        relations = cast(TwHINSettings, self.settings).edges.relations()
        shifts, popular = (
            {name: arrays.pop(f"{what}_{name}") for name in relations if f"{what}_{name}" in arrays}
            for what in ("to", "of")
        )
        self.tables = Tables(arrays, shifts, {name: relations[name].tail for name in popular}, popular)
