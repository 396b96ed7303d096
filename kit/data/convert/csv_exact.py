"""The slow, exact reader of csv: Python's, strict, one record at a time, so that no record is lost to its neighbour.

A quote inside a field that does not begin with one is text. A field that begins with a quote ends with one: where text
follows the closing quote, or none closes it, the line is unreadable and reading goes on with the next line, instead of
taking all lines up to the next quote into one cell.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kit.data.convert.counts import Unreadable
from kit.data.convert.dialect import LONGEST, Dialect

if TYPE_CHECKING:
    from _csv import Reader

NOT_UTF8 = re.compile("[\udc80-\udcff]")
_QUOTES = (
    'If quotes are text in this file, say `quote = ""` beside its path; if another character encloses fields, that one.'
)
_LINES = (
    'If such fields belong there, say `multiline = true` beside the file\'s path; if quotes are text, `quote = ""`.'
)
_RAGGED = 'Check `separator` and `quote`; `ragged = "fill"` reads missing cells at the end of a row as empty.'
_JOINED = "Files were joined with their headers: delete that line."
NO_UTF8 = 'Say the file\'s `encoding`, such as "cp1252" or "latin-1", beside its path.'
NO_NUL = 'Fetch the file again, or say `encoding = "utf-16"` if that is what it is.'


@dataclass
class Parsed:
    """What a text held: cells of the wanted columns, the records' places, and what could not be read.

    Attributes:
        rows: wanted cells of each record that was read.
        numbers: which record of the text that is, from 0.
        lines: the line it begins in, from 0.
        unreadable: the others; their lines from 0 as well.
        blank: lines that are no records.
        line_count: lines that were dealt with.
        rest: the beginning of a record that goes on behind the text.
    """

    rows: list[tuple[str, ...]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    blank: int = 0
    line_count: int = 0
    rest: str = ""

    def reject(self, line: int, why: str, remedy: str) -> None:
        """Notes an unreadable record."""
        self.unreadable.append(Unreadable(line, why, remedy))


class ExactReader:
    """Reads texts of one dialect; `columns` are the positions of the wanted ones.

    Args:
        dialect: separator, quote, number of columns.
        columns: what to keep of each row.
        header: the columns' names; a row of just these is none.
        fill: rows with too few fields end in empty cells; empty surplus cells are dropped.
        multiline: believe quoted fields that run over lines which look like rows.
    """

    def __init__(
        self,
        dialect: Dialect,
        columns: list[int],
        header: list[str],
        *,
        fill: bool = False,
        multiline: bool = False,
    ) -> None:
        self.dialect, self.columns, self.header, self.fill, self.multiline = dialect, columns, header, fill, multiline

    def parse(self, text: str, *, final: bool) -> Parsed:
        """Reads the records of a text that begins between records.

        Args:
            text: undecodable bytes in it are surrogates (`surrogateescape`).
            final: nothing follows. Otherwise a last line without end, or an open quote, is left as `rest`.
        """
        lines = list(io.StringIO(text, newline=""))  # ends are CR LF, CR or LF
        tail = lines.pop() if lines and not final and not lines[-1].endswith("\n") else ""  # CR may be half of CR LF
        dirty = "\0" in text or NOT_UTF8.search(text) is not None
        parsed = Parsed()
        at = 0
        while at < len(lines):
            at, fault = self._run(lines, at, parsed, dirty=dirty)
            if fault == "open" and not final and sum(map(len, lines[at:])) < LONGEST:
                break
            if fault:
                why = "a quoted field is never closed" if fault == "open" else "text follows the end of a quoted field"
                parsed.reject(at, why if fault in ("open", "text") else fault, _QUOTES)
                at += 1
        parsed.line_count = at
        parsed.rest = "".join(lines[at:]) + tail
        return parsed

    def _run(self, lines: list[str], at: int, parsed: Parsed, *, dirty: bool) -> tuple[int, str]:
        """Reads from line `at` to the end or the first fault; the line where the unread record begins, and the fault."""
        reader = open_reader(_from(lines, at), self.dialect)
        begin, width, wanted = at, self.dialect.width, self.columns
        try:
            for row in reader:
                stop = at + reader.line_num
                if stop > begin + 1 and sum(map(len, lines[begin:stop])) > LONGEST:
                    return begin, "open"
                if len(row) == width and stop == begin + 1 and not dirty and row[0] not in ("", self.header[0]):
                    parsed.numbers.append(len(parsed.rows) + len(parsed.unreadable))
                    parsed.rows.append(tuple([row[column] for column in wanted]))
                    parsed.lines.append(begin)
                else:
                    self._take(row, lines[begin:stop], begin, parsed)
                begin = stop
        except csv.Error as error:
            known = {"unexpected end of data": "open", "field larger": "open", "expected after": "text"}
            return begin, next((fault for words, fault in known.items() if words in str(error)), str(error))
        return begin, ""

    def _take(self, row: list[str], lines: list[str], begin: int, parsed: Parsed) -> None:
        """A record that is not plain: blank, short, long, over several lines, or with odd bytes."""
        width = self.dialect.width
        if len(lines) == 1 and self.dialect.is_blank(lines[0].rstrip("\r\n")):
            parsed.blank += 1
            return
        if odd := odd_bytes("".join(lines)):
            parsed.reject(begin, *odd)
            return
        if row == self.header:
            parsed.reject(begin, "the header comes again", _JOINED)
            return
        fits = row[:width] + [""] * (width - len(row)) if self.fill and not any(row[width:]) else row
        if len(fits) != width:
            fields = f"{len(row)} field{'s' * (len(row) != 1)}, the header has {width}"
            parsed.reject(begin, fields, _RAGGED)
        elif len(lines) > 1 and not self.multiline and self._look_like_rows(lines):
            why = f"a quoted field runs over {len(lines)} lines, which look like rows of their own"
            parsed.reject(begin, why, _LINES)
        else:
            parsed.numbers.append(len(parsed.rows) + len(parsed.unreadable))
            parsed.rows.append(tuple([fits[column] for column in self.columns]))
            parsed.lines.append(begin)

    def _look_like_rows(self, lines: list[str]) -> bool:
        """Whether the lines of one record hold as many separators as rows do: two stray quotes would join them."""
        like = [line.count(self.dialect.separator) == self.dialect.width - 1 for line in lines]
        return any(like[1:-1]) or (like[0] and like[-1])


def open_reader(lines: Iterator[str], dialect: Dialect) -> Reader:
    """Python's csv reader, strict, in the dialect."""
    csv.field_size_limit(LONGEST)
    if dialect.quote:
        return csv.reader(lines, delimiter=dialect.separator, quotechar=dialect.quote, strict=True)
    return csv.reader(lines, delimiter=dialect.separator, quoting=csv.QUOTE_NONE, quotechar=None, strict=True)


def odd_bytes(record: str) -> tuple[str, str] | None:
    """Why a record's bytes are no text, and the remedy: a NUL byte, a byte that is not UTF-8."""
    if found := NOT_UTF8.search(record):
        return f"byte 0x{ord(found.group()) - 0xDC00:02X} is not UTF-8", NO_UTF8
    return ("a NUL byte is in it", NO_NUL) if "\0" in record else None


def _from(lines: list[str], at: int) -> Iterator[str]:
    while at < len(lines):
        yield lines[at]
        at += 1
