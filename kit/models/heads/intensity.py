"""Head `intensity`: will there be a purchase, soon, later, again; a cart add?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from kit.challenge import EventType
from kit.errors import require_known
from kit.kinds import Numbers
from kit.limits.need import Counts
from kit.models.batch import CombinedBatch
from kit.models.heads.ahead import Ahead, Int64s
from kit.models.heads.base import Head, HeadShape, Names, Shared, head
from kit.recipe import Strict

INTENSITIES: Final = ("near", "far", "cart", "return")
"""A purchase in the first window after the cut; in the second; a cart add in the first; a purchase in the first by a client who
bought before. Windows are as long as the data folder's target windows (days 1-14 and 15-28 in the challenge)."""


class IntensitySettings(Strict):
    """Weights of its terms."""

    weights: Annotated[dict[str, float], Numbers()] = Field(
        {"near": 1.0, "far": 1.0, "cart": 0.5, "return": 0.5},
        description="Weight of each loss term (before `balance`); 0 leaves it out.",
    )

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        require_known("loss term", weights, INTENSITIES)
        return weights


@dataclass(frozen=True)
class Happened:
    """Whether each of INTENSITIES happened.

    Attributes:
        values: float32 (n, 4).
        known: bool (n, 4), where a label is defined (the far window may reach past the last cut).
    """

    values: NDArray[np.float32]
    known: NDArray[np.bool_]

    def of(self, rows: Int64s) -> dict[str, Tensor]:
        """Tensors of the same names."""
        return {"values": torch.from_numpy(self.values[rows]), "known": torch.from_numpy(self.known[rows])}


@head
class Intensity(Head):
    """One logit per question, by a linear map."""

    kind: ClassVar[str] = "intensity"
    description: ClassVar[str] = "Whether there will be a purchase (soon, later, again) or a cart add."
    Settings: ClassVar[type[Strict]] = IntensitySettings

    def __init__(self, shape: HeadShape, settings: IntensitySettings) -> None:
        super().__init__(shape, settings)
        self.linear = nn.Linear(shape.width, len(INTENSITIES))

    def weights(self) -> dict[str, float]:
        """Of INTENSITIES."""
        return cast(IntensitySettings, self.settings).weights

    def forks(self) -> tuple[str, ...]:
        """One for all terms: they share a linear map."""
        return (self.kind,)

    @classmethod
    def labels(cls, ahead: Ahead, settings: Strict) -> Happened:
        """Labels of INTENSITIES."""
        start = ahead.window.start
        near = ahead.active(EventType.BUY, start, ahead.near_stop)
        far = ahead.active(EventType.BUY, ahead.near_stop, ahead.far_stop)
        carts = ahead.active(EventType.CART, start, ahead.near_stop)
        known = np.full((len(near), len(INTENSITIES)), ahead.whole_near, dtype=bool)
        known[:, INTENSITIES.index("far")] = ahead.whole_far
        known[:, INTENSITIES.index("return")] &= ahead.bought
        return Happened(np.stack([near, far, carts, near], axis=1).astype(np.float32), known)

    def loss(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> dict[str, Tensor]:
        """Binary cross-entropy of every question that a client of the batch defines."""
        labels, terms = batch.labels[self.kind], {}
        logits = self.linear(shared.fork(z, self.kind))
        for column, name in enumerate(INTENSITIES):
            known = labels["known"][:, column]
            if self.weights().get(name, 0) > 0 and bool(known.any()):
                terms[name] = F.binary_cross_entropy_with_logits(logits[known, column], labels["values"][known, column])
        return terms

    def names(self, plan: Any) -> Names:  # noqa: ANN401
        """One forecast per question."""
        return Names(forecasts=tuple(f"forecast_{name}" for name in INTENSITIES))

    def say(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> Tensor:
        """Logits (B, 4) of INTENSITIES."""
        return cast(Tensor, self.linear(z))

    def fill(self, said: Mapping[str, Any], plan: Any) -> tuple[None, Tensor]:  # noqa: ANN401
        """The logits."""
        return None, said[self.kind]

    @classmethod
    def most_columns(cls, settings: Strict, counts: Counts, dim: int) -> int:
        """One per question."""
        return len(INTENSITIES)


def later_rate(said: Mapping[str, Any]) -> Tensor | None:
    """Log of the expected purchases in the second window (B, 1), if the head `intensity` is there: −log P(no purchase) is the
    mean of a Poisson count."""
    logits = said.get(Intensity.kind)
    if logits is None:
        return None
    rate: Tensor = F.softplus(logits[:, INTENSITIES.index("far")]).log()[:, None]
    return rate
