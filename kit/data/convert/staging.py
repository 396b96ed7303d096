"""Rows on their way from text to parquet: written in parts, read back as one lazy frame with where each row comes from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import polars as pl

from kit.data.convert.widen import Piece, unify

FILE, RECORD, LINE = "_file", "_record", "_line"
"""Where a row comes from: its file's index in `Sources.paths` (UInt32), its record in the file (UInt64, from 1), and the
line that begins in (UInt64, from 1; kept in the parts only)."""
PART_ROWS = 500_000


class Staging:
    """Collects frames (wanted columns, FILE, RECORD, LINE) in files of about PART_ROWS rows in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.parts: list[tuple[Path, pl.Schema]] = []
        self._held: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Takes the next rows, in file order."""
        if self._held and (frame.schema != self._held[0].schema or self._rows >= PART_ROWS):
            self.flush()
        self._held.append(frame)
        self._rows += frame.height

    def flush(self) -> None:
        """Writes what is held."""
        if self._held:
            path = self.folder / f"{len(self.parts):06}.parquet"
            pl.concat(self._held).write_parquet(path)
            self.parts.append((path, self._held[0].schema))
        self._held, self._rows = [], 0

    def frame(self, columns: Sequence[str], name: str) -> pl.LazyFrame:
        """All rows so far: the wanted columns, each in one type (text where no other holds all values), FILE and RECORD."""
        self.flush()
        runs = groupby(self.parts, key=lambda part: part[1])
        pieces = [Piece(name, pl.scan_parquet([path for path, _ in run])) for _, run in runs]
        return unify(pieces, columns, text=True).select(*columns, FILE, RECORD)

    def line_of(self, file: int, record: int) -> int | None:
        """The line in which a record begins; None if no row comes from it."""
        self.flush()
        for path, _ in self.parts:
            here = pl.scan_parquet(path).filter((pl.col(FILE) == file) & (pl.col(RECORD) == record))
            found = here.select(LINE).head(1).collect()
            if found.height:
                return int(found.item())
        return None


def with_place(
    frame: pl.DataFrame, file: int, records: pl.Series | pl.Expr, lines: pl.Series | pl.Expr
) -> pl.DataFrame:
    """The frame with FILE, RECORD and LINE."""
    placed = frame.with_columns(pl.lit(file, dtype=pl.UInt32).alias(FILE), records.alias(RECORD), lines.alias(LINE))
    return placed.cast({RECORD: pl.UInt64, LINE: pl.UInt64})
