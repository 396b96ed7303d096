"""Searching and finding: do searches lead to cart adds, do their codes agree with what is carted, and what is still sought.

Technique E5.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import EventType
from kit.features.embedding import item_vectors
from kit.features.matrix import client_rows, item_positions
from kit.features.registry import FeatureSettings, family
from kit.features.shared import join_all, table, touches
from kit.features.taste import query_vectors
from kit.history import History

FOUND_MINUTES = 30
CARRY_DAYS = 7
"""A cart add is compared with the client's latest search if that is at most so old."""


@family(
    "searches", "Searches that led to a touch, agreement of query and product codes, change of queries, open searches."
)
def searches(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns found (share of searches followed by a touch within 30 minutes), found_n, open_7d (unfollowed searches of the
    last 7 days), steady (mean cosine of consecutive queries), after_search (share of touches within 30 minutes of a
    search), agreement, agreement_last, agreement_max (cosine of a touched product with the latest search before it).
    """
    frame, around = table(history, EventType.SEARCH), touches(history)
    asked, touched = _clock(history, frame), _clock(history, around)
    following = np.append(touched, np.iinfo(np.int64).max)[np.searchsorted(touched, asked)]
    found = following - asked <= FOUND_MINUTES * 60_000
    vectors = query_vectors(history)
    same = np.append(False, frame["client_id"].to_numpy()[1:] == frame["client_id"].to_numpy()[:-1])[: len(frame)]
    cosine = np.einsum("ij,ij->i", vectors, np.roll(vectors, 1, axis=0)).astype(np.float64)
    of_searches = frame.select("client_id", "age").with_columns(
        found=pl.Series(found), steady=pl.Series(np.where(same, cosine, np.nan)).fill_nan(None)
    )
    per_search = (
        of_searches.lazy()
        .group_by("client_id")
        .agg(
            found=pl.col("found").mean(),
            found_n=pl.col("found").sum(),
            open_7d=(~pl.col("found") & (pl.col("age") <= 7)).sum(),
            steady=pl.col("steady").mean(),
        )
    )
    return join_all([per_search, _of_touches(history, asked, touched)])


def _of_touches(history: History, asked: NDArray[np.int64], touched: NDArray[np.int64]) -> pl.LazyFrame:
    around = touches(history)
    before = np.searchsorted(asked, touched, side="right") - 1
    wait = touched - np.append(asked, np.iinfo(np.int64).min // 2)[before]
    item = item_positions(around)
    carried = (before >= 0) & (wait <= CARRY_DAYS * 86_400_000) & (item >= 0)
    cosine = np.full(len(around), np.nan)
    pairs = (query_vectors(history)[before[carried]], item_vectors(history)[item[carried]])
    cosine[carried] = np.einsum("ij,ij->i", *pairs)
    soon = (before >= 0) & (wait <= FOUND_MINUTES * 60_000)
    compared = around.select("client_id").with_columns(soon=pl.Series(soon), cosine=pl.Series(cosine).fill_nan(None))
    cosines = pl.col("cosine")
    return (
        compared.lazy()
        .group_by("client_id")
        .agg(
            after_search=pl.col("soon").mean(),
            agreement=cosines.mean(),
            agreement_last=cosines.drop_nulls().last(),
            agreement_max=cosines.max(),
        )
    )


def _clock(history: History, frame: pl.DataFrame) -> NDArray[np.int64]:
    """Milliseconds since 1970 plus an offset per client that keeps clients far apart: sorted, and comparable across tables."""
    milliseconds = frame["timestamp"].dt.epoch("ms").to_numpy()
    clock: NDArray[np.int64] = client_rows(history, frame) * 2**42 + milliseconds
    return clock
