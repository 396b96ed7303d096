"""Parts from outside the kit: found, checked, used on the whole road and in every process, and counted in fingerprints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kit.data.layout import DataFolder

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture
def desk(tmp_path: Path, toy: DataFolder) -> Path:
    """A working folder with the recipe and the plugin's package in a folder beside; data/toy is there too."""
    shutil.copytree(PLUGIN, tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "toy").symlink_to(toy.root)
    return tmp_path


def start(desk: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, in which nothing is known of the plugin; `path` goes before the kit's on PYTHONPATH."""
    unset = ("KIT_PLUGINS", "KIT_PLUGIN_PATH", "KIT_STORE")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    places = [path, Path(__file__).parents[1]]
    environment["PYTHONPATH"] = os.pathsep.join(str(place) for place in places if place is not None)
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, check=False)


def python(desk: Path, code: str, *arguments: str, path: Path | None = None) -> str:
    done = start(desk, "-c", code, *arguments, path=path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(desk: Path, *command: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    return start(desk, "-m", "kit", *command, path=path)


def states(desk: Path) -> dict[str, tuple[str, list[str]]]:
    done = run(desk, "status", "mine/pages.toml", "--data", "toy", "--json")
    assert done.returncode in (0, 1), done.stderr  # 1: not all is fresh
    (stages,) = json.loads(done.stdout)["submissions"].values()
    return {stage["name"]: (stage["state"], stage["reasons"]) for stage in stages}


def test_the_whole_road_runs_from_outside_the_kit(desk: Path):
    done = run(desk, "submit", "mine/pages.toml", "--data", "toy")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((desk / "submissions" / "pages" / "manifest.json").read_text())
    assert manifest["plugins"] == {"acme_kit": str(desk / "mine")}
    assert {"acme_kit/blocks/pages.py", "acme_kit/hashing.py", "acme_kit/features/late.py"} <= set(manifest["sources"])
    columns = json.loads((desk / "submissions" / "pages" / "columns.json").read_text())
    assert "late__visit" in json.dumps(columns)

    assert run(desk, "validate", "submissions/pages", "--data", "toy").returncode == 0
    (desk / "elsewhere").mkdir()  # neither beside the recipe nor with the package in reach
    score = ("score", "../submissions/pages", "--data", "../toy", "--probe", "centroid", "--task", "churn", "--json")
    done = run(desk / "elsewhere", *score)
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["tasks"]["churn"]["score"] < 1
    client = int(np.load(desk / "submissions" / "pages" / "client_ids.npy")[0])
    told = json.loads(run(desk / "elsewhere", *score, "--explain", "--clients", str(client)).stdout)
    assert told["reused"] and set(told["importance"]["churn"]["blocks"]) == {"pages", "features"}
    kept = json.loads((desk / "submissions" / "pages" / "explain-centroid.json").read_text())["tasks"]["churn"][
        "clients"
    ]
    assert sum(kept[str(client)][0]["blocks"].values()) == pytest.approx(kept[str(client)][0]["margin"], rel=1e-4)
    weekly = (*score[:-3], "--task", "weekly", "--json")
    first = json.loads(run(desk / "elsewhere", *weekly).stdout)
    assert 0 < first["tasks"]["weekly"]["score"] < 1 and first["sum"] == 0  # no part of the challenge's sum
    assert json.loads(run(desk / "elsewhere", *weekly).stdout)["reused"]

    assert {state for state, _ in states(desk).values()} == {"fresh"}
    edit = desk / "mine" / "acme_kit"
    task = edit / "tasks" / "weekly.py"
    task.write_text(task.read_text().replace("LEAST = 1", "LEAST = 2"))
    again = json.loads(run(desk / "elsewhere", *weekly).stdout)
    assert not again["reused"] and again["tasks"]["weekly"]["score"] != first["tasks"]["weekly"]["score"]
    assert json.loads(run(desk / "elsewhere", *score).stdout)["reused"]  # churn's is none of its business
    for name in (
        "hashing.py",
        "features/late.py",
        "blocks/pages.py",
        "probes/centroid.py",
        "probes/reasons.py",
    ):  # words decide nothing
        (edit / name).write_text((edit / name).read_text().replace('"""', '"""So: ', 1) + "# more\n")
    (edit / "probes" / "centroid.py").write_text((edit / "probes" / "centroid.py").read_text().replace("1e-3", "1e-2"))
    assert {state for state, _ in states(desk).values()} == {"fresh"}
    (edit / "hashing.py").write_text((edit / "hashing.py").read_text().replace("PRIME)", "PRIME + 1)"))
    found = states(desk)
    assert found["block pages"] == ("stale", ["code: acme_kit/hashing.py edited"])
    assert found["block features"][0] == found["events"][0] == "fresh"
    assert found["submission"] == ("stale", ["code: acme_kit/hashing.py edited"])
    (edit / "features" / "late.py").write_text((edit / "features" / "late.py").read_text().replace(">=", ">"))
    assert states(desk)["block features"] == ("stale", ["code: acme_kit/features/late.py edited"])


def test_a_missing_plugin_is_named_with_recipe_and_remedy(desk: Path):
    shutil.move(desk / "mine" / "acme_kit", desk / "away")
    done = run(desk, "recipe", "show", "mine/pages.toml")
    assert done.returncode == 2
    assert "mine/pages.toml: there is no plugin 'acme_kit': No module named 'acme_kit'." in done.stderr
    assert "Install its package, or add the folder that holds it to PYTHONPATH" in done.stderr


def test_a_plugin_that_fails_says_where(desk: Path):
    (desk / "mine" / "acme_kit" / "hashing.py").write_text("import nowhere_at_all\n")
    done = run(desk, "recipe", "show", "mine/pages.toml")
    assert done.returncode == 2
    assert "fails while it is imported: ModuleNotFoundError: No module named 'nowhere_at_all' (" in done.stderr
    assert "hashing.py, line 1)." in done.stderr


def test_a_name_that_the_kit_has_is_refused_with_both_modules(desk: Path):
    text = (desk / "mine" / "acme_kit" / "features" / "late.py").read_text()
    (desk / "mine" / "acme_kit" / "features" / "late.py").write_text(text.replace('"late",', '"counts",'))
    done = run(desk, "recipe", "show", "mine/pages.toml")
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
    lines = python(desk, CHECK, *map(str, paths)).splitlines()
    for number, (_, words) in enumerate(MISTAKES.values()):
        assert words in lines[2 * number], "checked"
        assert words in lines[2 * number + 1], "read"


INSTALLED = """
from kit.blocks.base import find_block, make_block
from kit.features.registry import load_families
from kit.recipe import BlockEntry

assert "late" in load_families()
print(find_block("pages").__module__)
print("late" in str(make_block("x", BlockEntry(kind="stats"), 0).code().files))
print(*(name for name in make_block("x", BlockEntry(kind="pages"), 0).code().files if "acme" in name))
"""


def test_an_installed_plugin_is_known_everywhere_and_changes_no_recipe(desk: Path):
    installed = desk / "site-packages"
    shutil.copytree(PLUGIN / "acme_kit", installed / "acme_kit", ignore=shutil.ignore_patterns("__pycache__"))
    about = installed / "acme_kit-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-kit\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[kit.plugins]\nacme = acme_kit\n")
    assert python(desk, INSTALLED, path=installed).splitlines() == [
        "acme_kit.blocks.pages",
        "False",  # a recipe that names no families has the kit's
        "acme_kit/__init__.py acme_kit/blocks/__init__.py acme_kit/blocks/pages.py acme_kit/hashing.py",
    ]
    (installed / "acme_kit" / "hashing.py").write_text("1 / 0\n")
    done = run(desk, "features", "list", path=installed)
    assert done.returncode == 2
    assert "The plugin 'acme_kit' of the installed package acme-kit fails while it is imported" in done.stderr


CHILDREN = """
import multiprocessing, subprocess, sys
from pathlib import Path

def look(queue):
    from kit.features.registry import load_families
    queue.put(load_families().modules(["late"])[0])

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
    ask = "from kit.features.registry import load_families; print('started', *load_families().modules(['late']))"
    subprocess.run([sys.executable, "-c", ask], check=True)
"""


def test_processes_that_a_run_starts_know_its_plugins(desk: Path):
    (desk / "children.py").write_text(CHILDREN)
    found = start(desk, "-u", "children.py")
    assert found.stdout.split() == [
        word for how in ("spawn", "fork", "started") for word in (how, "acme_kit.features.late")
    ], found.stderr
