"""Rules say yes, no, or that they cannot tell; what they cannot tell is never a no."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from own_shop import LOG_HEADER, account, converted, rows
from pydantic import ValidationError

from kit.challenge import EventType
from kit.data.convert.mapping import Keep
from kit.data.convert.rules import passes, verdict, words_of
from kit.errors import KitError


def says(
    rule: dict[str, object], cells: list[object] | pl.Series, dtype: pl.DataType | None = None
) -> list[bool | None]:
    """What a rule on column x says of each cell."""
    frame = pl.DataFrame({"x": cells if isinstance(cells, pl.Series) else pl.Series(cells, dtype=dtype, strict=False)})
    keep = Keep.model_validate({"column": "x", **rule})
    return frame.select(verdict(keep, frame.schema["x"])).to_series().to_list()


NAN = float("nan")


@pytest.mark.parametrize(
    ("rule", "cells", "expected"),
    [
        ({"above": 0}, ["1", "0", "-1", "", None, "NaN", "1,299.00", "x"], [True, False, False, False, False, False, None, None]),
        ({"above": 0, "decimal": "."}, ["1,299.00", "1.299,00"], [True, None]),
        ({"above": 0}, [1.0, NAN, None, -1.0], [True, False, False, False]),
        ({"below": 5}, [NAN, 1.0], [False, True]),
        ({"at_least": 1, "at_most": 2}, ["1", "2", "3", "0.5"], [True, True, False, False]),
        ({"not_null": True}, [1.0, NAN, None], [True, False, False]),
        ({"not_null": True}, [" ", "\u00a0", "a", ""], [False, False, True, False]),
        ({"equals": "buy"}, ["buy", " buy ", "BUY", None], [True, True, False, False]),
        ({"equals": " buy"}, ["buy"], [True]),
        ({"equals": "buy", "ignore_case": True}, ["buy", "BUY", "Buy!"], [True, True, False]),
        ({"one_of": ["A", "b"], "ignore_case": True}, ["a", "B", "c"], [True, True, False]),
        ({"none_of": ["test"]}, ["test", "real", None], [False, True, True]),
        ({"matches": "^bu", "ignore_case": True}, ["BUY", "sell"], [True, False]),
        ({"matches_not": "^C"}, ["C1", "1", None], [False, True, True]),
        ({"equals": "17850"}, ["17850.0", "17850", "017850", " 17850"], [True, True, False, True]),
        ({"equals": "17850.0"}, ["17850"], [True]),
        ({"equals": "17850"}, [17850.0, 1.0], [True, False]),
        ({"equals": "1.50"}, [1.5, 2.0], [True, False]),
        ({"equals": "017"}, ["17"], [False]),
        ({"equals": 1}, ["1", "1.0", "01", "2", "a", ""], [True, True, True, False, None, False]),
        ({"one_of": [1, 2]}, [1, 2, 3], [True, True, False]),
        ({"equals": True}, [True, False, None], [True, False, False]),
        ({"equals": 0.1}, pl.Series([0.1, 0.2], dtype=pl.Float32), [True, False]),
        ({"equals": "0.10"}, pl.Series([0.1, 0.2], dtype=pl.Float32), [True, False]),
        ({"at_most": 0.1}, pl.Series([0.1, 0.2], dtype=pl.Float32), [True, False]),
        ({"above": 0.1}, pl.Series([0.1, 0.2], dtype=pl.Float32), [False, True]),
        ({"equals": True}, ["true", "True", "no"], [True, True, False]),
        ({"equals": True}, [1, 0], [True, False]),
        ({"equals": False}, [1, 0], [False, True]),
    ],
)  # fmt: skip
def test_what_a_rule_says(
    rule: dict[str, object], cells: list[object] | pl.Series, expected: list[bool | None]
) -> None:
    assert says(rule, cells) == expected


def test_a_rule_that_cannot_tell_matters_only_where_no_other_turns_the_row_away() -> None:
    frame = pl.DataFrame({"price": ["n/a", "n/a", "5"], "did": ["view", "buy", "buy"]})
    rules = [Keep(column="price", above=0), Keep(column="did", equals="buy")]
    assert frame.select(passes(rules, frame.schema)).to_series().to_list() == [False, None, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"column": "x"},
        {"column": "x", "decimal": ","},
        {"column": "x", "not_null": False},
        {"column": "x", "ignore_case": True},
        {"column": "x", "equals": 2**53},
        {"column": "x", "matches": "("},
    ],
)
def test_rules_without_a_meaning_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Keep.model_validate(wrong)


def test_rules_in_words() -> None:
    assert words_of(Keep(column="price", above=0, decimal=",")) == "price above 0"
    assert words_of(Keep(column="did", one_of=["a"], ignore_case=True)) == "did one_of ['a'], ignore_case"


PRICES = f'{LOG_HEADER}\nu1,p,2024-01-01,999.00,\nu2,p,2024-01-01,"1,299.00",\nu3,p,2024-01-01,"2,499.00",'


def test_a_price_that_cannot_be_read_is_not_below_the_bound(tmp_path: Path) -> None:
    with pytest.raises(KitError) as caught:
        converted(tmp_path, PRICES, 'keep = [{ column = "price", above = 0 }]\n')
    for part in (
        "'price'",
        "'1,299.00'",
        "log.csv line 3",
        "price above 0",
        "2 such rows",
        '`decimal = "."` reads it as 1,299',
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "change"),
    [
        ('keep = [{ column = "price", above = 0, decimal = "." }]\n', ("", "")),
        ('keep = [{ column = "price", above = 0 }]\n', ('path = "log.csv"', 'path = "log.csv"\ndecimal = "."')),
    ],
)
def test_the_setting_it_names_reads_it(tmp_path: Path, more: str, change: tuple[str, str]) -> None:
    assert len(rows(converted(tmp_path, PRICES, more, change), EventType.BUY)) == 3


def test_a_price_of_a_row_that_another_rule_leaves_out_need_not_be_read(tmp_path: Path) -> None:
    log = f"{LOG_HEADER}\nu1,p,2024-01-01,n/a,view\nu2,p,2024-01-01,5,buy"
    rules = 'keep = [{ column = "price", above = 0 }, { column = "action", equals = "buy" }]\n'
    out = converted(tmp_path, log, rules)
    assert account(out)["files"][0]["tables"][0]["left_out"] == {"price above 0": 0, "action equals 'buy'": 1}


def test_the_decimal_mark_of_a_price_is_that_of_its_rules(tmp_path: Path) -> None:
    log = f'{LOG_HEADER}\nu1,a,2024-01-01,"1.854,00",\nu2,b,2024-01-01,"12,50",\nu3,c,2024-01-01,"0,00",'
    price = '[products.price]\ncolumn = "price"\ndecimal = ","\nkeep = [{ column = "price", above = 0 }]\n'
    out = converted(tmp_path, log, price)
    assert pl.read_parquet(out / "product_properties.parquet")["price"].to_list() == [99, 0, 49]  # c has the median


@pytest.mark.parametrize(("mark", "text", "says"), [(",", "12.50", '"."'), (".", "1.854,00", '","')])
def test_a_thousands_mark_has_three_digits_after_it(tmp_path: Path, mark: str, text: str, says: str) -> None:
    log = f'{LOG_HEADER}\nu1,a,2024-01-01,"{text}",'
    with pytest.raises(KitError, match=re.escape(f"decimal = {mark!r}, such as {text!r} (log.csv line 2)")) as caught:
        converted(tmp_path, log, f'[products]\nprice = {{ column = "price", decimal = "{mark}" }}\n')
    assert f"`decimal = {says}` reads it as" in str(caught.value)
