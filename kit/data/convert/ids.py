"""A shop's own ids as int64: integers stay what they are, anything else becomes its rank among all distinct ids.

Ranks are stable for equal data, not across growing data; `ids/<space>.parquet` (id i64, own str) leads back.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl


def own_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """An id as text; whole floats (pandas makes them of integers beside gaps) lose their «.0»; empty text is null."""
    value = pl.col(column)
    if dtype.is_float():
        whole = value.is_finite() & (value == value.round())
        return pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
    text = value.cast(pl.String)
    return pl.when(text != "").then(text)


class IdSpace:
    """One space of ids: clients, skus, urls or categories.

    Args:
        name: names the map file.
        columns: one-column frames of text (see `own_text`) that together hold every id.
        always_rank: rank integers too, from 1, so that 0 is free for «unknown».
    """

    def __init__(self, name: str, columns: Iterable[pl.LazyFrame], *, always_rank: bool = False) -> None:
        self.name = name
        own = pl.concat([frame.select(own=pl.first()) for frame in columns]).drop_nulls()
        self.map: pl.DataFrame | None = None
        if not always_rank:
            number = pl.col("own").cast(pl.Int64, strict=False)
            plain = (number.cast(pl.String) == pl.col("own")) & (number >= 0)
            if own.select(plain.fill_null(False).all()).collect(engine="streaming").item():
                return
        distinct = own.unique().collect(engine="streaming").sort("own")
        self.map = distinct.with_row_index("id", offset=int(always_rank)).select(pl.col("id").cast(pl.Int64), "own")

    def attach(self, frame: pl.LazyFrame, text: str) -> pl.LazyFrame:
        """Replace the text ids in column `text` by int64 ids, rows in order; null where the text is null."""
        if self.map is None:
            return frame.with_columns(pl.col(text).cast(pl.Int64))
        names = frame.collect_schema().names()
        looked = self.map.lazy().select(pl.col("own").alias(text), pl.col("id").alias("_id"))
        joined = frame.join(looked, on=text, how="left", maintain_order="left")
        return joined.with_columns(pl.col("_id").alias(text)).select(names)

    def write(self, folder: Path) -> None:
        """Write the map file, if ids were ranked."""
        if self.map is not None:
            folder.mkdir(exist_ok=True)
            self.map.write_parquet(folder / f"{self.name}.parquet")
