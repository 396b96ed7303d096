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
from functools import partial
from pathlib import Path
from typing import ClassVar, Self, cast

import numpy as np
import torch
from lightning_fabric.utilities import move_data_to_device
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from kit.arrays import digest_of
from kit.blocks.base import Block, BlockOutput, block
from kit.blocks.batches import Inputs, network_batch
from kit.blocks.choices import NEW_CATEGORIES, Choices, Columns, choose_candidates, published_rows
from kit.blocks.futures import ITEM_COLUMNS, Future, item_statistics, rewound_futures
from kit.blocks.graph import GraphFeatures
from kit.blocks.kept import kept
from kit.blocks.quantiles import fit_quantiles, to_quantiles
from kit.blocks.sizes import COPIES, embedding_bytes, token_bytes
from kit.blocks.stats import Stats, StatsSettings
from kit.blocks.twhin import TwHINBlock, TwHINSettings
from kit.challenge import CODES, PRICE_BUCKETS
from kit.errors import KitError
from kit.history import History
from kit.limits import memory as limits
from kit.limits.need import Counts, Need, matrix
from kit.models.checkpoint import TrainReport
from kit.models.combined import ACTIONS, INTENSITIES, Combined, CombinedBatch, NetworkSettings
from kit.models.training import TrainSettings, train
from kit.progress import stage, track
from kit.recipe import Strict
from kit.tokens import Tokens, TokenSettings, length_buckets, tokenise

CLIENTS_AT_ONCE = 100_000
"""Clients whose features are held at a time when everyone is embedded."""


class CombinedSettings(Strict):
    """Settings of the combined block."""

    network: NetworkSettings = NetworkSettings()
    stats: StatsSettings = Field(
        StatsSettings(without=("newcomers",)),
        description="Which hand-made features enter the network. Columns are matched by name over the cuts, so each must mean "
        "the same at all of them: the kinds of new product (newcomers) are other ones at every cut.",
    )
    tokens: TokenSettings = TokenSettings()
    train: TrainSettings = TrainSettings(epochs=1, lr=2e-3, weight_decay=0.05)
    graph: TwHINSettings = Field(
        TwHINSettings(dim=32),
        description="The graph encoder, fitted once at the earliest cut; network.graph = false leaves it out.",
    )
    cuts: int = Field(5, ge=1, description="How many rewound cuts to train on.")
    stride: int = Field(7, ge=1, description="Days between them.")
    held_out: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Share of clients kept to choose the best epoch by; with one epoch all are learned from.",
    )
    budget: int = Field(8_192, ge=256, description="Tokens per batch, padding included.")
    clients: int = Field(192, ge=2, description="Clients per batch at most.")
    learners: int = Field(
        100_000, ge=2, description="Clients to learn from at most, drawn by the seed; everyone is embedded."
    )
    candidates: int = Field(
        32_768,
        ge=100,
        description="Products that compete for a choice at most: the most popular at the cut, and a draw from the others. The "
        "rest enter by category and price alone.",
    )

    @model_validator(mode="after")
    def _read_as_it_is(self) -> Self:
        if self.network.encoder.anchor:
            raise ValueError("network.encoder.anchor is for sequence blocks: this one knows the cut from its features")
        return self


@block
class CombinedBlock(Block):
    """The combined vector, the product query and the task forecasts of every client with a history."""

    kind = "combined"
    description = "Deep & cross network over features and the event sequence, trained on future windows."
    sources = (
        "arrays.py",
        "blocks/batches.py",
        "blocks/choices.py",
        "blocks/combined.py",
        "blocks/futures.py",
        "blocks/quantiles.py",
        "blocks/stats.py",
        "blocks/edges.py",
        "blocks/graph.py",
        "blocks/kept.py",
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
        self.cut = history.fingerprint
        learners, tokens = self._learners(history)
        futures = rewound_futures(learners, tokens, settings.cuts, settings.stride)
        if not futures or not any(len(future.positives["buy"].row) for future in futures):
            raise KitError(
                f"No purchase lies in the last {settings.cuts * settings.stride} days before {history.cut}.",
                "The combined block learns from rewound windows: raise `cuts` or `stride`, or leave the block out.",
            )
        self.columns: tuple[str, ...] = ()
        with stage("features at rewound cuts"):
            features = [self._features(future.history, f"features-{k}") for k, future in enumerate(futures)]
        self.scaler = fit_quantiles(features, self.seed)
        for k, raw in enumerate(features):  # one by one: all of them raw and scaled would need twice the memory
            features[k] = to_quantiles(self.scaler, raw)
        # Tables fitted at the earliest cut know nobody's future at any of the cuts; clients are embedded from their edges.
        self.graph = GraphFeatures(TwHINBlock(settings.graph, self.seed)) if settings.network.graph else None
        if self.graph is not None:
            self.graph.block.scratch = self.scratch and self.scratch / "graph"
            self.graph.fit(futures[-1].history)
        graph = [self._graph(future.history) for future in futures]
        torch.manual_seed(self.seed)
        widths = features[0].shape[1], graph[0].shape[1]
        self.network = Combined(self.tokens.vocabulary, *widths, ITEM_COLUMNS, settings.network)
        inputs = [
            Inputs(future.cut, x, g, self._choices(history, future.items), self._live(future.cut))
            for future, x, g in zip(futures, features, graph, strict=True)
        ]
        self.report = self._train(tokens, futures, inputs)
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """float32 (n, d); NaN for clients without events. Computed for all of history.clients, whatever is asked for.

        Float sums depend on a batch's shape in their last bits, so a client's row must not depend on its neighbours. Features
        and graph vectors are held for CLIENTS_AT_ONCE clients at a time, and what became of them outlives a killed run.
        """
        tokens, scratch = self.tokens, self.scratch
        if history.fingerprint != self.cut or not np.array_equal(history.clients, tokens.clients):
            tokens = tokenise(history, cast(CombinedSettings, self.settings).tokens, tokens.vocabulary)
            scratch = None
        choices = self._choices(history, item_statistics(history, tokens.vocabulary.catalogue))
        columns = Columns.of(history, tokens, choices)
        names = columns.names(self.network)
        values: NDArray[np.float32] = limits.empty((len(history.clients), len(names)), np.float32)
        self.network.eval()
        table, weights = choices.table(self.network, self._live(tokens.cut)), self._weights() if scratch else ""

        def predict(first: int) -> BlockOutput:
            part = history.among(history.clients[first : first + CLIENTS_AT_ONCE])
            inputs = Inputs(
                tokens.cut, to_quantiles(self.scaler, self._features(part)), self._graph(part), choices,
                self._live(tokens.cut), first,
            )  # fmt: skip
            return BlockOutput(self._predict(tokens, inputs, table, columns), names)

        ranges = range(0, len(history.clients), CLIENTS_AT_ONCE)
        for first in track(ranges, "combined: clients", len(ranges), "parts"):
            part = kept(scratch, f"clients-{first}-{CLIENTS_AT_ONCE}-{weights}", partial(predict, first))
            values[first : first + len(part.values)] = part.values
        if np.array_equal(clients, history.clients):
            return BlockOutput(values, names)  # without a copy
        return BlockOutput(values[np.searchsorted(history.clients, clients)], names)

    def need(self, counts: Counts) -> Need:
        """The largest of its phases: tokens, features of the learners at all cuts (in files where memory is limited), the graph,
        training, prediction for CLIENTS_AT_ONCE clients at a time.

        Choices are (clients, candidates) matrices. In training ten of them live per action: logits, their prior and its
        logarithm, counts, sums and the gradients; at most `budget` / `length` clients of long histories share a batch. In
        prediction five live at a time, for all `clients` of a batch.
        """
        settings = cast(CombinedSettings, self.settings)
        network, width = settings.network, settings.network.events.width
        learners, part = counts.share(settings.learners), counts.share(CLIENTS_AT_ONCE)
        making, tokens, stored = token_bytes(counts)
        graph = TwHINBlock(settings.graph, self.seed).need(learners) if network.graph else Need(0, 0, 0)
        stats, some = (Stats(settings.stats, self.seed).need(clients) for clients in (learners, part))
        candidates = min(settings.candidates, counts.products)
        long = min(settings.clients, max(settings.budget // network.encoder.length, 2))
        choices = matrix(max(10 * len(ACTIONS) * long, 5 * settings.clients), candidates)
        products = counts.products * (CODES + 3) * 4 + candidates * (CODES + 3) * 16 + 5 * matrix(candidates, width)
        table = embedding_bytes(counts, settings.tokens, width)
        columns = network.width + width + len(INTENSITIES) + 2 * (sum(counts.targets) + PRICE_BUCKETS + NEW_CATEGORIES)
        values = matrix(counts.clients, columns)
        cuts = settings.cuts * matrix(learners.clients, stats.width)
        vectors = settings.cuts * matrix(learners.clients, graph.width)
        network_bytes = table + products + choices + vectors
        memory = tokens + max(
            cuts + max(stats.memory, graph.memory, network_bytes), network_bytes + some.memory + values
        )
        floor = tokens + max(stats.floor, graph.floor, network_bytes, network_bytes + some.floor)
        helps = "`tokens.min_url` higher (fewer words), `candidates`, `clients` or `learners` smaller, `network.graph = false`"
        disk = 2 * values + cuts + table // COPIES + stored + graph.disk
        return Need(max(making, memory), max(making, floor), disk, columns, helps)

    def save(self, folder: Path) -> None:
        """network.pt (weights) and training.json (losses, validation, throughput)."""
        torch.save(self.network.state_dict(), folder / "network.pt")
        # Seconds differ from run to run; what is saved must not, so that equal inputs give equal files.
        report = {key: value for key, value in self.report.as_json().items() if "second" not in key}
        (folder / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def _weights(self) -> str:
        """Digest of the network's weights: the part of a killed run serves the same network alone."""
        return digest_of(*(value.cpu().numpy() for value in self.network.state_dict().values()))

    def _predict(self, tokens: Tokens, inputs: Inputs, table: Tensor, columns: Columns) -> NDArray[np.float32]:
        """What the network says of the clients whose `inputs` these are, float32 (m, d)."""
        here = np.zeros(len(tokens.clients), dtype=bool)
        here[inputs.first : inputs.first + len(inputs.features)] = True
        values = np.full((len(inputs.features), len(columns.names(self.network))), np.nan, dtype=np.float32)
        for rows in self._buckets(tokens, tokens.cut, None, here):
            batch = network_batch(self._length(), tokens, inputs, rows) | {"table": table}
            outputs = self.network.predict(move_data_to_device(batch, self.network.scale.device))
            values[rows - inputs.first] = columns.fill(outputs)
        return values

    def _features(self, history: History, name: str = "") -> NDArray[np.float32]:
        """The hand-made features of all clients, float32 (n, F); those with a name outlive a killed run. Which columns there
        are may depend on the cut (top lists of a young log are short): those of the first call stay, and one that a later call
        lacks is missing (NaN) there."""
        unit = Stats(cast(CombinedSettings, self.settings).stats, self.seed)
        output = kept(self.scratch if name else None, name, lambda: unit.transform(history, history.clients))
        if not self.columns:
            self.columns = output.columns
        place = {name: i for i, name in enumerate(output.columns)}
        values = np.full((len(output.values), len(self.columns)), np.nan, dtype=np.float32)
        known = [i for i, name in enumerate(self.columns) if name in place]
        values[:, known] = output.values[:, [place[self.columns[i]] for i in known]]
        return values

    def _learners(self, history: History) -> tuple[History, Tokens]:
        """The clients to learn from, and their tokens in the words of everybody's."""
        settings = cast(CombinedSettings, self.settings)
        if len(history.clients) <= settings.learners:
            return history, self.tokens
        rng = np.random.default_rng([self.seed, 5])
        learners = history.among(rng.choice(history.clients, settings.learners, replace=False))
        return learners, tokenise(learners, settings.tokens, self.tokens.vocabulary)

    def _choices(self, history: History, items: NDArray[np.float32]) -> Choices:
        """What competes at a cut at which the products' statistics are `items`."""
        most = cast(CombinedSettings, self.settings).candidates
        rows = choose_candidates(items, published_rows(history, self.tokens.vocabulary.catalogue), most, self.seed)
        return Choices.of(self.network, items, rows)

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

    def _train(self, tokens: Tokens, futures: Sequence[Future], inputs: Sequence[Inputs]) -> TrainReport:
        settings, length = cast(CombinedSettings, self.settings), self._length()
        # Where there is no epoch to choose, labels are worth more than a number to print.
        choosing = settings.train.epochs > 1
        held_out = np.random.default_rng([self.seed, 1]).random(len(tokens.clients)) < settings.held_out * choosing

        def batches(epoch: int) -> Sequence[Callable[[], CombinedBatch]]:
            rng = np.random.default_rng([self.seed, 2, epoch])
            plan = [
                (k, rows)
                for k, future in enumerate(futures)
                for rows in self._buckets(tokens, future.cut, rng, ~held_out)
            ]
            return [
                lambda k=k, rows=rows: network_batch(length, tokens, inputs[k], rows, futures[k])  # type: ignore[misc]
                for k, rows in (plan[i] for i in rng.permutation(len(plan)))
            ]

        def validate(network: nn.Module) -> float:
            """Minus the mean loss of held-out clients over the cuts, weighted like the training loss."""
            total = count = 0.0
            for k, future in enumerate(futures):
                for rows in self._buckets(tokens, future.cut, None, held_out):
                    batch = network_batch(length, tokens, inputs[k], rows, future)
                    terms = network(move_data_to_device(batch, self.network.scale.device))
                    total += len(rows) * float(sum(terms.values()))
                    count += len(rows)
            return -total / max(count, 1)

        return train(
            self.network, batches, settings.train, seed=self.seed, name="combined",
            validate=validate if choosing else None,
            checkpoint=self.checkpoint(),
            size=lambda batch: int(batch["sequence"]["mask"].sum()),
        )  # fmt: skip
