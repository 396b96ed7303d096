"""The split against its definition written out in plain loops, and what it does beyond the official one.

The organisers' own data_utils/split_data.py (commit e91c1a6, pandas 2.2.3, pyarrow 19.0.1) was run once on three folders
made by `write_folder` (seeds 0, 1, 2; the last with 20,000 rows per table): all seven files equal row for row, column for
column and in column order, after casting its nanosecond timestamps to microseconds. `official_split` below is that
behaviour written down slowly.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from kit.challenge import EventType
from kit.cli.main import app
from kit.content import bytes_digest
from kit.data.layout import DataFolder, Split
from kit.data.split import split_folder
from kit.errors import KitError
from kit.tasks import CATEGORY, NEW_SKU, PRICE, SKU

Make = Callable[..., Path]


def parse(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S")


def official_split(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """The organisers' split in loops: file stem → rows."""
    tables = {kind: pl.read_parquet(root / f"{kind.value}.parquet").rows() for kind in EventType}
    end = max(parse(when) for _, when, _ in tables[EventType.BUY])
    start = end - timedelta(days=27)
    start = start.replace(hour=0, minute=0, second=0)
    middle = start + timedelta(days=14)
    rows: dict[str, list[tuple[object, ...]]] = {}
    for kind, table in tables.items():
        rows[kind.value] = [(who, parse(when), what) for who, when, what in table if parse(when) < start]
    properties = {sku: rest for sku, *rest in pl.read_parquet(root / "product_properties.parquet").rows()}
    bought = [
        (who, parse(when), sku, *properties[sku]) for who, when, sku in tables[EventType.BUY] if parse(when) >= start
    ]
    rows["train_target"] = [row for row in bought if row[1] < middle]
    rows["validation_target"] = [row for row in bought if middle <= row[1] <= end]
    return rows


def files_of(root: Path) -> dict[str, bytes]:
    """Bytes of what the split wrote, but for its record of the files that it was made from and wrote."""
    found = {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.glob("*/*")) if p.is_file()}
    split = json.loads(found["target/split.json"])
    names = {key: sorted(split[key]) for key in ("sources", "written")}
    return found | {"target/split.json": json.dumps(split | names).encode()}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_official_split_row_for_row(make_folder: Make, seed: int) -> None:
    root = make_folder(seed=seed)
    split_folder(root)
    for stem, expected in official_split(root).items():
        room = "target" if stem.endswith("_target") else "input"
        frame = pl.read_parquet(root / room / f"{stem}.parquet")
        assert frame.rows() == expected, stem
        assert frame.schema["timestamp"] == pl.Datetime("us")
    assert frame.columns == ["client_id", "timestamp", "sku", "category", "price", "name"]


def test_boundaries_are_half_open_and_the_last_purchase_counts(make_folder: Make) -> None:
    root = make_folder()
    times = ["2022-06-01 00:00:00", "2022-07-03 23:59:59", "2022-07-04 00:00:00", "2022-07-17 23:59:59"]
    times += ["2022-07-18 00:00:00", "2022-07-31 18:00:00"]
    pl.DataFrame({"client_id": [1, 2, 3, 4, 5, 6], "timestamp": times, "sku": [1001, 1002] * 3}).write_parquet(
        root / "product_buy.parquet"
    )
    split = split_folder(root)
    assert split == Split(datetime(2022, 7, 4), datetime(2022, 7, 18), datetime(2022, 7, 31, 18))
    folder = DataFolder(root)
    assert pl.read_parquet(folder.input(EventType.BUY))["client_id"].to_list() == [1, 2]
    assert pl.read_parquet(folder.window("train"))["client_id"].to_list() == [3, 4]
    assert pl.read_parquet(folder.window("validation"))["client_id"].to_list() == [5, 6]
    assert folder.split() == split


def test_lists_by_slow_counting(make_folder: Make) -> None:
    root = make_folder(rows=3000)
    split_folder(root)
    rows = official_split(root)
    before = {row[2] for row in rows["product_buy"]}
    expected = {
        CATEGORY: Counter(row[3] for row in rows["train_target"]),
        SKU: Counter(row[2] for row in rows["train_target"]),
        PRICE: Counter(row[4] for row in rows["train_target"]),
    }
    folder = DataFolder(root)
    for task in (CATEGORY, SKU):
        top = sorted(expected[task].items(), key=lambda item: (-item[1], item[0]))[:100]
        assert list(zip(np.load(folder.targets(task.name)), np.load(folder.popularity(task.name)), strict=True)) == top
    assert np.load(folder.targets(PRICE.name)).tolist() == list(range(100))
    assert np.load(folder.popularity(PRICE.name)).tolist() == [expected[PRICE][b] for b in range(100)]
    for task in (CATEGORY, SKU, PRICE):
        assert np.load(folder.targets(task.name)).dtype == np.load(folder.popularity(task.name)).dtype == np.int64
    if folder.targets(NEW_SKU.name).exists():
        assert not before & set(np.load(folder.targets(NEW_SKU.name)).tolist())


def test_new_skus_were_never_bought_before_the_cut(make_folder: Make) -> None:
    root = make_folder()
    buys = pl.read_parquet(root / "product_buy.parquet")
    young = pl.col("sku").is_in([1003, 1004, 1005]) & (pl.col("timestamp") < "2022-06-24")
    buys.filter(~young).write_parquet(root / "product_buy.parquet")
    split_folder(root)
    folder = DataFolder(root)
    new = np.load(folder.targets(NEW_SKU.name))
    rows = official_split(root)
    counts = Counter(row[2] for row in rows["train_target"])
    before = {row[2] for row in rows["product_buy"]}
    top = sorted(((s, n) for s, n in counts.items() if s not in before), key=lambda item: (-item[1], item[0]))[:100]
    assert list(zip(new, np.load(folder.popularity(NEW_SKU.name)), strict=True)) == top
    assert {1003, 1004, 1005} <= set(new.tolist())


def test_clients_are_those_of_the_input(make_folder: Make) -> None:
    root = make_folder(rows=60)
    split_folder(root)
    rows = official_split(root)
    seen = sorted({row[0] for kind in EventType for row in rows[kind.value]})
    folder = DataFolder(root)
    assert folder.clients().tolist() == seen
    assert np.load(folder.active_clients).tolist() == sorted({row[0] for row in rows["product_buy"]})


def test_brought_lists_are_kept_and_own_lists_are_made_anew(make_folder: Make) -> None:
    root = make_folder()
    folder = DataFolder(root)
    (root / "input").mkdir()
    (root / "target").mkdir()
    np.save(folder.relevant_clients, np.array([5, 3, 9999], dtype=np.int64))
    np.save(folder.targets(SKU.name), np.array([1009, 1001, 7], dtype=np.int64))
    split_folder(root)
    assert np.load(folder.relevant_clients).tolist() == [5, 3, 9999]
    assert set(np.load(folder.active_clients).tolist()) <= {3, 5}
    counts = Counter(row[2] for row in official_split(root)["train_target"])
    assert np.load(folder.popularity(SKU.name)).tolist() == [counts[1009], counts[1001], 0]
    first = np.load(folder.targets(CATEGORY.name))
    products = pl.read_parquet(folder.products).with_columns(pl.col("category") + 500)
    products.write_parquet(folder.products)
    split_folder(root)
    assert np.load(folder.targets(CATEGORY.name)).tolist() == (first + 500).tolist()
    assert np.load(folder.targets(SKU.name)).tolist() == [1009, 1001, 7]
    products.with_columns(category=pl.lit(0)).write_parquet(folder.products)
    split_folder(root)
    assert not folder.targets(CATEGORY.name).exists()
    assert not folder.popularity(CATEGORY.name).exists()


def test_official_active_clients_can_be_had_before_and_after(make_folder: Make) -> None:
    root = make_folder()
    folder = DataFolder(root)
    with pytest.raises(KitError, match="did not come with this folder"):
        split_folder(root, official_active_clients=True)
    (root / "target").mkdir(exist_ok=True)
    np.save(folder.active_clients, np.array([70, 2], dtype=np.int64))
    split_folder(root)
    ours = np.load(folder.active_clients).tolist()
    assert len(ours) > 2
    for official, expected in [(True, [70, 2]), (True, [70, 2]), (False, ours), (True, [70, 2])]:
        split_folder(root, official_active_clients=official)
        assert np.load(folder.active_clients).tolist() == expected


def test_no_categories_no_category_task(make_folder: Make, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder(categories=1)
    split_folder(root)
    assert not DataFolder(root).targets(CATEGORY.name).exists()
    assert "share one category" in capsys.readouterr().err
    products = pl.read_parquet(root / "product_properties.parquet").drop("category")
    products.with_columns(price=pl.lit(0)).write_parquet(root / "product_properties.parquet")
    split_folder(root)
    assert pl.read_parquet(DataFolder(root).window("train"))["category"].unique().to_list() == [0]
    assert not DataFolder(root).targets(PRICE.name).exists()
    assert "share one price bucket" in capsys.readouterr().err


def test_again_gives_the_same_bytes(make_folder: Make) -> None:
    root = make_folder(rows=2000)
    split_folder(root)
    first = files_of(root)
    split_folder(root)
    assert files_of(root) == first
    assert not (root / ".split").exists()
    stored = json.loads((root / "target" / "split.json").read_text())
    assert set(stored) == {"days", "train_start", "validation_start", "end", "sources", "written"}
    raw = [*(DataFolder(root).raw(kind) for kind in EventType), DataFolder(root).products]
    assert stored["sources"] == {path.name: bytes_digest(path) for path in raw}
    there = {f"{path.parent.name}/{path.name}": bytes_digest(path) for path in root.glob("*/*")}
    assert stored["written"] == {name: digest for name, digest in there.items() if name != "target/split.json"}


def break_nothing_bought(root: Path) -> None:
    pl.read_parquet(root / "product_buy.parquet").head(0).write_parquet(root / "product_buy.parquet")


def break_short(root: Path) -> None:
    for kind in EventType:
        path = root / f"{kind.value}.parquet"
        pl.read_parquet(path).filter(pl.col("timestamp") >= "2022-06-27").write_parquet(path)


def break_properties(root: Path) -> None:
    path = root / "product_properties.parquet"
    pl.read_parquet(path).filter(pl.col("sku") > 1004).write_parquet(path)


def break_timestamp(root: Path) -> None:
    path = root / "page_visit.parquet"
    frame = pl.read_parquet(path)
    frame.with_columns(timestamp=pl.lit("2022/06/01")).write_parquet(path)


def break_missing(root: Path) -> None:
    (root / "search_query.parquet").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_nothing_bought, "product_buy.parquet: has no rows. A folder without it cannot be split."),
        (break_short, "nothing lies before the cut"),
        (
            break_properties,
            r"rows name 4 skus without properties: \[1001, 1002, 1003\]; \d+ of them lie in the target windows.",
        ),
        (
            break_timestamp,
            "page_visit.parquet timestamp, row 0: 1035 rows of timestamp are not timestamps of the form .*'2022/06/01'",
        ),
        (break_missing, "search_query.parquet is missing"),
    ],
)
def test_errors_name_the_trouble_and_leave_the_folder_alone(
    make_folder: Make, damage: Callable[[Path], None], message: str
) -> None:
    root = make_folder()
    split_folder(root)
    first = files_of(root)
    damage(root)
    with pytest.raises(KitError, match=message):
        split_folder(root)
    assert files_of(root) == first


def test_datetime_files_split_like_text_files(make_folder: Make) -> None:
    root, other = make_folder("text"), make_folder("datetime")
    for kind in EventType:
        path = other / f"{kind.value}.parquet"
        time = pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ns")
        pl.read_parquet(path).with_columns(time).write_parquet(path)
    split_folder(root)
    split_folder(other)
    assert files_of(root) == files_of(other)


def test_windows_that_came_with_the_folder_are_kept(make_folder: Make) -> None:
    """The official archive: raw events end where the official windows begin, so the input is everything."""
    root, local = make_folder("official"), make_folder("local")
    split = split_folder(local)
    (root / "target").mkdir()
    for name in ("train", "validation"):
        (root / "target" / f"{name}_target.parquet").write_bytes(DataFolder(local).window(name).read_bytes())
    for kind in EventType:
        path = root / f"{kind.value}.parquet"
        pl.read_parquet(path).filter(pl.col("timestamp") < str(split.train_start)).write_parquet(path)
    for _ in range(2):
        assert split_folder(root) == split
        made = "target/made.json"
        assert {k: v for k, v in files_of(root).items() if k != made} == {
            k: v for k, v in files_of(local).items() if k != made
        }
    pl.read_parquet(DataFolder(root).window("train")).with_columns(
        pl.col("timestamp") - pl.duration(days=30)
    ).write_parquet(DataFolder(root).window("train"))
    with pytest.raises(KitError, match="as the last purchase of"):
        split_folder(root)


def test_the_command_prints_the_instants_for_programs(make_folder: Make) -> None:
    root = make_folder("printed")
    said = json.loads(CliRunner().invoke(app, ["data", "split", str(root), "--json"]).stdout)
    split = DataFolder(root).split()
    assert said == {"data": str(root), "days": 14} | {
        key: str(getattr(split, key)) for key in ("train_start", "validation_start", "end")
    }
