"""How a csv file is written, and its records told apart in two ways that share nothing but this form.

`regular_records` looks at whole blocks of bytes at once, for blocks without surprises. `count_records` goes from record to
record by a regular expression, for all others. Neither makes rows: they are what the readers' rows are counted against.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NEWLINE = 10
LONGEST = 8 << 20
"""A quote that is not closed within so many characters is taken for a stray one."""


@dataclass(frozen=True)
class Dialect:
    """Separator and quote of a csv file (`quote` "" switches quoting off), and the number of its columns."""

    separator: str
    quote: str
    width: int = 0
    record: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sep, quote = re.escape(self.separator), re.escape(self.quote)
        plain = rf"[^{sep}\r\n]*+"
        if self.quote:
            plain = rf"(?:{quote}[^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+{quote}|(?!{quote}){plain})"
        object.__setattr__(self, "record", re.compile(rf"{plain}(?:{sep}{plain})*+(?=[\r\n]|\Z)"))

    def is_blank(self, text: str) -> bool:
        """Whether a line holds nothing: no record. In a file of one column a line of spaces is a value."""
        return not text if self.width == 1 else not text.strip() and self.separator not in text


LINE_END = re.compile(r"\r\n|\r|\n|\Z")


def count_records(text: str, dialect: Dialect) -> tuple[int, int]:
    """Records in a text that begins and ends between records, and its blank lines.

    A line at which no record can begin (a quote that is not closed within LONGEST, or closed amid a field) counts as one.
    """
    records = blank = at = 0
    while at < len(text):
        found = dialect.record.match(text, at)
        if found is not None and found.end() - at > LONGEST:
            found = None
        stop = LINE_END.search(text, at) if found is None else LINE_END.match(text, found.end())
        assert stop is not None  # both match at the end of the text at the latest
        if found is not None and dialect.is_blank(found.group()):
            blank += 1
        else:
            records += 1
        at = stop.end()
    return records, blank


def regular_records(block: bytes, dialect: Dialect) -> int | None:
    """Number of records in a block where every line is a record of `width` fields without surprises; else None.

    Surprises are: a quote that does not open or close a field, line ends within quotes, a carriage return without line feed,
    NUL bytes, bytes that are not UTF-8, blank lines, too few or too many fields.

    Args:
        block: ends with a line feed; line ends are line feeds (see `line_feeds`).
        dialect: separator, quote, number of columns.
    """
    if b"\0" in block or b"\r" in block or not _is_utf8(block):
        return None
    if dialect.width == 1 and (block.startswith(b"\n") or b"\n\n" in block):
        return None
    array = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero((array == ord(dialect.separator)) | (array == NEWLINE))
    if dialect.quote and dialect.quote.encode() in block:
        quotes = np.flatnonzero(array == ord(dialect.quote))
        if not _regular_quotes(array, quotes, dialect):
            return None
        inside = np.searchsorted(quotes, ends) % 2 == 1
        if np.any(array[ends[inside]] == NEWLINE):
            return None
        ends = ends[~inside]
    if len(ends) % dialect.width:
        return None
    closes = (array[ends] == NEWLINE).reshape(-1, dialect.width)
    regular = closes[:, -1].all() and not closes[:, :-1].any()
    return len(closes) if regular else None


def line_feeds(block: bytes) -> bytes:
    """The block with a line feed for every carriage return and line feed."""
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _regular_quotes(array: NDArray[np.uint8], quotes: NDArray[np.int64], dialect: Dialect) -> bool:
    """Whether every odd quote opens a field (or is the second of a doubled one) and every even one closes it."""
    if len(quotes) % 2:
        return False
    quote, separator = ord(dialect.quote), ord(dialect.separator)
    opening, closing = quotes[0::2], quotes[1::2]
    before = array[np.maximum(opening - 1, 0)]
    begins = (before == separator) | (before == NEWLINE) | (opening == 0)
    begins[1:] |= opening[1:] == closing[:-1] + 1  # doubled: the quote before has just closed
    after = array[closing + 1]  # a block ends with a line feed, so there is one
    ends = (after == separator) | (after == NEWLINE) | (after == quote)
    return bool(begins.all() and ends.all())
