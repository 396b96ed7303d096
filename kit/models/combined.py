"""The combined network: hand-made features, a sequence encoder and graph vectors meet in a deep & cross network.

    features (quantile-scaled) ─┐
    sequence encoder, pooled ───┼─ block dropout ─ DCN-v2 ─ z ─┬─ intensity: will there be a purchase / a cart add?
    graph vector ───────────────┘                              └─ choice: of which product, category, price bucket?

Expected purchases factor into intensity × choice, so one trunk serves all six tasks: a task's logit is the sum of two logs.
A choice begins with the popularity at the cut; query(z) · embedding bends it into the client's prior, and what the client
touched so far (product, category and price) updates that prior as counts update a Dirichlet distribution: see `Copies`, which
is how repeats, open carts and restocking enter. A product inherits the lift of its category and price bucket, and ItemTower
embeds it by its codes too, so that one that was never sold can be scored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from kit.errors import require_known
from kit.models.balance import Balance, make_balance
from kit.models.cross import DeepCross, PiecewiseLinear
from kit.models.events import EventSettings
from kit.models.sequence import ClientEncoder, Encoder, pool
from kit.models.sequence.transformer import TransformerSettings
from kit.recipe import Strict
from kit.tokens import Vocabulary

CombinedBatch = dict[str, Any]
"""See `kit.blocks.combined`: «sequence» (a token batch), «features» (B, F) in [-1, 1] or NaN, «graph» (B, g), «cut» (B,),
«live», labels, and what competes in choices of a product: «items» (K, k), «popular» (see `Combined.popularity`), and where not
all products do «candidates», their K catalogue rows, and «place» (p + 1,), 1 + position among them or 0; None otherwise.
For predictions «table», the vectors of what competes, may spare making them for each batch."""
ACTIONS: Final = ("buy", "cart")
"""What is chosen in the future window: bought, or put into the cart (denser)."""
ASPECTS: Final = ("product", "category", "price")
POOLS: Final = ("last", "mean", "recent")
PRIOR_COUNTS: Final = 20.0
"""Start of κ: how many events the prior is worth."""
COPY_DAYS: Final = (15.0, 120.0)
"""Start of the e-folding ages of an event's weight."""
KINDS: Final = 8
GAIN: Final = 10.0
"""Single numbers are stored divided by this: an Adam step would move them too slowly."""
TINY: Final = 1e-9
PIECEWISE_WIDTH: Final = 2
"""Numbers per feature after the piecewise-linear encoding."""
INTENSITIES: Final = ("near", "far", "cart", "return")
"""A purchase in days 1-14; in days 15-28; a cart add in days 1-14; a purchase in days 1-14 by a client who bought before."""


class CrossSettings(Strict):
    """Size of the deep & cross network."""

    hidden: int = Field(192, ge=8)
    layers: int = Field(2, ge=0, description="Cross layers.")
    depth: int = Field(2, ge=0, description="Deep layers.")
    rank: int = Field(32, ge=0, description="Rank of the mixture's experts; 0 = full-rank cross layers.")
    experts: int = Field(2, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)


class NetworkSettings(Strict):
    """Size and objectives of the combined network."""

    width: int = Field(128, ge=8, description="Size of z, the combined vector.")
    events: EventSettings = EventSettings(width=48, age=True)
    encoder: Encoder = TransformerSettings(layers=2, length=96)
    cross: CrossSettings = CrossSettings()
    sequence: bool = Field(True, description="Use the sequence encoder.")
    copies: bool = Field(
        True,
        description="Let the latest products that a client touched update its choices; they are read without the encoder.",
    )
    graph: bool = Field(True, description="Use graph vectors.")
    features: bool = Field(True, description="Use hand-made features.")
    numeric: Literal["quantile", "piecewise"] = Field(
        "quantile",
        description="Hand-made features enter as they are (quantile-uniform), or piecewise-linearly encoded.",
    )
    bins: int = Field(6, ge=2, description="Bins per feature of the piecewise-linear encoding.")
    block_dropout: float = Field(0.1, ge=0, lt=1, description="Share of clients who lose one part while training.")
    balance: Literal["fixed", "uncertainty", "gradient-norm"] = "fixed"
    weights: dict[str, float] = Field(
        {
            "near": 1.0, "far": 1.0, "cart": 0.5, "return": 0.5,
            "buy_product": 0.5, "buy_category": 0.5, "buy_price": 0.5,
            "cart_product": 0.25, "cart_category": 0.25, "cart_price": 0.25, "contrast": 0.1,
        },
        description="Weight of each loss term (before `balance`); 0 leaves it out.",
    )  # fmt: skip
    temperature: float = Field(0.1, gt=0, description="Of the contrastive past-to-future loss.")

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        choices = [f"{action}_{aspect}" for action in ACTIONS for aspect in ASPECTS]
        require_known("loss term", weights, [*INTENSITIES, *choices, "contrast"])
        return weights


@dataclass(frozen=True)
class Outputs:
    """What the network says about B clients.

    Attributes:
        z: (B, width), the combined vector.
        query: (B, D), where in product space the client will buy.
        intensity: (B, 4) logits of INTENSITIES.
        choice: per action and aspect, log-probabilities (B, K), (B, C) or (B, 100).
    """

    z: Tensor
    query: Tensor
    intensity: Tensor
    choice: dict[tuple[str, str], Tensor]


class Combined(nn.Module):
    """See the module's docstring.

    Args:
        vocabulary: words and catalogue of the tokens.
        features: F, columns of the hand-made part.
        graph: g, columns of the graph part.
        items: k, statistics per product at a cut.
        settings: sizes and objectives.
    """

    def __init__(
        self, vocabulary: Vocabulary, features: int, graph: int, items: int, settings: NetworkSettings
    ) -> None:
        super().__init__()
        self.settings = settings
        d = settings.events.width
        self.client = ClientEncoder(vocabulary, settings.events, settings.encoder)
        self.numeric: nn.Module = nn.Identity()
        if settings.numeric == "piecewise":
            edges = torch.linspace(-1, 1, settings.bins + 1).expand(features, -1).contiguous()
            self.numeric, features = PiecewiseLinear(edges, PIECEWISE_WIDTH), features * PIECEWISE_WIDTH
        widths = {
            "features": features if settings.features else 0,
            "sequence": len(POOLS) * d if settings.sequence else 0,
            "graph": graph if settings.graph else 0,
        }
        self.parts = {name: width for name, width in widths.items() if width}
        self.norms = nn.ModuleDict(
            {name: nn.LayerNorm(width) for name, width in self.parts.items() if name != "features"}
        )
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in self.parts.items()})
        cross = settings.cross
        self.trunk = DeepCross(
            sum(self.parts.values()), settings.width, hidden=cross.hidden, layers=cross.layers, depth=cross.depth,
            rank=cross.rank, experts=cross.experts, dropout=cross.dropout,
        )  # fmt: skip
        self.intensity = nn.Linear(settings.width, len(INTENSITIES))
        self.queries = nn.ModuleDict({f"{a}_{b}": nn.Linear(settings.width, d) for a in ACTIONS for b in ASPECTS})
        self.copies = Copies(settings.width)
        self.item_bias = nn.ModuleDict(
            {a: nn.Sequential(nn.Linear(items, 16), nn.GELU(), nn.Linear(16, 1)) for a in ACTIONS}
        )
        for bias in self.item_bias.values():
            nn.init.zeros_(
                cast(nn.Linear, cast(nn.Sequential, bias)[-1]).weight
            )  # the popularity at the cut is where learning starts
        categories = len(vocabulary.catalogue.categories)
        self.sizes = {"product": len(vocabulary.catalogue), "category": categories, "price": 100}
        self.aspect_bias = nn.ParameterDict(
            {f"{a}_{b}": nn.Parameter(torch.zeros(self.sizes[b])) for a in ACTIONS for b in ASPECTS[1:]}
        )
        catalogue = vocabulary.catalogue
        for aspect in ASPECTS[1:]:
            of_item = torch.from_numpy(getattr(catalogue, aspect)[1:].astype("int64"))
            self.register_buffer(f"item_{aspect}", of_item, persistent=False)
        self.inherit = nn.ParameterDict(
            {
                f"{a}_{b}": nn.Parameter(torch.tensor({"category": 1.0, "price": 0.5}[b]))
                for a in ACTIONS
                for b in ASPECTS[1:]
            }
        )
        self.scale = nn.Parameter(torch.tensor(0.2 * d**-0.5).log() / GAIN)
        self.balance: Balance = make_balance(settings.balance, settings.weights)

    def encode(self, batch: CombinedBatch) -> Tensor:
        """z (B, width)."""
        parts: dict[str, Tensor] = {}
        if "sequence" in self.parts:
            states = self.client(batch["sequence"])
            parts["sequence"] = self.norms["sequence"](pool(states, batch["sequence"], POOLS, batch["cut"]))
        if "features" in self.parts:
            parts["features"] = self.numeric(batch["features"]).nan_to_num()
        if "graph" in self.parts:
            graph = batch["graph"]
            known = ~torch.isnan(graph).any(dim=1, keepdim=True)
            parts["graph"] = torch.where(known, self.norms["graph"](graph.nan_to_num()), self.absent["graph"])
        return cast(Tensor, self.trunk(torch.cat([self._dropped(name, parts[name]) for name in self.parts], dim=1)))

    def _dropped(self, name: str, x: Tensor) -> Tensor:
        """Block dropout: while training, a part is now and then replaced by its learned «absent» vector."""
        if not self.training or self.settings.block_dropout == 0:
            return x
        gone = torch.rand(len(x), 1, device=x.device) < self.settings.block_dropout
        return torch.where(gone, self.absent[name], x)

    def choice(self, action: str, aspect: str, z: Tensor, batch: CombinedBatch, live: int) -> Tensor:
        """Log-probabilities over the products that compete (B, K), categories (B, C) or price buckets (B, 100)."""
        tower = self.client.embedding.items
        popular, touched = batch["popular"][aspect], batch["touched"]
        if aspect == "product":
            rows, table = batch["candidates"], batch.get("table")
            if table is None:
                table = tower.vectors(rows, live)
            bias = self.item_bias[action](batch["items"])[:, 0] + self._inherited(action, z, batch, live)
            touched = touched if rows is None else {**touched, "product": batch["place"][touched["product"]]}
        else:
            rows = torch.arange(1, self.sizes[aspect] + 1, device=z.device)
            table = tower.rows(aspect, rows)
            bias = self.aspect_bias[f"{action}_{aspect}"]
        query = self.queries[f"{action}_{aspect}"](z)
        logits = query @ table.T * (GAIN * self.scale).exp() + popular + bias
        prior = torch.log_softmax(logits.float(), dim=1)
        return cast(Tensor, self.copies(prior, action, aspect, z, touched)) if self.settings.copies else prior

    @torch.no_grad()
    def popularity(self, items: Tensor, candidates: Tensor | None) -> dict[str, Tensor]:
        """Log popularity at a cut, (K,), (C,) and (100,): decayed purchases and cart adds of everybody.

        Args:
            items: statistics of all products, (p, k).
            candidates: catalogue rows of those that compete, (K,), or None for all.
        """
        items = items.to(self.scale.device)
        candidates = None if candidates is None else candidates.to(self.scale.device)
        counts = torch.expm1(items[:, :2]).sum(1) + 0.03 * torch.expm1(items[:, 2:4]).sum(1) + 0.1
        found = {"product": (counts if candidates is None else counts[candidates - 1]).log()}
        for aspect in ASPECTS[1:]:
            place = getattr(self, f"item_{aspect}")
            total = torch.zeros(self.sizes[aspect] + 1, device=items.device).scatter_add(0, place, counts)
            found[aspect] = (total[1:] + 0.1).log()
        return found

    def _inherited(self, action: str, z: Tensor, batch: CombinedBatch, live: int) -> Tensor:
        """How much more than others the client wants a product's category and price bucket, (B, K) log lifts.

        It is all there is to know of a product that nobody has touched, besides its codes.
        """
        total = torch.zeros(len(z), len(batch["items"]), device=z.device)
        for aspect in ASPECTS[1:]:
            logp = self.choice(action, aspect, z, batch, live)
            lift = logp - torch.log_softmax(batch["popular"][aspect], dim=0)
            of_item = getattr(self, f"item_{aspect}")
            if batch["candidates"] is not None:
                of_item = of_item[batch["candidates"] - 1]
            # not an index: the gradient of one takes four times as long
            total = total + self.inherit[f"{action}_{aspect}"] * F.pad(lift, (1, 0)).index_select(1, of_item)
        return total

    def forward(self, batch: CombinedBatch) -> dict[str, Tensor]:
        """Weighted loss terms; a term that no client of the batch defines is left out, and «near» is 0 if all are."""
        z = self.encode(batch)
        weights, terms = self.settings.weights, {}
        logits = self.intensity(self.balance.fork(z, "intensity"))
        for column, name in enumerate(INTENSITIES):
            known = batch["intensity_known"][:, column]
            if weights.get(name, 0) > 0 and bool(known.any()):
                terms[name] = F.binary_cross_entropy_with_logits(
                    logits[known, column], batch["intensity"][known, column]
                )
        live = int(batch["live"])
        for action in ACTIONS:
            rows, labels = batch[f"{action}_rows"], batch[f"{action}_labels"]
            if len(rows) == 0:
                continue
            some = _rows(batch, rows)
            for aspect in ASPECTS:
                name = f"{action}_{aspect}"
                if weights.get(name, 0) > 0:
                    logp = self.choice(action, aspect, self.balance.fork(z[rows], name), some, live)
                    target = labels[aspect]
                    if aspect == "product" and batch["place"] is not None:
                        target = batch["place"][target]
                    terms[name] = choice_loss(logp, target, labels["row"], labels["weight"])
        if weights.get("contrast", 0) > 0 and len(batch["cart_rows"]) > 1:
            terms["contrast"] = self._contrast(z, batch, live)
        if not terms:  # of these clients nothing is known and nothing happened: a step of zero, for all processes alike
            return {"near": 0.0 * z.sum()}
        return cast(dict[str, Tensor], self.balance(terms))

    def _contrast(self, z: Tensor, batch: CombinedBatch, live: int) -> Tensor:
        """Past → future InfoNCE: a client's query against the mean product vector of each client's own future (TECHNIQUES D2)."""
        rows, labels = batch["cart_rows"], batch["cart_labels"]
        vectors = self.client.embedding.items.vectors(labels["product"], live) * labels["weight"][:, None]
        future = torch.zeros(len(rows), vectors.shape[1], device=z.device, dtype=vectors.dtype)
        future = F.normalize(future.index_add(0, labels["row"], vectors), dim=1)
        query = F.normalize(self.queries["cart_product"](self.balance.fork(z[rows], "contrast")), dim=1)
        logits = (query @ future.T / self.settings.temperature).float()
        return F.cross_entropy(logits, torch.arange(len(rows), device=z.device))

    @torch.inference_mode()
    def predict(self, batch: CombinedBatch) -> Outputs:
        """z, query, intensities and choices of all clients in the batch."""
        z = self.encode(batch)
        live = int(batch["live"])
        choice = {("buy", aspect): self.choice("buy", aspect, z, batch, live) for aspect in ASPECTS}
        return Outputs(z, self.queries["buy_product"](z), self.intensity(z), choice)


class Copies(nn.Module):
    """What the client touched so far as a part of the choice: a Dirichlet prior that events update.

    p(i) = (κ · prior(i) + Σ w_t over events t that touched i) / (κ + Σ w_t), the mean of a Dirichlet distribution whose prior
    counts κ depend on z; an event's weight depends on its kind and, as a sum of exponentials, on its age. Adding the weights
    to logits instead would let the fifth purchase count as much as the first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        columns, days = len(ACTIONS) * len(ASPECTS), torch.tensor(COPY_DAYS)
        self.prior = nn.Linear(width, columns)
        nn.init.zeros_(self.prior.weight)
        nn.init.constant_(self.prior.bias, math.log(PRIOR_COUNTS))
        self.kind = nn.Parameter(torch.full((len(days), KINDS, columns), -math.log(len(days)) / GAIN))
        self.rate = nn.Parameter((-days.log() / GAIN)[:, None].repeat(1, columns))

    def forward(self, prior: Tensor, action: str, aspect: str, z: Tensor, touched: dict[str, Tensor]) -> Tensor:
        """Log-probabilities (B, n) from the prior's (B, n)."""
        column = ACTIONS.index(action) * len(ASPECTS) + ASPECTS.index(aspect)
        index, days = touched[aspect].long(), touched["days"]  # (B, T)
        strength = (GAIN * self.kind[:, :, column]).exp()[:, touched["kind"].long()]  # (scales, B, T)
        fade = (-days * (GAIN * self.rate[:, column]).exp()[:, None, None]).exp()
        weight = (strength * fade).sum(0) * (index > 0)
        counts = torch.zeros(len(z), prior.shape[1] + 1, device=z.device).scatter_add(1, index, weight)[:, 1:]
        kappa = self.prior(z)[:, column, None].float().clamp(-4, 8)
        total = torch.logaddexp(kappa, (weight.sum(1, keepdim=True) + TINY).log())
        return torch.logaddexp(kappa + prior, (counts + TINY).log()) - total


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
    shared = {name: batch[name] for name in ("items", "popular", "candidates", "place")}
    return {**shared, "touched": {name: values[rows] for name, values in batch["touched"].items()}}
