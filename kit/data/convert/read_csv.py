"""csv files → rows of text: Polars where a block of the file is without surprises, Python's exact reader where not.

Every block is counted by `dialect` and its rows are held against the count, so that no reader need be believed.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import polars as pl

from kit.data.convert.columns import require_columns
from kit.data.convert.csv_exact import ExactReader, odd_bytes, open_reader
from kit.data.convert.dialect import Dialect, count_records, line_feeds, regular_records
from kit.data.convert.staging import with_place
from kit.data.convert.stream import ESCAPE
from kit.data.convert.text import TextReader
from kit.errors import KitError

LONGEST_LINE = 256 << 20
HEAD = 1 << 20
PIECE = 1 << 19


class CsvReader(TextReader):
    """Reads one csv file."""

    def read(self) -> None:
        """Reads the file.

        Raises:
            KitError: names file, line, cause and setting.
        """
        self.dialect = Dialect(self.source.separator, self.source.quote)
        carry, headed = b"", False
        for chunk, final in self.chunks():
            carry += chunk
            if not headed:
                rest = self._header(carry, final=final)
                if rest is None:
                    continue
                carry, headed = rest, True
            carry = self._block(carry, final=final)
            if len(carry) > LONGEST_LINE:
                raise KitError(
                    f"{self.tally.name} line {self.line:,} goes on for more than {LONGEST_LINE >> 20} MiB without an end.",
                    "This is hardly a csv file; say its `format` and `encoding`.",
                )
        self.require_found(headed)

    def _header(self, buffer: bytes, *, final: bool) -> bytes | None:
        """Reads the columns' names; what follows them, or None if they go on behind the buffer."""
        head = buffer if len(buffer) <= HEAD else buffer[: buffer.rfind(b"\n", 0, HEAD) + 1] or buffer
        text, _ = _whole_lines(head, final=final and head is buffer)
        lines = list(io.StringIO(text, newline=""))
        blank = next((at for at, line in enumerate(lines) if line.strip()), len(lines))
        if blank == len(lines):
            return None
        reader = open_reader(iter(lines[blank:]), self.dialect)
        try:
            names = next(reader)
        except csv.Error as error:
            raise KitError(
                f"The header of {self.tally.name} (line {blank + 1}) cannot be read ({error}).",
                'Check `separator` and `quote`; `quote = ""` reads quotes as text.',
            ) from error
        if odd := odd_bytes("".join(names)):
            raise KitError(f"The header of {self.tally.name} (line {blank + 1}) cannot be read: {odd[0]}.", odd[1])
        require_columns(names, self.wanted, self.tally.name)
        self.tally.blank += blank
        self.line = blank + reader.line_num + 1
        self.dialect = replace(self.dialect, width=len(names))
        self.columns = [names.index(column) for column in self.wanted]
        self.exact = ExactReader(
            self.dialect,
            self.columns,
            names,
            fill=self.source.ragged == "fill",
            multiline=self.source.multiline,
        )
        self.again = line_feeds("".join(lines[blank : self.line - 1]).rstrip("\r\n").encode("utf-8", ESCAPE)) + b"\n"
        used = "".join(lines[: self.line - 1]).encode("utf-8", ESCAPE)
        return buffer[len(used) :]

    def _block(self, buffer: bytes, *, final: bool, whole: bool = False) -> bytes:
        """Stages the buffer's records; returns the beginning of the next one. What has surprises is cut up unless `whole`."""
        cut = len(buffer) if final else buffer.rfind(b"\n") + 1
        block = line_feeds(buffer[:cut])
        if final and block and not block.endswith(b"\n"):
            block += b"\n"
        joined = block.startswith(self.again) or b"\n" + self.again in block
        count = regular_records(block, self.dialect) if block and not joined else None
        if count is not None and self._fast(block, count):
            return buffer[cut:]
        if whole or len(buffer) <= PIECE:
            return self._slow(buffer, final=final)
        carry = b""  # only the pieces that hold a surprise need the slow reader
        for start in range(0, len(buffer), PIECE):
            last = start + PIECE >= len(buffer)
            carry = self._block(carry + buffer[start : start + PIECE], final=final and last, whole=True)
        return carry

    def _fast(self, block: bytes, count: int) -> bool:
        """Stages a block without surprises by Polars; False if it would not, or found another number of rows."""
        names = [f"c{at}" for at in range(self.dialect.width)]
        try:
            frame = pl.read_csv(
                block,
                has_header=False,
                schema=dict.fromkeys(names, pl.String),
                columns=sorted(set(self.columns)),
                separator=self.dialect.separator,
                quote_char=self.dialect.quote or None,
                infer_schema=False,
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return False
        if frame.height != count:
            return False
        frame = frame.select(pl.col(f"c{at}").alias(name) for at, name in zip(self.columns, self.wanted, strict=True))
        row = pl.int_range(pl.len(), dtype=pl.UInt64)
        self._stage(frame, row + self.record, row + self.line)
        self.tally.records += count
        self.record += count
        self.line += count
        return True

    def _slow(self, buffer: bytes, *, final: bool) -> bytes:
        """Stages the buffer's records by the exact reader; returns the beginning of the next one."""
        text, tail = _whole_lines(buffer, final=final)
        parsed = self.exact.parse(text, final=final)
        done = text[: len(text) - len(parsed.rest)]
        records, _ = count_records(done, self.dialect)
        cells = list(zip(*parsed.rows, strict=True)) or [()] * len(self.wanted)
        frame = pl.DataFrame(
            [pl.Series(name, values, dtype=pl.String) for name, values in zip(self.wanted, cells, strict=True)]
        )
        numbers, lines = (pl.Series(values, dtype=pl.UInt64) for values in (parsed.numbers, parsed.lines))
        self._stage(frame, numbers + self.record, lines + self.line)
        self.tally.records += records
        self.tally.blank += parsed.blank
        self.tally.leave_out([replace(bad, line=bad.line + self.line) for bad in parsed.unreadable])
        self.record += len(parsed.rows) + len(parsed.unreadable)
        self.line += parsed.line_count
        self.tally.check_sum(f" up to line {self.line - 1:,}")
        return parsed.rest.encode("utf-8", ESCAPE) + tail

    def _stage(self, frame: pl.DataFrame, records: pl.Expr | pl.Series, lines: pl.Expr | pl.Series) -> None:
        empty = pl.all() == ""  # one kind of empty cell, quoted or not
        frame = frame.with_columns(pl.when(~empty).then(pl.all()))
        self.staging.add(with_place(frame, self.file, records, lines))
        self.tally.read += frame.height
        self.tally.rows += frame.height


def _whole_lines(buffer: bytes, *, final: bool) -> tuple[str, bytes]:
    """The buffer's lines that are whole, as text (bytes that are not UTF-8 as surrogates), and what follows them."""
    cut = len(buffer) if final else max(buffer.rfind(b"\n"), buffer.rfind(b"\r")) + 1
    return buffer[:cut].decode("utf-8", ESCAPE), buffer[cut:]
