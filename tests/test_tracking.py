"""Run logs: whole after a kill, silent without a run, and no sink can stop a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from kit import tracking
from kit.cli.main import app
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.models.training import TrainSettings, train
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission import submit

PLAN = {"name": "s", "blocks": {"a": {"kind": "als", "items": "category", "factors": 4}}}


def lines(folder: Path) -> list[dict]:
    (path,) = folder.glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


class Recorder:
    """A sink that remembers what it was told."""

    told: list[tuple] = []  # noqa: RUF012

    def __init__(self, name, parameters, folder):
        self.told.append(("begin", parameters["command"]))

    def log(self, kind, values, step, about):
        self.told.append((kind, dict(values), step))

    def end(self, state):
        self.told.append(("end", state))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setitem(tracking.SINKS, "recorder", Recorder)
    monkeypatch.setenv(tracking.VARIABLE, "recorder")
    monkeypatch.setattr(Recorder, "told", [])
    return Recorder


def test_nothing_happens_without_a_run(recorder):
    tracking.log("stage", {"seconds": 1.0})
    assert recorder.told == []


def test_lines_say_what_was_run_and_how_it_ended(tmp_path: Path):
    with tracking.run("submit", {"data": "d"}, tmp_path):
        tracking.log("epoch", {"loss": 0.5, "odd": float("nan")}, step=1, about={"model": "m"})
    begin, epoch, end = lines(tmp_path)
    assert (begin["kind"], begin["command"], begin["data"]) == ("begin", "submit", "d")
    assert {key: epoch[key] for key in ("kind", "model", "step", "loss", "odd")} == {
        "kind": "epoch", "model": "m", "step": 1, "loss": 0.5, "odd": None,
    }  # fmt: skip
    assert end["state"] == "done"


@pytest.mark.parametrize(("error", "state"), [(ValueError, "failed"), (KeyboardInterrupt, "stopped")])
def test_a_run_that_ends_badly_says_so(tmp_path: Path, error: type[BaseException], state: str):
    with pytest.raises(error), tracking.run("submit", {}, tmp_path):
        raise error
    assert lines(tmp_path)[-1]["state"] == state
    tracking.log("stage", {})  # and nothing is left open
    assert len(lines(tmp_path)) == 2


def test_a_killed_run_leaves_whole_lines(tmp_path: Path):
    code = (
        "import os, sys; from pathlib import Path; from kit import tracking\n"
        "with tracking.run('x', {}, Path(sys.argv[1])):\n"
        "    tracking.log('stage', {'seconds': 1.0})\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=Path(__file__).parents[1])
    assert [line["kind"] for line in lines(tmp_path)] == ["begin", "stage"]


def test_a_run_within_a_run_is_told_to_the_outer_one(tmp_path: Path, recorder):
    with tracking.run("tune", {}, tmp_path), tracking.run("submit", {}, tmp_path):
        tracking.log("stage", {"seconds": 1.0})
    assert [event[0] for event in recorder.told] == ["begin", "begin", "stage", "end"]
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_a_sink_that_fails_is_given_up_and_the_run_goes_on(
    tmp_path: Path, recorder, monkeypatch: pytest.MonkeyPatch, capsys
):
    def fail(self, *_):
        raise ConnectionError("no network")

    monkeypatch.setattr(recorder, "log", fail)
    with tracking.run("submit", {}, tmp_path):
        tracking.log("stage", {"seconds": 1.0})
        tracking.log("stage", {"seconds": 2.0})
    assert [line["kind"] for line in lines(tmp_path)] == ["begin", "stage", "stage", "end"]
    assert capsys.readouterr().err.count("no network") == 1


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(tracking.VARIABLE, "tensorbord")
    with pytest.raises(KitError, match="did you mean 'tensorboard'"), tracking.run("x", {}, tmp_path):
        pass
    assert isinstance(CliRunner().invoke(app, ["--track", "wanb", "doctor"]).exception, KitError)

    def missing(*_):
        raise ImportError("No module named 'x'")

    monkeypatch.setitem(tracking.SINKS, "missing", missing)
    monkeypatch.setenv(tracking.VARIABLE, "missing")
    with pytest.raises(KitError, match=r"kit\[missing\]"), tracking.run("x", {}, tmp_path):
        pass


def test_submit_tells_its_stages(toy: DataFolder, tmp_path: Path, store: Store):
    submit(parse(Recipe, PLAN, "test"), toy.root, tmp_path / "s", store=store)
    told = lines(store.root / "runs")
    assert [line["kind"] for line in told] == ["begin", "stage", "stage", "profile", "end"]
    assert told[0]["recipe"]["blocks"]["a"]["factors"] == 4
    assert [line["stage"] for line in told if line["kind"] == "stage"] == ["events", "block-als"]
    assert told[3]["width"] == 4


def test_the_training_loop_tells_its_losses(tmp_path: Path, recorder):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, batch):
            return {"square": (self.weight * batch).square().mean()}

    with tracking.run("x", {}, tmp_path):
        settings = TrainSettings(epochs=2, accelerator="cpu")
        report = train(
            Model(), lambda epoch: [lambda: torch.ones(2)], settings, seed=0, name="m", validate=lambda m: 1.0
        )
    epochs = [event for event in recorder.told if event[0] == "epoch"]
    assert [step for _, _, step in epochs] == [1, 2]
    assert [values["square"] for _, values, _ in epochs] == [row["square"] for row in report.losses]
    assert all(values["validation"] == 1.0 for _, values, _ in epochs)


def told_to(sink: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking.VARIABLE, sink)
    with tracking.run("submit", {"data": "d"}, tmp_path / "runs"):
        tracking.log("epoch", {"loss": 0.5}, step=1, about={"model": "m"})
        tracking.log("epoch", {"loss": 0.25}, step=2, about={"model": "m"})


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told_to("tensorboard", tmp_path, monkeypatch)
    (folder,) = (tmp_path / "runs" / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("epoch/m/loss")] == [(1, 0.5), (2, 0.25)]


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    told_to("mlflow", tmp_path, monkeypatch)
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    assert run.data.metrics["epoch/m/loss"] == 0.25
    assert run.data.params["command"] == "submit"
    assert run.info.status == "FINISHED"


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    told_to("wandb", tmp_path, monkeypatch)
    assert list((tmp_path / "runs" / "wandb").glob("offline-run-*"))
