"""Which rows of a source a mapping's rules keep."""

from __future__ import annotations

import polars as pl

from kit.data.convert.mapping import Keep


def passes(rules: list[Keep]) -> pl.Expr:
    """True where a row passes all rules."""
    kept = pl.lit(True)
    for rule in rules:
        kept &= _passes(rule)
    return kept


def _passes(rule: Keep) -> pl.Expr:
    value = pl.col(rule.column)
    text, number = value.cast(pl.String), value.cast(pl.Float64, strict=False)
    conditions: list[pl.Expr] = []
    if rule.not_null:
        conditions.append(value.is_not_null() & (text != ""))
    if rule.equals is not None:
        same = text == rule.equals if isinstance(rule.equals, str) else number == rule.equals
        conditions.append(same.fill_null(False))
    if rule.one_of is not None:
        conditions.append(text.is_in(rule.one_of).fill_null(False))
    if rule.none_of is not None:
        conditions.append(~text.is_in(rule.none_of).fill_null(False))
    bounds = {"above": pl.Expr.gt, "below": pl.Expr.lt, "at_least": pl.Expr.ge, "at_most": pl.Expr.le}
    for name, compare in bounds.items():
        if (bound := getattr(rule, name)) is not None:
            conditions.append(compare(number, bound).fill_null(False))
    if rule.matches is not None:
        conditions.append(text.str.contains(rule.matches).fill_null(False))
    if rule.matches_not is not None:
        conditions.append(~text.str.contains(rule.matches_not).fill_null(False))
    return pl.all_horizontal(conditions)
