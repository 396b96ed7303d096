"""What a cell says, against readings written by hand."""

from __future__ import annotations

import re
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.data.convert.normal import SPACES, cell, number, number_remedy, read_number, unread, whole


def oracle(text: str, mark: str | None) -> float | None:
    """A number in text, read character by character: slow, and written without looking at the expressions."""
    sign, rest = (text[0], text[1:]) if text[:1] in ("+", "-") and text[:1] else ("+", text)
    exponent = "0"
    found = re.search("[eE]", rest)
    if found:
        rest, exponent = rest[: found.start()], rest[found.end() :]
        if not exponent.lstrip("+-").isdigit() or exponent.lstrip("+-") != exponent[-len(exponent.lstrip("+-")) :]:
            return None
        if len(exponent) - len(exponent.lstrip("+-")) > 1:
            return None
    point = mark or "."
    if rest.count(point) > 1:
        return None
    integer, _, fraction = rest.partition(point)
    if fraction and not all(c in "0123456789" for c in fraction):
        return None
    if not integer and not fraction:
        return None
    if mark is not None:
        for part in {",", ".", " ", "\u00a0", "\u2009", "\u202f", "'", "\u2019"} - {mark}:
            groups = integer.split(part)
            if (
                len(groups) > 1
                and 1 <= len(groups[0]) <= 3
                and groups[0][0] != "0"
                and all(len(group) == 3 for group in groups[1:])
            ):
                integer = "".join(groups)
                break
    if not all(c in "0123456789" for c in integer):
        return None
    value = float(f"{sign}{integer or '0'}.{fraction or '0'}e{exponent}")
    return value if abs(value) != float("inf") else None


@settings(max_examples=400, deadline=None)
@given(st.text("0123456789.,' eE+-\u00a0", min_size=1, max_size=9), st.sampled_from([None, ".", ","]))
def test_numbers_in_text_are_read_as_by_hand(text: str, mark: str | None) -> None:
    text = text.strip(SPACES)
    assert read_number(text, mark) == (oracle(text, mark) if text else None), (text, mark)  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([".", ","]))
def test_what_python_prints_is_read_back(value: float, mark: str) -> None:
    assert read_number(repr(value), None) == value
    text = f"{value:,.2f}" if abs(value) < 1e15 else repr(value)
    if abs(value) < 1e15:
        swapped = text.translate(str.maketrans(",.", ".,")) if mark == "," else text
        assert read_number(swapped, mark) == float(f"{value:.2f}")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "mark", "value"),
    [
        ("12.50", None, 12.5),
        ("12.50", ",", None),  # was 1250
        ("1.854,00", ".", None),  # was 1.854
        ("1.854,00", ",", 1854),
        ("1,854.00", ".", 1854),
        ("1,854", None, None),
        ("1,854", ".", 1854),
        ("1,854", ",", 1.854),
        ("1,85", ".", None),
        ("0,123", ".", None),  # no thousands begin with nothing
        ("0.123", ",", None),
        ("1,8540", ".", None),
        ("1234,567", ".", None),
        ("1,234,567.5", ".", 1234567.5),
        ("1,234.567,5", ".", None),
        ("1 234 567,5", ",", 1234567.5),
        ("1\u202f234,5", ",", 1234.5),
        ("1'234.5", ".", 1234.5),
        ("1.234'567", ",", None),
        ("-5", None, -5),
        ("+5", None, 5),
        ("1e3", None, 1000),
        ("1E+03", ".", 1000),
        (".5", None, 0.5),
        ("5.", None, 5),
        ("€5", None, None),
        ("5 %", None, None),
        ("0x10", None, None),
        ("1_000", None, None),
        ("inf", None, None),
        ("1e999", None, None),
        ("\u0665", None, None),  # a digit elsewhere
        ("--5", None, None),
    ],
)
def test_numbers_in_text(text: str, mark: str | None, value: float | None) -> None:
    assert read_number(text, mark) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "tried", "says"),
    [
        ("12.50", ",", '`decimal = "."` reads it as 12.5'),
        ("1.854,00", ".", '`decimal = ","` reads it as 1,854'),
        ("1,299.00", None, '`decimal = "."` reads it as 1,299'),
        ("1,299", None, '`decimal = "."` reads it as 1,299 and `decimal = ","` reads it as 1.299'),
        ("NULL", None, "`null = ['NULL']`"),
        ("12 EUR", None, "`extract`"),
    ],
)
def test_the_remedy_names_the_setting_that_reads_it(text: str, tried: str | None, says: str) -> None:
    assert says in number_remedy(text, tried)  # type: ignore[arg-type]


def cells(values: pl.Series, null: tuple[str, ...] = ()) -> list[str | None]:
    frame = values.alias("x").to_frame()
    return frame.select(cell("x", values.dtype, null)).to_series().to_list()


def test_cells_of_every_type_have_one_spelling() -> None:
    assert cells(pl.Series([1.0, float("nan"), None, 2.5, -3.0, -0.0])) == ["1", None, None, "2.5", "-3", "0"]
    assert cells(pl.Series([" 12", "12\u00a0", "\ufeff12", "\u200b", "", None])) == ["12", "12", "12", None, None, None]
    assert cells(pl.Series([" a ", "b"], dtype=pl.Categorical)) == ["a", "b"]
    assert cells(pl.Series([" a ", "b"], dtype=pl.Enum([" a ", "b"]))) == ["a", "b"]
    assert cells(pl.Series([Decimal("12.00"), Decimal("1.50")])) == ["12", "1.50"]
    assert cells(pl.Series([True, False, None])) == ["true", "false", None]
    assert cells(pl.Series([2**63 + 1], dtype=pl.UInt64)) == [str(2**63 + 1)]
    assert cells(pl.Series(["NULL", " NULL ", "null", "x"]), ("NULL",)) == [None, None, "null", "x"]
    assert cells(pl.Series([-1, 0, 1]), ("-1",)) == [None, "0", "1"]
    assert cells(pl.Series(["017", "17", "17.0", "1.50"])) == ["017", "17", "17.0", "1.50"]


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab0.\u00a0 \t\u200b\ufeffé-"), max_size=6))
def test_cells_are_stripped_and_nothing_else(text: str) -> None:
    """The oracle peels one character at a time."""
    left = text
    while left and left[0] in SPACES:
        left = left[1:]
    while left and left[-1] in SPACES:
        left = left[:-1]
    assert cells(pl.Series([text], dtype=pl.String)) == [left or None]


def test_every_unicode_space_is_stripped() -> None:
    spaces = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and chr(code).isspace()]
    assert [space for space in spaces if space not in SPACES] == []


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789.-", max_size=6))
def test_only_whole_numbers_lose_their_point(text: str) -> None:
    folded = pl.select(whole(pl.lit(text, pl.String))).item()
    digits, point, zeros = text.partition(".")
    plain = digits.removeprefix("-")
    canonical = plain.isascii() and plain.isdigit() and str(int(plain)) == plain
    expected = digits if point and zeros and set(zeros) == {"0"} and canonical else text
    assert folded == expected


@pytest.mark.parametrize("dtype", [pl.Float64(), pl.Float32()])
def test_nan_is_missing_and_not_unread(dtype: pl.DataType) -> None:
    frame = pl.DataFrame({"x": pl.Series([1.0, float("nan"), None], dtype=dtype)})
    assert frame.select(number("x", dtype, None)).to_series().to_list() == [1.0, None, None]
    text = pl.DataFrame({"x": ["NaN", "nan", "", None, "soon", "1"]})
    stated, value = cell("x", pl.String()), number("x", pl.String(), None)
    assert text.select(unread(stated, value).fill_null(False)).to_series().to_list() == [False] * 4 + [True, False]
