"""What the client pays: level, spread, trend and last price bucket per type, and against each category's usual price."""

from __future__ import annotations

import polars as pl

from kit.challenge import SKU_EVENTS, EventType
from kit.features.registry import FeatureSettings, family
from kit.features.shared import KIND_CODE, catalogue, decay, join_all, sku_facts, table, touches
from kit.history import History

HALF_LIFE = 28.0
RECENT = 28


@family(
    "price", "Price buckets touched per type: mean, spread, extremes, last, decayed mean, trend; premium in category."
)
def price(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_mean, _sd, _min, _max, _last, _lately (decayed mean), _trend (last 28 days minus before), _sum, and
    premium, premium_buy (mean difference to the usual price of the product's category), premium_share (share above it).
    """
    frames = [_levels(table(history, kind).lazy(), kind.short) for kind in SKU_EVENTS]
    return join_all([*frames, _premium(history)])


def _levels(events: pl.LazyFrame, name: str) -> pl.LazyFrame:
    value, recent = pl.col("price"), pl.col("age") <= RECENT
    weight = decay(HALF_LIFE)
    priced = events.filter(value.is_not_null()).with_columns(weight=weight, weighted=weight * value)
    columns = {
        "mean": value.mean(),
        "sd": value.std(ddof=0),
        "min": value.min(),
        "max": value.max(),
        "last": value.last(),
        "lately": pl.col("weighted").sum() / pl.col("weight").sum(),
        "trend": pl.when(recent).then(value).mean() - pl.when(~recent).then(value).mean(),
        "sum": value.sum(),
    }
    return priced.group_by("client_id").agg(**{f"{name}_{key}": expr for key, expr in columns.items()})


def usual_prices(history: History) -> pl.DataFrame:
    """category, usual (f64): mean price of the category's products, weighted by everybody's buys and cart adds (plus one)."""

    def average() -> pl.DataFrame:
        facts = sku_facts(history).select("sku", popular=(pl.col("buys") + pl.col("carts")).cast(pl.Int64))
        known = catalogue(history).lazy().filter(pl.col("price").is_not_null() & pl.col("category").is_not_null())
        weighted = known.join(facts.lazy(), on="sku", how="left").with_columns(w=pl.col("popular").fill_null(0) + 1)
        means = weighted.group_by("category").agg(usual=(pl.col("price") * pl.col("w")).sum() / pl.col("w").sum())
        return means.sort("category").collect(engine="in-memory")

    return history.once("price.usual", average)


def _premium(history: History) -> pl.LazyFrame:
    usual = usual_prices(history).lazy()
    priced = touches(history).lazy().join(usual, on="category", how="left", maintain_order="left")
    above = pl.col("price") - pl.col("usual")
    bought = pl.when(pl.col("kind") == KIND_CODE[EventType.BUY]).then(above)
    return priced.group_by("client_id").agg(
        premium=above.mean(), premium_buy=bought.mean(), premium_share=(above > 0).mean()
    )
