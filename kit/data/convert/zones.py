"""UTC → a shop's wall clock, in an order that no change of clocks turns.

In autumn an hour comes twice: 02:40 summer time is before 02:10 winter time, and a log sorted by the wall clock would have it the
other way round. Both hours share the one on the clock here: the first takes its first half, the second its second half. Every
event stays in its hour of its day, at most half an hour off, and in its place. In spring nothing turns: an hour is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl


@dataclass(frozen=True)
class Repeat:
    """A stretch of the wall clock that comes twice: in UTC from `start` for twice `length`; `wall` is where it begins there."""

    start: datetime
    length: timedelta
    wall: datetime

    @property
    def stop(self) -> datetime:
        """Its end in UTC."""
        return self.start + 2 * self.length


def repeats(zone: str, first: datetime, last: datetime) -> list[Repeat]:
    """The stretches that come twice between two moments in UTC, in order."""
    found: list[Repeat] = []
    day = datetime(first.year, first.month, first.day) - timedelta(days=2)
    while day <= last + timedelta(days=2):
        after = day + timedelta(days=1)
        lost = _offset(zone, day) - _offset(zone, after)
        if lost > timedelta(0):
            change = _change(zone, day, after)
            start = change - lost
            found.append(Repeat(start, lost, start + _offset(zone, start)))
        day = after
    return [repeat for repeat in found if repeat.start <= last and repeat.stop > first]


def wall_clock(utc: pl.Expr, zone: str, twice: list[Repeat]) -> pl.Expr:
    """Datetime("us") in UTC → the wall clock of `zone`; never decreasing in `utc`."""
    wall = utc.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    for repeat in twice:
        inside = (utc >= repeat.start) & (utc < repeat.stop)
        shared = pl.lit(repeat.wall, pl.Datetime("us")) + pl.duration(
            microseconds=(utc - pl.lit(repeat.start, pl.Datetime("us"))).dt.total_microseconds() // 2
        )
        wall = pl.when(inside).then(shared).otherwise(wall)
    return wall


def _offset(zone: str, utc: datetime) -> timedelta:
    offset = utc.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset()
    return offset if offset is not None else timedelta(0)


def _change(zone: str, low: datetime, high: datetime) -> datetime:
    """The moment in (low, high], to the second, from which on the offset is that at `high`."""
    before = _offset(zone, low)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
    return high
