"""What a pair loss is: scores of positives and of their negatives in, a mean out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar

from torch import Tensor

from kit.kinds import OneOf, register
from kit.recipe import Strict
from kit.registry import Registry


class LossSettings(Strict):
    """What every loss's settings have; each kind adds its own."""

    kind: str


@dataclass(frozen=True)
class PairScores:
    """m positives and the n negatives of each.

    Attributes:
        positive: (m,).
        negative: (m, n).
        same: bool (m, n), negatives that are the row's positive: they are none and left out.
        weight: (m,) of mean 1; None = all count the same.
        log_q_positive: log of the probability with which each positive would have been drawn as a negative, (m,); None = not
            known, for losses that correct nothing.
        log_q_negative: the same of the negatives, (n,) or (m, n).
    """

    positive: Tensor
    negative: Tensor
    same: Tensor
    weight: Tensor | None = None
    log_q_positive: Tensor | None = None
    log_q_negative: Tensor | None = None


class PairLoss(ABC):
    """Args: settings: its own. Attributes kind, description, Settings as in all registered parts."""

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[LossSettings]]

    def __init__(self, settings: LossSettings) -> None:
        self.settings = settings

    @abstractmethod
    def __call__(self, scores: PairScores) -> Tensor:
        """Weighted mean, a scalar."""


LOSSES: Registry[type[PairLoss]] = Registry("pair loss", "kit.models.losses")
AnyLossType = TypeVar("AnyLossType", bound=type[PairLoss])


def loss(cls: AnyLossType) -> AnyLossType:
    """Class decorator that registers a loss under its `kind`."""
    return register(LOSSES, cls)


AnyLoss = Annotated[LossSettings, OneOf(LOSSES)]
"""A setting that is one of the losses."""


def make_loss(settings: LossSettings) -> PairLoss:
    """The loss that `settings.kind` names.

    Raises:
        KitError: unknown kind.
    """
    return LOSSES.loaded()[settings.kind](settings)
