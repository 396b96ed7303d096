"""A head: how many products a client will buy, as a Poisson rate; a loss term, labels from the window, a named column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from kit.challenge import EventType
from kit.models.batch import CombinedBatch
from kit.models.heads import Head, HeadSettings, HeadShape, Names, Shared, head
from kit.models.heads.ahead import Ahead
from kit.recipe import Strict


class BasketSettings(HeadSettings):
    most: int = Field(10, ge=1, description="More products than this count as so many.")


@dataclass(frozen=True)
class Counts:
    each: np.ndarray

    def of(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.each[rows])


@head
class Basket(Head):
    kind: ClassVar[str] = "basket"
    description: ClassVar[str] = "How many products will be bought."
    Settings: ClassVar[type[Strict]] = BasketSettings

    def __init__(self, shape: HeadShape, settings: BasketSettings) -> None:
        super().__init__(shape, settings)
        self.rate = nn.Linear(shape.width, 1)

    @classmethod
    def labels(cls, ahead: Ahead, settings: Strict) -> Counts:
        rows = ahead.positives(EventType.BUY).row
        each = np.bincount(rows, minlength=len(ahead.tokens.clients))
        return Counts(np.minimum(each, cast(BasketSettings, settings).most).astype(np.float32))

    def loss(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> dict[str, Tensor]:
        log_rate = self.rate(shared.fork(z, self.kind))[:, 0]
        return {self.kind: nn.functional.poisson_nll_loss(log_rate, batch.labels[self.kind])}

    def names(self, plan: Any) -> Names:
        return Names(forecasts=("forecast_basket",))

    def say(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> Tensor:
        return cast(Tensor, self.rate(z))

    def fill(self, said: Mapping[str, Any], plan: Any) -> tuple[None, Tensor]:
        return None, said[self.kind]
