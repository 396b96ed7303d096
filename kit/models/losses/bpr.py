"""Bayesian personalised ranking (Rendle et al. 2009, arXiv 1205.2618): −log σ(positive − negative).

Technique F7.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from kit.models.losses.base import LossSettings, PairLoss, PairScores, loss


class BPRSettings(LossSettings):
    """None."""

    kind: Literal["bpr"] = "bpr"


@loss
class BPR(PairLoss):
    """Mean over all pairs."""

    kind: ClassVar[str] = "bpr"
    description: ClassVar[str] = "Mean −log σ(positive − negative)."
    Settings: ClassVar[type[LossSettings]] = BPRSettings

    def __call__(self, scores: PairScores) -> Tensor:
        """See PairLoss."""
        gains = logsigmoid(scores.positive[:, None] - scores.negative).masked_fill(scores.same, 0.0)
        if scores.weight is not None:
            gains = gains * scores.weight[:, None]
        return -gains.sum() / (~scores.same).sum().clamp(min=1)
