"""The Python door: small, lazy, and the same as the commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import kit
from kit.cli.main import app
from kit.data.shop import synth
from kit.data.split import split_folder
from kit.errors import KitError

RECIPE = 'name = "few"\n[blocks.stats]\nkind = "stats"\nfamilies = ["recency", "counts"]\n'


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("door")
    synth(root / "data", "tiny", 0)
    split_folder(root / "data")
    (root / "few.toml").write_text(RECIPE)
    (root / "fewer.toml").write_text(RECIPE.replace(', "counts"', "").replace('"few"', '"fewer"'))
    return root


def test_importing_kit_is_light():
    """A real start: neither torch nor polars nor numpy come before they are used."""
    code = (
        "import sys, kit; kit.__version__; print(sorted({'torch', 'polars', 'numpy', 'kit.door'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_surface_is_what_it_says():
    assert set(kit.__all__) == {"History", "compare", "embed", "load_submission", "open_data", "score", "submit"}
    assert set(kit.__all__) <= set(dir(kit))
    for name in kit.__all__:
        assert getattr(kit, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'sumbit'"):
        kit.sumbit  # noqa: B018


def test_from_data_to_a_comparison_as_the_commands_do(desk: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("KIT_STORE", str(desk / "store"))
    data = kit.open_data("data")
    few, fewer = (kit.submit(f"{name}.toml", data) for name in ("few", "fewer"))
    assert few.folder == Path("submissions/few")
    assert few.vectors.shape[0] == len(few.ids) == len(kit.History.open(data).clients)
    for submission in (few, fewer):
        report = kit.score(submission, data, "gbm", ["churn"])
        assert report.tasks["churn"]["score"] == report.sum
    row = kit.compare(few, "submissions/fewer", "gbm")["churn"]
    told = CliRunner().invoke(app, ["compare", "submissions/few", "submissions/fewer", "--probe", "gbm", "--json"])
    assert json.loads(told.stdout)["tasks"]["churn"]["difference"] == row.difference
    some = few.ids[[3, 1]]
    part = kit.embed(few, data, "part", clients=some)
    assert np.array_equal(part.ids, some)
    assert np.array_equal(part.vectors, few.vectors[[3, 1]])


def test_what_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(KitError, match=r"no data folder .*nowhere"):
        kit.open_data(tmp_path / "nowhere")
    with pytest.raises(KitError, match="kit data split"):
        kit.open_data(tmp_path)
    with pytest.raises(KitError, match="no submission"):
        kit.load_submission(tmp_path / "nothing")
