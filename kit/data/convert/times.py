"""How a shop writes its times, read as the wall clock of the layout."""

from __future__ import annotations

import polars as pl

from kit.challenge import TIMESTAMP_FORMAT
from kit.data.convert.mapping import Time
from kit.data.scan import TIME


def time_of(time: Time, dtype: pl.DataType) -> pl.Expr:
    """The timestamp as Datetime("us") of the shop's wall clock; null where it cannot be read."""
    value = pl.col(time.column)
    if time.unit is not None:
        whole = value.cast(pl.Float64, strict=False) if dtype.is_float() else value
        parsed = pl.from_epoch(whole.cast(pl.Int64, strict=False), time_unit=time.unit).cast(TIME)
    elif dtype == pl.String:
        form = time.format or TIMESTAMP_FORMAT
        parsed = value.str.to_datetime(form, time_unit="us", strict=False)
        if "%z" in form:
            parsed = parsed.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    elif isinstance(dtype, pl.Datetime):
        parsed = value.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else value
    else:
        parsed = value.cast(TIME, strict=False) if dtype == pl.Date else pl.lit(None, dtype=TIME)
    parsed = parsed.cast(TIME)
    if time.zone is not None:
        parsed = parsed.dt.replace_time_zone("UTC").dt.convert_time_zone(time.zone).dt.replace_time_zone(None)
    return parsed
