"""The contract checked where it is used: `split`, `submit` and `score` refuse what `kit data check` calls an error.

One source of truth: what is refused is a finding of `kit data check`, word for word. Looking through a file costs a streaming
pass, once per content: the store remembers what was found under the digest of the file's bytes, so a later look costs reading a
small JSON file. Where the store cannot be written the pass is made again, which costs time and no more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from kit.challenge import PRODUCT_COLUMNS, EventType
from kit.data.layout import DataFolder
from kit.data.scan import columns_of
from kit.data.table import CheckedTable, check_table
from kit.data.times import latest_year
from kit.errors import Finding, KitError, Severity
from kit.fingerprint import code_of
from kit.store import Store, digest, write_json

ROOM = "contract"
"""Folder of the store that remembers what was found."""


def inspect(path: Path, columns: tuple[str, ...], store: Store) -> CheckedTable:
    """`check_table`, remembered by the file's content."""
    if not path.exists():
        return check_table(path, columns)
    key = [store.file_digest(path), CheckedTable(path).name, columns, latest_year(), code_of(CheckedTable).digest]
    memory = store.root / ROOM / f"{digest(key)[:16]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        return CheckedTable.from_json(path, json.loads(memory.read_text(encoding="utf-8")))
    table = check_table(path, columns)
    if table.whole:
        with suppress(OSError, KitError):
            write_json(memory, table.as_json())
    return table


def inspect_raw(folder: DataFolder, store: Store) -> tuple[dict[EventType, CheckedTable], CheckedTable]:
    """The five raw event files and the products."""
    events = {kind: inspect(folder.raw(kind), columns_of(kind), store) for kind in EventType}
    return events, inspect(folder.products, PRODUCT_COLUMNS, store)


def require(findings: Iterable[Finding], root: Path) -> None:
    """KitError of the first error among findings, in the words of `kit data check`."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return
    first, more = errors[0], len(errors) - 1
    others = f" {more} more: `kit data check {root}` lists them all." if more else ""
    raise KitError(f"{first.where}: {first.what}", f"{first.remedy}{others}")


def event_findings(folder: DataFolder, files: dict[EventType, Path], store: Store) -> Iterator[Finding]:
    """What `kit data check` says about the event files and products that a History reads, and about the age of the input."""
    for kind, path in files.items():
        yield from (inspect(path, columns_of(kind), store).findings if path.exists() else [missing(folder, path)])
    yield from inspect(folder.products, PRODUCT_COLUMNS, store).findings
    if any(path.parent.name == "input" for path in files.values()):
        yield from stale(folder, store, "input")


def missing(folder: DataFolder, path: Path) -> Finding:
    """An event file is not there, though others of its folder are."""
    if path.parent.name == "input":
        what, where = "is missing although the folder is split.", f"input/{path.name}"
        return Finding(Severity.ERROR, what, where, f"Run `kit data split {folder.root}` again.")
    return check_table(path, ()).findings[0]


def stale(folder: DataFolder, store: Store, room: str) -> Iterator[Finding]:
    """Files of `input` or `target` that the split made from other bytes than the raw files hold now.

    Nothing where the split has no record of them, or where the raw file is gone.
    """
    recorded = folder.sources()
    made = {folder.input(kind): [folder.raw(kind)] for kind in EventType}
    if room == "target":
        ours = folder.made()
        windows = [folder.window(name) for name in ("train", "validation")]
        sources = [folder.raw(EventType.BUY), folder.products]
        made = {path: sources for path in windows if f"target/{path.name}" in ours}
    for path, sources in made.items():
        changed = _changed(sources, recorded, store) if path.exists() else []
        if changed:
            what = f"was made from another {' and another '.join(changed)} than lies here now: the split is stale."
            yield Finding(Severity.ERROR, what, f"{room}/{path.name}", f"Run `kit data split {folder.root}` again.")


def _changed(sources: Sequence[Path], recorded: dict[str, str], store: Store) -> list[str]:
    return [
        path.name
        for path in sources
        if path.name in recorded and path.exists() and store.file_digest(path) != recorded[path.name]
    ]
