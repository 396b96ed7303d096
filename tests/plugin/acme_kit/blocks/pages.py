"""Block `pages`: visits counted by a hash of their page."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from acme_kit.hashing import buckets
from kit.blocks.base import Block, BlockOutput, block
from kit.challenge import EventType
from kit.history import History
from kit.recipe import Strict


class PagesSettings(Strict):
    """Settings of the pages block."""

    width: int = Field(16, ge=2, le=512, description="Number of buckets.")


@block
class Pages(Block):
    """Logarithms of counts."""

    kind = "pages"
    description = "Visits by a hash of their page."
    Settings: ClassVar[type[Strict]] = PagesSettings

    def fit(self, history: History) -> Pages:
        """Nothing to learn."""
        return self

    def load(self, folder: Path) -> Pages:
        """Nothing was learned."""
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """float32 (n, width)."""
        width = cast(PagesSettings, self.settings).width
        visits = history.among(clients).events(EventType.VISIT)
        bucket = buckets("url", width).alias("bucket")
        counts = visits.group_by("client_id", bucket).len().sort("client_id", "bucket").collect()
        values = np.zeros((len(clients), width), dtype=np.float32)
        values[np.searchsorted(clients, counts["client_id"]), counts["bucket"]] = np.log1p(counts["len"])
        return BlockOutput(values, tuple(f"page_{i}" for i in range(width)))
