"""`kit recipe` and `kit init`: written out, checked with all mistakes at once, compared; the schema agrees with the reader."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
import tomli_w
from typer.testing import CliRunner

from kit.cli.main import app
from kit.data.convert.mapping import read_mapping
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.recipe import Recipe, parse, read_recipe
from kit.store import Store
from kit.submission.recipes import check_recipe, differences, json_schema, resolved
from kit.submission.reference import recipe_reference

ROOT = Path(__file__).parents[1] / "pipelines"
PIPELINES = sorted([*ROOT.glob("*.toml"), *ROOT.glob("bench/*.toml")])
WRONG = """
sede = 1
[blocks.a]
kind = "statts"
[blocks.b]
kind = "stats"
families = ["counts", "recenzy"]
tp = 3
weight = -1.0
[blocks.c]
kind = "als"
factors = 0
wieght = 2.0
[blocks.d]
kind = "combined"
[blocks.d.train]
epoks = 3
[assembly]
clip = 1e9
"""


def kit(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_recipe_written_out_in_full_is_the_same_recipe(path: Path):
    recipe = read_recipe(path)
    text = tomli_w.dumps(resolved(recipe))
    again = parse(Recipe, tomllib.loads(text), "again")
    assert differences(recipe, again) == []
    assert resolved(again) == resolved(recipe)


def test_all_mistakes_at_once_with_the_nearest_names(tmp_path: Path):
    path = tmp_path / "wrong.toml"
    path.write_text(WRONG)
    found = {finding.where: f"{finding.what} {finding.remedy}" for finding in check_recipe(path)}
    assert set(found) == {
        "name", "sede", "blocks.a.kind", "blocks.b.families", "blocks.b.tp", "blocks.b.weight", "blocks.c.factors",
        "blocks.c.wieght", "blocks.d.train.epoks", "assembly.clip",
    }  # fmt: skip
    assert "did you mean 'seed'" in found["sede"]
    assert "did you mean 'stats'" in found["blocks.a.kind"]
    assert "did you mean 'recency'" in found["blocks.b.families"]
    assert "did you mean 'top'" in found["blocks.b.tp"]
    assert "did you mean 'weight'" in found["blocks.c.wieght"]
    assert "did you mean 'epochs'" in found["blocks.d.train.epoks"]
    assert kit("recipe", "check", path).exit_code == 1


def test_check_says_what_cannot_be_read(tmp_path: Path):
    with pytest.raises(KitError, match="no recipe"):
        check_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("= 1")
    with pytest.raises(KitError, match="not valid TOML"):
        check_recipe(tmp_path / "bad.toml")


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_shipped_recipes_are_sound(path: Path):
    assert check_recipe(path) == []


def test_widths_on_a_data_folder(toy: DataFolder, tmp_path: Path, store: Store):
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "r"\n[blocks.s]\nkind = "stats"\nfamilies = ["presence"]\n[blocks.a]\nkind = "als"\nfactors = 8\n'
        '[blocks.p]\nkind = "als"\nfactors = 9\npca = 5\n[blocks.t]\nkind = "twhin"\n'
    )
    widths = {finding.where: finding.what for finding in check_recipe(path, toy.root, store)}
    assert widths["blocks.a"] == "At most 8 columns."
    assert widths["blocks.p"] == "At most 5 columns."
    assert widths["blocks.s"].startswith("At most ")
    assert "unknown" in widths["blocks.t"]
    path.write_text(
        'name = "r"\n[blocks.a]\nkind = "als"\nfactors = 1024\n[blocks.b]\nlike = "a"\n[blocks.c]\nlike = "a"\n'
    )
    assert [f.what for f in check_recipe(path, toy.root, store) if f.severity == "error"] == [
        "3072 columns, where the evaluator takes 2048."
    ]


def test_diff_names_settings_and_blocks():
    base = {"name": "a", "blocks": {"x": {"kind": "als", "factors": 8}, "y": {"kind": "organisers"}}}
    other = {"name": "a", "blocks": {"x": {"kind": "als", "factors": 16, "alpha": 10.0}}}
    one, two = (parse(Recipe, raw, "test") for raw in (base, other))
    found = differences(one, two)
    assert "blocks.x.factors: 8 → 16" in found
    assert "blocks.y.kind: gone" in found
    assert not any("alpha" in line for line in found)  # its default was written out
    assert differences(one, one) == []


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_the_schema_accepts_what_the_reader_accepts(path: Path):
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(path.read_text()), schema)
    jsonschema.validate(json.loads(json.dumps(resolved(read_recipe(path)))), schema)


@pytest.mark.parametrize("change", ["sede = 1", '[blocks.b]\nkind = "nope"', '[blocks.b]\nkind = "als"\nfactors = 0'])
def test_the_schema_refuses_what_the_reader_refuses(change: str):
    raw = tomllib.loads(f'name = "a"\n{change}\n[blocks.ok]\nkind = "organisers"\n')
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw, json_schema())


def test_the_reference_has_every_kind_and_the_defaults_that_count():
    text = recipe_reference()
    assert '## `kind = "als"`' in text
    combined = text.split('## `kind = "combined"`')[1].split("## ")[0]
    assert (
        "| `train.epochs` | int, ≥ 1 | `1` |" in combined
    )  # what the combined block gives the loop, not the loop's own 5


def test_init_writes_files_that_are_valid_and_never_overwrites(tmp_path: Path):
    folder = tmp_path / "mine"
    done = kit("init", folder)
    assert done.exit_code == 0
    assert f"kit data convert {folder / 'mapping.toml'} SRC DIR" in done.stdout, "what comes next can be pasted"
    assert check_recipe(folder / "recipe.toml") == []
    assert read_mapping(folder / "mapping.toml").tables
    before = (folder / "recipe.toml").read_bytes()
    assert isinstance(kit("init", folder).exception, KitError)
    assert (folder / "recipe.toml").read_bytes() == before


def test_commands_print_for_people_and_programs(tmp_path: Path):
    stats = PIPELINES[-1]
    shown = kit("recipe", "show", stats)
    assert tomllib.loads(shown.stdout)["blocks"]
    assert json.loads(kit("recipe", "show", stats, "--json").stdout) == tomllib.loads(shown.stdout)
    assert kit("recipe", "diff", stats, stats).exit_code == 0
    assert kit("recipe", "diff", stats, PIPELINES[0]).exit_code == 1
    assert json.loads(kit("recipe", "schema").stdout)["title"]


def test_shell_completion_is_offered():
    assert "--install-completion" in kit("--help").stdout
