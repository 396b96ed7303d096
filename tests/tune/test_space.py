"""Search spaces: one schema with the recipes, errors that name the place, defaults, conditional parameters."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_objective import TOY

from kit.errors import KitError
from kit.recipe import read_recipe
from kit.tune.leaves import as_leaf
from kit.tune.space import Space, default_params, defaults, from_params, from_trial, parse_space, read_space

PIPELINES = Path(__file__).parents[2] / "pipelines"


def test_the_defaults_are_the_plain_recipe(toy_space: Space):
    plain = toy_space.recipe(defaults)
    assert list(plain.blocks) == ["a", "b"]
    assert plain.blocks["a"].weight == 1.0
    assert plain.blocks["b"].scale == "quantile"
    assert plain.blocks["b"].settings() == {"families": ["recency"]}  # no `on` among the block's settings
    assert plain.assembly.row_norm is None
    assert plain.assembly.clip == 6.0


def test_default_params_ask_only_for_what_the_defaults_need(toy_space: Space):
    assert default_params(toy_space) == {
        "blocks.a.weight": 1.0,
        "blocks.b.on": True,
        "blocks.b.scale": "quantile",
        "assembly.row_norm.given": False,
        "assembly.clip": 6.0,
    }
    assert "assembly.row_norm" in toy_space.parameters()


def test_a_block_that_is_off_is_absent_and_its_leaves_are_not_asked(toy_space: Space):
    params = {"blocks.a.weight": 0.3, "blocks.b.on": False, "assembly.row_norm.given": True, "assembly.row_norm": 4.0}
    recipe = toy_space.recipe(from_params({**params, "assembly.clip": 2.0}))  # KeyError if b's scale were asked for
    assert list(recipe.blocks) == ["a"]
    assert recipe.assembly.row_norm == 4.0


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_stored_trial_gives_back_the_recipe_that_was_run(seed: int):
    space = parse_space(TOY, "toy.toml")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    ran = space.recipe(from_trial(trial))
    assert space.recipe(from_params(trial.params)) == ran
    assert 0.1 <= ran.blocks["a"].weight <= 2.0
    assert ran.assembly.clip in {2.0, 4.0, 6.0, 8.0}
    assert ("b" in ran.blocks) == trial.params["blocks.b.on"]
    assert ("blocks.b.scale" in trial.params) == trial.params["blocks.b.on"]


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        ({"low": 0.1, "hihg": 2.0, "default": 1.0}, "did you mean 'high'"),
        ({"chioces": [1, 2], "default": 1}, "did you mean 'choices'"),
        ({"low": 0.1, "high": 2.0}, "has no default"),
        ({"low": 2.0, "high": 1.0, "default": 1.0}, "is not below"),
        ({"low": 0.0, "high": 1.0, "log": True, "default": 0.5}, "log needs low > 0"),
        ({"low": 1.0, "high": 2.0, "default": 3.0}, "not in the range"),
        ({"low": 1, "high": 9, "step": 4, "default": 4}, "not in the range or not on its steps"),
        ({"low": 1, "high": 9, "default": 2.5}, "not in the range or not on its steps"),
        ({"low": 1.0, "high": 2.0, "default": "absent"}, "needs absent = true"),
        ({"choices": [1, 2], "default": 3}, "not among"),
        ({"choices": [1], "default": 1}, "at least 2"),
        ({"choices": [1, 1], "default": 1}, "are the same"),
        ({"subset": ["a", "b"], "default": ["c"]}, "not among"),
        ({"subset": ["a", "b"], "default": []}, "at least 1"),
    ],
)
def test_a_bad_leaf_says_where_and_what(leaf: dict, said: str):
    with pytest.raises(KitError, match=said) as caught:
        as_leaf(leaf, "blocks.a.weight")
    assert "blocks.a.weight" in str(caught.value)


def test_plain_tables_are_no_leaves():
    assert as_leaf({"epochs": 2, "lr": 0.1}, "x") is None
    assert as_leaf(3, "x") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TOY.replace("[search]", "[search]\nsampelr = 'tpe'"), "did you mean 'sampler'"),
        (TOY.replace("[search]", "[search]\ngain = 'borda'"), "needs `against`"),
        (TOY.replace("[search]", "[search]\ngoals = ['seconds']"), "must include score"),
        (TOY.replace('"standard"]', '"standrad"]'), "standrad"),  # a choice that the recipe's schema refuses
        (TOY.replace("weight = {", "wieght = {"), "'wieght' is unknown"),  # no such setting of the block
        (
            TOY.replace("low = 0.1,", "low = -0.1,").replace("log = true, ", ""),
            "greater than 0",
        ),  # an end out of bounds
        (TOY + "[blocks.c]\nlike = 'b'\n", "can be switched off"),
        ("name = 'x'\n[blocks.a]\nkind = 'stats'\n", "nothing to search"),
        ("name = ", "not valid TOML"),
    ],
)
def test_a_bad_space_is_found_out_when_it_is_read(text: str, said: str):
    with pytest.raises(KitError, match=said):
        parse_space(text, "toy.toml")


def test_lists_and_groups(toy_space: Space):
    text = TOY.replace('families = ["presence"]', 'families = ["presence", "recency"]') + (
        "[blocks.a.columns]\ndefault = ['when']\n[blocks.a.columns.subset]\nwhether = ['presence__*']\n"
        "when = ['recency__a*', 'recency__b*']\n"
    )
    space = parse_space(text, "toy.toml")
    assert space.recipe(defaults).blocks["a"].columns == ("recency__a*", "recency__b*")
    params = {**default_params(space), "blocks.a.columns[whether]": True, "blocks.a.columns[when]": False}
    assert space.recipe(from_params(params)).blocks["a"].columns == ("presence__*",)
    none = {**params, "blocks.a.columns[whether]": False}
    assert len(space.recipe(from_params(none)).blocks["a"].columns) == 3  # nothing kept would mean everything


def test_lists_may_be_choices():
    text = TOY.replace('families = ["presence"]', "windows = { choices = [[1, 7], [7, 28]], default = [7, 28] }")
    space = parse_space(text, "toy.toml")
    assert space.recipe(defaults).blocks["a"].settings()["windows"] == [7, 28]
    params = {**default_params(space), "blocks.a.windows": "[1, 7]"}
    assert space.recipe(from_params(params)).blocks["a"].settings()["windows"] == [1, 7]


def test_the_fingerprint_is_about_meaning(toy_space: Space):
    same = parse_space("# a comment\n" + TOY.replace("startup = 3", "startup = 9"), "elsewhere.toml")
    assert same.fingerprint == toy_space.fingerprint
    assert parse_space(TOY.replace("high = 2.0", "high = 3.0"), "t").fingerprint != toy_space.fingerprint
    assert parse_space(TOY, "t", {"probe": "gbm"}).fingerprint != toy_space.fingerprint


@pytest.mark.parametrize(("name", "recipe"), [("stats", "stats"), ("blend", "blend"), ("profile", "stats")])
def test_the_spaces_that_come_along_begin_at_their_recipes(name: str, recipe: str):
    space, plain = read_space(PIPELINES / "tune" / f"{name}.toml"), read_recipe(PIPELINES / f"{recipe}.toml")
    ours = space.recipe(defaults)
    assert ours.assembly == plain.assembly
    assert list(ours.blocks) == list(plain.blocks)
    for block, entry in plain.blocks.items():
        mine = ours.blocks[block]
        given_ = {key: value for key, value in entry.model_dump().items() if key != "columns"}
        assert {key: value for key, value in mine.model_dump().items() if key in given_} == given_


def test_the_stats_space_names_every_default_family():
    """Its groups of columns are all that pipelines/stats.toml has: else the defaults would not be the default recipe."""
    from kit.features.registry import default_families

    raw = tomllib.loads((PIPELINES / "tune" / "stats.toml").read_text(encoding="utf-8"))
    stats = raw["blocks"]["stats"]
    grouped = [pattern.removesuffix("__*") for group in stats["columns"]["subset"].values() for pattern in group]
    assert sorted(grouped) == sorted(set(default_families()) - set(stats["without"]))


def test_the_guide_s_example_is_a_search_space():
    guide = (PIPELINES / "README.md").read_text(encoding="utf-8")
    example = re.findall(r"```toml\n(\[search\].*?)```", guide, re.DOTALL)
    space = parse_space("name = 'guide'\n" + example[0], "README.md")
    assert space.search.noise == "clients"
    assert space.recipe(defaults).blocks["stats"].columns == ("counts__*", "decayed__*", "recency__*")
