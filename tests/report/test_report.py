"""Reports as wholes: what is in them, what they say is missing, and that bad input is told."""

from __future__ import annotations

import json
import shutil
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from report_world import BASELINE, MINE, build
from scored import collect, score_submission, write_scores
from typer.testing import CliRunner

from kit.cli.main import app
from kit.cli.report import _measure
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.probes.registry import Options
from kit.recipe import Recipe, parse
from kit.report import render, render_markdown
from kit.report.html import DRAWN
from kit.scoring.results import read_scores
from kit.store import Store, write_json
from kit.studies.ablation.measure import _silenced, measure_ablation
from kit.studies.ablation.result import Ablation, LeftOut, Without, read_ablation, read_current, write_ablation
from kit.studies.attributions import client_rows, explain_report
from kit.studies.clients import client_map
from kit.studies.drift import measure_drift, read_drift, write_drift
from kit.submission import read_manifest, submit
from kit.submission.submission import Submission
from kit.tasks import CATEGORY, CHURN, CONVERSION


def run(*arguments: str):
    return CliRunner().invoke(app, ["report", *arguments])


class Structure(HTMLParser):
    """Open and close tags in balance; ids and what is linked to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack, self.ids, self.links, self.tags = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag not in {"meta", "link", "br", "hr", "img", "input"}:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_the_page_is_whole_self_contained_and_escaped(scored: Path):
    page = render(collect(scored))
    found = Structure(page)
    assert found.stack == []
    assert len(set(found.ids)) == len(found.ids)
    assert all(link.startswith(("#", "data:")) for link in found.links)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert "script" not in found.tags
    assert "&lt;script&gt;alert" in page
    assert "http://" not in page and "https://" not in page
    assert "prefers-color-scheme: dark" in page


def test_numbers_on_the_page_are_those_of_the_scores(scored: Path):
    report = collect(scored)
    page, entries = render(report), read_scores(scored)["fast"]["tasks"]
    assert report.first.probe == "fast"
    assert [probe.probe for probe in report.probes] == ["fast", "gbm"]
    for entry in entries.values():
        if entry["score"] is not None:
            assert f"{entry['score']:.4f}" in page
    assert [other.name for other in report.first.against] == ["baseline"]  # found by itself, beside the submission
    other = read_scores(scored.parent / "baseline")["fast"]["tasks"]
    for task, gain in report.first.against[0].gains.items():
        assert gain.difference == pytest.approx(entries[task]["score"] - other[task]["score"], abs=1e-9)
        assert gain.low < gain.difference < gain.high
    wins = [gain.difference > 0 for gain in report.first.against[0].gains.values()]
    assert [row["rank"] for row in report.first.board] == ([1, 1] if 2 * sum(wins) == len(wins) else [1, 2])


def test_every_defined_task_has_its_map(scored: Path, toy: DataFolder):
    found = client_map(Submission(scored), toy)
    defined = [name for name, entry in read_scores(scored)["fast"]["tasks"].items() if entry["score"] is not None]
    assert [panel.task.name for panel in found.panels] == defined
    for panel in found.panels:
        stacked = np.stack(list(panel.groups.values()))
        assert (stacked.sum(axis=0) == 1).all()  # each client in exactly one group
    assert found.points.min() >= 0 and found.points.max() <= 1
    churn, conversion = (next(p for p in found.panels if p.task is t) for t in (CHURN, CONVERSION))
    assert (churn.groups["bought again"] <= conversion.groups["bought"]).all()


def test_training_curves_come_with_the_submission(scored: Path):
    report = collect(scored)
    assert list(report.training) == ["graph"]
    assert len(report.training["graph"]["losses"]) == 2
    assert "2 epochs" in render(report)


def test_missing_sections_name_a_command(scored: Path, copy: Path):
    report = collect(scored)
    assert set(report.missing) == {"ablation", "drift", "attributions", "network"}
    page = render(report)
    for command in report.missing.values():
        assert command in page
    (copy / "scores.json").unlink()
    bare = collect(copy)
    assert bare.verdict.mood == "unknown"
    assert bare.missing["scores"].startswith("kit score")
    assert Structure(render(bare)).stack == []
    assert "not been scored yet" in render_markdown(bare)


def test_silenced_the_data_folder_the_rest_stands(copy: Path):
    manifest = read_manifest(copy)
    manifest["data"]["folder"] = "gone"
    write_json(copy / "manifest.json", manifest)
    report = collect(copy)
    assert report.data is None and report.clients is None
    assert "clients" in report.missing
    assert Structure(render(report)).stack == []
    with pytest.raises(KitError, match="Drift needs the data"):
        _measure(Submission(copy), None, drift=True, ablate=False, threads=1)


def test_bad_vectors_are_the_headline(copy: Path):
    vectors = np.load(copy / "embeddings.npy")
    vectors[0, 0] = np.nan
    np.save(copy / "embeddings.npy", vectors)
    report = collect(copy)
    assert report.verdict.mood == "bad"
    assert report.health is None
    page = render(report)
    assert "would refuse mine" in page
    assert Structure(page).stack == []


@pytest.mark.parametrize("name", ["ablation.json", "drift.json", "training.json", "explain-gbm.json"])
@pytest.mark.parametrize("text", ["{", "[]", '{"tasks": 3}'])
def test_broken_inputs_are_told(copy: Path, name: str, text: str):
    (copy / name).write_text(text)
    if name in {"drift.json", "training.json"} and text != "{":
        return  # readable, of another fingerprint or of no block
    with pytest.raises(KitError, match=name):
        collect(copy)


def test_explanations_of_other_scores_are_not_shown(copy: Path):
    tasks = {"churn": {"blocks": {"counts": {"gain": 3, "share": 0.75}, "graph": {"gain": 1, "share": 0.25}},
                       "features": [{"column": "counts__buy", "block": "counts", "gain": 3, "share": 0.75}]}}  # fmt: skip
    fingerprint = read_scores(copy)["gbm"]["fingerprint"]
    write_json(copy / "explain-gbm.json", {"fingerprint": fingerprint, "tasks": tasks})
    report = collect(copy)
    assert report.attributions.blocks == {"churn": {"counts": 0.75, "graph": 0.25}}
    assert "counts__buy" in render(report)
    write_json(copy / "explain-gbm.json", {"fingerprint": "older", "tasks": tasks})
    assert collect(copy).attributions is None


def test_named_clients_are_taken_apart(copy: Path, toy: DataFolder):
    """The numbers of the page against the contributions themselves; steps and rest add up to the probe's own margin."""
    ids = np.load(copy / "client_ids.npy")[[5, 2, 7, 11]]
    rows = client_rows(Submission(copy), ",".join(map(str, ids)))
    scores = score_submission(copy, toy, "gbm", threads=1, explain=rows)
    write_scores(copy, [scores])
    explain_report(scores, Submission(copy), toy, Options(threads=1))
    report = collect(copy)
    with np.load(copy / "explain-gbm.npz") as arrays:
        for task, push in report.attributions.pushes.items():
            parts = arrays[f"{task}-contributions"]
            assert push.clients == len(parts) == len(push.waterfalls)
            assert [fall.client for fall in push.waterfalls] == [str(i) for i in arrays[f"{task}-clients"]]
            top = max(
                np.mean([[abs(label[i]) for label in client] for client in parts]) for i in range(parts.shape[2] - 1)
            )
            assert push.columns[0][1] == pytest.approx(top)
            assert set(push.blocks) == {"counts", "recency", "graph"}
            for fall, client in zip(push.waterfalls, parts, strict=True):
                margins = client.sum(axis=1)
                assert fall.margin == pytest.approx(margins.max(), abs=1e-6)
                assert fall.base + sum(value for _, value in fall.steps) + fall.rest == pytest.approx(fall.margin)
                assert fall.base == pytest.approx(client[margins.argmax(), -1], abs=1e-6)
    page = render(report)
    assert Structure(page).stack == []
    pushes = report.attributions.pushes
    assert page.count('class="card pushes"') == len(pushes)
    assert (
        page.count('class="card waterfall"') == sum(min(push.clients, DRAWN) for push in pushes.values()) > len(pushes)
    )
    assert f"client {pushes['churn'].waterfalls[0].client}: no purchase" in page
    assert report.as_json()["attributions"]["pushes"]["churn"]["clients"] == pushes["churn"].clients
    (copy / "explain-gbm.npz").write_bytes(b"PK")
    with pytest.raises(KitError, match=r"explain-gbm\.npz"):
        collect(copy)


def test_a_task_that_the_data_cannot_define_is_said(toy: DataFolder, tmp_path: Path):
    data = DataFolder(Path(shutil.copytree(toy.root, tmp_path / "data")))
    data.targets(CATEGORY.name).unlink()
    folder = build(data, tmp_path, BASELINE)
    write_scores(folder, [score_submission(folder, data, "fast", threads=1)])
    report = collect(folder)
    assert "Not defined on this data: category." in report.verdict.sentences
    assert CATEGORY not in {panel.task for panel in report.clients.panels}
    page = render(report)
    assert Structure(page).stack == []
    assert "not defined here, because the folder has no propensity_category.npy" in page
    assert "not defined here" in render_markdown(report)


def test_a_submission_from_all_events_is_not_praised(toy: DataFolder, tmp_path: Path):
    folder = tmp_path / "all"
    submit(parse(Recipe, BASELINE, "test"), toy.root, folder, "end", Store(tmp_path / "store"))
    assert "made from all events" in collect(folder).verdict.headline
    write_scores(folder, [score_submission(folder, toy, "fast", threads=1)])
    report = collect(folder)
    assert report.verdict.mood == "unknown"
    assert "mean nothing" in report.verdict.sentences[0]
    assert "mean nothing" in render(report)


def test_a_joint_pca_has_one_block(toy: DataFolder, tmp_path: Path):
    folder = build(toy, tmp_path, MINE | {"name": "joint", "assembly": {"pca": 6}})
    report = collect(folder)
    assert [block["name"] for block in report.manifest["blocks"]] == ["pca"]
    assert report.health.width == 6
    assert Structure(render(report)).stack == []
    assert "joint" in (folder / "CARD.md").read_text()


def test_umap_is_an_extra(scored: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(KitError, match="UMAP is not installed"):
        collect(scored, method="umap")
    fake = types.ModuleType("umap")
    fake.UMAP = lambda **_: types.SimpleNamespace(fit_transform=lambda wide: wide[:, :2])
    monkeypatch.setitem(sys.modules, "umap", fake)
    assert "UMAP" in render(collect(scored, method="umap"))


# ---- leaving blocks out


def test_ablation_survives_the_file(tmp_path: Path):
    entry = Without(score=0.5, difference=0.1, low=0.05, high=0.15)
    found = Ablation(probe="fast", full={"churn": 0.6}, rows=[LeftOut(block="a", without={"churn": entry})])
    write_ablation(tmp_path, found)
    assert read_ablation(tmp_path) == found
    assert found.rows[0].without["churn"].verdict == "helps"
    assert json.loads((tmp_path / "ablation.json").read_text())["rows"][0]["without"]["churn"]["low"] == 0.05


def test_leaving_out_equals_building_silenced(scored: Path, toy: DataFolder, tmp_path: Path):
    """A block silenced and rows scaled again, against a submission built from a recipe without the block."""
    recipe = read_manifest(scored)["recipe"]
    less = recipe | {"name": "less", "blocks": {k: v for k, v in recipe["blocks"].items() if k != "recency"}}
    built = tmp_path / "less"
    submit(parse(Recipe, less, "test"), toy.root, built, store=Store(tmp_path / "store"))
    block = next(block for block in read_manifest(scored)["blocks"] if block["name"] == "recency")
    silent = slice(block["start"], block["stop"])
    whole = Submission(scored)
    one, two = np.load(built / "embeddings.npy").astype(float), _silenced(whole, silent, 10.0).make().astype(float)
    assert not two[:, silent].any()
    two = np.delete(two, silent, axis=1)
    np.testing.assert_array_equal(np.load(built / "client_ids.npy"), whole.ids)
    np.testing.assert_allclose(one, two, atol=4e-3)  # rounded to float16 once and twice


def test_ablation_is_measured_once(copy: Path, toy: DataFolder):
    found = measure_ablation(Submission(copy), toy, options=Options(threads=1))
    assert [row.block for row in found.rows] == ["counts", "recency", "graph"]
    full = read_scores(copy)["fast"]["tasks"]
    for row in found.rows:
        for task, entry in row.without.items():
            assert entry.difference == pytest.approx(full[task]["score"] - entry.score)
            assert entry.low <= entry.difference <= entry.high
    before = (copy / "ablation.json").stat().st_mtime_ns
    assert measure_ablation(Submission(copy), toy, options=Options(threads=1)) == found
    assert (copy / "ablation.json").stat().st_mtime_ns == before
    page = render(collect(copy))
    assert page.count("to the sum</span>") == 3
    assert found.precision == read_scores(copy)["fast"]["precision"]
    other = "fp32" if found.precision == "bf16" else "bf16"
    write_ablation(copy, found.model_copy(update={"precision": other, "rows": found.rows[:1]}))
    again = measure_ablation(Submission(copy), toy, options=Options(threads=1))
    assert again == found, "one in another precision is measured again"
    assert collect(copy, toy.root).ablation == found
    write_ablation(copy, found.model_copy(update={"probe": "departed"}))
    assert read_current(Submission(copy), toy) is None, "its probe is registered no more"
    write_ablation(copy, found)
    elsewhere = DataFolder(Path(shutil.copytree(toy.root, copy.parent / "other-data")))
    window = pl.read_parquet(elsewhere.window("validation"))
    window.head(window.height - 5).write_parquet(elsewhere.window("validation"))
    assert read_current(Submission(copy), elsewhere) is None, "gains on other targets are not shown beside new scores"


def test_one_block_cannot_be_left_out(scored: Path, toy: DataFolder):
    with pytest.raises(KitError, match="one block"):
        measure_ablation(Submission(scored.parent / "baseline"), toy)


# ---- drift


def test_drift_is_measured_once_and_belongs_to_its_vectors(copy: Path, toy: DataFolder, tmp_path: Path):
    manifest = read_manifest(copy)
    found = write_drift(Submission(copy), toy, Store(tmp_path / "store"))
    assert [row["block"] for row in found["blocks"]] == ["counts", "recency", "graph"]
    assert found["earlier"] < found["later"] == manifest["data"]["cut"]
    assert write_drift(Submission(copy), toy, Store(tmp_path / "store")) == json.loads(
        (copy / "drift.json").read_text()
    )
    assert "Drift between cuts" in render(collect(copy))
    write_json(copy / "manifest.json", manifest | {"fingerprint": "another"})
    assert read_drift(Submission(copy)) is None


def test_shared_blocks_drift_once(toy: DataFolder, tmp_path: Path):
    blocks = {"a": {"kind": "stats", "families": ["counts"]}, "b": {"like": "a"}}
    plan = parse(Recipe, {"name": "x", "blocks": blocks}, "test")
    found = measure_drift(plan, toy, "input", Store(tmp_path / "store"))
    assert [row["block"] for row in found["blocks"]] == ["a"]


# ---- the command


def test_html_json_and_markdown(scored: Path, copy: Path, tmp_path: Path):
    done = run(str(copy))
    assert done.exit_code == 0, done.output
    assert (copy / "report.html").read_text().startswith("<!doctype html>")
    assert "ablation: not here yet" in done.stderr
    out = tmp_path / "deep" / "page.html"
    assert run(str(scored), "--out", str(out)).exit_code == 0
    assert out.exists() and not (scored / "report.html").exists()
    numbers = json.loads(run(str(scored), "--json").stdout)
    assert {"submission", "verdict", "probes", "health", "missing"} <= set(numbers)
    text = run(str(scored), "--format", "markdown").stdout
    assert text.startswith("## ")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows and all(line.endswith("|") for line in rows)
    assert run(str(scored), "--against", str(scored.parent / "baseline"), "--format", "markdown").stdout == text


def test_mistakes_are_told(scored: Path, tmp_path: Path):
    for arguments, message in (
        ((str(tmp_path),), "no readable manifest"),
        ((str(scored), "--format", "pdf"), "no format"),
        ((str(scored), "--map", "tsne"), "no map"),
        ((str(scored), "--against", str(tmp_path)), "has not been scored"),
        ((str(scored), "--data", str(tmp_path)), "no target windows"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, KitError)
        assert message in str(done.exception)


def test_equal_inputs_give_equal_pages(scored: Path):
    assert render(collect(scored)) == render(collect(scored))


def test_a_moved_submission_still_reports(scored: Path, tmp_path: Path):
    place = Path(shutil.copytree(scored, tmp_path / "elsewhere"))
    report = collect(place)
    assert report.name == "elsewhere"
    assert report.first.against == []
    assert "gain" in report.missing
