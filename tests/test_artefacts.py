"""`kit status`, `kit explain` and `kit clean`: what changed is named, lineage walks back, nothing needed is deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kit.cli.main import app
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission import read_manifest, submit
from kit.submission.clean import plan_removals, remove
from kit.submission.explain import explain
from kit.submission.plan import SubmissionPlan
from kit.submission.status import recipe_status, submission_status

COUNTS = {"kind": "stats", "families": ["counts"], "scale": "quantile"}
ALS = {"kind": "als", "items": "category", "factors": 4}


def plan(**blocks) -> Recipe:
    return parse(Recipe, {"name": "s", "blocks": blocks or {"counts": COUNTS, "als": ALS}}, "test")


@pytest.fixture
def built(toy: DataFolder, tmp_path: Path, store: Store) -> Path:
    submit(plan(), toy.root, tmp_path / "s", store=store)
    return tmp_path / "s"


def states(stages) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {stage.name: (stage.state.value, stage.reasons) for stage in stages}


def test_all_is_missing_then_fresh(toy: DataFolder, tmp_path: Path, store: Store):
    before = recipe_status(SubmissionPlan(plan(), toy, tmp_path / "s", store=store))
    assert {stage.state.value for stage in before} == {"missing"}
    submit(plan(), toy.root, tmp_path / "s", store=store)
    after = recipe_status(SubmissionPlan(plan(), toy, tmp_path / "s", store=store))
    assert {stage.state.value for stage in after} == {"fresh"}
    assert [stage.key for stage in after] == [stage.key for stage in before]  # foretold without computing
    assert submission_status(tmp_path / "s", store) == after


def test_a_changed_setting_is_named_where_it_acts(toy: DataFolder, built: Path, store: Store):
    found = states(
        recipe_status(SubmissionPlan(plan(counts=COUNTS, als={**ALS, "factors": 5}), toy, built, store=store))
    )
    assert found["block counts"] == ("fresh", ())
    assert found["block als"] == ("stale", ("settings.factors: 4 → 5",))
    assert found["submission"] == ("stale", ("blocks.als.factors: 4 → 5",))
    weighed = states(
        recipe_status(SubmissionPlan(plan(counts={**COUNTS, "weight": 2.0}, als=ALS), toy, built, store=store))
    )
    assert weighed["block counts"] == ("fresh", ())
    assert weighed["submission"] == ("stale", ("blocks.counts.weight: 1.0 → 2.0",))


def test_another_block_of_the_same_kind_is_no_comparison(toy: DataFolder, built: Path, store: Store):
    two = plan(counts=COUNTS, als=ALS, urls={**ALS, "items": "url"})
    assert states(recipe_status(SubmissionPlan(two, toy, built, store=store)))["block urls"] == (
        "missing",
        ("it was never made",),
    )


def test_a_changed_data_file_is_named_and_goes_down_the_line(
    toy: DataFolder, built: Path, store: Store, tmp_path: Path
):
    other = DataFolder(Path(shutil.copytree(toy.root, tmp_path / "other")))
    path = other.root / "input" / "page_visit.parquet"
    shutil.copy(other.root / "page_visit.parquet", path)
    found = states(recipe_status(SubmissionPlan(plan(), other, built, store=store)))
    assert found["events"] == ("stale", ("events.page_visit.parquet: other bytes",))
    assert found["block als"] == ("stale", ("history: its events, named above",))
    assert found["submission"][0] == "stale"
    assert states(submission_status(built, store))["submission"] == ("fresh", ())  # by its own data folder


def test_cut_short_vectors_are_stale(built: Path, store: Store):
    (built / "embeddings.npy").write_bytes(b"")
    assert states(submission_status(built, store))["submission"] == ("stale", ("its files were cut short or altered",))


def test_explain_walks_back_to_the_data_files(toy: DataFolder, built: Path, store: Store):
    origin = explain(str(built / "embeddings.npy"), store)
    assert origin.facts["data"].startswith(str(toy.root))
    assert {parent.what.split("/")[0] for parent in origin.parents} == {
        "block counts: block-stats",
        "block als: block-als",
    }
    events = origin.parents[0].parents[0]
    assert events.what.startswith("events/")
    assert "read product_buy.parquet" in events.facts
    key = read_manifest(built)["artefacts"]["blocks"]["als"]
    by_key, by_letters = explain(key, store), explain(key.split("/")[1][:6], store)
    by_path = explain(str(store.root / key / "values.npy"), store)
    assert by_key.as_json() == by_letters.as_json() == by_path.as_json()


def test_verify_notices_altered_bytes(built: Path, store: Store):
    path = built / "embeddings.npy"
    sound = explain(str(built), store, verify=True)
    assert "as recorded" in sound.facts["wrote embeddings.npy"] and not sound.altered
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = explain(str(built), store, verify=True)
    assert "NOT" in found.facts["wrote embeddings.npy"] and found.altered


def test_explain_says_what_it_does_not_know(store: Store, tmp_path: Path):
    with pytest.raises(KitError, match="neither a submission nor an artefact"):
        explain("nothing", store)
    (tmp_path / "plain.txt").write_text("")
    with pytest.raises(KitError, match="neither"):
        explain(str(tmp_path / "plain.txt"), store)


def test_clean_keeps_what_submissions_are_made_from(toy: DataFolder, built: Path, store: Store, tmp_path: Path):
    assert plan_removals(store, tmp_path / "none") == []  # the store remembers where it served
    old = read_manifest(built)["artefacts"]["blocks"]["als"]
    submit(plan(counts=COUNTS, als={**ALS, "factors": 5}), toy.root, built, store=store)
    (store.root / "block-als" / "0123456789abcdef.tmp").mkdir()
    (built.with_name(".s.tmp")).mkdir()
    found = plan_removals(store, tmp_path / "none")
    assert {removal.path.name for removal in found} == {old.split("/")[1], "0123456789abcdef.tmp", ".s.tmp"}
    assert (store.root / old).exists()  # nothing is deleted by looking
    remove(store, found)
    assert plan_removals(store, tmp_path / "none") == []
    assert not submit(plan(counts=COUNTS, als={**ALS, "factors": 5}), toy.root, built, store=store)
    assert all(state == "fresh" for state, _ in states(submission_status(built, store)).values())


def test_clean_finds_files_whose_writer_is_dead(built: Path, store: Store, tmp_path: Path):
    (store.root / "digests").mkdir(exist_ok=True)
    dead = [store.root / "digests" / ".a.json.999999999.tmp", built / ".scores.json.999999999.tmp"]
    alive = store.root / "digests" / f".b.json.{os.getpid()}.tmp"
    alive.parent.mkdir(exist_ok=True)
    for file in (*dead, alive):
        file.write_text("half")
    found = plan_removals(store, tmp_path / "none")
    assert {removal.path.name for removal in found} == {file.name for file in dead}
    remove(store, found)
    assert not any(file.exists() for file in dead)
    assert alive.exists()


def test_clean_touches_nothing_that_the_store_did_not_make(built: Path, store: Store, tmp_path: Path):
    """KIT_STORE may be a folder on a larger disk that holds other things."""
    for name in ("data/official", "photos/2020"):
        (store.root / name).mkdir(parents=True)
        (store.root / name / "mine.bin").write_text("years")
    found = plan_removals(store, tmp_path / "none", everything=True)
    assert found and not any(removal.path.parent.name in ("data", "photos") for removal in found)


def test_clean_after_a_submission_is_gone_and_clean_all(built: Path, store: Store, tmp_path: Path):
    assert len(plan_removals(store, tmp_path / "none", everything=True)) == 3
    shutil.rmtree(built)
    assert len(plan_removals(store, tmp_path / "none")) == 3


def test_clean_leaves_a_running_submission_alone(built: Path, store: Store, tmp_path: Path):
    found = plan_removals(store, tmp_path / "none", everything=True)
    with (
        store.alone(store.submission_file(built).with_suffix(".lock"), "it"),
        pytest.raises(KitError, match="A run is making"),
    ):
        remove(store, found)
    assert all(removal.path.exists() for removal in found)


def test_clean_waits_for_those_who_use_the_store(built: Path, store: Store, tmp_path: Path):
    found = plan_removals(store, tmp_path / "none", everything=True)
    with store.in_use("The search one"), store.in_use("The search two"):
        assert sorted(store.users()) == ["The search one", "The search two"]
        with pytest.raises(KitError, match=r"The search (one|two) is going on"):
            remove(store, found)
        assert all(removal.path.exists() for removal in found)
    assert store.users() == []
    assert remove(store, found) > 0
    assert not any(removal.path.exists() for removal in found)


@pytest.mark.parametrize(
    ("command", "inner"),
    [
        (["score", "mine", "--data", "d"], "kit.submission.submission.Submission.open"),
        (["calibrate", "mine", "other", "--data", "d"], "kit.submission.submission.Submission.open"),
        (["report", "mine"], "kit.submission.submission.Submission.open"),
        (["features", "build", "r.toml", "--data", "d", "--out", "f.parquet"], "kit.features.build.write_features"),
    ],
    ids=["score", "calibrate", "report", "features"],
)
def test_commands_that_read_the_store_keep_clean_off(
    command: list[str], inner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Seen from inside: clean would refuse, and after the end it would not."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "store"
    monkeypatch.setattr(Store.__init__, "__defaults__", (root,))
    monkeypatch.setattr("kit.history.History.open", lambda *_, **__: None)
    (tmp_path / "r.toml").write_text('name = "s"\n[blocks.counts]\nkind = "stats"\nfamilies = ["counts"]\n')
    seen: list[str] = []

    def stop(*_: object, **__: object) -> None:
        seen.extend(Store(root).users())
        raise KitError("Far", "enough.")

    monkeypatch.setattr(inner, stop)
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, KitError) and done.exception.what == "Far", done.output
    assert len(seen) == 1 and Store(root).users() == []


def test_an_error_ends_the_use_of_a_store(store: Store):
    with pytest.raises(ZeroDivisionError), store.in_use("The search"):
        1 / 0  # noqa: B018
    assert store.users() == []
    assert not list((store.root / "users").iterdir())


def test_clean_leaves_alone_what_is_being_built(store: Store, tmp_path: Path):
    seen = []

    def build(folder: Path) -> None:
        seen.extend(plan_removals(store, tmp_path / "none", everything=True))

    store.get("s", {}, build)
    assert seen == []
