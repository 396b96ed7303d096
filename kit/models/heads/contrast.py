"""Head `contrast`: past to future, contrastively.

Techniques D2, F8.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from kit.challenge import EventType
from kit.limits.need import Counts
from kit.models.batch import CombinedBatch
from kit.models.heads.ahead import Ahead
from kit.models.heads.base import Head, HeadSettings, HeadShape, Shared, head
from kit.models.heads.positives import ChosenLabels, Picks
from kit.models.losses import AnyLoss, LossSettings, PairScores, make_loss
from kit.models.losses.softmax import SoftmaxSettings, uncorrected
from kit.recipe import Strict


class ContrastSettings(HeadSettings):
    """Weight and temperature."""

    weight: float = Field(0.1, ge=0, description="Of the loss term (before `balance`); 0 leaves it out.")
    temperature: float = Field(0.1, gt=0, description="Of the contrastive past-to-future loss.")
    loss: AnyLoss = Field(SoftmaxSettings(), description="Of the own future against those of others.")

    @field_validator("loss")
    @classmethod
    def _uncorrected(cls, loss: LossSettings) -> LossSettings:
        return uncorrected(loss)


@head
class Contrast(Head):
    """InfoNCE: a client's query against the mean product vector of each client's own future. It gives no columns; its query is
    that of the head `choice` for cart adds."""

    kind: ClassVar[str] = "contrast"
    description: ClassVar[str] = "A client's own future among those of others (InfoNCE); gives no columns."
    Settings: ClassVar[type[Strict]] = ContrastSettings

    def __init__(self, shape: HeadShape, settings: ContrastSettings) -> None:
        super().__init__(shape, settings)
        shape.queries.ask("cart_product")
        self.pair_loss = make_loss(settings.loss)

    @classmethod
    def labels(cls, ahead: Ahead, settings: Strict) -> ChosenLabels:
        """Products put into the cart in both windows."""
        return ChosenLabels.of_actions(ahead, {"cart": EventType.CART})

    def loss(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> dict[str, Tensor]:
        """The loss of the own future against those of the batch's other clients who have one."""
        settings = cast(ContrastSettings, self.settings)
        picks: Picks = batch.labels[self.kind]["cart"]
        if settings.weight == 0 or len(picks.at) < 2:
            return {}
        vectors = shared.items.vectors(picks.product, batch.market.live) * picks.weight[:, None]
        future = torch.zeros(len(picks.at), vectors.shape[1], device=z.device, dtype=vectors.dtype)
        future = F.normalize(future.index_add(0, picks.row, vectors), dim=1)
        query = F.normalize(shared.queries["cart_product"](shared.fork(z[picks.at], self.kind)), dim=1)
        logits = (query @ future.T / settings.temperature).float()
        same = torch.eye(len(logits), dtype=torch.bool, device=z.device)
        return {self.kind: self.pair_loss(PairScores(logits.diagonal(), logits, same))}

    @classmethod
    def most_columns(cls, settings: Strict, counts: Counts, dim: int) -> int:
        """None."""
        return 0
