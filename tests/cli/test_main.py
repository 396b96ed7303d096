"""The command line as a whole: instant help, plain errors, and the road from a raw folder to a scored submission."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fresh import kit
from toy import write_folder
from typer.testing import CliRunner, Result

from kit.cli.main import app
from kit.errors import KitError

ROOT = Path(__file__).parents[2]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; import kit.cli.main; "
        "print([name for name in ('torch', 'polars', 'numpy', 'sklearn', 'lightgbm', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [[], ["data"], ["features"], ["submit"], ["score"], ["data", "convert"]])
def test_every_command_has_help(tmp_path: Path, command: list[str]):
    done = kit(tmp_path, *command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_a_mistake_is_two_plain_lines_and_exit_2(tmp_path: Path):
    done = kit(tmp_path, "submit", "nowhere.toml", "--data", "nowhere")
    assert done.returncode == 2
    assert "There is no recipe 'nowhere.toml'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("submit {recipe} --data data --out a --name b", "--out a and --name b both say"),
        ("status {recipe} --data data --out a --name b", "--out a and --name b both say"),
        ("status --data data", "--data data belongs to a recipe"),
        ("status --cut end", "--cut end belongs to a recipe"),
        ("status --seed 0", "--seed 0 belongs to a recipe"),
        ("report {recipe} --json --format markdown", "--json and --format markdown are two formats"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(call: str, told: str):
    done = CliRunner().invoke(app, call.format(recipe=ROOT / "pipelines" / "stats.toml").split())
    assert isinstance(done.exception, KitError)
    assert told in done.exception.what


def test_the_whole_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """raw folder → split → submit → validate → score, in the order of the README; in this process."""

    def kit(*words: str) -> Result:
        done = CliRunner().invoke(app, words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        return done

    monkeypatch.chdir(tmp_path)
    write_folder(Path("data"))
    Path("r.toml").write_text("name='mine'\n[blocks.counts]\nkind='stats'\nfamilies=['counts']\nscale='quantile'\n")
    assert kit("data", "split", "data").exit_code == 0
    built = kit("submit", "r.toml", "--data", "data", "--json")
    assert built.exit_code == 0, built.stderr
    assert json.loads(built.stdout)["built"] is True
    again = kit("submit", "r.toml", "--data", "data")
    assert "fresh already" in again.stdout
    valid = kit("validate", "submissions/mine", "--data", "data", "--json")
    assert valid.exit_code == 0
    assert json.loads(valid.stdout)["ok"] is True
    scored = kit("score", "submissions/mine", "--data", "data", "--probe", "fast", "--json", "--quiet")
    assert scored.exit_code == 0, scored.stderr
    report = json.loads(scored.stdout)
    assert set(report["tasks"]) == {
        "churn", "propensity_category", "propensity_sku", "conversion", "propensity_new_sku", "propensity_price",
    }  # fmt: skip
    assert {"submission", "data", "probe", "precision", "seeds", "tasks", "sum"} <= set(report)
    entry = report["tasks"]["propensity_price"]
    assert set(entry) >= {
        "score",
        "auroc",
        "novelty",
        "diversity",
        "auroc_defined",
        "labels_without_positives",
        "epochs",
    }
    assert kit("report", "submissions/mine", "--json", "--out", "report.json").exit_code == 0
    assert json.loads(Path("report.json").read_text())["submission"] == str(Path("submissions/mine"))
    ids = np.load(Path("submissions") / "mine" / "client_ids.npy")
    np.save(Path("submissions") / "mine" / "client_ids.npy", ids[:-1])
    broken = kit("validate", "submissions/mine", "--data", "data")
    assert broken.exit_code == 1
    assert "relevant clients are missing" in broken.stdout
