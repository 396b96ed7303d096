"""Block `sequence`: states of a causal encoder trained on the clients' own histories.

Self-supervised: what comes next, what happens to it and when, all of it before the cut. Nothing from a target window enters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from kit.arrays import read_arrays
from kit.blocks.base import Block, BlockOutput, block
from kit.blocks.sizes import COPIES, embedding_bytes, token_bytes
from kit.challenge import CODES, DAY_US
from kit.history import History
from kit.kinds import chosen
from kit.limits.need import Counts, Need, matrix
from kit.models.checkpoint import TrainReport, read_report
from kit.models.events import EventSettings
from kit.models.objectives import OBJECTIVES, Objectives, ObjectiveSettings, SequenceModel, make_objectives
from kit.models.objectives.feedback import FateSettings
from kit.models.objectives.timing import TimingSettings
from kit.models.objectives.upcoming import NextUrlSettings, UpcomingSettings
from kit.models.sequence import READOUTS, ClientEncoder, Encoder, known_readouts
from kit.models.sequence.transformer import TransformerSettings
from kit.models.training import TrainSettings, train, unvalidated
from kit.recipe import Strict
from kit.store import write_json
from kit.tokens import Tokens, TokenSettings, Vocabulary, length_buckets, tokenise, vocabulary_arrays, vocabulary_of

USUAL: dict[str, ObjectiveSettings | Literal[False]] = {
    "next_item": UpcomingSettings(),
    "next_url": NextUrlSettings(),
    "feedback": ObjectiveSettings(weight=0.5),
    "fate": FateSettings(weight=0.2),
    "timing": TimingSettings(weight=0.5),
}


class SequenceSettings(Strict):
    """Tokens, encoder, objectives and training."""

    tokens: TokenSettings = TokenSettings()
    events: EventSettings = EventSettings()
    encoder: Encoder = TransformerSettings(anchor=True)
    objectives: Objectives = Field(USUAL, description="Kind → its settings; weight 0, or false, leaves one out.")
    train: TrainSettings = TrainSettings(epochs=5, lr=3e-3)
    back: float = Field(
        60.0,
        ge=0,
        description="With `encoder.anchor`: sequences end at a random instant up to so many days before the cut.",
    )
    budget: int = Field(2048, ge=64, description="Padded tokens per batch.")
    pools: tuple[str, ...] = Field(
        ("last", "recent"), min_length=1, description="How states become one row: last, mean, recent."
    )

    @field_validator("train")
    @classmethod
    def _unvalidated(cls, train: TrainSettings) -> TrainSettings:
        return unvalidated(train)

    @field_validator("pools")
    @classmethod
    def _known(cls, pools: tuple[str, ...]) -> tuple[str, ...]:
        return known_readouts(pools)


@block
class SequenceBlock(Block):
    """Pooled states, float32 (n, len(pools) · width); NaN for clients without events."""

    kind = "sequence"
    description = "Sequence encoder trained on histories alone: next item, feedback, time to next."
    Settings: ClassVar[type[Strict]] = SequenceSettings
    _states: tuple[str, NDArray[np.int64], NDArray[np.float32]] | None = None
    """Of the history that was asked about last: its fingerprint, its clients, their states."""

    def parts(self) -> Iterable[str]:
        """Readouts and objectives; what is chosen by `kind` has settings of its own."""
        settings = cast(SequenceSettings, self.settings)
        return [*READOUTS.loaded().modules(settings.pools), *OBJECTIVES.loaded().modules(chosen(settings.objectives))]

    def fit(self, history: History) -> SequenceBlock:
        """Train on every client with at least two tokens. Without any token, rows come out NaN."""
        settings = cast(SequenceSettings, self.settings)
        tokens = tokenise(history, settings.tokens)
        self.vocabulary = tokens.vocabulary
        self.model = new_model(tokens.vocabulary, settings, self.seed)
        self.model.bind(tokens, history.days)
        self.report = TrainReport()
        if len(tokens):
            batches = epochs_of(self.model, tokens, settings, self.seed)
            self.report = train(
                self.model,
                batches,
                settings.train,
                seed=self.seed,
                name=self.kind,
                size=events_in,
                checkpoint=self.checkpoint(),
            )
        self._states = self._embed(history, tokens)
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """Pooled states at the history's cut. They are made for all its clients at once, in the same batches whatever part
        of them is asked for, so that a client's numbers do not depend on the company."""
        settings = cast(SequenceSettings, self.settings)
        if (
            self._states is None
            or self._states[0] != history.fingerprint
            or not np.array_equal(self._states[1], history.clients)
        ):
            self._states = self._embed(history, tokenise(history, settings.tokens, self.vocabulary))
        _, known, states = self._states
        names = tuple(f"{pool}_{i}" for pool in settings.pools for i in range(settings.events.width))
        return BlockOutput(states[np.searchsorted(known, clients)], names)

    def need(self, counts: Counts) -> Need:
        """Tokens, the embedding table in training (once more for the catalogue's vectors), and the states of all clients."""
        settings = cast(SequenceSettings, self.settings)
        making, tokens, kept = token_bytes(counts)
        width = settings.events.width
        table = embedding_bytes(counts, settings.tokens, width)
        columns = len(settings.pools) * width
        values = matrix(counts.clients, columns)
        catalogue = counts.products * (CODES + 3) * 12 + 2 * matrix(counts.products, width)
        memory = max(making, tokens + table + catalogue + 2 * values)
        helps = "`tokens.min_sku` and `tokens.min_url` higher (fewer words), `events.width` smaller"
        return Need(memory, memory, values + table // COPIES + kept, columns, helps)

    def save(self, folder: Path) -> None:
        """weights.npz, vocabulary.npz (words in the order of their rows, and the catalogue: 33 bytes a product), settings.json,
        training.json (losses). No states: they are made again."""
        settings = cast(SequenceSettings, self.settings)
        weights = {key: value.cpu().numpy() for key, value in self.model.state_dict().items()}
        np.savez(folder / "weights.npz", **weights)
        np.savez(folder / "vocabulary.npz", **vocabulary_arrays(self.vocabulary))  # type: ignore[arg-type]
        write_json(folder / "settings.json", settings.model_dump(mode="json"))
        record = self.report.as_json()
        timed = ("seconds", "items_per_second")  # would differ between equal runs
        write_json(folder / "training.json", {key: value for key, value in record.items() if key not in timed})

    def load(self, folder: Path) -> SequenceBlock:
        """Words, catalogue and weights; the states are made from the histories at hand."""
        self.vocabulary = vocabulary_of(read_arrays(folder / "vocabulary.npz").__getitem__)
        self.model = new_model(self.vocabulary, cast(SequenceSettings, self.settings), self.seed)
        weights = {name: torch.from_numpy(array) for name, array in read_arrays(folder / "weights.npz").items()}
        self.model.load_state_dict(weights)
        self.report = TrainReport(**read_report(folder / "training.json"))
        self._states = None
        return self

    def _embed(self, history: History, tokens: Tokens) -> tuple[str, NDArray[np.int64], NDArray[np.float32]]:
        settings = cast(SequenceSettings, self.settings)
        states = self.model.client.embed(tokens, how=settings.pools)
        return history.fingerprint, history.clients, states


def new_model(vocabulary: Vocabulary, settings: SequenceSettings, seed: int) -> SequenceModel:
    """A fresh model for tokens of this vocabulary; equal seeds give equal weights."""
    torch.manual_seed(seed)
    client = ClientEncoder(vocabulary, settings.events, settings.encoder)
    return SequenceModel(client, make_objectives(settings.objectives, settings.events.width, vocabulary))


def epochs_of(
    model: SequenceModel, tokens: Tokens, settings: SequenceSettings, seed: int
) -> Callable[[int], Sequence[Callable[[], Any]]]:
    """epoch → batches of clients of similar length, each a function of (seed, epoch, number) alone.

    With an anchor, every client's sequence ends at an instant of its own, drawn anew for each epoch: what followed it is what
    the state at that cut learns to tell.
    """

    def batches(epoch: int) -> list[Callable[[], Any]]:
        rng = np.random.default_rng([seed, epoch])
        back = rng.random(len(tokens.clients)) * settings.back * DAY_US if settings.encoder.anchor else 0.0
        cuts = np.broadcast_to(tokens.cut - np.asarray(back).astype(np.int64), (len(tokens.clients),))
        sizes = np.minimum(tokens.lengths(cuts), settings.encoder.length)
        groups = length_buckets(sizes, settings.budget, rng)

        def make(number: int, rows: NDArray[np.int64]) -> Callable[[], Any]:
            return lambda: model.batch(tokens, rows, np.random.default_rng([seed, epoch, number]), cuts[rows])

        return [make(number, rows) for number, rows in enumerate(groups)]

    return batches


def events_in(batch: dict[str, dict[str, torch.Tensor]]) -> int:
    """Real tokens in a batch."""
    return int(batch["events"]["size"].sum())
