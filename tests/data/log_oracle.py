"""Small logs with nasties, written to files, and what a conversion must keep of them.

Shares nothing with kit/data/convert: the truth is the list of events that the writer was given, not what any reader made of
the bytes. `expected` is slow and plain on purpose.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

EPOCH = dt.datetime(2024, 1, 1)
BUY, VIEW = "buy", "view"


@dataclass(frozen=True)
class Event:
    """A row: client and item as they are meant (None: none is stated), seconds after EPOCH, and how it is spelled.

    Attributes:
        pad: spaces around the ids, where they are text.
        pointed: the client, if a number, is written as pandas writes it beside gaps: 17850.0.
        quoted: fields are quoted even where they need not be.
    """

    client: str | None
    item: str | None
    seconds: int
    action: str
    note: str = ""
    pad: str = ""
    pointed: bool = False
    quoted: bool = False


@dataclass(frozen=True)
class Broken:
    """A line that is no record of the log; `kind` picks which."""

    kind: int


@dataclass(frozen=True)
class File:
    """One file of the log and how it is written; what does not apply to its format is ignored."""

    lines: tuple[Event | Broken, ...]
    order: tuple[str, ...]
    end: str = "\n"
    last_end: bool = True
    blank: bool = False
    mark: bool = False
    packed: bool = False
    numbers: str = "Int64"
    unit: str = "us"


@dataclass(frozen=True)
class Log:
    """All files of a source and what its mapping says of them."""

    form: str
    files: tuple[File, ...]
    separator: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    stamp: str = "text"
    leftovers: bool = False

    @property
    def pattern(self) -> str:
        return f"part*.{self.form}*"

    def mapping(self) -> str:
        """The mapping that reads it."""
        time = (
            '{ column = "when" }'
            if self.stamp in ("text", "datetime")
            else f'{{ column = "when", unit = "{self.stamp}" }}'
        )
        leave = (
            'unreadable = "leave out"'
            if any(type(line) is Broken for file in self.files for line in file.lines)
            else ""
        )
        csv = [f"separator = {json.dumps(self.separator)}", f"quote = {json.dumps(self.quote)}", "multiline = true"]
        return "\n".join(
            [
                "[files.log]",
                f'path = "{self.pattern}"',
                leave,
                f'encoding = "{self.encoding}"' if self.form != "parquet" else "",
                *(csv if self.form == "csv" else []),
                "[log]",
                'client = "user"',
                'item = "product"',
                f"time = {time}",
                "[tables.product_buy]",
                'keep = [{ column = "did", equals = "buy" }]',
            ]
        )

    def write(self, folder: Path) -> None:
        """Writes the files, and leftovers beside them that must not be read."""
        for at, file in enumerate(self.files):
            name = f"part{at}.{self.form}"
            if self.form == "parquet":
                _parquet(file, self).write_parquet(folder / name)
                continue
            records = [
                _csv_record(line, file, self) if self.form == "csv" else _json_record(line, self) for line in file.lines
            ]
            header = [self.separator.join(file.order)] if self.form == "csv" else []
            end = file.end if self.form == "csv" else file.end.replace("\r", "") or "\n"
            text = (end * (2 if file.blank else 1)).join([*header, *records]) + end * file.last_end
            data = (("\ufeff" if file.mark and self.encoding == "utf-8" else "") + text).encode(self.encoding)
            path = folder / (name + ".gz" * file.packed)
            path.write_bytes(gzip.compress(data) if file.packed else data)
        if self.leftovers:
            (folder / f"._part0.{self.form}").write_bytes(b"\x00\x05\x16\x07")
            (folder / f"part9.{self.form}.part").write_bytes(b"half a")


def expected(log: Log) -> list[tuple[str, str, dt.datetime]]:
    """Client, item and time of every purchase that states a client and an item, in the order of files and lines."""
    return [
        (_written(line.client, log), _written(line.item, log), EPOCH + dt.timedelta(seconds=line.seconds))
        for file in log.files
        for line in file.lines
        if isinstance(line, Event) and line.action == BUY and line.client is not None and line.item is not None
    ]


def accounts(log: Log) -> list[tuple[int, int, int]]:
    """Per file its records, those that cannot be read, and the purchases kept."""
    found = []
    for file in log.files:
        lines = [line for line in file.lines if isinstance(line, Event) or log.form != "parquet"]
        broken = sum(isinstance(line, Broken) for line in lines)
        found.append((len(lines), broken, len(expected(replace(log, files=(file,))))))
    return found


def account_given(root: Path) -> list[tuple[int, int, int]]:
    """The same, as the conversion says it."""
    (source,) = json.loads((root / "convert.json").read_text(encoding="utf-8"))["sources"]
    return [(file["records"], file["unreadable"], file["tables"][0]["kept"]) for file in source["files"]]


def converted(root: Path) -> list[tuple[str, str, dt.datetime]]:
    """What a conversion kept as purchases, in the shop's own ids."""
    frame = pl.read_parquet(root / "product_buy.parquet")
    own = {}
    for name in ("client_id", "sku"):
        path = root / "ids" / f"{name}.parquet"
        own[name] = dict(pl.read_parquet(path).select("id", "own").rows()) if path.exists() else {}
    return [
        (own["client_id"].get(client, str(client)), own["sku"].get(sku, str(sku)), dt.datetime.fromisoformat(stamp))
        for client, sku, stamp in frame.select("client_id", "sku", pl.col("timestamp").cast(pl.String)).rows()
    ]


def _stamp(event: Event, log: Log) -> str:
    if log.stamp == "text":
        return (EPOCH + dt.timedelta(seconds=event.seconds)).isoformat(" ")
    seconds = int(EPOCH.replace(tzinfo=dt.UTC).timestamp()) + event.seconds
    return str(seconds * {"s": 1, "ms": 1000, "us": 1_000_000}[log.stamp])


def _text(what: str | None, event: Event, *, client: bool) -> str:
    if what is None:
        return event.pad
    pointed = ".0" if client and event.pointed and what.isdecimal() and not what.startswith("0") else ""
    return event.pad + what + pointed + event.pad


def _encodable(note: str, log: Log) -> str:
    return note.encode(log.encoding, "ignore").decode(log.encoding)


def _csv_record(line: Event | Broken, file: File, log: Log) -> str:
    if isinstance(line, Broken):
        few = log.separator.join("x" * (len(file.order) - 1))
        many = log.separator.join("x" * (len(file.order) + 1))
        return [few, many, log.separator.join(["\0x", *"x" * (len(file.order) - 1)])][line.kind % 3]
    cells = {
        "user": _text(line.client, line, client=True),
        "product": _text(line.item, line, client=False),
        "when": _stamp(line, log),
        "did": line.action,
        "note": _encodable(line.note, log),
        "more": "",
    }
    return log.separator.join(_cell(cells[name], line.quoted, log) for name in file.order)


def _written(text: str, log: Log) -> str:
    """What of a text a file can hold: in csv where nothing can be quoted, all but separators and line ends."""
    if log.form != "csv" or log.quote:
        return text
    return "".join(mark for mark in text if mark not in (log.separator, "\r", "\n"))


def _cell(text: str, quoted: bool, log: Log) -> str:
    """A field, quoted if it must be or may be; where nothing can be quoted, what would need it is left out of the text."""
    needs = any(mark in text for mark in (log.separator, "\r", "\n")) or (log.quote and text.startswith(log.quote))
    if not log.quote:
        return _written(text, log)
    return log.quote + text.replace(log.quote, log.quote * 2) + log.quote if needs or quoted else text


def _json_record(line: Event | Broken, log: Log) -> str:
    if isinstance(line, Broken):
        return ['{"user": 1', "[1]", "null", '{"user": {"a": 1}}', '{"user": "\\ud800"}'][line.kind % 5]
    held: dict[str, object] = {"did": line.action, "note": _encodable(line.note, log) or None}
    held["when"] = _stamp(line, log) if log.stamp == "text" else int(_stamp(line, log))
    for name, what in (("user", line.client), ("product", line.item)):
        number = what is not None and what.isdecimal() and not what.startswith("0") and not line.pad
        if number and not line.quoted:
            held[name] = float(str(what)) if line.pointed and name == "user" else int(str(what))
        elif what is not None or line.quoted:
            held[name] = None if what is None else _text(what, line, client=name == "user")
    return json.dumps(held, ensure_ascii=line.quoted)


def _parquet(file: File, log: Log) -> pl.DataFrame:
    """Ids as numbers of `file.numbers` where that is a type of numbers (the log then holds no others), else as text."""
    events = [line for line in file.lines if isinstance(line, Event)]
    times = [EPOCH + dt.timedelta(seconds=event.seconds) for event in events]
    columns: dict[str, pl.Series] = {
        "did": pl.Series([event.action for event in events], dtype=pl.String),
        "note": pl.Series([event.note for event in events], dtype=pl.String),
        "more": pl.Series([None] * len(events), dtype=pl.Null),
        "when": pl.Series(times, dtype=pl.Datetime("us")).cast(pl.Datetime(file.unit)),
    }
    for name in ("user", "product"):
        ids = [event.client if name == "user" else event.item for event in events]
        if file.numbers in ("String", "Categorical"):
            written = [_text(own, event, client=name == "user") for own, event in zip(ids, events, strict=True)]
            columns[name] = pl.Series(written, dtype=pl.String).cast(getattr(pl, file.numbers))
        else:
            numbers = [None if own is None else int(own) for own in ids]
            columns[name] = pl.Series(numbers, dtype=pl.Int64).cast(getattr(pl, file.numbers))
    return pl.DataFrame({name: columns[name] for name in file.order})
