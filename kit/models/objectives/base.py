"""What an objective is: targets found in the tokens with NumPy, a loss on the encoder's states, a weight."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from kit.models.events import Batch, ItemTower, to_tensors
from kit.models.sequence.client import ClientEncoder
from kit.recipe import Strict, parse
from kit.registry import Registry
from kit.tokens import SequenceBatch, Tokens, Vocabulary, sequence_batch
from kit.tokens.vocabulary import Int64s

Arrays = dict[str, NDArray[Any]]


class ObjectiveSettings(Strict):
    """Shared by all objectives."""

    weight: float = Field(1.0, ge=0, description="Factor of this loss term; 0 leaves it out.")


@dataclass(frozen=True)
class Spans:
    """Where the tokens of a batch stand in the flat arrays, as parallel arrays over its M real tokens.

    Attributes:
        at: index into the flat arrays, int64 (M,).
        flat: index into the flattened (B · T) states.
        row: row of the batch.
        stop: end of the row's tokens before its cut: targets lie in (at, stop).
        cut: the row's cut, microseconds.
    """

    at: Int64s
    flat: Int64s
    row: Int64s
    stop: Int64s
    cut: Int64s

    @classmethod
    def of(cls, batch: SequenceBatch, cuts: Int64s) -> Spans:
        """The spans of a batch whose rows end at `cuts` (B,)."""
        mask, position, size = batch["mask"], batch["position"], batch["size"]
        row = np.nonzero(mask)[0]
        ends = position[np.arange(len(size)), np.maximum(size - 1, 0)] + 1
        return cls(position[mask], np.flatnonzero(mask.ravel()), row, ends[row], cuts[row])


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

    def bind(self, tokens: Tokens) -> None:
        """Look at all tokens once, before any batch (frequencies, fates …)."""

    @abstractmethod
    def targets(self, tokens: Tokens, batch: SequenceBatch, spans: Spans, rng: np.random.Generator) -> Arrays:
        """What a batch is to predict; nothing at or after a row's cut may enter. Keys are the objective's own."""

    @abstractmethod
    def forward(self, states: Tensor, targets: Batch, batch: Batch, items: ItemTower) -> Tensor:
        """Mean loss, a scalar; 0 without targets.

        Args:
            states: (B · T, D); state t has seen tokens 0 … t of its row.
            targets: what `targets` returned, as tensors.
            batch: the batch itself.
            items: the product tower.
        """


OBJECTIVES: Registry[type[Objective]] = Registry("objective")
AnyObjective = TypeVar("AnyObjective", bound=type[Objective])


def objective(cls: AnyObjective) -> AnyObjective:
    """Class decorator that registers an objective under its `kind`."""
    OBJECTIVES.add(cls.kind, cls)
    return cls


@cache
def load_objectives() -> Registry[type[Objective]]:
    """All objectives of this folder."""
    import kit.models.objectives as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return OBJECTIVES


def make_objectives(chosen: Mapping[str, Mapping[str, Any]], width: int, vocabulary: Vocabulary) -> list[Objective]:
    """The objectives of a recipe's table: kind → settings; those of weight 0 are left out.

    Raises:
        KitError: an unknown kind or setting.
    """
    made = []
    for kind, settings in sorted(chosen.items()):
        cls = load_objectives()[kind]
        parsed = parse(cls.Settings, dict(settings), f"objectives.{kind}")
        if parsed.weight > 0:
            made.append(cls(width, vocabulary, parsed))
    return made


class SequenceModel(nn.Module):
    """A ClientEncoder and its objectives, in the shape that the training loop wants: batch → weighted loss terms."""

    def __init__(self, client: ClientEncoder, objectives: list[Objective]) -> None:
        super().__init__()
        self.client = client
        self.objectives = nn.ModuleList(objectives)

    def bind(self, tokens: Tokens) -> None:
        """Let every objective look at the tokens before training."""
        for part in self._parts():
            part.bind(tokens)

    def batch(
        self, tokens: Tokens, rows: Int64s, rng: np.random.Generator, cut: int | Int64s | None = None
    ) -> dict[str, Batch]:
        """Inputs under «events» and each objective's targets under its kind.

        Args:
            tokens: all tokens.
            rows: clients by row, int64 (B,).
            rng: for positions, targets and negatives that are drawn.
            cut: microseconds, one or one per row; the tokens' own if None.
        """
        cuts = np.broadcast_to(np.asarray(tokens.cut if cut is None else cut, dtype=np.int64), (len(rows),))
        events = sequence_batch(tokens, rows, cuts, self.client.length)
        spans = Spans.of(events, cuts)
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
