"""Nothing at or after the cut moves a single bit of any family, registered now or later."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feature_log import built
from toy import BEGIN, DAYS, code_text, write_folder

from kit.challenge import TIMESTAMP_FORMAT, EventType
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.features.registry import FAMILIES
from kit.history import History
from kit.store import Store

CUT = BEGIN + timedelta(days=40)
FAMILIES = list(FAMILIES.loaded())


def opened(root: Path, cut: datetime) -> History:
    return History.open(DataFolder(root), cut, store=Store(root / "store"))


def alter(root: Path, after: datetime, how: str) -> None:
    """Delete, add or change events at or after an instant in every table."""
    rng = np.random.default_rng(5)
    for kind in EventType:
        path = root / f"{kind.value}.parquet"
        frame = pl.read_parquet(path)
        late = pl.col("timestamp") >= after.strftime(TIMESTAMP_FORMAT)
        past, future = frame.filter(~late), frame.filter(late)
        column = kind.value_column
        if how == "add":
            rows = 3000
            times = [after + timedelta(seconds=int(s)) for s in rng.integers(0, 30 * 86400, rows)]
            times[0] = after  # exactly at the cut
            values: list[object] = rng.integers(0, 5000, rows).tolist()
            if column == "query":
                values = [code_text(rng)] * rows
            extra = pl.DataFrame(
                {
                    "client_id": rng.integers(0, 4000, rows),
                    "timestamp": [time.strftime(TIMESTAMP_FORMAT) for time in times],
                    column: values,
                }
            )
            future = pl.concat([future, extra])
        elif how == "change":
            future = future.with_columns(pl.col("client_id").reverse(), pl.col(column).reverse())
        kept = past if how == "delete" else pl.concat([future, past])
        kept.sample(fraction=1.0, shuffle=True, seed=3).write_parquet(path)


@pytest.fixture(scope="module", params=[14, 7])
def shop(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder that is split into windows of 14 days, or of 7."""
    root = write_folder(tmp_path_factory.mktemp("leak") / "base")
    split_folder(DataFolder(root).root, days=request.param)
    return root


def copied(shop: Path, name: str) -> Path:
    import shutil

    other = shop.parent / name
    shutil.copytree(shop, other, ignore=shutil.ignore_patterns("store"))
    return other


@pytest.fixture(scope="module")
def frames(shop: Path) -> dict[str, pl.DataFrame]:
    """Features of all families at CUT: untouched, altered three ways, and by rewinding from a later cut."""
    result = {"base": built(opened(shop, CUT))}
    for how in ("delete", "add", "change"):
        other = copied(shop, how)
        alter(other, CUT, how)
        result[how] = built(opened(other, CUT))
    later = CUT + timedelta(days=DataFolder(shop).split().days)
    result["rewound"] = built(opened(shop, later).rewind()[0])
    result["rewound, altered"] = built(opened(copied_add(shop), later).rewind()[0])
    return result


def copied_add(shop: Path) -> Path:
    other = copied(shop, "rewind")
    alter(other, CUT, "add")
    return other


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("how", ["delete", "add", "change", "rewound", "rewound, altered"])
def test_the_future_changes_nothing(frames: dict[str, pl.DataFrame], name: str, how: str) -> None:
    base, other = (frames[key].select("client_id", pl.col(f"^{name}__.*$")) for key in ("base", how))
    assert base.columns == other.columns
    for column in base.columns:
        assert base[column].to_numpy().tobytes() == other[column].to_numpy().tobytes(), column


def test_the_past_changes_something(frames: dict[str, pl.DataFrame], shop: Path) -> None:
    """The comparison above can fail: an event just before the cut moves features."""
    other = copied(shop, "past")
    alter(other, CUT - timedelta(days=1), "add")
    moved = built(opened(other, CUT))
    assert not moved.select(pl.col("^counts__.*$")).equals(frames["base"].select(pl.col("^counts__.*$")))
    assert (BEGIN + timedelta(days=DAYS)) > CUT
