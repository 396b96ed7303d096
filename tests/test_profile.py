"""Assembly and profile: alignment with the spine, imputation, scaling, reduction, limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scored import validate

from kit.data.layout import DataFolder
from kit.errors import KitError, Severity
from kit.history import History
from kit.profile import build_profile, spine
from kit.profile.assemble import finish, prepare_block, scale_columns
from kit.profile.build import planned
from kit.profile.costs import PRIOR, block_costs
from kit.progress import Cost
from kit.recipe import Assembly, BlockEntry, Recipe, parse
from kit.store import Store
from kit.submission import read_manifest, submit


def recipe(**blocks: dict) -> Recipe:
    return parse(Recipe, {"name": "t", "blocks": blocks}, "test")


def test_spine_is_a_seeded_permutation(toy_history: History):
    one, two, other = spine(toy_history, 0), spine(toy_history, 0), spine(toy_history, 1)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, toy_history.clients)
    np.testing.assert_array_equal(np.sort(one), toy_history.clients)


def test_rows_stay_with_their_client_through_the_whole_road(toy_history: History, store: Store):
    profile = build_profile(recipe(counts={"kind": "stats", "families": ["counts"]}), toy_history, store)
    from kit.challenge import EventType

    buys = dict(toy_history.events(EventType.BUY).collect().group_by("client_id").len().rows())
    row = profile.blocks[0]
    column = row.columns.index("counts__buy_all")
    for client, value in zip(profile.clients.tolist(), profile.matrix[:, column].tolist(), strict=True):
        assert value == min(buys.get(client, 0), 6.0)  # clipped at 6 by default


def test_equal_recipe_equal_bytes_and_fresh_blocks(toy_history: History, store: Store):
    plan = recipe(counts={"kind": "stats", "families": ["counts"], "scale": "quantile"}, o={"kind": "organisers"})
    one = build_profile(plan, toy_history, store)
    two = build_profile(plan, toy_history, store)
    assert one.matrix.tobytes() == two.matrix.tobytes()
    assert [row.fresh for row in one.blocks] == [False, False]
    assert [row.fresh for row in two.blocks] == [True, True]
    assert (
        one.fingerprint
        == two.fingerprint
        != build_profile(recipe(o={"kind": "organisers"}), toy_history, store).fingerprint
    )


def test_too_wide_says_which_blocks(toy_history: History, store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kit.profile.build.MAX_WIDTH", 20)
    with pytest.raises(KitError, match=r"counts \d+"):
        build_profile(recipe(counts={"kind": "stats", "families": ["counts"]}), toy_history, store)


def test_joint_pca_gives_one_row_of_that_width(toy_history: History, store: Store):
    plan = parse(Recipe, {"name": "t", "blocks": {"o": {"kind": "organisers"}}, "assembly": {"pca": 7}}, "test")
    profile = build_profile(plan, toy_history, store)
    assert profile.matrix.shape == (len(toy_history.clients), 7)
    assert [(row.name, row.start, row.stop) for row in profile.blocks] == [("pca", 0, 7)]


def entry(**keys) -> BlockEntry:
    return BlockEntry(kind="stats", **keys)


def test_mean_imputation_flags_and_constant_columns_by_hand():
    nan = np.nan
    values = np.array([[1, 5, nan, nan], [3, 5, 2, nan], [5, 5, 4, nan]], dtype=np.float32)
    part = prepare_block(values, ("a", "constant", "holes", "nothing"), entry(flags=True), 0)
    assert part.columns == ("a", "holes", "missing__holes")
    assert part.dropped == ("constant", "nothing")
    np.testing.assert_array_equal(part.values, np.array([[1, 3, 1], [3, 2, 0], [5, 4, 0]], dtype=np.float32))


@pytest.mark.technique("A1")
def test_row_l2_and_weight():
    values = np.array([[3, 4], [0, 0], [6, 8]], dtype=np.float32)
    part = prepare_block(values, ("a", "b"), entry(row_l2=True, weight=2.0), 0)
    np.testing.assert_allclose(part.values, [[1.2, 1.6], [0, 0], [1.2, 1.6]], rtol=1e-6)


@pytest.mark.technique("A1")
def test_scales_by_hand():
    column = np.array([[0.0], [1.0], [10.0], [np.nan]], dtype=np.float32)
    np.testing.assert_allclose(scale_columns(column[:3], "quantile", 0)[:, 0], [-1, 0, 1], atol=1e-6)
    assert np.isnan(scale_columns(column, "quantile", 0)[3, 0])
    np.testing.assert_allclose(scale_columns(-column, "signed-log", 0)[:3, 0], [0, -np.log(2), -np.log(11)], rtol=1e-6)
    standard = scale_columns(column, "standard", 0)[:3, 0]
    np.testing.assert_allclose([standard.mean(), standard.std()], [0, 1], atol=1e-6)
    for size in (1e-38, 1e30):  # beyond what float32 can square
        far = scale_columns(np.array([[size], [0], [np.nan]], dtype=np.float32), "standard", 0)[:, 0]
        np.testing.assert_allclose(far, [1, -1, np.nan], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(2, 12), st.integers(1, 5)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.just(np.nan),
    ),
    st.sampled_from(["none", "quantile", "standard", "signed-log"]),
    st.booleans(),
)
def test_whatever_comes_in_a_finite_clipped_float16_goes_out(values, scale, row_l2):
    part = prepare_block(
        values, tuple(f"c{i}" for i in range(values.shape[1])), entry(scale=scale, row_l2=row_l2, flags=True), 0
    )
    assert part.values.shape == (len(values), len(part.columns))
    matrix, _ = finish([part.values], np.arange(len(values)), Assembly(clip=6.0))
    assert matrix.dtype == np.float16
    assert np.isfinite(matrix).all()
    assert (np.abs(matrix) <= 6).all()


def test_row_norm_is_exact_up_to_float16():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=(50, 4)).astype(np.float32)]
    matrix, _ = finish(parts, rng.permutation(50), Assembly(row_norm=3.0))
    np.testing.assert_allclose(np.linalg.norm(matrix.astype(np.float32), axis=1), 3.0, rtol=1e-3)


def test_columns_are_picked_by_pattern():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    part = prepare_block(values, ("z_0", "z_1", "forecast_a"), entry(columns=("forecast_*",)), 0)
    assert part.columns == ("forecast_a",)
    np.testing.assert_array_equal(part.values, values[:, 2:])
    with pytest.raises(KitError, match=r"forecast_\*, z_\*"):
        prepare_block(values, ("z_0", "z_1", "forecast_a"), entry(columns=("query_*",)), 0)


def test_blocks_that_are_like_one_another_run_once(toy_history: History, store: Store):
    plan = parse(
        Recipe,
        {
            "name": "t",
            "blocks": {
                "a": {"kind": "stats", "families": ["counts"], "columns": ["counts__buy*"]},
                "b": {"like": "a", "columns": ["counts__cart*"], "scale": "quantile"},
            },
        },
        "test",
    )
    profile = build_profile(plan, toy_history, store)
    assert [row.fresh for row in profile.blocks] == [False, True]
    assert profile.blocks[0].fingerprint == profile.blocks[1].fingerprint


def test_what_the_clip_cuts_is_counted_and_said(
    toy: DataFolder, tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
):
    """Raw counts are cut to ±clip: the share and the largest are in the manifest, on the card and among the findings."""
    blocks = {
        "raw": {"kind": "stats", "families": ["counts"], "scale": "none"},
        "tame": {"kind": "stats", "families": ["counts"], "scale": "quantile"},
    }

    def built(name: str, clip: float) -> dict[str, Any]:
        plan = parse(Recipe, {"name": name, "blocks": blocks, "assembly": {"clip": clip}}, "test")
        submit(plan, toy.root, tmp_path / name, store=store)
        return {block["name"]: block for block in read_manifest(tmp_path / name)["blocks"]}

    whole = built("whole", 60_000)
    matrix = np.load(tmp_path / "whole" / "embeddings.npy").astype(np.float64)
    assert (whole["raw"]["clipped"], whole["tame"]["clipped"]) == (0, 0)
    assert "were cut" not in capsys.readouterr().err + (tmp_path / "whole" / "CARD.md").read_text()
    cut = built("cut", 2)
    raw = np.abs(matrix[:, whole["raw"]["start"] : whole["raw"]["stop"]])
    assert cut["raw"]["clipped"] == pytest.approx(np.mean(raw > 2), abs=1e-6) and cut["raw"]["clipped"] > 0.001
    assert cut["raw"]["largest"] == pytest.approx(raw.max(), rel=1e-3)
    assert cut["tame"]["clipped"] == 0
    words = f"{np.mean(raw > 2):.1%} of the values of block raw lay beyond ±2, the largest at "
    assert words in capsys.readouterr().err
    assert words in (tmp_path / "cut" / "CARD.md").read_text()
    (finding,) = [found for found in validate(tmp_path / "cut", toy) if words in found.what]
    assert finding.severity is Severity.WARNING and "`clip` in [assembly]" in finding.remedy


def test_costs_of_blocks_come_from_what_the_store_knows(toy_history: History, store: Store):
    """Half as many clients took three seconds before: as many again will take six. What is fresh, or shared, costs nothing."""
    done = {"kind": "stats", "families": ["counts"]}
    build_profile(recipe(a=done), toy_history, store)

    def earlier(folder: Path) -> None:
        np.save(folder / "values.npy", np.zeros((len(toy_history.clients) // 2, 3), np.float32))

    store.get("block-als", {"settings": {}}, earlier)
    record = next((store.root / "block-als").glob("*/artefact.json"))
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seconds": 3.0}))
    plan = recipe(a=done, b={"kind": "als"}, c={"kind": "als"}, d={"kind": "organisers"})
    clients = len(toy_history.clients)
    assert block_costs(planned(plan, toy_history), clients, store) == [
        Cost(0.0, measured=True),
        Cost(3.0 * clients / (clients // 2), measured=True),
        Cost(0.0, measured=True),
        Cost(PRIOR["organisers"] * clients, measured=False),
    ]
