"""What lies in the cart: products carted and since then neither bought nor removed, by age, value and category."""

from __future__ import annotations

import polars as pl

from kit.features.registry import FeatureSettings, family
from kit.features.shared import days_before_cut, decay, pairs, timeline
from kit.history import History

AGES = (1, 3, 7, 14, 28, 56)


@family(
    "open_cart", "Products carted and neither bought nor removed since: number by age, value, categories.", absent=0.0
)
def open_cart(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns n, n_<days>d (carted at most so long ago), fresh (decayed, 7 days), value, price_mean, price_max, categories,
    newest and oldest (days), share (of all products ever carted), repeated (carted more than once).

    0 without an open cart, except newest and oldest, which then are the age of the client's first touch of a product, and of
    its first event at all where it touched none.
    """
    last = pl.col("last_cart")
    left = (
        (pl.col("carts") > 0)
        & (pl.col("last_buy").is_null() | (pl.col("last_buy") < last))
        & (pl.col("last_remove").is_null() | (pl.col("last_remove") < last))
    )
    first_touch = pl.min_horizontal("first_cart", "first_buy", "last_remove")
    marked = (
        pairs(history)
        .lazy()
        .with_columns(left=left, age=days_before_cut(history, last), first=days_before_cut(history, first_touch))
        .with_columns(open_age=pl.when("left").then("age"), open_price=pl.when("left").then("price"))
    )
    age, price = pl.col("open_age"), pl.col("open_price")
    carts = marked.group_by("client_id").agg(
        *[(age <= days).sum().alias(f"n_{days}d") for days in AGES],
        n=pl.col("left").sum(),
        fresh=decay(7.0, "open_age").sum(),
        value=price.sum(),
        price_mean=price.mean().fill_null(0),
        price_max=price.max().fill_null(0),
        categories=pl.when("left").then("category").drop_nulls().n_unique(),
        newest=age.min().fill_null(pl.col("first").max()),
        oldest=age.max().fill_null(pl.col("first").max()),
        share=(pl.col("left").sum() / ((pl.col("carts") > 0).sum() + 1)),
        repeated=(pl.col("left") & (pl.col("carts") > 1)).sum(),
    )
    since = timeline(history).lazy().group_by("client_id").agg(seen=pl.col("age").max())
    everyone = since.join(carts, on="client_id", how="left").with_columns(
        pl.col("newest", "oldest").fill_null(pl.col("seen"))
    )
    return everyone.drop("seen").with_columns(pl.exclude("client_id").fill_null(0))
