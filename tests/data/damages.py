"""Ways to damage a file: bytes, tables, arrays, JSON, and what lies where a file should."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

Rng = np.random.Generator
Damage = Callable[[Path, Rng], None]
TYPES: tuple[Any, ...] = (
    pl.String, pl.Float64, pl.Int32, pl.UInt64, pl.Boolean, pl.Date, pl.Datetime("ms"), pl.Datetime("ns", "UTC"), pl.Null,
    pl.Binary, pl.List(pl.Int64), pl.Categorical, pl.Decimal(20, 2), pl.Duration, pl.Time, pl.Int128, pl.Struct({"a": pl.Int8}),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, -1, 2**62, -(2**63), 10**6, 7, "", "2022-13-45 99:99:99", "NaN", "5.5", "[1 2 3]", "9999-12-31 23:59:59",
    "2022-06-01 00:00:00",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (None, -1, 0, 1, 2**70, 1e400, float("nan"), "", "x", [], {}, True, "2022-06-01T00:00:00")
DTYPES = (
    "float64",
    "float32",
    "float16",
    "int32",
    "int8",
    "uint64",
    "bool",
    "<U8",
    "S4",
    "complex64",
    "M8[s]",
    ">i8",
    "object",
)


def damage(files: list[Path], rng: Rng) -> str:
    """Damage one of `files`; what was done, in words."""
    path = files[rng.integers(len(files))]
    kind = {".parquet": TABLE, ".npy": ARRAY, ".json": JSON}.get(path.suffix, ())
    ways = (*ANY, *kind, *kind)
    way = ways[rng.integers(len(ways))]
    others = [other for other in files if other.suffix == path.suffix and other != path]
    if way is swap:
        shutil.copyfile(others[rng.integers(len(others))], path) if others and path.is_file() else None
    elif path.is_file():  # a second damage may meet a folder or a link
        way(path, rng)
    return f"{way.__name__} {path}"


def flip(path: Path, rng: Rng) -> None:
    """Some bytes become others."""
    data = bytearray(path.read_bytes())
    for at in rng.integers(0, max(len(data), 1), rng.integers(1, 20)) if data else ():
        data[at] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(data))


def cut(path: Path, rng: Rng) -> None:
    """Its end is gone."""
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(0, max(len(data), 1)))])


def empty(path: Path, rng: Rng) -> None:
    """It holds nothing."""
    path.write_bytes(b"")


def grow(path: Path, rng: Rng) -> None:
    """Bytes follow its end."""
    with path.open("ab") as stream:
        stream.write(rng.bytes(int(rng.integers(1, 200))))


def remove(path: Path, rng: Rng) -> None:
    """It is gone."""
    path.unlink()


def folder(path: Path, rng: Rng) -> None:
    """A folder in its place."""
    path.unlink()
    path.mkdir()


def dangling(path: Path, rng: Rng) -> None:
    """A link that leads nowhere."""
    path.unlink()
    path.symlink_to("nowhere")


def circular(path: Path, rng: Rng) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def swap(path: Path, rng: Rng) -> None:
    """Another file of its kind in its place; done by `damage`."""


def _edited(path: Path, change: Callable[[pl.DataFrame, str], pl.DataFrame], rng: Rng) -> None:
    try:
        frame = pl.read_parquet(path)
        change(frame, frame.columns[rng.integers(len(frame.columns))]).write_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError):
        flip(path, rng)


def drop_column(path: Path, rng: Rng) -> None:
    """A column less."""
    _edited(path, lambda frame, name: frame.drop(name), rng)


def rename_column(path: Path, rng: Rng) -> None:
    """A column of another name."""
    _edited(path, lambda frame, name: frame.rename({name: name.upper()}), rng)


def add_column(path: Path, rng: Rng) -> None:
    """A column more."""
    _edited(path, lambda frame, name: frame.with_columns(pl.col(name).alias(f"{name}_2")), rng)


def change_type(path: Path, rng: Rng) -> None:
    """A column of another type."""
    dtype = TYPES[rng.integers(len(TYPES))]

    def change(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        try:
            return frame.with_columns(pl.col(name).cast(dtype, strict=False))
        except pl.exceptions.PolarsError:
            return frame.with_columns(pl.lit(None).cast(dtype).alias(name))

    _edited(path, change, rng)


def change_value(path: Path, rng: Rng) -> None:
    """Another value in some rows, or in one."""
    value = VALUES[rng.integers(len(VALUES))]

    def change(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        every = int(rng.integers(2, max(len(frame), 3)))
        at = pl.int_range(pl.len()) % every == int(rng.integers(every))
        usual = frame.schema[name]
        put = pl.lit(None if usual.is_temporal() else value).cast(usual, strict=False)
        return frame.with_columns(pl.when(at).then(put).otherwise(pl.col(name)).alias(name))

    _edited(path, change, rng)


def shift_values(path: Path, rng: Rng) -> None:
    """A column of numbers plus one, or a column of anything else by a row."""
    by = int(rng.integers(1, 4))

    def change(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        column = pl.col(name)
        return frame.with_columns(column + by if frame.schema[name].is_integer() else column.shift(by))

    _edited(path, change, rng)


def change_rows(path: Path, rng: Rng) -> None:
    """Rows doubled, left out, none of them left, or in another order."""
    ways: tuple[Callable[[pl.DataFrame, str], pl.DataFrame], ...] = (
        lambda frame, _: pl.concat([frame, frame.head(3)]),
        lambda frame, _: frame.slice(1),
        lambda frame, _: frame.clear(),
        lambda frame, _: frame.reverse(),
    )
    _edited(path, ways[rng.integers(len(ways))], rng)


def _array(path: Path, change: Callable[[Any], Any], rng: Rng) -> None:
    try:
        np.save(path, change(np.load(path, allow_pickle=False)), allow_pickle=True)
    except (ValueError, TypeError, OverflowError, EOFError, OSError):
        flip(path, rng)


def array_type(path: Path, rng: Rng) -> None:
    """An array of another type."""
    name = DTYPES[rng.integers(len(DTYPES))]
    with np.errstate(all="ignore"):
        _array(path, lambda values: values.astype(name), rng)


def array_shape(path: Path, rng: Rng) -> None:
    """An array of another shape."""
    ways: tuple[Callable[[Any], Any], ...] = (
        lambda values: values[None], lambda values: values[..., None], lambda values: values[1:], lambda values: values[:0],
        lambda values: values.ravel()[0], lambda values: np.concatenate([values, values[:2]]), lambda values: values.T.copy(),
    )  # fmt: skip
    _array(path, ways[rng.integers(len(ways))], rng)


def array_values(path: Path, rng: Rng) -> None:
    """Another value in one place, two values exchanged, or all shifted."""
    values: tuple[Any, ...] = (np.nan, np.inf, -1, 0, 1, -(2**63), 2**40)
    value, way = values[rng.integers(len(values))], int(rng.integers(4))

    def change(found: Any) -> Any:
        flat = found.copy().reshape(-1)
        at, to = rng.integers(len(flat), size=2)
        if way == 0:
            flat[at] = value
        elif way == 1:
            flat[[at, to]] = flat[[to, at]]
        elif way == 2:
            flat[at] = flat[to]
        else:
            flat += 1
        return flat.reshape(found.shape)

    with np.errstate(all="ignore"):
        _array(path, change, rng)


def array_header(path: Path, rng: Rng) -> None:
    """Letters of the header of an array."""
    data = bytearray(path.read_bytes())
    for at in rng.integers(6, max(min(len(data), 90), 7), 2):
        data[min(int(at), len(data) - 1) : int(at) + 1] = bytes([b"0123456789()'{},<>|iuf"[rng.integers(22)]])
    path.write_bytes(bytes(data))


def _json(path: Path, change: Callable[[Any], Any], rng: Rng) -> None:
    try:
        path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    except (ValueError, RecursionError):
        flip(path, rng)


def _place(content: Any, rng: Rng) -> tuple[Any, Any]:
    """A container within some JSON, and a key in it."""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            return None, None
        key = keys[rng.integers(len(keys))]
        inner = content[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            return content, key
        content = inner


def json_key(path: Path, rng: Rng) -> None:
    """A key or an item less."""

    def change(content: Any) -> Any:
        within, key = _place(content, rng) if isinstance(content, dict | list) else (None, None)
        if within is not None:
            del within[key]
        return content

    _json(path, change, rng)


def json_value(path: Path, rng: Rng) -> None:
    """Another value somewhere."""
    value = NUMBERS[rng.integers(len(NUMBERS))]

    def change(content: Any) -> Any:
        within, key = _place(content, rng) if isinstance(content, dict | list) else (None, None)
        if within is not None:
            within[key] = value
        return content

    _json(path, change, rng)


def json_whole(path: Path, rng: Rng) -> None:
    """Another JSON altogether."""
    path.write_text(("null", "[]", "{}", "3", '"x"', "[[1]]", '{"a": {"b": 1}}')[rng.integers(7)])


ANY: tuple[Damage, ...] = (flip, cut, empty, grow, remove, folder, dangling, circular, swap)
TABLE: tuple[Damage, ...] = (
    drop_column, rename_column, add_column, change_type, change_value, change_value, shift_values, change_rows,
)  # fmt: skip
ARRAY: tuple[Damage, ...] = (array_type, array_shape, array_values, array_values, array_header)
JSON: tuple[Damage, ...] = (json_key, json_value, json_value, json_whole)
