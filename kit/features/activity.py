"""How present: active days and weeks, sessions by the 30-minute rule, events and minutes per session."""

from __future__ import annotations

import polars as pl

from kit.challenge import DAY_US
from kit.features.registry import FeatureSettings, family
from kit.features.shared import KIND_CODE, KIND_NAMES, active_days, join_all, timeline
from kit.history import History


@family("activity", "Active days, weeks and sessions; events and minutes per session; sessions with carts and buys.")
def activity(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Per type and `any`: <type>_days, <type>_weeks, <type>_days_28d; and what sessions look like."""
    columns = []
    for code, name in KIND_NAMES.items():
        here = pl.col("kind") == code
        columns += [
            here.sum().alias(f"{name}_days"),
            pl.when(here).then(pl.col("day") // 7).drop_nulls().n_unique().alias(f"{name}_weeks"),
            (here & (pl.col("day") < 28)).sum().alias(f"{name}_days_28d"),
        ]
    presence = active_days(history).lazy().group_by("client_id").agg(columns)
    return join_all([presence, _sessions(history, settings.session_minutes)])


def _sessions(history: History, minutes: int) -> pl.LazyFrame:
    """sessions, their size, length in minutes, share with a cart add or a buy, gap and size of the latest one."""
    starts = pl.col("gap").is_null() | (pl.col("gap") * DAY_US > minutes * 60e6)
    sessions = (
        timeline(history)
        .lazy()
        .with_columns(session=starts.cast(pl.UInt32).cum_sum())
        .group_by("session", maintain_order=True)
        .agg(
            pl.col("client_id").first(),
            size=pl.len(),
            minutes=(pl.col("age").first() - pl.col("age").last()) * 1440.0,
            age=pl.col("age").first(),
            **{kind.short: (pl.col("kind") == code).any() for kind, code in KIND_CODE.items()},
        )
    )
    size, length = pl.col("size"), pl.col("minutes")
    return sessions.group_by("client_id").agg(
        sessions=pl.len(),
        sessions_7d=(pl.col("age") <= 7).sum(),
        sessions_28d=(pl.col("age") <= 28).sum(),
        size_mean=size.mean(),
        size_max=size.max(),
        size_last=size.last(),
        size_single=(size == 1).mean(),
        minutes_mean=length.mean(),
        minutes_max=length.max(),
        minutes_last=length.last(),
        with_buy=pl.col("buy").mean(),
        with_cart=pl.col("cart").mean(),
        with_search=pl.col("search").mean(),
        last_with_cart=pl.col("cart").last(),
        last_with_buy=pl.col("buy").last(),
    )
