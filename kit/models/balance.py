"""How the losses of several tasks share one trunk, as registered parts: fixed weights, learned uncertainties, equal gradients.

uncertainty: Kendall, Gal & Cipolla 2018 (arXiv 1705.07115): Σ w_k (e^{−s_k} L_k + s_k), s_k learned.
gradient-norm: after MultiBalance (arXiv 2411.11871): gradients with respect to the *shared representation* are rescaled by a
moving average of their norms, so that no task dominates the trunk by its scale. Our variant of its norm-equalising mode; the
exact rule of the paper was not available.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Annotated, ClassVar, Literal, TypeVar

import torch
from pydantic import Field
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


BALANCES: Registry[type[Balance]] = Registry("balance")
AnyBalance = TypeVar("AnyBalance", bound=type[Balance])


def balance(cls: AnyBalance) -> AnyBalance:
    """Class decorator that registers a balance under its `kind`."""
    return register(BALANCES, cls)


@cache
def load_balances() -> Registry[type[Balance]]:
    """All balances."""
    return BALANCES


AnyBalanceSettings = Annotated[BalanceSettings, OneOf(load_balances)]
"""A setting that is one of the balances."""


def make_balance(weights: dict[str, float], settings: BalanceSettings, forks: Sequence[str] = ()) -> Balance:
    """The balance that `settings.kind` names.

    Raises:
        KitError: unknown kind.
    """
    return load_balances()[settings.kind](weights, settings, forks)


class FixedSettings(BalanceSettings):
    """None."""

    kind: Literal["fixed"] = "fixed"


@balance
class Fixed(Balance):
    """Each term times its weight."""

    kind: ClassVar[str] = "fixed"
    description: ClassVar[str] = "Each term times its weight."
    Settings: ClassVar[type[BalanceSettings]] = FixedSettings

    def forward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms."""
        return {name: self.weights.get(name, 1.0) * value for name, value in terms.items()}


class UncertaintySettings(BalanceSettings):
    """None."""

    kind: Literal["uncertainty"] = "uncertainty"


@balance
class Uncertainty(Balance):
    """Each term times its weight and a learned precision."""

    kind: ClassVar[str] = "uncertainty"
    description: ClassVar[str] = "Each term times its weight and a learned precision."
    Settings: ClassVar[type[BalanceSettings]] = UncertaintySettings

    def __init__(self, weights: dict[str, float], settings: BalanceSettings, forks: Sequence[str] = ()) -> None:
        super().__init__(weights, settings, forks)
        self.log_variance = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in weights})

    def forward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms, each with its log-variance added (so they can be negative)."""
        out = {}
        for name, value in terms.items():
            s = self.log_variance[name]
            out[name] = self.weights.get(name, 1.0) * (torch.exp(-s) * value + s)
        return out


class GradientNormSettings(BalanceSettings):
    """How fast norms are forgotten."""

    kind: Literal["gradient-norm"] = "gradient-norm"
    decay: float = Field(0.99, ge=0, lt=1, description="Of the moving average of gradient norms.")


@balance
class GradientNorm(Fixed):
    """Every task's gradient at the shared representation gets the mean norm of all tasks, then its weight."""

    kind: ClassVar[str] = "gradient-norm"
    description: ClassVar[str] = "Gradients at the shared vector rescaled to one norm, then weighted."
    Settings: ClassVar[type[BalanceSettings]] = GradientNormSettings

    norms: Tensor

    def __init__(self, weights: dict[str, float], settings: GradientNormSettings, forks: Sequence[str] = ()) -> None:
        super().__init__(weights, settings, forks)
        self.decay = settings.decay
        self.tasks = (*(fork for fork in forks if fork not in weights), *sorted(weights))
        self.register_buffer("norms", torch.zeros(len(self.tasks)))

    def fork(self, shared: Tensor, task: str) -> Tensor:
        """A copy of the shared representation whose gradient is rescaled on its way back."""
        if not (self.training and shared.requires_grad):
            return shared
        index = self.tasks.index(task)
        copy = shared.view_as(shared)

        def rescale(gradient: Tensor) -> Tensor:
            norm = gradient.detach().norm()
            old = self.norms[index]
            self.norms[index] = torch.where(old > 0, self.decay * old + (1 - self.decay) * norm, norm)
            seen = self.norms[self.norms > 0]
            return self.weights.get(task, 1.0) * gradient * (seen.mean() / self.norms[index].clamp_min(1e-12))

        copy.register_hook(rescale)  # type: ignore[no-untyped-call]
        return copy
