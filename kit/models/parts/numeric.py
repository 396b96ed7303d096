"""How hand-made features enter a network: as they are, or piecewise-linearly encoded.

Gorishniy et al. 2022, "On Embeddings for Numerical Features" (arXiv 2203.05556) for the piecewise-linear encoding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Final, Literal, TypeVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.claims import Claim
from kit.kinds import OneOf, register
from kit.recipe import Strict
from kit.registry import Registry

PIECEWISE_WIDTH: Final = 2
"""Numbers per feature after the piecewise-linear encoding."""


class NumericSettings(Strict):
    """What every encoding's settings have."""

    kind: str


class NumericEncoding(nn.Module, ABC):
    """(B, F) in [-1, 1] or NaN → (B, width), without NaN.

    Args:
        columns: F.
        settings: its own.

    Attributes:
        kind, description, Settings: as in all registered parts.
        width: numbers per client that come out.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[NumericSettings]]
    width: int

    @abstractmethod
    def __init__(self, columns: int, settings: NumericSettings) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """x (B, F) → (B, width)."""


NUMERIC: Registry[type[NumericEncoding]] = Registry("numeric encoding", "kit.models.parts")
AnyNumeric = TypeVar("AnyNumeric", bound=type[NumericEncoding])


def numeric_encoding(cls: AnyNumeric) -> AnyNumeric:
    """Class decorator that registers an encoding under its `kind`."""
    return register(NUMERIC, cls)


AnyNumericSettings = Annotated[NumericSettings, OneOf(NUMERIC)]
"""A setting that is one of the encodings."""


class QuantileSettings(NumericSettings):
    """None: features come scaled."""

    kind: Literal["quantile"] = "quantile"


@numeric_encoding
class Quantile(NumericEncoding):
    """Features as they come, quantile-uniform; missing ones are 0, the middle."""

    kind: ClassVar[str] = "quantile"
    description: ClassVar[str] = "Features as they are, quantile-uniform."
    Settings: ClassVar[type[NumericSettings]] = QuantileSettings

    def __init__(self, columns: int, settings: NumericSettings) -> None:
        super().__init__(columns, settings)
        self.width = columns

    def forward(self, x: Tensor) -> Tensor:
        """(B, F)."""
        return x.nan_to_num()


class PiecewiseSettings(NumericSettings):
    """Resolution."""

    kind: Literal["piecewise"] = "piecewise"
    bins: int = Field(6, ge=2, description="Bins per feature.")


@numeric_encoding
class Piecewise(NumericEncoding):
    """Every feature over equal bins of its quantiles, then a linear map of its own. Technique K5."""

    kind: ClassVar[str] = "piecewise"
    description: ClassVar[str] = "Features piecewise-linearly encoded, each by a map of its own."
    Settings: ClassVar[type[NumericSettings]] = PiecewiseSettings
    solves: ClassVar[tuple[Claim, ...]] = (Claim("bands", margin=0.05, twin={"kind": "quantile"}, given={"bins": 12}),)

    def __init__(self, columns: int, settings: PiecewiseSettings) -> None:
        super().__init__(columns, settings)
        self.width = columns * PIECEWISE_WIDTH
        edges = torch.linspace(-1, 1, settings.bins + 1).expand(columns, -1).contiguous()
        self.linear = PiecewiseLinear(edges, PIECEWISE_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 F)."""
        return cast(Tensor, self.linear(x)).nan_to_num()


class PiecewiseLinear(nn.Module):
    """Piecewise-linear encoding of numeric columns over quantile bins, then one linear map per column: (B, c) → (B, c · d).

    A value is written as how far it has come through each bin: 1 for bins below, a fraction inside, 0 above. Missing
    values (NaN) get a learned vector of their own.

    Args:
        edges: bin edges per column (c, bins + 1), non-decreasing.
        width: d, numbers per column.
    """

    edges: Tensor

    def __init__(self, edges: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("edges", edges)
        columns, bins = edges.shape[0], edges.shape[1] - 1
        self.weight = nn.Parameter(torch.randn(columns, bins, width) * bins**-0.5)
        self.bias = nn.Parameter(torch.zeros(columns, width))
        self.missing = nn.Parameter(torch.zeros(columns, width))

    def encode(self, x: Tensor) -> Tensor:
        """x (B, c) → (B, c, bins) in [0, 1]."""
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        # An empty bin (equal edges) is a step: 0 up to it, 1 above.
        inside = (x.unsqueeze(-1) - low) / (high - low).clamp_min(1e-12)
        return inside.clamp(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c), NaN = missing → (B, c · d)."""
        absent = torch.isnan(x)
        encoded = self.encode(torch.where(absent, torch.zeros_like(x), x))
        mapped = torch.einsum("bcn,cnd->bcd", encoded, self.weight) + self.bias
        return torch.where(absent.unsqueeze(-1), self.missing, mapped).flatten(1)
