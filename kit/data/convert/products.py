"""product_properties of a converted shop: price buckets, categories and codes of every product that is named anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import FIRST_SEEN, PRICE_BUCKETS
from kit.data.convert.codes import hashed_codes, print_codes
from kit.data.convert.ids import IdSpace
from kit.data.split import ROW_GROUP
from kit.progress import say


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


def write_products(
    items: pl.DataFrame, values: dict[str, pl.DataFrame], skus: IdSpace, coded: pl.DataFrame, path: Path
) -> IdSpace | None:
    """product_properties.parquet by sku, for every item named in an event or an attribute; returns the category ids.

    Args:
        items: `own`, the shop's own ids, and `first_seen`.
        values: attribute → `own` and `value`.
        skus: the ids that the kit gives.
        coded: codes of names.
        path: to write.
    """
    frame = items
    for what in ("price", "name", "category"):
        if what in values:
            frame = frame.join(values[what].rename({"value": what}), on="own", how="left")
        else:
            frame = frame.with_columns(pl.lit(None, dtype=pl.Float64 if what == "price" else pl.String).alias(what))
    space = None
    category = pl.lit(0, dtype=pl.Int64)
    if "category" in values:
        space = IdSpace("category", [values["category"].lazy().select("value")], always_rank=True)
        frame = space.attach(frame.lazy(), "category").collect()
        category = pl.col("category").fill_null(0)
    frame = skus.attach(frame.with_columns(category=category).lazy(), "own").collect().sort("own")
    price = price_buckets(frame["price"].fill_null(float("nan")).to_numpy(), frame["category"].to_numpy())
    unnamed = hashed_codes(frame["category"].to_numpy(), price, frame["own"].to_numpy())
    codes = frame.join(coded, left_on="name", right_on="text", how="left", maintain_order="left")["codes"]
    pl.DataFrame(
        {
            "sku": frame["own"],
            "category": frame["category"],
            "price": price,
            "name": pl.select(pl.coalesce(codes, print_codes(unnamed))).to_series(),
            FIRST_SEEN: frame[FIRST_SEEN],
        }
    ).write_parquet(path, row_group_size=ROW_GROUP)
    for what, missing in (("price", frame["price"].null_count()), ("name", codes.null_count())):
        if missing:
            say(f"  {missing:,} of {frame.height:,} products have no {what}: {_STAND_IN[what]}")
    return space


_STAND_IN = {
    "price": "they get the median bucket of their category, else of all (0 if no product has one)",
    "name": "their codes come from a hash of category, price bucket and sku",
}
