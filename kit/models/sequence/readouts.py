"""Readouts: how the states of a sequence become one vector per client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final, TypeVar, cast

import torch
from torch import Tensor, nn

from kit.errors import require_known
from kit.models.events import Batch
from kit.registry import Registry

HALF_LIFE_US: Final = 7 * 86_400 * 1_000_000
"""Half-life of an event's weight in the readout `recent`, microseconds."""


class Readout(nn.Module, ABC):
    """States (B, T, D), zero in the padding → (B, D); zeros for rows without tokens.

    Attributes:
        kind: name in recipes and of its columns.
        description: one line.
    """

    kind: ClassVar[str]
    description: ClassVar[str]

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @abstractmethod
    def forward(self, states: Tensor, batch: Batch, cut: Tensor | int | None) -> Tensor:
        """One vector per row.

        Args:
            states: (B, T, D).
            batch: the tokens that they came from.
            cut: microseconds, one or (B,).
        """


READOUTS: Registry[type[Readout]] = Registry("readout", "kit.models.sequence")
AnyReadout = TypeVar("AnyReadout", bound=type[Readout])


def readout(cls: AnyReadout) -> AnyReadout:
    """Class decorator that registers a readout under its `kind`."""
    READOUTS.add(cls.kind, cls)
    return cls


def known_readouts(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The same, if all of them are registered; ValueError otherwise, as settings' validators raise it."""
    require_known("readout", kinds, READOUTS.loaded())
    return kinds


@readout
class Last(Readout):
    """The last token's state."""

    kind: ClassVar[str] = "last"
    description: ClassVar[str] = "State of the last token."

    def forward(self, states: Tensor, batch: Batch, cut: Tensor | int | None) -> Tensor:
        """(B, D)."""
        index = (batch["size"] - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[-1])
        return states.gather(1, index)[:, 0]


@readout
class Mean(Readout):
    """The average of all states."""

    kind: ClassVar[str] = "mean"
    description: ClassVar[str] = "Average of all states."

    def forward(self, states: Tensor, batch: Batch, cut: Tensor | int | None) -> Tensor:
        """(B, D)."""
        return states.sum(dim=1) / batch["size"].clamp(min=1)[:, None]


@readout
class Recent(Readout):
    """The sum weighted by 2^(−age at the cut / 7 days), times 1/√(1 + total weight): it also says how much happened lately."""

    kind: ClassVar[str] = "recent"
    description: ClassVar[str] = "States weighted by age at the cut: half for each week."

    def forward(self, states: Tensor, batch: Batch, cut: Tensor | int | None) -> Tensor:
        """(B, D)."""
        if cut is None:
            raise ValueError("the readout `recent` needs the cut")
        ends = torch.as_tensor(cut, device=states.device).view(-1, 1)
        weight = torch.exp2(-(ends - batch["time"]).float() / HALF_LIFE_US) * batch["mask"]
        return (states * weight[..., None]).sum(dim=1) / (1.0 + weight.sum(dim=1, keepdim=True)).sqrt()


class Readouts(nn.Module):
    """Several side by side: (B, T, D) → (B, width).

    Args:
        kinds: names, in the order of the output.
        width: D.
    """

    def __init__(self, kinds: Sequence[str], width: int) -> None:
        super().__init__()
        self.kinds, self.width = tuple(kinds), len(kinds) * width
        self.parts = nn.ModuleList(READOUTS.loaded()[kind](width) for kind in kinds)

    def forward(self, states: Tensor, batch: Batch, cut: Tensor | int | None = None) -> Tensor:
        """See Readout."""
        return torch.cat([cast(Tensor, part(states, batch, cut)) for part in self.parts], dim=1)


def pool(states: Tensor, batch: Batch, how: Sequence[str], cut: Tensor | int | None = None) -> Tensor:
    """One vector per row by readouts that have nothing to learn, (B, len(how) · D)."""
    return cast(Tensor, Readouts(how, states.shape[-1])(states, batch, cut))
