"""The events of a mapping: each source typed once, each row accounted for, each table's rows kept in file order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add, and_, or_
from pathlib import Path
from typing import Any

import polars as pl

from kit.challenge import EventType
from kit.data.convert.account import FileRows, SourceRows, TableRows, receipt
from kit.data.convert.ask import Ask, Columns
from kit.data.convert.counts import FileCount
from kit.data.convert.faults import Fault, inexact, mixed_offsets, require_text, typing, undecided, untimed
from kit.data.convert.formats import has_offset
from kit.data.convert.mapping import Keep, Mapping, TableMapping
from kit.data.convert.normal import cell, inexact_id, of_count
from kit.data.convert.oversights import frequent, near_misses, words_in
from kit.data.convert.read import Sources
from kit.data.convert.rules import left_by, verdict, words_of
from kit.data.convert.times import offset_of, stated, time_of
from kit.data.convert.zones import repeats, wall_clock
from kit.errors import KitError
from kit.progress import say

PROVENANCE = ("_file", "_record")
ALWAYS = pl.col("_file").is_not_null()
"""True on every row. A literal would be one value, however many rows it stands for, where rows are counted."""


@dataclass(frozen=True)
class EventRows:
    """The kept rows of one event table: client and item as the shop's own text, time as Datetime("us"), `clock` in words."""

    kind: EventType
    table: TableMapping
    frame: pl.LazyFrame
    kept: int
    clock: str = ""


def event_rows(mapping: Mapping, sources: Sources, work: Path) -> tuple[list[EventRows], list[SourceRows]]:
    """The kept rows of every mapped table and the account of every source of events.

    Raises:
        KitError: a rule that cannot tell, an id that is not exact, a time that cannot be read or cannot be right, a table that
            got no row, rows that do not add up.
    """
    by_file: dict[str, list[tuple[EventType, TableMapping]]] = {}
    for kind, table in mapping.events():
        by_file.setdefault(str(table.file), []).append((kind, table))
    found: dict[EventType, EventRows] = {}
    accounts: list[SourceRows] = []
    for name, tables in by_file.items():
        source = TypedSource(name, tables, mapping, sources, work)
        accounts.append(source.account())
        for ask in source.asks:
            found[ask.kind] = source.rows(ask)
    return [found[kind] for kind, _ in mapping.events()], accounts


class TypedSource:
    """One source of events, typed once on disk; every count and every table is taken from there."""

    def __init__(
        self, name: str, tables: list[tuple[EventType, TableMapping]], mapping: Mapping, sources: Sources, work: Path
    ) -> None:
        self.name, self.mapping, self.sources, self.work = name, mapping, sources, work
        self.null = tuple(mapping.null)
        self.raw = sources[name]
        self.schema = self.raw.collect_schema()
        self.shared = mapping.shared(name)
        self.columns = Columns()
        require_text(mapping, sources, name, self.schema)
        self.shared_verdicts = [self._verdict(rule) for rule in self.shared]
        self.asks = [self._ask(kind, table) for kind, table in tables]
        for column in self.tested():
            self._text(column)
        self.path = work / f"typed-{name}.parquet"
        typed = self.raw.select(*PROVENANCE, **self.columns.made)
        with typing(sources.label(name)):
            typed.sink_parquet(self.path, maintain_order=True, engine="streaming", compression="lz4")
        self.typed = pl.scan_parquet(self.path)

    def _text(self, column: str) -> pl.Expr:
        return self.columns(f"text {column}", cell(column, self.schema[column], self.null))

    def _verdict(self, rule: Keep) -> pl.Expr:
        return self.columns(f"rule {rule.model_dump_json()}", verdict(rule, self.schema[rule.column], self.null))

    def _ask(self, kind: EventType, table: TableMapping) -> Ask:
        time = table.time
        assert time is not None  # the schema demands it
        columns, schema = self.columns, self.schema
        dtype = schema[time.column]
        own = table.keep[len(self.shared) :]
        verdicts = [self._verdict(rule) for rule in own]
        offset = offset_of(time, dtype, self.null)
        key = time.model_dump_json(exclude={"zone"})
        inexact = {}
        for what, column in (("client", str(table.client)), ("item", str(table.item))):
            if what == "client" or kind is not EventType.SEARCH:
                bad = inexact_id(column, schema[column], cell(column, schema[column], self.null))
                inexact[what] = columns(f"inexact {column}", bad)
        return Ask(
            kind,
            table,
            own,
            verdicts,
            reduce(and_, [*self.shared_verdicts, *verdicts], ALWAYS),
            self._text(str(table.client)),
            self._text(str(table.item)),
            columns(f"time {key}", time_of(time, dtype, self.null)),
            columns(f"stated {time.column}", stated(time, dtype, self.null)),
            None if offset is None else columns(f"offset {time.column}", offset),
            inexact,
        )

    def tested(self) -> list[str]:
        """Columns that the tables' own rules test, and those that any rule compares with words."""
        own = [rule.column for ask in self.asks for rule in ask.own]
        return list(dict.fromkeys([*own, *(rule.column for rule in self.shared if words_in(rule))]))

    def account(self) -> SourceRows:
        """Every row of every file, counted in one pass; what cannot be read or cannot be right is an error here."""
        seen = self.typed.group_by("_file").agg(self._counts()).collect(engine="streaming")
        by_file = {row["_file"]: row for row in seen.rows(named=True)}
        self._require_readable(seen)
        files: list[FileRows] = []
        for at, count in enumerate(self.sources.counts(self.name)):
            row = by_file.get(at) or dict.fromkeys(seen.columns, 0)
            file = self._file_rows(count, row)
            file.require_sum(count.read, count.rows)
            files.append(file)
        nowhere = sum(file.in_no_table for file in files)
        rules = [*self.shared, *(rule for ask in self.asks for rule in ask.own)]
        near = near_misses(self.typed, rules, self._text, self.sources.label(self.name))
        account = SourceRows(self.name, files, self._unmatched() if nowhere else {}, near)
        total = account.total()
        for ask, table in zip(self.asks, total.tables, strict=True):
            self._require_some(ask, table, account)
        for line in receipt(account):
            say(line)
        return account

    def _counts(self) -> list[pl.Expr]:
        """Counts of one file's rows."""
        through = reduce(and_, self.shared_verdicts, ALWAYS)
        shared_left = left_by(self.shared_verdicts)
        known = [ask.passes.fill_null(False) for ask in self.asks]
        matched = reduce(add, [each.cast(pl.Int32) for each in known])
        counts = [pl.len().alias("rows")]
        counts += [(shared_left == at).sum().alias(f"shared{at}") for at in range(len(self.shared))]
        counts += [
            (through & (matched == 0)).sum().alias("nowhere"),
            pl.when(matched > 1).then(matched - 1).otherwise(0).sum().alias("again"),
        ]
        for number, ask in enumerate(self.asks):
            left = left_by(ask.verdicts)
            counts += [(through & (left == at)).sum().alias(f"left{number}.{at}") for at in range(len(ask.own))]
            counts += [lacks.sum().alias(f"no_{what}{number}") for what, lacks in ask.missing.items()]
            counts.append(ask.kept.sum().alias(f"kept{number}"))
            counts += [fault.sum().alias(f"{what}.{number}") for what, fault in self._faults(ask).items()]
        return counts

    def _faults(self, ask: Ask) -> dict[str, pl.Expr]:
        """Where a row of a table is not as the mapping says, by kind of fault."""
        sure = ask.passes.fill_null(False)
        found = {"undecided": ask.passes.is_null()}
        found |= {f"inexact_{what}": sure & bad for what, bad in ask.inexact.items()}
        found["untimed"] = sure & ask.stated & ask.time.is_null()
        if ask.offset is not None:
            found["with_offset"] = sure & ask.offset.fill_null(False)
            found["without_offset"] = sure & ~ask.offset.fill_null(True)
        return found

    def _require_readable(self, seen: pl.DataFrame) -> None:
        """KitError for the first fault, with its value, file and line."""
        rows = self.raw.with_columns(**self.columns.made)
        for number, ask in enumerate(self.asks):
            faults = self._faults(ask)
            counts = {what: int(seen[f"{what}.{number}"].sum()) for what in faults}
            for what, bad in faults.items():
                if not counts[what]:
                    continue
                where = f"[tables.{ask.kind.value}]"
                place = Fault(self.sources, self.name, rows.filter(bad), counts[what], self.null, where)
                match what:
                    case "undecided":
                        raise undecided(place, ask.table.keep)
                    case "inexact_client":
                        raise inexact(place, "client", str(ask.table.client))
                    case "inexact_item":
                        raise inexact(place, "item", str(ask.table.item))
                    case "untimed":
                        raise untimed(place, ask.table)
                    case "with_offset" if counts["without_offset"] and ask.table.time:
                        raise mixed_offsets(place, ask.table.time.column)

    def _file_rows(self, count: FileCount, row: dict[str, Any]) -> FileRows:
        tables = [
            TableRows(
                ask.kind.value,
                row[f"kept{number}"],
                _named(ask.own, [row[f"left{number}.{at}"] for at in range(len(ask.own))]),
                {what: row[f"no_{what}{number}"] for what in ("client", "item", "time")},
            )
            for number, ask in enumerate(self.asks)
        ]
        left = _named(self.shared, [row[f"shared{at}"] for at in range(len(self.shared))])
        return FileRows(
            count.path.name,
            count.records,
            count.unreadable_total,
            row["rows"],
            left,
            tables,
            row["nowhere"],
            row["again"],
            {each.line: each.why for each in count.unreadable},
        )

    def _unmatched(self) -> dict[str, list[tuple[str | None, int]]]:
        """The most frequent values, in rows of no table, of every column that the tables' own rules test."""
        nowhere = reduce(and_, self.shared_verdicts, ALWAYS)
        nowhere &= ~reduce(or_, [ask.passes.fill_null(False) for ask in self.asks])
        columns = list(dict.fromkeys(rule.column for ask in self.asks for rule in ask.own))
        rows = self.typed.filter(nowhere)
        return {column: frequent(rows, self._text(column)) for column in columns}

    def _require_some(self, ask: Ask, table: TableRows, account: SourceRows) -> None:
        """KitError for a table without events, unless it may be empty."""
        if table.kept or ask.table.optional:
            return
        for line in receipt(account):
            say(line)
        label, where = self.sources.label(self.name), f"[tables.{ask.kind.value}]"
        if table.matched:
            each = ", ".join(f"{count:,} have no {what}" for what, count in table.without.items() if count)
            raise KitError(
                f"No event is left of the {of_count(table.matched, 'row')} of {label} passing the rules of {where}: {each}.",
                "Mend `client`, `item` or `time`: they name columns that are empty here.",
            )
        looks = "; ".join(self._asked(rule) for rule in [*self.shared, *ask.own]) or "the file has no rows"
        near = f" {account.warnings[0][0].upper()}{account.warnings[0][1:]}." if account.warnings else ""
        raise KitError(
            f"No row of {label} is {_a(ask.kind.value)} by the rules of {where}: {looks}.{near}",
            "Mend `keep`, or leave the table out (or say optional = true) if the shop has no such events.",
        )

    def _asked(self, rule: Keep) -> str:
        """What a rule asks of a column and what the column holds."""
        asked = rule.model_dump(exclude_unset=True, exclude={"column"})
        text = cell(rule.column, self.schema[rule.column], self.null)
        held = self.raw.select(value=text).group_by("value").len()
        common = held.sort(["len", "value"], descending=[True, False]).head(6).collect(engine="streaming")
        return f"column {rule.column!r} must have {asked}, it holds {common['value'].to_list()}"

    def rows(self, ask: Ask) -> EventRows:
        """The kept rows of a table, on the shop's wall clock, in file order."""
        kept = self.typed.filter(ask.kept)
        time = ask.time
        zone = ask.table.time.zone if ask.table.time else None
        if zone is not None:
            first, last = kept.select(first=time.min(), last=time.max()).collect(engine="streaming").row(0)
            twice = repeats(zone, first, last) if first is not None else []
            inside = [(time >= each.start) & (time < each.stop) for each in twice]
            count = (
                kept.select(reduce(or_, inside, pl.lit(False)).sum()).collect(engine="streaming").item()
                if inside
                else 0
            )
            if count:
                say(
                    f"  {ask.kind.value}: {of_count(count, 'event')} where the clocks of {zone} are put back and an hour comes "
                    "twice: they share that hour in their true order, off by half an hour at most"
                )
            time = wall_clock(time, zone, twice)
        path = self.work / f"events-{ask.kind.value}.parquet"
        chosen = kept.select(client=ask.client, time=time, item=ask.item)
        chosen.sink_parquet(path, maintain_order=True, engine="streaming", compression="lz4")
        frame = pl.scan_parquet(path)
        return EventRows(ask.kind, ask.table, frame, frame.select(pl.len()).collect().item(), self._clock(ask, kept))

    def _clock(self, ask: Ask, kept: pl.LazyFrame) -> str:
        """By which clock a table's times are told."""
        time = ask.table.time
        assert time is not None  # the schema demands it
        if time.zone is not None:
            return f"on the wall clock of {time.zone}"
        dtype = self.schema[time.column]
        zoned = time.unit is not None or (isinstance(dtype, pl.Datetime) and dtype.time_zone is not None)
        if time.format is not None:
            zoned = has_offset(time.format)
        if ask.offset is not None:
            zoned = bool(kept.select(ask.offset.any()).collect(engine="streaming").item())
        return "in UTC" if zoned else "as written, without a zone"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _named(rules: list[Keep], counts: list[int]) -> dict[str, int]:
    """Counts by the words of rules; equal words are one rule."""
    found: dict[str, int] = {}
    for rule, count in zip(rules, counts, strict=True):
        found[words_of(rule)] = found.get(words_of(rule), 0) + count
    return found
