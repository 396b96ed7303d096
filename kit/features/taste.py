"""What it looks like: decayed mean vectors of products touched and queries typed in the space of codes."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kit.challenge import EventType
from kit.features.embedding import SPACE, code_rows, code_space, item_vectors
from kit.features.matrix import as_frame, client_sums, decayed_weight, item_positions, unit
from kit.features.registry import FeatureSettings, family
from kit.features.shared import table, touches
from kit.history import History

ITEM_HALF_LIFE = 30.0
QUERY_HALF_LIFE = 14.0
SHOWN = 16
"""Weaker dimensions of the space mostly add noise to a probe."""
PRIOR = 1.0
"""A mean of few events is drawn to 0 as if by so much weight of events without direction."""


@family("taste", "Decayed mean vectors of products and queries in code space, focus and agreement.", facts=(SPACE,))
def taste(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns item_<k>, query_<k> (shrunk means, the SHOWN strongest dimensions), item_focus, query_focus (length of the
    unshrunk mean: 1 = always the same) and agreement (cosine of the two means). 0 without such events.
    """
    item, item_focus = mean_vector(history, "item", ITEM_HALF_LIFE)
    query, query_focus = mean_vector(history, "query", QUERY_HALF_LIFE)
    agreement = np.einsum("ij,ij->i", unit(item), unit(query))
    names = [f"{name}_{k}" for name in ("item", "query") for k in range(SHOWN)]
    scalars = np.column_stack([item_focus, query_focus, agreement])
    return as_frame(
        history,
        np.hstack([item[:, :SHOWN], query[:, :SHOWN], scalars]),
        [*names, "item_focus", "query_focus", "agreement"],
    )


def query_vectors(history: History) -> NDArray[np.float32]:
    """Unit vectors of the view's searches, in the order of their table, float32 (n, DIMS)."""

    def embed() -> NDArray[np.float32]:
        return code_space(history).vectors(code_rows(table(history, EventType.SEARCH)["query"]))

    return history.here("taste.queries", embed)


def mean_vector(history: History, thing: str, half_life: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shrunk decayed mean vector per client (clients, DIMS), and the length of the unshrunk one (clients,).

    Args:
        history: the view.
        thing: `item` (products touched, weighted by type) or `query`.
        half_life: days.
    """

    def average() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if thing == "item":
            frame = touches(history).filter(pl.col("item").is_not_null())
            vectors = item_vectors(history)[item_positions(frame)]
            weight = frame["weight"].to_numpy() * decayed_weight(frame["age"], half_life)
        else:
            frame, vectors = table(history, EventType.SEARCH), query_vectors(history)
            weight = decayed_weight(frame["age"], half_life)
        sums = client_sums(history, frame, vectors, weight)
        total = client_sums(history, frame, np.ones((len(frame), 1)), weight)
        length = np.sqrt(np.einsum("ij,ij->i", sums, sums)) / np.where(total[:, 0] > 0, total[:, 0], 1.0)
        return sums / (total + PRIOR), length

    return history.here(f"taste.{thing}.{half_life:g}", average)
