"""`kit data check`: everything that is wrong with a folder, at once, each finding with its remedy.

Every event file is read in one streaming pass over all its columns; two more passes over single columns look for exact
duplicates (on a sample of clients where a file is large) and for skus and clients without a counterpart. Memory is bounded
by the numbers of distinct skus and relevant clients, never by the number of events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import polars as pl

from kit.challenge import SKU_EVENTS, TARGET_DAYS, EventType
from kit.data.check_nobody import check_nobody
from kit.data.check_split import check_clients, check_split
from kit.data.contract import inspect_raw
from kit.data.layout import DataFolder, Split
from kit.data.scan import columns_of, product_names, scan_events, scan_products, scan_table
from kit.data.table import UNREADABLE, CheckedTable
from kit.errors import Finding, KitError, Severity
from kit.store import Store

SAMPLE_ROWS = 4_000_000
"""Exact duplicates are counted on about this many rows: all events of one client in so many."""
EXAMPLES = 3


def check_folder(root: Path, store: Store | None = None) -> list[Finding]:
    """All findings about the folder at `root`: errors first, then warnings, then what is merely worth knowing.

    Args:
        root: the data folder.
        store: remembers what was found in files; the default store if None.

    Raises:
        KitError: `root` is not a folder (there is nothing to check).
    """
    if not root.is_dir():
        raise KitError(f"There is no data folder {str(root)!r}.", "Make one with `kit data synth DIR`.")
    folder, store = DataFolder(root), store or Store()
    events, _ = inspect_raw(folder, store)
    findings = list(check_raw(folder, store))
    for kind, table in events.items():
        if not table.broken & set(columns_of(kind)):
            findings += guarded(check_duplicates(table, columns_of(kind)), table.name)
    usable = [kind for kind, table in events.items() if "client_id" not in table.broken]
    findings += guarded(check_nobody(folder, usable), "client_id")
    findings += guarded(check_clients(folder, usable), "input/relevant_clients.npy")
    whole = [kind for kind, table in events.items() if not table.broken]
    findings += guarded(check_split(folder, whole, store), "target/")
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def check_raw(folder: DataFolder, store: Store, days: int | None = None) -> Iterator[Finding]:
    """Findings about the raw files alone: whatever is an error among them keeps the folder from being split.

    Args:
        folder: the data folder.
        store: remembers what was found in files.
        days: length of the target windows that it is to be split into; None for what it has, else the challenge's.
    """
    events, products = inspect_raw(folder, store)
    length = window_days(folder) if days is None else days
    for table in (*events.values(), products):
        yield from table.findings
    yield from guarded(check_span(folder, events, length), "all event files")
    if not products.broken & {"sku", "category", "price", "name"}:
        usable = {kind: events[kind] for kind in SKU_EVENTS if not events[kind].broken}
        yield from guarded(check_products(folder, products, usable, length), products.name)


def guarded(findings: Iterable[Finding], where: str) -> Iterator[Finding]:
    """The findings, and one more where a file is too damaged for the check to go on."""
    try:
        yield from findings
    except KitError as error:
        yield Finding(Severity.ERROR, error.what, where, error.remedy)
    except UNREADABLE as error:
        first = " ".join(str(error).strip().splitlines()[:1])
        yield Finding(Severity.ERROR, f"cannot be read ({first}).", where, "Copy it again, or split the folder again.")


def keeps_windows(folder: DataFolder) -> bool:
    """Whether both target windows came with the folder, as the official archive's do: they are kept."""
    ours = folder.made()
    windows = [folder.window(name) for name in ("train", "validation")]
    return all(path.exists() and f"target/{path.name}" not in ours for path in windows)


def window_days(folder: DataFolder) -> int:
    """Length of the target windows that the folder was split into, else the challenge's."""
    try:
        return Split.read(folder.split_file).days if folder.split_file.exists() else TARGET_DAYS
    except KitError:  # what is wrong with it is `check_split`'s to say
        return TARGET_DAYS


def train_start(folder: DataFolder, end: datetime | None, days: int) -> datetime | None:
    """The cut of the split that the folder has or would get; None without a purchase."""
    if keeps_windows(folder):
        return folder.split().train_start
    return None if end is None else Split.from_end(end, days).train_start


def check_span(folder: DataFolder, events: dict[EventType, CheckedTable], days: int) -> Iterator[Finding]:
    """Is the history long enough to be split, and does anything lie after the last purchase?"""
    end = events[EventType.BUY].last
    firsts = [table.first for table in events.values() if table.first is not None]
    start = train_start(folder, end, days)
    if end is None or start is None:
        return
    if min(firsts) >= start:
        what = f"The events span {min(firsts)} … {end}: nothing lies before the cut {start}."
        remedy = f"A history must be longer than the {2 * days} target days; `kit data split --days` makes the windows shorter."
        yield Finding(Severity.ERROR, what, "all event files", remedy)
    late = [table for table in events.values() if table.last is not None and table.last > end]
    if late:
        latest = max(table.last for table in late if table.last is not None)
        what = f"There are events after the last purchase {end}, up to {latest}."
        remedy = "The split ends at the last purchase and ignores them."
        yield Finding(Severity.INFO, what, ", ".join(table.path.name for table in late), remedy)


def check_duplicates(table: CheckedTable, columns: tuple[str, ...]) -> list[Finding]:
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


def check_products(
    folder: DataFolder, products: CheckedTable, events: dict[EventType, CheckedTable], days: int
) -> Iterator[Finding]:
    """Skus listed twice, one constant category, and events whose sku has no properties."""
    yield from check_doubles(products)
    catalogue = scan_products(products.path, parse_codes=False)
    if "category" in scan_table(products.path, ())[1] and products.rows:
        kinds = catalogue.select(pl.col("category").n_unique()).collect(engine="streaming").item()
        if kinds == 1:
            what, remedy = "has one constant category.", "The category task is not defined here."
            yield Finding(Severity.INFO, what, f"{products.name} category", remedy)
    buys = events.get(EventType.BUY)
    start = None if buys is None else train_start(folder, buys.last, days)
    for kind, table in events.items():
        rows = scan_events(table.path, kind)
        lost = rows.join(catalogue.select("sku"), on="sku", how="anti").collect(engine="streaming")
        if lost.is_empty():
            continue
        examples = lost["sku"].unique().sort().head(EXAMPLES).to_list()
        what = f"{lost.height} rows name {lost['sku'].n_unique()} skus without properties: {examples}."
        severity, remedy = Severity.WARNING, "They have no category, price and name, and count as unknown products."
        late = 0 if start is None or kind is not EventType.BUY else lost.filter(pl.col("timestamp") >= start).height
        if late:
            what = f"{what[:-1]}; {late} of them lie in the target windows."
            severity, remedy = Severity.ERROR, f"Add them to {products.path.name} or drop these rows: labels need them."
        yield Finding(severity, what, f"{table.name} sku", remedy)


def check_doubles(products: CheckedTable) -> Iterator[Finding]:
    """Skus with more than one row, whether the rows differ, and which one counts."""
    known = scan_table(products.path, ())[1]
    columns = product_names(known)
    rows = scan_table(products.path, tuple(columns.values()))[0].with_row_index("row")
    twice = rows.select("sku").group_by("sku").len().filter(pl.col("len") > 1).select("sku")
    found = rows.join(twice, on="sku", how="semi").collect(engine="streaming").sort("row")
    if found.is_empty():
        return
    others = [column for name, column in columns.items() if name != "sku"]
    apart = found.group_by("sku").agg(differ=pl.any_horizontal(pl.col(name).n_unique() > 1 for name in others))
    odd = apart.filter("differ")["sku"].sort()
    what = f"{len(apart)} skus have more than one row: {apart['sku'].sort().head(EXAMPLES).to_list()}"
    if odd.is_empty():
        what += "; all rows of a sku are equal."
    else:
        what += (
            f"; the rows of {len(odd)} differ, {'; '.join(_apart(found, sku, others) for sku in odd.head(EXAMPLES))}."
        )
    remedy = "The first row of a sku counts, everywhere. Keep one row each: the organisers' own split doubles their purchases."
    yield Finding(Severity.WARNING, what, f"{products.name} sku", remedy)


def _apart(found: pl.DataFrame, sku: int, columns: list[str]) -> str:
    """How the first two different rows of a sku differ."""
    rows = found.filter(pl.col("sku") == sku)
    first = rows.row(0, named=True)
    second = next(row for row in rows.iter_rows(named=True) if any(row[name] != first[name] for name in columns))
    named = [
        f"{name} {first[name]} and {second[name]}" if name in {"category", "price"} else f"another {name}"
        for name in columns
        if first[name] != second[name]
    ]
    return f"sku {sku} in rows {first['row']} and {second['row']}: {', '.join(named)}"
