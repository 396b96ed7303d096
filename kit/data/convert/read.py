"""Source files of a shop, as lazy frames of exactly the columns a mapping asks for, every record accounted for."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from kit.data.convert.columns import require_columns
from kit.data.convert.counts import FileCount, Tally
from kit.data.convert.files import find, kind_of, same_content
from kit.data.convert.mapping import Mapping, SourceFile
from kit.data.convert.read_csv import CsvReader
from kit.data.convert.read_jsonl import JsonlReader
from kit.data.convert.read_parquet import open_parquet
from kit.data.convert.staging import Staging
from kit.data.convert.widen import unify
from kit.errors import KitError
from kit.progress import say


class Sources:
    """The source files of a mapping. csv and jsonl are turned into parquet once, since each table scans them anew.

    csv columns stay text (a column that looks like numbers for a thousand rows need not be one); numbers are read from
    the text where a rule, a price or a time asks for them. An empty cell is null.

    `sources[name]` has the wanted columns and two more: `_file` (UInt32, index into `paths(name)`) and `_record` (UInt64,
    number of the record in its file, from 1). Rows lie in the order of files by name and of records in a file.

    Args:
        mapping: names files and columns.
        src: the folder with the shop's own files, or the file itself.
        work: an existing folder for the staged rows; it must outlive the frames.

    Raises:
        KitError: a file or column that is not there or not as the mapping says; records that cannot be read, unless the
            mapping leaves them out; numbers that do not add up.
    """

    def __init__(self, mapping: Mapping, src: Path, work: Path) -> None:
        if not src.exists():
            raise KitError(f"There is no {str(src)!r}.", "SRC is the folder with the shop's own files.")
        self.src = src
        self._frames: dict[str, pl.LazyFrame] = {}
        self._paths: dict[str, list[Path]] = {}
        self._counts: dict[str, list[FileCount]] = {}
        self._staging: dict[str, Staging] = {}
        wanted: dict[str, dict[str, str]] = {}
        for file, column, what in mapping.wanted():
            wanted.setdefault(file, {}).setdefault(column, what)
        for name, columns in wanted.items():
            self._open(name, mapping.files[name], columns, work)

    def __getitem__(self, name: str) -> pl.LazyFrame:
        return self._frames[name]

    def paths(self, name: str) -> list[Path]:
        """The source's files, by name."""
        return self._paths[name]

    def counts(self, name: str) -> list[FileCount]:
        """What became of the records of each file, in the order of `paths`."""
        return self._counts[name]

    def label(self, name: str) -> str:
        """The source's file names, for messages."""
        names = [path.name for path in self._paths[name]]
        return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)} files)"

    def line_of(self, name: str, file: int, record: int) -> int | None:
        """The line (from 1) in which a record of a csv or jsonl file begins; None for parquet, or if no row comes from it."""
        return self._staging[name].line_of(file, record) if name in self._staging else None

    def place(self, name: str, file: int, record: int) -> str:
        """File and line (parquet: row) of a record, for messages: "2019-Oct.csv line 1042"."""
        line = self.line_of(name, file, record)
        where = f"line {line}" if line is not None else f"row {record}"
        return f"{self._called(self._paths[name][file])} {where}"

    def _called(self, path: Path) -> str:
        """A file as messages call it: its path in SRC, so that files of one name in several folders are told apart."""
        return str(path.relative_to(self.src)) if path != self.src else path.name

    def _open(self, name: str, source: SourceFile, wanted: dict[str, str], work: Path) -> None:
        """Finds, reads and counts the files of one source."""
        self._paths[name], passed = find(name, source, self.src)
        if passed:
            some = ", ".join(str(path.relative_to(self.src)) for path in passed[:5]) + " …" * (len(passed) > 5)
            say(f"  passed over, as hidden or left behind by a program: {some}")
        kinds = [kind_of(path, source, self._called(path)) for path in self._paths[name]]
        odd = next((at for at, kind in enumerate(kinds) if kind != kinds[0]), None)
        if odd is not None:
            first, other = self._called(self._paths[name][0]), self._called(self._paths[name][odd])
            raise KitError(
                f"[files.{name}] path = {source.path!r} takes in {first} ({kinds[0]}) and {other} ({kinds[odd]}).",
                "Narrow the path to files of one format; give each format a source of its own.",
            )
        refuse = source.unreadable == "refuse"
        tallies = [Tally(path, self._called(path), refuse) for path in self._paths[name]]
        if kinds[0] == "parquet":
            pieces = [open_parquet(source, wanted, at, tally) for at, tally in enumerate(tallies)]
            self._frames[name] = unify(pieces, list(wanted))
            self._counts[name] = [tally.done() for tally in tallies]
            return
        say(f"  reading {self.label(name)}")
        self._staging[name] = staging = Staging(work / f"{name}-rows")
        self._counts[name] = []
        keys: tuple[set[str], set[str]] = (set(), set())
        seen: dict[tuple[int, int], Tally] = {}
        for at, tally in enumerate(tallies):
            if kinds[0] == "csv":
                CsvReader(source, wanted, staging, at, tally).read()
            else:
                reader = JsonlReader(source, wanted, staging, at, tally)
                reader.read()
                keys = (keys[0] | reader.outer, keys[1] | reader.inner)
            self._counts[name].append(tally.done())
            assert tally.digest is not None  # the reader came to the file's end
            if tally.records and tally.digest in seen:
                raise same_content(seen[tally.digest].name, tally.name)
            seen[tally.digest] = tally
        if kinds[0] == "jsonl":
            _require_keys(source, wanted, keys, self.label(name))
        self._frames[name] = staging.frame(list(wanted), self.label(name))


def _require_keys(source: SourceFile, wanted: dict[str, str], keys: tuple[set[str], set[str]], label: str) -> None:
    """KitError for a wanted key that no object of the files has, or that both an object and its exploded ones have."""
    outer, inner = keys
    if source.explode is not None and not inner:
        raise KitError(
            f"The mapping explodes column {source.explode!r} of {label}, which has {sorted(outer)}.",
            "Name a column that holds lists of objects.",
        )
    require_columns(sorted(outer | inner), wanted, label)
    for column in wanted:
        if column in outer and column in inner:
            raise KitError(
                f"{label} has {column!r} both beside and within {source.explode!r}.", "Rename one of them in the file."
            )
