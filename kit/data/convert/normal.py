"""One normaliser: what a cell says, as text and as a number, whatever file and type it comes from.

Ids, operands of rules, prices and order columns all go through here, so that 12, " 12", 12.0 and the text 12 are one thing
wherever they stand, and what is not the same stays apart: 017 is not 17, 1.50 is no whole number, and 12.50 is not 1250.
"""

from __future__ import annotations

import re
from typing import Literal

import polars as pl

Decimal = Literal[".", ","]

SPACES = (
    "".join(chr(code) for code in (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)))
    + "\u2028\u2029\u202f\u205f\u3000"  # the rest of what Unicode calls white space
    + "\u200b\u2060\ufeff"  # of no width, and the byte order mark
)
"""What is stripped from both ends of every cell."""
EXACT = 2**53
"""Whole floats below this are exact; from here on neighbours share a float. For Float32 it is 2 ** 24."""
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
"""A number with a decimal point and no other mark."""
POINT_ZERO = r"^-?(0|[1-9][0-9]*)\.0+$"
"""A whole number as pandas writes it where a column has gaps: 17850.0."""
FRACTION = r"^[+-]?[0-9]*\.[0-9]+$"
"""Digits with a decimal point: unless POINT_ZERO holds too, the point means something."""
MANGLED = r"^[+-]?[0-9](\.[0-9]+)?[eE]\+[0-9]+$"
"""A number as spreadsheets and pandas write it when it is too long: 1.23457E+12, 1e+20. Its last digits are gone."""
NOT_TEXT = (pl.List, pl.Array, pl.Struct, pl.Binary, pl.Object, pl.Time, pl.Duration)
"""Types of columns that have no one spelling as text."""
NOTHING = re.compile(r"(?i)null|none|na|n/a|nan|nat|nil|missing|unknown|undefined|[-–—?.]+|\\n|#n/a|<na>")
"""Words that mostly stand for an empty cell. They are never taken for one without a word: the remedy names `null`."""
_MARKS = {
    ".": (",", " ", "\u00a0", "\u2009", "\u202f", "'", "\u2019"),
    ",": (".", " ", "\u00a0", "\u2009", "\u202f", "'", "\u2019"),
}


def is_text(dtype: pl.DataType) -> bool:
    """Whether cells of this type are text: strings and categories."""
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def cell(column: str, dtype: pl.DataType, null: tuple[str, ...] = ()) -> pl.Expr:
    """A cell as text: stripped; whole floats and decimals as integers; empty, NaN and the words in `null` as null."""
    value = pl.col(column)
    if dtype.is_float():
        near = value.is_finite() & (value == value.round()) & (value.abs() < 2.0**63)
        text = pl.when(near).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
        text = pl.when(value.is_not_nan()).then(text)
    elif dtype.is_decimal():
        text = value.cast(pl.String).str.replace(r"\.0+$", "")
    else:
        text = value.cast(pl.String)
        text = text.str.strip_chars(SPACES) if is_text(dtype) else text
    missing = text == "" if not null else (text == "") | text.is_in(_spellings(null))
    return pl.when(~missing).then(text)


def _spellings(null: tuple[str, ...]) -> list[str]:
    """The words that stand for nothing, whole numbers among them also as pandas writes them: 0 and 0.0."""
    found = [*null, *(word.split(".")[0] for word in null if re.match(POINT_ZERO, word))]
    return [*found, *(f"{word}.0" for word in found if re.match(POINT_ZERO, f"{word}.0"))]


def whole(text: pl.Expr) -> pl.Expr:
    """17850.0 → 17850; all other text as it is."""
    return pl.when(text.str.contains(POINT_ZERO)).then(text.str.replace(r"\.0+$", "")).otherwise(text)


def inexact_id(column: str, dtype: pl.DataType, text: pl.Expr) -> pl.Expr:
    """Where an id has lost digits on its way here: floats from 2^53 on (2^24 in 32 bits), infinity, 1.23457E+12 as text.

    Args:
        column: the id's column.
        dtype: its type.
        text: the id as `cell` reads it.
    """
    value = pl.col(column)
    if dtype.is_float():
        limit = EXACT if dtype == pl.Float64 else 2**24 if dtype == pl.Float32 else 2**11
        bad = value.abs() >= limit
    elif is_text(dtype):
        long = text.str.contains(POINT_ZERO) & (text.cast(pl.Float64, strict=False).abs() >= EXACT)
        bad = text.str.contains(MANGLED) | long
    else:
        bad = pl.lit(False)
    return (text.is_not_null() & bad).fill_null(False)


def number(column: str, dtype: pl.DataType, decimal: Decimal | None, null: tuple[str, ...] = ()) -> pl.Expr:
    """A cell as Float64; null where it is missing or cannot be read (see `unread`)."""
    if is_text(dtype):
        return text_number(cell(column, dtype, null), decimal)
    return pl.when(cell(column, dtype, null).is_not_null()).then(as_float(column, dtype))


def as_float(column: str, dtype: pl.DataType) -> pl.Expr:
    """A column of numbers as Float64. What 32 bits hold of 0.1 is 0.1, as it is shown, not 0.10000000149; dates are null."""
    if dtype.is_temporal():
        return pl.lit(None, dtype=pl.Float64)
    short = dtype.is_float() and dtype != pl.Float64
    value = pl.col(column)
    return (value.cast(pl.String) if short else value).cast(pl.Float64, strict=False)


def unread(text: pl.Expr, value: pl.Expr) -> pl.Expr:
    """Where a cell holds something that is no number. NaN and nothing are missing, not unread."""
    return text.is_not_null() & (text.str.to_lowercase() != "nan") & value.is_null()


def text_number(text: pl.Expr, decimal: Decimal | None) -> pl.Expr:
    """Text → Float64, null where it is no number.

    Args:
        text: stripped.
        decimal: the decimal mark. If it is given, the other of . and , or a space or an apostrophe may part thousands; three
            digits follow such a mark and no zero begins the number, or it is none. None reads 1854.00 and no other form.
            Currencies, percent and the like are never guessed at.
    """
    plain = text
    fits = text.str.contains(NUMBER)
    if decimal is not None:
        mark = re.escape(decimal)
        groups = "|".join(rf"[1-9][0-9]{{0,2}}(?:{re.escape(part)}[0-9]{{3}})+" for part in _MARKS[decimal])
        digits = rf"(?:{groups}|[0-9]+)(?:{mark}[0-9]*)?|{mark}[0-9]+"
        fits = text.str.contains(rf"^[+-]?(?:{digits})([eE][+-]?[0-9]+)?$")
        parts = "".join(_MARKS[decimal])
        plain = text.str.replace_all(f"[{re.escape(parts)}]", "").str.replace(decimal, ".", literal=True)
    value = pl.when(fits).then(plain).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def read_number(text: str, decimal: Decimal | None) -> float | None:
    """One text as a number, by the same rules; for messages."""
    return pl.select(text_number(pl.lit(text.strip(SPACES)), decimal)).item()  # type: ignore[no-any-return]


def number_remedy(text: str, tried: Decimal | None) -> str:
    """Which setting would read `text`, given that the one tried does not."""
    fits = {mark: read_number(text, mark) for mark in (".", ",") if mark != tried}
    reads = [f'`decimal = "{mark}"` reads it as {value:,.15g}' for mark, value in fits.items() if value is not None]
    if reads:
        return f"{' and '.join(reads)}: say so beside the column, or beside the file's path for all of its columns."
    if NOTHING.fullmatch(text):
        return f"If it stands for nothing, say `null = [{_toml(text)}]` at the top of the mapping."
    return (
        "Cut the number out with `extract` if it is a price, say at the top of the mapping "
        f"`null = [{_toml(text)}]` if it stands for nothing, or leave such rows out with `keep`."
    )


def of_count(count: int, noun: str) -> str:
    """1 value, 1,000 values."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _toml(text: str) -> str:
    """A TOML string."""
    return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
