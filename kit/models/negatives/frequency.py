"""Negatives by frequency: a part uniform over the pool, the rest in proportion to how often they are positives.

Technique F3.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from kit.models.negatives.base import Floats, Int64s, NegativeSampler, SamplerSettings, sampler


class FrequencySettings(SamplerSettings):
    """How many are uniform."""

    kind: Literal["frequency"] = "frequency"
    uniform: float = Field(0.5, ge=0, le=1, description="Share drawn uniformly; the rest in proportion to frequency.")


@sampler
class FrequencyNegatives(NegativeSampler):
    """Each draw is uniform with probability `uniform`, else by frequency."""

    kind: ClassVar[str] = "frequency"
    description: ClassVar[str] = "A share uniform, the rest in proportion to frequency."
    Settings: ClassVar[type[SamplerSettings]] = FrequencySettings

    @cached_property
    def cumulative(self) -> Floats:
        """Of the frequencies."""
        return np.cumsum(self.frequency())

    def draw(self, rng: np.random.Generator, positives: Int64s, count: int) -> Int64s:
        """See NegativeSampler; the batch's positives play no part."""
        points = rng.random(count)
        order = np.argsort(points)  # ascending points are found faster: a search goes on where the last one ended
        by_frequency = np.empty(count, dtype=np.int64)
        by_frequency[order] = np.searchsorted(self.cumulative, points[order])
        uniform = rng.integers(len(self.pool), size=count)
        mixed = np.where(rng.random(count) < cast(FrequencySettings, self.settings).uniform, uniform, by_frequency)
        return self.pool[np.minimum(mixed, len(self.pool) - 1)].astype(np.int64)

    def chance(self) -> Floats:
        """That of the mixture actually used."""
        share = cast(FrequencySettings, self.settings).uniform
        return share / len(self.pool) + (1 - share) * self.frequency()
