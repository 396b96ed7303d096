"""Block `combined`: features, sequence and graph in one network, trained on the futures of many rewound cuts.

Its columns, to be picked apart in a recipe by `columns` (so that each part can be scaled, weighed and left out):
    z_*         the combined vector
    then what the heads give (`kit.models.heads`), by default:
    query_*     where in product space the client will buy
    forecast_*  task predictions as logs
    choice_*    what will be bought if anything is
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import nn

from kit.arrays import digest_of, read_arrays
from kit.blocks.base import Block, BlockOutput, block
from kit.blocks.batches import Known, network_batch
from kit.blocks.combined_need import combined_need
from kit.blocks.futures import ITEM_COLUMNS, Future, item_statistics, rewound_futures
from kit.blocks.inputs import INPUTS, Input
from kit.blocks.kept import kept
from kit.blocks.stats import Stats, StatsSettings
from kit.blocks.twhin import TwHINSettings
from kit.errors import KitError
from kit.history import History
from kit.kinds import chosen
from kit.limits import memory as limits
from kit.limits.need import Counts, Need
from kit.models.batch import CombinedBatch, Market
from kit.models.checkpoint import TrainReport
from kit.models.combined import Combined, NetworkSettings
from kit.models.heads import HEADS
from kit.models.heads.published import published_rows
from kit.models.market import choose_candidates, make_market, with_table
from kit.models.parts import PARTS
from kit.models.sequence import READOUTS
from kit.models.training import TrainSettings, train
from kit.progress import track
from kit.recipe import Strict
from kit.store import write_json
from kit.tokens import Tokens, TokenSettings, Vocabulary, length_buckets, tokenise, vocabulary_arrays, vocabulary_of

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
    train: TrainSettings = TrainSettings(epochs=1, lr=4e-3, weight_decay=0.05)
    graph: TwHINSettings = Field(
        TwHINSettings(dim=32),
        description="The graph encoder, fitted once at the earliest cut; `network.parts.graph = false` leaves it out.",
    )
    cuts: int = Field(7, ge=1, description="How many rewound cuts to train on.")
    stride: int = Field(7, ge=1, description="Days between them.")
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the clients who are learned from at each cut and in each epoch, drawn anew: the same client a week "
        "later teaches less than another cut.",
    )
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


@dataclass(frozen=True)
class State:
    """All that `transform` needs of a fitted block.

    Attributes:
        vocabulary: words and catalogue of the tokens.
        inputs: by part, what makes its numbers.
        widths: by part, how many there are.
        network: trained.
    """

    vocabulary: Vocabulary
    inputs: Mapping[str, Input]
    widths: Mapping[str, int]
    network: Combined


@block
class CombinedBlock(Block):
    """The combined vector, the product query and the task forecasts of every client with a history."""

    kind = "combined"
    description = "Deep & cross network over features and the event sequence, trained on future windows."
    Settings: ClassVar[type[Strict]] = CombinedSettings
    _here: tuple[str, str] | None = None
    """Whose tokens are at hand from the fit: of which history, of which clients."""

    @property
    def own(self) -> CombinedSettings:
        """The settings, typed."""
        return cast(CombinedSettings, self.settings)

    @property
    def network(self) -> Combined:
        """The trained network."""
        return self.state.network

    def parts(self) -> Iterable[str]:
        """Parts with their inputs and readouts, heads, and the families; what is chosen by `kind` has settings of its own."""
        network, inputs = self.own.network, INPUTS.loaded()
        parts, heads = chosen(network.parts), chosen(network.heads)
        readouts = getattr(parts.get("sequence"), "readouts", ())
        return [
            *PARTS.loaded().modules(parts), *inputs.modules(kind for kind in parts if kind in inputs),
            *READOUTS.loaded().modules(readouts), *HEADS.loaded().modules(heads),
            *Stats(self.own.stats, self.seed).parts(),
        ]  # fmt: skip

    def fit(self, history: History) -> CombinedBlock:
        """Train on the history's rewound cuts.

        Raises:
            KitError: the history is too short for a single rewound window, or nobody bought anything in them.
        """
        settings = self.own
        self.tokens = tokenise(history, settings.tokens)
        self._here = history.fingerprint, digest_of(history.clients)
        learners, tokens = self._learners(history)
        heads = chosen(settings.network.heads)
        futures = rewound_futures(learners, tokens, settings.cuts, settings.stride, heads)
        if not any(future.purchases for future in futures):
            raise KitError(
                f"No purchase lies in the last {settings.cuts * settings.stride} days before {history.cut}.",
                "The combined block learns from rewound windows: raise `cuts` or `stride`, or leave the block out.",
            )
        inputs = self._inputs()
        pasts = [future.history for future in futures]
        arrays = {kind: one.fit(pasts, self.scratch) for kind, one in inputs.items()}
        torch.manual_seed(self.seed)
        widths = {kind: values[0].shape[1] for kind, values in arrays.items()}
        vocabulary = self.tokens.vocabulary
        names = {kind: one.columns for kind, one in inputs.items()}
        network = Combined(vocabulary, widths, ITEM_COLUMNS, settings.network, names)
        self.state = State(vocabulary, inputs, widths, network)
        known = [
            Known(
                future.cut, {kind: values[k] for kind, values in arrays.items()},
                self._market(history, future.items, future.cut), 0, len(tokens.clients),
            )
            for k, future in enumerate(futures)
        ]  # fmt: skip
        self.report = self._train(tokens, futures, known)
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """float32 (n, d); NaN for clients without events. Computed for all of history.clients, whatever is asked for.

        Float sums depend on a batch's shape in their last bits, so a client's row must not depend on its neighbours. Inputs
        are held for CLIENTS_AT_ONCE clients at a time, and what became of them outlives a killed run.
        """
        network, scratch = self.network, self.scratch
        if self._here is not None and self._here == (history.fingerprint, digest_of(history.clients)):
            tokens = self.tokens
        else:
            tokens, scratch = tokenise(history, self.own.tokens, self.state.vocabulary), None
        market = self._market(history, item_statistics(history, tokens.vocabulary.catalogue), tokens.cut)
        plans = {kind: head.plan(history, tokens, market) for kind, head in network.each_head().items()}
        names = network.columns(plans)
        values: NDArray[np.float32] = limits.empty((len(history.clients), len(names)), np.float32)
        network.eval()
        market = with_table(market, network.client.embedding.items, network.device)
        weights = self._weights() if scratch else ""

        def predict(first: int) -> BlockOutput:
            part = history.among(history.clients[first : first + CLIENTS_AT_ONCE])
            inputs = {kind: one.arrays(part) for kind, one in self.state.inputs.items()}
            known = Known(tokens.cut, inputs, market, first, len(part.clients))
            return BlockOutput(self._predict(tokens, known, plans, len(names)), names)

        ranges = range(0, len(history.clients), CLIENTS_AT_ONCE)
        for first in track(ranges, "combined: clients", len(ranges), "parts"):
            part = kept(scratch, f"clients-{first}-{CLIENTS_AT_ONCE}-{weights}", partial(predict, first))
            values[first : first + len(part.values)] = part.values
        if np.array_equal(clients, history.clients):
            return BlockOutput(values, names)  # without a copy
        return BlockOutput(values[np.searchsorted(history.clients, clients)], names)

    def need(self, counts: Counts) -> Need:
        """See `combined_need`."""
        inputs = [one.need for one in self._inputs().values()]
        return combined_need(self.own, inputs, counts, CLIENTS_AT_ONCE)

    def save(self, folder: Path) -> None:
        """network.pt (weights), vocabulary.npz (words and catalogue: 33 bytes a product), widths.json and input-<kind>/ (what
        makes the parts' numbers), training.json (losses, validation). Nothing per client."""
        torch.save(self.network.state_dict(), folder / "network.pt")
        np.savez(folder / "vocabulary.npz", **vocabulary_arrays(self.state.vocabulary))  # type: ignore[arg-type]
        write_json(folder / "widths.json", dict(self.state.widths))
        for kind, one in self.state.inputs.items():
            inside = folder / f"input-{kind}"
            inside.mkdir()
            one.save(inside)
        # Seconds differ from run to run; what is saved must not, so that equal inputs give equal files.
        report = {key: value for key, value in self.report.as_json().items() if "second" not in key}
        (folder / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> CombinedBlock:
        """Words, inputs and weights."""
        vocabulary = vocabulary_of(read_arrays(folder / "vocabulary.npz").__getitem__)
        inputs, widths = self._inputs(), json.loads((folder / "widths.json").read_text(encoding="utf-8"))
        for kind, one in inputs.items():
            one.load(folder / f"input-{kind}")
        names = {kind: one.columns for kind, one in inputs.items()}
        network = Combined(vocabulary, widths, ITEM_COLUMNS, self.own.network, names)
        network.load_state_dict(torch.load(folder / "network.pt", map_location="cpu", weights_only=True))
        self.state = State(vocabulary, inputs, widths, network)
        self._here = None
        return self

    def _weights(self) -> str:
        """Digest of the network's weights: the part of a killed run serves the same network alone."""
        return digest_of(*(value.cpu().numpy() for value in self.network.state_dict().values()))

    def _inputs(self) -> dict[str, Input]:
        """What makes the numbers of those parts that have some made outside."""
        parts = chosen(self.own.network.parts)
        return {
            kind: INPUTS.loaded()[kind](self.own, part, self.seed)
            for kind, part in parts.items()
            if kind in INPUTS.loaded()
        }

    def _predict(self, tokens: Tokens, known: Known, plans: Mapping[str, Any], width: int) -> NDArray[np.float32]:
        """What the network says of the clients whose numbers these are, float32 (m, d)."""
        here = np.zeros(len(tokens.clients), dtype=bool)
        here[known.first : known.first + known.count] = True
        values = np.full((known.count, width), np.nan, dtype=np.float32)
        for rows in self._buckets(tokens, tokens.cut, None, here):
            batch = network_batch(self._length(), tokens, known, rows).to(self.network.device)
            values[rows - known.first] = self.network.predict(batch, plans).float().cpu().numpy()
        return values

    def _learners(self, history: History) -> tuple[History, Tokens]:
        """The clients to learn from, and their tokens in the words of everybody's."""
        settings = self.own
        if len(history.clients) <= settings.learners:
            return history, self.tokens
        rng = np.random.default_rng([self.seed, 5])
        learners = history.among(rng.choice(history.clients, settings.learners, replace=False))
        return learners, tokenise(learners, settings.tokens, self.tokens.vocabulary)

    def _market(self, history: History, items: NDArray[np.float32], cut: int) -> Market:
        """What competes at a cut at which the products' statistics are `items`."""
        vocabulary = self.state.vocabulary
        published = published_rows(history, vocabulary.catalogue)
        rows = choose_candidates(items, published, self.own.candidates, self.seed)
        return make_market(vocabulary.catalogue, items, rows, int(vocabulary.skus.live(cut)))

    def _length(self) -> int:
        return self.own.network.encoder.length

    def _buckets(
        self, tokens: Tokens, cut: int, rng: np.random.Generator | None, allowed: NDArray[np.bool_] | None = None
    ) -> list[NDArray[np.int64]]:
        """Batches of clients of similar length who have events before the cut."""
        settings = self.own
        sizes = np.minimum(tokens.lengths(cut), self._length())
        if allowed is not None:
            sizes = np.where(allowed, sizes, 0)
        return length_buckets(sizes, settings.budget, rng, most=settings.clients)

    def _drawn(self, epoch: int, cut: int, count: int) -> NDArray[np.bool_]:
        """Which of `count` clients are learned from at a cut in an epoch."""
        return np.random.default_rng([self.seed, 6, epoch, cut]).random(count) < self.own.share

    def _train(self, tokens: Tokens, futures: Sequence[Future], known: Sequence[Known]) -> TrainReport:
        settings, length = self.own, self._length()
        # Where there is no epoch to choose, labels are worth more than a number to print.
        choosing = settings.train.epochs > 1
        held_out = np.random.default_rng([self.seed, 1]).random(len(tokens.clients)) < settings.held_out * choosing

        def batches(epoch: int) -> Sequence[Callable[[], CombinedBatch]]:
            rng = np.random.default_rng([self.seed, 2, epoch])
            plan = [
                (k, rows)
                for k, future in enumerate(futures)
                for rows in self._buckets(tokens, future.cut, rng, ~held_out & self._drawn(epoch, k, len(held_out)))
            ]
            return [
                lambda k=k, rows=rows: network_batch(length, tokens, known[k], rows, futures[k])  # type: ignore[misc]
                for k, rows in (plan[i] for i in rng.permutation(len(plan)))
            ]

        def validate(network: nn.Module) -> float:
            """Minus the mean loss of held-out clients over the cuts, weighted like the training loss."""
            total = count = 0.0
            for k, future in enumerate(futures):
                for rows in self._buckets(tokens, future.cut, None, held_out):
                    batch = network_batch(length, tokens, known[k], rows, future)
                    terms = network(batch.to(self.network.device))
                    total += len(rows) * float(sum(terms.values()))
                    count += len(rows)
            return -total / max(count, 1)

        return train(
            self.network, batches, settings.train, seed=self.seed, name="combined",
            validate=validate if choosing else None,
            checkpoint=self.checkpoint(),
            size=lambda batch: int(batch.sequence["mask"].sum()),
        )  # fmt: skip
