"""What one file of the challenge layout holds, and whether every value of it keeps the contract: one streaming pass."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from kit.challenge import FIRST_SEEN, PRODUCT_COLUMNS, EventType
from kit.data.rules import Rule, column_rules
from kit.data.scan import EMBEDDING, product_names, scan_table
from kit.data.times import MOMENT, instant, misread, readable, shown, stored
from kit.errors import Finding, KitError, Severity

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, OverflowError)
"""What a damaged file may end in: Polars panics at some."""


@dataclass
class CheckedTable:
    """What one pass over a file showed.

    Attributes:
        path: the file.
        rows: how many it holds.
        first, last: the earliest and the latest event, of those whose time can be right.
        broken: columns that later checks cannot use.
        findings: everything odd or wrong.
        whole: whether it was read to its end.
    """

    path: Path
    rows: int = 0
    first: datetime | None = None
    last: datetime | None = None
    broken: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    whole: bool = False

    @property
    def name(self) -> str:
        """How findings name the file; raw files, those of the split, and its windows may bear the same name."""
        room = self.path.parent.name
        return f"{room}/{self.path.name}" if room in {"input", "target"} else self.path.name

    def add(self, severity: Severity, what: str, remedy: str, where: str = "") -> None:
        """Note a finding about this file; `where` is a column or a row in it."""
        place = f"{self.name} {where}".strip()
        self.findings.append(Finding(severity, what, place, remedy))

    def as_json(self) -> dict[str, Any]:
        """To be kept; `from_json` makes it again for a file of the same bytes."""
        return {
            "rows": self.rows,
            "first": None if self.first is None else self.first.isoformat(),
            "last": None if self.last is None else self.last.isoformat(),
            "broken": sorted(self.broken),
            "findings": [finding.as_json() for finding in self.findings],
        }

    @classmethod
    def from_json(cls, path: Path, kept: dict[str, Any]) -> CheckedTable:
        """What `as_json` gave; KeyError, TypeError or ValueError if it is something else."""
        first, last = (None if kept[key] is None else datetime.fromisoformat(kept[key]) for key in ("first", "last"))
        findings = [Finding(**{**found, "severity": Severity(found["severity"])}) for found in kept["findings"]]
        return cls(path, int(kept["rows"]), first, last, set(kept["broken"]), findings, whole=True)


def check_table(path: Path, columns: tuple[str, ...]) -> CheckedTable:
    """Columns, types and every value of one file, in one streaming pass.

    Args:
        path: a parquet file, which need not exist.
        columns: what it must have: those of an event type, or PRODUCT_COLUMNS.
    """
    table = CheckedTable(path)
    try:
        _, schema = scan_table(path, ())
    except KitError as error:
        table.add(Severity.ERROR, error.what, error.remedy)
        table.broken.update(columns)
        return table
    called = {name: name for name in columns}
    if columns == PRODUCT_COLUMNS:
        called |= product_names(schema)
    check_columns(table, called, schema)
    present = [name for name in called.values() if name in schema]
    rules = [rule for name in present for rule in column_rules(name, schema[name])]
    for rule in rules:
        if rule.bad is None:
            table.add(rule.severity, f"{rule.column} {rule.says}.", rule.remedy, rule.column)
            if rule.severity is Severity.ERROR:
                table.broken.add(rule.column)
    try:
        apply_rules(table, [rule for rule in rules if rule.bad is not None], schema)
    except UNREADABLE as error:
        first = str(error).strip().splitlines()[:1]
        table.add(
            Severity.ERROR,
            f"cannot be read to its end ({' '.join(first)}).",
            "It is damaged: copy or convert it again.",
        )
        table.broken.update(columns)
        return table
    table.whole = True
    if table.rows == 0:
        needed = path.stem in {EventType.BUY.value, "product_properties"}
        severity = Severity.ERROR if needed else Severity.WARNING
        remedy = "A folder without it cannot be split." if needed else "Fine if the shop has no such events."
        table.add(severity, "has no rows.", remedy)
    return table


def check_columns(table: CheckedTable, called: dict[str, str], schema: pl.Schema) -> None:
    """Missing and surplus columns; `called`: the contract's names and those in the file."""
    for name, column in called.items():
        if column not in schema and name == "category":
            table.add(
                Severity.WARNING, "has no category column.", "It is read as one category; no category task.", name
            )
        elif column not in schema:
            table.add(Severity.ERROR, f"lacks the column {name}; it has {list(schema)}.", "Add or rename it.", name)
            table.broken.add(name)
        elif column == EMBEDDING:
            what = f"calls the column {name} {EMBEDDING}, as the organisers' page does."
            table.add(Severity.INFO, what, f"It is read as {name}.", column)
    known = {*called.values(), *([FIRST_SEEN] if "price" in called else [])}
    for name in schema:
        if name not in known:
            table.add(Severity.WARNING, f"has the surplus column {name}.", "It is never read: drop it.", name)


def apply_rules(table: CheckedTable, rules: list[Rule], schema: pl.Schema) -> None:
    """Evaluate all rules in one pass: number of bad rows and the first of them; then fetch that row to show it."""
    row = pl.col("_row")
    wanted = [pl.len().alias("rows")]
    scan = pl.scan_parquet(table.path, row_index_name="_row")
    time = stored(schema["timestamp"]) if any(rule.column == "timestamp" for rule in rules) else None
    if time is not None:
        scan = scan.with_columns(time[0].alias(MOMENT))
        moment = readable(time[1])
        wanted += [moment.min().alias("first"), moment.max().alias("last")]
    for number, rule in enumerate(rules):
        bad = pl.lit(False) if rule.bad is None else rule.bad.fill_null(False)
        wanted += [bad.sum().alias(f"bad{number}"), pl.when(bad).then(row).min().alias(f"at{number}")]
    seen = scan.select(wanted).collect(engine="streaming").row(0, named=True)
    table.rows, table.first, table.last = seen["rows"], instant(seen.get("first")), instant(seen.get("last"))
    for number, rule in enumerate(rules):
        count, at = seen[f"bad{number}"], seen[f"at{number}"]
        if count:
            _note(table, rule, schema[rule.column], scan.slice(at, 1), count, at)


def _note(table: CheckedTable, rule: Rule, dtype: pl.DataType, found: pl.LazyFrame, count: int, at: int) -> None:
    """A finding about `count` bad rows, the first of which is `found`, row `at`."""
    text, remedy, empty = _first(rule, dtype, found)
    what = f"{count} rows of {rule.column} {rule.says}; the first is row {at}: {text}."
    table.add(rule.severity, what, remedy, f"{rule.column}, row {at}")
    if rule.severity is Severity.ERROR and not empty:
        table.broken.add(rule.column)  # typed scans stop at such a row


def _first(rule: Rule, dtype: pl.DataType, found: pl.LazyFrame) -> tuple[str, str, bool]:
    """The first bad value for people, the rule's remedy given it, and whether it is null."""
    time = stored(dtype) if rule.column == "timestamp" else None
    number = None if time is None else found.select(MOMENT).collect().item()
    remedy = rule.remedy if rule.remedy or time is None or number is None else misread(number, time[1])
    if time is not None and number is not None and dtype != pl.String:
        return shown(number, time[1]), remedy, False
    value = found.select(rule.column).collect().item()
    length = ""
    if rule.column in {"query", "name", EMBEDDING} and value is not None:
        held = re.findall(r"\d+", value) if isinstance(value, str) else value
        length = f"{len(held)} codes, "
    return length + shorten(value), remedy, value is None


def shorten(value: object, width: int = 80) -> str:
    """repr of a value, cut to `width` characters."""
    text = repr(value.to_list() if isinstance(value, pl.Series) else value)
    return text if len(text) <= width else f"{text[: width - 1]}…"
