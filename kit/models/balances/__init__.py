"""Balances: how the losses of several heads share one trunk."""

from kit.models.balances.base import BALANCES, AnyBalanceSettings, Balance, BalanceSettings, balance, make_balance

__all__ = ["BALANCES", "AnyBalanceSettings", "Balance", "BalanceSettings", "balance", "make_balance"]
