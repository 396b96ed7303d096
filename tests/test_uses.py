"""Entries that use others: built after them, from what was known at each cut, stale with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from kit.blocks.base import BlockOutput, Others, make_block
from kit.blocks.stack import Stack, StackSettings, labels_of, target_names
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.history import History
from kit.profile import build_profile, plan_block
from kit.recipe import BlockEntry, Recipe, build_order, parse
from kit.store import Store
from kit.studies.ablation.parts import AblatedPart, Study, whole_parts
from kit.studies.drift import measure_drift
from kit.submission.recipes import check_recipe

COUNTS = {"kind": "stats", "families": ["counts"]}
ALS = {"kind": "als", "factors": 3, "iterations": 2, "min_clients": 1}


def recipe(**blocks: dict) -> Recipe:
    return parse(Recipe, {"name": "t", "blocks": blocks}, "test")


def planned(plan: Recipe, name: str, seed: int = 0) -> str:
    return plan_block(name, plan.blocks[name], seed, "history", "events/x", plan.blocks).fingerprint


def test_an_entry_comes_after_those_that_it_uses_else_in_the_order_of_the_recipe():
    plan = recipe(
        top={"kind": "stack", "uses": ["middle"]}, other=COUNTS, middle={"kind": "stack", "uses": ["base"]}, base=ALS
    )
    assert build_order(plan.blocks) == ["base", "middle", "top", "other"]


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"a": {"kind": "stack", "uses": ["b"]}, "b": {"kind": "stack", "uses": ["a"]}}, "circle: a → b → a"),
        ({"a": {"kind": "stack", "uses": ["a"]}}, "circle: a → a"),
        ({"a": {"kind": "stack", "uses": ["stas"]}, "stats": COUNTS}, "block 'a' uses 'stas'.*'stats'"),
        ({"a": COUNTS | {"profile": False}, "b": ALS}, "block 'a' has profile = false, and no entry uses it"),
        ({"a": COUNTS, "b": {"like": "a", "uses": ["a"]}}, "uses what that one uses"),
    ],
)
def test_recipes_that_cannot_be_built_say_why(blocks: dict, words: str):
    with pytest.raises(KitError, match=words):
        recipe(**blocks)


def test_kinds_that_use_others_and_kinds_that_do_not():
    with pytest.raises(KitError, match="kind 'stats' use no other entries"):
        make_block("x", BlockEntry(kind="stats", uses=("a",)), 0)
    with pytest.raises(KitError, match="kind 'stack' learns from other entries"):
        plan_block("x", BlockEntry(kind="stack"), 0, "history", "events/x")


def test_recipe_check_says_the_same(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text('name = "r"\n[blocks.a]\nkind = "stats"\nuses = ["b"]\n[blocks.b]\nkind = "stack"\n')
    assert [(finding.what, finding.where) for finding in check_recipe(path)] == [
        ("Blocks of kind 'stats' use no other entries.", "blocks.a.uses"),
        ("A block of kind 'stack' learns from other entries.", "blocks.b.uses"),
    ]


def test_a_change_of_the_used_entry_makes_its_user_stale_and_not_the_other_way_round():
    base = {"base": ALS, "top": {"kind": "stack", "uses": ["base"]}}
    before = recipe(**base)
    changed = recipe(**base | {"base": ALS | {"factors": 4}})
    assert planned(before, "base") != planned(changed, "base")
    assert planned(before, "top") != planned(changed, "top")
    user = recipe(**base | {"top": {"kind": "stack", "uses": ["base"], "ridge": 5.0}})
    assert planned(before, "base") == planned(user, "base")
    assert planned(before, "top") != planned(user, "top")
    treated = recipe(
        **base | {"base": ALS | {"weight": 3.0, "profile": False}}
    )  # the assembly's affair: output is the same
    assert planned(before, "top") == planned(treated, "top")


def test_used_entries_are_parents_and_are_fitted_at_the_rewound_cut_for_labels(toy: DataFolder, store: Store):
    """Rule 1: what labels are learned on knows nothing of their window."""
    plan = recipe(base=ALS | {"profile": False}, top={"kind": "stack", "uses": ["base"]})
    history = History.open(toy, store=store)
    profile = build_profile(plan, history, store)
    assert [row.name for row in profile.blocks] == ["top"]
    assert profile.matrix.shape[1] == profile.blocks[0].stop
    (top,) = store.records("block-stack")
    base = store.records("block-als")
    cuts = {record["inputs"]["history"].split("@")[1] for record in base}
    assert cuts == {history.cut.isoformat(), history.rewind()[0].cut.isoformat()}
    (here,) = (record for record in base if record["inputs"]["history"] == history.fingerprint)
    assert set(top["parents"]) == {history.artefact, here["key"]}
    again = build_profile(plan, History.open(toy, store=store), store)
    assert [row.fresh for row in again.blocks] == [True]
    assert again.matrix.tobytes() == profile.matrix.tobytes()


def test_what_is_left_out_of_the_profile_is_still_there_for_those_who_use_it(toy: DataFolder, store: Store):
    plan = recipe(base=ALS, hidden=COUNTS | {"profile": False}, top={"kind": "stack", "uses": ["base", "hidden"]})
    history = History.open(toy, store=store)
    whole = build_profile(plan, history, store)
    assert [part.blocks for part in whole_parts(plan)] == [("base",), ("top",)]
    study = Study(plan, toy, store, patterns=())
    base, top = whole.blocks
    without = study.without(AblatedPart("base", ("base",))).make()
    np.testing.assert_array_equal(without, whole.matrix[:, top.start : top.stop])
    np.testing.assert_array_equal(study.alone(AblatedPart("top", ("top",))).make(), without)
    np.testing.assert_array_equal(
        study.alone(AblatedPart("base", ("base",))).make(), whole.matrix[:, base.start : base.stop]
    )


def test_drift_is_measured_of_blocks_that_use_others_too(toy: DataFolder, store: Store):
    plan = recipe(base=ALS, top={"kind": "stack", "uses": ["base"]})
    found = measure_drift(plan, toy, "input", store)
    assert [row["block"] for row in found["blocks"]] == ["base", "top"]
    assert found["blocks"][1]["columns"] == len(target_names(History.open(toy, store=store)))


class Told(Others):
    """Columns that tell what a client will do next, as far as `honest`; else noise."""

    def __init__(self, honest: bool) -> None:
        self.honest = honest

    def of(self, name: str, history: History) -> BlockOutput:
        rng = np.random.default_rng(int(history.cut.timestamp()))
        values = rng.normal(size=(len(history.clients), 3)).astype(np.float32)
        if self.honest:
            values[:, 1] = history.clients % 3 == 0
        values[::7, 2] = np.nan
        return BlockOutput(values, ("a", "b", "c"))


def stack(others: Others, **settings: float) -> Stack:
    unit = Stack(StackSettings(**settings), 0)
    unit.uses, unit.others = ("told",), others
    return unit


def test_weights_are_those_of_a_ridge_on_standardised_columns(toy_history: History):
    others = Told(honest=True)
    unit = stack(others, ridge=0.3).fit(toy_history)
    past, window = toy_history.rewind()
    values = others.of("told", past).values.astype(np.float64)
    z = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)
    labels = labels_of(window, toy_history, past.clients)
    oracle = Ridge(alpha=0.3 * len(z)).fit(np.nan_to_num(z), labels)
    np.testing.assert_allclose(unit.weights, oracle.coef_.T, atol=1e-8)
    np.testing.assert_allclose(unit.usual, oracle.intercept_, atol=1e-8)
    assert unit.targets == target_names(toy_history)


def test_labels_by_the_slow_definition(toy_history: History):
    past, window = toy_history.rewind()
    names, found = target_names(toy_history), labels_of(window, toy_history, past.clients)
    assert found.shape == (len(past.clients), len(names))
    bought = window.purchases().collect()
    for column in ("category_3", "price_7"):
        if column in names:
            kind, value = column.split("_")
            who = set(bought.filter(bought[kind] == int(value))["client_id"].to_list())
            assert found[:, names.index(column)].tolist() == [float(c in who) for c in past.clients.tolist()]
    who = set(bought["client_id"].to_list())
    assert found[:, 0].tolist() == [float(c in who) for c in past.clients.tolist()]


def test_a_planted_column_is_found_and_noise_is_not(toy_history: History, monkeypatch: pytest.MonkeyPatch):
    """Who buys is planted: every third client. The column that says so decides the forecasts; without it they are flat."""

    def planted(window: object, history: History, clients: np.ndarray) -> np.ndarray:
        labels = np.zeros((len(clients), len(target_names(history))), np.float32)
        labels[:, 0] = clients % 3 == 0
        return labels

    monkeypatch.setattr("kit.blocks.stack.labels_of", planted)
    truth = toy_history.clients % 3 == 0
    found, flat = (
        stack(Told(honest), ridge=0.01, cuts=2)
        .fit(toy_history)
        .transform(toy_history, toy_history.clients)
        .values[:, 0]
        for honest in (True, False)
    )
    assert found[truth].min() > 0.9 and found[~truth].max() < 0.1
    assert abs(np.corrcoef(flat, truth)[0, 1]) < 0.3
