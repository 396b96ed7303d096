"""Weights from the geometry of the tasks' gradients. Technique G2: MultiBalance (arXiv 2411.11871).

Gradients are taken with respect to the *shared representation* z, one per task, and divided by a moving average of their
norms: m_k ← β m_k + (1 − β) ‖g_k‖, ĝ_k = g_k / m_k; z receives mean(m) · K · Σ w_k λ_k ĝ_k with λ on the simplex.

- minnorm: λ = argmin ‖Σ λ_k ĝ_k‖² (Désidéri 2012; Frank–Wolfe as in Sener & Koltun 2018): no task gets worse.
- moco: λ ← softmax(log λ − γ Ĝ Ĝᵀ λ), one step per batch (Fernando et al. 2023; form of LibMTL).

NOTE[DIFF]: the paper's own rule could not be read; its abstract says both "multi-objective" and "norm-equalising". The factor
K keeps the size of a plain sum, and a recipe's weights w_k multiply λ_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal

import torch
from pydantic import Field
from torch import Tensor

from kit.claims import Claim
from kit.models.balances.base import BalanceSettings, balance
from kit.models.balances.fixed import Fixed

STEPS: Final = 20
"""Of Frank–Wolfe: six tasks are solved to three digits."""


class MinNormSettings(BalanceSettings):
    """Which rule gives the weights."""

    kind: Literal["min-norm"] = "min-norm"
    mode: Literal["minnorm", "moco"] = Field("minnorm", description="Least norm in every batch, or a step towards it.")
    decay: float = Field(0.99, ge=0, lt=1, description="Of the moving average of gradient norms.")
    step: float = Field(0.1, gt=0, description="γ of moco.")


def least_norm(gram: Tensor, steps: int = STEPS) -> Tensor:
    """λ (K,) on the simplex with the smallest λᵀ G λ, for a Gram matrix (K, K); exact for two tasks after one step."""
    share = torch.full((len(gram),), 1 / len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(steps):
        toward = torch.zeros_like(share)
        toward[(gram @ share).argmin()] = 1.0
        way = toward - share
        slope, bend = -(share @ gram @ way), way @ gram @ way
        share = share + (slope / bend.clamp_min(1e-12)).clamp(0, 1) * way
    return share


class _Join(torch.autograd.Function):
    """One tensor in, a copy per task out; all gradients come back together and are combined by `owner`."""

    @staticmethod
    def forward(ctx: Any, shared: Tensor, owner: MinNorm) -> tuple[Tensor, ...]:  # noqa: ANN401
        ctx.owner = owner
        return tuple(shared.clone() for _ in owner.tasks)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        owner: MinNorm = ctx.owner
        return owner.combine(torch.stack(gradients)), None


@balance
class MinNorm(Fixed):
    """The tasks' gradients at the shared representation, of equal norm, combined so that they conflict least."""

    kind: ClassVar[str] = "min-norm"
    description: ClassVar[str] = "Gradients at the shared vector of one norm, weighted so that no task gets worse."
    Settings: ClassVar[type[BalanceSettings]] = MinNormSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim("dominance", margin=0.1, twin={"kind": "fixed"}),
        Claim("dominance", margin=0.1, twin={"kind": "fixed"}, given={"mode": "moco"}),
    )

    norms: Tensor
    shares: Tensor

    def __init__(self, weights: dict[str, float], settings: MinNormSettings, forks: Sequence[str] = ()) -> None:
        super().__init__(weights, settings, forks)
        self.mode, self.decay, self.step = settings.mode, settings.decay, settings.step
        self.tasks = (*(fork for fork in forks if fork not in weights), *sorted(weights))
        self.register_buffer("norms", torch.zeros(len(self.tasks)))
        self.register_buffer("shares", torch.full((len(self.tasks),), 1 / len(self.tasks)))
        self.copies: dict[tuple[int, ...], tuple[Tensor, ...]] = {}

    def fork(self, shared: Tensor, task: str) -> Tensor:
        """A copy of the shared representation; tasks that fork the same values in one step share a gradient."""
        if not (self.training and shared.requires_grad):
            return shared
        key = (shared.data_ptr(), *shared.shape)
        if key not in self.copies:
            self.copies[key] = _Join.apply(shared, self)  # type: ignore[no-untyped-call]
        return self.copies[key][self.tasks.index(task)]

    def forward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms; the step's copies are forgotten."""
        self.copies.clear()
        return super().forward(terms)

    @torch.no_grad()
    def combine(self, gradients: Tensor) -> Tensor:
        """(K, B, d) → (B, d); tasks without a gradient in this step take no part."""
        norm = gradients.flatten(1).norm(dim=1)
        there = (norm > 0).nonzero()[:, 0]
        if not len(there):
            return gradients[0]
        old, new = self.norms[there], norm[there]
        self.norms[there] = torch.where(old > 0, self.decay * old + (1 - self.decay) * new, new)
        even = gradients[there] / self.norms[there].clamp_min(1e-12)[:, None, None]
        gram = even.flatten(1) @ even.flatten(1).T
        if self.mode == "minnorm":
            share = least_norm(gram)
        else:
            before = self.shares[there] / self.shares[there].sum()
            share = torch.softmax(before.clamp_min(1e-12).log() - self.step * (gram @ before), dim=0)
            self.shares[there] = share * self.shares[there].sum()
        weight = share * len(there) * self.norms[there].mean()
        return torch.einsum("k,kbd->bd", weight, even)
