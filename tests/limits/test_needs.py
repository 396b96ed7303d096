"""Estimates: said before anything runs, linear in the clients, and never decisive for the bytes."""

from __future__ import annotations

import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.blocks import stats
from kit.blocks.base import BLOCKS, make_block
from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.prepare import events_need
from kit.errors import KitError
from kit.features.describe import widths
from kit.features.registry import FeatureSettings
from kit.history import History
from kit.limits import memory as limits
from kit.limits.need import Counts
from kit.profile import assemble
from kit.recipe import BlockEntry, Recipe, parse
from kit.store import Store
from kit.submission import submit
from kit.submission.needs import count, require_room, stage_needs
from kit.submission.plan import SubmissionPlan

PLAN = {
    "name": "t",
    "blocks": {
        "counts": {"kind": "stats", "families": ["counts", "targets"], "scale": "quantile", "flags": True},
        "few": {"kind": "stats", "families": ["recency", "price"], "scale": "standard", "pca": 5, "unit_rms": True},
        "als": {"kind": "als", "items": "category", "factors": 4, "row_l2": True},
    },
    "assembly": {"row_norm": 5.0},
}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def plan() -> Recipe:
    return parse(Recipe, PLAN, "test")


def artefacts(store: Store) -> list[Path]:
    return list(store.root.glob("*/*/DONE"))


def test_too_small_a_limit_is_refused_before_any_stage(toy: DataFolder, tmp_path: Path, store: Store, plan: Recipe):
    with pytest.raises(KitError, match=r"stage `events` needs about .* --memory-limit is 1 MB") as caught:
        submit(plan, toy.root, tmp_path / "s", store=store, memory_limit=10**6)
    assert "higher limit" in caught.value.remedy
    assert artefacts(store) == []
    assert not (tmp_path / "s").exists()


def test_the_remedy_names_the_setting(toy: DataFolder, tmp_path: Path, store: Store, plan: Recipe):
    stages = stage_needs(SubmissionPlan(plan, toy, tmp_path / "s", store=store))
    limit = 10**8 + next(stage for stage in stages if stage.name == "events").least
    with pytest.raises(KitError, match="block counts") as caught:
        require_room(stages, limit, store.root, tmp_path / "s", base=10**8)
    assert "[blocks.counts] `families`" in caught.value.remedy


def test_without_a_limit_too_little_memory_is_a_warning(
    toy: DataFolder,
    tmp_path: Path,
    store: Store,
    plan: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    monkeypatch.setattr("kit.submission.needs.memory", lambda: limits.Memory(10**9, 10**6))
    require_room(stage_needs(SubmissionPlan(plan, toy, tmp_path / "s", store=store)), None, store.root, tmp_path / "s")
    assert "warning: the stage `events`" in capsys.readouterr().err


def test_a_disk_nearly_full_is_said_before_any_stage(
    toy: DataFolder, tmp_path: Path, store: Store, plan: Recipe, monkeypatch: pytest.MonkeyPatch
):
    needed = sum(stage.need.disk for stage in stage_needs(SubmissionPlan(plan, toy, tmp_path / "s", store=store)))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**12, 10**12, needed - 1))
    with pytest.raises(KitError, match=r"are free on the disk .* needs about .*block counts") as caught:
        submit(plan, toy.root, tmp_path / "s", store=store)
    assert "kit clean" in caught.value.remedy
    assert artefacts(store) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**12, 10**12, needed))
    assert submit(plan, toy.root, tmp_path / "s", store=store)


def test_finished_stages_are_not_counted_again(toy: DataFolder, tmp_path: Path, store: Store, plan: Recipe):
    submit(plan, toy.root, tmp_path / "s", store=store)
    stages = stage_needs(SubmissionPlan(plan, toy, tmp_path / "s", store=store))
    assert all(stage.fresh for stage in stages)
    require_room(stages, 1, store.root, tmp_path / "s")  # nothing is left to do: any limit will do
    clipped = plan.model_copy(update={"assembly": plan.assembly.model_copy(update={"clip": 3.0})})
    other = stage_needs(SubmissionPlan(clipped, toy, tmp_path / "s", store=store))
    assert [stage.name for stage in other if not stage.fresh] == ["profile", "submission"]
    written = sum((tmp_path / "s" / name).stat().st_size for name in ("embeddings.npy", "client_ids.npy"))
    assert written <= other[-1].need.disk + 1000


@pytest.mark.parametrize("limit", [None, 10**12])
def test_bytes_do_not_depend_on_the_limit(
    toy: DataFolder, tmp_path: Path, store: Store, plan: Recipe, monkeypatch: pytest.MonkeyPatch, limit: int | None
):
    """In the smallest pieces and with every array in a file, the submission is the same bit by bit."""
    submit(plan, toy.root, tmp_path / "s", store=store, memory_limit=limit)
    monkeypatch.setattr(limits, "room", lambda: 1)
    monkeypatch.setattr(stats, "LEAST", 7)
    monkeypatch.setattr(assemble, "ROWS_AT_ONCE", 16)
    monkeypatch.setattr(assemble, "LEAST_COLUMNS", 1)
    submit(plan, toy.root, tmp_path / "pieces", store=Store(tmp_path / "other"))
    for name in ("client_ids.npy", "embeddings.npy"):
        assert (tmp_path / "pieces" / name).read_bytes() == (tmp_path / "s" / name).read_bytes()


def test_tables_sorted_in_ranges_of_clients_are_the_same(
    toy: DataFolder, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
):
    whole = History.open(toy, store=store)
    monkeypatch.setattr(
        limits, "_budget", limits._Budget(1, tmp_path)
    )  # no room at all: as many ranges as there may be
    parts = History.open(toy, store=Store(tmp_path / "other"))
    for kind in EventType:
        assert whole.events(kind).collect().equals(parts.events(kind).collect())
        assert whole.events(kind).collect().height == whole.prepared(kind)


def test_counts_are_exact_once_the_tables_are_there(toy: DataFolder, store: Store):
    from kit.data.prepare import plan_events

    events = plan_events(toy, "input", store, "keep")
    before = count(events, store)
    history = History.open(toy, store=store)
    after = count(events, store)
    for kind in EventType:
        assert after.events[kind] == history.events(kind).collect().height
        assert before.events[kind] >= after.events[kind]
    urls = history.events(EventType.VISIT).collect()["url"].value_counts()["count"]
    assert [after.urls(k) for k in (1, 2, 5)] == [int((urls >= k).sum()) for k in (1, 2, 5)]


def test_widths_are_those_of_the_features(toy_history: History):
    from kit.tasks import CATEGORY, SKU

    lists = tuple(len(toy_history.published_targets(task.name)) for task in (CATEGORY, SKU))
    known = widths(FeatureSettings(top=5), lists)
    block = make_block("b", BlockEntry(kind="stats", top=5, families=["counts", "targets", "top"]), 0)
    got = block.transform(toy_history, toy_history.clients).values.shape[1]
    assert got == known["counts"] + known["targets"] + known["top"]


def counts_of(clients: int, each: int) -> Counts:
    events = dict.fromkeys(EventType, clients * each)
    return Counts(clients, 1000, events, events, dict.fromkeys(EventType, 10 * clients * each), (100, 100))


@settings(max_examples=30, deadline=None)
@given(clients=st.integers(500_000, 3_000_000), each=st.integers(1, 60), kind=st.sampled_from(sorted(BLOCKS.loaded())))
def test_estimates_grow_with_the_clients_and_no_faster(clients: int, each: int, kind: str):
    """Twice the clients: never less, and at most twice plus rounding; the floor is never above the whole."""
    unit = make_block("b", BlockEntry(kind=kind), 0)
    for need in (unit.need, events_need):
        one, two = need(counts_of(clients, each)), need(counts_of(2 * clients, each))
        for field in ("memory", "floor", "disk"):
            assert getattr(one, field) <= getattr(two, field) <= 2 * getattr(one, field) + 1000
        assert 0 < one.floor <= one.memory
        assert one.helps


def test_the_command_foretells_and_refuses(toy: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import json

    from typer.testing import CliRunner

    from kit.cli.main import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kit.store.DEFAULT_ROOT", tmp_path / ".kit")
    Path("r.toml").write_text("name='r'\n[blocks.c]\nkind='stats'\nfamilies=['counts']\n")
    call = ["submit", "r.toml", "--data", str(toy.root), "--dry-run"]
    told = json.loads(CliRunner().invoke(app, [*call, "--json"]).stdout)
    assert [stage["stage"] for stage in told["stages"]] == ["events", "block c", "profile", "submission"]
    assert told["limit"] is None
    assert "at least" in CliRunner().invoke(app, call).stdout
    small = CliRunner().invoke(app, [*call, "--memory-limit", "5MB"])
    assert isinstance(small.exception, KitError)
    bad = CliRunner().invoke(app, [*call, "--memory-limit", "5"])
    assert isinstance(bad.exception, KitError)
    assert not Path("submissions").exists()
    assert sys.modules["kit.store"]
