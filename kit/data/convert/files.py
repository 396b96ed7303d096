"""Which files a source names: found, told apart by their first bytes, and never the same one twice."""

from __future__ import annotations

import filecmp
from pathlib import Path

from kit.data.convert.mapping import SourceFile
from kit.errors import KitError

ENDINGS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
LEFTOVERS = (".part", ".tmp", ".temp", ".crdownload", ".partial", ".download", ".swp", ".bak", ".orig", ".old", "~")
"""Endings of files that a program left behind: half a download, a backup copy."""
PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".z", ".lz4", ".7z", ".br", ".snappy", ".sz")
MAGIC = {
    b"PAR1": "parquet",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xff\x06\x00\x00sNaPpY": "snappy",
    b"\x1f\x9d": "compress",
    b"ARROW1": "Arrow",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
    b"SQLite format 3\x00": "SQLite",
    b"%PDF": "PDF",
}
UNPACK = {
    "bzip2": "bunzip2",
    "xz": "unxz",
    "zip": "unzip",
    "7z": "7z x",
    "lz4": "unlz4",
    "snappy": "snzip -d",
    "compress": "uncompress",
}


def find(name: str, source: SourceFile, src: Path) -> tuple[list[Path], list[Path]]:
    """Files that a source's path or glob names, by name, and those that the glob matches but that are passed over.

    Hidden files and what programs leave behind (`LEFTOVERS`) are passed over unless the path names them without a wildcard;
    `src` may itself be the file.

    Raises:
        KitError: nothing is there, or a file and its compressed twin or its equal copy are.
    """
    if src.is_file():
        return [src], []
    matched = sorted(path for path in src.glob(source.path) if path.is_file())
    wild = any(mark in source.path for mark in "*?[")
    paths = [path for path in matched if not (wild and _is_leftover(path.relative_to(src)))]
    if not paths:
        there = (
            ", ".join(sorted(path.name for path in src.iterdir() if not path.name.startswith("."))[:12]) or "nothing"
        )
        only = f" Hidden files and leftovers such as {matched[0].name} are passed over." if matched else ""
        raise KitError(
            f"The mapping wants [files.{name}] path = {source.path!r} in {src}, which holds: {there}.{only}",
            "Point SRC at the right folder or mend the path.",
        )
    _refuse_twins(paths, src)
    return paths, [path for path in matched if path not in paths]


def _is_leftover(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or path.name.lower().endswith(LEFTOVERS)


def _refuse_twins(paths: list[Path], src: Path) -> None:
    """KitError for a file beside its compressed twin, or two files of equal bytes: their rows would count twice."""
    seen: dict[Path, Path] = {}
    sizes: dict[int, list[Path]] = {}
    for path in paths:
        plain = path.with_suffix("") if path.suffix.lower() in PACKED else path
        if plain in seen:
            raise _twice(seen[plain], path, src, "are one file, once compressed and once not, by their names")
        seen[plain] = path
        size = path.stat().st_size
        for other in sizes.get(size, []):
            if size and filecmp.cmp(other, path, shallow=False) and _holds_rows(path):
                raise _twice(other, path, src, "hold the same bytes")
        sizes.setdefault(size, []).append(path)


def _holds_rows(path: Path) -> bool:
    """False for a text of one line: equal headers without rows harm nobody."""
    with path.open("rb") as file:
        return b"\n" in file.read(1 << 20).strip() or path.stat().st_size > 1 << 20


def _twice(first: Path, second: Path, src: Path, why: str) -> KitError:
    return KitError(
        f"{first.relative_to(src)} and {second.relative_to(src)} {why}: every row would count twice.",
        "Move one of them away, or narrow the path in the mapping so that it matches one.",
    )


def same_content(first: str, second: str) -> KitError:
    """The error for two files that turned out to hold the same text."""
    return KitError(
        f"{first} and {second} hold the same text: every row would count twice.",
        "Move one of them away, or narrow the path in the mapping so that it matches one.",
    )


def packing(path: Path) -> str:
    """What a file's first bytes say: a key of UNPACK, "gzip", "zstd", "parquet", …; "" for what may be text."""
    with path.open("rb") as file:
        first = file.read(16)
    return next((what for magic, what in MAGIC.items() if first.startswith(magic)), "")


def kind_of(path: Path, source: SourceFile, name: str) -> str:
    """ "csv", "parquet" or "jsonl", by the mapping or the ending, proven by the first bytes.

    Raises:
        KitError: an unknown ending; an empty file; a file that is no such thing, with the command that unpacks it.
    """
    if not path.stat().st_size:
        raise KitError(f"{name} is empty (0 bytes).", "Fetch it again, or move it away if it stands for no rows.")
    packed = packing(path)
    if packed in UNPACK:
        raise KitError(
            f"{name} is a {packed} file, which is not read.",
            f"Unpack it first (`{UNPACK[packed]} {path.name}`) and name what comes out.",
        )
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() in ENDINGS]
    kind = source.format or (ENDINGS[suffixes[-1]] if suffixes else "parquet" if packed == "parquet" else "")
    if not kind:
        raise KitError(f"{name} has no known ending.", "Say format = 'csv', 'parquet' or 'jsonl' in the mapping.")
    if kind == "parquet" and packed != "parquet":
        raise KitError(
            f"{name} is no parquet file: it does not begin with PAR1.",
            "Fetch it again, or say `format` if it is csv or jsonl.",
        )
    if kind != "parquet" and packed not in ("", "gzip", "zstd"):
        remedy = "Say format = 'parquet'." if packed == "parquet" else "Export it as csv, jsonl or parquet."
        raise KitError(f"{name} is read as {kind}, but it is a {packed} file.", remedy)
    return kind
