"""What a sequence encoder is: causal, over sequences that begin in column 0."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import ClassVar, Literal, TypeVar

from pydantic import Field
from torch import Tensor, nn

from kit.recipe import Strict
from kit.registry import Registry, import_modules


class EncoderSettings(Strict):
    """Settings that all encoders share; one that does not apply to a kind is ignored by it."""

    kind: str = Field("transformer", description="transformer, gru, hstu.")
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1, description="Attention heads; must divide the width.")
    expand: int = Field(4, ge=1, description="Inner width of the feed-forward part as a multiple of the width.")
    dropout: float = Field(0.1, ge=0, lt=1)
    positions: Literal["rotary", "learned"] = "rotary"
    length: int = Field(128, ge=1, description="Longest sequence: the last so many events before the cut.")
    anchor: bool = Field(
        False,
        description="End every sequence with a token for the cut: the last state then knows how long it has been silent.",
    )


class SequenceEncoder(nn.Module, ABC):
    """(B, T, D) → (B, T, D). State t depends on tokens 0 … t alone.

    Sequences begin in column 0 and padding follows them, so causality alone keeps padding out of every state; states in the
    padding are zero.
    """

    kind: ClassVar[str]
    description: ClassVar[str]

    def __init__(self, width: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.width = width
        self.settings = settings

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """States.

        Args:
            x: event vectors, float (B, T, D).
            mask: True where there is a token, bool (B, T); each row is a run of True, then False.
            time: microseconds, int64 (B, T).
        """


ENCODERS: Registry[type[SequenceEncoder]] = Registry("sequence encoder")
AnyEncoder = TypeVar("AnyEncoder", bound=type[SequenceEncoder])


def encoder(cls: AnyEncoder) -> AnyEncoder:
    """Class decorator that registers an encoder under its `kind`."""
    ENCODERS.add(cls.kind, cls)
    return cls


@cache
def load_encoders() -> Registry[type[SequenceEncoder]]:
    """All encoders of this folder."""
    import_modules("kit.models.sequence")
    return ENCODERS


def make_encoder(width: int, settings: EncoderSettings) -> SequenceEncoder:
    """The encoder that `settings.kind` names.

    Raises:
        KitError: unknown kind.
    """
    return load_encoders()[settings.kind](width, settings)
