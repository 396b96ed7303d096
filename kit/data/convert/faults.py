"""What is told of a row that is not as the mapping says: its value, its file and line, and the setting that would read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from kit.data.convert.mapping import Keep, Mapping, TableMapping
from kit.data.convert.normal import NOT_TEXT, cell, number_remedy, of_count
from kit.data.convert.read import Sources
from kit.data.convert.rules import numeric, verdict, words_of
from kit.data.convert.times import diagnose
from kit.errors import KitError
from kit.trouble import is_of_the_disk


@dataclass(frozen=True)
class Fault:
    """Rows of a source that share a fault.

    Attributes:
        sources: the files.
        name: of the source in [files].
        rows: the raw rows with their provenance, narrowed to those with the fault.
        count: how many there are.
        null: words that stand for nothing.
        where: the part of the mapping that asked: `[tables.product_buy]`.
    """

    sources: Sources
    name: str
    rows: pl.LazyFrame
    count: int
    null: tuple[str, ...]
    where: str

    def first(self) -> pl.DataFrame:
        """The first such row."""
        return self.rows.head(1).collect()

    def of(self, row: pl.DataFrame) -> str:
        """File and line of a row."""
        return self.sources.place(self.name, row["_file"].item(), row["_record"].item())

    def shown(self, row: pl.DataFrame, column: str) -> str:
        """A cell as text."""
        return str(row.select(cell(column, row.schema[column], self.null)).item())


def undecided(place: Fault, rules: Sequence[Keep]) -> KitError:
    """A rule needs a number and the cell holds something else: that is never a no."""
    row = place.first()
    rule = next(
        rule
        for rule in rules
        if numeric(rule) and row.select(verdict(rule, row.schema[rule.column], place.null)).item() is None
    )
    text = place.shown(row, rule.column)
    as_text = "" if rule.equals is None else f' To compare it as text, write equals = "{rule.equals:.15g}".'
    tried = f" by decimal = {rule.decimal!r}" if rule.decimal else ""
    remedy = number_remedy(text, rule.decimal)
    if row.schema[rule.column].is_temporal():
        remedy = "Dates are compared as text: `matches = '^2024'`, `matches_not`."
    return KitError(
        f"{place.where} keep: column {rule.column!r} holds {text!r} ({place.of(row)}), which is no number{tried}, so "
        f"{words_of(rule)!r} cannot be judged there ({of_count(place.count, 'such row')}).",
        remedy + as_text,
    )


def inexact(place: Fault, what: str, column: str) -> KitError:
    """An id has lost its last digits: different clients or items may share it."""
    row = place.first()
    dtype = row.schema[column]
    shown = place.shown(row, column)
    held = (
        f"{dtype} holds whole numbers exactly below {'2^24' if dtype == pl.Float32 else '2^53'} only"
        if dtype.is_float()
        else ("it was a float before it was written")
    )
    return KitError(
        f"{place.where} {what}: {of_count(place.count, 'id')} in column {column!r} may have lost digits, such as {shown} "
        f"({place.of(row)}): {held}.",
        "Write the column as integers or as text where the file is made (pandas: dtype 'Int64' or str).",
    )


def untimed(place: Fault, table: TableMapping) -> KitError:
    """A time cannot be read or cannot be right."""
    assert table.time is not None
    row, column = place.first(), table.time.column
    label = f"{place.where} time: column {column!r} of {place.sources.label(place.name)}"
    return diagnose(table.time, row.schema[column], place.shown(row, column), place.count, place.of(row), label)


def mixed_offsets(place: Fault, column: str) -> KitError:
    """Some times are instants, others a wall clock: their order would be made up."""
    row = place.first()
    return KitError(
        f"{place.where} time: {of_count(place.count, 'value')} in column {column!r} with an offset from UTC, such as "
        f"{place.shown(row, column)!r} ({place.of(row)}), beside others without.",
        "Write them all in one way; which zone the others mean cannot be known.",
    )


@contextmanager
def typing(label: str) -> Iterator[None]:
    """What polars says of cells that it cannot type, as a KitError that names the source. What the disk did passes."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        if is_of_the_disk(error):
            raise
        first = str(error).strip().splitlines()[0]
        raise KitError(
            f"{label} cannot be read ({first}).", "Write its columns as text, numbers or datetimes, and text as UTF-8."
        ) from error


def require_text(mapping: Mapping, sources: Sources, name: str, schema: pl.Schema) -> None:
    """KitError for a column that the mapping wants and whose cells have no one spelling: bytes, lists, objects, durations."""
    for file, column, what in mapping.wanted():
        dtype = schema[column] if file == name else pl.String()
        if isinstance(dtype, NOT_TEXT) or dtype in NOT_TEXT:
            raise KitError(
                f"{what}: column {column!r} of {sources.label(name)} is {dtype}, which cannot be read as one value.",
                "Write it as text, as numbers or as datetimes; a list of objects is taken apart by `explode`.",
            )
