"""Block `combined`: features, sequence and graph in one deep & cross network, trained on the futures of many rewound cuts.

Its columns, to be picked apart in a recipe by `columns` (so that each part can be scaled, weighed and left out):
    z_*         the combined vector
    query_*     where in product space the client will buy: any product's preference is a dot product with it
    forecast_*  task predictions as logs: purchase soon and later, per published category and sku, per price bucket, and per
                category for products that nobody has bought yet
    choice_*    the same without the client's rate: what will be bought if anything is. A probe of few steps reads rate and
                choice better apart than multiplied into a hundred columns
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.preprocessing import QuantileTransformer
from torch import Tensor, nn

from kit.blocks.base import Block, BlockOutput, block
from kit.blocks.futures import ITEM_COLUMNS, Future, Positives, item_statistics, rewound_futures
from kit.blocks.graph import GraphFeatures
from kit.blocks.stats import Stats, StatsSettings
from kit.blocks.twhin import TwHINBlock, TwHINSettings
from kit.challenge import PRICE_BUCKETS, Task
from kit.errors import KitError
from kit.history import History
from kit.models.combined import ACTIONS, ASPECTS, DAY_US, INTENSITIES, Combined, CombinedBatch, NetworkSettings, Outputs
from kit.models.events import to_tensors
from kit.models.training import TrainReport, TrainSettings, train
from kit.progress import stage
from kit.recipe import Strict
from kit.tokens import Tokens, TokenSettings, length_buckets, sequence_batch, tokenise

TOUCHES = 128
"""Product events per client that choices may repeat, the latest ones."""
NEW_CATEGORIES = 64
"""Categories with the most never-bought products, each of which gets a forecast column."""


class CombinedSettings(Strict):
    """Settings of the combined block."""

    network: NetworkSettings = NetworkSettings()
    stats: StatsSettings = Field(StatsSettings(), description="Which hand-made features enter the network.")
    tokens: TokenSettings = TokenSettings()
    train: TrainSettings = TrainSettings(epochs=1, lr=2e-3, weight_decay=0.05)
    graph: TwHINSettings = Field(
        TwHINSettings(dim=32),
        description="The graph encoder, fitted once at the earliest cut; network.graph = false leaves it out.",
    )
    cuts: int = Field(5, ge=1, description="How many rewound cuts to train on.")
    stride: int = Field(7, ge=1, description="Days between them.")
    held_out: float = Field(0.1, gt=0, lt=0.5, description="Share of clients kept for early stopping.")
    budget: int = Field(8_192, ge=256, description="Tokens per batch, padding included.")
    clients: int = Field(192, ge=2, description="Clients per batch at most.")


@dataclass(frozen=True)
class Inputs:
    """What the network reads at one cut, for all clients."""

    cut: int
    features: NDArray[np.float32]
    items: NDArray[np.float32]
    live: int
    graph: NDArray[np.float32]


@block
class CombinedBlock(Block):
    """The combined vector, the product query and the task forecasts of every client with a history."""

    kind = "combined"
    description = "Deep & cross network over features and the event sequence, trained on future windows."
    sources = (
        "arrays.py",
        "blocks/combined.py",
        "blocks/futures.py",
        "blocks/stats.py",
        "blocks/edges.py",
        "blocks/graph.py",
        "blocks/twhin.py",
        "features",
        "history.py",
        "models",
        "tokens",
    )
    Settings: ClassVar[type[Strict]] = CombinedSettings

    def fit(self, history: History) -> CombinedBlock:
        """Train on the history's rewound cuts.

        Raises:
            KitError: the history is too short for a single rewound window, or nobody bought anything in them.
        """
        settings = cast(CombinedSettings, self.settings)
        self.tokens = tokenise(history, settings.tokens)
        futures = rewound_futures(history, self.tokens, settings.cuts, settings.stride)
        if not futures or not any(len(future.positives["buy"].row) for future in futures):
            raise KitError(
                f"No purchase lies in the last {settings.cuts * settings.stride} days before {history.cut}.",
                "The combined block learns from rewound windows: raise `cuts` or `stride`, or leave the block out.",
            )
        self.columns: tuple[str, ...] = ()
        with stage("features at rewound cuts"):
            raw = [self._features(future.history) for future in futures]
        self._fit_scaler(raw)
        # Tables fitted at the earliest cut know nobody's future at any of the cuts; clients are embedded from their edges.
        self.graph = GraphFeatures(TwHINBlock(settings.graph, self.seed)) if settings.network.graph else None
        if self.graph is not None:
            self.graph.fit(futures[-1].history)
        inputs = [
            Inputs(future.cut, self._scaled(x), future.items, self._live(future.cut), self._graph(future.history))
            for future, x in zip(futures, raw, strict=True)
        ]
        torch.manual_seed(self.seed)
        widths = inputs[0].features.shape[1], inputs[0].graph.shape[1]
        self.network = Combined(self.tokens.vocabulary, *widths, ITEM_COLUMNS, settings.network)
        self.report = self._train(futures, inputs)
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """float32 (n, d); NaN for clients without events. Computed for all of history.clients, whatever is asked for.

        Float sums depend on a batch's shape in their last bits, so a client's row must not depend on its neighbours.
        """
        tokens = tokenise(history, cast(CombinedSettings, self.settings).tokens, self.tokens.vocabulary)
        catalogue = tokens.vocabulary.catalogue
        inputs = Inputs(
            tokens.cut,
            self._scaled(self._features(history)),
            item_statistics(history, catalogue),
            self._live(tokens.cut),
            self._graph(history),
        )
        columns = Columns.of(history, tokens, inputs)
        names = columns.names(self.network)
        values = np.full((len(history.clients), len(names)), np.nan, dtype=np.float32)
        self.network.eval()
        for rows in self._buckets(tokens, tokens.cut, None):
            values[rows] = columns.fill(self.network.predict(_batch(self._length(), tokens, inputs, rows)))
        return BlockOutput(values[np.searchsorted(history.clients, clients)], names)

    def save(self, folder: Path) -> None:
        """network.pt (weights) and training.json (losses, validation, throughput)."""
        torch.save(self.network.state_dict(), folder / "network.pt")
        # Seconds differ from run to run; what is saved must not, so that equal inputs give equal files.
        report = {key: value for key, value in self.report.as_json().items() if "second" not in key}
        (folder / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def _features(self, history: History) -> NDArray[np.float32]:
        """The hand-made features of all clients, float32 (n, F). Which columns there are may depend on the cut (top lists of
        a young log are short): those of the first call stay, and one that a later call lacks is missing (NaN) there."""
        output = Stats(cast(CombinedSettings, self.settings).stats, self.seed).transform(history, history.clients)
        if not self.columns:
            self.columns = output.columns
        place = {name: i for i, name in enumerate(output.columns)}
        values = np.full((len(output.values), len(self.columns)), np.nan, dtype=np.float32)
        known = [i for i, name in enumerate(self.columns) if name in place]
        values[:, known] = output.values[:, [place[self.columns[i]] for i in known]]
        return values

    def _fit_scaler(self, raw: Sequence[NDArray[np.float32]]) -> None:
        stacked = np.concatenate(raw)
        stacked[~np.isfinite(stacked)] = np.nan
        quantiles = min(256, len(stacked))
        self.scaler = QuantileTransformer(n_quantiles=quantiles, subsample=50_000, random_state=self.seed).fit(stacked)

    def _scaled(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Quantile-uniform in [-1, 1]; NaN stays NaN."""
        clean = np.where(np.isfinite(raw), raw, np.nan).astype(np.float32)
        scaled: NDArray[np.float32] = (2 * self.scaler.transform(clean) - 1).astype(np.float32)
        return scaled

    def _graph(self, history: History) -> NDArray[np.float32]:
        """Graph vectors of all clients at the history's cut, float32 (n, dim), NaN without edges; (n, 0) without a graph."""
        if self.graph is None:
            return np.zeros((len(history.clients), 0), dtype=np.float32)
        return self.graph.clients(history, history.clients)

    def _live(self, cut: int) -> int:
        return int(self.tokens.vocabulary.skus.live(cut))

    def _length(self) -> int:
        return cast(CombinedSettings, self.settings).network.encoder.length

    def _buckets(
        self, tokens: Tokens, cut: int, rng: np.random.Generator | None, allowed: NDArray[np.bool_] | None = None
    ) -> list[NDArray[np.int64]]:
        """Batches of clients of similar length who have events before the cut."""
        settings = cast(CombinedSettings, self.settings)
        sizes = np.minimum(tokens.lengths(cut), self._length())
        if allowed is not None:
            sizes = np.where(allowed, sizes, 0)
        return length_buckets(sizes, settings.budget, rng, most=settings.clients)

    def _train(self, futures: Sequence[Future], inputs: Sequence[Inputs]) -> TrainReport:
        settings = cast(CombinedSettings, self.settings)
        tokens, length = self.tokens, self._length()
        held_out = np.random.default_rng([self.seed, 1]).random(len(tokens.clients)) < settings.held_out

        def batches(epoch: int) -> Sequence[Callable[[], CombinedBatch]]:
            rng = np.random.default_rng([self.seed, 2, epoch])
            plan = [
                (k, rows)
                for k, future in enumerate(futures)
                for rows in self._buckets(tokens, future.cut, rng, ~held_out)
            ]
            return [
                lambda k=k, rows=rows: _batch(length, tokens, inputs[k], rows, futures[k])  # type: ignore[misc]
                for k, rows in (plan[i] for i in rng.permutation(len(plan)))
            ]

        def validate(network: nn.Module) -> float:
            """Minus the mean loss of held-out clients over the cuts, weighted like the training loss."""
            total = count = 0.0
            for k, future in enumerate(futures):
                for rows in self._buckets(tokens, future.cut, None, held_out):
                    terms = network(_batch(length, tokens, inputs[k], rows, future))
                    total += len(rows) * float(sum(terms.values()))
                    count += len(rows)
            return -total / max(count, 1)

        return train(
            self.network, batches, settings.train, seed=self.seed, name="combined", validate=validate,
            size=lambda batch: int(batch["sequence"]["mask"].sum()),
        )  # fmt: skip


def _batch(
    length: int, tokens: Tokens, inputs: Inputs, rows: NDArray[np.int64], future: Future | None = None
) -> CombinedBatch:
    """Tensors of some clients at one cut; with labels if a future is given."""
    batch: CombinedBatch = {
        "sequence": to_tensors(sequence_batch(tokens, rows, inputs.cut, length)),
        "touched": touched_products(tokens, rows, inputs.cut),
        "features": torch.from_numpy(inputs.features[rows]),
        "graph": torch.from_numpy(inputs.graph[rows]),
        "items": torch.from_numpy(inputs.items),
        "cut": torch.full((len(rows),), inputs.cut),
        "live": inputs.live,
    }
    if future is not None:
        batch["intensity"] = torch.from_numpy(future.intensity[rows])
        batch["intensity_known"] = torch.from_numpy(future.known[rows])
        for action in ACTIONS:
            batch[f"{action}_rows"], batch[f"{action}_labels"] = _labels(future.positives[action], rows, tokens)
    return batch


def touched_products(tokens: Tokens, rows: NDArray[np.int64], cut: int) -> dict[str, Tensor]:
    """The last TOUCHES product tokens before the cut: product, category, price, kind and age in days, (B, T); padding 0."""
    touches = tokens.touches
    stop = touches.stops(rows, np.full(len(rows), cut))
    size = np.minimum(stop - touches.offsets[rows], TOUCHES)
    span = np.arange(max(int(size.max(initial=0)), 1))
    mask = span < size[:, None]
    at = np.where(mask, (stop - size)[:, None] + span, 0)
    product = np.where(mask, touches.product[at] if len(touches) else 0, 0)
    catalogue = tokens.vocabulary.catalogue
    return {
        "product": torch.from_numpy(product),
        "category": torch.from_numpy(catalogue.category[product]),
        "price": torch.from_numpy(catalogue.price[product].astype(np.int64)),
        "kind": torch.from_numpy(np.where(mask, touches.kind[at] if len(touches) else 0, 0)),
        "days": torch.from_numpy(np.where(mask, (cut - touches.time[at]) / DAY_US, 0).astype(np.float32)),
    }


def _labels(positives: Positives, rows: NDArray[np.int64], tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
    """Batch positions of the R clients with positives, and per positive: which of the R, product, category, price, weight."""
    position = np.full(len(tokens.clients), -1)
    position[rows] = np.arange(len(rows))
    inside = position[positives.row] >= 0
    at, product = position[positives.row[inside]], positives.product[inside]
    some, index, counts = np.unique(at, return_inverse=True, return_counts=True)
    catalogue = tokens.vocabulary.catalogue
    labels = {
        "row": index,
        "product": product,
        "category": catalogue.category[product].astype(np.int64),
        "price": catalogue.price[product].astype(np.int64),
        "weight": (1.0 / counts[index]).astype(np.float32),
    }
    return torch.from_numpy(some), {name: torch.from_numpy(value) for name, value in labels.items()}


@dataclass(frozen=True)
class Columns:
    """Which forecasts become columns: positions in the network's choices."""

    categories: NDArray[np.int64]
    skus: NDArray[np.int64]
    new: tuple[NDArray[np.int64], ...]
    new_names: tuple[str, ...]

    @classmethod
    def of(cls, history: History, tokens: Tokens, inputs: Inputs) -> Columns:
        """Published categories and skus, and the categories richest in products that nobody has bought."""
        catalogue = tokens.vocabulary.catalogue
        published = history.published_targets(Task.CATEGORY)
        place = np.searchsorted(catalogue.categories, published)
        place = place[(place < len(catalogue.categories)) & np.isin(published, catalogue.categories)]
        rows = catalogue.rows(history.published_targets(Task.SKU)).astype(np.int64)
        unsold = np.flatnonzero(inputs.items[:, 6] > 0)
        category = catalogue.category[1:][unsold].astype(np.int64)
        counts = np.bincount(category, minlength=len(catalogue.categories) + 1)
        richest = [
            c for c in np.lexsort((np.arange(len(counts)), -counts))[:NEW_CATEGORIES].tolist() if counts[c] and c > 0
        ]
        return cls(
            place, rows[rows > 0] - 1, tuple(unsold[category == c] for c in richest), tuple(f"new_{c}" for c in richest)
        )

    def names(self, network: Combined) -> tuple[str, ...]:
        """Names of the columns that `fill` gives."""
        settings = network.settings
        choices = [
            *(f"category_{c}" for c in self.categories),
            *(f"sku_{s}" for s in self.skus),
            *(f"price_{p}" for p in range(PRICE_BUCKETS)),
            *self.new_names,
        ]
        vectors = [f"z_{i}" for i in range(settings.width)] + [f"query_{i}" for i in range(settings.events.width)]
        forecasts = [f"forecast_{name}" for name in (*INTENSITIES, *choices)]
        return (*vectors, *forecasts, *(f"choice_{name}" for name in choices))

    def fill(self, outputs: Outputs) -> NDArray[np.float32]:
        """(B, columns): choice = log P(this, if anything); forecast = the log of the expected purchases of it, later."""
        far = outputs.intensity[:, INTENSITIES.index("far")]
        later = torch.nn.functional.softplus(far).log()[:, None]  # −log P(no purchase) is the mean of a Poisson count
        product, category, price = (outputs.choice["buy", aspect] for aspect in ASPECTS)
        new = [torch.logsumexp(product[:, torch.from_numpy(group)], dim=1, keepdim=True) for group in self.new]
        choices = torch.cat([category[:, self.categories], product[:, self.skus], price, *new], dim=1)
        parts: list[Any] = [outputs.z, outputs.query, outputs.intensity, choices + later, choices]
        filled: NDArray[np.float32] = torch.cat(parts, dim=1).float().numpy()
        return filled
