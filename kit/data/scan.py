"""Typed lazy scans of the challenge layout: every reader of event files goes through here.

Accepted on disk: timestamps as text «YYYY-MM-DD HH:MM:SS» (raw files) or as datetimes of any unit (split files); code
vectors as text with any spacing and line breaks, or already as 16 integers. Delivered: int64 ids, Datetime("us") without a
zone, codes as Array(UInt8, 16). Nothing is read that the caller does not select: all of it stays lazy.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from kit.challenge import CODES, TIMESTAMP_FORMAT, EventType
from kit.errors import KitError

TIME = pl.Datetime("us")
CODE_ARRAY = pl.Array(pl.UInt8, CODES)


def columns_of(kind: EventType) -> tuple[str, str, str]:
    """Columns of an event table, in order."""
    return ("client_id", "timestamp", kind.value_column)


def scan_table(path: Path, columns: tuple[str, ...]) -> tuple[pl.LazyFrame, pl.Schema]:
    """A lazy frame of exactly `columns`, and its schema on disk; surplus columns are never read.

    Raises:
        KitError: the file is missing, is not parquet, or lacks a column.
    """
    if not path.exists():
        raise KitError(f"{path} is missing.", f"`kit data check {path.parent}` lists everything that a folder needs.")
    try:
        schema = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise KitError(
            f"{path} cannot be read as parquet ({error}).", "It may be cut short: copy or convert it again."
        ) from error
    missing = [name for name in columns if name not in schema]
    if missing:
        raise KitError(
            f"{path} lacks the columns {missing}; it has {list(schema)}.",
            f"Rename them or run `kit data check {path.parent}`.",
        )
    return pl.scan_parquet(path).select(columns), pl.Schema(schema)


def time_expr(dtype: pl.DataType, column: str = "timestamp") -> pl.Expr:
    """Text or datetime of any unit → Datetime("us") without a zone. Unparsable text raises on collect."""
    expr = pl.col(column)
    if dtype == pl.String:
        return expr.str.to_datetime(TIMESTAMP_FORMAT, time_unit="us", strict=True)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        expr = expr.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return expr.cast(TIME)


def codes_expr(dtype: pl.DataType, column: str) -> pl.Expr:
    """Text such as «[ 21  21 13 …]» or a list of integers → Array(UInt8, 16). Other lengths or values raise on collect."""
    expr = pl.col(column)
    if dtype == pl.String:
        expr = expr.str.extract_all(r"\d+")
    return expr.cast(pl.List(pl.UInt8)).list.to_array(CODES)


def scan_events(path: Path, kind: EventType) -> pl.LazyFrame:
    """One event table, typed: client_id, timestamp, and sku, url or query (codes). Rows in file order."""
    frame, schema = scan_table(path, columns_of(kind))
    value = kind.value_column
    typed = codes_expr(schema[value], value) if kind is EventType.SEARCH else pl.col(value).cast(pl.Int64)
    return frame.select(
        pl.col("client_id").cast(pl.Int64), time_expr(schema["timestamp"]).alias("timestamp"), typed.alias(value)
    )


def scan_products(path: Path) -> pl.LazyFrame:
    """product_properties, typed: sku i64, category i64, price i64, name Array(UInt8, 16). One row per sku on a sound folder."""
    frame, schema = scan_table(path, ("sku", "category", "price", "name"))
    ids = [pl.col(name).cast(pl.Int64) for name in ("sku", "category", "price")]
    return frame.select(*ids, codes_expr(schema["name"], "name").alias("name"))


def empty_events(kind: EventType) -> pl.LazyFrame:
    """An event table without rows, typed as `scan_events` types it."""
    value = CODE_ARRAY if kind is EventType.SEARCH else pl.Int64()
    return pl.LazyFrame(schema={"client_id": pl.Int64(), "timestamp": TIME, kind.value_column: value})
