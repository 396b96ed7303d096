"""`kit data check`: everything that is wrong with a folder, at once, each finding with its remedy.

Every event file is read in one streaming pass over all its columns; two more passes over single columns look for exact
duplicates (on a sample of clients where a file is large) and for skus and clients without a counterpart. Memory is bounded
by the numbers of distinct skus and relevant clients, never by the number of events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from kit.challenge import FIRST_SEEN, PRODUCT_COLUMNS, SKU_EVENTS, EventType
from kit.data.check_split import check_clients, check_split
from kit.data.layout import DataFolder, Split
from kit.data.rules import Rule, column_rules, readable_time
from kit.data.scan import columns_of, scan_table
from kit.errors import Finding, KitError, Severity

SAMPLE_ROWS = 4_000_000
"""Exact duplicates are counted on about this many rows: all events of one client in so many."""
EXAMPLES = 3


@dataclass
class Table:
    """What one pass over a file showed. `broken`: the columns that the later checks cannot use."""

    path: Path
    rows: int = 0
    first: datetime | None = None
    last: datetime | None = None
    broken: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: Severity, what: str, remedy: str, where: str = "") -> None:
        """Note a finding about this file; `where` is a column or a row in it."""
        place = f"{self.path.name} {where}".strip()
        self.findings.append(Finding(severity, what, place, remedy))


def check_folder(root: Path) -> list[Finding]:
    """All findings about the folder at `root`: errors first, then warnings, then what is merely worth knowing.

    Raises:
        KitError: `root` is not a folder (there is nothing to check).
    """
    if not root.is_dir():
        raise KitError(f"There is no data folder {str(root)!r}.", "Make one with `kit data synth DIR`.")
    folder = DataFolder(root)
    events = {kind: check_table(folder.raw(kind), columns_of(kind)) for kind in EventType}
    products = check_table(folder.products, PRODUCT_COLUMNS)
    findings = [finding for table in (*events.values(), products) for finding in table.findings]
    findings += check_span(events)
    for kind, table in events.items():
        if not table.broken & set(columns_of(kind)):
            findings += check_duplicates(table, columns_of(kind))
    if not products.broken & {"sku", "category"}:
        usable = {kind: events[kind] for kind in SKU_EVENTS if "sku" not in events[kind].broken}
        findings += check_products(products, usable)
    findings += check_clients(folder, [kind for kind, table in events.items() if "client_id" not in table.broken])
    findings += check_split(folder, [kind for kind, table in events.items() if not table.broken])
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def check_table(path: Path, columns: tuple[str, ...]) -> Table:
    """Columns, types and every value of one file, in one streaming pass."""
    table = Table(path)
    try:
        _, schema = scan_table(path, ())
    except KitError as error:
        table.add(Severity.ERROR, error.what, error.remedy)
        table.broken.update(columns)
        return table
    check_columns(table, columns, schema)
    present = [name for name in columns if name in schema]
    rules = [rule for name in present for rule in column_rules(name, schema[name])]
    for rule in rules:
        if rule.bad is None:
            table.add(rule.severity, f"{rule.column} {rule.says}.", rule.remedy, rule.column)
            if rule.severity is Severity.ERROR:
                table.broken.add(rule.column)
    time = readable_time(schema["timestamp"]) if "timestamp" in present else None
    try:
        apply_rules(table, [rule for rule in rules if rule.bad is not None], time)
    except pl.exceptions.PolarsError as error:
        first = str(error).strip().splitlines()[0]
        table.add(Severity.ERROR, f"cannot be read to its end ({first}).", "It is damaged: copy or convert it again.")
        table.broken.update(columns)
        return table
    if table.rows == 0:
        needed = path.stem in {EventType.BUY.value, "product_properties"}
        severity = Severity.ERROR if needed else Severity.WARNING
        remedy = "A folder without it cannot be split." if needed else "Fine if the shop has no such events."
        table.add(severity, "has no rows.", remedy)
    return table


def check_columns(table: Table, columns: tuple[str, ...], schema: pl.Schema) -> None:
    """Missing and surplus columns."""
    for name in columns:
        if name not in schema and name == "category":
            table.add(
                Severity.WARNING, "has no category column.", "It is read as one category; no category task.", name
            )
        elif name not in schema:
            table.add(Severity.ERROR, f"lacks the column {name}; it has {list(schema)}.", "Add or rename it.", name)
            table.broken.add(name)
    for name in schema:
        if name not in columns and (name, columns) != (FIRST_SEEN, PRODUCT_COLUMNS):
            table.add(Severity.WARNING, f"has the surplus column {name}.", "It is never read: drop it.", name)


def apply_rules(table: Table, rules: list[Rule], time: pl.Expr | None) -> None:
    """Evaluate all rules in one pass: number of bad rows and the first of them; then fetch that row to show it."""
    row = pl.col("_row")
    wanted = [pl.len().alias("rows")]
    if time is not None:
        wanted += [time.min().alias("first"), time.max().alias("last")]
    for number, rule in enumerate(rules):
        bad = pl.lit(False) if rule.bad is None else rule.bad.fill_null(False)
        wanted += [bad.sum().alias(f"bad{number}"), pl.when(bad).then(row).min().alias(f"at{number}")]
    scan = pl.scan_parquet(table.path, row_index_name="_row")
    seen = scan.select(wanted).collect(engine="streaming").row(0, named=True)
    table.rows, table.first, table.last = seen["rows"], seen.get("first"), seen.get("last")
    for number, rule in enumerate(rules):
        count, at = seen[f"bad{number}"], seen[f"at{number}"]
        if count:
            value = scan.select(rule.column).slice(at, 1).collect().item()
            what = f"{count} rows of {rule.column} {rule.says}; the first is row {at}: {shorten(value)}."
            table.add(rule.severity, what, rule.remedy, f"{rule.column}, row {at}")
            if rule.column == "timestamp" and value is not None:
                table.broken.add("timestamp")  # typed scans stop at such a row


def shorten(value: object, width: int = 80) -> str:
    """repr of a value, cut to `width` characters."""
    text = repr(value.to_list() if isinstance(value, pl.Series) else value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def check_span(events: dict[EventType, Table]) -> Iterable[Finding]:
    """Is the history long enough to be split, and does anything lie after the last purchase?"""
    end = events[EventType.BUY].last
    firsts = [table.first for table in events.values() if table.first is not None]
    if end is None:
        return
    start = Split.from_end(end).train_start
    if min(firsts) >= start:
        what = f"The events span {min(firsts)} … {end}: nothing lies before the cut {start}."
        yield Finding(Severity.ERROR, what, "all event files", "A history must be longer than the 28 target days.")
    late = [table for table in events.values() if table.last is not None and table.last > end]
    if late:
        latest = max(table.last for table in late if table.last is not None)
        what = f"There are events after the last purchase {end}, up to {latest}."
        remedy = "The split ends at the last purchase and ignores them."
        yield Finding(Severity.INFO, what, ", ".join(table.path.name for table in late), remedy)


def check_duplicates(table: Table, columns: tuple[str, ...]) -> list[Finding]:
    """Share of exact duplicate rows, exact for the clients looked at."""
    part = -(-table.rows // SAMPLE_ROWS)
    rows = pl.scan_parquet(table.path).select(columns)
    if part > 1:
        rows = rows.filter(pl.col("client_id").hash(seed=0) % part == 0)
    looked = rows.group_by(columns).len().select(pl.col("len").sum(), distinct=pl.len()).collect(engine="streaming")
    total, distinct = looked.row(0)
    if not total or total == distinct:
        return []
    sample = f" (among one client in {part})" if part > 1 else ""
    what = f"{1 - distinct / total:.1%} of the rows are exact duplicates of another{sample}."
    remedy = "Normal: 16 % of the official purchases are. They are kept, as the organisers' code keeps them."
    return [Finding(Severity.INFO, what, table.path.name, remedy)]


def check_products(products: Table, events: dict[EventType, Table]) -> list[Finding]:
    """Duplicate skus, one constant category, and events whose sku has no properties."""
    found = Table(products.path)
    scan, schema = scan_table(products.path, ("sku",))
    skus = scan.select(pl.col("sku").cast(pl.Int64)).group_by("sku").len().collect(engine="streaming")
    double = skus.filter(pl.col("len") > 1)["sku"].sort()
    if len(double):
        what = f"{len(double)} skus have more than one row: {double.head(EXAMPLES).to_list()}."
        found.add(Severity.ERROR, what, "Keep one row per sku.", "sku")
    if "category" in schema and products.rows:
        kinds = pl.scan_parquet(products.path).select(pl.col("category").n_unique()).collect(engine="streaming").item()
        if kinds == 1:
            found.add(Severity.INFO, "has one constant category.", "The category task is not defined here.", "category")
    for kind, table in events.items():
        bought = pl.scan_parquet(table.path).select(pl.col("sku").cast(pl.Int64)).group_by("sku").len()
        lost = bought.join(skus.lazy(), on="sku", how="anti").sort("sku").collect(engine="streaming")
        if lost.height:
            what = f"{lost['len'].sum()} rows name {lost.height} skus without properties: {lost['sku'].head(EXAMPLES).to_list()}."
            severity = Severity.ERROR if kind is EventType.BUY else Severity.WARNING
            remedy = f"Add them to {products.path.name} or drop these rows; the organisers' code stops at them."
            found.findings.append(Finding(severity, what, f"{table.path.name} sku", remedy))
    return found.findings
