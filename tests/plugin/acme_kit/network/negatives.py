"""A negative sampler: the most frequent ones alone, which a recommender confuses most easily."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from kit.models.negatives import NegativeSampler, SamplerSettings, sampler


class PopularSettings(SamplerSettings):
    kind: Literal["popular"] = "popular"
    among: int = Field(20, ge=1, description="How many of the most frequent are drawn from.")


@sampler
class Popular(NegativeSampler):
    kind: ClassVar[str] = "popular"
    description: ClassVar[str] = "Uniform over the most frequent."
    Settings: ClassVar[type[SamplerSettings]] = PopularSettings

    def top(self) -> np.ndarray:
        return np.argsort(-self.frequency(), kind="stable")[: cast(PopularSettings, self.settings).among]

    def draw(self, rng: np.random.Generator, positives: np.ndarray, count: int) -> np.ndarray:
        return self.pool[rng.choice(self.top(), count)].astype(np.int64)

    def chance(self) -> np.ndarray:
        chance = np.zeros(len(self.pool))
        chance[self.top()] = 1 / len(self.top())
        return chance
