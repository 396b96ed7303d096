"""product_properties of a converted shop: price buckets, categories and codes of every product that is named anywhere."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import PRICE_BUCKETS
from kit.data.convert.ids import own_text
from kit.data.convert.mapping import Attribute, Mapping
from kit.data.convert.read import Sources
from kit.data.convert.rules import passes
from kit.errors import KitError


def attribute_values(mapping: Mapping, sources: Sources) -> dict[str, pl.DataFrame]:
    """Per mapped attribute (price, name, category) a frame of `own` item id and `value`, one row per item."""
    return {what: _gather(what, attribute, sources) for what, attribute in mapping.attributes()}


def _all_numbers(frame: pl.LazyFrame, column: str) -> bool:
    """Whether every text in a column that is stated is a number."""
    text = pl.col(column).str.strip_chars()
    wrong = (text != "") & text.cast(pl.Float64, strict=False).is_null()
    return not frame.select(wrong.any()).collect(engine="streaming").item()


def _gather(what: str, attribute: Attribute, sources: Sources) -> pl.DataFrame:
    """One value per item from the rows that name it."""
    frame = sources[str(attribute.file)]
    schema = frame.collect_schema()
    parts = [pl.col(column).cast(pl.String).str.strip_chars() for column in attribute.column]
    value = pl.concat_str(parts, separator=" ", ignore_nulls=True)
    if attribute.extract is not None:
        value = value.str.extract(attribute.extract, 1)
    order = pl.lit(0) if attribute.order is None else pl.col(attribute.order)
    if attribute.order is not None and schema[attribute.order] == pl.String and _all_numbers(frame, attribute.order):
        order = order.cast(pl.Float64, strict=False).fill_null(float("-inf"))  # other text is sorted as it is
    rows = frame.filter(passes(attribute.keep)).select(
        own=own_text(str(attribute.item), schema[str(attribute.item)]), value=value, order=order
    )
    rows = rows.filter(pl.col("own").is_not_null() & (pl.col("value") != ""))
    if what == "price":
        rows = _numbers(rows, attribute, sources)
    found = _pick(rows, str(attribute.pick)).collect(engine="streaming").sort("own")
    if found.is_empty():
        column = " + ".join(attribute.column)
        raise KitError(
            f"[products] {what} wants column {column!r} of {sources.label(str(attribute.file))}, "
            "but no row has a usable value there.",
            "Mend `keep`, `extract` or `column`, or leave the attribute out.",
        )
    return found


def _numbers(rows: pl.LazyFrame, attribute: Attribute, sources: Sources) -> pl.LazyFrame:
    """`value` as Float64, finite.

    Raises:
        KitError: a value is stated and is no number: left out in silence, the dearest products would lose their prices.
    """
    text = pl.col("value")
    if attribute.decimal is not None:
        thousands = "." if attribute.decimal == "," else ","
        text = text.str.replace_all(thousands, "", literal=True).str.replace(attribute.decimal, ".", literal=True)
    number = text.cast(pl.Float64, strict=False)
    unread = rows.filter(number.is_null()).select(pl.len(), pl.col("value").first()).collect(engine="streaming")
    count, example = unread.row(0)
    if count:
        column = " + ".join(attribute.column)
        raise KitError(
            f"[products] price: {count} values in column {column!r} of {sources.label(str(attribute.file))} are no numbers, such "
            f"as {example!r}.",
            'Say `decimal = ","` or `decimal = "."` if that is how they are written, cut the number out with `extract`, or '
            "leave such rows out with `keep`.",
        )
    return rows.with_columns(value=number).filter(pl.col("value").is_finite())


def _pick(rows: pl.LazyFrame, pick: str) -> pl.LazyFrame:
    """One row per item; ties fall to the smallest value, so the order of rows never matters."""
    if pick == "median":
        return rows.group_by("own").agg(pl.col("value").median())
    if pick == "most":
        counted = rows.group_by("own", "value").len().sort(["own", "len", "value"], descending=[False, True, False])
        return counted.unique("own", keep="first", maintain_order=True).select("own", "value")
    edge = pl.col("order").max() if pick == "last" else pl.col("order").min()
    return rows.filter(pl.col("order") == edge.over("own")).group_by("own").agg(pl.col("value").min())


def price_buckets(price: NDArray[np.float64], category: NDArray[np.int64]) -> NDArray[np.int64]:
    """Quantile buckets 0 .. 99 over products, int64 (n,); equal prices share a bucket.

    A product without a price (NaN) gets the median bucket of its category, else of all; with no price at all, all get 0.
    """
    known = np.isfinite(price)
    buckets = np.zeros(len(price), dtype=np.int64)
    if not known.any():
        return buckets
    edges = np.quantile(price[known], np.arange(1, PRICE_BUCKETS) / PRICE_BUCKETS)
    buckets[known] = np.searchsorted(edges, price[known], side="right")
    frame = pl.DataFrame({"category": category, "bucket": pl.Series(buckets).set(pl.Series(~known), None)})
    own = pl.col("bucket").median().over("category")
    filled = frame.select(
        pl.coalesce("bucket", own.floor().cast(pl.Int64), pl.col("bucket").median().floor().cast(pl.Int64))
    )
    return filled.to_series().to_numpy().astype(np.int64)
