"""Source files of a shop, as lazy frames of exactly the columns a mapping asks for."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from kit.data.convert.mapping import Mapping, Source
from kit.errors import KitError, nearest
from kit.progress import say

ENDINGS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class Sources:
    """The source files of a mapping. csv and jsonl are turned into parquet once, since each table scans them anew.

    csv columns stay text (a column that looks like numbers for a thousand rows need not be one); numbers are read from
    the text where a rule, a price or a time asks for them.
    """

    def __init__(self, mapping: Mapping, src: Path, work: Path) -> None:
        if not src.exists():
            raise KitError(f"There is no {str(src)!r}.", "SRC is the folder with the shop's own files.")
        self._frames: dict[str, pl.LazyFrame] = {}
        self._paths: dict[str, list[Path]] = {}
        wanted: dict[str, dict[str, str]] = {}
        for file, column, what in mapping.wanted():
            wanted.setdefault(file, {}).setdefault(column, what)
        for name, columns in wanted.items():
            source = mapping.files[name]
            self._paths[name] = find(name, source, src)
            frame, kind = open_source(source, self._paths[name])
            require_columns(frame, columns, self.label(name))
            frame = frame.select(list(columns))
            if kind != "parquet":
                staged = work / f"{name}.parquet"
                say(f"  reading {self.label(name)}")
                try:
                    frame.sink_parquet(staged, maintain_order=True, engine="streaming")
                except pl.exceptions.PolarsError as error:
                    first = str(error).strip().splitlines()[0]
                    raise KitError(
                        f"{self.label(name)} cannot be read as {kind} ({first}).", "Mend the file."
                    ) from error
                frame = pl.scan_parquet(staged)
            self._frames[name] = frame

    def __getitem__(self, name: str) -> pl.LazyFrame:
        return self._frames[name]

    def label(self, name: str) -> str:
        """The source's file names, for messages."""
        names = [path.name for path in self._paths[name]]
        return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)} files)"


def find(name: str, source: Source, src: Path) -> list[Path]:
    """Files that a source's path or glob names, sorted; `src` may itself be the file."""
    if src.is_file():
        return [src]
    paths = sorted(path for path in src.glob(source.path) if path.is_file())
    if not paths:
        there = (
            ", ".join(sorted(path.name for path in src.iterdir() if not path.name.startswith("."))[:12]) or "nothing"
        )
        raise KitError(
            f"The mapping wants [files.{name}] path = {source.path!r} in {src}, which holds: {there}.",
            "Point SRC at the right folder or mend the path.",
        )
    return paths


def open_source(source: Source, paths: list[Path]) -> tuple[pl.LazyFrame, str]:
    """A lazy frame over all files of a source, and its format."""
    suffixes = [suffix for suffix in paths[0].suffixes if suffix in ENDINGS]
    kind = source.format or (ENDINGS[suffixes[-1]] if suffixes else "")
    label = paths[0].name
    try:
        if kind == "parquet":
            frame = pl.scan_parquet(paths)
        elif kind == "csv":
            frame = pl.scan_csv(paths, separator=source.separator, infer_schema=False)
        elif kind == "jsonl":
            frame = pl.scan_ndjson(paths, infer_schema_length=1000)
        else:
            raise KitError(f"{label} has no known ending.", "Say format = 'csv', 'parquet' or 'jsonl' in the mapping.")
        schema = frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        several = f" All {len(paths)} files of a source need the same columns in the same order." * (len(paths) > 1)
        raise KitError(
            f"{label} cannot be read as {kind} ({first}).", f"Check `format` and `separator`.{several}"
        ) from error
    if source.explode is not None:
        dtype = schema.get(source.explode)
        if not (isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct)):
            raise KitError(
                f"The mapping explodes column {source.explode!r} of {label}, which has {dict(schema)}.",
                "Name a column that holds lists of objects.",
            )
        frame = frame.explode(source.explode).unnest(source.explode)
    return frame, kind


def require_columns(frame: pl.LazyFrame, columns: dict[str, str], label: str) -> None:
    """KitError for the first column that the mapping wants and the file lacks."""
    present = frame.collect_schema().names()
    for column, what in columns.items():
        if column not in present:
            marks = [mark for mark in ";\t|" if len(present) == 1 and mark in present[0]]
            if marks:
                raise KitError(
                    f"{label} has the one column {present[0]!r}.",
                    f"Say `separator = {marks[0]!r}` beside the file's path.",
                )
            raise KitError(
                f"{what} wants column {column!r} of {label}, which has {present};", f"{nearest(column, present)}."
            )
