"""What became of every row: read = left out by a rule + in a table + in no table, file by file, or the conversion stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kit.data.convert.normal import of_count
from kit.errors import KitError

SHOWN_FILES = 12
"""Of a source with more files, only the totals are printed; `convert.json` holds them all."""
SHOWN_WIDTH = 40


@dataclass(frozen=True)
class TableRows:
    """What one table took of a file.

    Attributes:
        table: the event table.
        kept: its events.
        left_out: rule in words → rows that it was the first to turn away, of those that the shared rules let through.
        without: client, item or time → rows of the table that have none; the first that is missing counts.
    """

    table: str
    kept: int
    left_out: dict[str, int]
    without: dict[str, int]

    @property
    def matched(self) -> int:
        """Rows that pass the rules of the table."""
        return self.kept + sum(self.without.values())


@dataclass(frozen=True)
class FileRows:
    """What became of the rows of one file.

    Attributes:
        file: its name.
        records: records in the file, read or not, counted by the reader.
        unreadable: records that could not be read.
        rows: rows that came out of the others (records, unless one record is exploded into several rows).
        left_out: rule of [log] in words → rows that it turned away.
        tables: what each table took.
        in_no_table: rows that pass the shared rules and those of no table.
        again: rows counted by a second table, a third, ….
        unreadable_lines: line → why, of the first records that could not be read.
    """

    file: str
    records: int
    unreadable: int
    rows: int
    left_out: dict[str, int]
    tables: list[TableRows]
    in_no_table: int
    again: int
    unreadable_lines: dict[int, str] = field(default_factory=dict)

    def require_sum(self, read: int, delivered: int) -> None:
        """KitError unless every row is accounted for once.

        Args:
            read: records that the reader says it has read.
            delivered: rows that it says it made of them.
        """
        shared = sum(self.left_out.values())
        sums = {
            "records = read + unreadable": (self.records, read + self.unreadable),
            "rows = rows read": (self.rows, delivered),
            "rows = left out + in tables + in no table": (
                self.rows,
                shared + sum(table.matched for table in self.tables) - self.again + self.in_no_table,
            ),
        }
        for table in self.tables:
            sums[f"rows = {table.table} + left out by its rules + left out by [log]"] = (
                self.rows,
                shared + sum(table.left_out.values()) + table.matched,
            )
        for says, (one, other) in sums.items():
            if one != other:
                raise KitError(
                    f"The rows of {self.file} do not add up: {says} should hold, but {one:,} ≠ {other:,}.",
                    "Nothing was written. This is a fault of the kit: please report it with the mapping.",
                )


@dataclass(frozen=True)
class SourceRows:
    """What became of the rows of a source: one or more files of one form.

    Attributes:
        source: its name in [files].
        files: per file.
        unmatched: column that the tables' rules test → the five most frequent values of rows in no table, with counts.
        warnings: what looks like an oversight.
    """

    source: str
    files: list[FileRows]
    unmatched: dict[str, list[tuple[str | None, int]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As it stands in convert.json."""
        return asdict(self)

    def total(self) -> FileRows:
        """All files together."""
        first, *others = self.files
        total = first
        for file in others:
            total = _plus(total, file)
        return total


def _plus(one: FileRows, other: FileRows) -> FileRows:
    tables = [
        TableRows(a.table, a.kept + b.kept, _sum(a.left_out, b.left_out), _sum(a.without, b.without))
        for a, b in zip(one.tables, other.tables, strict=True)
    ]
    return FileRows(
        "all",
        one.records + other.records,
        one.unreadable + other.unreadable,
        one.rows + other.rows,
        _sum(one.left_out, other.left_out),
        tables,
        one.in_no_table + other.in_no_table,
        one.again + other.again,
    )


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: count + other[name] for name, count in one.items()}


def receipt(account: SourceRows) -> list[str]:
    """The account of a source as aligned lines: per file what its rows became, then per table which rule left out how many."""
    total = account.total()
    files = [*account.files, total] if 1 < len(account.files) <= SHOWN_FILES else [total]
    if len(account.files) == 1:
        files = account.files
    lines = [f"  {line}" for line in _grid(files)]
    if total.left_out:
        lines.append(f"    left out by [log]: {_rules(total.left_out)}")
    for table in total.tables:
        left = f"; left out: {_rules(table.left_out)}" if any(table.left_out.values()) else ""
        lost = sum(table.without.values())
        each = ", ".join(f"{count:,} have no {what}" for what, count in table.without.items() if count)
        note = f", {lost:,} more without client, item or time left out ({each})" if lost else ""
        lines.append(f"    {table.table}: {of_count(table.kept, 'event')}{note}{left}")
    if total.in_no_table:
        held = "; ".join(f"{column} = {_values(values)}" for column, values in account.unmatched.items())
        lines.append(f"    in no table: {of_count(total.in_no_table, 'row')}: {held}")
    for file in account.files:
        if file.unreadable:
            found = list(file.unreadable_lines.items())
            others = "".join(f", {line:,}" for line, _ in found[1:6]) + (" …" if file.unreadable > 6 else "")
            why = f": line {found[0][0]:,} ({found[0][1]}){others}" if found else ""
            lines.append(f"    unreadable in {file.file}: {of_count(file.unreadable, 'record')}{why}")
    if total.again:
        lines.append(f"    {of_count(total.again, 'row')} counted again: in more than one table")
    return [*lines, *(f"  warning: {warning}" for warning in account.warnings)]


def _grid(files: Sequence[FileRows]) -> list[str]:
    """One line per file, in columns; those that are 0 throughout are left out."""
    columns: list[tuple[str, list[str]]] = [("file", [_short(file.file) for file in files])]
    counted: list[tuple[str, list[int]]] = [("records", [file.records for file in files])]
    if any(file.rows + file.unreadable != file.records for file in files):
        counted.append(("rows", [file.rows for file in files]))
    counted.append(("left out by [log]", [sum(file.left_out.values()) for file in files]))
    for at, table in enumerate(files[0].tables):
        counted.append((table.table, [file.tables[at].kept for file in files]))
    counted += [
        ("incomplete", [sum(sum(table.without.values()) for table in file.tables) for file in files]),
        ("in two tables", [-file.again for file in files]),
        ("in no table", [file.in_no_table for file in files]),
        ("unreadable", [file.unreadable for file in files]),
    ]
    tables = {table.table for table in files[0].tables}
    for name, counts in counted:
        if any(counts) or name == "records" or name in tables:
            columns.append((name, [f"{count:,}" for count in counts]))
    widths = [max(len(name), *(len(cell) for cell in cells)) for name, cells in columns]
    rows = [[name for name, _ in columns], *([cells[at] for _, cells in columns] for at in range(len(files)))]
    return [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _rules(left: dict[str, int]) -> str:
    return ", ".join(f"{count:,} by {rule}" for rule, count in left.items() if count) or "none"


def _values(values: list[tuple[str | None, int]]) -> str:
    return ", ".join(f"{'(empty)' if value is None else repr(_short(value))} {count:,}" for value, count in values)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_WIDTH else f"{text[: SHOWN_WIDTH - 1]}…"


@dataclass(frozen=True)
class AttributeRows:
    """What became of the rows that an attribute of products is gathered from.

    Attributes:
        what: price, name or category.
        file: the source's files.
        rows: all rows.
        used: rows with an item and a value.
        left_out: rule in words → rows that it was the first to turn away.
        without: item or value → rows that pass the rules and have none.
    """

    what: str
    file: str
    rows: int
    used: int
    left_out: dict[str, int]
    without: dict[str, int]

    def require_sum(self) -> None:
        """KitError unless every row is accounted for once."""
        total = self.used + sum(self.left_out.values()) + sum(self.without.values())
        if total != self.rows:
            raise KitError(
                f"The rows that [products] {self.what} is gathered from do not add up: {self.rows:,} ≠ {total:,}.",
                "Nothing was written. This is a fault of the kit: please report it with the mapping.",
            )

    def line(self) -> str:
        """In one line."""
        left = [f"{count:,} left out by {rule}" for rule, count in self.left_out.items() if count]
        none = [f"{count:,} have no {what}" for what, count in self.without.items() if count]
        parts = [f"{self.used:,} of {self.rows:,} rows of {self.file} used", *none, *left]
        return f"  {self.what}: {', '.join(parts)}"
