"""What a stage needs, from numbers that are known before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kit.challenge import SKU_EVENTS, EventType

SAFETY = 1.25
"""The one factor on all estimates of memory. Formulas count arrays; allocators keep more than arrays need (freed pieces of
other sizes, growing buffers). Measured in `tests/limits/test_measured.py`, which holds every stage's true peak against it."""
START = 150_000_000
"""Bytes that a stage takes whatever its size: libraries that load when first used, threads, buffers that files are read through.
Measured on the tiny shop (18 to 63 MB) and in scans of files with large row groups (140 to 180 MB)."""
URLS_PER_VISIT = 12.7 / 156
"""Of the challenge's final phase: 12.7 M urls, 156 M visits."""


@dataclass(frozen=True)
class Counts:
    """How much there is, known without reading the tables.

    Attributes:
        clients: relevant clients.
        products: rows of the catalogue.
        rows: per table, rows of everybody.
        events: per table, rows of the relevant clients before the cut: exact once the tables are prepared, else estimated
            from a sample of each file.
        stored: bytes of the event files.
        targets: published targets (categories and skus).
        visited: entry k is the number of urls with more than k visits by relevant clients; empty before the tables are prepared.
    """

    clients: int
    products: int
    rows: Mapping[EventType, int]
    events: Mapping[EventType, int]
    stored: Mapping[EventType, int]
    targets: tuple[int, int]
    visited: tuple[int, ...] = ()

    def urls(self, least: int) -> int:
        """Urls with at least `least` visits by relevant clients: counted once the tables are prepared (thresholds beyond
        what was counted take the last), before that as many per visit as in the challenge's data."""
        if self.visited:
            return self.visited[min(max(least, 1), len(self.visited)) - 1]
        return min(self.visits // max(least, 1), round(self.visits * URLS_PER_VISIT))

    @property
    def visits(self) -> int:
        """Page visits of the relevant clients."""
        return self.events[EventType.VISIT]

    @property
    def touches(self) -> int:
        """Purchases, cart adds and removals of the relevant clients."""
        return sum(self.events[kind] for kind in SKU_EVENTS)

    @property
    def searches(self) -> int:
        """Searches of the relevant clients."""
        return self.events[EventType.SEARCH]

    @property
    def all_events(self) -> int:
        """Events of the relevant clients."""
        return sum(self.events.values())

    def share(self, clients: int) -> Counts:
        """The same for that many of the clients, with their share of the events."""
        part = min(clients / max(self.clients, 1), 1.0)
        events = {kind: round(count * part) for kind, count in self.events.items()}
        return replace(self, clients=min(clients, self.clients), events=events)


@dataclass(frozen=True)
class Need:
    """An estimate for one stage.

    Attributes:
        memory: most bytes at one time beyond what the program takes by itself, if nothing limits it.
        floor: the same with pieces as small and as much in files as the stage can; equal to `memory` if it has no knob.
        disk: bytes that it leaves in the store.
        width: columns of its output, 0 if it is no block.
        helps: the setting that lowers the floor.
    """

    memory: int
    floor: int
    disk: int
    width: int = 0
    helps: str = ""


def matrix(rows: int, columns: float, size: int = 4) -> int:
    """Bytes of an array."""
    return int(rows * columns * size)
