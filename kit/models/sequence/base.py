"""What a sequence encoder is: causal, over sequences that begin in column 0."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field
from torch import Tensor, nn

from kit.errors import KitError
from kit.kinds import OneOf, register
from kit.models.events import Batch
from kit.recipe import Strict
from kit.registry import Registry


class EncoderSettings(Strict):
    """What every encoder's settings have; each kind adds its own."""

    kind: str
    length: int = Field(128, ge=1, description="Longest sequence: the last so many events before the cut.")
    anchor: bool = Field(
        False,
        description="End every sequence with a token for the cut: the last state then knows how long it has been silent.",
    )


class SequenceEncoder(nn.Module, ABC):
    """(B, T, D) → (B, T, D). State t depends on tokens 0 … t alone.

    Sequences begin in column 0 and padding follows them, so causality alone keeps padding out of every state; states in the
    padding are zero.

    Attributes:
        kind: name in recipes.
        description: one line.
        Settings: its settings, with `kind: Literal[…]`.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[EncoderSettings]]

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.width = width
        self.settings = settings

    @abstractmethod
    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """States.

        Args:
            x: event vectors, float (B, T, D).
            batch: the tokens that they were made of (`kit.tokens.SequenceBatch` as tensors): `mask` (B, T), each row a run of
                True, then False; `time` in microseconds (B, T); `kind`, `category`, `price`, `codes` and so on.
        """


def require_heads(width: int, heads: int, *, even: bool = False) -> None:
    """KitError where attention heads do not divide a width, or, for `even`, not into even parts, whose pairs are to be turned."""
    if width % heads or (even and (width // heads) % 2):
        parts = " into even parts" if even else ""
        raise KitError(f"{heads} heads do not divide a width of {width}{parts}.", "Change `heads` or `width`.")


ENCODERS: Registry[type[SequenceEncoder]] = Registry("sequence encoder", "kit.models.sequence")
AnyEncoder = TypeVar("AnyEncoder", bound=type[SequenceEncoder])


def encoder(cls: AnyEncoder) -> AnyEncoder:
    """Class decorator that registers an encoder under its `kind`."""
    return register(ENCODERS, cls)


Encoder = Annotated[EncoderSettings, OneOf(ENCODERS)]
"""A setting that is one of the encoders."""


def make_encoder(width: int, settings: EncoderSettings) -> SequenceEncoder:
    """The encoder that `settings.kind` names.

    Raises:
        KitError: unknown kind.
    """
    return ENCODERS.loaded()[settings.kind](width, settings)
