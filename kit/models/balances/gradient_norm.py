"""Equal gradient norms, after MultiBalance (arXiv 2411.11871): gradients with respect to the *shared representation* are rescaled
by a moving average of their norms, so that no task dominates the trunk by its scale. Our variant of its norm-equalising mode; the
exact rule of the paper was not available.

Technique G2.

NOTE[DIFF]: the norm-equalising mode alone, and the exact rule of the paper was not available; `min-norm` has the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from kit.claims import Claim
from kit.models.balances.base import BalanceSettings, balance
from kit.models.balances.fixed import Fixed


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
    solves: ClassVar[tuple[Claim, ...]] = (Claim("dominance", margin=0.1, twin={"kind": "fixed"}),)

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
