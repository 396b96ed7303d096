"""Two scored submissions on the toy folder, shared by the tests of reports; nobody may change them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from report_world import BASELINE, MINE, build
from scored import score_submission, write_scores

from kit.data.layout import DataFolder


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
