"""Calibration: variants that are what they say, agreement against slow definitions, a study that stops and goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_world import World
from typer.testing import CliRunner

from kit.challenge import MAX_WIDTH
from kit.cli.main import app
from kit.errors import KitError
from kit.probes.mlp import train
from kit.probes.network import OFFICIAL, Dense, Shape, build, parameter_groups
from kit.probes.registry import Options
from kit.scoring.cells import STAGE
from kit.store import Store
from kit.studies.calibration import calibrate as study_room
from kit.studies.calibration.agreement import agree, limit, seed_noise, tau
from kit.studies.calibration.calibrate import CalibrationPlan, Contestant, calibrate, plan_study, spread
from kit.studies.calibration.random_features import ridge
from kit.studies.calibration.stand_ins import STAND_INS, StandIn
from kit.studies.calibration.variants import ProfileSource, read_source, variants
from kit.submission.clean import KEPT_FOLDERS
from kit.submission.submission import Submission
from kit.tasks import CHURN, CONVERSION, PRICE, SKU
from kit.tasks.labels import load_task


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests and locks go to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def source(world: World) -> ProfileSource:
    ids, vectors = world.profiles["scaled"]
    blocks = {"counts": slice(0, 200), "sums": slice(200, 202), "taste": slice(202, 208)}
    activity = np.abs(np.asarray(vectors[:, 0], dtype=np.float64) * 100).astype(np.int64)
    return ProfileSource("s", ids, np.asarray(vectors, dtype=np.float32), blocks, activity)


def made(source: ProfileSource, name: str) -> tuple[np.ndarray, np.ndarray]:
    (variant,) = [variant for variant in variants([source]) if variant.name == f"s/{name}"]
    ids, vectors = variant.make()
    assert vectors.dtype == np.float16
    assert np.isfinite(vectors).all()
    assert 1 <= vectors.shape[1] <= MAX_WIDTH
    again = variant.make()
    assert np.array_equal(ids, again[0]) and np.array_equal(vectors, again[1]), "a resumed study needs the same bytes"
    return ids, vectors.astype(np.float32)


def test_every_variant_is_sound_and_different(source: ProfileSource) -> None:
    found = variants([source, replace(source, name="t", blocks={}, activity=None)])
    names = [variant.name for variant in found]
    assert len(set(names)) == len(names) >= 40
    assert {"s/counts", "s/only-counts", "s/only-counts+taste", "s/by-activity", "t/whole"} <= set(names)
    assert not any(name.startswith("t/by-activity") for name in names)
    assert {variant.name for variant in found if variant.ordered} == {"s/by-activity", "s/by-id", "t/by-id"}
    assert names[:2] == ["s/whole", "t/whole"]
    bytes_of = set()
    for variant in found:
        if variant.name.startswith("s/"):
            ids, vectors = made(source, variant.name[2:])
            assert set(ids) == set(source.ids)
            bytes_of.add((ids.tobytes(), vectors.tobytes()))
    own = [name for name in names if name.startswith("s/")]
    assert len(bytes_of) == len(own)


def test_variants_are_what_they_say(source: ProfileSource) -> None:
    whole = source.values
    assert np.array_equal(made(source, "only-taste")[1], whole[:, 202:])
    assert made(source, "half")[1].shape[1] == 104
    assert np.median(np.linalg.norm(made(source, "norm-100")[1], axis=1)) == pytest.approx(100, rel=0.01)
    assert np.linalg.norm(made(source, "row-l2")[1], axis=1) == pytest.approx(1, abs=0.01)
    counts = made(source, "counts")[1]
    assert counts.min() == 0 and counts.max() > 900 and np.array_equal(counts, np.round(counts))
    assert made(source, "pca-16")[1].shape == (len(whole), 16)
    assert made(source, "noise-columns")[1][:, 208:].std() == pytest.approx(np.sqrt(np.mean(whole**2)), rel=0.05)
    ids, vectors = made(source, "by-activity")
    assert source.activity is not None
    activity = dict(zip(source.ids.tolist(), source.activity.tolist(), strict=True))
    assert np.all(np.diff([activity[client] for client in ids.tolist()]) <= 0)
    row = dict(zip(source.ids.tolist(), whole, strict=True))
    assert all(np.array_equal(vectors[i], row[client]) for i, client in enumerate(ids.tolist()))


def test_sources_come_from_manifests_and_names_must_differ(world: World, tmp_path: Path) -> None:
    folder = world.submission("scaled", tmp_path / "mine")
    rows = [{"name": "a", "start": 0, "stop": 3}, {"name": "b", "start": 3, "stop": 208}]
    (folder / "manifest.json").write_text(json.dumps({"blocks": rows}))
    read = read_source(Submission(folder), lambda ids: None)
    assert read.blocks == {"a": slice(0, 3), "b": slice(3, 208)}
    with pytest.raises(KitError, match="same folder name"):
        variants([read, read])
    (folder / "manifest.json").write_text(json.dumps({"blocks": [{"name": "a"}]}))
    with pytest.raises(KitError, match="names no blocks"):
        read_source(Submission(folder), lambda ids: None)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=3, max_size=8), st.integers(0, 1000))
def test_tau_is_concordant_minus_discordant(first: list[int], seed: int) -> None:
    a = np.array(first, dtype=float)
    b = np.random.default_rng(seed).integers(0, 5, len(a)).astype(float)
    signs = [
        (np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i in range(len(a)) for j in range(i)
    ]  # τ-b divides by the pairs that are not tied on either side
    above = sum(x * y for x, y in signs)
    below = np.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    assert tau(a, b) == (None if below == 0 else pytest.approx(above / below))


def test_agreement_names_what_differs_and_counts_clear_pairs_only() -> None:
    official = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6995, "e": 0.5}
    same = agree(official, {name: score / 2 for name, score in official.items()}, noise=0.001)
    assert same.tau == pytest.approx(1) and same.decided == 1 and same.decided_pairs == 9 and same.worst == []
    swapped = agree(official, official | {"c": 0.6, "d": 0.65}, noise=0.001)
    assert swapped.tau == pytest.approx(0.8) and swapped.decided == 1, "c and d cannot be told apart"
    wrong = agree(official, official | {"a": 0.1}, noise=0.001)
    assert wrong.decided == pytest.approx(5 / 9)
    assert wrong.worst[0] == ("a", 1, 5)
    assert agree({"a": 1.0, "b": 0.5}, {"a": 1.0, "b": 0.5}, None).tau is None
    assert agree(official, {}, 0.1).profiles == 0


def test_noise_sets_the_limit() -> None:
    rng = np.random.default_rng(0)
    truth = np.linspace(0.5, 0.8, 30)
    one, two = truth + rng.normal(0, 0.01, 30), truth + rng.normal(0, 0.01, 30)
    noise = seed_noise(list(zip(one, two, strict=True)))
    assert noise == pytest.approx(0.01, rel=0.35)
    many = [tau(truth + rng.normal(0, 0.01, 30), truth + rng.normal(0, 0.01, 30)) for _ in range(100)]
    assert limit(one, 0.01) == pytest.approx(np.mean([value or 0 for value in many]), abs=0.05)
    assert limit(one, 0.0) == pytest.approx(1)
    alike = rng.normal(0.6, 0.01, 30)  # profiles that do not differ: all there is to see is noise
    assert limit(alike, 0.011) == pytest.approx(0, abs=0.05)
    assert seed_noise([]) is None
    lifted = [(a, b + 0.3) for a, b in zip(one, two, strict=True)]
    assert seed_noise(lifted) == pytest.approx(noise), "what lifts all profiles alike changes no rank"
    assert seed_noise(lifted[:1]) is None
    assert seed_noise([(0.5, 0.7), (0.6, 0.6), (0.7, 0.8)]) == pytest.approx(0.1 / np.sqrt(2))


def test_the_second_official_run_has_another_order(tmp_path: Path) -> None:
    first, second = (study_room._official(CalibrationPlan(tmp_path), number).options for number in (0, 1))
    assert first.seed_numbers() != second.seed_numbers()
    assert second.reorder


def test_paced_networks_step_as_far_as_the_official_one() -> None:
    """One AdamW step moves the output of a paced narrow layer as far as that of the official one, at any width."""
    network = build(7, 3, Shape(64, 128, paced=True), 0)
    paces = {layer.in_features: layer.pace for layer in network.modules() if isinstance(layer, Dense)}
    assert paces == {7: 1.0, 64: 2048 / 64, 128: 4096 / 128}
    assert all(layer.pace == 1 for layer in build(7, 3, Shape(64, 128), 0).modules() if isinstance(layer, Dense))
    groups = parameter_groups(network)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert {round(group["lr"] * group["weight_decay"], 12) for group in groups} == {1e-5}
    assert len(parameter_groups(build(7, 3, Shape(8, 8), 0))) == 1
    moved = {}
    for thin in (64, 256):
        layer = torch.nn.Linear(thin, 4, bias=False)
        x = torch.ones(1, thin)
        before = layer(x).detach()
        rate = 1e-3 * Shape(thin, 2 * thin, paced=True).pace("thin")
        optimizer = torch.optim.AdamW(layer.parameters(), lr=rate, weight_decay=0)
        layer(x).sum().backward()
        optimizer.step()
        moved[thin] = float((layer(x) - before).detach().abs().mean())
    assert moved[64] == pytest.approx(moved[256], rel=1e-3)
    assert moved[64] == pytest.approx(OFFICIAL.thin * 1e-3, rel=1e-3)


@pytest.mark.parametrize("name", [name for name, part in STAND_INS.items() if part.default])
def test_every_stand_in_tells_signal_from_noise(world: World, name: str) -> None:
    scores = {}
    for profile in ("scaled", "random"):
        ids, vectors = world.profiles[profile]
        data = load_task(CONVERSION, ids, world.folder)
        (*runs,) = STAND_INS[name].run(vectors, [data], Options(threads=1))
        assert [run.task for run in runs] == [CONVERSION]
        scores[profile] = runs[0].best.score
    assert scores["scaled"] > scores["random"] + 0.05


def test_closed_form_equals_a_dense_solution_and_knows_the_base_rate(world: World) -> None:
    ids, vectors = world.profiles["scaled"]
    data = load_task(PRICE, ids, world.folder)
    others = [load_task(task, ids, world.folder) for task in (CHURN, CONVERSION)]
    (run,) = ridge(vectors, [data], Options(keep_logits=True), units=32)
    _, beside, alone = ridge(vectors, [others[1], data, others[0]], Options(keep_logits=True), units=32)
    assert run.logits is not None and beside.logits is not None and alone.logits is not None
    assert beside.logits == pytest.approx(run.logits, abs=1e-5), "sharing the work with other tasks changes nothing"
    assert alone.logits.shape == (len(others[0].rows), 1)
    network = build(vectors.shape[1], 1, Shape(32, 32, blocks=1), run.seed)
    with torch.no_grad():
        inner = network.enter_norm(network.enter(torch.from_numpy(vectors.astype(np.float32))))
        outer = torch.nn.functional.gelu(network.bottlenecks[0].widen(inner))
        features = torch.cat([inner, outer], dim=1).double().numpy() * np.sqrt(2048 / 32)
    y = data.train.toarray()[:, 5].astype(np.float64)
    rate = (y.sum() + 0.5) / (len(y) + 1)
    variance = rate * (1 - rate)
    centred = features - features.mean(axis=0)
    penalty = len(y) / (1e-3 * np.sqrt(128) * 3 * 6 * np.sqrt(variance))
    solved = np.linalg.solve(centred.T @ centred + penalty * np.eye(64), centred.T @ (y - y.mean()) / variance)
    assert run.logits[:, 5] == pytest.approx(np.log(rate / (1 - rate)) + centred @ solved, abs=5e-3)


def counted(monkeypatch: pytest.MonkeyPatch, fail_after: int | None = None) -> list[tuple[str, ...]]:
    """Replace the official probe by a tiny network and count calls; KeyboardInterrupt after so many."""
    calls: list[tuple[str, ...]] = []

    def tiny(vectors: np.ndarray, tasks: list, options: Options) -> list:
        if fail_after is not None and len(calls) >= fail_after:
            raise KeyboardInterrupt
        calls.append((str(options.first_seed), *(data.task.name for data in tasks)))
        return train(vectors, tasks, options, Shape(16, 32))

    def official(plan: CalibrationPlan, first_seed: int) -> Contestant:
        name = "official" if not first_seed else f"official-{1278 + first_seed}"
        return Contestant(name, tiny, Options(1, "fp32", 1, first_seed=first_seed), False, "tiny")

    monkeypatch.setattr(study_room, "_official", official)
    monkeypatch.setattr(study_room, "_activity", lambda folder, ids: None)
    for name, thin in (("good", 16), ("other", 8)):
        part = StandIn(
            name, f"a network of {thin}", lambda v, t, o, thin=thin: train(v, t, o, Shape(thin, 2 * thin)), 2
        )
        monkeypatch.setitem(STAND_INS._parts, name, part)
    return calls


def small_plan(out: Path) -> CalibrationPlan:
    return CalibrationPlan(
        out, (CONVERSION, SKU), ("good", "other"), profiles=4, twice=2, options=Options(precision="bf16", threads=1)
    )


def test_a_killed_study_goes_on_where_it_was(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [world.submission("scaled", tmp_path / "scaled"), world.submission("raw_counts", tmp_path / "raw")]
    calls = counted(monkeypatch, fail_after=5)
    plan = small_plan(tmp_path / "study")
    with pytest.raises(KeyboardInterrupt):
        calibrate([Submission(source) for source in sources], world.folder, plan)
    assert len(calls) == 5
    calls = counted(monkeypatch)
    report = calibrate([Submission(source) for source in sources], world.folder, plan)
    assert len(calls) == 4 * 2 + 2 * 2 - 5, "4 profiles and 2 again from another seed, one task at a time"
    assert report["complete"]
    assert list(report["profiles"]) == ["scaled/whole", "raw/whole", "scaled/noise-columns", "raw/noise-columns"]
    for task in ("conversion", "propensity_sku"):
        found = report["tasks"][task]
        assert found["stand_ins"]["good"]["profiles"] == 4
        assert -1 <= found["stand_ins"]["good"]["tau"] <= 1
        assert found["seed_noise"]["profiles"] == 2
        assert found["seed_noise"]["standard_deviation"] > 0
        assert len(found["official"]) == 4
    assert report["stand_ins"]["good"]["times_cheaper"] > 0
    text = (plan.out / "report.md").read_text()
    assert "scaled/noise-columns" in text and "| good |" in text
    assert "| *profiles that were scored twice for this* | 2 | 2 |" in text
    assert json.loads((plan.out / "report.json").read_text()) == json.loads(json.dumps(report))
    calls = counted(monkeypatch)
    again = calibrate([Submission(source) for source in sources], world.folder, plan)
    assert calls == []
    assert again == report
    wanted = {"probe": "official", "task": "conversion", "seed": 0}
    cells = [record for record in Store().records(STAGE) if wanted.items() <= record["inputs"].items()]
    assert len(cells) == 4
    (Path(cells[0]["folder"]) / "cell.json").write_text("{")
    calibrate([Submission(source) for source in sources], world.folder, plan)
    assert calls == [("0", "conversion")], "a damaged result is measured again, alone"


@pytest.mark.parametrize(("most", "wanted"), [(0, ""), (1, "a"), (2, "ae"), (3, "ace"), (5, "abcde"), (100, "abcde")])
def test_profiles_to_score_again_are_spread_evenly(most: int, wanted: str) -> None:
    assert "".join(spread("abcde", most)) == wanted
    assert spread([], most) == []


def test_no_time_left_is_reported_and_not_a_failure(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    source = world.submission("scaled", tmp_path / "scaled")
    report = calibrate([Submission(source)], world.folder, replace(small_plan(tmp_path / "study"), minutes=1e-9))
    assert calls == []
    assert not report["complete"] and report["profiles"] == {}
    assert "not complete" in (tmp_path / "study" / "report.md").read_text()


def test_undefined_tasks_and_bad_plans_are_stated(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(monkeypatch)
    source = world.submission("scaled", tmp_path / "one")
    for name in ("client_ids.npy", "embeddings.npy"):
        np.save(source / name, np.load(source / name)[:1])
    with pytest.raises(KitError, match="there are 1 clients"):
        calibrate([Submission(source)], world.folder, replace(small_plan(tmp_path / "study"), tasks=(CONVERSION,)))
    with pytest.raises(KitError, match="--profiles 2"):
        calibrate([Submission(source)], world.folder, replace(small_plan(tmp_path / "study"), profiles=2))
    with pytest.raises(KitError, match="is no time"):
        calibrate([Submission(source)], world.folder, replace(small_plan(tmp_path / "study"), minutes=0))
    with pytest.raises(KitError, match="no stand-in called 'godo'"):
        calibrate([Submission(source)], world.folder, replace(small_plan(tmp_path / "study"), stand_ins=("godo",)))


def test_results_are_kept_where_cleaning_leaves_them(world: World) -> None:
    plan = plan_study(world.folder, None, None, None, None, None)
    assert plan.out.parent.name in KEPT_FOLDERS
    assert plan.out.name == world.folder.root.name


def test_the_command_runs_a_study(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch)
    source = world.submission("scaled", tmp_path / "scaled")
    arguments = ["calibrate", str(source), "--data", str(world.folder.root), "--task", "conversion"]
    arguments += ["--profiles", "3", "--stand-in", "good", "--out", "study", "--threads", "1"]
    table = CliRunner().invoke(app, arguments)
    assert table.exit_code == 0, table.output
    assert "good" in table.stdout and "report.md" in table.stdout
    result = CliRunner().invoke(app, [*arguments, "--json"])
    report = json.loads(result.stdout)
    assert report["precision"] == "bf16"
    assert set(report["stand_ins"]) == {"good"}
    with pytest.raises(KitError, match="2 submissions"):
        CliRunner().invoke(app, ["score", "a", "b", "--data", str(world.folder.root)], catch_exceptions=False)
