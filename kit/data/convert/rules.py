"""Which rows of a source a mapping's rules keep: each rule says yes, no, or that it cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

import polars as pl

from kit.data.convert.mapping import Keep
from kit.data.convert.normal import EXACT, SPACES, as_float, cell, number, read_number, unread, whole

BOUNDS = {"above": pl.Expr.gt, "below": pl.Expr.lt, "at_least": pl.Expr.ge, "at_most": pl.Expr.le}
WORDS = ("equals", "one_of", "none_of")


def passes(rules: Sequence[Keep], schema: pl.Schema, null: tuple[str, ...] = ()) -> pl.Expr:
    """True where a row passes all rules, False where one turns it away, null where a rule cannot tell.

    A rule cannot tell where it needs a number and the cell holds something else. A row that another rule turns away is out
    all the same, so a price that is never looked at need not be readable.
    """
    return reduce(and_, [verdict(rule, schema[rule.column], null) for rule in rules], pl.lit(True))


def verdict(rule: Keep, dtype: pl.DataType, null: tuple[str, ...] = ()) -> pl.Expr:
    """What one rule says of a row: True, False, or null where it needs a number and finds other text."""
    text = cell(rule.column, dtype, null)
    conditions: list[pl.Expr] = []
    if rule.not_null:
        conditions.append(text.is_not_null())
    words = {name: operands for name in WORDS if (operands := operands_of(rule, name))}
    for name, operands in words.items():
        found = _is_one(rule, dtype, text, operands)
        conditions.append(~found if name == "none_of" else found)
    if numeric(rule):
        value = number(rule.column, dtype, rule.decimal, null)
        asked = [_bound(rule, name, value) for name in (*BOUNDS, "equals")]
        held = reduce(and_, [one for one in asked if one is not None])
        conditions.append(pl.when(~unread(text, value)).then(held.fill_null(False)))
    fold = "(?i)" if rule.ignore_case else ""
    if rule.matches is not None:
        conditions.append(text.str.contains(fold + rule.matches).fill_null(False))
    if rule.matches_not is not None:
        conditions.append(~text.str.contains(fold + rule.matches_not).fill_null(False))
    return reduce(and_, conditions)


def numeric(rule: Keep) -> bool:
    """Whether a rule needs a number."""
    return any(getattr(rule, name) is not None for name in BOUNDS) or _is_number(rule.equals)


def operands_of(rule: Keep, name: str) -> list[str]:
    """The texts that equals, one_of or none_of name; none where equals names a number."""
    value = getattr(rule, name)
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [value] if isinstance(value, str) else list(value) if isinstance(value, list) else []


def words_of(rule: Keep) -> str:
    """A rule in words, as the mapping writes it: `price above 0`."""
    said = [
        name if value is True and name in ("not_null", "ignore_case") else f"{name} {_shown(value)}"
        for name, value in rule.model_dump(exclude_unset=True, exclude={"column", "decimal"}).items()
    ]
    return f"{rule.column} {', '.join(said)}"


def left_by(verdicts: Sequence[pl.Expr]) -> pl.Expr:
    """The number of the first rule that turns a row away; null where none does."""
    found = pl.lit(None, dtype=pl.Int32)
    for at in reversed(range(len(verdicts))):
        found = pl.when(~verdicts[at]).then(pl.lit(at, dtype=pl.Int32)).otherwise(found)
    return found


def _shown(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else repr(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bound(rule: Keep, name: str, value: pl.Expr) -> pl.Expr | None:
    asked = getattr(rule, name)
    if name == "equals":
        return value == asked if _is_number(asked) else None
    return None if asked is None else BOUNDS[name](value, asked)


def _is_one(rule: Keep, dtype: pl.DataType, text: pl.Expr, operands: list[str]) -> pl.Expr:
    """Whether a cell is one of the texts: 17850.0 and 17850 are the same, and so is 1.50 in a column of numbers."""
    wanted = pl.select(whole(pl.lit(pl.Series(operands)).str.strip_chars(SPACES))).to_series()
    read = whole(text)
    truth = isinstance(rule.equals, bool)
    if rule.ignore_case or truth:
        wanted, read = wanted.str.to_lowercase(), read.str.to_lowercase()
    found = read.is_in(wanted.to_list())
    if dtype.is_numeric():
        read_as = [float(rule.equals is True)] if truth else [read_number(each, None) for each in operands]
        numbers = [each for each in read_as if each is not None and abs(each) < EXACT]
        if numbers:
            found |= as_float(rule.column, dtype).is_in(numbers) & text.is_not_null()
    return found.fill_null(False)
