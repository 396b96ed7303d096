"""What a head of the combined network is: labels from a window, loss terms, and named columns for every client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field
from torch import Tensor, nn

from kit.history import History
from kit.kinds import TableOf, register
from kit.limits.need import Counts
from kit.models.batch import CombinedBatch, Market
from kit.models.heads.ahead import Ahead, Labels
from kit.models.items import ItemEncoder
from kit.recipe import Strict
from kit.registry import Registry
from kit.tokens import Tokens, Vocabulary


class HeadSettings(Strict):
    """What a head of one term has."""

    weight: float = Field(1.0, ge=0, description="Of the loss term (before `balance`); 0 leaves it out.")


class Queries(nn.ModuleDict):
    """Projections of the combined vector into product space, which heads may share: made when first asked for.

    Args:
        width: of the combined vector.
        dim: D, of product vectors.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.width, self.dim = width, dim

    def ask(self, name: str) -> nn.Module:
        """The projection of this name, (B, width) → (B, D); to be asked for where heads are built."""
        if name not in self:
            self[name] = nn.Linear(self.width, self.dim)
        return self[name]


@dataclass(frozen=True)
class HeadShape:
    """What a head is built to.

    Attributes:
        width: of the combined vector z.
        dim: D, of product vectors.
        statistics: k, statistics per product at a cut (`Market.items`).
        vocabulary: words and catalogue.
        queries: projections into product space, shared by all heads.
        names: by part, names of the numbers that are made outside (`batch.inputs`), where they have any.
    """

    width: int
    dim: int
    statistics: int
    vocabulary: Vocabulary
    queries: Queries
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shared:
    """What heads share at work.

    Attributes:
        items: product vectors.
        queries: projections into product space.
        fork: (representation, name) → where that name takes it: see `Balance.fork`.
    """

    items: ItemEncoder
    queries: nn.ModuleDict
    fork: Callable[[Tensor, str], Tensor]


@dataclass(frozen=True)
class Names:
    """Column names of a head. All heads' vectors come before all heads' forecasts.

    Attributes:
        vectors: of coordinates that mean something together alone.
        forecasts: of numbers that each mean something.
    """

    vectors: tuple[str, ...] = ()
    forecasts: tuple[str, ...] = ()


class Head(nn.Module, ABC):
    """One objective of the combined network and the columns that come of it.

    Args:
        shape: sizes, vocabulary and the shared projections.
        settings: its own.

    Attributes:
        kind: name in recipes.
        description: one line.
        Settings: its settings.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[Strict]] = HeadSettings

    @abstractmethod
    def __init__(self, shape: HeadShape, settings: Strict) -> None:
        super().__init__()
        self.settings = settings

    def weights(self) -> dict[str, float]:
        """Weight by loss term, in the order of the terms; one term of the head's own name by default."""
        return {self.kind: float(getattr(self.settings, "weight", 1.0))}

    def forks(self) -> tuple[str, ...]:
        """Names under which the head takes the representation, where they are not those of its terms."""
        return ()

    @classmethod
    @abstractmethod
    def labels(cls, ahead: Ahead, settings: Strict) -> Labels:
        """What became of all clients after a rewound cut: the only place where a head sees a future."""

    @abstractmethod
    def loss(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> dict[str, Tensor]:
        """Mean losses by term, not weighted yet; a term that no client of the batch defines is left out.

        Args:
            z: (B, width), the combined vector.
            batch: with `batch.labels[kind]`, what `labels` gave for these clients.
            shared: items, projections, forks.
        """

    def plan(self, history: History, tokens: Tokens, market: Market) -> Any:  # noqa: ANN401
        """What the columns depend on at a cut (such as which products are published); for `names` and `fill`."""
        return None

    def names(self, plan: Any) -> Names:  # noqa: ANN401
        """Names of the columns of `fill`; none by default."""
        return Names()

    def say(self, z: Tensor, batch: CombinedBatch, shared: Shared) -> Any:  # noqa: ANN401
        """What the head says of the clients, for its own columns and those of heads after it."""
        return None

    def fill(self, said: Mapping[str, Any], plan: Any) -> tuple[Tensor | None, Tensor | None]:  # noqa: ANN401
        """Vectors (B, v) and forecasts (B, f), or None for none, from what the heads said (by kind)."""
        return None, None

    @classmethod
    def most_columns(cls, settings: Strict, counts: Counts, dim: int) -> int:
        """How many columns there may be, for the plan that is made before anything runs; `dim` is D."""
        return 16


HEADS: Registry[type[Head]] = Registry("head", "kit.models.heads")
AnyHead = TypeVar("AnyHead", bound=type[Head])


def head(cls: AnyHead) -> AnyHead:
    """Class decorator that registers a head under its `kind`."""
    return register(HEADS, cls)


Heads = Annotated[dict[str, Strict | Literal[False]], TableOf(HEADS)]
"""A setting that is several heads: kind → settings."""
