"""Feedback: what happens to a product once it is met.

Technique B2.
"""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.arrays import where
from kit.challenge import DAY_US, SKU_EVENTS, EventType
from kit.models.events import Batch
from kit.models.items import ItemEncoder
from kit.models.objectives.base import Arrays, Objective, ObjectiveSettings, Spans, objective
from kit.tokens import SequenceBatch, Tokens, Vocabulary, kind_code
from kit.tokens.vocabulary import Int64s

LEFT, BOUGHT, REMOVED = 0, 1, 2
"""Fates of a cart add."""


def head(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Two layers."""
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, outputs))


@objective
class Feedback(Objective):
    """Type of the next event given its product: p(buy, cart, remove | state before, product)."""

    kind: ClassVar[str] = "feedback"
    description: ClassVar[str] = "Event type given the product."

    def __init__(self, width: int, vocabulary: Vocabulary, settings: ObjectiveSettings) -> None:
        super().__init__(width, vocabulary, settings)
        self.head = head(2 * width, width, len(SKU_EVENTS))
        self.codes = np.array([kind_code(kind) for kind in SKU_EVENTS])

    def targets(self, tokens: Tokens, batch: SequenceBatch, spans: Spans, rng: np.random.Generator) -> Arrays:
        """Every product event that has a token before it in the sequence; `before` is that token's state."""
        second = np.append(False, spans.row[1:] == spans.row[:-1])[: len(spans.row)]
        real = spans.real()
        chosen = real[second[real] & (tokens.product[spans.at[real]] > 0)]
        kind = tokens.kind[spans.at[chosen]]
        return {
            "before": spans.flat[chosen] - 1,
            "product": tokens.product[spans.at[chosen]].astype(np.int64),
            "target": np.argmax(kind[:, None] == self.codes, axis=1).astype(np.int64),
        }

    def forward(self, states: Tensor, targets: Batch, batch: Batch, items: ItemEncoder) -> Tensor:
        """Mean cross-entropy."""
        if len(targets["target"]) == 0:
            return states.sum() * 0.0
        distinct, place = targets["product"].unique(return_inverse=True)  # type: ignore[no-untyped-call]
        vectors = items.vectors(distinct, batch["live_sku"].min())[place]
        logits = self.head(torch.cat([states[targets["before"]], vectors], dim=1))
        return F.cross_entropy(logits.float(), targets["target"])


class FateSettings(ObjectiveSettings):
    """How long a cart add is watched."""

    days: float = Field(7.0, gt=0)


@objective
class Fate(Objective):
    """Fate of a cart add within some days: bought, removed or left, whichever comes first; only where all days lie before
    the cut, so that early outcomes are not over-represented."""

    kind: ClassVar[str] = "fate"
    description: ClassVar[str] = "Fate of a cart add: bought, removed, left."
    Settings: ClassVar[type[ObjectiveSettings]] = FateSettings

    def __init__(self, width: int, vocabulary: Vocabulary, settings: ObjectiveSettings) -> None:
        super().__init__(width, vocabulary, settings)
        self.head = head(width, width, 3)

    def bind(self, tokens: Tokens) -> None:
        """Outcome and its instant for every cart add."""
        days = cast(FateSettings, self.settings).days
        self.fates = cart_fates(tokens, int(days * DAY_US))

    def targets(self, tokens: Tokens, batch: SequenceBatch, spans: Spans, rng: np.random.Generator) -> Arrays:
        """Cart adds whose watch ended before the cut."""
        days = cast(FateSettings, self.settings).days
        real = spans.real()
        watched = spans.now[real] + int(days * DAY_US) <= spans.cut
        chosen = real[watched & (self.fates[spans.at[real]] >= 0)]
        return {"at": spans.flat[chosen], "target": self.fates[spans.at[chosen]].astype(np.int64)}

    def forward(self, states: Tensor, targets: Batch, batch: Batch, items: ItemEncoder) -> Tensor:
        """Mean cross-entropy of the state right after the cart add."""
        if len(targets["at"]) == 0:
            return states.sum() * 0.0
        return F.cross_entropy(self.head(states[targets["at"]]).float(), targets["target"])


def cart_fates(tokens: Tokens, within: int) -> NDArray[np.int8]:
    """Per token: LEFT, BOUGHT or REMOVED for cart adds of a catalogue product, −1 for all others.

    The outcome is the client's first purchase or removal of the same product after the add and less than `within`
    microseconds later; events of the same second count as later if they are sorted later or are not cart adds.
    """
    fates = np.full(len(tokens), -1, dtype=np.int8)
    at = where(tokens.product, lambda product: product > 0)
    buy, cart = kind_code(EventType.BUY), kind_code(EventType.CART)
    last = tokens.kind[at] != cart  # within a second, adds come before their outcomes
    order = at[np.lexsort((last, tokens.time[at], tokens.product[at], tokens.owners(at)))]
    kind, time = tokens.kind[order], tokens.time[order]
    owner, product = tokens.owners(order), tokens.product[order]
    group = np.append(0, np.cumsum((np.diff(owner) != 0) | (np.diff(product) != 0)))
    following = _next_where(kind != cart)
    known = following < len(order)
    outcome = np.minimum(following, len(order) - 1)
    if len(order):
        known &= (group[outcome] == group[: len(order)]) & (time[outcome] - time < within)
    fate = (
        np.where(known, np.where(kind[outcome] == buy, BOUGHT, REMOVED), LEFT) if len(order) else kind.astype(np.int64)
    )
    adds = kind == cart
    fates[order[adds]] = fate[adds]
    return fates


def _next_where(flags: NDArray[np.bool_]) -> Int64s:
    """Index of the first True at or after each place; len(flags) if there is none."""
    places = np.where(flags, np.arange(len(flags)), len(flags))
    return np.minimum.accumulate(places[::-1])[::-1]
