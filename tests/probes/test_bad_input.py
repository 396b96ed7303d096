"""Whatever is wrong with the input of `kit score` ends in a clear statement: never a silent 0, never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from probe_world import World
from scored import validate

from kit.cli.main import main
from kit.data.layout import DataFolder
from kit.errors import Severity
from kit.probes.registry import PROBES, Options
from kit.tasks import CONVERSION, PRICE
from kit.tasks.labels import load_task

Kit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(world: World, tmp_path: Path) -> DataFolder:
    return DataFolder(Path(shutil.copytree(world.folder.root, tmp_path / "data")))


@pytest.fixture
def submission(world: World, tmp_path: Path) -> Path:
    return world.submission("scaled", tmp_path / "mine")


@pytest.fixture
def kit(
    folder: DataFolder,
    submission: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Kit:
    """Runs `kit score` on the two as a user would: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> tuple[int, str, str]:
        command = ["kit", "score", str(submission), "--data", str(folder.root), "--threads", "1", *options]
        monkeypatch.setattr("sys.argv", command)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(path, change(np.load(path)))


def with_nan(vectors: np.ndarray) -> np.ndarray:
    vectors[3, 2] = np.nan
    return vectors


def with_infinities(vectors: np.ndarray) -> np.ndarray:
    vectors[:, 1] = np.inf
    return vectors


def repeated(ids: np.ndarray) -> np.ndarray:
    ids[1] = ids[0]
    return ids


REFUSED: dict[str, tuple[Callable[[DataFolder, Path], object], str]] = {
    "NaN": (
        lambda data, own: rewrite(own / "embeddings.npy", with_nan),
        "1 values are NaN or infinite, the first in row 3, column 2",
    ),
    "infinity": (
        lambda data, own: rewrite(own / "embeddings.npy", with_infinities),
        "700 values are NaN or infinite, the first in row 0, column 1",
    ),
    "float32": (
        lambda data, own: rewrite(own / "embeddings.npy", lambda v: v.astype(np.float32)),
        "vectors are float32",
    ),
    "no column": (lambda data, own: rewrite(own / "embeddings.npy", lambda v: v[:, :0]), "vectors have no column"),
    "an id twice": (lambda data, own: rewrite(own / "client_ids.npy", repeated), "1 duplicate ids"),
    "a client without a vector": (
        lambda data, own: [
            rewrite(own / name, lambda values: values[1:]) for name in ("client_ids.npy", "embeddings.npy")
        ],
        "1 relevant clients are missing",
    ),
    "wrong ids": (
        lambda data, own: rewrite(own / "client_ids.npy", lambda ids: ids + 10**9),
        "None of the 700 ids is a relevant client",
    ),
    "ids of another length": (
        lambda data, own: rewrite(own / "client_ids.npy", lambda ids: ids[:5]),
        "5 ids for 700 vectors",
    ),
    "no labels": (lambda data, own: data.window("train").unlink(), "has no target windows yet"),
    "broken labels": (lambda data, own: data.window("train").write_bytes(b"PAR1nonsense"), "train_target.parquet"),
    "labels without clients": (
        lambda data, own: pl.DataFrame({"sku": [1]}).write_parquet(data.window("validation")),
        "lacks the column client_id",
    ),
    "no submission": (lambda data, own: shutil.rmtree(own), "There is no submission"),
    "no data": (lambda data, own: shutil.rmtree(data.root), "There is no data folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_two_lines_and_exit_2(kit: Kit, folder: DataFolder, submission: Path, case: str) -> None:
    damage, says = REFUSED[case]
    damage(folder, submission)
    code, out, err = kit("--task", "conversion")
    assert code == 2, err
    assert says in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("case", ["NaN", "float32", "no column", "an id twice", "a client without a vector"])
def test_refused_in_the_words_of_validate(kit: Kit, folder: DataFolder, submission: Path, case: str) -> None:
    REFUSED[case][0](folder, submission)
    code, _, err = kit("--task", "conversion")
    first = next(finding for finding in validate(submission, folder) if finding.severity is Severity.ERROR)
    assert code == 2
    assert f"is not valid: {first.what} ({first.where})" in " ".join(err.split())


def test_a_window_without_purchases_is_said_and_no_score(kit: Kit, folder: DataFolder) -> None:
    pl.read_parquet(folder.window("validation")).clear().write_parquet(folder.window("validation"))
    code, out, _ = kit()
    assert code == 1, "nothing was scored"
    assert out.count("not defined here, because") == 6
    assert "0.0000" not in out
    code, out, _ = kit("--json", "--quiet", "--probe", "gbm")
    report = json.loads(out)
    assert code == 1
    assert {entry["score"] for entry in report["tasks"].values()} == {None}
    assert {entry["slices"] for entry in report["tasks"].values()} == {None}
    assert report["undefined_tasks"] == 6


def test_one_client_is_said(kit: Kit, folder: DataFolder, submission: Path) -> None:
    for name in ("client_ids.npy", "embeddings.npy"):
        rewrite(submission / name, lambda values: values[:1])
    np.save(folder.relevant_clients, np.load(submission / "client_ids.npy"))
    code, out, _ = kit()
    assert code == 1
    assert "an AUROC compares at least 2" in out


def test_a_task_nobody_did_is_said_beside_the_scores_of_the_others(kit: Kit, folder: DataFolder) -> None:
    np.save(folder.targets(PRICE.name), np.arange(1000, 1100))
    code, out, _ = kit("--task", "price", "--task", "conversion")
    assert code == 0
    assert "none of the 700 clients bought any of its 100 targets in the train window" in out
    code, out, _ = kit("--task", "propensity_price", "--task", "conversion", "--json", "--quiet")
    report = json.loads(out)
    assert report["tasks"]["propensity_price"]["score"] is None
    assert report["sum"] == report["tasks"]["conversion"]["score"]


@pytest.mark.parametrize(
    "options", [("--task", "churm"), ("--probe", "fats"), ("--precision", "fp8"), ("--seeds", "0")]
)
def test_mistyped_options_are_explained(kit: Kit, options: tuple[str, str]) -> None:
    code, _, err = kit(*options)
    assert code == 2
    assert options[1] in err


@pytest.mark.parametrize("probe", ["fast", "gbm"])
def test_two_clients_and_a_single_positive_can_be_scored(world: World, folder: DataFolder, probe: str) -> None:
    """The least that defines a task: one who bought and one who did not, in both windows."""
    ids, vectors = world.profiles["scaled"]
    bought = [set(pl.read_parquet(folder.window(name))["client_id"]) for name in ("train", "validation")]
    buyer = next(i for i, client in enumerate(ids.tolist()) if all(client in window for window in bought))
    other = next(i for i, client in enumerate(ids.tolist()) if not any(client in window for window in bought))
    rows = np.array([buyer, other])
    data = load_task(CONVERSION, ids[rows], folder)
    (run,) = PROBES.loaded()[probe].run(vectors[rows], [data], Options(threads=1, keep_logits=True))
    assert run.best.score in (0.0, 0.5, 1.0)
    assert run.logits is not None and np.isfinite(run.logits).all()
