"""Prices, names and categories as a mapping gathers them: every row accounted for, every number read or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path

import polars as pl

from kit.data.convert.account import AttributeRows
from kit.data.convert.faults import Fault, inexact, require_text, typing, undecided
from kit.data.convert.mapping import Attribute, Mapping
from kit.data.convert.normal import cell, inexact_id, is_text, number, number_remedy, of_count, text_number, unread
from kit.data.convert.read import Sources
from kit.data.convert.rules import left_by, verdict, words_of
from kit.errors import KitError

INTEGER = r"^[+-]?[0-9]{1,19}$"


@dataclass(frozen=True)
class Values:
    """The rows that an attribute is gathered from.

    Attributes:
        what: price, name or category.
        attribute: its mapping.
        frame: `own` item id as text, `value` (Float64 for prices, else text), `order`; no nulls but in `order`.
        account: what became of the rows of its source.
    """

    what: str
    attribute: Attribute
    frame: pl.LazyFrame
    account: AttributeRows


def attribute_rows(mapping: Mapping, sources: Sources, work: Path) -> list[Values]:
    """The rows of every mapped attribute.

    Raises:
        KitError: a price that is stated and is no number, a rule that cannot tell, an item id that is not exact, an order of
            numbers and other text, no usable value at all.
    """
    return [Gathering(what, attribute, mapping, sources).values(work) for what, attribute in mapping.attributes()]


class Gathering:
    """One attribute and the source that it is gathered from."""

    def __init__(self, what: str, attribute: Attribute, mapping: Mapping, sources: Sources) -> None:
        self.what, self.attribute, self.sources = what, attribute, sources
        self.name, self.item = str(attribute.file), str(attribute.item)
        self.null = tuple(mapping.null)
        self.raw = sources[self.name]
        self.schema = self.raw.collect_schema()
        require_text(mapping, sources, self.name, self.schema)

    def values(self, work: Path) -> Values:
        """Type all rows once, account for them, keep those with an item and a value."""
        verdicts = [verdict(rule, self.schema[rule.column], self.null) for rule in self.attribute.keep]
        own = cell(self.item, self.schema[self.item], self.null)
        text, value = self._value()
        columns = {
            "passes": reduce(and_, verdicts, pl.lit(True)),
            "left": left_by(verdicts),
            "own": own,
            "inexact": inexact_id(self.item, self.schema[self.item], own),
            "value": value,
            "unread": unread(text, value) if self.what == "price" else pl.lit(False),
            "order": self._order_text(),
        }
        path = work / f"typed-{self.what}.parquet"
        with typing(self.sources.label(self.name)):
            self.raw.select(**columns).sink_parquet(path, maintain_order=True, engine="streaming", compression="lz4")
        typed = pl.scan_parquet(path)
        sure = pl.col("passes").fill_null(False)
        faults = {
            "undecided": pl.col("passes").is_null(),
            "inexact": sure & pl.col("inexact"),
            "unread": sure & pl.col("own").is_not_null() & pl.col("unread"),
        }
        counts = typed.select(
            rows=pl.len(),
            no_item=(sure & pl.col("own").is_null()).sum(),
            no_value=(sure & pl.col("own").is_not_null() & pl.col("value").is_null()).sum(),
            used=(sure & pl.col("own").is_not_null() & pl.col("value").is_not_null()).sum(),
            **{f"left{at}": (pl.col("left") == at).sum() for at in range(len(verdicts))},
            **{name: bad.sum() for name, bad in faults.items()},
        )
        seen = counts.collect(engine="streaming").row(0, named=True)
        for name in faults:
            if seen[name]:
                raise self._fault(name, seen[name], columns)
        account = self._account(seen)
        if not seen["used"]:
            column = " + ".join(self.attribute.column)
            raise KitError(
                f"[products] {self.what} wants column {column!r} of {self.sources.label(self.name)}, "
                "but no row has a usable value there.",
                "Mend `keep`, `extract` or `column`, or leave the attribute out.",
            )
        rows = typed.filter(sure & pl.col("own").is_not_null() & pl.col("value").is_not_null())
        frame = rows.select("own", "value", order=self._order(rows))
        return Values(self.what, self.attribute, frame, account)

    def _value(self) -> tuple[pl.Expr, pl.Expr]:
        """The value as text and as what it becomes: a number, or that text."""
        attribute, schema = self.attribute, self.schema
        parts = [cell(column, schema[column], self.null) for column in attribute.column]
        text = pl.concat_str(parts, separator=" ", ignore_nulls=True)
        if attribute.extract is not None:
            text = text.str.extract(attribute.extract, 1)
        text = pl.when(text != "").then(text)
        if self.what != "price":
            return text, text
        column = attribute.column[0]
        if len(parts) == 1 and attribute.extract is None and not is_text(schema[column]):
            value = number(column, schema[column], attribute.decimal, self.null)
            return text, pl.when(value.is_finite()).then(value)
        return text, text_number(text, attribute.decimal)

    def _order_text(self) -> pl.Expr:
        column = self.attribute.order
        if column is None:
            return pl.lit(0)
        dtype = self.schema[column]
        text = cell(column, dtype, self.null)
        return text if is_text(dtype) else pl.when(text.is_not_null()).then(pl.col(column))

    def _order(self, rows: pl.LazyFrame) -> pl.Expr:
        """What rows are ordered by: numbers, where every text that is stated is one; text as it sorts, where none is."""
        column = self.attribute.order
        if column is None or not is_text(self.schema[column]):
            return pl.col("order")
        text = pl.col("order")
        value = text_number(text, self.attribute.decimal)
        other = unread(text, value)
        seen = rows.select(
            stated=text.is_not_null().sum(),
            integers=text.filter(text.str.contains(INTEGER)).cast(pl.Int64, strict=False).count(),
            numbers=value.is_not_null().sum(),
            other=text.filter(other).first(),
        )
        stated, integers, numbers, example = seen.collect(engine="streaming").row(0)
        if numbers and example is not None:
            raise KitError(
                f"[products] {self.what}: the order column {column!r} of {self.sources.label(self.name)} holds numbers and other "
                f"text, such as {example!r}: neither order is right.",
                number_remedy(example, self.attribute.decimal),
            )
        return text.cast(pl.Int64) if integers == stated else value if numbers else text

    def _fault(self, name: str, count: int, columns: dict[str, pl.Expr]) -> KitError:
        """The first row that is not as the mapping says."""
        passed = columns["passes"].fill_null(False)
        bad = {
            "undecided": columns["passes"].is_null(),
            "inexact": passed & columns["inexact"],
            "unread": passed & columns["own"].is_not_null() & columns["unread"],
        }
        place = Fault(self.sources, self.name, self.raw.filter(bad[name]), count, self.null, f"[products] {self.what}")
        if name == "undecided":
            return undecided(place, self.attribute.keep)
        if name == "inexact":
            return inexact(place, "item", self.item)
        row = place.first()
        text = str(row.select(self._value()[0]).item())
        tried = f" by decimal = {self.attribute.decimal!r}" if self.attribute.decimal else ""
        are = "is no number" if count == 1 else "are no numbers"
        return KitError(
            f"[products] price: {of_count(count, 'value')} in column {' + '.join(self.attribute.column)!r} of "
            f"{self.sources.label(self.name)} {are}{tried}, such as {text!r} ({place.of(row)}).",
            number_remedy(text, self.attribute.decimal),
        )

    def _account(self, seen: dict[str, int]) -> AttributeRows:
        left: dict[str, int] = {}
        for at, rule in enumerate(self.attribute.keep):
            left[words_of(rule)] = left.get(words_of(rule), 0) + seen[f"left{at}"]
        account = AttributeRows(
            self.what,
            self.sources.label(self.name),
            seen["rows"],
            seen["used"],
            left,
            {"item": seen["no_item"], "value": seen["no_value"]},
        )
        account.require_sum()
        return account


def picked(values: Values, own: pl.Expr, value: pl.Expr) -> pl.DataFrame:
    """One row per item, `own` and `value`, sorted by `own`; ties fall to the smallest value, so the order of rows never matters.

    Args:
        values: the rows.
        own: the item as its space spells it.
        value: the value likewise.
    """
    rows = values.frame.with_columns(own=own, value=value)
    found = _pick(rows, str(values.attribute.pick))
    return found.collect(engine="streaming").sort("own")


def _pick(rows: pl.LazyFrame, pick: str) -> pl.LazyFrame:
    if pick == "median":
        return rows.group_by("own").agg(pl.col("value").median())
    if pick == "most":
        counted = rows.group_by("own", "value").len().sort(["own", "len", "value"], descending=[False, True, False])
        return counted.unique("own", keep="first", maintain_order=True).select("own", "value")
    # A row without an order is neither first nor last, unless there is no other.
    edge = pl.col("order").max() if pick == "last" else pl.col("order").min()
    return rows.filter(pl.col("order").eq_missing(edge.over("own"))).group_by("own").agg(pl.col("value").min())


def require_common(
    values: Sequence[Values], picks: dict[str, pl.DataFrame], events: pl.DataFrame, log: set[str]
) -> None:
    """KitError for a catalogue of its own that names no item of any event: the ids are spelled in two ways.

    Args:
        values: the attributes.
        picks: what was picked for them.
        events: items of events, `own`.
        log: sources of events.
    """
    for each in values:
        found = picks[each.what]
        if str(each.attribute.file) in log or not events.height:
            continue
        if not found.join(events, on="own", how="semi").height:
            raise KitError(
                f"[products] {each.what}: none of the {found.height:,} items in column {str(each.attribute.item)!r} of "
                f"{each.account.file} ({_some(found)}) occurs in an event ({_some(events)}).",
                "Mend `item`, or spell the ids alike in both files.",
            )


def _some(frame: pl.DataFrame) -> str:
    return ", ".join(repr(value) for value in frame["own"].head(3)) + (", …" if frame.height > 3 else "")
