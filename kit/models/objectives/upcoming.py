"""What comes next: the next product (or url), or one drawn from the days ahead, by a softmax over the product tower."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kit.arrays import where
from kit.challenge import DAY_US
from kit.models.events import Batch
from kit.models.items import ItemEncoder
from kit.models.objectives.base import Arrays, Objective, ObjectiveSettings, Spans, balance, objective
from kit.models.objectives.softmax import Correction, full_softmax, sampled_softmax
from kit.tokens import SequenceBatch, Tokens, Vocabulary

MAX_SCALE = 100.0


class UpcomingSettings(ObjectiveSettings):
    """Which target, and which softmax."""

    target: Literal["next", "window"] = Field(
        "window",
        description="The very next one, or one drawn from all in the horizon (PinnerFormer's dense all-action).",
    )
    horizon: float = Field(14.0, gt=0, description="Days ahead within which the target must lie.")
    skip_hours: float = Field(
        0.0, ge=0, description="Targets sooner than this do not count: skips the running session."
    )
    negatives: Literal["auto", "full", "in_batch", "sampled"] = Field(
        "auto", description="What the target competes with; auto = everything if that is few enough, else a sample."
    )
    correction: Correction = Field("refined", description="For in_batch and sampled negatives.")
    few: int = Field(8192, ge=1, description="Most candidates for which auto takes them all.")
    samples: int = Field(1024, ge=1, description="Negatives per batch, shared by its positions.")
    uniform: float = Field(0.5, ge=0, le=1, description="Share drawn uniformly; the rest in proportion to frequency.")
    positions: int = Field(256, ge=1, description="Positions per batch at most; drawn when there are more.")


class Upcoming(Objective):
    """Shared by `next_item` and `next_url`: states against candidate vectors, cosine times a learned scale."""

    Settings: ClassVar[type[ObjectiveSettings]] = UpcomingSettings

    def __init__(self, width: int, vocabulary: Vocabulary, settings: ObjectiveSettings) -> None:
        super().__init__(width, vocabulary, settings)
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        self.frequency: NDArray[np.float64] = np.ones(max(self.candidates(), 1)) / max(self.candidates(), 1)
        self.cumulative: NDArray[np.float64] = np.cumsum(self.frequency)

    def candidates(self) -> int:
        """How many there are; candidate i has the value i + 1 in the tokens."""
        raise NotImplementedError

    def values(self, tokens: Tokens) -> NDArray[np.int32]:
        """The tokens' field that is predicted, 0 = nothing."""
        raise NotImplementedError

    def vectors(self, items: ItemEncoder, candidates: Tensor, live: Tensor) -> Tensor:
        """(c, D) vectors of candidates (by index from 0)."""
        raise NotImplementedError

    def negatives(self) -> str:
        """full, in_batch or sampled: what the settings come to for this many candidates."""
        settings = cast(UpcomingSettings, self.settings)
        if settings.negatives != "auto":
            return settings.negatives
        return "full" if self.candidates() <= settings.few else "sampled"

    def bind(self, tokens: Tokens) -> None:
        """Frequencies of the candidates, and where the targets lie."""
        values = self.values(tokens)
        self.where = where(values, lambda value: value > 0)
        counts = np.bincount(values[self.where] - 1, minlength=max(self.candidates(), 1)) + 1e-3
        self.frequency = counts / counts.sum()
        self.cumulative = np.cumsum(self.frequency)

    def targets(self, tokens: Tokens, batch: SequenceBatch, spans: Spans, rng: np.random.Generator) -> Arrays:
        """at: states; target: candidates from 0; weight: of each; drawn: negatives."""
        settings = cast(UpcomingSettings, self.settings)
        low, now = spans.after, spans.now
        if settings.skip_hours > 0:
            low = tokens.first_at(low, spans.stop, now + int(settings.skip_hours / 24 * DAY_US))
        high = tokens.first_at(low, spans.stop, now + int(settings.horizon * DAY_US))
        first, last = np.searchsorted(self.where, low), np.searchsorted(self.where, np.maximum(high, low))
        chosen = np.flatnonzero(last > first)
        if len(chosen) > settings.positions:  # states of cuts first: there is one per row
            priority = rng.random(len(chosen)) - (spans.at[chosen] < 0)
            chosen = np.sort(chosen[np.argsort(priority)[: settings.positions]])
        ahead = (last - first)[chosen]
        step = (rng.random(len(chosen)) * ahead).astype(np.int64) if settings.target == "window" else 0
        target = self.values(tokens)[self.where[first[chosen] + step]].astype(np.int64) - 1
        weight = balance(spans.at[chosen] < 0, settings.at_cut)
        return {"at": spans.flat[chosen], "target": target, "weight": weight, **self._draw(rng)}

    def forward(self, states: Tensor, targets: Batch, batch: Batch, items: ItemEncoder) -> Tensor:
        """Mean softmax loss over the chosen positions."""
        settings = cast(UpcomingSettings, self.settings)
        at, target = targets["at"], targets["target"]
        if len(at) == 0:
            return states.sum() * 0.0
        user = F.normalize(self.head(states[at]).float(), dim=-1) * self.log_scale.exp().clamp(max=MAX_SCALE)
        live = batch["live_sku"].min()
        if self.negatives() == "full":
            every = torch.arange(self.candidates(), device=at.device)
            logits = user @ F.normalize(self.vectors(items, every, live).float(), dim=-1).T
            return (full_softmax(logits, target) * targets["weight"]).mean()
        distinct, place = target.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        own = F.normalize(self.vectors(items, distinct, live).float(), dim=-1)[place]
        positive = (user * own).sum(dim=-1)
        if self.negatives() == "in_batch":
            drawn, negative, log_q = target, user @ own.T, self._log_q(target, 0.0)
            share = 0.0
        else:
            drawn, share = targets["drawn"], settings.uniform
            negative = user @ F.normalize(self.vectors(items, drawn, live).float(), dim=-1).T
            log_q = self._log_q(drawn, share)
        same = target[:, None] == drawn
        losses = sampled_softmax(positive, negative, self._log_q(target, share), log_q, same, settings.correction)
        return (losses * targets["weight"]).mean()

    def _draw(self, rng: np.random.Generator) -> Arrays:
        settings = cast(UpcomingSettings, self.settings)
        if self.negatives() != "sampled":
            return {}
        points = rng.random(settings.samples)
        order = np.argsort(points)  # ascending points are found faster: a search goes on where the last one ended
        by_frequency = np.empty(settings.samples, dtype=np.int64)
        by_frequency[order] = np.searchsorted(self.cumulative, points[order])
        uniform = rng.integers(max(self.candidates(), 1), size=settings.samples)
        mixed = np.where(rng.random(settings.samples) < settings.uniform, uniform, by_frequency)
        return {"drawn": np.minimum(mixed, len(self.frequency) - 1).astype(np.int64)}

    def _log_q(self, candidates: Tensor, uniform: float) -> Tensor:
        """Log of the probability with which each candidate is drawn: that of the mixture actually used."""
        frequency = torch.from_numpy(self.frequency)[candidates.cpu()]
        return (uniform / len(self.frequency) + (1 - uniform) * frequency).log().to(candidates.device, torch.float32)


@objective
class NextItem(Upcoming):
    """The product of an upcoming cart, purchase or removal, over the product tower: new products compete by their codes."""

    kind: ClassVar[str] = "next_item"
    description: ClassVar[str] = "Upcoming product, softmax over the product tower."

    def candidates(self) -> int:
        """Products of the catalogue."""
        return len(self.vocabulary.catalogue)

    def values(self, tokens: Tokens) -> NDArray[np.int32]:
        """Catalogue rows."""
        return tokens.product

    def vectors(self, items: ItemEncoder, candidates: Tensor, live: Tensor) -> Tensor:
        """Product vectors."""
        return items.vectors(candidates + 1, live)


class NextUrlSettings(UpcomingSettings):
    """Urls are many: sampled by default."""

    target: Literal["next", "window"] = "next"
    negatives: Literal["auto", "full", "in_batch", "sampled"] = "sampled"
    weight: float = Field(0.3, ge=0)
    samples: int = Field(512, ge=1)


@objective
class NextUrl(Upcoming):
    """The url word of an upcoming visit, over the urls' rows of the embedding table."""

    kind: ClassVar[str] = "next_url"
    description: ClassVar[str] = "Upcoming page, sampled softmax over url words."
    Settings: ClassVar[type[ObjectiveSettings]] = NextUrlSettings

    def candidates(self) -> int:
        """Url words."""
        return len(self.vocabulary.urls)

    def values(self, tokens: Tokens) -> NDArray[np.int32]:
        """Url words."""
        return tokens.url

    def vectors(self, items: ItemEncoder, candidates: Tensor, live: Tensor) -> Tensor:
        """Url rows of the table (urls that are not live yet occur in no input; as candidates they cannot leak)."""
        return items.lookup(items.place("url", candidates + 1))
