"""Submissions: written as a whole, found fresh, and every kind of damage is a finding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kit.data.layout import DataFolder
from kit.errors import KitError, Severity
from kit.profile import profile_fingerprint
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission import read_manifest, submit, validate

PLAN = {"name": "t", "blocks": {"counts": {"kind": "stats", "families": ["counts"], "scale": "quantile"}}}


@pytest.fixture
def plan() -> Recipe:
    return parse(Recipe, PLAN, "test")


@pytest.fixture(scope="module")
def built(toy: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built")
    submit(parse(Recipe, PLAN, "test"), toy.root, root / "t", store=Store(root / "store"))
    return root / "t"


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def test_manifest_says_how_it_was_made(toy: DataFolder, built: Path):
    manifest = read_manifest(built)
    matrix = np.load(built / "embeddings.npy")
    assert manifest["width"] == matrix.shape[1]
    assert manifest["clients"] == len(matrix) == len(toy.clients())
    assert manifest["recipe"]["blocks"]["counts"]["families"] == ["counts"]
    assert {"fingerprint", "code", "seed", "seconds", "peak_memory_mib", "libraries"} <= manifest.keys()
    columns = json.loads((built / "columns.json").read_text())
    assert sum(len(names) for names in columns.values()) == manifest["width"] == manifest["blocks"][-1]["stop"]


def test_second_call_finds_it_fresh_and_changes_are_noticed(
    toy: DataFolder, tmp_path: Path, store: Store, plan: Recipe
):
    out = tmp_path / "s"
    assert submit(plan, toy.root, out, store=store)
    before = (out / "embeddings.npy").read_bytes()
    assert not submit(plan, toy.root, out, store=store)
    (out / "embeddings.npy").write_bytes(before[:-10])  # cut short
    assert submit(plan, toy.root, out, store=store)
    assert (out / "embeddings.npy").read_bytes() == before
    assert submit(plan.model_copy(update={"seed": 1}), toy.root, out, store=store)
    assert (out / "embeddings.npy").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".s")] == []


def test_scores_of_the_very_same_vectors_survive_a_rebuild(
    toy: DataFolder, tmp_path: Path, store: Store, plan: Recipe, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "s"
    submit(plan, toy.root, out, store=store)
    (out / "scores.json").write_text("{}")
    manifest = read_manifest(out)
    (out / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "of older code"}))
    assert submit(plan, toy.root, out, store=store)
    assert (out / "scores.json").read_text() == "{}"
    assert submit(plan.model_copy(update={"seed": 1}), toy.root, out, store=store)
    assert not (out / "scores.json").exists()
    assert "scores.json of the old ones are dropped" in capsys.readouterr().err


def test_the_order_of_blocks_is_that_of_the_columns(plan: Recipe):
    (entry,) = plan.blocks.values()
    plan, turned = (plan.model_copy(update={"blocks": dict.fromkeys(names, entry)}) for names in ("ab", "ba"))
    assert profile_fingerprint(turned, "h") != profile_fingerprint(plan, "h")


def test_an_old_submission_survives_a_failed_write(
    toy: DataFolder, tmp_path: Path, store: Store, plan: Recipe, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "s"
    submit(plan, toy.root, out, store=store)
    before = (out / "embeddings.npy").read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kit.submission.write._manifest", full)
    with pytest.raises(KitError, match="could not be written"):
        submit(plan.model_copy(update={"seed": 2}), toy.root, out, store=store)
    assert (out / "embeddings.npy").read_bytes() == before


def test_a_sound_submission_has_no_errors(toy: DataFolder, built: Path):
    assert [f for f in validate(built, toy) if f.severity is Severity.ERROR] == []


def damage_ids(change):
    def apply(folder: Path) -> None:
        np.save(folder / "client_ids.npy", change(np.load(folder / "client_ids.npy")))

    return apply


def damage_vectors(change):
    def apply(folder: Path) -> None:
        np.save(folder / "embeddings.npy", change(np.load(folder / "embeddings.npy")))

    return apply


def with_value(value):
    def change(matrix):
        matrix[1, 2] = value
        return matrix

    return change


def repeat_first(ids):
    ids[1] = ids[0]
    return ids


@pytest.mark.parametrize(
    ("damage", "severity", "message"),
    [
        (lambda f: (f / "client_ids.npy").unlink(), "error", "missing"),
        (lambda f: (f / "embeddings.npy").write_bytes(b""), "error", "cannot be read"),
        (
            lambda f: (f / "embeddings.npy").write_bytes((f / "embeddings.npy").read_bytes()[:500]),
            "error",
            "cannot be read",
        ),
        (damage_ids(lambda ids: ids[:, None]), "error", "shape"),
        (damage_ids(lambda ids: ids.astype(np.int32)), "error", "int32"),
        (damage_ids(lambda ids: ids[:-1]), "error", "1 relevant clients are missing"),
        (damage_ids(lambda ids: ids + 10_000), "error", "not relevant clients"),
        (damage_ids(repeat_first), "error", "1 duplicate ids"),
        (damage_ids(np.sort), "warning", "sorted"),
        (damage_vectors(lambda m: m[:, 0]), "error", "shape"),
        (damage_vectors(lambda m: m.astype(np.float32)), "error", "float32"),
        (damage_vectors(lambda m: np.tile(m, (1, 80))), "error", "columns"),
        (damage_vectors(lambda m: m[:-3]), "error", "ids for"),
        (damage_vectors(with_value(np.nan)), "error", "1 values are NaN"),
        (damage_vectors(with_value(np.inf)), "error", "1 values are NaN or infinite"),
        (damage_vectors(lambda m: m[:, :0]), "error", "0 columns"),
        (damage_vectors(lambda m: np.hstack([m, np.ones_like(m[:, :1])])), "warning", "1 constant"),
        # the toy is 60 days long, so six of its windows repeat another one already
        (damage_vectors(lambda m: np.hstack([m, m[:, :2]])), "warning", "8 columns repeat"),
        (damage_vectors(lambda m: np.vstack([m[:1], m[:1], m[2:]])), "warning", "rows repeat"),
        (damage_vectors(lambda m: m * np.float16(5000)), "warning", "values reach"),
    ],
)
def test_every_damage_is_found(toy: DataFolder, copy: Path, damage, severity: str, message: str):
    damage(copy)
    found = [f"{finding.severity.value}: {finding.what}" for finding in validate(copy, toy)]
    assert any(line.startswith(severity) and message in line for line in found), found


def test_all_findings_come_at_once(toy: DataFolder, copy: Path):
    damage_ids(repeat_first)(copy)
    damage_vectors(with_value(np.nan))(copy)
    assert len([f for f in validate(copy, toy) if f.severity is Severity.ERROR]) >= 3


def test_vectors_that_were_exchanged_are_built_again(toy: DataFolder, copy: Path, plan: Recipe, store: Store):
    right = (copy / "embeddings.npy").read_bytes()
    np.save(copy / "embeddings.npy", np.load(copy / "embeddings.npy") + np.float16(1))
    assert submit(plan, toy.root, copy, store=store)
    assert (copy / "embeddings.npy").read_bytes() == right


@pytest.mark.parametrize("name", ["data", "above", "files", "file", "store", "nameless", "app"])
def test_nothing_but_a_submission_is_ever_replaced(
    toy: DataFolder, tmp_path: Path, plan: Recipe, store: Store, name: str
):
    root = shutil.copytree(toy.root, tmp_path / "shop" / "data")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "my web app"}')
    places = {
        "data": (root, "holds .*data"),
        "above": (tmp_path / "shop", "holds .*data"),
        "files": (tmp_path / "files", "no submission .it holds thesis.txt."),
        "file": (tmp_path / "file", "is a file"),
        "store": (store.root.parent, "would replace it"),
        "nameless": (Path(), "is no name"),
        "app": (tmp_path / "app", "no submission .it holds manifest.json."),
    }
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    place, message = places[name]
    with pytest.raises(KitError, match=message):
        submit(plan, root, place, store=store)
    assert {path: path.read_bytes() for path in before} == before


def test_scores_of_another_data_folder_or_cut_are_not_replaced(
    toy: DataFolder, copy: Path, tmp_path: Path, plan: Recipe, store: Store
):
    other = shutil.copytree(toy.root, tmp_path / "other")
    (copy / "scores.json").write_text("{}")
    with pytest.raises(KitError, match="holds the scores of a submission from"):
        submit(plan, other, copy, store=store)
    with pytest.raises(KitError, match="--cut input"):
        submit(plan, toy.root, copy, "end", store=store)
    (copy / "scores.json").unlink()
    submit(plan, other, copy, store=store)
