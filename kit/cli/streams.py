"""Standard streams that take what the kit writes: closed ones, full ones, and terminals that know ASCII or latin-1 only."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata

ERRORS = "kit.plain"
"""Name of the handler that writes a letter which the stream's encoding does not know in other letters."""
ASCII = "kit-ascii"
"""ASCII under another name: typer writes UTF-8 to streams that call themselves ASCII."""
_kept: list[object] = []
"""The interpreter's own streams, which would close what they stand on when they are collected."""
PLAIN = {
    "–": "-", "—": "-", "−": "-", "×": "x", "→": "->", "←": "<-", "…": "...", "±": "+/-", "≥": ">=", "≤": "<=", "≈": "~",
    "·": ".", "•": "*", "’": "'", "‘": "'", "“": '"', "”": '"', "━": "-", "─": "-", "│": "|", "┃": "|", "╸": "-", "╺": "-",
}  # fmt: skip


def prepare() -> None:
    """Make the three streams fit to be written to and read from, before anything is.

    A descriptor that is closed is opened on nothing: otherwise the first file that the kit opens would take its number, and what
    a library prints would land in that file. Nothing written to stderr is worth a run, so its failures are passed over.
    """
    codecs.register_error(ERRORS, _in_other_letters)
    codecs.register(_ascii_by_another_name)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        _open(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    _kept.extend((sys.stdout, sys.stderr))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = sys.__stdout__ = _Noting(sys.stdout.buffer, _encoding(sys.stdout), ERRORS)  # type: ignore[misc]
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _Unfailing(sys.stderr.buffer, _encoding(sys.stderr), ERRORS, write_through=True)


def _encoding(stream: io.TextIOWrapper) -> str:
    return ASCII if codecs.lookup(stream.encoding).name == "ascii" else stream.encoding


def output_error() -> OSError | None:
    """Why what was printed could not reach its reader; None if it could."""
    stream = sys.__stdout__ if isinstance(sys.__stdout__, _Noting) else None
    try:
        sys.stdout.flush()
        if stream is not None:
            stream.flush()
    except OSError as error:
        return error
    except ValueError:  # closed by a library
        return None
    return None if stream is None else stream.trouble


def drop_output() -> None:
    """What is still waiting to be printed goes nowhere, so that the interpreter's last flush does not fail."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


class _Noting(io.TextIOWrapper):
    """stdout, which keeps in mind the first error of writing to it: libraries turn it into others, or into an exit code."""

    trouble: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.trouble = self.trouble or error
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.trouble = self.trouble or error
            raise


class _Unfailing(io.TextIOWrapper):
    """A text stream that says nothing where it cannot be written."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            return


def _open(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing != number:
            os.dup2(nothing, number)
            os.close(nothing)


def _in_other_letters(error: UnicodeError) -> tuple[str | bytes, int]:
    """A codec's error handler: dashes, arrows and boxes as ASCII draws them, letters without accents, else a question mark.
    The bytes of a file name that is no text stay as they are."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    if "\udc80" <= letter <= "\udcff":
        return bytes([ord(letter) - 0xDC00]), error.start + 1
    return _plain(letter), error.start + 1


def _plain(letter: str) -> str:
    if letter in PLAIN:
        return PLAIN[letter]
    if "\u2500" <= letter <= "\u257f":
        return "+"
    if "\u2580" <= letter <= "\u259f":
        return "#"
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"


def _ascii_by_another_name(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode, known.decode, known.streamreader, known.streamwriter,
        known.incrementalencoder, known.incrementaldecoder, ASCII,
    )  # fmt: skip
