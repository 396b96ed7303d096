"""Submissions: written as a whole, found fresh, and every kind of damage is a finding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scored import validate

from kit.challenge import EventType
from kit.content import bytes_digest
from kit.data.layout import DataFolder
from kit.errors import KitError, Severity
from kit.profile import profile_fingerprint
from kit.recipe import Recipe, parse, read_recipe
from kit.store import Store
from kit.submission import read_manifest, submit, write

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


def with_first(value):
    def change(ids):
        ids[0] = value
        return ids

    return change


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
        (damage_ids(with_first(np.iinfo(np.int64).min)), "error", "is a missing one (null or NaN)"),
        (damage_ids(with_first(-1)), "warning", "1 ids are negative, such as -1"),
        (damage_ids(lambda ids: ids.astype(str)), "error", "ids are <U"),
        (damage_vectors(lambda m: m.astype(str)), "error", "vectors are <U"),
        (damage_vectors(lambda m: m[:, 0]), "error", "shape"),
        (damage_vectors(lambda m: m.astype(np.float32)), "error", "float32"),
        (damage_vectors(lambda m: np.tile(m, (1, 80))), "error", "columns"),
        (damage_vectors(lambda m: m[:-3]), "error", "ids for"),
        (damage_vectors(with_value(np.nan)), "error", "1 values are NaN"),
        (damage_vectors(with_value(np.inf)), "error", "1 values are NaN or infinite, the first in row 1, column 2"),
        (damage_vectors(lambda m: m[:, :0]), "error", "no column"),
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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 70_000.0])
def test_what_is_not_valid_takes_nobodys_place(
    toy: DataFolder, copy: Path, plan: Recipe, store: Store, monkeypatch: pytest.MonkeyPatch, value: float
):
    """The old submission stays whole, byte by byte, and the message names the block."""
    before = {path: path.read_bytes() for path in copy.rglob("*")}
    whole = write.np.save

    def spoilt(path: Path, matrix: np.ndarray) -> None:
        if path.name == "embeddings.npy":
            matrix = matrix.copy()
            with np.errstate(over="ignore"):
                matrix[3, 2] = np.float32(value)
        whole(path, matrix)

    monkeypatch.setattr(write.np, "save", spoilt)
    with pytest.raises(KitError, match="1 values are NaN or infinite, the first in row 3, column 2") as refused:
        submit(plan.model_copy(update={"seed": 1}), toy.root, copy, store=store)
    assert f"not valid, and {copy} is left as it was" in refused.value.what
    assert "They come from block counts." in refused.value.what
    assert {path: path.read_bytes() for path in copy.rglob("*")} == before
    with pytest.raises(KitError, match="not valid, and nothing was written"):
        submit(plan, toy.root, copy.with_name("new"), store=store)
    assert sorted(path.name for path in copy.parent.iterdir()) == ["copy", "store"]


@pytest.mark.parametrize("setting", ["weight = inf", "weight = nan", "weight = -inf", "weight = 1e999"])
def test_a_recipe_holds_finite_numbers_only(tmp_path: Path, setting: str):
    path = tmp_path / "r.toml"
    path.write_text(f'name = "t"\n[blocks.counts]\nkind = "stats"\n{setting}\n')
    with pytest.raises(KitError, match=r"r\.toml: blocks\.counts\.weight: .*(finite|greater)"):
        read_recipe(path)


@pytest.mark.parametrize("setting", ["clip = inf", "clip = nan", "row_norm = inf", "row_norm = nan"])
def test_an_assembly_holds_finite_numbers_only(tmp_path: Path, setting: str):
    path = tmp_path / "r.toml"
    path.write_text(f'name = "t"\n[blocks.counts]\nkind = "stats"\n[assembly]\n{setting}\n')
    with pytest.raises(KitError, match=r"r\.toml: assembly\."):
        read_recipe(path)


@pytest.mark.parametrize(
    "scale", ["none", "quantile"]
)  # with quantiles no value is 0: nothing becomes NaN, all would be ±clip
@pytest.mark.parametrize("pca", [{}, {"pca": 3}])
def test_a_weight_that_overflows_is_refused_and_the_block_named(
    toy: DataFolder, copy: Path, store: Store, scale: str, pca: dict
):
    before = {path: path.read_bytes() for path in copy.rglob("*")}
    blocks = PLAN["blocks"] | {"huge": {"kind": "stats", "families": ["recency"], "scale": scale, "weight": 1e39}}
    with pytest.raises(KitError, match=r"Block huge has values that are NaN or infinite .*weight = 1e\+39"):
        submit(parse(Recipe, {"name": "t", "blocks": blocks, "assembly": pca}, "test"), toy.root, copy, store=store)
    assert {path: path.read_bytes() for path in copy.rglob("*")} == before


def test_a_row_norm_that_overflows_is_refused(toy: DataFolder, tmp_path: Path, store: Store):
    plan = parse(Recipe, PLAN | {"assembly": {"row_norm": 1e39}}, "test")
    with pytest.raises(KitError, match=r"NaN or infinite once it is scaled \(\[assembly\]"):
        submit(plan, toy.root, tmp_path / "s", store=store)
    assert not (tmp_path / "s").exists()


def test_a_link_to_another_disk_stays_and_what_is_behind_it_is_replaced(
    toy: DataFolder, tmp_path: Path, plan: Recipe, store: Store
):
    disk, link = tmp_path / "disk", tmp_path / "submissions" / "s"
    disk.mkdir()
    link.parent.mkdir()
    link.symlink_to(disk / "s")  # nothing there yet
    assert submit(plan, toy.root, link, store=store)
    first = (disk / "s" / "embeddings.npy").read_bytes()
    assert not submit(plan, toy.root, link, store=store)
    assert submit(plan.model_copy(update={"seed": 1}), toy.root, link, store=store)
    assert link.is_symlink() and link.readlink() == disk / "s"
    assert (link / "embeddings.npy").read_bytes() != first
    assert [path.name for path in disk.iterdir()] == ["s"] and [path.name for path in link.parent.iterdir()] == ["s"]


@pytest.mark.parametrize("target", ["unmounted/s", "s"], ids=["to nowhere", "in a circle"])
def test_a_link_to_nowhere_is_named(toy: DataFolder, tmp_path: Path, plan: Recipe, store: Store, target: str):
    (tmp_path / "s").symlink_to(tmp_path / target)
    with pytest.raises(KitError, match="is a link to"):
        submit(plan, toy.root, tmp_path / "s", store=store)
    assert not (tmp_path / "unmounted").exists()


def test_one_client_is_refused_with_what_to_do(toy: DataFolder, tmp_path: Path, plan: Recipe, store: Store):
    root = Path(shutil.copytree(toy.root, tmp_path / "shop"))
    np.save(DataFolder(root).relevant_clients, toy.clients()[:1])
    with pytest.raises(KitError, match=r"one relevant client.*With one client every column is constant"):
        submit(plan, root, tmp_path / "s", store=store)


def test_an_invalid_submission_that_an_older_version_left_is_not_called_fresh(
    toy: DataFolder, copy: Path, plan: Recipe, store: Store
):
    damage_vectors(with_value(np.nan))(copy)
    manifest = read_manifest(copy)
    manifest["content"] = {name: bytes_digest(copy / name) for name in manifest["content"]}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(KitError, match="is not valid: 1 values are NaN"):
        submit(plan, toy.root, copy, store=store)


@pytest.mark.parametrize("raw", [True, False])
def test_clients_that_the_data_folder_calls_invalid_are_an_error(
    toy: DataFolder, copy: Path, tmp_path: Path, raw: bool
):
    folder = DataFolder(Path(shutil.copytree(toy.root, tmp_path / "shop")))
    assert [finding for finding in validate(copy, folder) if finding.severity is Severity.ERROR] == []
    path = (folder.raw if raw else folder.input)(EventType.VISIT)
    frame = pl.read_parquet(path)
    first = pl.int_range(frame.height) == 0
    frame.with_columns(client_id=pl.when(first).then(None).otherwise(pl.col("client_id"))).write_parquet(path)
    (found,) = [finding for finding in validate(copy, folder) if finding.severity is Severity.ERROR]
    assert "client_id" in found.where and "page_visit.parquet" in found.where and "empty" in found.what
