"""How the losses of several tasks share one trunk: fixed weights, learned uncertainties, or equal gradient norms.

uncertainty: Kendall, Gal & Cipolla 2018 (arXiv 1705.07115): Σ w_k (e^{−s_k} L_k + s_k), s_k learned.
gradient-norm: after MultiBalance (arXiv 2411.11871): gradients with respect to the *shared representation* are rescaled by a
moving average of their norms, so that no task dominates the trunk by its scale. Our variant of its norm-equalising mode; the
exact rule of the paper was not available.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

DECAY = 0.99
"""Of the moving average of gradient norms."""


class Balance(nn.Module, ABC):
    """Weighs loss terms; `fork` is where each task takes the shared representation."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = weights

    def fork(self, shared: Tensor, task: str) -> Tensor:
        """The shared representation as seen by `task`; the value is unchanged."""
        return shared

    @abstractmethod
    def forward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms; their sum is minimised."""


class Fixed(Balance):
    """Each term times its weight."""

    def forward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms."""
        return {name: self.weights.get(name, 1.0) * value for name, value in terms.items()}


class Uncertainty(Balance):
    """Each term times its weight and a learned precision."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights)
        self.log_variance = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in weights})

    def forward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms, each with its log-variance added (so they can be negative)."""
        out = {}
        for name, value in terms.items():
            s = self.log_variance[name]
            out[name] = self.weights.get(name, 1.0) * (torch.exp(-s) * value + s)
        return out


class GradientNorm(Fixed):
    """Every task's gradient at the shared representation gets the mean norm of all tasks, then its weight."""

    norms: Tensor

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__(weights)
        self.tasks = ("intensity", *sorted(weights))
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
            self.norms[index] = torch.where(old > 0, DECAY * old + (1 - DECAY) * norm, norm)
            seen = self.norms[self.norms > 0]
            return self.weights.get(task, 1.0) * gradient * (seen.mean() / self.norms[index].clamp_min(1e-12))

        copy.register_hook(rescale)  # type: ignore[no-untyped-call]
        return copy


def make_balance(kind: str, weights: dict[str, float]) -> Balance:
    """The balance that a setting names: fixed, uncertainty or gradient-norm."""
    kinds: dict[str, type[Balance]] = {"fixed": Fixed, "uncertainty": Uncertainty, "gradient-norm": GradientNorm}
    return kinds[kind](weights)
