"""Appetite for the new: how old products were when the client touched them, and how many of them were fresh."""

from __future__ import annotations

import polars as pl

from kit.challenge import DAY_US
from kit.features.registry import FeatureSettings, family
from kit.features.shared import decay, sku_facts, touches
from kit.history import History

HALF_LIFE = 30.0
PRIOR = 3.0
"""Shares are drawn to the shop's own as if by so many events."""


@family(
    "novelty", "Age of products when touched (since anybody's first event), shares of fresh ones, first-day touches."
)
def novelty(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns age_mean, age_min, age_lately (days, log1p), new_<d>d (shrunk share of touches of skus at most so old, only
    touches more than d days after the log began: before that every sku looks new), pioneer (touches within an hour of a
    sku's first event), new_now (share of touches of skus that are at most 28 days old at the cut).
    """
    start, cut = pl.lit(history.start()), pl.lit(history.cut)
    facts = sku_facts(history).lazy().select("sku", "first")
    aged = (
        touches(history)
        .lazy()
        .join(facts, on="sku", how="left", maintain_order="left")
        .with_columns(
            old=(pl.col("timestamp") - pl.col("first")).dt.total_microseconds() / DAY_US,
            since=(pl.col("timestamp") - start).dt.total_microseconds() / DAY_US,
            now=(cut - pl.col("first")).dt.total_microseconds() / DAY_US,
        )
        .with_columns(log_old=pl.col("old").log1p(), weight=decay(HALF_LIFE))
    )
    old, weight = pl.col("log_old"), pl.col("weight")
    base = base_rates(history)
    shares = []
    for days in NEW_DAYS:
        judged = pl.col("since") > days
        fresh = (judged & (pl.col("old") <= days)).sum()
        shares.append(((fresh + PRIOR * base[days]) / (judged.sum() + PRIOR)).alias(f"new_{days}d"))
    return aged.group_by("client_id").agg(
        *shares,
        age_mean=old.mean(),
        age_min=old.min(),
        age_lately=(old * weight).sum() / weight.sum(),
        pioneer=(pl.col("old") <= 1 / 24).sum(),
        new_now=(pl.col("now") <= 28).mean(),
        new_now_n=(pl.col("now") <= 28).sum(),
    )


NEW_DAYS = (3, 7, 14, 28)


def base_rates(history: History) -> dict[int, float]:
    """For each of NEW_DAYS the share of skus with a first event later than that after the start of the log: what share of
    touches to expect of fresh products when nothing is known of the client."""

    def measure() -> dict[int, float]:
        since = (pl.col("first") - pl.lit(history.start())).dt.total_microseconds() / DAY_US
        facts = sku_facts(history)
        shares = facts.select([(since > days).mean().alias(str(days)) for days in NEW_DAYS])
        return {days: float(shares[str(days)][0] or 0.0) for days in NEW_DAYS}

    return history.once("novelty.base", measure)
