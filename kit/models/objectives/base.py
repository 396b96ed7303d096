"""What an objective is: targets found in the tokens with NumPy, a loss on the encoder's states, a weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from kit.challenge import TARGET_DAYS
from kit.kinds import TableOf, chosen, register
from kit.models.events import Batch, to_tensors
from kit.models.items import ItemEncoder
from kit.models.sequence.client import ClientEncoder
from kit.recipe import Strict
from kit.registry import Registry
from kit.tokens import SequenceBatch, Tokens, Vocabulary, sequence_batch
from kit.tokens.vocabulary import Int64s

Arrays = dict[str, NDArray[Any]]


class ObjectiveSettings(Strict):
    """Shared by all objectives."""

    weight: float = Field(1.0, ge=0, description="Factor of this loss term; 0 leaves it out.")
    at_cut: float = Field(
        0.3, ge=0, le=1, description="Share of the loss that falls to states of cuts, where there are any."
    )


@dataclass(frozen=True)
class Spans:
    """The states of a batch and where they stand in the flat arrays, as parallel arrays over its M tokens.

    A state is made from tokens before its row's cut alone, so whatever lies after its own instant may be its target as long as
    it is before the cut of the tokens, which is that of the History in training.

    Attributes:
        after: index of the first later token in the flat arrays, int64 (M,).
        at: index of the token itself, −1 for the token of a cut.
        now: its instant, microseconds.
        flat: index into the flattened (B · T) states.
        row: row of the batch.
        stop: end of the client's tokens: targets lie in [after, stop).
        cut: the tokens' cut, microseconds: waits are observed until then.
    """

    after: Int64s
    at: Int64s
    now: Int64s
    flat: Int64s
    row: Int64s
    stop: Int64s
    cut: int

    @classmethod
    def of(cls, tokens: Tokens, batch: SequenceBatch, rows: Int64s, cuts: Int64s) -> Spans:
        """The spans of a batch of clients `rows` whose sequences end at `cuts` (B,)."""
        mask = batch["mask"]
        row = np.nonzero(mask)[0]
        at = batch["position"][mask]
        after = np.where(at >= 0, at + 1, tokens.stops(rows, cuts)[row])
        stop = tokens.offsets[rows + 1][row]
        return cls(after, at, batch["time"][mask], np.flatnonzero(mask.ravel()), row, stop, tokens.cut)

    def real(self) -> Int64s:
        """Which of them are events, not the token of a cut."""
        return np.flatnonzero(self.at >= 0)


def balance(is_anchor: NDArray[np.bool_], share: float) -> NDArray[np.float32]:
    """Weights of mean 1 that give the states of cuts `share` of the whole, if there are any of both sorts."""
    anchors = int(is_anchor.sum())
    if anchors in (0, len(is_anchor)):
        return np.ones(len(is_anchor), dtype=np.float32)
    n = len(is_anchor)
    weights = np.where(is_anchor, share * n / anchors, (1 - share) * n / (n - anchors))
    return weights.astype(np.float32)


class Objective(nn.Module, ABC):
    """One self-supervised loss.

    Attributes:
        kind: name in recipes and of the loss term.
        description: one line.
        Settings: pydantic schema.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[ObjectiveSettings]] = ObjectiveSettings

    def __init__(self, width: int, vocabulary: Vocabulary, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.width = width
        self.vocabulary = vocabulary
        self.settings = settings
        self.days = TARGET_DAYS  # length of a target window; the model says which before training

    def bind(self, tokens: Tokens) -> None:
        """Look at all tokens once, before any batch (frequencies, fates …)."""

    @abstractmethod
    def targets(self, tokens: Tokens, batch: SequenceBatch, spans: Spans, rng: np.random.Generator) -> Arrays:
        """What a batch is to predict, for states in `spans`; keys are the objective's own."""

    @abstractmethod
    def forward(self, states: Tensor, targets: Batch, batch: Batch, items: ItemEncoder) -> Tensor:
        """Mean loss, a scalar; 0 without targets.

        Args:
            states: (B · T, D); state t has seen tokens 0 … t of its row.
            targets: what `targets` returned, as tensors.
            batch: the batch itself.
            items: the product tower.
        """


OBJECTIVES: Registry[type[Objective]] = Registry("objective", "kit.models.objectives")
AnyObjective = TypeVar("AnyObjective", bound=type[Objective])


def objective(cls: AnyObjective) -> AnyObjective:
    """Class decorator that registers an objective under its `kind`."""
    return register(OBJECTIVES, cls)


Objectives = Annotated[dict[str, ObjectiveSettings | Literal[False]], TableOf(OBJECTIVES)]
"""A setting that is several objectives: kind → settings."""


def make_objectives(
    settings: Mapping[str, ObjectiveSettings | Literal[False]], width: int, vocabulary: Vocabulary
) -> list[Objective]:
    """The objectives of a recipe's table; those of weight 0 are left out.

    Raises:
        KitError: an unknown kind.
    """
    kinds = OBJECTIVES.loaded()
    wanted = {kind: own for kind, own in sorted(chosen(settings).items()) if own.weight > 0}
    return [kinds[kind](width, vocabulary, own) for kind, own in wanted.items()]


class SequenceModel(nn.Module):
    """A ClientEncoder and its objectives, in the shape that the training loop wants: batch → weighted loss terms."""

    def __init__(self, client: ClientEncoder, objectives: list[Objective]) -> None:
        super().__init__()
        self.client = client
        self.objectives = nn.ModuleList(objectives)

    def bind(self, tokens: Tokens, days: int = TARGET_DAYS) -> None:
        """Let every objective look at the tokens before training, and say how long a target window is."""
        for part in self._parts():
            part.days = days
            part.bind(tokens)

    def batch(
        self, tokens: Tokens, rows: Int64s, rng: np.random.Generator, cut: int | Int64s | None = None
    ) -> dict[str, Batch]:
        """Inputs under `events` and each objective's targets under its kind.

        Args:
            tokens: all tokens.
            rows: clients by row, int64 (B,).
            rng: for positions, targets and negatives that are drawn.
            cut: microseconds, one or one per row; the tokens' own if None.
        """
        cuts = np.broadcast_to(np.asarray(tokens.cut if cut is None else cut, dtype=np.int64), (len(rows),))
        events = sequence_batch(tokens, rows, cuts, self.client.length, anchor=self.client.anchor)
        spans = Spans.of(tokens, events, rows, cuts)
        made = {"events": to_tensors(events)}
        for part in self._parts():
            arrays = part.targets(tokens, events, spans, rng)
            made[part.kind] = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
        return made

    def forward(self, batch: dict[str, Batch]) -> dict[str, Tensor]:
        """Weighted loss terms by objective."""
        events = batch["events"]
        hidden = next((part["hidden"] for part in batch.values() if "hidden" in part), None)
        states = self.client(events, hidden).flatten(0, 1)
        items = self.client.embedding.items
        return {
            part.kind: part.settings.weight * part(states, batch[part.kind], events, items) for part in self._parts()
        }

    def _parts(self) -> list[Objective]:
        return [cast(Objective, part) for part in self.objectives]
