"""What the trees read: contributions that add up to the margin, gains where the signal is, files and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from probe_world import World
from typer.testing import CliRunner

from kit.cli.main import app
from kit.errors import KitError
from kit.probes import gbm
from kit.probes.gbm_worker import bin_vectors, learn_task
from kit.probes.registry import Options
from kit.report.attributions import read_attributions
from kit.studies.attributions import check_explainable, client_rows
from kit.submission.submission import Submission
from kit.tasks import CHURN
from kit.tasks.labels import load_task


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests and locks go to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.technique("I6")
@pytest.mark.parametrize("labels", [1, 5])
def test_contributions_add_up_to_every_margin(labels: int) -> None:
    """Also where negatives are sampled, a label is never bought, and another has too few positives for trees of its own."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6000, 12)).astype(np.float16)
    chances = 1 / (1 + np.exp(4 - 1.5 * vectors[:, :labels].astype(np.float64)))
    bought = (rng.random((6000, labels)) < chances).astype(np.float32)
    if labels > 1:
        bought[:, 1] = 0
        bought[:, 2] = 0
        bought[[5, 6], 2] = 1
    rows = np.arange(0, 6000, 2)
    margins, trees = learn_task(bin_vectors(vectors, 1), rows, sp.csr_matrix(bought[rows]), 3)
    parts = trees.contributions(vectors, rows[:50])
    assert parts.shape == (50, labels, 13)
    assert parts.sum(axis=2) == pytest.approx(margins[:50], abs=1e-5)
    assert np.ptp(parts[:, :, -1], axis=0) == pytest.approx(0, abs=1e-12), "the last entry is the same for everybody"
    gains = trees.gains(12)
    assert gains.shape == (12,)
    assert set(np.argsort(-gains)[: 1 if labels == 1 else 3]) == ({0} if labels == 1 else {0, 3, 4})
    assert trees.contributions(vectors, rows[:0]).shape == (0, labels, 13)


def test_nothing_learnt_is_explained_by_the_base_rate_alone() -> None:
    vectors = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float16)
    labels = np.zeros((300, 2), dtype=np.float32)
    margins, trees = learn_task(bin_vectors(vectors, 1), np.arange(300), sp.csr_matrix(labels), 0)
    parts = trees.contributions(vectors, np.arange(3))
    assert parts.sum(axis=2) == pytest.approx(margins[:3], abs=1e-5)
    assert not parts[:, :, :-1].any() and not trees.gains(4).any()


def test_the_child_explains_the_clients_that_take_part(world: World) -> None:
    ids, vectors = world.profiles["scaled"]
    data = load_task(CHURN, ids, world.folder)
    outside = np.setdiff1d(np.arange(len(ids)), data.rows)[:1]
    asked = np.sort(np.append(outside, data.rows[[4, 9]]))
    (run,) = gbm.gbm(vectors, [data], Options(threads=1, keep_logits=True, explain=asked))
    assert run.explanation is not None and run.logits is not None
    assert run.explanation.rows.tolist() == data.rows[[4, 9]].tolist()
    assert run.explanation.contributions.sum(axis=2) == pytest.approx(run.logits[[4, 9]], abs=1e-5)
    (plain,) = gbm.gbm(vectors, [data], Options(threads=1, keep_logits=True))
    assert plain.explanation is None and plain.logits is not None
    assert np.array_equal(plain.logits, run.logits), "being watched changes nothing"


def test_the_command_writes_what_adds_up(world: World, tmp_path: Path) -> None:
    submission = world.submission("scaled", tmp_path / "mine")
    ids, vectors = world.profiles["scaled"]
    columns = {"past": [f"p{i}" for i in range(202)], "taste": [f"t{i}" for i in range(vectors.shape[1] - 202)]}
    (submission / "columns.json").write_text(json.dumps(columns))
    arguments = ["score", str(submission), "--data", str(world.folder.root), "--probe", "gbm", "--explain"]
    arguments += [
        "--clients",
        f"{ids[3]},{ids[8]}",
        "--threads",
        "1",
        "--task",
        "conversion",
        "--task",
        "propensity_sku",
    ]
    result = CliRunner().invoke(app, [*arguments, "--json", "--quiet"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)["importance"]
    stored = json.loads((submission / "explain-gbm.json").read_text())["tasks"]
    assert set(printed) == {"conversion", "propensity_sku"}
    for task, part in stored.items():
        assert {key: part[key] for key in ("blocks", "features")} == printed[task]
        assert sum(block["share"] for block in part["blocks"].values()) == pytest.approx(1, abs=1e-3)
        assert all(row["column"] in columns[row["block"]] for row in part["features"])
        assert set(part["clients"]) == {str(ids[3]), str(ids[8])}
        for labels in part["clients"].values():
            for one in labels:
                assert one["base"] + sum(one["blocks"].values()) == pytest.approx(one["margin"], abs=1e-9)
                assert 0 < one["probability"] < 1
            assert [one["margin"] for one in labels] == sorted((one["margin"] for one in labels), reverse=True)
    assert stored["conversion"]["clients"][str(ids[3])][0]["label"] == "no purchase"
    assert stored["propensity_sku"]["clients"][str(ids[3])][0]["label"].startswith("sku ")
    with np.load(submission / "explain-gbm.npz") as arrays:
        assert arrays["propensity_sku-contributions"].shape == (2, 100, vectors.shape[1] + 1)
        assert sorted(arrays["conversion-clients"].tolist()) == sorted([ids[3], ids[8]])
    read = read_attributions(Submission(submission))
    assert read is not None and set(read.blocks["conversion"]) == {"past", "taste"}, "the report reads it"
    known = json.loads((submission / "scores.json").read_text())["gbm"]
    assert "explanations" not in known
    table = CliRunner().invoke(app, [*arguments[:-2]]).stdout
    assert "what the trees read" in table and "taste" in table


def test_what_cannot_be_explained_is_said(world: World, tmp_path: Path) -> None:
    submission = world.submission("scaled", tmp_path / "mine")
    with pytest.raises(KitError, match="cannot look into --probe official"):
        check_explainable(["official"], None, explain=True)
    with pytest.raises(KitError, match="--clients names"):
        check_explainable(["gbm"], "1", explain=False)
    with pytest.raises(KitError, match="'x' is no client's id"):
        client_rows(Submission(submission), "1,x")
    with pytest.raises(KitError, match="holds no client -7"):
        client_rows(Submission(submission), "-7")
    with pytest.raises(KitError, match="names 101 clients"):
        client_rows(Submission(submission), ",".join(["5"] * 101))
    assert client_rows(Submission(submission), None).tolist() == []
    assert Submission(submission).columns(3) == (["column_0", "column_1", "column_2"], {"all": slice(0, 3)})
    (submission / "columns.json").write_text('{"one": ["pca_0", "x"], "two": ["pca_0"]}')
    assert Submission(submission).columns(3)[0] == ["one.pca_0", "x", "two.pca_0"], (
        "a name must not stand for two columns"
    )
    (submission / "columns.json").write_text("[]")
    with pytest.raises(KitError, match="names no columns"):
        Submission(submission).columns(3)
