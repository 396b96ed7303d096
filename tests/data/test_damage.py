"""Damaged folders: bytes flipped, files cut, columns dropped, types and values changed. Words come out, never a traceback.

The seeds here are a sample; `python tests/data/test_damage.py 500` tries as many as are asked for.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # when run as a program
from toy import write_folder

from kit.data.check import check_folder
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.errors import KitError, Severity
from kit.history import History
from kit.store import Store

Rng = np.random.Generator


def flip(path: Path, rng: Rng) -> None:
    data = bytearray(path.read_bytes())
    for at in rng.integers(0, len(data), rng.integers(1, 20)):
        data[at] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(data))


def cut(path: Path, rng: Rng) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(0, len(data)))])


def remove(path: Path, rng: Rng) -> None:
    path.unlink()


def _edited(path: Path, change: Callable[[pl.DataFrame, str], pl.DataFrame], rng: Rng) -> None:
    if path.suffix != ".parquet":
        return flip(path, rng)
    frame = pl.read_parquet(path)
    change(frame, frame.columns[rng.integers(len(frame.columns))]).write_parquet(path)


def drop_column(path: Path, rng: Rng) -> None:
    _edited(path, lambda frame, name: frame.drop(name), rng)


def change_type(path: Path, rng: Rng) -> None:
    types = [
        pl.String,
        pl.Float64,
        pl.Int32,
        pl.UInt64,
        pl.Boolean,
        pl.Date,
        pl.Datetime("ms"),
        pl.Datetime("ns", "UTC"),
        pl.Null,
        pl.Binary,
        pl.List(pl.Int64),
        pl.Categorical,
        pl.Decimal(20, 2),
        pl.Duration,
        pl.Time,
        pl.Int128,
    ]
    dtype = types[rng.integers(len(types))]

    def change(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        try:
            return frame.with_columns(pl.col(name).cast(dtype, strict=False))
        except pl.exceptions.PolarsError:
            return frame.with_columns(pl.lit(None).cast(dtype).alias(name))

    _edited(path, change, rng)


def change_value(path: Path, rng: Rng) -> None:
    values: list[object] = [
        None,
        -1,
        2**62,
        -(2**63),
        10**6,
        "",
        "2022-13-45 99:99:99",
        "NaN",
        "5.5",
        "[1 2 3]",
        "9999-12-31 23:59:59",
    ]
    value = values[rng.integers(len(values))]

    def change(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        at = pl.int_range(pl.len()) % int(rng.integers(2, 50)) == 0
        usual = frame.schema[name]
        put = pl.lit(None if usual.is_temporal() else value).cast(usual, strict=False)
        return frame.with_columns(pl.when(at).then(put).otherwise(pl.col(name)).alias(name))

    _edited(path, change, rng)


DAMAGES = (flip, cut, remove, drop_column, change_type, change_value)


def attempt(work: Path, seed: int) -> str:
    """Damage one file of a split folder, then use it in every way; what was said, or "" where all went well.

    Anything but a KitError comes through. What `kit data check` finds no error in must go all the way.
    """
    rng = np.random.default_rng(seed)
    root = work / f"shop-{seed}"
    shutil.copytree(work / "sound", root)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix in {".parquet", ".npy", ".json"})
    path = files[rng.integers(len(files))]
    damage = DAMAGES[rng.integers(len(DAMAGES))]
    damage(path, rng)
    store, folder = Store(work / f"store-{seed}"), DataFolder(root)
    errors = [finding for finding in check_folder(root, store) if finding.severity is Severity.ERROR]
    said: list[str] = []
    was_split = folder.is_split

    def use(what: Callable[[], object]) -> None:
        try:
            what()
        except KitError as error:
            said.append(f"{error.what} {error.remedy}")

    use(lambda: History.open(folder, store=store))
    use(lambda: History.open(folder, "end", store=store))
    use(lambda: split_folder(root, store=store))
    if not errors and was_split and path.suffix == ".parquet":
        assert not said, (damage.__name__, path.name, said)
    shutil.rmtree(root)
    shutil.rmtree(store.root, ignore_errors=True)
    return f"{damage.__name__} {path.relative_to(root)}: {said[0] if said else ''}"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound(tmp_path_factory.mktemp("damage"))


def sound(work: Path) -> Path:
    """A folder with a sound, split shop in `sound`."""
    split_folder(write_folder(work / "sound", rows=300), store=Store(work / "store"))
    return work


@pytest.mark.parametrize("seed", range(24))
def test_damage_ends_in_words(work: Path, seed: int) -> None:
    attempt(work, seed)


if __name__ == "__main__":
    place = sound(Path(tempfile.mkdtemp()))
    bad = 0
    for number in range(int(sys.argv[1])):
        try:
            print(number, attempt(place, number))
        except BaseException as error:  # panics are no Exceptions
            bad += 1
            print(number, "TRACEBACK", type(error).__name__, str(error)[:300])
    print(f"{bad} tracebacks")
