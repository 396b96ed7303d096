"""A label drawn at random and put only into the future window must not be predictable from any profile.

Random clients buy a product of their own in the target window and nowhere else. Nothing before the cut can tell who; a profile
that predicts it for held-out clients has read the future. The last test is the proof that this test can fail.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_blocks import SMALL
from toy import write_folder

from kit.blocks.base import BLOCKS, Block, BlockOutput
from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.scan import scan_events
from kit.data.split import split_folder
from kit.history import History
from kit.profile import build_profile
from kit.recipe import Recipe, parse, read_recipe
from kit.store import Store

CLIENTS = 600
PLANTED = 5_000
"""A product that nobody else buys."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """A split folder in which half of the clients, drawn at random, buy PLANTED in the first target window, thrice."""
    root = write_folder(tmp_path_factory.mktemp("planted") / "shop", rows=4_000, clients=CLIENTS)
    before = split_folder(root)
    folder = DataFolder(root)
    clients = folder.clients()
    rng = np.random.default_rng(17)
    chosen = rng.permutation(clients)[: len(clients) // 2]
    products = pl.read_parquet(folder.products)
    row = products.head(1).with_columns(sku=pl.lit(PLANTED, dtype=products.schema["sku"]))
    pl.concat([products, row]).write_parquet(folder.products)
    buys = pl.read_parquet(folder.raw(EventType.BUY))
    seconds = rng.integers(0, 13 * 86_400, 3 * len(chosen))
    times = [(before.train_start + timedelta(seconds=int(s))).strftime("%Y-%m-%d %H:%M:%S") for s in seconds]
    more = pl.DataFrame(
        {"client_id": np.repeat(chosen, 3), "timestamp": times, "sku": np.full(len(times), PLANTED)},
        schema=buys.schema,
    )
    pl.concat([buys, more]).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(folder.raw(EventType.BUY))
    assert split_folder(root) == before
    np.testing.assert_array_equal(folder.clients(), clients)
    np.testing.assert_array_equal(clients[label(folder, clients)], np.sort(chosen))
    return folder


def label(folder: DataFolder, clients: np.ndarray) -> np.ndarray:
    """(n,) who buys PLANTED in the train-target window, from the very file that probes are trained on."""
    window = pl.read_parquet(folder.window("train"))
    return np.isin(clients, window.filter(pl.col("sku") == PLANTED)["client_id"].to_numpy())


def open_at_cut(folder: DataFolder, store: Store) -> History:
    """From the raw files, which hold the future: reading input/ alone would prove nothing about the door."""
    return History.open(folder, folder.split().train_start, store=store)


def held_out_auroc(matrix: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """AUROC on clients that were not trained on, by a linear and by a tree model; five folds."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    models = {
        "linear": make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=200)),
        "trees": HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8, random_state=0),
    }
    x = matrix.astype(np.float32)
    return {
        name: float(roc_auc_score(truth, cross_val_predict(model, x, truth, cv=folds, method="predict_proba")[:, 1]))
        for name, model in models.items()
    }


def noise(truth: np.ndarray) -> float:
    """Four standard errors of an AUROC without any signal (Mann & Whitney 1947)."""
    ones, n = truth.sum(), len(truth)
    return float(4 * np.sqrt((n + 1) / (12 * ones * (n - ones))))


def recipe_of(kind: str) -> Recipe:
    if kind.endswith(".toml"):
        return read_recipe(Path(__file__).parents[2] / "pipelines" / kind)
    blocks = {kind: {"kind": kind, "scale": "standard", **SMALL.get(kind, {})}}
    if (
        kind in BLOCKS.loaded() and BLOCKS.loaded()[kind].takes
    ):  # it learns from another entry, which is not in the profile
        blocks[kind]["uses"] = ["counts"]
        blocks["counts"] = {"kind": "stats", "families": ["counts"], "profile": False}
    return parse(Recipe, {"name": "one", "blocks": blocks}, "test")


@pytest.mark.parametrize("kind", ["stats.toml", *(kind for kind in BLOCKS.loaded() if kind != "stats")])
def test_a_label_of_the_future_alone_is_not_predictable(planted: DataFolder, tmp_path: Path, kind: str):
    history = open_at_cut(planted, Store(tmp_path))
    profile = build_profile(recipe_of(kind), history, Store(tmp_path))
    truth = label(planted, profile.clients)
    for model, auroc in held_out_auroc(profile.matrix, truth).items():
        assert abs(auroc - 0.5) < noise(truth), model


class Leaky(Block):
    """Noise, and a faint trace of what is to come: who buys something new after the cut, read past the History."""

    kind = "leaky"
    description = "Cheats."
    path: ClassVar[Path]

    def fit(self, history: History) -> Leaky:
        return self

    def transform(self, history: History, clients: np.ndarray) -> BlockOutput:
        events, late = scan_events(self.path, EventType.BUY).collect(), pl.col("timestamp") >= history.cut
        known = events.filter(~late)["sku"].unique().implode()
        buyers = events.filter(late, ~pl.col("sku").is_in(known))["client_id"].unique()
        values = np.random.default_rng(0).normal(size=(len(clients), 100)).astype(np.float32)
        values[:, 40] += np.isin(clients, buyers.to_numpy())
        return BlockOutput(values, tuple(f"x_{i}" for i in range(100)))


def test_a_block_that_reads_the_future_is_caught(planted: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Even where one column of a hundred shows it, and that one is half noise."""
    monkeypatch.setattr(Leaky, "path", planted.raw(EventType.BUY), raising=False)
    monkeypatch.setitem(BLOCKS._parts, "leaky", Leaky)
    with pytest.raises(AssertionError, match=r"linear|trees"):
        test_a_label_of_the_future_alone_is_not_predictable(planted, tmp_path, "leaky")


def test_raw_files_hold_what_the_door_hides(planted: DataFolder, tmp_path: Path):
    """The planted purchases are in the files that the History reads; not one comes through it."""
    history = open_at_cut(planted, Store(tmp_path))
    assert isinstance(history.cut, datetime)
    every = scan_events(planted.raw(EventType.BUY), EventType.BUY).collect()
    assert (every["sku"] == PLANTED).sum() == 3 * (len(history.clients) // 2)
    assert (history.events(EventType.BUY).collect()["sku"] == PLANTED).sum() == 0
