"""Softmax losses over many candidates: full, and sampled with or without correction for how negatives were drawn.

Corrections: Q(d) is the probability with which a negative was drawn, n how many were, p the positive.

- none: cross-entropy over the positive and its negatives as they are.
- logq: Yi et al. 2019: log(n·Q) is taken off all logits, the positive's included.
- negatives: log(n·Q) is taken off the negatives alone (the positive is there with certainty, not drawn). Same mean gradient
  as `refined`.
- refined: arXiv 2507.09331. With Q'(d) = Q(d) / (1 − Q(p)) and draws equal to p left out,
  L = sg(1 − P̂) · [−f(p) + log Σ exp(f(d) − log Q'(d))], where P̂ is the estimated softmax at p and sg stops gradients.
  Its value may be negative: compare gradients or rankings, not losses.

Techniques F4, F5.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from kit.claims import Claim
from kit.models.losses.base import LossSettings, PairLoss, PairScores, loss

Correction = Literal["none", "logq", "negatives", "refined"]


class SoftmaxSettings(LossSettings):
    """How the draw of negatives is corrected for."""

    kind: Literal["softmax"] = "softmax"
    correction: Correction = Field("none", description="For how negatives were drawn: none, logq, negatives, refined.")


@loss
class Softmax(PairLoss):
    """Cross-entropy of the positive among its negatives."""

    kind: ClassVar[str] = "softmax"
    description: ClassVar[str] = "Cross-entropy of the positive among its negatives, corrected for how they were drawn."
    Settings: ClassVar[type[LossSettings]] = SoftmaxSettings
    solves: ClassVar[tuple[Claim, ...]] = (
        Claim("exposure", margin=0.15, twin={"correction": "none"}, given={"correction": "refined"}),
        Claim("exposure", margin=0.15, twin={"correction": "none"}, given={"correction": "logq"}),
    )

    def __call__(self, scores: PairScores) -> Tensor:
        """See PairLoss.

        Raises:
            ValueError: a correction, and scores that do not say how negatives were drawn.
        """
        how = cast(SoftmaxSettings, self.settings).correction
        log_q = scores.log_q_positive, scores.log_q_negative
        if log_q[0] is None or log_q[1] is None:
            if how != "none":
                raise ValueError(f"the correction {how!r} needs to know how negatives were drawn")
            log_q = torch.zeros_like(scores.positive), torch.zeros_like(scores.negative)
        losses = sampled_softmax(
            scores.positive, scores.negative, *cast(tuple[Tensor, Tensor], log_q), scores.same, how
        )
        return losses.mean() if scores.weight is None else (losses * scores.weight).mean()


def full_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy (m,) of (m, c) logits at the targets (m,)."""
    return F.cross_entropy(logits.float(), target.long(), reduction="none")


def sampled_softmax(
    positive: Tensor, negative: Tensor, log_q_positive: Tensor, log_q_negative: Tensor, same: Tensor, how: Correction
) -> Tensor:
    """Losses (m,) of a softmax whose negatives were drawn.

    Args:
        positive: logits f(p), (m,).
        negative: logits f(d), (m, n).
        log_q_positive: log Q(p), (m,).
        log_q_negative: log Q(d), (n,) or (m, n).
        same: draws that are the row's positive, bool (m, n); they are left out.
        how: correction, see above.
    """
    positive, negative = positive.float() if positive.dtype != torch.float64 else positive, negative.to(positive.dtype)
    count = math.log(max(negative.shape[1], 1))
    log_q_negative = log_q_negative.expand_as(negative)
    if how == "refined":
        away = torch.log1p(-log_q_positive.exp().clamp(max=1 - 1e-6))[:, None]
        corrected = (negative - log_q_negative + away).masked_fill(same, -torch.inf)
        drawn = torch.where(same.all(dim=1), positive.detach(), _finite(corrected).logsumexp(dim=1))
        weight = (1 - torch.sigmoid(positive - drawn + count)).detach()
        return weight * (drawn - positive)
    if how == "logq":
        positive = positive - log_q_positive - count
    if how in ("logq", "negatives"):
        negative = negative - log_q_negative - count
    logits = torch.cat([positive[:, None], negative.masked_fill(same, -torch.inf)], dim=1)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device), reduction="none")


def _finite(logits: Tensor) -> Tensor:
    """Rows without any candidate become zeros, so that their (unused) log-sum-exp has a defined gradient."""
    return logits.masked_fill(torch.isneginf(logits).all(dim=1, keepdim=True), 0.0)


def uncorrected(settings: LossSettings) -> LossSettings:
    """The same, where nobody tells how likely negatives were to be drawn; ValueError (as settings raise it) for a loss
    that corrects for it."""
    if getattr(settings, "correction", "none") != "none":
        raise ValueError("it is not known here how likely negatives were to be drawn: leave `correction` out")
    return settings
