"""A shop's own ids as int64: integers stay what they are, anything else becomes its rank among all distinct ids.

Ranks are stable for equal data, not across growing data; `ids/<space>.parquet` (id i64, own str) leads back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from kit.data.convert.normal import FRACTION, POINT_ZERO, of_count
from kit.progress import say

TWINS = 5_000_000
"""In larger spaces nobody looks for ids that differ by case or zeros alone."""


def whole_numbers(space: str, columns: Sequence[pl.LazyFrame]) -> bool:
    """Whether ids such as 17850.0, as pandas writes a column with gaps, are the whole numbers that they look like.

    All columns of the space are judged together. If one holds a number such as 1.50, the point means something here and no id
    is touched; 017 is never 17. What is respelled is said.

    Args:
        space: names the space in what is said.
        columns: one-column frames of text, read by `normal.cell`.
    """
    own = pl.concat([frame.select(own=pl.first()) for frame in columns])
    own = own.filter(pl.col("own").str.contains(".", literal=True))  # mostly none: cheaper than the patterns
    pointed, fraction = pl.col("own").str.contains(POINT_ZERO), pl.col("own").str.contains(FRACTION)
    seen = own.select(
        respelled=pointed.sum(),
        example=pl.col("own").filter(pointed).first(),
        meant=pl.col("own").filter(fraction & ~pointed).first(),
    ).collect(engine="streaming")
    respelled, example, meant = seen.row(0)
    if not respelled:
        return False
    short = example.split(".")[0]
    if meant is not None:
        say(f"  {space}: {example!r} stays as it is, since there is {meant!r} too: it is not the same as {short!r}")
        return False
    say(f"  {space}: {example!r} and the like ({of_count(respelled, 'cell')}) are read as {short!r}, without the point")
    return True


class IdSpace:
    """One space of ids: clients, skus, urls or categories.

    Args:
        name: names the map file.
        columns: one-column frames of text (see `normal.cell`) that together hold every id.
        always_rank: rank integers too, from 1, so that 0 is free for what is unknown.
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
        self._say_twins()

    def _say_twins(self) -> None:
        """Ids that differ by case, zeros or coding of accents alone stay apart, but not silently: they may be one client."""
        assert self.map is not None
        if self.map.height > TWINS:
            return
        key = pl.col("own").str.normalize("NFC").str.to_lowercase().str.replace(r"^0+([0-9])", "${1}")
        pairs = (
            self.map.lazy().group_by(key.alias("key")).agg(one=pl.col("own").min(), two=pl.col("own").max(), n=pl.len())
        )
        found = pairs.filter(pl.col("n") > 1).sort("key").collect()
        if found.height:
            example = found["one"][0], found["two"][0]
            say(
                f"  {self.name}: {found['n'].sum():,} ids differ from another by case, leading zeros or the coding of accents "
                f"alone, such as {example[0]!r} and {example[1]!r}: they stay different; mend the files if they are one"
            )

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
