"""Negatives from the batch: a part uniform over the pool, the rest other positives of the batch.

Technique F3.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from kit.models.negatives.base import Floats, Int64s, NegativeSampler, SamplerSettings, sampler


class BatchSettings(SamplerSettings):
    """How many are uniform."""

    kind: Literal["batch"] = "batch"
    uniform: float = Field(0.5, ge=0, le=1, description="Share drawn uniformly from all; the rest from the batch.")


@sampler
class BatchNegatives(NegativeSampler):
    """`uniform` · count over the pool, rounded down, then the batch's own."""

    kind: ClassVar[str] = "batch"
    description: ClassVar[str] = "A share uniform, the rest the batch's own positives."
    Settings: ClassVar[type[SamplerSettings]] = BatchSettings

    def draw(self, rng: np.random.Generator, positives: Int64s, count: int) -> Int64s:
        """See NegativeSampler."""
        uniformly = int(count * cast(BatchSettings, self.settings).uniform)
        drawn = self.pool[rng.integers(0, len(self.pool), uniformly)].astype(np.int64)
        return np.concatenate([drawn, positives[rng.integers(0, len(positives), count - uniformly)]])

    def chance(self) -> Floats:
        """The batch's own come as often as positives do."""
        share = cast(BatchSettings, self.settings).uniform
        return share / len(self.pool) + (1 - share) * self.frequency()
