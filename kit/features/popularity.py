"""Mainstream or niche: how popular the products, categories and urls are that the client touches, and whether they rise."""

from __future__ import annotations

import math

import polars as pl

from kit.challenge import EventType
from kit.features.registry import FeatureSettings, family
from kit.features.shared import catalogue, decay, join_all, sku_facts, table, touches, url_counts
from kit.history import History

HALF_LIFE = 30.0
RARE_POP = math.log(2.0)
"""Popularity of urls too rare to be counted one by one."""


@family(
    "popularity", "Popularity of the skus, categories and urls touched: mean, decayed mean, extremes, share rising."
)
def popularity(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <sku|category|url>_mean, _lately, _min, _max of log(1 + everybody's events), sku_rising (mean share of a
    sku's buys and cart adds that lie in the last 28 days), sku_rare (share of touches of skus with fewer than 5 events).
    """
    facts, categories = popular_skus(history), popular_categories(history)
    around = touches(history).lazy().join(facts.lazy(), on="sku", how="left", maintain_order="left")
    around = around.join(categories.lazy(), on="category", how="left", maintain_order="left")
    urls = url_counts(history).lazy().select("url", url_pop=pl.col("visits").cast(pl.Float64).log1p())
    visits = table(history, EventType.VISIT).lazy().join(urls, on="url", how="left", maintain_order="left")
    visits = visits.with_columns(pl.col("url_pop").fill_null(RARE_POP))
    extra = {"sku_rising": pl.col("rising").mean(), "sku_rare": (pl.col("events") < 5).mean()}
    return join_all(
        [
            around.with_columns(weight=decay(HALF_LIFE))
            .group_by("client_id")
            .agg(**_levels("sku"), **_levels("category"), **extra),
            visits.with_columns(weight=decay(HALF_LIFE)).group_by("client_id").agg(**_levels("url")),
        ]
    )


def _levels(thing: str) -> dict[str, pl.Expr]:
    value = pl.col(f"{thing}_pop")
    weight = pl.when(value.is_not_null()).then(pl.col("weight"))
    return {
        f"{thing}_mean": value.mean(),
        f"{thing}_lately": (value * weight).sum() / weight.sum(),
        f"{thing}_min": value.min(),
        f"{thing}_max": value.max(),
    }


def popular_skus(history: History) -> pl.DataFrame:
    """sku, events (i64), sku_pop = log(1 + events), rising (share of buys and cart adds in the last 28 days)."""
    events = pl.col("buys").cast(pl.Int64) + pl.col("carts") + pl.col("removes")
    wanted = pl.col("buys").cast(pl.Int64) + pl.col("carts")
    return history.once(
        "popularity.skus",
        lambda: sku_facts(history).select(
            "sku", events=events, sku_pop=events.cast(pl.Float64).log1p(), rising=pl.col("recent") / (wanted + 3)
        ),
    )


def popular_categories(history: History) -> pl.DataFrame:
    """category, category_pop = log(1 + everybody's events)."""

    def fold() -> pl.DataFrame:
        joined = (
            popular_skus(history).join(catalogue(history).select("sku", "category"), on="sku").drop_nulls("category")
        )
        summed = joined.group_by("category").agg(category_pop=pl.col("events").sum().cast(pl.Float64).log1p())
        return summed.sort("category")

    return history.once("popularity.categories", fold)
