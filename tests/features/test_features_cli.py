"""`kit features list` and `kit features build`."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from kit.cli.features import app
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.features.registry import FAMILIES

run = CliRunner()


def test_list_shows_every_family() -> None:
    result = run.invoke(app, ["list", "--json"])
    assert result.exit_code == 0
    lines = json.loads(result.stdout)
    assert {line["family"] for line in lines} == set(FAMILIES.loaded())
    counts = next(line for line in lines if line["family"] == "counts")
    assert counts["windows"] == "1/3/7/14/28/56 d"
    assert all(line["columns"] > 0 and line["purpose"] for line in lines)
    assert "open_cart" in run.invoke(app, ["list"]).stdout


def test_build_follows_the_recipe(toy: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "r"\n[blocks.few]\nkind = "stats"\nfamilies = ["counts"]\nwindows = [5]\n')
    out = tmp_path / "f.parquet"
    result = run.invoke(app, ["build", str(recipe), "--data", str(toy.root), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    frame = pl.read_parquet(out)
    assert frame.columns[0] == "client_id"
    assert frame.columns[1:3] == ["counts__buy_5d", "counts__buy_all"]
    assert json.loads(result.stdout)["clients"] == frame.height


def test_build_says_what_is_wrong(toy: DataFolder, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "r"\n[blocks.x]\nkind = "als"\nitems = "url"\n')
    arguments = ["build", str(recipe), "--data", str(toy.root), "--out", str(tmp_path / "f.parquet")]
    assert isinstance(run.invoke(app, arguments).exception, KitError)
    assert isinstance(run.invoke(app, [*arguments, "--cut", "tomorrow"]).exception, KitError)
