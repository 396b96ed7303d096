"""Two scored submissions on the toy folder, shared by the tests of reports; nobody may change them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kit.data.layout import DataFolder
from kit.probes.score import score_submission, write_scores
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission import submit

BASELINE = {"name": "baseline", "blocks": {"counts": {"kind": "stats", "families": ["counts"], "scale": "quantile"}}}
MINE = {
    "name": "mine",
    "description": 'Features <script>alert("x")</script> & vectors.',
    "blocks": {
        "counts": {"kind": "stats", "families": ["counts"], "scale": "quantile"},
        "recency": {"kind": "stats", "families": ["recency"], "scale": "quantile"},
        "graph": {"kind": "twhin", "dim": 8, "train": {"epochs": 2, "lr": 0.3, "clip": 100.0}, "row_l2": True},
    },
    "assembly": {"row_norm": 10.0},
}


def build(data: DataFolder, root: Path, plan: dict) -> Path:
    folder = root / "submissions" / plan["name"]
    submit(parse(Recipe, plan, "test"), data.root, folder, store=Store(root / "store"))
    return folder


@pytest.fixture(scope="session")
def scored(toy: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """submissions/mine, scored with two probes, beside submissions/baseline, scored with one."""
    root = tmp_path_factory.mktemp("reports")
    for plan, probes in ((BASELINE, ["fast"]), (MINE, ["fast", "gbm"])):
        folder = build(toy, root, plan)
        write_scores(folder, [score_submission(folder, toy, probe, threads=1) for probe in probes])
    return root / "submissions" / "mine"


@pytest.fixture
def copy(scored: Path, tmp_path: Path) -> Path:
    """A copy of both that a test may change: the one to report on."""
    return Path(shutil.copytree(scored.parent, tmp_path / "submissions")) / "mine"
