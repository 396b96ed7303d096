"""An installed kit needs no checkout: its wheel holds recipes, mappings and templates, and recipes are found by their names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from kit.errors import KitError
from kit.recipe import read_recipe, recipe_file
from kit.tune.space import read_space

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree, unpacked as an installer would."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"
    source.mkdir()
    for name in ("kit", "pipelines", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    # The build writes beside what it builds: into a folder of links, none of which it replaces.
    code = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with ZipFile(root / done.stdout.split()[-1]) as wheel:
        wheel.extractall(root / "site")
    return root / "site"


def test_the_wheel_holds_what_the_kit_reads(installed: Path):
    for kind in ("data/mappings/*.toml", "templates/*.toml", "report/templates/*"):
        assert {p.name for p in (installed / "kit").glob(kind)} == {p.name for p in (ROOT / "kit").glob(kind)}
    shipped = {p.relative_to(ROOT) for p in (ROOT / "pipelines").rglob("*.toml")}
    assert {p.relative_to(installed / "kit") for p in (installed / "kit" / "pipelines").rglob("*.toml")} == shipped


def test_a_recipe_by_its_name_outside_the_checkout(installed: Path, tmp_path: Path):
    code = "from kit.cli.main import app; app(['recipe', 'check', 'blend'])"
    environment = {"PYTHONPATH": str(installed), "PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_name_is_a_shipped_recipe_unless_there_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert read_recipe(Path("blend")) == read_recipe(ROOT / "pipelines" / "blend.toml")
    assert read_recipe(Path("bench/als")).name == "als"
    assert read_space(Path("tune/profile")).raw == read_space(ROOT / "pipelines" / "tune" / "profile.toml").raw
    for wrong in ("blned", "blend.toml", "../pipelines/blend", "", "/blend"):
        with pytest.raises(KitError, match="There is no recipe"):
            recipe_file(Path(wrong))
    Path("blend").write_text("name = 'mine'\n[blocks.a]\nkind = 'stats'\n")
    assert read_recipe(Path("blend")).name == "mine"
