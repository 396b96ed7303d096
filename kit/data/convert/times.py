"""How a shop writes its times: read exactly, to the microsecond, or refused with the setting that would read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import polars as pl

from kit.data.convert.formats import OFFSET, fitting, parse_form, parse_iso, read_text
from kit.data.convert.mapping import Time
from kit.data.convert.normal import NOTHING, NUMBER, cell, is_text, of_count, read_number, whole
from kit.data.scan import TIME
from kit.errors import KitError

EPOCH = datetime(1970, 1, 1)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Ticks of a unit in a second."""
TICKS = r"^([+-]?[0-9]{1,24})(?:\.([0-9]*))?$"
"""A count since 1970 as text; in the second group what stands after the point."""


def plausible() -> tuple[datetime, datetime]:
    """From when and until when (exclusive) events of a shop can be: 1971 to the end of next year."""
    return datetime(1971, 1, 1), datetime(datetime.now(UTC).year + 2, 1, 1)


def stated(time: Time, dtype: pl.DataType, null: tuple[str, ...] = ()) -> pl.Expr:
    """Where a row says a time at all."""
    return cell(time.column, dtype, null).is_not_null()


def time_of(time: Time, dtype: pl.DataType, null: tuple[str, ...] = ()) -> pl.Expr:
    """The time as Datetime("us"), in UTC where the shop says so, before `zone`; null where it is missing, cannot be read, or is
    no plausible moment (see `plausible`)."""
    low, high = plausible()
    text = cell(time.column, dtype, null)
    if isinstance(dtype, pl.Datetime | pl.Date):
        value = pl.when(text.is_not_null()).then(pl.col(time.column))
        zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
        parsed = value.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else value
        bounds = (pl.lit(low, TIME), pl.lit(high, TIME))
        if isinstance(
            dtype, pl.Datetime
        ):  # compared before the cast: seconds in a column of nanoseconds must not overflow
            bounds = (
                pl.lit(low, TIME).cast(pl.Datetime(dtype.time_unit)),
                pl.lit(high, TIME).cast(pl.Datetime(dtype.time_unit)),
            )
        return pl.when((parsed >= bounds[0]) & (parsed < bounds[1])).then(parsed).cast(TIME)
    if time.unit is not None:
        return _ticks(time.column, dtype, text, time.unit)
    if time.format is not None and (is_text(dtype) or dtype.is_numeric()):
        parsed = parse_form(whole(text), time.format)  # 20240131.0 in a column with gaps is 20240131
    elif is_text(dtype):
        parsed = parse_iso(text)
    else:
        parsed = pl.lit(None, dtype=TIME)
    return pl.when((parsed >= low) & (parsed < high)).then(parsed)


def offset_of(time: Time, dtype: pl.DataType, null: tuple[str, ...] = ()) -> pl.Expr | None:
    """Whether an ISO text says its offset: those that do and those that do not must not stand in one column. None: not asked."""
    if not is_text(dtype) or time.unit is not None or time.format is not None:
        return None
    return cell(time.column, dtype, null).str.contains(rf":[0-9.,]+{OFFSET}")


def _ticks(column: str, dtype: pl.DataType, text: pl.Expr, unit: str) -> pl.Expr:
    """Numbers or text, counted from 1970, as Datetime("us"). Nothing implausible is ever multiplied: it would overflow."""
    low, high = (int((moment - EPOCH).total_seconds()) * PER_SECOND[unit] for moment in plausible())
    if dtype.is_float():
        value = pl.col(column)
        inside = text.is_not_null() & (value >= low) & (value < high)
        if dtype != pl.Float64:
            inside &= pl.lit(False)  # 32 bits tell moments minutes apart at best: see `diagnose`
        micros = (pl.when(inside).then(value).cast(pl.Float64) * (10**6 / PER_SECOND[unit])).round().cast(pl.Int64)
        return micros.cast(TIME)
    parts = text.str.extract_groups(TICKS)
    whole = parts.struct.field("1").cast(pl.Int64, strict=False) if not dtype.is_integer() else None
    value = pl.col(column).cast(pl.Int64, strict=False) if whole is None else whole
    value = pl.when(text.is_not_null() & (value >= low) & (value < high)).then(value)
    if unit == "ns":
        return (value // 1000).cast(TIME)
    scale = 10**6 // PER_SECOND[unit]
    micros = value * scale
    if whole is not None and scale > 1:
        rest = ("0." + parts.struct.field("2").fill_null("") + "0").cast(pl.Float64, strict=False)
        micros += (rest * scale).floor().cast(pl.Int64)
    return micros.cast(TIME)


def diagnose(time: Time, dtype: pl.DataType, example: str, count: int, where: str, column: str) -> KitError:
    """What is wrong with a time, and the setting that would read it.

    Args:
        time: as the mapping has it.
        dtype: type of its column.
        example: the first such value, as text.
        count: how many there are.
        where: file and line of the first.
        column: what is read, for the message: `[tables.product_buy] time: column 'ts' of log.csv`.
    """
    moment = _moment(time, dtype, example)
    if dtype == pl.Float32 and time.unit is not None:
        return KitError(
            f"{column} is Float32, which tells moments no closer than minutes apart ({example!r}, {where}).",
            "Write the column as integers, as Float64 or as datetimes.",
        )
    values, are = of_count(count, "value"), "is" if count == 1 else "are"
    if moment is None:
        what = f"{column}: {values} cannot be read{_tried(time)}, such as {example!r} ({where})."
    else:
        what = (
            f"{column}: {values} {are} before 1971 or after next year{_tried(time)}, such as {example!r} ({where}), which would "
            f"be {moment}."
        )
    return KitError(what, remedy(time, dtype, example))


def remedy(time: Time, dtype: pl.DataType, example: str) -> str:
    """The setting that reads `example`, never the one that was tried."""
    low, high = plausible()
    if NOTHING.fullmatch(example):
        null = f"`null = [{example!r}]`"
        return f"If it stands for nothing, say {null} at the top of the mapping: such rows are left out and counted."
    leave_out = (
        f"Leave such rows out with `keep`, or say at the top of the mapping `null = [{example!r}]` if it is no time."
    )
    found = re.fullmatch(TICKS, example)
    if found is not None and not isinstance(dtype, pl.Datetime | pl.Date):
        fits = [unit for unit in PER_SECOND if unit != time.unit and low <= (_tick(example, unit) or EPOCH) < high]
        if fits:
            also = "" if time.format is None else " instead of `format`"
            return f'Say `unit = "{fits[0]}"`{also}: it reads {example} as {_tick(example, fits[0])}.'
        forms = [] if found[2] is not None else fitting(example, time.format, (low, high))
        if forms and time.unit is None:
            return f'Say `format = "{forms[0]}"` if that is how they are written.'
        if time.unit is None and 20_000 <= float(example) < 80_000:
            return f"It looks like a spreadsheet's number of a day: write it as a date in the file. {leave_out}"
        return leave_out if time.unit else f'Say `unit = "s"`, "ms", "us" or "ns". {leave_out}'
    if re.fullmatch(NUMBER, example) and time.unit is not None:
        return f"Write it as a whole number: an exponent has lost the last digits. {leave_out}"
    if read_number(example, ".") is not None and time.unit is not None:
        return "Write it as a whole number without marks between its digits."
    if is_text(dtype):
        iso = read_text(example, None)
        if (time.format is not None or time.unit is not None) and iso is not None and low <= iso < high:
            return f"Leave `{'format' if time.format else 'unit'}` out: it is ISO 8601, which is read as it is ({iso})."
        if forms := fitting(example, time.format, (low, high)):
            said = " or ".join(f'`format = "{form}"`' for form in forms)
            which = ", whichever is how they are written" if len(forms) > 1 else ""
            return f"Say {said}{' instead of `unit`' if time.unit else ''}{which}."
        if time.format is None and iso is not None:  # read as it is meant, and no moment of a shop
            return leave_out
        wanted = "Say `format` as they are written" if time.format is None else "Mend `format`"
        return f"{wanted}. {leave_out}"
    if isinstance(dtype, pl.Datetime | pl.Date):
        return f"The column itself is wrong (a wrong unit when it was written, perhaps): write it again. {leave_out}"
    return "Write the column as datetimes, as text or as integers."


def _tried(time: Time) -> str:
    return f" by unit = {time.unit!r}" if time.unit else f" by format = {time.format!r}" if time.format else ""


def _tick(text: str, unit: str) -> datetime | None:
    """A count since 1970; None beyond the years that Python knows."""
    try:
        whole = int(float(text) if "." in text else int(text))
        return EPOCH + timedelta(microseconds=whole * 10**6 // PER_SECOND[unit])
    except (OverflowError, ValueError):
        return None


def _moment(time: Time, dtype: pl.DataType, example: str) -> datetime | str | None:
    """What an implausible value would be; None if it is no time at all."""
    if isinstance(dtype, pl.Datetime | pl.Date):
        return example
    if time.unit is None:
        return read_text(example, time.format) if is_text(dtype) or time.format else None
    found = re.fullmatch(TICKS, example)
    if found is None:
        return None
    seconds = int(found[1]) / PER_SECOND[time.unit]
    return _tick(example, time.unit) or f"in the year {1970 + seconds / 31_556_952:,.0f}"
