"""The text of a source file as UTF-8 bytes, a chunk at a time: unpacked, decoded, without a byte order mark."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from kit.data.convert.files import packing
from kit.errors import KitError

CHUNK = 32 << 20
"""Bytes that are read at once: bounds the memory, and large enough that the reader of a chunk sets the speed."""
ESCAPE = "surrogateescape"
"""How bytes that are not UTF-8 travel inside text until the line that holds them is named."""
BOM_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def utf8_chunks(path: Path, name: str, encoding: str) -> Iterator[bytes]:
    """The file's text in UTF-8, in chunks of about CHUNK bytes that may end anywhere, even inside a character.

    Bytes that are not UTF-8 are passed on where the encoding is UTF-8 (the reader of lines names them); other encodings are
    decoded strictly.

    Raises:
        KitError: a gzip or zstd file that is cut short or damaged; bytes that are not of `encoding`.
    """
    raw = _unpacked(path, name)
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        yield from _without_mark(raw, name)
    else:
        yield from _decoded(raw, name, encoding)


def with_last(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each chunk, and whether it is the last one."""
    held = next(chunks, b"")
    for chunk in chunks:
        yield held, False
        held = chunk
    yield held, True


def _unpacked(path: Path, name: str) -> Iterator[bytes]:
    packed = packing(path)
    try:
        if packed == "zstd":
            batches = pl.scan_lines(path).collect_batches(chunk_size=200_000)
            for batch in batches:
                yield ("\n".join(batch["line"].to_list()) + "\n").encode()
            return
        with gzip.open(path, "rb") if packed == "gzip" else path.open("rb") as file:
            while block := file.read(CHUNK):
                yield block
    except (EOFError, OSError, zlib.error, pl.exceptions.PolarsError) as error:
        if not packed:
            raise
        if "utf8" in str(error):
            raise KitError(f"{name} is a zstd file whose text is not UTF-8.", "Unpack it first (`unzstd`).") from error
        raise KitError(
            f"{name} is a {packed} file that is cut short or damaged ({str(error).strip().splitlines()[0]}).",
            "Fetch or copy it again.",
        ) from error


def _without_mark(raw: Iterator[bytes], name: str) -> Iterator[bytes]:
    first = next(raw, b"")
    if first.startswith(BOM_16):
        raise KitError(
            f"{name} begins with the byte order mark of UTF-16.", 'Say `encoding = "utf-16"` beside the file\'s path.'
        )
    yield first.removeprefix(codecs.BOM_UTF8)
    yield from raw


def _decoded(raw: Iterator[bytes], name: str, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    line = 1
    for block in raw:
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            at = line + len(error.object[: error.start].decode(encoding, "replace").split("\n")) - 1
            raise _not(encoding, name, at, error) from error
        line += text.count("\n")
        yield text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    try:
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        raise _not(encoding, name, line, error) from error


def _not(encoding: str, name: str, line: int, error: UnicodeDecodeError) -> KitError:
    byte = error.object[error.start : error.start + 1].hex().upper()
    return KitError(
        f"{name} line {line:,} is not {encoding}: byte 0x{byte} has no meaning there ({error.reason}).",
        "Say the file's own `encoding` (utf-8, cp1252, latin-1, utf-16 …).",
    )
