"""Times of every form: read to the microsecond, or refused with the setting that reads them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from own_shop import LOG_HEADER, converted, rows

from kit.challenge import EventType
from kit.data.check import check_folder
from kit.data.scan import scan_events
from kit.errors import KitError

BUY = EventType.BUY
WHEN = '{ column = "when" }'


def times(root: Path) -> list[object]:
    return [row[1] for row in rows(root, BUY)]


def log(*when: str) -> str:
    """A csv log with these times; items count from 0."""
    return "\n".join([LOG_HEADER, *(f'1,{at},"{each}",,' for at, each in enumerate(when))])


def read(root: Path, *when: str, time: str = WHEN, more: str = "") -> list[str]:
    """Times in text through a conversion, as ISO text."""
    out = converted(root, log(*when), more, (WHEN, time))
    return [str(value) for value in times(out)]


def refused(root: Path, text: str, time: str = WHEN) -> str:
    with pytest.raises(KitError) as caught:
        read(root, text, time=time)
    assert not (root / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00"),
        ("2024-01-01T10:00:00", "2024-01-01 10:00:00"),
        ("2024-01-01 10:00:00.25", "2024-01-01 10:00:00.250000"),
        ("2024-01-01 10:00:00,25", "2024-01-01 10:00:00.250000"),
        ("2024-01-01 10:00", "2024-01-01 10:00:00"),
        ("2024-01-01", "2024-01-01 00:00:00"),
        (" 2024-01-01 10:00:00\u00a0", "2024-01-01 10:00:00"),
        ("2024-01-01T00:00:00Z", "2024-01-01 00:00:00"),
        ("2024-01-01T00:00:00.125Z", "2024-01-01 00:00:00.125000"),
        ("2024-01-01T00:00:00+01:00", "2023-12-31 23:00:00"),
        ("2024-01-01T00:00:00-0130", "2024-01-01 01:30:00"),
        ("2024-01-01 00:00:00 +02", "2023-12-31 22:00:00"),
        ("2024-01-01 00:00+01:00", "2023-12-31 23:00:00"),
        ("2024-01-01 00:00:00 UTC", "2024-01-01 00:00:00"),
    ],
)
def test_iso_8601_is_read_without_being_told(tmp_path: Path, text: str, moment: str) -> None:
    assert read(tmp_path, text) == [moment]


@pytest.mark.parametrize(
    ("form", "text", "moment"),
    [
        ("%Y-%m-%dT%H:%M:%S%z", "2024-01-01T00:00:00Z", "2024-01-01 00:00:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "2024-01-01T00:00:00+0100", "2023-12-31 23:00:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "2024-01-01T00:00:00+01:00", "2023-12-31 23:00:00"),
        ("%Y-%m-%dT%H:%M:%S%#z", "2024-01-01T00:00:00+01", "2023-12-31 23:00:00"),
        ("%Y-%m-%dT%H:%M:%S%:z", "2024-01-01T00:00:00-01:00", "2024-01-01 01:00:00"),
        ("%Y-%m-%dT%H:%M:%S%.f%z", "2024-01-01T00:00:00.5Z", "2024-01-01 00:00:00.500000"),
        ("%Y-%m-%d %H:%M:%S.%f", "2024-01-01 00:00:00.123", "2024-01-01 00:00:00.123000"),
        ("%Y-%m-%d %H:%M:%S%.f", "2024-01-01 00:00:00", "2024-01-01 00:00:00"),
        ("%Y-%m-%d %H:%M:%S,%3f", "2024-01-01 00:00:00,123", "2024-01-01 00:00:00.123000"),
        ("%d/%m/%Y %I:%M %p", "31/12/2023 4:05 PM", "2023-12-31 16:05:00"),
        ("%d %b %Y %H:%M", "03 Feb 2024 10:00", "2024-02-03 10:00:00"),
        ("%Y%m%d", "20240102", "2024-01-02 00:00:00"),
        ("%s", "1704067200", "2024-01-01 00:00:00"),
    ],
)
def test_formats_that_work(tmp_path: Path, form: str, text: str, moment: str) -> None:
    assert read(tmp_path, text, time=f'{{ column = "when", format = "{form}" }}') == [moment]


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("%Y-%m-%d %H:%M:%S %Z", "%Z .* use %z for offsets"),
        ("%Y-%m-%d %H:%M:%S,%f", "%f .* %3f for three digits"),
        ("%H:%M:%S", "(loses the day|cannot use)"),
        ("%d.%m.%Y %H", "specify both hour and minute"),
        ("%Y-%m-%d %I:%M", "12-hour directive"),
        ("%Y-%m-%d %Q", "%Q .* is not read"),
        ("%Y-%m", "loses the day"),
        ("yyyy-mm-dd", "no directive"),
        ("%Y-%m-%d %", "begins no directive"),
    ],
)
def test_formats_that_do_not_work_are_refused_by_name(tmp_path: Path, form: str, says: str) -> None:
    assert re.search(says, refused(tmp_path, "2024-01-01", f'{{ column = "when", format = "{form}" }}'))


@pytest.mark.parametrize(
    ("unit", "text", "moment"),
    [
        ("s", "1704082841", "2024-01-01 04:20:41"),
        ("s", "1704082841.0", "2024-01-01 04:20:41"),
        ("s", "1704082841.25", "2024-01-01 04:20:41.250000"),
        ("s", "1704082841.", "2024-01-01 04:20:41"),
        ("ms", "1704082841123", "2024-01-01 04:20:41.123000"),
        ("us", "1704082841123456", "2024-01-01 04:20:41.123456"),
        ("us", "1704082841123456.0", "2024-01-01 04:20:41.123456"),
        ("ns", "1704082841123456789", "2024-01-01 04:20:41.123456"),
    ],
)
@pytest.mark.parametrize("kind", ["text", "number", "category"])
def test_units(tmp_path: Path, unit: str, text: str, moment: str, kind: str) -> None:
    time = f'{{ column = "when", unit = "{unit}" }}'
    if kind == "text":
        assert read(tmp_path, text, time=time) == [moment]
        return
    number = float(text) if "." in text else int(text)
    column = pl.Series([number]) if kind == "number" else pl.Series([text], dtype=pl.Categorical)
    frame = pl.DataFrame({"user": [1], "product": [1], "when": column})
    assert [str(value) for value in times(converted(tmp_path, frame, "", (WHEN, time)))] == [moment]


@pytest.mark.parametrize("kind", ["text", "integer", "float"])
@pytest.mark.parametrize("tried", ["s", "ms", "us", "ns", None])
@pytest.mark.parametrize(
    ("number", "fits"),
    [(1704067200, "s"), (1704067200000, "ms"), (1704067200 * 10**6, "us"), (1704067200 * 10**9, "ns")],
)
def test_a_wrong_unit_is_told_the_right_one(
    tmp_path: Path, kind: str, tried: str | None, number: int, fits: str
) -> None:
    """Before, the year 55969 was written, or the reader panicked."""
    if tried == fits:
        return
    time = WHEN if tried is None else f'{{ column = "when", unit = "{tried}" }}'
    cells = {"text": [str(number)], "integer": [number], "float": [float(number)]}[kind]
    frame = pl.DataFrame({"user": [1], "product": [1], "when": cells})
    with pytest.raises(KitError) as caught:
        converted(tmp_path, frame, "", (WHEN, time))
    assert f'Say `unit = "{fits}"`' in str(caught.value)
    assert "2024-01-01 00:00:00" in str(caught.value)
    assert "log.parquet" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "time", "says"),
    [
        ("31/12/2023 4:05 PM", WHEN, 'Say `format = "%d/%m/%Y %I:%M %p"`.'),
        ("03/02/2024 10:00", WHEN, '"%d/%m/%Y %H:%M"` or `format = "%m/%d/%Y %H:%M"`, whichever'),
        ("2024-01-01T10:00:00Z", '{ column = "when", format = "%d.%m.%Y" }', "Leave `format` out: it is ISO 8601"),
        ("2024-01-01T10:00:00Z", '{ column = "when", unit = "s" }', "Leave `unit` out: it is ISO 8601"),
        ("20240102", WHEN, 'Say `format = "%Y%m%d"`'),
        ("20240102101112", WHEN, 'Say `format = "%Y%m%d%H%M%S"`'),
        ("0024-01-01", WHEN, "before 1971 or after next year"),
        ("9999-12-31", WHEN, "null = ['9999-12-31']"),
        ("0", '{ column = "when", unit = "s" }', "null = ['0']"),
        ("soon", WHEN, "Say `format` as they are written"),
        ("1.7e9", '{ column = "when", unit = "s" }', "an exponent has lost the last digits"),
        ("1,704,067,200", '{ column = "when", unit = "s" }', "without marks between its digits"),
        ("45292.5", WHEN, "a spreadsheet's number of a day"),
        ("20240102T101112Z", WHEN, '"%Y%m%dT%H%M%S%z"'),
        ("31/01/24 10:00", WHEN, '"%d/%m/%y %H:%M"'),
        ("2024-13-01", WHEN, "cannot be read"),
    ],
)
def test_a_time_that_cannot_be_right_is_told_what_would_read_it(
    tmp_path: Path, text: str, time: str, says: str
) -> None:
    message = refused(tmp_path, text, time)
    assert says in message
    assert "log.csv line 2" in message
    assert repr(text) in message


def test_the_remedy_never_repeats_what_was_tried(tmp_path: Path) -> None:
    time = '{ column = "when", format = "%d.%m.%Y %H:%M:%S%.f" }'
    message = refused(tmp_path, "31.12.2023 10:00", time)
    assert "%d.%m.%Y %H:%M" in message.split("Say")[1]
    assert "%d.%m.%Y %H:%M:%S%.f" not in message.split("Say")[1]


@pytest.mark.parametrize("cells", [[20240102], [20240102.0, None], ["20240102.0"]])
def test_days_as_numbers_are_read_by_their_format(tmp_path: Path, cells: list[object]) -> None:
    frame = pl.DataFrame({"user": [1] * len(cells), "product": [1] * len(cells), "when": cells})
    assert times(converted(tmp_path, frame, "", (WHEN, '{ column = "when", format = "%Y%m%d" }'))) == [
        "2024-01-02 00:00:00"
    ]


def test_times_of_32_bits_are_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1], "product": [1], "when": pl.Series([1704067200.0], dtype=pl.Float32)})
    with pytest.raises(KitError, match="is Float32"):
        converted(tmp_path, frame, "", (WHEN, '{ column = "when", unit = "s" }'))


def test_offsets_in_some_rows_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"1 value in column 'when' with an offset from UTC.*line 3"):
        read(tmp_path, "2024-01-01 10:00:00", "2024-01-01 10:00:00+01:00")


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_datetime_columns_keep_what_they_say(tmp_path: Path, unit: str, zone: str | None) -> None:
    moment = datetime(2024, 1, 1, 10, 0, 0, 250_000)
    column = pl.Series([moment]).dt.cast_time_unit(unit).dt.replace_time_zone(zone)
    out = converted(tmp_path, pl.DataFrame({"user": [1], "product": [1], "when": column}))
    assert times(out) == [moment - timedelta(hours=int(zone is not None))]


def test_an_implausible_datetime_column_is_refused(tmp_path: Path) -> None:
    column = pl.Series([1704067200]).cast(pl.Datetime("ms"))  # seconds that somebody took for milliseconds
    with pytest.raises(KitError, match="before 1971 or after next year, such as '1970-01-20"):
        converted(tmp_path, pl.DataFrame({"user": [1], "product": [1], "when": column}))


def test_milliseconds_survive_and_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """30 → 10, 400 ms apart, became 10 → 30; so did equal times."""
    lines = [LOG_HEADER, "1,30,1704067200100,,", "1,10,1704067200500,,", "1,9,1704067200500,,"]
    out = converted(tmp_path, "\n".join(lines), "", (WHEN, '{ column = "when", unit = "ms" }'))
    assert [row[2] for row in rows(out, BUY)] == [30, 10, 9]
    assert [value.microsecond for value in times(out)] == [100_000, 500_000, 500_000]  # type: ignore[attr-defined]
    assert scan_events(out / "product_buy.parquet", BUY).collect()["timestamp"].dt.microsecond().to_list() == [
        100_000,
        500_000,
        500_000,
    ]
    assert not [finding for finding in check_folder(out) if "timestamp" in finding.where]


def test_whole_seconds_are_written_as_the_challenge_has_them(tmp_path: Path) -> None:
    assert times(converted(tmp_path, log("2024-01-01T10:00:00Z"))) == ["2024-01-01 10:00:00"]


@pytest.mark.parametrize(
    ("visit", "warned"),
    [
        ('{ column = "action", unit = "s" }', True),
        ('{ column = "action", unit = "s", zone = "Europe/Berlin" }', True),
        ('{ column = "when" }', False),
    ],
)
def test_tables_of_different_clocks_are_warned_of(
    tmp_path: Path, visit: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    log_of_two = f"{LOG_HEADER}\nu,p,2024-01-01 10:00:00,,1704103200\n"
    converted(tmp_path, log_of_two, f'[tables.page_visit]\nitem = "product"\ntime = {visit}\n')
    said = capsys.readouterr().err
    assert ("different clocks (product_buy as written, without a zone; page_visit " in said) == warned


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("NULL", "null = ['NULL']"),
        ("NaT", "null = ['NaT']"),
        ("01/Jan/2024:10:00:00 +0100", '`format = "%d/%b/%Y:%H:%M:%S %z"`'),
    ],
)
def test_what_is_no_iso_8601_is_told_its_remedy(tmp_path: Path, text: str, says: str) -> None:
    assert says in refused(tmp_path, text)


def test_a_readable_time_is_not_told_to_be_read_otherwise(tmp_path: Path) -> None:
    assert "format" not in refused(tmp_path, "1950-01-01 10:00:00")
