"""Blocks: exactly the clients asked for, known answers, and nothing from after the cut."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kit.blocks.als import ALS, ALSSettings
from kit.blocks.base import BLOCKS, Block, BlockOutput, Others
from kit.blocks.organisers import DAYS, TOP, Organisers
from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.history import History
from kit.registry import Registry
from kit.store import Store

# A new block is tested here by being registered. Kinds whose defaults are too slow for a toy get small settings.
SMALL: dict[str, dict] = {
    "combined": {
        "network": {
            "width": 8,
            "events": {"width": 8, "age": True},
            "encoder": {"layers": 1, "heads": 2, "length": 8},
            "trunk": {"hidden": 8, "rank": 2},
        },
        "stats": {"families": ["counts"]},
        "train": {"epochs": 1},
        "cuts": 2,
    },
    "als": {"factors": 4, "iterations": 3, "min_clients": 1},
    "twhin": {"dim": 8, "batch": 512, "negatives": 16, "edges": {"min_clients": 1}, "train": {"epochs": 1, "lr": 0.1}},
    "gcn": {"dim": 8, "batch": 256, "negatives": 16, "steps": 2, "edges": {"min_clients": 1}, "train": {"epochs": 1}},
    "sequence": {
        "events": {"width": 8},
        "encoder": {"heads": 2, "layers": 1, "length": 16, "anchor": True},
        "train": {"epochs": 1},
        "budget": 1024,
    },
}


class Counts(Others):
    """What blocks that use another entry are given in these tests."""

    def of(self, name: str, history: History) -> BlockOutput:
        spine = pl.DataFrame({"client_id": history.clients})
        for kind in EventType:
            counts = history.events(kind).group_by("client_id").agg(pl.len().alias(kind.short)).collect()
            spine = spine.join(counts, on="client_id", how="left", maintain_order="left")
        values = spine.drop("client_id").to_numpy().astype(np.float32)
        return BlockOutput(values, tuple(kind.short for kind in EventType))


def make(kind: str) -> Block:
    cls = BLOCKS.loaded()[kind]
    unit = cls(cls.Settings(**SMALL.get(kind, {})), seed=0)
    if cls.takes:
        unit.uses, unit.others = ("counts",), Counts()
    return unit


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules of all parts that are looked up by name."""
    found: set[str] = set()
    lookup = Registry.__getitem__
    monkeypatch.setattr(
        Registry, "__getitem__", lambda self, name: found.update(self.modules([name])) or lookup(self, name)
    )
    return found


@pytest.mark.parametrize("kind", list(BLOCKS.loaded()))
def test_rows_are_the_clients_asked_for(toy_history: History, kind: str, asked: set[str]):
    fitted = make(kind).fit(toy_history)
    whole = fitted.transform(toy_history, toy_history.clients)
    assert whole.values.shape == (len(toy_history.clients), len(whole.columns))
    assert whole.values.dtype == np.float32
    assert len(set(whole.columns)) == len(whole.columns)
    some = toy_history.clients[[2, 3, 11]]
    np.testing.assert_array_equal(fitted.transform(toy_history, some).values, whole.values[[2, 3, 11]])
    counted = fitted.code().files
    assert not {name for name in asked if f"{name.replace('.', '/')}.py" not in counted}, "decides, but is not counted"


@pytest.mark.parametrize("kind", list(BLOCKS.loaded()))
def test_same_seed_same_bytes(toy_history: History, kind: str):
    one, two = (make(kind).fit(toy_history).transform(toy_history, toy_history.clients) for _ in range(2))
    assert one.values.tobytes() == two.values.tobytes()
    assert one.columns == two.columns


def disturb_the_future(folder: DataFolder, cut) -> None:
    """Delete half of the events at or after the cut and add many new ones: new clients' and known ones', odd values."""
    rng = np.random.default_rng(5)
    for kind in EventType:
        path = folder.raw(kind)
        frame = pl.read_parquet(path)
        when = pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S")
        past, future = frame.filter(when < cut), frame.filter(when >= cut)
        added = frame.sample(2_000, with_replacement=True, seed=3).with_columns(
            client_id=pl.Series(rng.integers(1, 200, 2_000)),
            timestamp=pl.Series(
                [(cut + timedelta(seconds=int(s))).strftime("%Y-%m-%d %H:%M:%S") for s in rng.integers(0, 10**6, 2_000)]
            ),
        )
        pl.concat([added, past, future.sample(fraction=0.5, seed=1)]).write_parquet(path)


@pytest.mark.parametrize("kind", list(BLOCKS.loaded()))
@pytest.mark.parametrize("rewound", [False, True], ids=["cut", "rewound"])
def test_the_future_changes_no_number_and_no_model_file(toy: DataFolder, tmp_path: Path, kind: str, rewound: bool):
    """Rule 1: alter, delete or add any event at or after the cut, and every vector and model file is bit-identical."""
    twin = DataFolder(tmp_path / "twin")
    shutil.copytree(toy.root, twin.root)
    cut = toy.split().train_start
    disturb_the_future(twin, cut - timedelta(days=14 * rewound))
    results = []
    for folder in (toy, twin):
        history = History.open(folder, cut, store=Store(tmp_path / folder.root.parent.name))
        if rewound:
            history, _ = history.rewind(14)
        fitted = make(kind).fit(history)
        values = fitted.transform(history, history.clients).values
        saved = tmp_path / "saved" / folder.root.name
        saved.mkdir(parents=True)
        fitted.save(saved)
        results.append((values.tobytes(), _files(saved)))
    assert results[0] == results[1]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_output_refuses_names_that_do_not_fit():
    with pytest.raises(ValueError, match="2 column names"):
        BlockOutput(np.zeros((3, 1), dtype=np.float32), ("a", "b"))


def test_organisers_features_do_not_depend_on_how_many_clients_are_taken_at_a_time(
    toy_history: History, monkeypatch: pytest.MonkeyPatch
):
    unit = Organisers(Organisers.Settings(), 0).fit(toy_history)
    whole = unit.transform(toy_history, toy_history.clients)
    monkeypatch.setattr("kit.blocks.organisers.CHUNK", 2)
    parts = unit.transform(toy_history, toy_history.clients)
    assert len(toy_history.clients) > 2
    assert parts.columns == whole.columns
    assert parts.values.tobytes() == whole.values.tobytes()


def test_organisers_features_by_hand(toy_history: History):
    """The slow definition of the aggregates, one client and value at a time."""
    output = Organisers(Organisers.Settings(), 0).fit(toy_history).transform(toy_history, toy_history.clients)
    column = {name: i for i, name in enumerate(output.columns)}
    for kind in (EventType.CART, EventType.VISIT):
        rows = toy_history.events(kind).collect()
        last = max(rows["timestamp"])
        value_column = "category" if kind is EventType.CART else "url"
        counts: dict[int, int] = {}
        for value in rows[value_column]:
            if value is not None:
                counts[value] = counts.get(value, 0) + 1
        top = sorted(counts, key=lambda value: (-counts[value], value))[:TOP]
        for i, client in enumerate(toy_history.clients.tolist()):
            mine = rows.filter(pl.col("client_id") == client)
            assert output.values[i, column[f"{kind.short}_n"]] == mine.height
            for days in DAYS:
                for value in top:
                    expected = sum(
                        v == value and t >= last - timedelta(days=days)
                        for v, t in zip(mine[value_column], mine["timestamp"], strict=True)
                    )
                    assert output.values[i, column[f"{kind.short}_{days}d_{value_column}_{value}"]] == expected
    queries = toy_history.events(EventType.SEARCH).collect()
    for i, client in enumerate(toy_history.clients.tolist()):
        mine = np.array(queries.filter(pl.col("client_id") == client)["query"].to_list()).reshape(-1, 16)
        expected = mine.mean(axis=0) if len(mine) else np.zeros(16)
        np.testing.assert_allclose(output.values[i, [column[f"query_{j}"] for j in range(16)]], expected, rtol=1e-5)


@pytest.mark.technique("C4")
def test_als_confidence_is_the_decayed_weighted_sum(toy_history: History):
    """1 + alpha · log(1 + Σ weight · 2^(−age / half_life)), summed by hand for every pair."""
    settings = ALSSettings(half_life=10.0, alpha=2.0, min_clients=1, weights={"buy": 3.0, "cart": 1.0}, factors=2)
    model = ALS(settings, 0).fit(toy_history)
    matrix = model._matrix(model._entries(toy_history), toy_history.clients).toarray()
    expected = np.zeros_like(matrix, dtype=np.float64)
    for kind, weight in ((EventType.BUY, 3.0), (EventType.CART, 1.0)):
        for client, at, _, category, _ in toy_history.events(kind).collect().rows():
            age = (toy_history.cut - at) // timedelta(seconds=1) / 86_400
            expected[np.searchsorted(toy_history.clients, client), np.searchsorted(model.items, category)] += (
                weight * 0.5 ** (age / 10.0)
            )
    np.testing.assert_allclose(matrix, np.where(expected > 0, 1 + 2 * np.log1p(expected), 0), rtol=1e-4)


def test_als_separates_two_communities(tmp_path: Path):
    """Known answer: two groups of clients that share no category end up with orthogonal-ish factors."""
    from datetime import datetime

    from kit.data.split import split_folder

    rng = np.random.default_rng(0)
    root = tmp_path / "two"
    root.mkdir()
    start = datetime(2022, 6, 1)
    clients = np.repeat(np.arange(40), 20)
    skus = rng.integers(0, 10, clients.size) + 10 * (clients >= 20)
    times = [
        (start + timedelta(hours=int(h))).strftime("%Y-%m-%d %H:%M:%S") for h in rng.integers(0, 24 * 60, clients.size)
    ]
    events = pl.DataFrame({"client_id": clients, "timestamp": times, "sku": skus})
    codes = ["[" + " ".join(map(str, range(16))) + "]"] * 20
    for kind in EventType:
        empty = events.head(0).rename({"sku": kind.value_column})
        frame = events if kind.value_column == "sku" else empty
        frame.cast({"query": pl.String}, strict=False).write_parquet(
            root / f"{kind.value}.parquet"
        ) if kind is EventType.SEARCH else frame.write_parquet(root / f"{kind.value}.parquet")
    pl.DataFrame({"sku": range(20), "category": range(20), "price": range(20), "name": codes}).write_parquet(
        root / "product_properties.parquet"
    )
    split_folder(root)
    history = History.open(DataFolder(root), store=Store(tmp_path / "store"))
    values = ALS(ALSSettings(factors=8), 0).fit(history).transform(history, history.clients).values
    values = values / np.linalg.norm(values, axis=1, keepdims=True)
    group = history.clients >= 20
    same = values[group] @ values[group].T
    across = values[group] @ values[~group].T
    assert same.mean() > 0.8
    assert abs(across.mean()) < 0.2


def test_one_category_and_a_wholesaler_break_nothing(toy_history: History, monkeypatch: pytest.MonkeyPatch):
    """Online Retail has a single category and clients with thousands of orders: the equations must stay solvable."""
    whole = ALS._entries

    def heavy(self: ALS, history: History) -> pl.DataFrame:
        return whole(self, history).with_columns(weight=pl.col("weight") * 1e5)

    monkeypatch.setattr(ALS, "_entries", heavy)
    values = ALS(ALSSettings(factors=32, min_clients=1), 0).fit(toy_history).transform(toy_history, toy_history.clients)
    assert np.isfinite(values.values).any()

    def single(self: ALS, history: History) -> pl.DataFrame:
        return (
            whole(self, history).with_columns(item=pl.lit(0, dtype=pl.Int64)).unique("client_id", maintain_order=True)
        )

    monkeypatch.setattr(ALS, "_entries", single)
    values = ALS(ALSSettings(factors=32, min_clients=1), 0).fit(toy_history).transform(toy_history, toy_history.clients)
    assert np.isnan(values.values).all()


def test_als_without_entries_gives_missing_rows(toy_history: History):
    values = ALS(ALSSettings(weights={}), 0).fit(toy_history).transform(toy_history, toy_history.clients).values
    assert np.isnan(values).all()


@pytest.mark.parametrize("items", ["sku", "url"])
def test_als_entries_do_not_depend_on_the_ranges(toy_history: History, items: str, monkeypatch: pytest.MonkeyPatch):
    block = ALS(ALSSettings(items=items), 0)
    whole = block._entries(toy_history)
    assert len(whole) > 100
    monkeypatch.setattr("kit.blocks.als.CHUNK", 3)
    assert block._entries(toy_history).equals(whole)
    assert whole["client_id"].is_sorted()
    assert len(block._entries(toy_history.rewind(400)[0])) == 0
