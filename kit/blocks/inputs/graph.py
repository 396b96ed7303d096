"""Input `graph`: vectors of a graph encoder that was fitted at the earliest cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from kit.blocks.graph import GraphFeatures
from kit.blocks.inputs.base import Floats, Input, Kept, input_of
from kit.blocks.twhin import TwHINBlock
from kit.history import History
from kit.limits.need import Counts, Need
from kit.store import write_json


@input_of
class GraphInput(Input):
    """What the block's `graph` settings give, float32 (n, dim); NaN for clients without edges."""

    kind: ClassVar[str] = "graph"

    def fit(self, pasts: Sequence[History], scratch: Kept) -> list[Floats]:
        """Tables fitted at the earliest cut know nobody's future at any of the cuts; clients are embedded from their edges."""
        self.graph = GraphFeatures(TwHINBlock(self.block.graph, self.seed))
        self.graph.block.scratch = scratch and scratch / "graph"
        self.graph.fit(pasts[-1])
        return [self.arrays(past) for past in pasts]

    def arrays(self, history: History) -> Floats:
        """From edges before the cut."""
        return self.graph.clients(history, history.clients)

    def save(self, folder: Path) -> None:
        """The encoder's files, and the cut of its fit."""
        self.graph.block.save(folder)
        write_json(folder / "cut.json", self.graph.cut.isoformat())

    def load(self, folder: Path) -> None:
        """The encoder as it was fitted."""
        self.graph = GraphFeatures(TwHINBlock(self.block.graph, self.seed))
        self.graph.block.load(folder)
        self.graph.cut = datetime.fromisoformat(json.loads((folder / "cut.json").read_text(encoding="utf-8")))

    def need(self, learners: Counts, some: Counts) -> tuple[Need, Need]:
        """As the block `twhin`; to embed some clients is little beside it."""
        fitted = TwHINBlock(self.block.graph, self.seed).need(learners)
        return fitted, replace(fitted, memory=0, floor=0, disk=0)
