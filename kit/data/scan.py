"""Typed lazy scans of the challenge layout: every reader of event files goes through here.

Accepted on disk: timestamps as text `YYYY-MM-DD HH:MM:SS` (raw files), to the minute or with fractions of a second, with a
space or a T between, or as datetimes of any unit (split files); code vectors as text with any spacing and line breaks, or
already as 16 integers; the products' codes under `name` or, as the organisers' page has it, `embedding`. Delivered: int64
ids, Datetime("us") without a zone, codes as Array(UInt8, 16), one row per sku. Nothing is read that the caller does not
select: all of it stays lazy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import CODES, FIRST_SEEN, PRODUCT_COLUMNS, TIMESTAMP_FORMAT, EventType
from kit.errors import KitError
from kit.trouble import is_of_the_disk

TIME = pl.Datetime("us")
CODE_ARRAY = pl.Array(pl.UInt8, CODES)
OTHER_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
)
"""Timestamps that are read beside TIMESTAMP_FORMAT; `%.f` are the fractions of a second, where there are any."""
EMBEDDING = "embedding"
"""What the organisers' page calls the column `name` of the products."""
READ_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises at rows that it cannot read: its Rust panics at some damage."""


def columns_of(kind: EventType) -> tuple[str, str, str]:
    """Columns of an event table, in order."""
    return ("client_id", "timestamp", kind.value_column)


def scan_table(path: Path, columns: tuple[str, ...]) -> tuple[pl.LazyFrame, pl.Schema]:
    """A lazy frame of exactly `columns`, and its schema on disk; surplus columns are never read.

    Raises:
        KitError: the file is missing, is not parquet, or lacks a column.
    """
    if not path.exists():
        empty = [
            f" A shop without such events needs the file too, empty, with the columns {', '.join(columns_of(kind))}."
            for kind in EventType
            if kind.value == path.stem
        ]
        raise KitError(f"{path} is missing.", f"Copy or convert it again.{''.join(empty)}")
    try:
        schema = pl.read_parquet_schema(path)
    except (*READ_ERRORS, OSError) as error:
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


def ids_of(column: pl.Series) -> NDArray[np.int64]:
    """Ids as int64, exactly: a column with nulls would come through floats, and ids from 2^53 on would change.

    Raises:
        ValueError: the column has nulls, or holds something else than integers.
    """
    if column.null_count() or not column.dtype.is_integer():
        raise ValueError(f"{column.name} is {column.dtype} with {column.null_count()} nulls: these are no ids")
    return column.cast(pl.Int64).to_numpy()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what polars says about the rows of `path` into a KitError that names the file and the way to the row numbers. What
    the disk did (it is full, or was taken away) is no fault of the rows and passes."""
    try:
        yield
    except READ_ERRORS as error:
        if is_of_the_disk(error):
            raise
        first = str(error).strip().splitlines()[0]
        folder = path.parent.parent if path.parent.name in {"input", "target"} else path.parent
        raise KitError(
            f"{path} has rows that cannot be read: {first}.", f"`kit data check {folder}` gives their row numbers."
        ) from error


def time_expr(dtype: pl.DataType, column: str = "timestamp", *, strict: bool = True) -> pl.Expr:
    """Text, date or datetime of any unit → Datetime("us") without a zone; a date is its midnight.

    Text that is no timestamp raises on collect, or becomes null where `strict` is off.
    """
    expr = pl.col(column)
    if dtype == pl.String:

        def parse(text: pl.Series) -> pl.Series:
            return _parsed(text, strict)

        return expr.map_batches(parse, return_dtype=TIME, is_elementwise=True)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        expr = expr.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return expr.cast(TIME)


def _parsed(text: pl.Series, strict: bool) -> pl.Series:
    """Timestamps of a batch: the other forms are tried only where the usual one does not fit, as each costs a pass."""
    times = text.str.to_datetime(TIMESTAMP_FORMAT, time_unit="us", strict=False)
    unread = times.is_null() & text.is_not_null()
    if unread.any():
        given = pl.DataFrame({"text": text, "time": times})
        others = [pl.col("text").str.to_datetime(form, time_unit="us", strict=False) for form in OTHER_FORMATS]
        times = given.select(pl.coalesce("time", *others)).to_series()
        unread = times.is_null() & text.is_not_null()
        if strict and unread.any():
            raise pl.exceptions.InvalidOperationError(
                f"{unread.sum()} are no timestamps of the form {TIMESTAMP_FORMAT}, such as {text.filter(unread)[0]!r}"
            )
    return times.rename(text.name)


def codes_expr(dtype: pl.DataType, column: str) -> pl.Expr:
    """Text such as `[ 21  21 13 …]` or a list of integers → Array(UInt8, 16). Other lengths or values raise on collect."""
    expr = pl.col(column)
    if dtype == pl.String:
        expr = expr.str.extract_all(r"\d+")
    return expr.cast(pl.List(pl.UInt8)).list.to_array(CODES)


def scan_events(path: Path, kind: EventType, *, parse_codes: bool = True) -> pl.LazyFrame:
    """One event table, typed: client_id, timestamp, and sku, url or query. Rows in file order.

    Args:
        path: the parquet file.
        kind: which of the five tables it is.
        parse_codes: deliver queries as codes; False leaves them as they are on disk (the split copies them so).
    """
    frame, schema = scan_table(path, columns_of(kind))
    value = kind.value_column
    typed = pl.col(value).cast(pl.Int64)
    if kind is EventType.SEARCH:
        typed = codes_expr(schema[value], value) if parse_codes else pl.col(value)
    return frame.select(
        pl.col("client_id").cast(pl.Int64), time_expr(schema["timestamp"]).alias("timestamp"), typed.alias(value)
    )


def product_names(schema: pl.Schema) -> dict[str, str]:
    """PRODUCT_COLUMNS → what the file calls them: `name` may be called `embedding`, and `category` may be missing."""
    called = {column: column for column in PRODUCT_COLUMNS if column != "category" or column in schema}
    if "name" not in schema and EMBEDDING in schema:
        called["name"] = EMBEDDING
    return called


def scan_products(path: Path, *, parse_codes: bool = True, before: datetime | None = None) -> pl.LazyFrame:
    """The catalogue, typed: sku i64, category i64, price i64, name Array(UInt8, 16); one row per sku, in file order.

    Every reader of products goes through here, so that a sku means one thing everywhere. Where the file lists a sku again,
    its first row counts (`kit data check` says how many there are and how they differ).

    A file without a category column is read as one constant category 0: such a shop has no category task. Where there is a
    column first_seen (a log without a catalogue of its own, see `kit data convert`), `before` leaves out products that the
    log names first at that instant or later: that they will be sold is news from the future.
    """
    known = scan_table(path, ())[1]
    called = product_names(known)
    seen = (FIRST_SEEN,) if before is not None and FIRST_SEEN in known else ()
    frame, schema = scan_table(path, (*called.values(), *seen))
    ids = {name: pl.col(name).cast(pl.Int64) for name in ("sku", "category", "price")}
    if "category" not in known:
        ids["category"] = pl.lit(0, dtype=pl.Int64)
    codes = called["name"]
    name = codes_expr(schema[codes], codes) if parse_codes else pl.col(codes)
    frame = frame.unique("sku", keep="first", maintain_order=True)
    if before is not None and seen:
        first = time_expr(known[FIRST_SEEN], FIRST_SEEN)
        frame = frame.filter(first.is_null() | (first < before))
    return frame.select(**ids, name=name)


def empty_events(kind: EventType) -> pl.LazyFrame:
    """An event table without rows, typed as `scan_events` types it."""
    value = CODE_ARRAY if kind is EventType.SEARCH else pl.Int64()
    return pl.LazyFrame(schema={"client_id": pl.Int64(), "timestamp": TIME, kind.value_column: value})
