"""When the next event comes: a discrete hazard over log time, which also learns from waits that the cut broke off."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.arrays import where
from kit.challenge import EventType
from kit.models.events import Batch
from kit.models.items import ItemEncoder
from kit.models.objectives.base import Arrays, Objective, ObjectiveSettings, Spans, balance, objective
from kit.tokens import SequenceBatch, Tokens, Vocabulary, kind_code

STEPS: Final = 24
"""Buckets: ⌊log2(1 + seconds)⌋, the last one beyond 97 days."""


class TimingSettings(ObjectiveSettings):
    """Which waits."""

    of: tuple[Literal["event", "visit", "cart", "buy"], ...] = Field(
        ("event", "cart", "buy"), description="Time to the next event of any type, page visit, cart add, purchase."
    )


@objective
class Timing(Objective):
    """Log time to the next event, cart add and purchase after every token, as a hazard per bucket.

    Loss of a wait that ended in bucket k: −log h_k − Σ_{j<k} log(1 − h_j); of one cut off in bucket k: −Σ_{j<k} log(1 − h_j).
    """

    kind: ClassVar[str] = "timing"
    description: ClassVar[str] = "Time to the next event, cart add and purchase (censored at the cut)."
    Settings: ClassVar[type[ObjectiveSettings]] = TimingSettings

    def __init__(self, width: int, vocabulary: Vocabulary, settings: ObjectiveSettings) -> None:
        super().__init__(width, vocabulary, settings)
        self.of = cast(TimingSettings, settings).of
        self.head = nn.Linear(width, len(self.of) * STEPS)
        nn.init.constant_(self.head.bias, -2.0)

    def bind(self, tokens: Tokens) -> None:
        """Positions of the events waited for."""
        codes = {name: kind_code(EventType[name.upper()]) for name in self.of if name != "event"}
        self.where = [_places(tokens, codes[name]) if name in codes else None for name in self.of]

    def targets(self, tokens: Tokens, batch: SequenceBatch, spans: Spans, rng: np.random.Generator) -> Arrays:
        """bucket (M, kinds) in which each wait ended or was cut off, and ended (M, kinds)."""
        buckets, ended = [], []
        for places in self.where:
            following = spans.after
            if places is not None:
                following = places[np.searchsorted(places, following)]
            happens = following < spans.stop
            until = np.where(happens, tokens.time[np.minimum(following, len(tokens) - 1)], spans.cut)
            seconds = np.maximum(until - spans.now, 0) / 1e6
            buckets.append(np.minimum(np.log2(1 + seconds).astype(np.int64), STEPS - 1))
            ended.append(happens)
        return {
            "at": spans.flat,
            "bucket": np.stack(buckets, axis=1),
            "ended": np.stack(ended, axis=1),
            "weight": balance(spans.at < 0, self.settings.at_cut),
        }

    def forward(self, states: Tensor, targets: Batch, batch: Batch, items: ItemEncoder) -> Tensor:
        """Mean negative log-likelihood per wait."""
        if len(targets["at"]) == 0:
            return states.sum() * 0.0
        logits = self.head(states[targets["at"]]).float().view(-1, len(self.of), STEPS)
        losses = hazard_loss(logits, targets["bucket"], targets["ended"])
        return (losses.mean(dim=-1) * targets["weight"]).mean()


def _places(tokens: Tokens, code: int) -> NDArray[np.int64]:
    """Where the events of a type lie, and the end of all tokens after them."""
    return np.append(where(tokens.kind, lambda kind: kind == code), len(tokens))


def hazard_loss(logits: Tensor, bucket: Tensor, ended: Tensor) -> Tensor:
    """Negative log-likelihood (…) of waits.

    Args:
        logits: of the hazards, (…, k).
        bucket: where each wait ended or was cut off, int64 (…).
        ended: True if it ended, False if it was cut off (the bucket itself then says nothing).
    """
    steps = torch.arange(logits.shape[-1], device=logits.device)
    survived = steps < bucket[..., None]
    died = (steps == bucket[..., None]) & ended[..., None]
    loss = F.softplus(logits) * survived + F.softplus(-logits) * died
    return loss.sum(dim=-1)
