"""What a negative sampler is: ids drawn from a pool, and how likely each of them was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from kit.kinds import OneOf, register
from kit.recipe import Strict
from kit.registry import Registry

Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]


class SamplerSettings(Strict):
    """What every sampler's settings have; each kind adds its own."""

    kind: str


class NegativeSampler(ABC):
    """Draws what positives compete with.

    Args:
        settings: its own.
        pool: ids that may be drawn, ascending (c,).
        frequency: when called, how often each of them is a positive, float64 (c,), summing to 1.

    Attributes:
        kind: name in recipes.
        description: one line.
        Settings: its settings, with `kind: Literal[…]`.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[SamplerSettings]]

    def __init__(self, settings: SamplerSettings, pool: NDArray[Any], frequency: Callable[[], Floats]) -> None:
        self.settings, self.pool, self.frequency = settings, pool, frequency

    @abstractmethod
    def draw(self, rng: np.random.Generator, positives: Int64s, count: int) -> Int64s:
        """`count` ids for a batch whose positives have the ids `positives`, shared by all of them."""

    @abstractmethod
    def chance(self) -> Floats:
        """With which probability each id of the pool is drawn, (c,): what corrections need. Zero is allowed."""


SAMPLERS: Registry[type[NegativeSampler]] = Registry("negative sampler", "kit.models.negatives")
AnySamplerType = TypeVar("AnySamplerType", bound=type[NegativeSampler])


def sampler(cls: AnySamplerType) -> AnySamplerType:
    """Class decorator that registers a sampler under its `kind`."""
    return register(SAMPLERS, cls)


AnySampler = Annotated[SamplerSettings, OneOf(SAMPLERS)]
"""A setting that is one of the samplers."""


def make_sampler(settings: SamplerSettings, pool: NDArray[Any], frequency: Callable[[], Floats]) -> NegativeSampler:
    """The sampler that `settings.kind` names.

    Raises:
        KitError: unknown kind.
    """
    return SAMPLERS.loaded()[settings.kind](settings, pool, frequency)
