"""Typed scans: every accepted form on disk gives the same values; what cannot be read is named."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.challenge import CODES, EventType
from kit.data.rules import CODES_PATTERN
from kit.data.scan import CODE_ARRAY, TIME, codes_expr, empty_events, reading, scan_events, scan_products
from kit.errors import KitError

CODE_LISTS = st.lists(st.integers(0, 255), min_size=CODES, max_size=CODES)
SPACES = st.lists(st.sampled_from([" ", "  ", "\n ", ", ", "\t"]), min_size=CODES - 1, max_size=CODES - 1)


@given(codes=CODE_LISTS, spaces=SPACES, brackets=st.booleans())
def test_codes_with_any_spacing(codes: list[int], spaces: list[str], brackets: bool) -> None:
    text = str(codes[0]) + "".join(space + str(code) for space, code in zip(spaces, codes[1:], strict=True))
    text = f"[ {text}]" if brackets else text
    frame = pl.DataFrame({"query": [text]})
    parsed = frame.select(codes_expr(pl.String(), "query"))["query"]
    assert parsed.dtype == CODE_ARRAY
    assert parsed[0].to_list() == codes
    assert frame.select(pl.col("query").str.contains(CODES_PATTERN)).item()


@given(codes=st.lists(st.integers(0, 400), min_size=14, max_size=18))
def test_the_checker_accepts_exactly_what_the_reader_reads(codes: list[int]) -> None:
    frame = pl.DataFrame({"query": [" ".join(map(str, codes))]})
    sound = len(codes) == CODES and max(codes) <= 255
    assert frame.select(pl.col("query").str.contains(CODES_PATTERN)).item() is sound
    if sound:
        frame.select(codes_expr(pl.String(), "query"))
    else:
        with pytest.raises(pl.exceptions.PolarsError):
            frame.select(codes_expr(pl.String(), "query"))


@pytest.mark.parametrize("unit", ["text", "ms", "us", "ns", "zone"])
def test_timestamps_of_any_form(tmp_path: Path, unit: str) -> None:
    time = pl.Series("timestamp", ["2022-06-23 01:02:03"])
    if unit != "text":
        time = time.str.to_datetime(time_unit="us" if unit == "zone" else unit)  # type: ignore[arg-type]
    if unit == "zone":
        time = time.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Warsaw")
    path = tmp_path / "page_visit.parquet"
    pl.DataFrame(
        {"client_id": pl.Series([1], dtype=pl.Int32), "timestamp": time, "url": [9], "more": [0]}
    ).write_parquet(path)
    frame = scan_events(path, EventType.VISIT).collect()
    assert frame.schema == {"client_id": pl.Int64, "timestamp": TIME, "url": pl.Int64}
    assert frame.row(0) == (1, datetime(2022, 6, 23, 1, 2, 3), 9)


@pytest.mark.parametrize("kind", list(EventType))
@pytest.mark.parametrize("as_text", [True, False])
def test_empty_tables_are_typed(tmp_path: Path, kind: EventType, as_text: bool) -> None:
    path = tmp_path / f"{kind.value}.parquet"
    text = dict.fromkeys(("timestamp", "query"), pl.String())
    empty = empty_events(kind).collect()
    schema = {name: text.get(name, dtype) if as_text else dtype for name, dtype in empty.schema.items()}
    pl.DataFrame(schema=schema).write_parquet(path)
    assert scan_events(path, kind).collect().schema == empty.schema


def test_products_without_a_category_column_have_one_category(tmp_path: Path) -> None:
    path = tmp_path / "product_properties.parquet"
    codes = " ".join(map(str, range(CODES)))
    pl.DataFrame({"sku": [4, 5], "price": [1, 2], "name": [codes, codes]}).write_parquet(path)
    frame = scan_products(path).collect()
    assert frame.columns == ["sku", "category", "price", "name"]
    assert frame["category"].to_list() == [0, 0]
    assert scan_products(path, parse_codes=False).collect()["name"].to_list() == [codes, codes]


def test_unreadable_things_are_named(tmp_path: Path) -> None:
    path = tmp_path / "shop" / "input" / "product_buy.parquet"
    path.parent.mkdir(parents=True)
    with pytest.raises(KitError, match=r"product_buy.parquet is missing"):
        scan_events(path, EventType.BUY)
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(KitError, match="cannot be read as parquet"):
        scan_events(path, EventType.BUY)
    pl.DataFrame({"client_id": [1], "timestamp": ["yesterday"]}).write_parquet(path)
    with pytest.raises(KitError, match=r"lacks the columns \['sku'\]; it has \['client_id', 'timestamp'\]"):
        scan_events(path, EventType.BUY)
    pl.DataFrame({"client_id": [1], "timestamp": ["yesterday"], "sku": [3]}).write_parquet(path)
    with pytest.raises(KitError, match="rows that cannot be read") as caught, reading(path):
        scan_events(path, EventType.BUY).collect()
    assert f"kit data check {tmp_path / 'shop'}`" in caught.value.remedy
