"""`kit embed`: what a submission learned, asked about other clients and later cuts, gives what it would have given them."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from blocks.test_blocks import SMALL, disturb_the_future
from toy import BEGIN, DAYS, write_folder
from typer.testing import CliRunner

from kit.blocks.base import BLOCKS, make_block
from kit.challenge import EventType
from kit.cli.main import app
from kit.data.layout import DataFolder
from kit.data.split import split_folder
from kit.errors import KitError
from kit.history import History
from kit.profile import build_profile
from kit.profile.learned import Learned
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission import submit
from kit.submission.embed import embed

LATE, SILENT = 500, (777, 778)
"""A client whose first event comes after the cut, and two who never have one."""
TREATED = {
    "als": {"row_l2": True},
    "combined": {"columns": ["forecast_*", "z_*"], "scale": "standard", "flags": True},
    "gcn": {"unit_rms": True, "weight": 2.0},
    "organisers": {"scale": "signed-log"},
    "sequence": {"scale": "standard", "pca": 4, "unit_rms": True},
    "stats": {
        "scale": "quantile",
        "flags": True,
        "families": ["counts", "top", "newcomers", "taste", "recency"],
        "top": 5,
    },
    "twhin": {"pca": 3},
}


def every_kind(**assembly: object) -> Recipe:
    blocks = {f"a_{kind}": {"kind": kind, **SMALL.get(kind, {}), **TREATED.get(kind, {})} for kind in BLOCKS.loaded()}
    blocks["a_stack"]["uses"] = ["a_als", "a_stats"]
    blocks["again"] = {"like": "a_combined", "columns": ["choice_*"], "pca": 5}
    return parse(Recipe, {"name": "every", "blocks": blocks, "assembly": assembly}, "test")


class World:
    """A folder, a store, and a submission of every kind of block at its cut."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, Store(root / "store")
        write_folder(root / "shop")
        self.data = DataFolder(root / "shop")
        added = pl.DataFrame(
            {
                "client_id": [LATE] * 3,
                "timestamp": [str(BEGIN + timedelta(days=DAYS - d)) for d in (2, 3, 4)],
                "url": [1, 2, 3],
            }
        )
        path = self.data.raw(EventType.VISIT)
        pl.concat([pl.read_parquet(path), added]).write_parquet(path)
        split_folder(self.data.root)
        self.cut = self.data.split().train_start
        self.submission = root / "every"
        submit(every_kind(), self.data.root, self.submission, store=self.store)
        self.ids = np.load(self.submission / "client_ids.npy")
        self.vectors = np.load(self.submission / "embeddings.npy")

    def asked(self, ids: list[int]) -> Path:
        path = self.root / "asked.npy"
        np.save(path, np.array(ids))
        return path

    def embed(
        self, name: str, cut: str | None = None, ids: list[int] | None = None, data: Path | None = None
    ) -> np.ndarray:
        out, clients = self.root / name, None if ids is None else self.asked(ids)
        self.told = embed(self.submission, data or self.data.root, out, cut, clients, self.store)
        assert self.told["made_now"]
        np.testing.assert_array_equal(np.load(out / "client_ids.npy"), self.ids if ids is None else ids)
        return np.load(out / "embeddings.npy")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("embed"))


@pytest.fixture
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    for _, cls in BLOCKS.loaded().items():
        monkeypatch.setattr(cls, "fit", None)


@pytest.mark.usefixtures("nothing_is_trained")
def test_the_submissions_clients_at_its_cut_get_its_vectors_bit_for_bit(world: World):
    assert world.embed("same").tobytes() == world.vectors.tobytes()
    assert world.told["without_history"] == 0 and world.told["of_the_submission"] == len(world.ids)
    # The instant instead of the word: the events come from the raw files then, not from those that the split made.
    assert world.embed("instant", world.cut.isoformat()).tobytes() == world.vectors.tobytes()


def test_bit_for_bit_also_with_a_joint_pca_and_row_norms(world: World):
    folder = world.root / "joint"
    submit(every_kind(pca=6, row_norm=2.0), world.data.root, folder, store=world.store)
    embed(folder, world.data.root, world.root / "joint-out", store=world.store)
    assert (world.root / "joint-out" / "embeddings.npy").read_bytes() == (folder / "embeddings.npy").read_bytes()


@pytest.mark.usefixtures("nothing_is_trained")
def test_some_clients_in_another_order_get_their_rows(world: World):
    rows = [17, 3, 40, 8]
    ids = [*world.ids[rows].tolist(), LATE]
    found = world.embed("some", ids=ids)
    assert found[:-1].tobytes() == world.vectors[rows].tobytes()  # company that is asked for beside them is not felt
    assert world.told["of_the_submission"] == 4 and world.told["without_history"] == 1  # LATE has no event yet


@pytest.mark.usefixtures("nothing_is_trained")
def test_clients_unknown_at_the_fit_and_clients_without_history(world: World):
    found = world.embed("others", "end", ids=[SILENT[0], LATE, SILENT[1]])
    assert world.told["without_history"] == 2
    assert np.isfinite(found).all()
    assert found[0].tobytes() == found[2].tobytes() != found[1].tobytes()
    alone = world.embed("silent", "end", ids=list(SILENT))
    np.testing.assert_array_equal(alone, found[[0, 2]])


def test_what_happens_at_or_after_the_cut_changes_nothing(world: World, tmp_path: Path):
    later = world.cut + timedelta(days=7)
    before = world.embed("later", later.isoformat(), ids=[*world.ids.tolist(), LATE])
    assert before[:-1].tobytes() != world.vectors.tobytes()  # what happened in between is seen
    twin = DataFolder(tmp_path / "twin")
    shutil.copytree(world.data.root, twin.root)
    disturb_the_future(twin, later)
    after = world.embed("disturbed", later.isoformat(), ids=[*world.ids.tolist(), LATE], data=twin.root)
    assert after.tobytes() == before.tobytes()


def test_a_week_later_hand_made_columns_are_those_of_a_fresh_build(world: World, tmp_path: Path):
    """Families without facts, unscaled: nothing is learned, so nothing can be out of date."""
    table = {"counts": {"kind": "stats", "families": ["counts", "presence", "popularity"]}}
    recipe = parse(Recipe, {"name": "plain", "blocks": table, "assembly": {"clip": 60_000}}, "test")
    folder = tmp_path / "plain"
    submit(recipe, world.data.root, folder, store=world.store)
    later = world.cut + timedelta(days=7)
    embed(folder, world.data.root, tmp_path / "out", later.isoformat(), store=world.store)
    embedded = np.load(tmp_path / "out" / "embeddings.npy")
    columns = json.loads((folder / "columns.json").read_text())["counts"]
    history = History.open(world.data, later, store=world.store)
    fresh = build_profile(recipe, history, world.store)
    np.testing.assert_array_equal(fresh.clients, np.load(folder / "client_ids.npy"))  # one spine
    unit = make_block("counts", recipe.blocks["counts"], 0)
    said = unit.fit(history).transform(history, fresh.clients[np.argsort(fresh.clients)])
    learned = Learned.load(folder).blocks["counts"]
    compared = 0
    for place, name in enumerate(columns):
        known = np.isfinite(
            said.values[np.searchsorted(np.sort(fresh.clients), fresh.clients), said.columns.index(name)]
        )
        assert (embedded[~known, place] == learned.fill[place].astype(np.float16)).all()  # imputed as in the submission
        if name in fresh.blocks[0].columns:
            expected = fresh.matrix[:, fresh.blocks[0].columns.index(name)]
            np.testing.assert_array_equal(embedded[known, place], expected[known], name)
            compared += known.all()
    assert compared > 20
    raw = history.events(EventType.VISIT).collect().group_by("client_id").len()
    visits = dict(raw.rows())
    place = columns.index("counts__visit_all")
    assert embedded[:, place].tolist() == [visits.get(client, 0) for client in fresh.clients.tolist()]


def test_a_second_call_finds_what_the_first_made_and_others_things_are_left_alone(world: World, tmp_path: Path):
    out = tmp_path / "out"
    assert embed(world.submission, world.data.root, out, store=world.store)["made_now"]
    assert not embed(world.submission, world.data.root, out, store=world.store)["made_now"]
    (out / "embeddings.npy").write_bytes(b"altered")
    assert embed(world.submission, world.data.root, out, store=world.store)["made_now"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    with pytest.raises(KitError, match="is not empty, and `kit embed` did not write it"):
        embed(world.submission, world.data.root, mine, store=world.store)
    with pytest.raises(KitError, match=r"holds .*it would be replaced"):
        embed(world.submission, world.data.root, world.root, store=world.store)
    assert (mine / "thesis.tex").exists()


def test_a_cut_before_that_of_the_fit_is_refused(world: World, tmp_path: Path):
    early = (world.cut - timedelta(seconds=1)).isoformat()
    with pytest.raises(KitError, match="its blocks know what happened in between") as caught:
        embed(world.submission, world.data.root, tmp_path / "out", early, store=world.store)
    assert world.cut.isoformat() in caught.value.remedy
    for wrong, words in (("yesterday", "is unknown"), ("2022-07-01T00:00:00+02:00", "names a time zone")):
        with pytest.raises(KitError, match=words):
            embed(world.submission, world.data.root, tmp_path / "out", wrong, store=world.store)


def test_what_was_learned_must_be_there_and_as_it_was(world: World, tmp_path: Path):
    with pytest.raises(KitError, match=r"What block a_als learned \(block-als/.* is not in"):
        embed(world.submission, world.data.root, tmp_path / "out", store=Store(tmp_path / "empty"))
    copy = tmp_path / "copy"
    shutil.copytree(world.submission, copy)
    with (copy / "assembly.npz").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(KitError, match="is not as it was built"):
        embed(copy, world.data.root, tmp_path / "out", store=world.store)
    shutil.copy(world.submission / "assembly.npz", copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"seed": 1, "recipe": manifest["recipe"] | {"seed": 1}}))
    with pytest.raises(KitError, match="The code of block a_als changed"):
        embed(copy, world.data.root, tmp_path / "out", store=world.store)
    assert not (tmp_path / "out").exists()


def test_lists_of_clients_in_every_form(world: World, tmp_path: Path):
    ids = world.ids[[4, 2]].tolist()
    (tmp_path / "a.txt").write_text(f"{ids[0]}\n\n {ids[1]}\n")
    pl.DataFrame({"client_id": ids, "other": ["x", "y"]}).write_parquet(tmp_path / "a.parquet")
    np.save(tmp_path / "a.npy", np.array(ids, dtype=np.int32))
    for form in ("txt", "parquet", "npy"):
        embed(world.submission, world.data.root, tmp_path / form, None, tmp_path / f"a.{form}", world.store)
        np.testing.assert_array_equal(np.load(tmp_path / form / "embeddings.npy"), world.vectors[[4, 2]])


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.npy", lambda path: np.save(path, np.array([7, 8, 7])), "names client 7 2 times"),
        ("a.npy", lambda path: np.save(path, np.array([7.5])), "holds float64"),
        ("a.npy", lambda path: np.save(path, np.array([], dtype=int)), "names no client"),
        ("a.npy", lambda path: path.write_bytes(b"no array"), "cannot be read as a list of clients"),
        ("a.txt", lambda path: path.write_text("7\nseven\n"), "'seven' is no client's id"),
        ("a.csv", lambda path: path.write_text("7\n"), "is no .npy, .txt or .parquet"),
        ("a.parquet", lambda path: pl.DataFrame({"id": [1]}).write_parquet(path), "has no column client_id"),
        ("gone.npy", lambda path: None, "cannot be read as a list of clients"),
    ],
)
def test_what_is_no_list_of_clients_is_said(world: World, tmp_path: Path, name: str, make, words: str):
    make(tmp_path / name)
    with pytest.raises(KitError, match=words):
        embed(world.submission, world.data.root, tmp_path / "out", None, tmp_path / name, world.store)


def test_the_command_says_how_many_have_no_history(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kit.store.DEFAULT_ROOT", world.store.root)
    monkeypatch.setattr(Store.__init__, "__defaults__", (world.store.root,))
    path = world.asked([*world.ids[:2].tolist(), *SILENT])
    arguments = ["embed", str(world.submission), "--data", str(world.data.root), "--clients", str(path)]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--cut", "end"])
    assert result.exit_code == 0, result.output
    assert "4 clients × " in result.output
    assert "2 are clients of" in result.output and "2 have no event before the cut" in result.output
    again = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--cut", "end", "--json"])
    told = json.loads(again.output)
    assert (told["made_now"], told["without_history"], told["clients"]) == (False, 2, 4)
    assert datetime.fromisoformat(told["embedded_from"]["cut"]) == world.cut
