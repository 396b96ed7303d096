"""Balances: how the losses of several heads share one trunk."""

from kit.models.balances.base import (
    AnyBalanceSettings,
    Balance,
    BalanceSettings,
    balance,
    load_balances,
    make_balance,
)

__all__ = ["AnyBalanceSettings", "Balance", "BalanceSettings", "balance", "load_balances", "make_balance"]
