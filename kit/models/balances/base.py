"""What a balance is: how the losses of several heads share one trunk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, TypeVar

from torch import Tensor, nn

from kit.kinds import OneOf, register
from kit.recipe import Strict
from kit.registry import Registry


class BalanceSettings(Strict):
    """What every balance's settings have."""

    kind: str


class Balance(nn.Module, ABC):
    """Weighs loss terms; `fork` is where each task takes the shared representation.

    Args:
        weights: loss term → weight.
        settings: its own.
        forks: what heads take the representation for, if that is not a term (one fork may serve several terms).

    Attributes:
        kind, description, Settings: as in all registered parts.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[BalanceSettings]]

    def __init__(self, weights: dict[str, float], settings: BalanceSettings, forks: Sequence[str] = ()) -> None:
        super().__init__()
        self.weights = weights

    def fork(self, shared: Tensor, task: str) -> Tensor:
        """The shared representation as seen by `task`; the value is unchanged."""
        return shared

    @abstractmethod
    def forward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms; their sum is minimised."""


BALANCES: Registry[type[Balance]] = Registry("balance", "kit.models.balances")
AnyBalance = TypeVar("AnyBalance", bound=type[Balance])


def balance(cls: AnyBalance) -> AnyBalance:
    """Class decorator that registers a balance under its `kind`."""
    return register(BALANCES, cls)


AnyBalanceSettings = Annotated[BalanceSettings, OneOf(BALANCES)]
"""A setting that is one of the balances."""


def make_balance(weights: dict[str, float], settings: BalanceSettings, forks: Sequence[str] = ()) -> Balance:
    """The balance that `settings.kind` names.

    Raises:
        KitError: unknown kind.
    """
    return BALANCES.loaded()[settings.kind](weights, settings, forks)
