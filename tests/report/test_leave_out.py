"""`kit ablate`: against submissions really built without a block, against silencing by hand, and resumed after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_world import MINE, build
from scored import collect, score_submission, write_scores
from typer.testing import CliRunner

from kit.cli.main import app
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.history import History
from kit.probes.fast import PRECISION
from kit.probes.network import Shape
from kit.probes.registry import PROBES, Options
from kit.profile import build_profile
from kit.recipe import Recipe, parse
from kit.report import render
from kit.scoring.results import read_scored
from kit.scoring.scorer import Measured, Scorer
from kit.scoring.statistics import compare
from kit.store import Store
from kit.studies.ablation.measure import leave_one_out, measure_ablation, submission_of
from kit.studies.ablation.parts import AblatedPart, Study, whole_parts
from kit.studies.ablation.result import read_ablation
from kit.submission.submission import Submission
from kit.tasks import CHALLENGE, CHURN, SKU

TASKS = [CHURN, SKU]


def plan(**changes) -> Recipe:
    return parse(Recipe, MINE | changes, "test")


def scorer(toy: DataFolder, store: Store, probe: str = "fast") -> Scorer:
    return Scorer(toy, probe, TASKS, store, Options(threads=1))


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fast probe of less width: what is left out, kept and paid for is the same. Its cells must not meet those of the true
    width that other tests leave in the default store, which lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kit.probes.fast.FAST", Shape(thin=32, wide=64, paced=True))


@pytest.fixture(scope="module")
def fitted(toy: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the blocks of MINE and no scores; nobody may change it."""
    root = tmp_path_factory.mktemp("fitted")
    build_profile(plan(), History.open(toy, "input", store=Store(root)), Store(root))
    return root


@pytest.fixture
def store(fitted: Path, tmp_path: Path) -> Store:
    """A copy of it."""
    return Store(Path(shutil.copytree(fitted, tmp_path / "store")))


def test_left_out_equals_a_submission_built_and_scored_without(toy: DataFolder, store: Store, tmp_path: Path):
    study = Study(plan(), toy, store)
    found = leave_one_out(study, scorer(toy, study.store))
    assert [row.block for row in found.rows] == [row.block for row in found.alone] == ["counts", "recency", "graph"]
    assert (found.how, found.seeds) == ("left out", 1)
    scored = {}
    for name, keep in {
        "full": ["counts", "recency", "graph"],
        "less": ["counts", "graph"],
        "alone": ["recency"],
    }.items():
        folder = build(toy, tmp_path, MINE | {"name": name, "blocks": {k: MINE["blocks"][k] for k in keep}})
        write_scores(folder, [score_submission(folder, toy, "fast", TASKS, threads=1)])
        scored[name] = read_scored(folder, "fast")
    for other, row in (("less", found.rows[1]), ("alone", found.alone[1])):
        for task in TASKS:
            oracle, entry = compare(scored["full"][task], scored[other][task]), row.without[task.name]
            assert entry.score == pytest.approx(scored[other][task].score, abs=1e-4)  # scores.json has four digits
            assert (entry.low, entry.high) == pytest.approx(oracle.interval, abs=2e-4)
    assert found.rows[1].total == pytest.approx(sum(e.difference for e in found.rows[1].without.values()))


def test_silenced_equals_measuring_the_built_submission(toy: DataFolder, store: Store, tmp_path: Path):
    folder = build(toy, tmp_path, MINE)
    oracle = measure_ablation(Submission(folder), toy, options=Options(threads=1))
    study = Study(plan(), toy, store, "silenced")
    found = leave_one_out(study, scorer(toy, study.store), alone=False)
    assert found.how == oracle.how == "silenced"
    assert found.fingerprint == oracle.fingerprint
    for mine, theirs in zip(found.rows, oracle.rows, strict=True):
        for task in TASKS:
            one, two = mine.without[task.name], theirs.without[task.name]
            assert (one.score, one.low, one.high) == pytest.approx((two.score, two.low, two.high), abs=2e-4)


def test_silenced_alone_keeps_the_width_and_the_norm(toy: DataFolder, store: Store):
    study = Study(plan(), toy, store, "silenced")
    rows = {row.name: slice(row.start, row.stop) for row in study.profile.blocks}
    alone = study.alone(AblatedPart("recency", ("recency",))).make().astype(float)
    assert alone.shape == study.profile.matrix.shape
    assert not np.delete(alone, np.r_[rows["recency"]], axis=1).any()
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 10.0, atol=0.02)
    assert (
        study.alone(AblatedPart("recency", ("recency",))).key != study.without(AblatedPart("recency", ("recency",))).key
    )


class Killed(BaseException):
    """Not an Exception: nothing may catch it on the way."""


def test_killed_and_resumed_and_nothing_paid_twice(
    toy: DataFolder, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "kit.studies.ablation.result.evidence", lambda *_: {}
    )  # the probe's run will be another function
    study = Study(plan(), toy, store)
    other = Store(Path(shutil.copytree(store.root, tmp_path / "other")))
    whole = leave_one_out(Study(plan(), toy, other), scorer(toy, other), 2)
    probe, calls = PROBES.loaded()["fast"], []

    def counted(limit: int):
        def run(*arguments):
            calls.append(1)
            if len(calls) > limit:
                raise Killed
            return original(*arguments)

        return run

    original = probe.run
    object.__setattr__(probe, "run", counted(5))
    try:
        # the code digest of a probe is that of the module of its function
        monkeypatch.setattr("kit.scoring.scorer.evidence", lambda *_: {"precision": PRECISION, "probe": "fast"})
        with pytest.raises(Killed):
            leave_one_out(study, scorer(toy, study.store), 2)
        object.__setattr__(probe, "run", counted(1000))
        resumed = leave_one_out(study, scorer(toy, study.store), 2)
        assert len(calls) == 5 + 1 + (7 * 2 - 5)  # the killed one again; seven profiles, two seeds each
        leave_one_out(Study(plan(), toy, study.store), scorer(toy, study.store), 2)
        leave_one_out(Study(plan(), toy, study.store), scorer(toy, study.store), 1)
        assert len(calls) == 15  # all known: not even a profile is assembled
    finally:
        object.__setattr__(probe, "run", original)
    assert resumed == whole


def test_known_scores_need_no_profile(toy: DataFolder, store: Store, monkeypatch: pytest.MonkeyPatch):
    study = Study(plan(), toy, store)
    found = leave_one_out(study, scorer(toy, study.store))
    monkeypatch.setattr("kit.studies.ablation.parts.build_profile", lambda *_: pytest.fail("assembled again"))
    assert leave_one_out(Study(plan(), toy, study.store), scorer(toy, study.store)) == found


def test_sums_and_seeds_by_hand():
    scores = {(CHURN, 0): 0.5, (CHURN, 1): 0.7, (SKU, 0): 0.2, (SKU, 1): 0.2}
    influence = {
        CHURN: (np.array([3, 9]), np.array([0.1, -0.1], dtype=np.float32)),
        SKU: (np.array([3, 5, 9]), np.array([0.2, 0.3, -0.5], dtype=np.float32)),
    }
    both = Measured(scores, influence).scored([CHURN, SKU])
    assert (both.score, both.run_error) == pytest.approx((0.8, 0.1))
    np.testing.assert_array_equal(both.clients, [3, 5, 9])
    np.testing.assert_allclose(both.influence, [0.3, 0.3, -0.6], rtol=1e-6)
    one = Measured({(SKU, 0): 0.2}, influence).scored([SKU])
    assert one.runs is None


def test_entries_of_one_run_go_together_too():
    blocks = MINE["blocks"] | {"again": {"like": "graph", "columns": ["*_0"]}}
    assert [part.label for part in whole_parts(plan(blocks=blocks))] == [
        "counts", "recency", "graph", "again", "graph+again",
    ]  # fmt: skip
    lonely = {"graph": blocks["graph"], "again": blocks["again"]}
    assert [part.label for part in whole_parts(plan(blocks=lonely))] == ["graph", "again"]  # nothing would be left


@pytest.mark.parametrize("how", ["left out", "silenced"])
def test_part_of_a_block(toy: DataFolder, store: Store, how):
    without_norm = plan(assembly={})
    study = Study(without_norm, toy, store, how, ["counts:*buy*"])
    part = study.parts[-1]
    matrix = study.without(part).make()
    names = [name for row in study.profile.blocks for name in row.columns]
    gone = np.array(["buy" in name and i < study.profile.blocks[0].stop for i, name in enumerate(names)])
    assert 0 < gone.sum() < study.profile.blocks[0].stop
    if how == "silenced":
        assert not matrix[:, gone].any()
        matrix = matrix[:, ~gone]
    np.testing.assert_array_equal(matrix, study.profile.matrix[:, ~gone])


def test_mistakes_are_told(toy: DataFolder, store: Store):
    one = {"counts": MINE["blocks"]["counts"]}
    with pytest.raises(KitError, match="one block 'counts'"):
        Study(plan(blocks=one), toy, store)
    with pytest.raises(KitError, match="none can be silenced"):
        Study(plan(assembly={"pca": 4}), toy, store, "silenced")
    with pytest.raises(KitError, match="not BLOCK:PATTERN"):
        Study(plan(), toy, store, patterns=["counts"])
    with pytest.raises(KitError, match="did you mean 'counts'"):
        Study(plan(), toy, store, patterns=["count:*"])
    for how in ("left out", "silenced"):
        study = Study(plan(), toy, store, how, ["counts:zzz*"])
        with pytest.raises(KitError, match="No column of the block matches 'counts:zzz\\*'"):
            study.without(study.parts[-1]).make()
    with pytest.raises(KitError, match="all of block 'counts'"):
        study = Study(plan(), toy, store, "left out", ["counts:*"])
        study.without(study.parts[-1])


def test_a_part_of_the_only_block_can_be_left_out(toy: DataFolder, tmp_path: Path):
    one = plan(blocks={"counts": MINE["blocks"]["counts"]})
    study = Study(one, toy, Store(tmp_path / "store"), patterns=["counts:*buy*"])
    found = leave_one_out(study, scorer(toy, study.store))
    assert ([row.block for row in found.rows], found.alone) == (["counts:*buy*"], [])


def test_another_submission_of_that_name_is_left_alone(toy: DataFolder, tmp_path: Path):
    store, place = Store(tmp_path / "store"), tmp_path / "submissions" / "mine"
    less = {"counts": MINE["blocks"]["counts"], "recency": MINE["blocks"]["recency"]}
    assert submission_of(Study(plan(blocks=less), toy, store), place)
    before = (place / "manifest.json").read_bytes()
    assert not submission_of(Study(plan(blocks=less, seed=1), toy, store), place)
    assert (place / "manifest.json").read_bytes() == before


def test_the_command_writes_what_the_report_reads(toy: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(
        'name = "r"\n[blocks.counts]\nkind = "stats"\nfamilies = ["counts"]\nscale = "quantile"\n'
        '[blocks.recency]\nkind = "stats"\nfamilies = ["recency"]\nscale = "quantile"\n',
        encoding="utf-8",
    )
    call = ["ablate", "r.toml", "--data", str(toy.root), "--threads", "1"]
    some = CliRunner().invoke(app, [*call, "--task", "churn", "--json", "--no-alone"])
    assert some.exit_code == 0, some.output
    assert json.loads(some.stdout)["written"] is None
    assert not Path("submissions").exists()
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "recency" in done.stdout and "one seed" in done.stdout
    found = read_ablation(Path("submissions/r"))
    assert found is not None
    assert {*found.full} == {task.name for task in CHALLENGE}
    page = render(collect(Path("submissions/r"), toy.root))
    assert "assembled anew without it" in page
    assert (
        measure_ablation(Submission(Path("submissions/r")), toy, options=Options(threads=1)) == found
    )  # `kit report --ablate` takes it as it is
