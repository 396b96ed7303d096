"""How varied: distinct things touched, entropy, concentration, repeat share, per type."""

from __future__ import annotations

import numpy as np
import polars as pl

from kit.challenge import SKU_EVENTS, EventType
from kit.features.embedding import code_rows
from kit.features.registry import FeatureSettings, family
from kit.features.shared import join_all, table
from kit.history import History


@family("variety", "Distinct skus, categories, urls, queries; entropy, concentration, repeat share; new ones lately.")
def variety(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns <type>_<thing>_<measure>, thing = sku, category, price, url or query; missing without such events.

    Measures: n (distinct), entropy (nats), hhi (sum of squared shares), top (largest share), repeat (1 - distinct / events),
    fresh (share of the distinct things first seen in the last 14 days).
    """
    frames = []
    for kind in SKU_EVENTS:
        frames += [_measures(table(history, kind).lazy(), kind, thing) for thing in ("sku", "category")]
    frames.append(_measures(table(history, EventType.VISIT).lazy(), EventType.VISIT, "url"))
    frames.append(_measures(_queries(history), EventType.SEARCH, "query"))
    return join_all(frames)


def _queries(history: History) -> pl.LazyFrame:
    """Searches with `query` replaced by two 64-bit words: equal exactly where the 16 codes are."""
    searches = table(history, EventType.SEARCH)
    words = np.ascontiguousarray(code_rows(searches["query"])).view(np.uint64)
    return (
        searches.drop("query")
        .with_columns(head=pl.Series(words[:, 0], dtype=pl.UInt64), tail=pl.Series(words[:, 1], dtype=pl.UInt64))
        .lazy()
    )


def _measures(events: pl.LazyFrame, kind: EventType, thing: str) -> pl.LazyFrame:
    keys = ["head", "tail"] if thing == "query" else [thing]
    per_thing = (
        events.filter(pl.col(keys[0]).is_not_null())
        .group_by("client_id", *keys)
        .agg(n=pl.len(), first=pl.col("age").max())
        .sort("client_id", "n", "first")  # ties here have equal n, so that the sums below do not see their order
        .with_columns(share=pl.col("n") / pl.col("n").sum().over("client_id"))
    )
    share, events_n = pl.col("share"), pl.col("n").sum()
    columns = {
        "n": pl.len(),
        "entropy": -(share * share.log()).sum(),
        "hhi": (share * share).sum(),
        "top": share.max(),
        "repeat": 1 - pl.len() / events_n,
        "fresh": (pl.col("first") <= 14).mean(),
    }
    named = {f"{kind.short}_{thing}_{name}": expr for name, expr in columns.items()}
    return per_thing.group_by("client_id").agg(**named)
