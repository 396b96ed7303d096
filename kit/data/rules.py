"""What a column of the challenge layout may hold: one rule per way of being wrong, evaluated together in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from kit.challenge import CODE_VALUES, CODES, PRICE_BUCKETS, TIMESTAMP_FORMAT
from kit.data.scan import EMBEDDING
from kit.data.times import EARLIEST, MOMENT, latest_year, outside, stored
from kit.errors import Severity

_CODE = r"0*(?:25[0-5]|2[0-4]\d|1?\d{1,2})"
CODES_PATTERN = rf"^\s*\[?\s*{_CODE}(?:[\s,]+{_CODE}){{{CODES - 1}}}\s*,?\s*\]?\s*$"
"""Text of 16 integers 0 .. 255, with or without brackets, parted by any spaces, line breaks or commas."""
EXACT_FLOATS = 2**53
"""From here on a float stands for several integers."""


@dataclass(frozen=True)
class Rule:
    """Rows of `column` where `bad` holds break it. A rule without an expression concerns the column's type as a whole."""

    column: str
    says: str
    remedy: str
    severity: Severity = Severity.ERROR
    bad: pl.Expr | None = None


def column_rules(column: str, dtype: pl.DataType) -> list[Rule]:
    """The rules for one column of one of the six tables, given its type on disk."""
    null = Rule(column, "are empty", "Drop these rows or fill them in.", bad=pl.col(column).is_null())
    if column == "timestamp":
        return [null, *_time_rules(dtype)]
    if column in {"query", "name", EMBEDDING}:
        return [null, *_code_rules(column, dtype)]
    return [null, *_id_rules(column, dtype)]


def _time_rules(dtype: pl.DataType) -> list[Rule]:
    found = stored(dtype)
    if found is None:
        remedy = f"Write it as text in the form {TIMESTAMP_FORMAT} or as a datetime."
        if dtype.is_integer():
            remedy += ' With Polars: pl.from_epoch("timestamp", time_unit=…), where the unit is s, ms, us or ns.'
        return [Rule("timestamp", f"is {dtype}", remedy)]
    number, unit = pl.col(MOMENT), found[1]
    says = f"lie before {EARLIEST} or after {latest_year()}"
    rules = [Rule("timestamp", says, "", bad=outside(unit))]  # the remedy depends on the first of them
    if dtype == pl.String:
        says = f"are not timestamps of the form {TIMESTAMP_FORMAT}"
        bad = pl.col("timestamp").is_not_null() & number.is_null()
        remedy = "Rewrite them in this form; to the minute or with fractions of a second will do."
        rules.append(Rule("timestamp", says, remedy, bad=bad))
    if dtype == pl.Date:
        says = "is a date"
        rules.append(
            Rule("timestamp", says, "All events of a day are taken to be at midnight, in file order.", Severity.INFO)
        )
    if unit == "ns":
        says, remedy = "are finer than a microsecond", "They are cut to microseconds; ties keep the order of the file."
        rules.append(Rule("timestamp", says, remedy, Severity.INFO, bad=number % 1000 != 0))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        says = f"has the time zone {dtype.time_zone}"
        rules.append(Rule("timestamp", says, "It is read as UTC; convert it if local days matter.", Severity.INFO))
    return rules


def _code_rules(column: str, dtype: pl.DataType) -> list[Rule]:
    value = pl.col(column)
    says = f"are not {CODES} codes 0 .. {CODE_VALUES - 1}"
    remedy = (
        f"Every row needs {CODES} integers such as [ 21 13 168 …], as the published files have them. Longer vectors: keep the "
        f"same {CODES} places in names and queries."
    )
    if dtype == pl.String:
        return [Rule(column, says, remedy, bad=~value.str.contains(CODES_PATTERN))]
    inner = getattr(dtype, "inner", None)
    if isinstance(dtype, pl.List | pl.Array) and inner is not None and inner.is_integer():
        rows = value.cast(pl.List(inner))
        outside = (
            (rows.list.min() < 0) | (rows.list.max() >= CODE_VALUES) | rows.list.eval(pl.element().is_null()).list.any()
        )
        return [Rule(column, says, remedy, bad=(rows.list.len() != CODES) | outside)]
    return [Rule(column, f"is {dtype}", f"Write it as text or as a list of {CODES} integers.")]


def _id_rules(column: str, dtype: pl.DataType) -> list[Rule]:
    value = pl.col(column)
    if not dtype.is_numeric() or dtype.is_decimal():
        return [Rule(column, f"is {dtype}", "It must be int64: `kit data convert` maps text ids to numbers and back.")]
    rules: list[Rule] = []
    if dtype.is_float():
        whole = value.is_finite() & (value == value.round())
        rules.append(Rule(column, "are not whole numbers", "Ids and buckets are integers: write int64.", bad=~whole))
        says = "are floats from 2^53 on, which stand for several ids each"
        remedy = "Take the ids from where they are integers or text, and write int64."
        rules.append(Rule(column, says, remedy, bad=whole & (value.abs() >= EXACT_FLOATS)))
    elif dtype != pl.Int64:
        bad = value.is_not_null() & value.cast(pl.Int64, strict=False).is_null()
        rules.append(Rule(column, "do not fit into int64", "`kit data convert` numbers ids anew.", bad=bad))
    if dtype != pl.Int64:
        says = f"is {dtype}, not int64"
        rules.append(Rule(column, says, "It is read as int64; the organisers' code expects int64.", Severity.WARNING))
    if column == "price":
        says = f"are outside 0 .. {PRICE_BUCKETS - 1}"
        remedy = f"Prices are {PRICE_BUCKETS} quantile buckets, not amounts."
        return [*rules, Rule(column, says, remedy, bad=(value < 0) | (value >= PRICE_BUCKETS))]
    says, remedy = (
        "are negative",
        "Ids count from 0; -1 often stands for `unknown` and would make one giant client or item.",
    )
    return [*rules, Rule(column, says, remedy, Severity.WARNING, bad=value < 0)]
