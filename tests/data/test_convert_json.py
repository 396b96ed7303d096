"""The jsonl reader: any valid JSON lines, every digit kept; a broken line is named."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from shop_files import lines, rows, sources

from kit.data.convert import stream
from kit.data.convert.mapping import Mapping
from kit.data.convert.read import Sources
from kit.errors import KitError


def event(user: object = 1, product: object = "a", when: object = "t") -> dict[str, object]:
    return {"user": user, "product": product, "when": when}


def column(tmp_path: Path, *values: object, work: str = "work") -> pl.Series:
    """`product` as read from events that hold the values."""
    data = lines(*(event(product=value) for value in values))
    return sources(tmp_path, {"log.jsonl": data}, path="*.jsonl", work=work)["log"].collect()["product"]


@pytest.mark.parametrize("chunk", [100, 1 << 20])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([*[5] * 1200, 5.5], pl.Series([*[5.0] * 1200, 5.5])),
        ([5, 2**62], pl.Series([5, 2**62])),
        ([2**53 + 1, 5.5, 7], pl.Series(["9007199254740993", "5.5", "7"])),
        ([5, "x", None, 2**70], pl.Series(["5", "x", None, str(2**70)])),
        ([2**64, 1], pl.Series([str(2**64), "1"])),
        ([True, False, None], pl.Series([True, False, None])),
        ([True, 1, "x"], pl.Series(["true", "1", "x"])),
        (["é \U0001f600", '"', ""], pl.Series(["é \U0001f600", '"', ""])),
        ([*[None] * 50, "late"], pl.Series([*[None] * 50, "late"])),
    ],
)
def test_values_of_several_types_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, values: list[object], expected: pl.Series
) -> None:
    """In one block and in many, so that the types of blocks must be brought together."""
    monkeypatch.setattr(stream, "CHUNK", chunk)
    found = column(tmp_path, *values)
    assert found.dtype == expected.dtype
    assert found.to_list() == expected.to_list()


def test_a_late_key_is_found_and_a_missing_one_is_null(tmp_path: Path) -> None:
    objects = [{"user": n, "when": "t"} for n in range(1500)]
    opened = sources(tmp_path, {"log.jsonl": lines(*objects, event(2))}, path="*.jsonl")
    frame = opened["log"].collect()
    assert frame["product"].to_list() == [None] * 1500 + ["a"]
    with pytest.raises(KitError, match=r"item wants column 'product' of log\.jsonl, which has \['user', 'when'\]"):
        sources(tmp_path, {"log.jsonl": lines(*objects)}, path="*.jsonl", work="two")


def test_blank_lines_marks_and_ends_of_lines_do_not_matter(tmp_path: Path) -> None:
    data = "\ufeff\n" + lines(event(1)) + "\n \r\n" + json.dumps(event(2)) + "\r\n" + json.dumps(event(3))
    opened = sources(tmp_path, {"log.jsonl": data}, path="*.jsonl")
    assert [user for user, *_ in rows(opened)] == [1, 2, 3]
    assert [opened.line_of("log", 0, record) for record in (1, 2, 3)] == [2, 5, 6]
    assert opened.counts("log")[0].blank == 3


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"user": 1', "no JSON .Expecting"),
        ('{"user": 1} {"user": 2}', "no JSON .Extra data at character 13"),
        ("[1, 2]", "no object but a list of numbers"),
        ('"text"', "no object but text"),
        ("null", "no object but null"),
        ('{"user": {"id": 1}, "product": "a", "when": "t"}', "'user' holds an object"),
        ('{"user": [1], "product": "a", "when": "t"}', "'user' holds a list"),
        ('{"user": "\\ud83d", "product": "a", "when": "t"}', "half of a surrogate pair"),
        ('{"user": "\x00", "product": "a", "when": "t"}', "NUL byte"),
        ("[" * 100_000, "no JSON that can be read"),
        ("{'user': 1}", "no JSON"),
    ],
)
def test_a_broken_line_is_named_or_left_out(tmp_path: Path, line: str, why: str) -> None:
    files = {"a.jsonl": lines(event(1)), "b.jsonl": lines(event(2)) + "\n" + line + "\n" + lines(event(3))}
    with pytest.raises(KitError, match=rf"b\.jsonl line 3 cannot be read: .*{why}.*unreadable = .leave out"):
        sources(tmp_path, files, path="*.jsonl")
    opened = sources(tmp_path, files, 'unreadable = "leave out"', path="*.jsonl", work="two")
    assert [str(user) for user, *_ in rows(opened)] == ["1", "2", "3"]
    assert [(count.records, count.read, count.unreadable_total) for count in opened.counts("log")] == [
        (1, 1, 0),
        (3, 2, 1),
    ]
    assert opened["log"].collect()["_record"].to_list() == [1, 1, 3]


@pytest.mark.parametrize("data", ["\n", " \n\r\n", "\ufeff"])
def test_blank_lines_alone_are_no_log(tmp_path: Path, data: str) -> None:
    with pytest.raises(KitError, match=r"b\.jsonl holds nothing but blank lines"):
        sources(tmp_path, {"a.jsonl": lines(event()), "b.jsonl": data}, path="*.jsonl")


def test_an_array_is_no_lines(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"one JSON array, not one object per line.*jq"):
        sources(tmp_path, {"log.jsonl": json.dumps([event()], indent=1)}, path="*.jsonl")


def exploded(tmp_path: Path, *objects: object, work: str = "work") -> Sources:
    mapping = {
        "files": {"log": {"path": "log.jsonl", "explode": "events"}},
        "log": {"client": "user", "item": "product", "time": {"column": "when"}},
        "tables": {"product_buy": {}},
    }
    (tmp_path / "log.jsonl").write_text(lines(*objects))
    (tmp_path / work).mkdir()
    return Sources(Mapping.model_validate(mapping), tmp_path, tmp_path / work)


@pytest.mark.parametrize("odd", [[], [{"user": 9, "events": [{"product": 5.5, "when": True}]}]])
def test_lists_become_rows_and_records_stay_lines(tmp_path: Path, odd: list[object]) -> None:
    """By Polars, and with an odd object by Python."""
    objects = [
        {"user": 1, "events": [{"product": 1, "when": "t1"}, {"product": 2, "when": "t2"}]},
        {"user": 2, "events": []},
        {"user": 3},
        {"user": 4, "events": [{"product": 3, "when": "t3"}]},
    ]
    opened = exploded(tmp_path, *objects, *odd)
    frame = opened["log"].collect()
    assert [(user, float(product), when, record) for user, product, when, _, record in frame.rows()][:3] == [
        (1, 1, "t1", 1),
        (1, 2, "t2", 1),
        (4, 3, "t3", 4),
    ]
    (count,) = opened.counts("log")
    assert (count.records, count.read, count.rows) == (4 + len(odd), 4 + len(odd), 3 + len(odd))


def test_what_cannot_be_exploded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"explodes column 'events' of log\.jsonl, which has .'product', 'user', 'when'"):
        exploded(tmp_path, event())
    with pytest.raises(KitError, match=r"line 2 cannot be read: 'events' holds a list of numbers"):
        exploded(tmp_path, {"user": 1, "events": [event()]}, {"user": 1, "events": [1]}, work="two")
    both = {"user": 1, "events": [event(user=2)]}
    with pytest.raises(KitError, match="has 'user' both beside and within 'events'"):
        exploded(tmp_path, both, work="three")


def test_nan_is_missing_whatever_stands_beside_it(tmp_path: Path) -> None:
    """Python writes a gap in a column of numbers as NaN."""
    assert column(tmp_path, float("nan"), 2**60, "x").to_list() == [None, str(2**60), "x"]


@pytest.mark.parametrize(
    "other", ['{"user": 2, "product": "b", "when": "t"}', '{"user": NaN, "product": "b", "when": "t"}']
)
def test_a_key_that_comes_twice_is_refused(tmp_path: Path, other: str) -> None:
    """Whichever reader takes the lines: one would keep the first value, the other the last."""
    data = other + '\n{"user": 1, "product": "a", "product": "b", "when": "t"}\n'
    with pytest.raises(KitError, match=r"line 2 cannot be read: the key 'product' comes twice"):
        sources(tmp_path, {"log.jsonl": data}, path="*.jsonl")
