"""The parquet reader: files of one glob are widened where no value changes, else the offender is named."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from shop_files import sources

from kit.data.convert.footer import rows_stated
from kit.data.convert.read import Sources
from kit.errors import KitError

WHEN = dt.datetime(2024, 1, 2, 3, 4, 5, 678_000)
UTC = dt.UTC


def opened(tmp_path: Path, *users: pl.Series, work: str = "work", column: str = "user") -> Sources:
    """Sources over one file per series: a.parquet, b.parquet, … with the series as one column."""
    (tmp_path / "src").mkdir(exist_ok=True)
    for name, values in zip("abcdef", users, strict=False):
        rest = {"user": pl.lit(1), "product": pl.lit("p"), "when": pl.lit("t"), "file": pl.lit(name)}
        frame = pl.DataFrame({column: values}).with_columns(**{k: v for k, v in rest.items() if k != column})
        frame.write_parquet(tmp_path / "src" / f"{name}.parquet")
    return sources(tmp_path, {}, path="*.parquet", work=work)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (pl.Series([1], dtype=pl.Int64), pl.Series([2], dtype=pl.Int32), pl.Series([1, 2])),
        (pl.Series([1], dtype=pl.UInt8), pl.Series([-2], dtype=pl.Int8), pl.Series([1, -2])),
        (pl.Series([1], dtype=pl.UInt64), pl.Series([-2], dtype=pl.Int64), pl.Series([1, -2])),
        (pl.Series([17850]), pl.Series([17850.0, None]), pl.Series([17850.0, 17850.0, None])),
        (pl.Series([1]), pl.Series([None, None], dtype=pl.Null), pl.Series([1, None, None])),
        (pl.Series([17850]), pl.Series(["A-1"]), pl.Series(["17850", "A-1"])),
        (pl.Series(["a"], dtype=pl.Categorical), pl.Series(["b"]), pl.Series(["a", "b"])),
        (pl.Series(["a"], dtype=pl.Enum(["a"])), pl.Series(["b"], dtype=pl.Categorical), pl.Series(["a", "b"])),
        (pl.Series([Decimal("1.50")]), pl.Series([Decimal("2.125")]), pl.Series([Decimal("1.500"), Decimal("2.125")])),
        (pl.Series([b"x"], dtype=pl.Binary), pl.Series(["y"]), pl.Series(["x", "y"])),
        (
            pl.Series([WHEN], dtype=pl.Datetime("us")),
            pl.Series([WHEN], dtype=pl.Datetime("ns")),
            pl.Series([WHEN, WHEN], dtype=pl.Datetime("us")),
        ),
        (
            pl.Series([WHEN], dtype=pl.Datetime("ms")),
            pl.Series([WHEN.date()]),
            pl.Series([WHEN, dt.datetime(2024, 1, 2)], dtype=pl.Datetime("us")),
        ),
        (
            pl.Series([WHEN], dtype=pl.Datetime("us", "UTC")),
            pl.Series([WHEN], dtype=pl.Datetime("ms", "UTC")).dt.convert_time_zone("Asia/Tokyo"),
            pl.Series([WHEN, WHEN], dtype=pl.Datetime("us", "UTC")),
        ),
    ],
)
def test_types_are_widened_where_no_value_changes(
    tmp_path: Path, first: pl.Series, second: pl.Series, expected: pl.Series
) -> None:
    for work, pair in (("work", (first, second)), ("again", (second, first))):
        sourced = opened(tmp_path, *pair, work=work)
        found = sourced["log"].collect()
        order = expected if pair[0] is first else expected[len(first) :].append(expected[: len(first)])
        assert found["user"].dtype == expected.dtype
        assert found["user"].to_list() == order.to_list()
        assert found["_file"].to_list() == [0] * len(pair[0]) + [1] * len(pair[1])
        assert found["_record"].to_list() == [*range(1, len(pair[0]) + 1), *range(1, len(pair[1]) + 1)]


@pytest.mark.parametrize(
    ("usual", "odd"),
    [
        (pl.Series([2**60]), pl.Series([1.5])),
        (pl.Series([-5]), pl.Series([2**63], dtype=pl.UInt64)),
        (pl.Series([1.5]), pl.Series(["x"])),
        (pl.Series([True]), pl.Series([1])),
        (pl.Series([WHEN], dtype=pl.Datetime("us")), pl.Series([WHEN], dtype=pl.Datetime("us", "UTC"))),
        (pl.Series([WHEN], dtype=pl.Datetime("us")), pl.Series([5])),
    ],
)
def test_what_no_type_holds_is_refused_with_the_file(tmp_path: Path, usual: pl.Series, odd: pl.Series) -> None:
    with pytest.raises(KitError) as caught:
        opened(tmp_path, usual, odd, usual)
    assert f"b.parquet has column 'user' as {odd.dtype}, but a.parquet has it as {usual.dtype}" in str(caught.value)


def test_columns_that_are_not_wanted_do_not_matter(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1], "product": ["p"], "when": ["t"]})
    (tmp_path / "src").mkdir()
    frame.write_parquet(tmp_path / "src" / "a.parquet")
    frame.with_columns(more=pl.lit(WHEN), list=[[1]]).select("more", "list", "when", "user", "product").write_parquet(
        tmp_path / "src" / "b.parquet"
    )
    sourced = sources(tmp_path, {}, path="*.parquet")
    assert sourced["log"].collect().rows() == [(1, "p", "t", 0, 1), (1, "p", "t", 1, 1)]
    assert sourced.place("log", 1, 1) == "b.parquet row 1"
    frame.drop("product").write_parquet(tmp_path / "src" / "c.parquet")
    with pytest.raises(KitError, match=r"item wants column 'product' of c\.parquet, which has \['user', 'when'\]"):
        sources(tmp_path, {}, path="*.parquet", work="two")


@pytest.mark.parametrize("kind", [pl.List(pl.Int64), pl.Struct({"x": pl.Int64})])
def test_a_column_of_lists_or_objects_is_refused(tmp_path: Path, kind: pl.DataType) -> None:
    with pytest.raises(KitError, match=r"Column 'user' of a\.parquet is of type (List|Struct)"):
        opened(tmp_path, pl.Series([None], dtype=kind))


@pytest.mark.parametrize(("unit", "stamp"), [("us", 2**62), ("ms", -(2**60)), ("ms", 253_402_300_800_000)])
def test_times_beyond_the_calendar_are_refused(tmp_path: Path, unit: str, stamp: int) -> None:
    good = pl.Series([0, 1]).cast(pl.Datetime(unit))
    with pytest.raises(KitError, match=rf"Column 'user' of b\.parquet .* holds the number {stamp}, a time beyond"):
        opened(tmp_path, good, pl.Series([0, stamp, None]).cast(pl.Datetime(unit)))


@pytest.mark.parametrize("damage", ["cut", "head", "half", "byte"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    good = pl.Series(range(5000))
    opened(tmp_path, good, good + 1)
    path = tmp_path / "src" / "b.parquet"
    whole = path.read_bytes()
    broken = {"cut": whole[:-5], "head": whole[:40], "half": whole[: len(whole) // 2] + whole[-8:]}
    page = whole.index(b"\x28\xb5\x2f\xfd")  # the first page is a zstd frame
    broken["byte"] = whole[: page + 4] + b"\xff\xff\xff\xff" + whole[page + 8 :]
    path.write_bytes(broken[damage])
    with pytest.raises(KitError, match=r"b\.parquet cannot be read as parquet .*cut short or damaged"):
        sources(tmp_path, {}, path="*.parquet", work="two")


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    opened(tmp_path, pl.Series([1]))
    (tmp_path / "src" / "b.parquet").write_text("user,product,when\n1,p,t\n")
    with pytest.raises(KitError, match=r"b\.parquet is no parquet file: it does not begin with PAR1"):
        sources(tmp_path, {}, path="*.parquet", work="two")


@pytest.mark.parametrize(("rows", "group"), [(0, 10), (1, 10), (1000, 7), (300, 300)])
def test_the_footer_states_the_rows(tmp_path: Path, rows: int, group: int) -> None:
    frame = pl.DataFrame(
        {"n": range(rows), "d": [0.5] * rows, "t": [WHEN] * rows, "l": [[1, 2]] * rows, "b": [True] * rows}
    )
    frame.write_parquet(tmp_path / "x.parquet", row_group_size=group)
    assert rows_stated(tmp_path / "x.parquet") == rows


def test_a_footer_that_states_other_rows_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.data.convert.read_parquet.rows_stated", lambda path: 7)
    with pytest.raises(KitError, match=r"a\.parquet holds 7 records, but 2 were read"):
        opened(tmp_path, pl.Series([1, 2]))


def test_equal_files_are_refused(tmp_path: Path) -> None:
    opened(tmp_path, pl.Series([1, 2]))
    (tmp_path / "src" / "copy.parquet").write_bytes((tmp_path / "src" / "a.parquet").read_bytes())
    with pytest.raises(KitError, match=r"a\.parquet and copy\.parquet hold the same bytes"):
        sources(tmp_path, {}, path="*.parquet", work="two")
