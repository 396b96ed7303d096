"""Part `graph`: vectors of a graph encoder that was fitted at the earliest cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from kit.models.batch import CombinedBatch
from kit.models.parts.base import Part, PartSettings, part
from kit.models.sequence import ClientEncoder


@part
class GraphPart(Part):
    """Graph vectors, normalised; a learned vector for clients without edges."""

    kind: ClassVar[str] = "graph"
    description: ClassVar[str] = "Vectors of the graph encoder."

    def __init__(self, dim: int, columns: Mapping[str, int], settings: PartSettings) -> None:
        super().__init__(dim, columns, settings)
        width = columns.get(self.kind, 0)
        self.norm = nn.LayerNorm(width)
        self.sized(width)

    def forward(self, batch: CombinedBatch, client: ClientEncoder) -> Tensor:
        """(B, g)."""
        graph = batch.inputs[self.kind]
        known = ~torch.isnan(graph).any(dim=1, keepdim=True)
        return torch.where(known, self.norm(graph.nan_to_num()), self.absent)
