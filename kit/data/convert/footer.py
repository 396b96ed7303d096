"""Rows that a parquet file says it holds: read from its footer byte by byte, without the reader that makes the rows.

The footer is a Thrift struct in the compact protocol; `num_rows` is its third field
(https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, FileMetaData).
"""

from __future__ import annotations

from pathlib import Path

MAGIC = b"PAR1"
NUM_ROWS = 3
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)
WIDTHS = {BYTE: 1, DOUBLE: 8}


def rows_stated(path: Path) -> int:
    """`num_rows` of the file's footer. ValueError if it has none: the file is cut short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        end = file.read(8)
        if end[4:] != MAGIC:
            raise ValueError("it does not end with PAR1")
        length = int.from_bytes(end[:4], "little")
        if length + 12 > size:
            raise ValueError("its footer is longer than the file")
        file.seek(size - 8 - length)
        footer = _Compact(file.read(length))
    try:
        return footer.i64_field(NUM_ROWS)
    except IndexError as error:
        raise ValueError("its footer cannot be read") from error


class _Compact:
    """As much of Thrift's compact protocol as it takes to find a field of a struct."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def i64_field(self, wanted: int) -> int:
        """The value of an integer field of the struct that begins here."""
        field = 0
        while kind := self._byte():
            field = field + (kind >> 4) if kind >> 4 else self._zigzag()
            if field == wanted and kind & 15 in (I16, I32, I64):
                return self._zigzag()
            self._skip(kind & 15)
        raise ValueError("its footer states no number of rows")

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, *, in_list: bool = False) -> None:
        if kind in (TRUE, FALSE):
            self.at += in_list  # a field's truth lies in its header
        elif kind in WIDTHS:
            self.at += WIDTHS[kind]
        elif kind in (I16, I32, I64):
            self._varint()
        elif kind == BINARY:
            length = self._varint()  # moves `at`
            self.at += length
        elif kind in (LIST, SET):
            head = self._byte()
            self._skip_each(self._varint() if head >> 4 == 15 else head >> 4, head & 15)
        elif kind == MAP:
            if count := self._varint():
                kinds = self._byte()
                self._skip_each(count, kinds >> 4, kinds & 15)
        elif kind == STRUCT:
            while inner := self._byte():
                if not inner >> 4:
                    self._zigzag()
                self._skip(inner & 15)
        else:
            raise ValueError("its footer is damaged")

    def _skip_each(self, count: int, *kinds: int) -> None:
        for _ in range(count):
            for kind in kinds:
                self._skip(kind, in_list=True)
