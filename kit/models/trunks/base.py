"""What a trunk is: the parts side by side in, the combined vector out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, TypeVar

from torch import Tensor, nn

from kit.kinds import OneOf, register
from kit.recipe import Strict
from kit.registry import Registry


class TrunkSettings(Strict):
    """What every trunk's settings have; each kind adds its own."""

    kind: str


class Trunk(nn.Module, ABC):
    """(B, d_in) → (B, d_out).

    Args:
        width: d_in, the parts' widths together.
        out: d_out, the width of the combined vector.
        settings: its own.

    Attributes:
        kind: name in recipes.
        description: one line.
        Settings: its settings, with `kind: Literal[…]`.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[TrunkSettings]]

    @abstractmethod
    def __init__(self, width: int, out: int, settings: TrunkSettings) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """x (B, d_in) → (B, d_out)."""


TRUNKS: Registry[type[Trunk]] = Registry("trunk", "kit.models.trunks")
AnyTrunk = TypeVar("AnyTrunk", bound=type[Trunk])


def trunk(cls: AnyTrunk) -> AnyTrunk:
    """Class decorator that registers a trunk under its `kind`."""
    return register(TRUNKS, cls)


AnyTrunkSettings = Annotated[TrunkSettings, OneOf(TRUNKS)]
"""A setting that is one of the trunks."""


def make_trunk(width: int, out: int, settings: TrunkSettings) -> Trunk:
    """The trunk that `settings.kind` names.

    Raises:
        KitError: unknown kind.
    """
    return TRUNKS.loaded()[settings.kind](width, out, settings)
