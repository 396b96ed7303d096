"""Head `intensity`: will there be a purchase, soon, later, again; a cart add?

Few cuts know the whole second window: of seven, a week apart, four. So its question begins where that about the first one stands,
and learns the difference (`tied`); and a window that is known in part teaches by that part (`partial`): a client whose expected
purchases in the window are r has none in a share s of it with probability exp(−s^a · r), a learned per question, as purchases are
not spread evenly over the days after a cut.

Technique F9.
"""

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
    tied: bool = Field(
        True, description="The later questions begin as the first one, of the next window, and learn the difference."
    )
    partial: bool = Field(True, description="Learn from windows that are known in part, too.")

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        require_known("loss term", weights, INTENSITIES)
        return weights


TINY: Final = 1e-30


@dataclass(frozen=True)
class Happened:
    """Whether each of INTENSITIES happened.

    Attributes:
        values: float32 (n, 4).
        known: bool (n, 4), where a label is defined (the far window may lie past the last cut).
        share: float32 (4,), which share of the window is known, from its beginning.
    """

    values: NDArray[np.float32]
    known: NDArray[np.bool_]
    share: NDArray[np.float32]

    def of(self, rows: Int64s) -> dict[str, Tensor]:
        """Tensors of the same names."""
        return {
            "values": torch.from_numpy(self.values[rows]),
            "known": torch.from_numpy(self.known[rows]),
            "share": torch.from_numpy(self.share),
        }


@head
class Intensity(Head):
    """One logit per question, by a linear map."""

    kind: ClassVar[str] = "intensity"
    description: ClassVar[str] = "Whether there will be a purchase (soon, later, again) or a cart add."
    Settings: ClassVar[type[Strict]] = IntensitySettings
    scalars = ("spread",)

    def __init__(self, shape: HeadShape, settings: IntensitySettings) -> None:
        super().__init__(shape, settings)
        self.linear = nn.Linear(shape.width, len(INTENSITIES))
        self.tied = settings.tied
        if self.tied:
            nn.init.zeros_(self.linear.weight[1:])
            nn.init.zeros_(self.linear.bias[1:])
        self.spread = nn.Parameter(torch.ones(len(INTENSITIES)))

    def weights(self) -> dict[str, float]:
        """Of INTENSITIES."""
        return cast(IntensitySettings, self.settings).weights

    def forks(self) -> tuple[str, ...]:
        """One for all terms: they share a linear map."""
        return (self.kind,)

    @classmethod
    def labels(cls, ahead: Ahead, settings: Strict) -> Happened:
        """Labels of INTENSITIES."""
        partial = cast(IntensitySettings, settings).partial
        start = ahead.window.start
        near = ahead.active(EventType.BUY, start, ahead.near_stop)
        far = ahead.active(EventType.BUY, ahead.near_stop, ahead.far_stop)
        carts = ahead.active(EventType.CART, start, ahead.near_stop)
        first, second = ahead.shares
        share = np.array([first, second, first, first], dtype=np.float32)
        known = np.tile(share > 0 if partial else share == 1, (len(near), 1))
        known[:, INTENSITIES.index("return")] &= ahead.bought
        return Happened(np.stack([near, far, carts, near], axis=1).astype(np.float32), known, share)

    def logits(self, z: Tensor) -> Tensor:
        """Log-odds that each of INTENSITIES happens in a whole window, (B, 4)."""
        logits: Tensor = self.linear(z)
        return torch.cat([logits[:, :1], logits[:, 1:] + logits[:, :1]], dim=1) if self.tied else logits

    def loss(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> dict[str, Tensor]:
        """Cross-entropy of every question that a client of the batch defines, each over the part of its window that is known."""
        labels, terms = batch.labels[self.kind], {}
        logits = self.logits(shared.fork(z, self.kind))
        for column, name in enumerate(INTENSITIES):
            known, share = labels["known"][:, column], labels["share"][column]
            if self.weights().get(name, 0) > 0 and bool(known.any()):
                seen, happened = logits[known, column], labels["values"][known, column]
                if share < 1:
                    seen = part_logits(seen, share ** self.spread[column])
                terms[name] = F.binary_cross_entropy_with_logits(seen, happened)
        return terms

    def names(self, plan: Any) -> Names:  # noqa: ANN401
        """One forecast per question."""
        return Names(forecasts=tuple(f"forecast_{name}" for name in INTENSITIES))

    def say(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> Tensor:
        """Logits (B, 4) of INTENSITIES."""
        return self.logits(z)

    def fill(self, said: Mapping[str, Any], plan: Any) -> tuple[None, Tensor]:  # noqa: ANN401
        """The logits."""
        return None, said[self.kind]

    @classmethod
    def most_columns(cls, settings: Strict, counts: Counts, dim: int) -> int:
        """One per question."""
        return len(INTENSITIES)


def part_logits(logits: Tensor, share: Tensor) -> Tensor:
    """Log-odds of an event in a part of a window, from those in all of it: the expected number, −log P(none), times `share`."""
    expected = share * F.softplus(logits)  # −log P(none in the part)
    return expected + (-(-expected).expm1()).clamp_min(TINY).log()


def later_rate(said: Mapping[str, Any]) -> Tensor | None:
    """Log of the expected purchases in the second window (B, 1), if the head `intensity` is there: −log P(no purchase) is the
    mean of a Poisson count."""
    logits = said.get(Intensity.kind)
    if logits is None:
        return None
    rate: Tensor = F.softplus(logits[:, INTENSITIES.index("far")]).log()[:, None]
    return rate
