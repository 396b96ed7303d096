"""The schema of a mapping: which columns of a shop's own files become the tables of the challenge layout.

about = "…"
[files.log]                    # one table per source file, or per set of files of the same form
path = "events*.csv"
[log]                          # what all event tables share; each may override it
file = "log"
client = "visitorid"
item = "itemid"
time = { column = "timestamp", unit = "ms" }
keep = [{ column = "visitorid", not_null = true }]
[tables.product_buy]
keep = [{ column = "event", equals = "transaction" }]
[products]                     # file, item and keep default to those of [log]
price = "price"
name = ["brand", "title"]
category = "category"
"""

from __future__ import annotations

import codecs
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import available_timezones

import polars as pl
from pydantic import Field, field_validator, model_validator

from kit.challenge import EventType
from kit.data.convert.formats import require_readable
from kit.data.convert.normal import EXACT
from kit.errors import KitError, nearest
from kit.recipe import Strict, parse

READY = Path(__file__).parent.parent / "mappings"
"""Where the ready mappings lie."""


class SourceFile(Strict):
    """A source file, or several of one form."""

    path: str = Field(description="Name or glob relative to SRC; several matches are read one after another by name.")
    format: Literal["csv", "parquet", "jsonl"] | None = Field(None, description="By the file's ending if absent.")
    separator: str = Field(",", min_length=1, max_length=1, description="Of a csv file.")
    quote: str = Field(
        '"',
        max_length=1,
        description='csv: the character around fields that hold separators; "" reads every such character as text.',
    )
    multiline: bool = Field(
        False, description="csv: let a quoted field run over lines even where those look like rows of their own."
    )
    ragged: Literal["refuse", "fill"] = Field(
        "refuse", description="csv: rows with too few fields are unreadable, or end in empty cells (fill)."
    )
    encoding: str = Field("utf-8", description="csv and jsonl: cp1252, latin-1, utf-16 … (Python's names).")
    unreadable: Literal["refuse", "leave out"] = Field(
        "refuse", description="Records that cannot be read are an error, or are left out and counted."
    )
    decimal: Literal[".", ","] | None = Field(
        None, description="The decimal mark of prices and rules that say none of their own."
    )
    explode: str | None = Field(None, description="jsonl: a column of lists of objects; each object becomes a row.")

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str) -> str:
        try:
            text = codecs.lookup(encoding)._is_text_encoding
        except LookupError:
            text = False
        if not text:
            raise ValueError(f"{encoding!r} is not an encoding of text; write it like 'utf-8', 'cp1252', 'utf-16'")
        return encoding

    @model_validator(mode="after")
    def _marks_differ(self) -> SourceFile:
        for what, mark in (("separator", self.separator), ("quote", self.quote)):
            if mark and (not mark.isascii() or mark in "\r\n\0"):
                raise ValueError(f"{what} = {mark!r} must be one ASCII character and no line end")
        if self.separator == self.quote:
            raise ValueError(f"separator and quote are both {self.quote!r}")
        return self


class Keep(Strict):
    """A rule that a row must pass; several conditions in one rule must all hold. Empty cells fail all but the negative ones."""

    column: str
    not_null: bool = False
    equals: str | bool | float | None = None
    one_of: list[str] | None = None
    none_of: list[str] | None = None
    ignore_case: bool = Field(False, description="Of equals, one_of, none_of, matches and matches_not: BUY is buy.")
    above: float | None = None
    below: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    matches: str | None = Field(None, description="A regular expression that must be found.")
    matches_not: str | None = Field(None, description="A regular expression that must not be found.")
    decimal: Literal[".", ","] | None = Field(
        None,
        description="Of numbers in text: the decimal mark; the other of . and , parts thousands. Default: the file's.",
    )

    @field_validator("one_of", "none_of", mode="before")
    @classmethod
    def _texts(cls, values: Any) -> Any:  # noqa: ANN401
        """Whole numbers are taken as the texts that they are."""
        listed = isinstance(values, list)
        return [str(each) if type(each) is int else each for each in values] if listed else values

    @model_validator(mode="after")
    def _says_something(self) -> Keep:
        conditions = {
            name: value
            for name, value in self.model_dump(exclude={"column", "decimal", "ignore_case"}).items()
            if value is not None and (name, value) != ("not_null", False)
        }
        if not conditions:
            raise ValueError(f"the rule on {self.column!r} has no condition")
        for name, value in conditions.items():
            if isinstance(value, float) and not isinstance(value, bool) and not abs(value) < EXACT:
                raise ValueError(
                    f'{name} = {value:.0f} is too large for an exact number; write it as text: equals = "…"'
                )
        for pattern in (self.matches, self.matches_not):
            try:
                pl.Series([""]).str.contains(pattern or "")
            except pl.exceptions.PolarsError as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return self


class Time(Strict):
    """How a timestamp is written. Without format and unit: a datetime column, or ISO 8601 text such as the challenge's own."""

    column: str
    format: str | None = Field(None, description="strptime form of a text, such as %d.%m.%Y %H:%M; see formats.py.")
    unit: Literal["s", "ms", "us", "ns"] | None = Field(None, description="Of numbers counted from 1970.")
    zone: str | None = Field(None, description="The shop's zone: times are read as UTC and become its wall clock.")

    @model_validator(mode="after")
    def _one_form(self) -> Time:
        if self.format is not None and self.unit is not None:
            raise ValueError("give format (text) or unit (numbers), not both")
        if self.zone is not None and self.zone not in available_timezones():
            raise ValueError(f"{self.zone!r} is not a time zone; write it like 'Europe/London'")
        if self.format is not None:
            require_readable(self.format)
        return self


class Attribute(Strict):
    """A property of products, gathered from rows that name the item. Text alone is short for { column = text }."""

    column: list[str] = Field(min_length=1, description="One column; for names several, joined by spaces.")
    file: str | None = None
    item: str | None = None
    keep: list[Keep] = Field(default_factory=list)
    extract: str | None = Field(None, description="Regular expression; its first group is the value.")
    decimal: Literal[".", ","] | None = Field(
        None,
        description="Of prices: the decimal mark; the other of . and , parts thousands. None: 1854.00, no other form.",
    )
    pick: Literal["median", "most", "first", "last"] | None = Field(
        None, description="Of several rows: median (price), most frequent (text), or first / last by `order`."
    )
    order: str | None = Field(None, description="Column of numbers or sortable text for pick = first / last.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, str | list):
            value = {"column": value}
        if isinstance(value, dict) and isinstance(value.get("column"), str):
            value = {**value, "column": [value["column"]]}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.pick in ("first", "last") and self.order is None:
            raise ValueError(f"pick = {self.pick!r} needs order, the column that says what comes first")
        return self


class Log(Strict):
    """Where events lie; every field of [log] is the default of the same field in [tables.*]."""

    file: str | None = None
    client: str | None = None
    item: str | None = Field(None, description="sku, url, or the text of a search query.")
    time: Time | None = None
    keep: list[Keep] = Field(default_factory=list)


class TableMapping(Log):
    """One event table; its rules come on top of those of [log]."""

    optional: bool = Field(False, description="No error if no row passes: some of these shops have no such events.")


class Products(Strict):
    """Where properties of products lie; file, item and keep default to those of [log]."""

    file: str | None = None
    item: str | None = None
    keep: list[Keep] = Field(default_factory=list)
    price: Attribute | None = None
    name: Attribute | None = None
    category: Attribute | None = None


class Mapping(Strict):
    """A whole mapping file."""

    about: str = Field("", description="What the data are, whence, under which licence; how it was read.")
    null: list[str] = Field(
        default_factory=list, description="Words that stand for an empty cell, in ids and everywhere: NULL."
    )
    files: dict[str, SourceFile] = Field(min_length=1)
    log: Log = Log()
    tables: dict[EventType, TableMapping]
    products: Products = Products()

    @field_validator("tables", mode="before")
    @classmethod
    def _known_tables(cls, tables: Any) -> Any:  # noqa: ANN401
        known = [kind.value for kind in EventType]
        for name in tables if isinstance(tables, dict) else []:
            if name not in known:
                raise ValueError(f"{name!r} is not an event table; {nearest(name, known)}")
        if isinstance(tables, dict) and EventType.BUY.value not in tables:
            raise ValueError("[tables.product_buy] is needed: the split and all tasks rest on purchases")
        return tables

    @model_validator(mode="after")
    def _whole(self) -> Mapping:
        for kind, table in self.events():
            for field in ("client", "item", "time"):
                if getattr(table, field) is None:
                    raise ValueError(f"[tables.{kind.value}] or [log] must name the {field}")
        for file, _, what in self.wanted():
            if file not in self.files:
                raise ValueError(f"{what} names the file {file!r}; {nearest(file, self.files)}")
        return self

    def events(self) -> Iterator[tuple[EventType, TableMapping]]:
        """The event tables with the defaults of [log] filled in."""
        for kind, table in self.tables.items():
            merged = {name: getattr(table, name) or getattr(self.log, name) for name in ("client", "item", "time")}
            file = self.file_of(table.file)
            keep = self._marked([*self.shared(file), *table.keep], file)
            yield kind, table.model_copy(update={**merged, "file": file, "keep": keep})

    def shared(self, file: str) -> list[Keep]:
        """The rules that all event tables of a file share: those of [log], if it is the log's."""
        return self._marked(self.log.keep if file == self.file_of(None) else [], file)

    def _marked(self, rules: list[Keep], file: str, decimal: str | None = None) -> list[Keep]:
        """Rules with the decimal mark that is theirs by default."""
        default = decimal or (self.files[file].decimal if file in self.files else None)
        return [rule if rule.decimal or not default else rule.model_copy(update={"decimal": default}) for rule in rules]

    def file_of(self, name: str | None) -> str:
        """A file's name in [files], by default that of [log], or the only one."""
        return name or self.log.file or (next(iter(self.files)) if len(self.files) == 1 else "")

    def attributes(self) -> Iterator[tuple[str, Attribute]]:
        """price, name and category, where mapped, with file, item, keep and pick filled in."""
        own = self.products
        for what in ("price", "name", "category"):
            attribute: Attribute | None = getattr(own, what)
            if attribute is None:
                continue
            file = attribute.file or self.file_of(own.file)
            shared = own.keep if own.file or own.keep else self.log.keep if file == self.file_of(None) else []
            filled = {
                "file": file,
                "item": attribute.item or own.item or self.log.item,
                "keep": [*self._marked(shared, file), *self._marked(attribute.keep, file, attribute.decimal)],
                "decimal": attribute.decimal or (self.files[file].decimal if file in self.files else None),
            }
            filled["pick"] = attribute.pick or ("median" if what == "price" else "most")
            yield what, attribute.model_copy(update=filled)

    def wanted(self) -> Iterator[tuple[str, str, str]]:
        """Every (file, column, what for) that the mapping asks for."""
        for kind, table in self.events():
            columns = {"client": table.client, "item": table.item, "time": table.time and table.time.column}
            rules = [("keep", rule.column) for rule in table.keep]
            for what, column in [*columns.items(), *rules]:
                if column:
                    yield str(table.file), column, f"[tables.{kind.value}] {what}"
        for what, attribute in self.attributes():
            columns_of = [attribute.item, attribute.order, *attribute.column, *(rule.column for rule in attribute.keep)]
            for column in columns_of:
                if column:
                    yield str(attribute.file), column, f"[products] {what}"


def ready_mappings() -> list[str]:
    """Names of the mappings that come with the kit."""
    return sorted(path.stem for path in READY.glob("*.toml"))


def mapping_path(source_or_mapping: str) -> Path:
    """The TOML file behind a ready name or a path; KitError naming the ready ones."""
    if source_or_mapping in ready_mappings():
        return READY / f"{source_or_mapping}.toml"
    path = Path(source_or_mapping)
    if not path.is_file():
        what = f"{source_or_mapping!r} is neither a ready mapping nor a file;"
        raise KitError(what, f"ready mappings: {nearest(source_or_mapping, ready_mappings())}.")
    return path


def read_mapping(path: Path) -> Mapping:
    """Read and check a mapping; KitError names file, key, value and the nearest valid key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KitError(f"{path} is not valid TOML: {error}.", "Mend the line and run again.") from error
    return parse(Mapping, raw, str(path))
