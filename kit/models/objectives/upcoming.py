"""What comes next: the next product (or url), or one drawn from the days ahead, by a softmax over the product tower.

Techniques A5, F2.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from kit.models.losses import AnyLoss, PairScores, make_loss
from kit.models.losses.softmax import SoftmaxSettings, full_softmax
from kit.models.negatives import AnySampler, make_sampler
from kit.models.negatives.frequency import FrequencySettings
from kit.models.objectives.base import Arrays, Objective, ObjectiveSettings, Spans, balance, objective
from kit.tokens import SequenceBatch, Tokens, Vocabulary

MAX_SCALE = 100.0


class UpcomingSettings(ObjectiveSettings):
    """Which target, and which softmax."""

    target: Literal["next", "window"] = Field(
        "window",
        description="The very next one, or one drawn from all in the horizon (PinnerFormer's dense all-action).",
    )
    horizon: float | None = Field(
        None,
        gt=0,
        description="Days ahead within which the target must lie; by default as many as the data folder's target windows have.",
    )
    skip_hours: float = Field(
        0.0, ge=0, description="Targets sooner than this do not count: skips the running session."
    )
    negatives: Literal["auto", "full", "in_batch", "sampled"] = Field(
        "auto", description="What the target competes with; auto = everything if that is few enough, else a sample."
    )
    loss: AnyLoss = Field(SoftmaxSettings(correction="refined"), description="For in_batch and sampled negatives.")
    sampler: AnySampler = Field(FrequencySettings(), description="What draws sampled negatives.")
    few: int = Field(8192, ge=1, description="Most candidates for which auto takes them all.")
    samples: int = Field(1024, ge=1, description="Negatives per batch, shared by its positions.")
    positions: int = Field(256, ge=1, description="Positions per batch at most; drawn when there are more.")

    moved: ClassVar[Mapping[str, str]] = {"correction": "`loss.correction`", "uniform": "`sampler.uniform`"}


class Upcoming(Objective):
    """Shared by `next_item` and `next_url`: states against candidate vectors, cosine times a learned scale."""

    Settings: ClassVar[type[ObjectiveSettings]] = UpcomingSettings

    def __init__(self, width: int, vocabulary: Vocabulary, settings: ObjectiveSettings) -> None:
        super().__init__(width, vocabulary, settings)
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        self.loss = make_loss(cast(UpcomingSettings, settings).loss)
        self.count(np.ones(max(self.candidates(), 1)))

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
        counts = np.bincount(values[self.where] - 1, minlength=max(self.candidates(), 1))
        self.count(counts.astype(np.float64) + 1e-3)

    def count(self, counts: NDArray[np.float64]) -> None:
        """Frequencies of the candidates, and the sampler that goes by them."""
        frequency = counts / counts.sum()
        self.frequency: NDArray[np.float64] = frequency
        pool = np.arange(len(frequency))
        self.sampler = make_sampler(cast(UpcomingSettings, self.settings).sampler, pool, lambda: frequency)
        self.chance = self.sampler.chance()

    def targets(self, tokens: Tokens, batch: SequenceBatch, spans: Spans, rng: np.random.Generator) -> Arrays:
        """at: states; target: candidates from 0; weight: of each; drawn: negatives."""
        settings = cast(UpcomingSettings, self.settings)
        low, now = spans.after, spans.now
        if settings.skip_hours > 0:
            low = tokens.first_at(low, spans.stop, now + int(settings.skip_hours / 24 * DAY_US))
        high = tokens.first_at(low, spans.stop, now + int((settings.horizon or self.days) * DAY_US))
        first, last = np.searchsorted(self.where, low), np.searchsorted(self.where, np.maximum(high, low))
        chosen = np.flatnonzero(last > first)
        if len(chosen) > settings.positions:  # states of cuts first: there is one per row
            priority = rng.random(len(chosen)) - (spans.at[chosen] < 0)
            chosen = np.sort(chosen[np.argsort(priority)[: settings.positions]])
        ahead = (last - first)[chosen]
        step = (rng.random(len(chosen)) * ahead).astype(np.int64) if settings.target == "window" else 0
        target = self.values(tokens)[self.where[first[chosen] + step]].astype(np.int64) - 1
        weight = balance(spans.at[chosen] < 0, settings.at_cut)
        return {"at": spans.flat[chosen], "target": target, "weight": weight, **self._draw(rng, target)}

    def forward(self, states: Tensor, targets: Batch, batch: Batch, items: ItemEncoder) -> Tensor:
        """Mean softmax loss over the chosen positions."""
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
            drawn, negative, chance = target, user @ own.T, self.frequency
        else:
            drawn, chance = targets["drawn"], self.chance
            negative = user @ F.normalize(self.vectors(items, drawn, live).float(), dim=-1).T
        positive_q, negative_q = (_log_of(chance, which) for which in (target, drawn))
        same = target[:, None] == drawn
        return self.loss(PairScores(positive, negative, same, targets["weight"], positive_q, negative_q))

    def _draw(self, rng: np.random.Generator, target: NDArray[np.int64]) -> Arrays:
        if self.negatives() != "sampled":
            return {}
        return {"drawn": self.sampler.draw(rng, target, cast(UpcomingSettings, self.settings).samples)}


def _log_of(chance: NDArray[np.float64], candidates: Tensor) -> Tensor:
    """Log of the probability with which each candidate is drawn."""
    return torch.from_numpy(chance)[candidates.cpu()].log().to(candidates.device, torch.float32)


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
