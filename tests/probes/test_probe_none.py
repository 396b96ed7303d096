"""Forecasts without a probe: their AUROC is that of the block's own columns, whatever the profile made of them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scored import score_submission, write_scores
from sklearn.metrics import roc_auc_score

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.errors import KitError
from kit.history import History
from kit.probes.none import label_forecasts, none
from kit.probes.registry import Options
from kit.scoring.results import read_areas, read_scored
from kit.store import Plan, Store, remove_tree
from kit.submission.forecasts import read_forecasts, silent_ratio
from kit.submission.manifest import as_built
from kit.tasks import CATEGORY, CHURN, CONVERSION, NEW_SKU, PRICE, SKU
from kit.tasks.labels import load_targets, load_task


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The default store is one of the test's own."""
    monkeypatch.setattr(Store.__init__, "__defaults__", (tmp_path / "store",))
    return Store()


def submission(where: Path, folder: DataFolder, columns: dict[str, np.ndarray], store: Store) -> Path:
    """A folder as `kit submit` leaves it: vectors that know nothing, a block in the store whose columns are in order of ids."""
    ids = folder.clients()

    def build(place: Path) -> None:
        np.save(place / "values.npy", np.stack([*columns.values(), np.ones(len(ids))], axis=1).astype(np.float32))
        (place / "columns.json").write_text(json.dumps([*columns, "z_0"]), encoding="utf-8")

    made = store.make(
        Plan("block-toy", {"columns": {name: values.tolist() for name, values in columns.items()}}), build
    )
    where.mkdir()
    np.save(where / "client_ids.npy", ids[::-1].copy())
    np.save(where / "embeddings.npy", np.ones((len(ids), 3), dtype=np.float16))
    manifest = {
        "fingerprint": "x", "recipe": {"duplicates": "keep"}, "data": {"until": "input", "clients": "relevant"},
        "artefacts": {"events": "", "blocks": {"features": "block-stats/none", "toy": made.key}},
    }  # fmt: skip
    (where / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert as_built(where, manifest)
    return where


def numbers(folder: DataFolder, names: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Random log-odds of everybody."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(-2, 1, len(folder.clients())) for name in names}


def test_auroc_is_that_of_the_blocks_columns(toy: DataFolder, tmp_path: Path, own_store: Store) -> None:
    ids = toy.clients()
    categories = [f"forecast_category_{c}" for c in load_targets(toy.targets("propensity_category"))]
    made = numbers(toy, ["forecast_near", "forecast_far", *categories])
    place = submission(tmp_path / "sub", toy, made, own_store)
    report = score_submission(place, toy, "none", [CONVERSION, CHURN, CATEGORY])
    for task in (CONVERSION, CHURN):
        data = load_task(task, ids, toy)
        expected = roc_auc_score(data.validation.toarray()[:, 0], -made["forecast_far"][data.rows])
        assert report.tasks[task.name]["auroc"] == pytest.approx(expected, abs=1e-5)
    labels = load_task(CATEGORY, ids, toy).validation.toarray()
    each = [roc_auc_score(labels[:, k], made[name]) for k, name in enumerate(categories) if labels[:, k].sum() > 0]
    assert report.tasks[CATEGORY.name]["auroc_defined"] == pytest.approx(np.mean(each), abs=1e-5)
    assert report.tasks[CATEGORY.name]["novelty"] is not None


def test_without_a_later_rate_the_first_windows_ranks(toy: DataFolder, tmp_path: Path, own_store: Store) -> None:
    made = numbers(toy, ["forecast_near"])
    report = score_submission(submission(tmp_path / "sub", toy, made, own_store), toy, "none", [CONVERSION])
    data = load_task(CONVERSION, toy.clients(), toy)
    expected = roc_auc_score(data.validation.toarray()[:, 0], -made["forecast_near"])
    assert report.tasks[CONVERSION.name]["auroc"] == pytest.approx(expected, abs=1e-5)


def test_a_label_without_a_forecast_is_ranked_by_its_category_then_by_the_rate(
    toy: DataFolder, tmp_path: Path, own_store: Store
) -> None:
    products = pl.read_parquet(toy.products).unique("sku", keep="first", maintain_order=True)
    category = dict(zip(products["sku"].to_list(), products["category"].to_list(), strict=True))
    first, second, *rest = load_targets(toy.targets("propensity_sku")).tolist()
    other = next(c for c in category.values() if c != category[second])
    chosen = [f"forecast_sku_{first}", f"forecast_category_{category[second]}", f"forecast_new_{other}", "forecast_far"]
    forecasts = read_forecasts(submission(tmp_path / "sub", toy, numbers(toy, chosen), own_store), own_store)
    found = label_forecasts(forecasts, SKU, toy)
    assert found[:2] == [f"sku_{first}", f"category_{category[second]}"]
    for sku, name in zip(rest, found[2:], strict=True):
        assert name == (f"category_{category[sku]}" if category[sku] == category[second] else "far")
    new = dict(
        zip(
            load_targets(toy.targets("propensity_new_sku")).tolist(),
            label_forecasts(forecasts, NEW_SKU, toy),
            strict=True,
        )
    )
    assert {name for sku, name in new.items() if category.get(sku) == other} <= {f"new_{other}", f"sku_{first}"}
    assert set(label_forecasts(forecasts, PRICE, toy)) == {"far"}


def test_clients_without_forecasts_stand_at_the_rate_of_such_clients(
    toy: DataFolder, tmp_path: Path, own_store: Store
) -> None:
    made = numbers(toy, ["forecast_far"])
    made["forecast_far"][:7] = np.nan
    place = submission(tmp_path / "sub", toy, made, own_store)
    forecasts = read_forecasts(place, own_store).filled(0.25)
    known = 1 / (1 + np.exp(-made["forecast_far"][7:].astype(np.float32)))
    found = forecasts.of("far", np.arange(8))
    assert found[:7] == pytest.approx(np.log(0.25 * known.mean() / (1 - 0.25 * known.mean())), abs=1e-4)
    assert found[7] == np.float32(made["forecast_far"][7])
    assert score_submission(place, toy, "none", [CONVERSION]).tasks[CONVERSION.name]["auroc"] is not None


def test_the_ratio_of_silent_clients_is_counted_before_the_cut(tmp_path: Path) -> None:
    """Ten clients come before the windows, five of whom buy in the second; of ten who come later four do. Five have not come
    by the cut and count for nothing."""
    cut = datetime(2022, 6, 1)
    events = [(client, cut - timedelta(days=40), 1) for client in range(10)]
    events += [(client, cut - timedelta(days=20), 1) for client in range(10, 20)]  # in the first window: come too late
    visits = pl.DataFrame(events, schema=["client_id", "timestamp", "url"], orient="row")
    bought = [(client, cut - timedelta(days=3), 7) for client in (0, 1, 2, 3, 4, 10, 11, 12, 13)]
    bought += [(client, cut, 7) for client in range(14, 25)]  # at the cut: nobody knows yet
    bought.append((0, cut + timedelta(days=27, hours=3), 7))  # the last purchase dates the split
    buys = pl.DataFrame(bought, schema=["client_id", "timestamp", "sku"], orient="row")
    (tmp_path / "input").mkdir()
    np.save(tmp_path / "input" / "relevant_clients.npy", np.arange(25))
    for kind in EventType:
        value = pl.String if kind is EventType.SEARCH else pl.Int64
        empty = pl.DataFrame(schema={"client_id": pl.Int64, "timestamp": pl.Datetime, kind.value_column: value})
        {EventType.VISIT: visits, EventType.BUY: buys}.get(kind, empty).write_parquet(
            tmp_path / f"{kind.value}.parquet"
        )
    properties = {"sku": [7], "category": [1], "price": [3], "name": ["[1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16]"]}
    pl.DataFrame(properties).write_parquet(tmp_path / "product_properties.parquet")
    split_folder(tmp_path)
    history = History.open(DataFolder(tmp_path), store=Store())
    assert (history.cut, history.days, len(history.clients)) == (cut, 14, 25)
    assert silent_ratio(history) == pytest.approx((4 + 0.5) / (10 + 1) / 0.5)


def test_what_clients_add_to_the_auroc_is_kept_beside_the_score(
    toy: DataFolder, tmp_path: Path, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without clients of a weight of 1, the AUROC moves by what they add: leaving one out is the oracle, to first order."""
    monkeypatch.setattr("kit.scoring.results.write_card", lambda folder: None)  # of a manifest that is whole
    made = numbers(toy, ["forecast_far", *(f"forecast_price_{bucket}" for bucket in range(100))])
    place = submission(tmp_path / "sub", toy, made, own_store)
    score_submission(place, toy, "none", [CONVERSION, PRICE], keep=lambda part: write_scores(place, [part]))
    areas, scored = read_areas(place, "none"), read_scored(place, "none")
    assert np.array_equal(areas[CONVERSION].influence, scored[CONVERSION].influence)  # nothing but AUROC
    ids, found = toy.clients(), areas[PRICE]
    labels = load_task(PRICE, ids, toy).validation.toarray()
    logits = np.stack([made[f"forecast_price_{bucket}"] for bucket in range(100)], axis=1)
    defined = [k for k in range(100) if labels[:, k].sum() > 0]
    mean = sum(roc_auc_score(labels[:, k], logits[:, k]) for k in defined) / 100
    assert found.score == pytest.approx(mean, abs=1e-5)
    weights = np.ones(len(ids))
    weights[5] = 1 + 1e-4  # a derivative: one client that counts a little more
    moved = sum(roc_auc_score(labels[:, k], logits[:, k], sample_weight=weights) for k in defined) / 100
    assert (moved - mean) / 1e-4 == pytest.approx(found.influence[5], abs=2e-5)
    assert np.linalg.norm(found.influence) != pytest.approx(np.linalg.norm(scored[PRICE].influence), rel=0.01)


def test_what_cannot_be_read_is_said(toy: DataFolder, tmp_path: Path, own_store: Store) -> None:
    place = submission(tmp_path / "sub", toy, numbers(toy, ["forecast_far"]), own_store)
    with pytest.raises(KitError, match="these vectors are no submission's"):
        none(np.ones((3, 2), dtype=np.float16), [], Options())
    remove_tree(own_store.root / "block-toy")
    with pytest.raises(KitError, match=r"not in the store .* gone are features .*toy \(block-toy/"):
        score_submission(place, toy, "none", [CHURN])
    silent = submission(tmp_path / "silent", toy, numbers(toy, ["forecast_cart"]), own_store)
    remove_tree(own_store.root / "block-stats")
    manifest = json.loads((silent / "manifest.json").read_text(encoding="utf-8"))
    del manifest["artefacts"]["blocks"]["features"]
    (silent / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(KitError, match=r"No block of .* forecasts purchases"):
        score_submission(silent, toy, "none", [CHURN])


def test_other_forecasts_beside_equal_vectors_are_scored_again(
    toy: DataFolder, tmp_path: Path, own_store: Store
) -> None:
    first = submission(tmp_path / "a", toy, numbers(toy, ["forecast_far"]), own_store)
    second = submission(tmp_path / "b", toy, numbers(toy, ["forecast_far"], seed=1), own_store)
    one, two = (score_submission(place, toy, "none", [CONVERSION]) for place in (first, second))
    assert one.vectors == two.vectors and one.fingerprint != two.fingerprint
