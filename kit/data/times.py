"""Which instants an event may lie at, and reading them without ever turning a wild number into a datetime.

Polars and Python stop or panic at datetimes far outside the calendar, and those are what a wrong unit gives: milliseconds read as
seconds lie in the year 55969. So instants are looked at as the integers that they are stored as, in the unit of their type.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from kit.data.scan import time_expr

EARLIEST = 1971
"""No shop's log begins before; 1970 is what a wrong unit gives."""
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
DAY = 86_400
EPOCH = datetime(1970, 1, 1)
MOMENT = "_moment"
"""Column that rules find the stored number in: text is parsed once, not once per rule."""


def latest_year() -> int:
    """The last year that an event may lie in: the next one."""
    return datetime.now(UTC).year + 1


def bounds(unit: str) -> tuple[int, int]:
    """First instant that may be and first that may not be any more, in `unit` since 1970."""
    ends = datetime(EARLIEST, 1, 1), datetime(latest_year() + 1, 1, 1)
    first, stop = (int((end - EPOCH).total_seconds()) * PER_SECOND[unit] for end in ends)
    return first, stop


def stored(dtype: pl.DataType) -> tuple[pl.Expr, str] | None:
    """The timestamp as an integer and its unit; None if the type is no time's. Text that is no time becomes null."""
    if dtype == pl.String:
        return time_expr(dtype, strict=False).to_physical(), "us"
    if dtype == pl.Date:
        return pl.col("timestamp").to_physical().cast(pl.Int64) * DAY, "s"
    if isinstance(dtype, pl.Datetime):
        return pl.col("timestamp").to_physical(), dtype.time_unit
    return None


def outside(unit: str) -> pl.Expr:
    """Whether the MOMENT lies before EARLIEST or after next year."""
    first, stop = bounds(unit)
    return (pl.col(MOMENT) < first) | (pl.col(MOMENT) >= stop)


def readable(unit: str) -> pl.Expr:
    """The MOMENT in microseconds since 1970, null where it cannot be right."""
    sane = pl.when(~outside(unit)).then(pl.col(MOMENT))
    return sane // 1000 if unit == "ns" else sane * (PER_SECOND["us"] // PER_SECOND[unit])


def instant(microseconds: int | None) -> datetime | None:
    """The datetime of what `readable` gives."""
    return None if microseconds is None else EPOCH + timedelta(microseconds=microseconds)


def shown(number: int, unit: str) -> str:
    """An instant for people, wherever it lies: the year where there is no datetime for it."""
    micro = number * 10**6 // PER_SECOND[unit]
    try:
        return f"{EPOCH + timedelta(microseconds=micro)}"
    except OverflowError:
        return f"a day in the year {1970 + number // int(365.2425 * DAY * PER_SECOND[unit])}"


def better_unit(number: int, unit: str) -> str:
    """In words, the unit that `number` was written in if it was written in another than `unit`; "" if none would fit."""
    for other in PER_SECOND:
        first, stop = bounds(other)
        if other != unit and first <= number < stop:
            return f"Read as {UNITS[other]} the first would be {shown(number, other)}."
    return ""


def misread(number: int, unit: str) -> str:
    """The same for a stored instant, which may have been scaled from another unit when it was read.

    Seconds read as milliseconds, say, stand here in microseconds as 1000 times the seconds.
    """
    first, stop = bounds(unit)
    for step, words in ((1000, "1,000"), (10**6, "1,000,000"), (10**9, "1,000,000,000")):
        if first <= number // step < stop:
            return f"Divided by {words} the first would be {shown(number // step, unit)}: mend the unit it was read in."
        if first <= number * step < stop:
            return f"Times {words} the first would be {shown(number * step, unit)}: mend the unit it was read in."
    return "Mend or drop these rows."
