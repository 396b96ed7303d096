"""Recipes: strict keys with the nearest valid name, and every recipe of the repository is readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kit.blocks.base import make_block
from kit.errors import KitError
from kit.history import History
from kit.profile import build_profile
from kit.recipe import BlockEntry, read_recipe
from kit.store import Store

ROOT = Path(__file__).parents[1] / "pipelines"
PIPELINES = sorted([*ROOT.glob("*.toml"), *ROOT.glob("bench/*.toml")])


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path):
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    for name, entry in recipe.blocks.items():
        make_block(name, entry, recipe.seed)


def test_the_plain_recipe_has_the_columns_that_it_names(toy_history: History, store: Store):
    """Six kinds in six windows and for ever, three instants of each; what is distinct, prices, 12 categories, 50 urls."""
    profile = build_profile(read_recipe(ROOT / "plain.toml"), toy_history, store)
    assert profile.matrix.shape[1] == 6 * 7 + 6 * 3 + (3 * 2 + 2) + (3 * 5 + 2) + 12 + 50
    norms = np.linalg.norm(profile.matrix.astype(float), axis=1)
    np.testing.assert_allclose(norms, 1, atol=0.01)


@pytest.mark.parametrize("path", sorted(ROOT.glob("bench/*.toml")), ids=lambda path: path.stem)
def test_recipes_of_single_blocks_build(path: Path, toy_history: History, store: Store):
    recipe = read_recipe(path)
    assert len({entry.kind for entry in recipe.blocks.values()}) == 1
    profile = build_profile(recipe, toy_history, store)
    assert profile.matrix.any(axis=1).mean() > 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae = 'x'\n[blocks.a]\nkind='stats'", r"'nmae' is unknown; did you mean 'name'\?"),
        ("name = 'x'\n[blocks.a]\nkind='stats'\n[assembly]\nrow_nrom=1", r"did you mean 'row_norm'\?"),
        ("name = 'x'\n[blocks.a]\nkind='stats'\nweight=-1", r"blocks.a.weight.*found -1"),
        ("name = 'x'\n[blocks.a]\nscale='none'", "needs either `kind` or `like`"),
        ("name = 'x'\n[blocks.a]\nkind='stats'\n[blocks.b]\nlike='aa'", r"did you mean 'a'\?"),
        ("name = 'x'\n[blocks.a]\nkind='als'\n[blocks.b]\nlike='a'\nfactors=3", "takes its settings from there"),
        ("name = '../x'\n[blocks.a]\nkind='stats'", "name"),
        ("name = ", "not valid TOML"),
        ("name = 'x'", "blocks"),
    ],
)
def test_errors_name_the_key(tmp_path: Path, text: str, message: str):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(KitError, match=message):
        read_recipe(path)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("kind='stas'", r"did you mean 'stats'\?"),
        ("kind='als'\nfactor=3", r"did you mean 'factors'\?"),
        ("kind='als'\nweights={buys=3}", r"no event type 'buys'; did you mean 'buy'\?"),
        ("kind='gcn'\npositives=['buy']", r"no client relation 'buy'; did you mean 'buys'\?"),
        ("kind='gcn'\npositives=['in_category']", r"no client relation 'in_category'"),
        ("kind='gcn'\nlayers=0", r"layers.*found 0"),
        ("kind='combined'\n[blocks.a.network.heads.choice.weights]\nbuy_sku=1", r"no loss term 'buy_sku'"),
        ("kind='stats'\nwindows=[7, 7]", r"holds a value twice"),
        ("kind='stats'\nwindows=[0]", r"found 0"),
        ("kind='stats'\nhalf_lives=[0]", r"found 0"),
    ],
)
def test_block_errors_come_from_the_block(tmp_path: Path, extra: str, message: str):
    path = tmp_path / "r.toml"
    path.write_text(f"name='x'\n[blocks.a]\n{extra}")
    recipe = read_recipe(path)
    with pytest.raises(KitError, match=message):
        make_block("a", recipe.blocks["a"], 0)


def test_missing_recipe_is_an_error_with_a_hint():
    with pytest.raises(KitError, match="There is no recipe"):
        read_recipe(Path("nowhere/statz.toml"))


def test_like_shares_kind_and_settings_but_not_the_treatment(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text("name='x'\n[blocks.a]\nkind='als'\nfactors=8\nweight=2.0\n[blocks.b]\nlike='a'\ncolumns=['x_*']")
    a, b = read_recipe(path).blocks.values()
    assert (b.kind, b.settings()) == (a.kind, a.settings()) == ("als", {"factors": 8})
    assert (a.weight, b.weight, b.columns) == (2.0, 1.0, ("x_*",))


def test_a_nested_key_leaves_its_siblings_as_the_block_has_them():
    """`train.epochs = 2` used to reset the learning rate to that of the training loop, whatever the block's own was."""
    entry = BlockEntry(kind="combined", train={"epochs": 2}, network={"events": {"codes": False}}, graph={"l2": 0.2})
    settings, own = make_block("one", entry, 0).settings, make_block("one", BlockEntry(kind="combined"), 0).settings
    assert settings.train == own.train.model_copy(update={"epochs": 2})
    assert settings.network == own.network.model_copy(
        update={"events": own.network.events.model_copy(update={"codes": False})}
    )
    assert settings.graph == own.graph.model_copy(update={"l2": 0.2})
    with pytest.raises(KitError, match="epoch"):
        make_block("one", BlockEntry(kind="combined", train={"epoch": 2}), 0)
