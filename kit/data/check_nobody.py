"""Clients that are nobody: NULL, nan, None, 0 or -1, where a shop wrote something in place of an id it did not have."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.own_ids import id_file
from kit.errors import Finding, Severity

NAMES = frozenset(
    ["null", "nan", "none", "nil", "na", "n/a", "<na>", "\\n", "undefined", "unknown", "0", "-1", "0.0", "-1.0"]
)
"""What stands in for a missing id, in lower case."""
NUMBERS = (0, -1)
"""The same where ids are numbers."""
SHARE = 0.01
"""Of all events: no client of a shop has that many in earnest, and a small shop is only warned."""


def check_nobody(folder: DataFolder, sound: list[EventType]) -> Iterator[Finding]:
    """A warning for each such client with more than SHARE of all events.

    Args:
        folder: the data folder; its list of the shop's own ids is looked at, if there is one.
        sound: event tables whose clients can be read.
    """
    paths = [folder.raw(kind) for kind in sound]
    frames = [pl.scan_parquet(path).select(pl.col("client_id").cast(pl.Int64)) for path in paths if path.exists()]
    if not frames:
        return
    names = _suspects(folder)
    events = pl.concat(frames)
    total = events.select(pl.len()).collect(engine="streaming").item()
    found = events.filter(pl.col("client_id").is_in(list(names))).group_by("client_id").len()
    for client, count in found.sort("client_id").collect(engine="streaming").rows():
        if count > SHARE * total:
            name = names[client]
            called = f"{name!r} (id {client})" if id_file(folder.root).exists() else name
            yield Finding(
                Severity.WARNING,
                f"The client {called} holds {count:,} of {total:,} events ({count / total:.1%}): it may stand for no client.",
                "client_id",
                f'Convert again with `null = ["{name}"]` at the top of the mapping, or leave these rows out: '
                f'`keep = [{{ column = "…", none_of = ["{name}"] }}]`.',
            )


def _suspects(folder: DataFolder) -> dict[int, str]:
    """Id → what the shop calls it, for ids that may be nobody's."""
    path = id_file(folder.root)
    if not path.exists():
        return {number: str(number) for number in NUMBERS}
    listed = pl.scan_parquet(path).filter(pl.col("own").str.strip_chars().str.to_lowercase().is_in(list(NAMES)))
    return dict(listed.select("id", "own").collect().rows())
