"""Fixed weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from kit.models.balances.base import Balance, BalanceSettings, balance


class FixedSettings(BalanceSettings):
    """None."""

    kind: Literal["fixed"] = "fixed"


@balance
class Fixed(Balance):
    """Each term times its weight."""

    kind: ClassVar[str] = "fixed"
    description: ClassVar[str] = "Each term times its weight."
    Settings: ClassVar[type[BalanceSettings]] = FixedSettings

    def forward(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms."""
        return {name: self.weights.get(name, 1.0) * value for name, value in terms.items()}
