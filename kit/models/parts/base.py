"""What a part of the combined network is: a vector per client for the trunk, from the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from kit.kinds import TableOf, register
from kit.models.batch import CombinedBatch
from kit.models.sequence import ClientEncoder
from kit.recipe import Strict
from kit.registry import Registry


class PartSettings(Strict):
    """A part without settings of its own."""


class Part(nn.Module, ABC):
    """A batch → (B, width).

    Numbers that are made outside the network, per client, come as `batch.inputs[kind]` (see `kit.blocks.inputs`).

    Args:
        dim: D, width of event and product vectors.
        columns: how many numbers per client there are by part, of those that are made outside.
        settings: its own.

    Attributes:
        kind: name in recipes.
        description: one line.
        Settings: its settings.
        width: numbers per client for the trunk; 0 leaves the part out.
        absent: (width,), learned; stands for the part where it is unknown, and where it is dropped in training.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[PartSettings]] = PartSettings

    @abstractmethod
    def __init__(self, dim: int, columns: Mapping[str, int], settings: PartSettings) -> None:
        super().__init__()

    def sized(self, width: int) -> None:
        """To be called by `__init__`: sets `width` and `absent`."""
        self.width = width
        self.absent = nn.Parameter(torch.zeros(width))

    @abstractmethod
    def forward(self, batch: CombinedBatch, client: ClientEncoder) -> Tensor:
        """(B, width).

        Args:
            batch: see CombinedBatch.
            client: embedding and encoder of events, which all parts share.
        """


PARTS: Registry[type[Part]] = Registry("part", "kit.models.parts")
AnyPart = TypeVar("AnyPart", bound=type[Part])


def part(cls: AnyPart) -> AnyPart:
    """Class decorator that registers a part under its `kind`."""
    return register(PARTS, cls)


Parts = Annotated[dict[str, PartSettings | Literal[False]], TableOf(PARTS)]
"""A setting that is several parts: kind → settings."""
