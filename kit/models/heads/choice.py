"""Head `choice`: of which product, category and price bucket will the next purchases (and cart adds) be?

A choice begins with the popularity at the cut; query(z) · embedding bends it into the client's prior, and what the client
touched so far (product, category and price) updates that prior as counts update a Dirichlet distribution: see `Copies`, which
is how repeats, open carts and restocking enter. Hand-made columns about a single label are read by it alone: see `Evidence`.
A product inherits the lift of its category and price bucket, so that one that was never sold can be scored.

Columns:
    query_*     where in product space the client will buy: any product's preference is a dot product with it
    forecast_*  logs of expected purchases per published category and sku, per price bucket, and per category for products that
                nobody has bought yet; the rate is that of the head `intensity`, without which they are the choices
    choice_*    the same without the client's rate: what will be bought if anything is. A probe of few steps reads rate and
                choice better apart than multiplied into a hundred columns

Technique G1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, TypeAlias, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from kit.challenge import PRICE_BUCKETS, EventType
from kit.errors import require_known
from kit.history import History
from kit.kinds import Numbers
from kit.limits.need import Counts
from kit.models.batch import CombinedBatch, Market
from kit.models.heads.ahead import Ahead
from kit.models.heads.base import Head, HeadShape, Names, Shared, head
from kit.models.heads.copies import ACTIONS, ASPECTS, Copies
from kit.models.heads.evidence import Evidence
from kit.models.heads.intensity import later_rate
from kit.models.heads.positives import ChosenLabels, Picks
from kit.models.heads.published import NEW_CATEGORIES, Published
from kit.models.parts.features import Features
from kit.recipe import Strict
from kit.tokens import Tokens

Known: TypeAlias = list[tuple[str, Tensor, Tensor]]
"""(aspect, the z that it was chosen from, log-probabilities) of one action on one batch."""
EVENTS: Final = {"buy": EventType.BUY, "cart": EventType.CART}


class ChoiceSettings(Strict):
    """Weights of its terms, and whether choices are updated by what was touched."""

    weights: Annotated[dict[str, float], Numbers()] = Field(
        {
            "buy_product": 0.5, "buy_category": 0.5, "buy_price": 0.5,
            "cart_product": 0.25, "cart_category": 0.25, "cart_price": 0.25,
        },
        description="Weight of each loss term (before `balance`); 0 leaves it out.",
    )  # fmt: skip
    copies: bool = Field(
        True,
        description="Let the latest products that a client touched update its choices; they are read without the encoder.",
    )
    evidence: bool = Field(
        True,
        description="Let every category, sku and price bucket read the hand-made columns that are about it alone, such as "
        "`targets__category_7`; without the part `features` there are none.",
    )

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        require_known("loss term", weights, [f"{action}_{aspect}" for action in ACTIONS for aspect in ASPECTS])
        return weights


@head
class Choice(Head):
    """See the module's docstring."""

    kind: ClassVar[str] = "choice"
    description: ClassVar[str] = "Which product, category and price bucket will be bought or put into the cart."
    Settings: ClassVar[type[Strict]] = ChoiceSettings
    scalars = ("scale",)

    def __init__(self, shape: HeadShape, settings: ChoiceSettings) -> None:
        super().__init__(shape, settings)
        both = [(action, aspect) for action in ACTIONS for aspect in ASPECTS]
        for action, aspect in both:
            shape.queries.ask(f"{action}_{aspect}")
        self.dim, self.copied = shape.dim, settings.copies
        self.copies = Copies(shape.width)
        # Which categories have a column is settled at the first cut that is asked about, and saved with the weights.
        self.register_buffer("new_categories", torch.full((NEW_CATEGORIES,), -1))
        self.item_bias = nn.ModuleDict(
            {a: nn.Sequential(nn.Linear(shape.statistics, 16), nn.GELU(), nn.Linear(16, 1)) for a in ACTIONS}
        )
        for bias in self.item_bias.values():  # the popularity at the cut is where learning starts
            nn.init.zeros_(cast(nn.Linear, cast(nn.Sequential, bias)[-1]).weight)
        catalogue = shape.vocabulary.catalogue
        self.sizes = {"product": len(catalogue), "category": len(catalogue.categories), "price": PRICE_BUCKETS}
        rest = [(action, aspect) for action, aspect in both if aspect != "product"]
        self.aspect_bias = nn.ParameterDict({f"{a}_{b}": nn.Parameter(torch.zeros(self.sizes[b])) for a, b in rest})
        for aspect in ASPECTS[1:]:
            of_item = torch.from_numpy(getattr(catalogue, aspect)[1:].astype("int64"))
            self.register_buffer(f"item_{aspect}", of_item, persistent=False)
        start = {"category": 1.0, "price": 0.5}
        self.inherit = nn.ParameterDict({f"{a}_{b}": nn.Parameter(torch.tensor(start[b])) for a, b in rest})
        self.scale = nn.Parameter(torch.tensor(0.2 * shape.dim**-0.5).log())
        self.evidence = nn.ModuleDict()
        names = shape.names.get(Features.kind, ())
        for action, aspect in both if settings.evidence and names else ():
            self.evidence[f"{action}_{aspect}"] = Evidence(shape.width, names, aspect, catalogue)

    def weights(self) -> dict[str, float]:
        """Per action and aspect."""
        return cast(ChoiceSettings, self.settings).weights

    @classmethod
    def labels(cls, ahead: Ahead, settings: Strict) -> ChosenLabels:
        """Products bought, and put into the cart, in both windows."""
        return ChosenLabels.of_actions(ahead, EVENTS)

    def loss(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> dict[str, Tensor]:
        """Cross-entropy of what clients chose, every client counting the same."""
        terms: dict[str, Tensor] = {}
        for action in ACTIONS:
            picks: Picks = batch.labels[self.kind][action]
            if len(picks.at) == 0:
                continue
            some, own = _rows(batch, picks.at), z[picks.at]
            known: Known = []
            for aspect in ASPECTS:
                name = f"{action}_{aspect}"
                if self.weights().get(name, 0) > 0:
                    logp = self.choice(action, aspect, shared.fork(own, name), some, shared, known)
                    target = picks.aspect(aspect)
                    if aspect == "product":
                        target = batch.market.positions(target)
                    terms[name] = choice_loss(logp, target, picks.row, picks.weight)
        return terms

    def choice(self, action: str, aspect: str, z: Tensor, batch: CombinedBatch, shared: Shared, known: Known) -> Tensor:
        """Log-probabilities over the products that compete (B, K), categories (B, C) or price buckets (B, 100).

        `known` holds what was chosen by this action from this batch before: it is not computed again from the same z.
        """
        for what, whose, logp in known:
            if what == aspect and whose is z:
                return logp
        logp = self._choice(action, aspect, z, batch, shared, known)
        known.append((aspect, z, logp))
        return logp

    def _choice(
        self, action: str, aspect: str, z: Tensor, batch: CombinedBatch, shared: Shared, known: Known
    ) -> Tensor:
        items, market, touched = shared.items, batch.market, batch.touched
        popular, index = market.popular[aspect], touched.of(aspect)
        if aspect == "product":
            table = market.table
            if table is None:
                table = items.vectors(market.candidates, market.live)
            bias = self.item_bias[action](market.items)[:, 0] + self._inherited(action, z, batch, shared, known)
            index = market.positions(index)
        else:
            table = items.rows(aspect, torch.arange(1, self.sizes[aspect] + 1, device=z.device))
            bias = self.aspect_bias[f"{action}_{aspect}"]
        query = shared.queries[f"{action}_{aspect}"](z)
        logits = query @ table.T * self.scale.exp() + popular + bias
        if f"{action}_{aspect}" in self.evidence:
            logits = logits + self._evident(action, aspect, z, batch)
        prior = torch.log_softmax(logits.float(), dim=1)
        return cast(Tensor, self.copies(prior, action, aspect, z, touched, index)) if self.copied else prior

    def _evident(self, action: str, aspect: str, z: Tensor, batch: CombinedBatch) -> Tensor:
        """What the labels' own columns say, (B, n)."""
        evidence, market = cast(Evidence, self.evidence[f"{action}_{aspect}"]), batch.market
        at = market.positions(evidence.labels) if aspect == "product" else evidence.labels
        return cast(Tensor, evidence(batch.inputs[Features.kind], z, market.popular[aspect], at))

    def _inherited(self, action: str, z: Tensor, batch: CombinedBatch, shared: Shared, known: Known) -> Tensor:
        """How much more than others the client wants a product's category and price bucket, (B, K) log lifts.

        It is all there is to know of a product that nobody has touched, besides its codes.
        """
        market = batch.market
        total = torch.zeros(len(z), len(market.items), device=z.device)
        for aspect in ASPECTS[1:]:
            logp = self.choice(action, aspect, z, batch, shared, known)
            lift = logp - torch.log_softmax(market.popular[aspect], dim=0)
            of_item = getattr(self, f"item_{aspect}")
            if market.candidates is not None:
                of_item = of_item[market.candidates - 1]
            # not an index: the gradient of one takes four times as long
            total = total + self.inherit[f"{action}_{aspect}"] * F.pad(lift, (1, 0)).index_select(1, of_item)
        return total

    def plan(self, history: History, tokens: Tokens, market: Market) -> Published:
        """Which choices become columns."""
        before = cast(Tensor, self.new_categories)
        known = before[before >= 0].tolist()
        plan = Published.of(history, tokens, market, known or None)
        if not known:
            before[: len(plan.richest)] = torch.tensor(plan.richest)
        return plan

    def names(self, plan: Published) -> Names:
        """query_*, forecast_*, choice_*."""
        vectors = tuple(f"query_{i}" for i in range(self.dim))
        return Names(vectors, (*(f"forecast_{n}" for n in plan.labels), *(f"choice_{n}" for n in plan.labels)))

    def say(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> dict[str, Tensor]:
        """query (B, D), and log-probabilities of purchases by aspect."""
        known: Known = []
        choice = {aspect: self.choice("buy", aspect, z, batch, shared, known) for aspect in ASPECTS}
        return {"query": shared.queries["buy_product"](z), **choice}

    def fill(self, said: Mapping[str, Any], plan: Published) -> tuple[Tensor, Tensor]:
        """choice = log P(this, if anything); forecast = the log of the expected purchases of it, later."""
        own, rate = said[self.kind], later_rate(said)
        choices = plan.fill(own)
        later = torch.zeros_like(choices[:, :1]) if rate is None else rate
        return own["query"], torch.cat([choices + later, choices], dim=1)

    @classmethod
    def most_columns(cls, settings: Strict, counts: Counts, dim: int) -> int:
        """The query, and twice the published categories, skus, price buckets and categories with new products."""
        return dim + 2 * (sum(counts.targets) + PRICE_BUCKETS + NEW_CATEGORIES)


def choice_loss(logp: Tensor, target: Tensor, row: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy with several weighted positives per client, every client counting the same.

    Args:
        logp: log-probabilities (R, n).
        target: 1 … n per positive, 0 = unknown (left out), integer (m,).
        row: which of the R clients each positive belongs to (m,).
        weight: per positive, summing to 1 over a client (m,).
    """
    known = target > 0
    picked = logp[row[known], target[known].long() - 1]
    return -(picked * weight[known]).sum() / logp.shape[0]


def _rows(batch: CombinedBatch, rows: Tensor) -> CombinedBatch:
    """What `choice` reads, narrowed to some rows of the batch."""
    inputs = {kind: values[rows] for kind, values in batch.inputs.items()}
    return CombinedBatch(batch.cut[rows], {}, batch.touched.rows(rows), inputs, batch.market)
