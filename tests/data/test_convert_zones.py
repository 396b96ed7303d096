"""The shop's wall clock: right in every hour but the repeated one, and never turned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_shop import LOG_HEADER, converted, rows

from kit.challenge import EventType
from kit.data.convert.zones import repeats, wall_clock


def walls(zone: str, moments: list[datetime]) -> list[datetime]:
    utc = pl.Series(moments, dtype=pl.Datetime("us"))
    return pl.select(wall_clock(pl.lit(utc), zone, repeats(zone, min(moments), max(moments)))).to_series().to_list()


@pytest.mark.parametrize(
    ("zone", "utc", "wall"),
    [
        ("Europe/Berlin", "2024-07-01 10:00", "2024-07-01 12:00:00"),
        ("Europe/Berlin", "2024-10-26 23:59", "2024-10-27 01:59:00"),
        ("Europe/Berlin", "2024-10-27 00:00", "2024-10-27 02:00:00"),
        ("Europe/Berlin", "2024-10-27 00:40", "2024-10-27 02:20:00"),  # 02:40 summer time
        ("Europe/Berlin", "2024-10-27 01:10", "2024-10-27 02:35:00"),  # 02:10 winter time, half an hour later
        ("Europe/Berlin", "2024-10-27 02:00", "2024-10-27 03:00:00"),
        ("Europe/Berlin", "2024-03-31 00:59", "2024-03-31 01:59:00"),
        ("Europe/Berlin", "2024-03-31 01:00", "2024-03-31 03:00:00"),
        ("America/New_York", "2024-11-03 05:30", "2024-11-03 01:15:00"),
        ("America/New_York", "2024-11-03 06:30", "2024-11-03 01:45:00"),
        ("Australia/Lord_Howe", "2024-04-06 14:45", "2024-04-07 01:37:30"),  # put back by half an hour
        ("UTC", "2024-10-27 01:10", "2024-10-27 01:10:00"),
    ],
)
def test_wall_clocks(zone: str, utc: str, wall: str) -> None:
    assert str(walls(zone, [datetime.fromisoformat(utc)])[0]) == wall


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata"]),
    st.lists(st.integers(0, 3 * 366 * 24 * 60), min_size=2, max_size=40),
)
def test_order_is_never_turned_and_hours_are_right(zone: str, minutes: list[int]) -> None:
    """Beside the independent clock of zoneinfo; half of the moments lie around changes of the clocks."""
    start = datetime(2017, 1, 1)
    moments = [start + timedelta(minutes=each) for each in minutes]
    twice = repeats(zone, start, start + timedelta(days=1100))
    moments += [each.start + timedelta(minutes=minute % 130) for each in twice for minute in minutes[:5]]
    moments.sort()
    found = walls(zone, moments)
    assert found == sorted(found)
    for utc, wall in zip(moments, found, strict=True):
        true = utc.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        inside = any(each.start <= utc < each.stop for each in twice)
        assert abs(wall - true) <= (timedelta(minutes=30) if inside else timedelta(0))


def test_a_conversion_says_which_events_share_an_hour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = [LOG_HEADER, "1,30,2024-10-27 00:40:00,,", "1,10,2024-10-27 01:10:00,,", "1,11,2024-10-27 02:00:00,,"]
    out = converted(
        tmp_path, "\n".join(log), "", ('{ column = "when" }', '{ column = "when", zone = "Europe/Berlin" }')
    )
    times = [row[1] for row in rows(out, EventType.BUY)]
    assert times == ["2024-10-27 02:20:00", "2024-10-27 02:35:00", "2024-10-27 03:00:00"]
    assert "product_buy: 2 events where the clocks of Europe/Berlin are put back" in capsys.readouterr().err
