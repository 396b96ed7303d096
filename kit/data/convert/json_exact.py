"""The slow, exact reader of JSON lines: Python's, which keeps every digit and names the line that is broken."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from kit.data.convert.counts import Unreadable
from kit.data.convert.csv_exact import odd_bytes
from kit.data.convert.widen import EXACT

_REMEDY = "Mend or delete the line."


class _BadLine(Exception):
    """A line that holds no readable object: why, and the remedy."""


@dataclass
class ParsedJson:
    """What a text's lines held: per wanted key its values, row by row.

    Attributes:
        values: wanted key → values, None where an object lacks it.
        numbers: which record of the text a row comes from, from 0; with `explode` several rows may share one.
        lines: the line that is, from 0.
        read: records that were read.
        unreadable: the others; their lines from 0 as well.
        outer: keys of the objects.
        inner: keys of the exploded objects.
    """

    values: dict[str, list[Any]]
    numbers: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    read: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    outer: set[str] = field(default_factory=set)
    inner: set[str] = field(default_factory=set)


def parse_json(text: str, wanted: Sequence[str], explode: str | None) -> ParsedJson:
    """Reads one object per line; blank lines are none.

    Args:
        text: undecodable bytes in it are surrogates (`surrogateescape`).
        wanted: keys to keep.
        explode: a key that holds lists of objects; each of these becomes a row.
    """
    parsed = ParsedJson({name: [] for name in wanted})
    record = -1
    for at, line in enumerate(text.split("\n")):
        if not line.strip(" \t\r"):
            continue
        record += 1
        try:
            rows = _rows(line, wanted, explode, parsed)
        except _BadLine as bad:
            parsed.unreadable.append(Unreadable(at, *bad.args))
            continue
        parsed.read += 1
        for row in rows:
            for name, value in zip(wanted, row, strict=True):
                parsed.values[name].append(value)
            parsed.numbers.append(record)
            parsed.lines.append(at)
    return parsed


def _rows(line: str, wanted: Sequence[str], explode: str | None, parsed: ParsedJson) -> list[list[Any]]:
    """The rows of one line."""
    if odd := odd_bytes(line):
        raise _BadLine(*odd)
    try:
        held = json.loads(line, object_pairs_hook=lambda pairs: _once(pairs, wanted))
    except json.JSONDecodeError as error:
        raise _BadLine(f"it is no JSON ({error.msg} at character {error.pos + 1})", _REMEDY) from error
    except (RecursionError, ValueError) as error:  # thousands of brackets, or of digits
        raise _BadLine(f"it is no JSON that can be read ({error})", _REMEDY) from error
    if not isinstance(held, dict):
        raise _BadLine(f"it is no object but {_what(held)}", _REMEDY)
    parsed.outer |= held.keys()
    if explode is None:
        return [[_value(held, name) for name in wanted]]
    listed = held.get(explode)
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(each is None or isinstance(each, dict) for each in listed):
        raise _BadLine(f"{explode!r} holds {_what(listed)}", "`explode` takes a key that holds lists of objects.")
    rows = []
    for each in listed:
        parsed.inner |= (each or {}).keys()
        rows.append([_value(each if each and name in each else held, name) for name in wanted])
    return rows


def _once(pairs: list[tuple[str, Any]], wanted: Sequence[str]) -> dict[str, Any]:
    """The object of these pairs; a key that is wanted and comes twice says two things."""
    held = dict(pairs)
    if len(held) < len(pairs):
        keys = [key for key, _ in pairs]
        if twice := next((key for key in wanted if keys.count(key) > 1), None):
            raise _BadLine(f"the key {twice!r} comes twice in one object", "Mend the line: which of the two holds?")
    return held


def _value(held: dict[str, Any], name: str) -> Any:  # noqa: ANN401
    value = held.get(name)
    if isinstance(value, float) and math.isnan(value):  # Python writes what is missing in a column of numbers as NaN
        return None
    if isinstance(value, dict | list):
        raise _BadLine(
            f"{name!r} holds {_what(value)}", "A list of objects becomes rows by `explode`; name a plain key."
        )
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _BadLine(f"{name!r} holds half of a surrogate pair, which is no character", _REMEDY) from error
    return value


def _what(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    if isinstance(value, list) and value and not isinstance(value[0], dict):
        return f"a list of {_what(value[0]).removeprefix('a ').removeprefix('an ')}s"
    return names.get(type(value), "null")


def series(name: str, values: Sequence[Any]) -> pl.Series:
    """Values of one key in the type that holds them all exactly; text where none does."""
    kinds = {type(value) for value in values} - {type(None)}
    whole = [value for value in values if type(value) is int]
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in whole):
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds and kinds <= {int, float} and float in kinds and all(abs(value) < EXACT for value in whole):
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    return pl.Series(name, [_text(value) for value in values], dtype=pl.String)


def _text(value: str | float | bool | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)
