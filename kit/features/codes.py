"""Raw codes: the mean and the last of the 16 codes of names touched and of queries typed.

Codes are numbers of codebook entries, so a mean of few says little and of many nothing: on synthetic shops these 64 columns
cost a linear read-out .002-.004 AUROC. `taste` is the better form; kept for comparison with the organisers' own features.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from kit.challenge import CODES, EventType
from kit.features.embedding import code_rows
from kit.features.matrix import as_frame, client_sums, item_positions
from kit.features.registry import FeatureSettings, family
from kit.features.shared import catalogue, table, touches
from kit.history import History


@family(
    "codes", "Raw name and query codes, mean and last, by position; not by default: `taste` is better.", default=False
)
def codes(history: History, settings: FeatureSettings) -> pl.LazyFrame:
    """Columns name_<position>, name_last_<position>, query_<position>, query_last_<position>; missing without such events."""
    around = touches(history).filter(pl.col("item").is_not_null())
    searches = table(history, EventType.SEARCH)
    names = code_rows(catalogue(history)["name"])
    blocks = []
    for frame, rows in ((around, names[item_positions(around)]), (searches, code_rows(searches["query"]))):
        one = np.ones(len(frame))
        number = client_sums(history, frame, one[:, None], one)
        number[number == 0] = np.nan
        ids = frame["client_id"].to_numpy()
        last = np.append(ids[1:] != ids[:-1], True)[: len(ids)].astype(np.float64)
        missing = np.where(np.isnan(number), np.nan, 0.0)
        wide = rows.astype(np.float64)
        blocks += [client_sums(history, frame, wide, one) / number, client_sums(history, frame, wide, last) + missing]
    columns = [f"{name}_{k}" for name in ("name", "name_last", "query", "query_last") for k in range(CODES)]
    return as_frame(history, np.hstack(blocks), columns)
