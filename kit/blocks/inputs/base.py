"""What an input is: numbers per client, learned at rewound cuts, then made at any cut for the part of the same kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from kit.errors import KitError
from kit.history import History
from kit.limits.need import Counts, Need
from kit.models.parts import PartSettings
from kit.registry import Registry

Floats = NDArray[np.float32]
Kept = Path | None
"""Folder for what should outlive a killed run; None without one."""


class Input(ABC):
    """Numbers per client for the part of the same kind. A part that reads the batch alone (such as `sequence`) has none.

    Args:
        block: settings of the combined block.
        part: the part's settings.
        seed: the block's.

    Attributes:
        kind: that of the part.
        columns: names of the numbers, once fitted; empty where they have none of their own.
    """

    kind: ClassVar[str]
    columns: tuple[str, ...] = ()

    def __init__(self, block: Any, part: PartSettings, seed: int) -> None:  # noqa: ANN401 - importing it would be a circle
        self.block, self.part, self.seed = block, part, seed

    @abstractmethod
    def fit(self, pasts: Sequence[History], scratch: Kept) -> list[Floats]:
        """Learn from the rewound cuts (latest first), and return the numbers of their clients, float32 (n, columns) each.

        What is learned must not know the future of any of them: fit at the earliest cut, or on inputs alone.
        """

    @abstractmethod
    def arrays(self, history: History) -> Floats:
        """The numbers of all clients of a history at its cut, float32 (n, columns), columns as in `fit`."""

    def save(self, folder: Path) -> None:
        """Write what `fit` learned into a folder of its own.

        Raises:
            KitError: the input has no `save`.
        """
        raise KitError(
            f"The input {self.kind!r} of the combined network cannot be saved.", "Give it `save` and `load`."
        )

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, instead of `fit`."""
        raise KitError(
            f"The input {self.kind!r} of the combined network cannot be loaded again.", "Give it `save` and `load`."
        )

    @abstractmethod
    def need(self, learners: Counts, some: Counts) -> tuple[Need, Need]:
        """What it takes to fit on the learners, and to make numbers of some clients; `width` is the columns."""


INPUTS: Registry[type[Input]] = Registry("input", "kit.blocks.inputs")
AnyInput = TypeVar("AnyInput", bound=type[Input])


def input_of(cls: AnyInput) -> AnyInput:
    """Class decorator that registers an input under the kind of its part."""
    INPUTS.add(cls.kind, cls)
    return cls
