"""What a block is: fit(history), then transform(history, clients) into numbers, one row per client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from kit.challenge import MAX_WIDTH
from kit.errors import KitError
from kit.fingerprint import Code, code_of
from kit.history import History
from kit.kinds import chosen_modules
from kit.limits.need import Counts, Need, matrix
from kit.recipe import BlockEntry, Strict, parse
from kit.registry import Registry


class NoSettings(Strict):
    """For blocks without settings of their own."""


@dataclass(frozen=True)
class BlockOutput:
    """A block's numbers.

    Attributes:
        values: float32 (n, d); row i belongs to clients[i]; NaN = missing, imputed by the assembler.
        columns: d names.
    """

    values: NDArray[np.float32]
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns):
            raise ValueError(f"values of shape {self.values.shape} do not fit {len(self.columns)} column names")


class Others(ABC):
    """The output of other entries of the recipe, for a block that uses them."""

    @abstractmethod
    def of(self, name: str, history: History) -> BlockOutput:
        """What an entry says of all the history's clients, as it was or would be fitted by the history's cut: at a rewound cut,
        by a block that was fitted there and knows nothing of the window that labels are made from."""


class Block(ABC):
    """Turns a client into d numbers. Everything learned comes from the History that `fit` received.

    Attributes:
        kind: name in recipes.
        description: one line.
        Settings: pydantic schema of the block's own keys in a recipe.
        takes: whether it learns from other entries (`uses`).
        scratch: folder for `checkpoint`, if whoever runs the block has one; it outlives a killed run.
        uses: the entries that its own names, and `others`, which has their output; see `used`.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[Strict]] = NoSettings
    takes: ClassVar[bool] = False

    def __init__(self, settings: Strict, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.scratch: Path | None = None
        self.uses: tuple[str, ...] = ()
        self.others: Others | None = None

    @abstractmethod
    def fit(self, history: History) -> Block:
        """Learn from what was known before the history's cut; returns self."""

    @abstractmethod
    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """Numbers for exactly `clients` (sorted int64 (n,)), from events before the history's cut."""

    def need(self, counts: Counts) -> Need:
        """What this block will take, for the plan that is made before anything runs. A block that does not say is taken to
        give as many columns as a profile may have, and to hold its matrix three times."""
        size = matrix(counts.clients, MAX_WIDTH)
        return Need(
            3 * size, 3 * size, size, MAX_WIDTH, "fewer clients: this block does not say what it needs (`Block.need`)"
        )

    def used(self, history: History) -> BlockOutput:
        """The used entries' columns side by side, named <entry>__<column>: float32 (n, d), row i = history.clients[i]."""
        if self.others is None:
            raise ValueError(f"block {self.kind!r} was run without the entries that it uses")
        found = {name: self.others.of(name, history) for name in self.uses}
        columns = tuple(f"{name}__{column}" for name, output in found.items() for column in output.columns)
        return BlockOutput(np.concatenate([output.values for output in found.values()], axis=1), columns)

    def parts(self) -> Iterable[str]:
        """Modules of the registered parts (`Registry.modules`) whose code decides the numbers too and which neither this block's
        module imports nor a setting marked by `OneOf` or `TableOf` chooses. None by default."""
        return ()

    def code(self) -> Code:
        """The code that decides the numbers; a change there makes stored outputs stale."""
        return code_of(type(self), *self.parts(), *chosen_modules(self.settings))

    def save(self, folder: Path) -> None:  # noqa: B027 - most blocks have nothing to keep
        """Write what was learned, for inspection and for `load`; nothing by default. Nothing per client: `transform` makes that
        again from the events."""

    def load(self, folder: Path) -> Block:
        """Read what `save` wrote, instead of `fit`: the block then serves other clients and later cuts, and what it says of the
        clients and the cut of the fit is equal bit by bit. Returns self.

        Raises:
            KitError: the block has no `load`, or `folder` does not hold what it reads.
        """
        raise KitError(
            f"Blocks of kind {self.kind!r} cannot be loaded again, so they serve the cut and the clients of their fit alone.",
            "Give the block `save` and `load` (docs/own-block.md), or leave it out of the recipe.",
        )

    def checkpoint(self) -> Path | None:
        """File for `train` to save to and to resume from after a kill; None without a `scratch`."""
        return None if self.scratch is None else self.scratch / "training.pt"


BLOCKS: Registry[type[Block]] = Registry("block", "kit.blocks")
AnyBlock = TypeVar("AnyBlock", bound=type[Block])


def block(cls: AnyBlock) -> AnyBlock:
    """Class decorator that registers a block under its `kind`."""
    BLOCKS.add(cls.kind, cls)
    return cls


def find_block(kind: str) -> type[Block]:
    """The block of that kind; the others, and plugins, may need torch.

    Raises:
        KitError: unknown kind.
    """
    return BLOCKS.find(kind)


def make_block(name: str, entry: BlockEntry, seed: int) -> Block:
    """The block that a recipe's `[blocks.<name>]` describes, unfitted.

    Raises:
        KitError: unknown kind, settings that its schema refuses, or `uses` where the kind has none.
    """
    cls = find_block(entry.kind)
    common = BlockEntry.model_fields
    unit = cls(parse(cls.Settings, entry.settings(), f"[blocks.{name}]", also=common), seed)
    if entry.uses and not cls.takes:
        raise KitError(f"[blocks.{name}]: blocks of kind {entry.kind!r} use no other entries.", "Leave `uses` out.")
    unit.uses = entry.uses
    return unit
