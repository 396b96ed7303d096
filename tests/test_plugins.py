"""Parts from outside the kit: found, checked, known in every process. `test_plugin_road.py` uses one of each kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fresh import ROOT, UNSET, kit, python

from kit.data.layout import DataFolder

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture
def desk(tmp_path: Path, toy: DataFolder) -> Path:
    """A working folder with the plugin's package and recipes in a folder beside, but for the parts that need torch."""
    shutil.copytree(PLUGIN, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__", "network"))
    (tmp_path / "toy").symlink_to(toy.root)
    return tmp_path


def test_a_missing_plugin_is_named_with_recipe_and_remedy(desk: Path):
    shutil.move(desk / "mine" / "acme_kit", desk / "away")
    done = kit(desk, "recipe", "show", "mine/pages.toml")
    assert done.returncode == 2
    assert "mine/pages.toml: there is no plugin 'acme_kit': No module named 'acme_kit'." in done.stderr
    assert "Install its package, or add the folder that holds it to PYTHONPATH" in done.stderr


def test_a_plugin_that_fails_says_where(desk: Path):
    (desk / "mine" / "acme_kit" / "hashing.py").write_text("import nowhere_at_all\n")
    done = kit(desk, "recipe", "show", "mine/pages.toml")
    assert done.returncode == 2
    assert "fails while it is imported: ModuleNotFoundError: No module named 'nowhere_at_all' (" in done.stderr
    assert "hashing.py, line 1)." in done.stderr


def test_a_name_that_the_kit_has_is_refused_with_both_modules(desk: Path):
    text = (desk / "mine" / "acme_kit" / "features" / "late.py").read_text()
    (desk / "mine" / "acme_kit" / "features" / "late.py").write_text(text.replace('"late",', '"counts",'))
    done = kit(desk, "recipe", "show", "mine/pages.toml")
    assert done.returncode == 2
    for words in ("The feature family 'counts' is registered twice", "kit.features.counts", "acme_kit.features.late"):
        assert words in done.stderr


MISTAKES = {
    "hours = 20": ("hour = 20", "did you mean 'hour'?"),
    "hour = 24": ("hour = 20", "Input should be less than or equal to 23 (found 24)"),
    "family.lat]": ("family.late]", "did you mean 'late'?"),
    "family.counts]": ("family.late]", "known: late"),
    '"acme kit"': ('"acme_kit"', "'acme kit' is no module's name."),
}
CHECK = """
import sys
from pathlib import Path
from kit.blocks.base import make_block
from kit.errors import KitError
from kit.recipe import read_recipe
from kit.submission.recipes import check_recipe

for path in map(Path, sys.argv[1:]):
    print(*(f"{finding.what} {finding.remedy}" for finding in check_recipe(path)), flush=True)
    try:
        recipe = read_recipe(path)
        make_block("features", recipe.blocks["features"], 0)
    except KitError as error:
        print(error)
"""


def test_a_familys_own_settings_are_checked(desk: Path):
    text = (desk / "mine" / "pages.toml").read_text()
    paths = [desk / "mine" / f"{number}.toml" for number in range(len(MISTAKES))]
    for path, (new, (old, _)) in zip(paths, MISTAKES.items(), strict=True):
        path.write_text(text.replace(old, new))
    done = python(desk, CHECK, *map(str, paths))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for number, (_, words) in enumerate(MISTAKES.values()):
        assert words in lines[2 * number], "checked"
        assert words in lines[2 * number + 1], "read"


INSTALLED = """
from kit.blocks.base import find_block, make_block
from kit.features.registry import FAMILIES
from kit.recipe import BlockEntry

assert "late" in FAMILIES.loaded()
print(find_block("pages").__module__)
print("late" in str(make_block("x", BlockEntry(kind="stats"), 0).code().files))
print(*(name for name in make_block("x", BlockEntry(kind="pages"), 0).code().files if "acme" in name))
"""


def install(package: Path, folder: Path) -> Path:
    """Move a package to where a package manager would have put it, with the entry point that it declares."""
    about = folder / "acme_kit-1.0.dist-info"
    about.mkdir(parents=True)
    shutil.move(package, folder)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-kit\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[kit.plugins]\nacme = acme_kit\n")
    return folder


def test_an_installed_plugin_is_known_everywhere_and_changes_no_recipe(desk: Path):
    installed = install(desk / "mine" / "acme_kit", desk / "site-packages")
    done = python(desk, INSTALLED, path=installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "acme_kit.blocks.pages",
        "False",  # a recipe that names no families has the kit's
        "acme_kit/__init__.py acme_kit/blocks/__init__.py acme_kit/blocks/pages.py acme_kit/hashing.py",
    ]
    (installed / "acme_kit" / "hashing.py").write_text("1 / 0\n")
    done = kit(desk, "features", "list", path=installed)
    assert done.returncode == 2
    assert "The plugin 'acme_kit' of the installed package acme-kit fails while it is imported" in done.stderr


CHILDREN = """
import multiprocessing, subprocess, sys
from pathlib import Path

def look(queue):
    from kit.features.registry import FAMILIES
    queue.put(FAMILIES.loaded().modules(["late"])[0])

if __name__ == "__main__":
    from kit.recipe import read_recipe
    read_recipe(Path("mine/pages.toml"))
    for method in ("spawn", "fork"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=look, args=(queue,))
        child.start()
        print(method, queue.get(timeout=60))
        child.join()
    ask = "from kit.features.registry import FAMILIES; print('started', *FAMILIES.loaded().modules(['late']))"
    subprocess.run([sys.executable, "-c", ask], check=True)
"""


def test_processes_that_a_run_starts_know_its_plugins(desk: Path):
    (desk / "children.py").write_text(CHILDREN)
    environment = {key: value for key, value in os.environ.items() if key not in UNSET} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-u", "children.py"]
    found = subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, check=False)
    assert found.stdout.split() == [
        word for how in ("spawn", "fork", "started") for word in (how, "acme_kit.features.late")
    ], found.stderr
