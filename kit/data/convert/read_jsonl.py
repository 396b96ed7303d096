"""jsonl files → rows: Polars where it can be believed, Python's json where a block holds what Polars refuses or bends.

Types are settled when all is read (`Staging.frame`): a key may appear late, and 5 may be followed by 5.5 or "5".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from kit.data.convert.counts import Tally
from kit.data.convert.json_exact import parse_json, series
from kit.data.convert.mapping import SourceFile
from kit.data.convert.staging import Staging, with_place
from kit.data.convert.stream import ESCAPE
from kit.data.convert.text import TextReader
from kit.data.convert.widen import EXACT
from kit.errors import KitError

_BLANK = re.compile(rb"(?:\A|(?<=\n))[ \t\r]*\n")
_MAYBE_BLANK = re.compile(rb"\A[ \t\r\n]|\n[ \t\r\n]")
_PAIR = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonlReader(TextReader):
    """Reads one jsonl file. `outer` and `inner` hold the keys of its objects, and of the exploded ones, once it is read."""

    def __init__(
        self, source: SourceFile, wanted: Mapping[str, str], staging: Staging, file: int, tally: Tally
    ) -> None:
        super().__init__(source, wanted, staging, file, tally)
        self.keys = [
            (key, re.compile(rb"%b\s*:[^{}\n]*?%b\s*:" % (re.escape(key), re.escape(key)))) for key in _quoted(wanted)
        ]
        self.outer: set[str] = set()
        self.inner: set[str] = set()

    def read(self) -> None:
        """Reads the file.

        Raises:
            KitError: names file, line, cause and setting.
        """
        carry = b""
        for chunk, final in self.chunks():
            carry += chunk
            cut = len(carry) if final else carry.rfind(b"\n") + 1
            block, carry = carry[:cut], carry[cut:]
            if block:
                self._block(block if block.endswith(b"\n") else block + b"\n")
        self.require_found(self.tally.records > 0)

    def _block(self, block: bytes) -> None:
        """Stages the objects of whole lines."""
        lines = block.count(b"\n")
        blank = len(_BLANK.findall(block)) if _MAYBE_BLANK.search(block) else 0
        if self.line == 1 and block.lstrip().startswith(b"["):
            raise KitError(
                f"{self.tally.name} is one JSON array, not one object per line.",
                f"Rewrite it, such as with `jq -c '.[]' {self.tally.path.name}`.",
            )
        self.tally.records += lines - blank
        self.tally.blank += blank
        if blank or not self._fast(block, lines):
            self._slow(block)
        self.record += lines - blank
        self.line += lines
        self.tally.check_sum(f" up to line {self.line - 1:,}")

    def _fast(self, block: bytes, lines: int) -> bool:
        """Stages a block by Polars; False where it refuses, or might change a value."""
        if b"\\ud" in block.replace(b"\\uD", b"\\ud") and _HALF.search(_PAIR.sub(b"", block)):
            return False
        if any(block.count(key) > lines and twice.search(block) for key, twice in self.keys):
            return False  # Polars would take the first without a word
        try:
            frame = pl.read_ndjson(block, infer_schema_length=None)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return False
        if frame.height != lines:
            return False
        outer, inner = set(frame.columns), set[str]()
        row = pl.int_range(pl.len(), dtype=pl.UInt64)
        frame = frame.with_columns(_record=row + self.record, _line=row + self.line)
        if self.source.explode is not None and self.source.explode in outer:
            dtype = frame.schema[self.source.explode]
            if not isinstance(dtype, pl.List) or not isinstance(dtype.inner, pl.Struct):
                return False
            inner = {field.name for field in dtype.inner.fields}
            frame = frame.explode(self.source.explode, empty_as_null=False, keep_nulls=False)
        elif self.source.explode is not None:
            frame = frame.clear()
        held = pl.col(self.source.explode or "").struct
        values = {
            column: held.field(column) if column in inner else pl.col(column) if column in outer else pl.lit(None)
            for column in self.wanted
        }
        wanted = frame.select(**values)
        if not all(_believable(wanted[column]) for column in self.wanted):
            return False
        wide = [name for name, dtype in wanted.schema.items() if dtype in (pl.Int128, pl.UInt128, pl.UInt64)]
        self._stage(wanted.with_columns(pl.col(wide).cast(pl.String)), frame["_record"], frame["_line"])
        self.tally.read += lines
        self.outer |= outer
        self.inner |= inner
        return True

    def _slow(self, block: bytes) -> None:
        """Stages a block by Python's json, which names the broken lines."""
        parsed = parse_json(block.decode("utf-8", ESCAPE), list(self.wanted), self.source.explode)
        frame = pl.DataFrame([series(name, values) for name, values in parsed.values.items()])
        records, lines = (pl.Series(places, dtype=pl.UInt64) for places in (parsed.numbers, parsed.lines))
        self._stage(frame, records + self.record, lines + self.line)
        self.tally.read += parsed.read
        self.outer |= parsed.outer
        self.inner |= parsed.inner
        self.tally.leave_out([replace(bad, line=bad.line + self.line) for bad in parsed.unreadable])

    def _stage(self, frame: pl.DataFrame, records: pl.Series, lines: pl.Series) -> None:
        self.staging.add(with_place(frame, self.file, records, lines))
        self.tally.rows += frame.height


def _quoted(wanted: Mapping[str, str]) -> list[bytes]:
    """Keys as they stand in a line."""
    return [json.dumps(key, ensure_ascii=False).encode() for key in wanted]


def _believable(values: pl.Series) -> bool:
    """Whether Polars cannot have changed a value: whole numbers beside fractions are floats, lists beside text are text."""
    if values.dtype.is_float():
        large = values.abs().max()
        return large is None or float(str(large)) < EXACT
    if values.dtype == pl.String:
        return not values.str.contains(r"^[\[{]").any()
    return not values.dtype.is_nested()
