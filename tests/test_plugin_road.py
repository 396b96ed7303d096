"""The whole road with one part of every kind from outside the kit (tests/plugin), and what an edit to its files makes stale."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh import ROOT, UNSET, Done, kit, python
from test_plugins import PLUGIN, install
from toy import write_folder

from kit.data.layout import DataFolder

PACKAGE = PLUGIN / "acme_kit"
FILES = sorted(file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py"))
WITNESS = "with open({file!r}, 'a') as seen: seen.write(f'{{__import__(\"os\").getpid()}}\\n')\n"


def copied(desk: Path) -> Path:
    shutil.copytree(PLUGIN, desk / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    return desk / "mine" / "acme_kit"


def witnessed(script: Path, line: str, file: Path) -> None:
    """Make a copy of a part note the number of the process that it runs in, before a line of it."""
    text, indent = script.read_text(), " " * (len(line) - len(line.lstrip()))
    assert text.count(line) == 1
    script.write_text(text.replace(line, indent + WITNESS.format(file=str(file)) + line))


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def said(done: Done) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(desk: Path, **more: Path) -> dict[str, tuple[str, list[str]]]:
    done = kit(desk, "status", "mine/every.toml", "--data", "shop", "--json", **more)
    assert done.returncode in (0, 1), done.stderr  # 1: not all is fresh
    (stages,) = json.loads(done.stdout)["submissions"].values()
    return {stage["name"]: (stage["state"], stage["reasons"]) for stage in stages}


def test_each_part_is_one_small_file():
    for name in FILES:
        assert len((PACKAGE / name).read_text().splitlines()) <= 60, name


@pytest.mark.slow
def test_the_whole_road_runs_from_outside_the_kit(tmp_path: Path):
    """Windows of seven days; each command in a process that knows of the package by the recipe or the submission alone."""
    package = copied(tmp_path)
    witnessed(package / "network" / "encoder.py", "        state, states =", tmp_path / "encoding")
    witnessed(package / "probes" / "centroid.py", "        began =", tmp_path / "probing")
    write_folder(tmp_path / "shop")
    done = kit(tmp_path, "data", "split", "shop", "--days", "7")
    assert done.returncode == 0, done.stderr
    submit(tmp_path)
    use_what_was_made(tmp_path)
    search(tmp_path)
    edit_files(tmp_path)
    take_it_installed(tmp_path)


def submit(desk: Path) -> None:
    """In new processes as users start them, all three: this one, and two that train the sequence block's network."""
    environment = {key: value for key, value in os.environ.items() if key not in UNSET} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "kit", "submit", "mine/every.toml", "--data", "shop"]
    done = subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(set((desk / "encoding").read_text().split())) == 3
    made = desk / "submissions" / "every"
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["plugins"] == {"acme_kit": str(desk / "mine")}
    deciding = {f"acme_kit/{name}" for name in FILES if not name.startswith(("probes", "tasks"))}
    assert {name for name in manifest["sources"] if name.startswith("acme_kit")} == deciding
    columns = (made / "columns.json").read_text()
    assert "late__visit" in columns and "page_7" in columns and "forecast_basket" in columns


def use_what_was_made(desk: Path) -> None:
    """From a folder that is neither beside the recipe nor has the package in reach."""
    away, made, data = desk / "elsewhere", "../submissions/every", ("--data", "../shop")
    away.mkdir()
    assert said(kit(away, "validate", made, *data, "--json"))["ok"]
    score = ("score", made, *data, "--task", "churn", "--task", "weekly", "--json", "--probe")
    first = said(kit(away, *score, "centroid"))
    churn, weekly = (first["tasks"][task]["score"] for task in ("churn", "weekly"))
    assert 0 < churn < 1 and 0 < weekly < 1 and first["sum"] == churn  # weekly is no part of the challenge's sum
    client = str(np.load(desk / "submissions" / "every" / "client_ids.npy")[0])
    told = said(kit(away, *score, "centroid", "--explain", "--clients", client))
    assert told["tasks"]["churn"]["score"] == churn
    assert set(told["importance"]["weekly"]["blocks"]) == {"features", "pages", "sequence", "network"}
    kept = json.loads((desk / "submissions" / "every" / "explain-centroid.json").read_text())["tasks"]["churn"]
    (label, *_) = kept["clients"][client]
    assert sum(label["blocks"].values()) == pytest.approx(label["margin"], rel=1e-4)
    assert 0 < said(kit(away, *score, "gbm"))["tasks"]["weekly"]["score"] < 1  # learned in LightGBM's process
    done = kit(away, "report", made, *data)
    assert done.returncode == 0, done.stderr
    done = kit(desk, "embed", "submissions/every", "--data", "shop", "--out", "vectors")  # fitted there, loaded here
    assert done.returncode == 0, done.stderr
    for name in ("embeddings.npy", "client_ids.npy"):
        assert (desk / "vectors" / name).read_bytes() == (desk / "submissions" / "every" / name).read_bytes()


def search(desk: Path) -> None:
    """The workers are new processes: they build with the plugin's family and block, and score its task with its probe."""
    (desk / "probing").unlink()
    done = kit(
        desk, "tune", "mine/search.toml", "--data", "shop", "--study", "s.journal", "--trials", "3", "--workers", "2"
    )
    assert done.returncode == 0, done.stderr
    state = said(kit(desk, "tune", "status", "s.journal", "--json"))
    assert state["taken"] == state["trials"]["complete"] == 3
    assert (desk / "probing").exists()


def edit_files(desk: Path) -> None:
    """As a person does, and takes it back. `test_an_edit_makes_stale_what_it_decides` goes through all of them."""
    package, score = desk / "mine" / "acme_kit", ("score", "submissions/every", "--data", "shop", "--probe", "centroid")
    weekly = json.loads((desk / "submissions" / "every" / "scores.json").read_text())["centroid"]["tasks"]["weekly"]
    edit(package / "tasks" / "weekly.py", "LEAST = 1", "LEAST = 2")
    again, churn = (said(kit(desk, *score, "--task", task, "--json")) for task in ("weekly", "churn"))
    assert not again["reused"] and again["tasks"]["weekly"]["score"] != weekly["score"]
    assert churn["reused"]  # none of its business
    edit(package / "network" / "trunk.py", "sigmoid()", "tanh()")
    found = states(desk)
    for stage in ("block network", "submission"):
        assert found.pop(stage) == ("stale", ["code: acme_kit/network/trunk.py edited"])
    assert {state for state, _ in found.values()} == {"fresh"}
    edit(package / "network" / "trunk.py", "tanh()", "sigmoid()")


def take_it_installed(desk: Path) -> None:
    """A package manager's folder and an entry point instead of a line in the recipe: the same code, so nothing is stale."""
    installed = install(desk / "mine" / "acme_kit", desk / "site-packages")
    edit(desk / "mine" / "every.toml", 'plugins = ["acme_kit"]\n', "")
    assert {state for state, _ in states(desk, path=installed).values()} == {"fresh"}
    (desk / "encoding").unlink()
    done = kit(desk, "submit", "mine/every.toml", "--data", "shop", "--name", "again", path=installed)
    assert done.returncode == 0, done.stderr
    assert not (desk / "encoding").exists()  # nothing is trained
    for name in ("embeddings.npy", "client_ids.npy"):
        first, again = ((desk / "submissions" / which / name).read_bytes() for which in ("every", "again"))
        assert first == again


LOOK = """
import json, sys
from pathlib import Path
import kit.fingerprint as fingerprint
from kit.blocks.base import BLOCKS
from kit.data.layout import DataFolder
from kit.history import History
from kit.probes.registry import PROBES
from kit.profile import plan_block, profile_code
from kit.recipe import read_recipe
from kit.scoring.evidence import evidence
from kit.tasks import find_task
from kit.tasks.labels import own_digest

recipe, folder = read_recipe(Path("mine/every.toml")), DataFolder(Path("shop"))
package = Path("mine/acme_kit").resolve()
history = History.open(folder)

def stages():
    found = {name: plan_block(name, entry, 0, history.fingerprint, "events", recipe.blocks).key
             for name, entry in recipe.blocks.items()}
    found["submission"] = profile_code(recipe).digest
    for probe in ("centroid", "gbm"):
        for task in ("weekly", "churn"):
            found[f"{task} by {probe}"] = [evidence(folder, PROBES.loaded()[probe], "fp32"), own_digest(find_task(task), folder)]
    return found

fingerprint._library = whole = fingerprint.Library(Path.read_bytes)
before = stages()

def changed(file, how):
    library = fingerprint.Library(lambda path: how(path.read_bytes()) if path == package / file else path.read_bytes())
    library._sources = {key: source for key, source in whole._sources.items() if key[1] != package / file}  # parsed once
    library._steps = {key: step for key, step in whole._steps.items() if f"acme_kit/{file}" not in step[0]}
    fingerprint._library = library
    now = stages()
    return [name for name in before if before[name] != now[name]]

said = {}
for file in json.loads(sys.argv[1]):
    words = changed(file, lambda text: text.replace(b'\"\"\"', b'\"\"\"So: ', 1) + b"# why\\n")
    said[file] = [words, changed(file, lambda text: text + b"\\nMORE = 1\\n")]
print(json.dumps(said))
"""
NETWORKS = {"network", "sequence"}
CENTROID = {"weekly by centroid", "churn by centroid"}
WEEKLY = {"weekly by centroid", "weekly by gbm"}
DECIDES = {
    "features/late.py": {"features"},
    "features/__init__.py": {"features"},
    "blocks/pages.py": {"pages"},
    "blocks/__init__.py": {"pages"},
    "hashing.py": {"pages"},
    "network/encoder.py": NETWORKS,
    "network/items.py": {"network"},
    "network/negatives.py": {"network"},
    "network/trunk.py": {"network"},
    "network/head.py": {"network"},
    "network/__init__.py": NETWORKS,
    "probes/centroid.py": CENTROID,
    "probes/__init__.py": CENTROID,
    "probes/reasons.py": set(),  # explanations are made each time
    "tasks/weekly.py": WEEKLY,
    "tasks/__init__.py": WEEKLY,
    "__init__.py": {"features", "pages"} | NETWORKS | CENTROID | WEEKLY,
}
"""File of the package → blocks and scores that a statement in it decides; the submission as a whole follows its blocks."""


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory, toy: DataFolder) -> dict[str, tuple[set[str], set[str]]]:
    """File → what other words in it make stale, and what another statement does: by fingerprints alone, nothing is built."""
    desk = tmp_path_factory.mktemp("decided")
    copied(desk)
    (desk / "shop").symlink_to(toy.root)
    done = python(desk, LOOK, json.dumps(FILES))
    assert done.returncode == 0, done.stderr
    return {file: (set(words), set(statement)) for file, (words, statement) in json.loads(done.stdout).items()}


@pytest.mark.parametrize("file", FILES)
def test_an_edit_makes_stale_what_it_decides(file: str, decided: dict[str, tuple[set[str], set[str]]]):
    words, statement = decided[file]
    blocks = DECIDES[file] & {"features", "pages", *NETWORKS}
    assert words == set()
    assert statement == DECIDES[file] | ({"submission"} if blocks else set())
