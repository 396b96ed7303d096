"""Neighbours: the same as the slow definition, parts that add up, the index against exact search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scored import open_profiles
from typer.testing import CliRunner

from kit import neighbours as module
from kit.cli.main import app
from kit.errors import KitError
from kit.neighbours import Index, Profiles, exact, neighbours, recall
from kit.store import Store


def write(folder: Path, matrix: np.ndarray, clients: np.ndarray | None = None, **blocks: int) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "embeddings.npy", matrix.astype(np.float16))
    np.save(folder / "client_ids.npy", np.arange(len(matrix)) * 10 if clients is None else clients)
    if blocks:
        columns = {name: [f"c{i}" for i in range(width)] for name, width in blocks.items()}
        (folder / "columns.json").write_text(json.dumps(columns))
    return folder


@pytest.fixture
def random_folder(tmp_path: Path) -> Path:
    matrix = np.random.default_rng(0).normal(size=(300, 12))
    matrix[7] = 0
    return write(tmp_path / "s", matrix, counts=8, als=4)


def test_known_answer(tmp_path: Path):
    folder = write(tmp_path / "s", np.array([[3, 4], [6, 8], [4, -3], [0, 0], [5, 0]]), one=1, two=1)
    found = neighbours(open_profiles(folder), [0], 3)[0]
    assert [other.client for other in found] == [10, 40, 20]
    assert [other.cosine for other in found] == pytest.approx([1, 0.6, 0], abs=1e-6)
    assert found[0].blocks == pytest.approx({"one": 0.36, "two": 0.64})
    assert [(shared.name, shared.own, shared.other) for shared in found[0].features] == [
        ("two.c0", 4, 8),
        ("one.c0", 3, 6),
    ]
    assert [shared.name for shared in found[2].features] == ["one.c0"]  # a negative part is nothing in common


def test_parts_add_up_and_the_order_is_that_of_the_slow_definition(
    random_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 17)
    profiles = open_profiles(random_folder)
    matrix = np.load(random_folder / "embeddings.npy").astype(np.float64)
    lengths = np.linalg.norm(matrix, axis=1)
    for client in (0, 50, 2990):
        row = client // 10
        cosines = matrix @ matrix[row] / np.where(lengths > 0, lengths, 1) / lengths[row]
        cosines[row] = -np.inf
        found = neighbours(profiles, [client], 6)[client]
        assert [other.client // 10 for other in found] == np.argsort(-cosines)[:6].tolist()
        for other in found:
            assert other.cosine == pytest.approx(cosines[other.client // 10], abs=1e-5)
            assert sum(other.blocks.values()) == pytest.approx(other.cosine, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    matrix=arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.integers(-3, 3)),
    k=st.integers(1, 15),
)
def test_never_oneself_never_twice_and_as_many_as_there_are(matrix: np.ndarray, k: int):
    norms = np.linalg.norm(matrix, axis=1)
    n = len(matrix)
    profiles = Profiles(np.arange(n), matrix, np.where(norms > 0, norms, 1).astype(np.float32), (), {})
    for row, near in enumerate(exact(profiles, np.arange(n), k)):
        others = np.flatnonzero(norms > 0)
        assert len(near) == len(set(near.tolist())) == min(k, len(others[others != row]))
        assert row not in near and (norms[near] > 0).all()


def test_a_zero_row_is_similar_to_nobody(random_folder: Path):
    profiles = open_profiles(random_folder)
    found = neighbours(profiles, [70, 0], 400)
    assert found[70] == []
    assert len(found[0]) == 298 and 70 not in [other.client for other in found[0]]
    done = CliRunner().invoke(app, ["neighbours", str(random_folder), "70", "0", "-k", "2"])
    assert "client 70\n  no history: its vector is all zeros; no neighbours\nclient 0\n" in done.stdout
    said = json.loads(CliRunner().invoke(app, ["neighbours", str(random_folder), "70", "0", "--json"]).stdout)
    assert said["neighbours"]["70"] == [] and said["without_history"] == ["70"]


def test_an_index_gives_a_zero_row_no_neighbours_either(random_folder: Path, store: Store):
    pytest.importorskip("faiss")
    profiles = open_profiles(random_folder)
    found = neighbours(profiles, [70, 0], 299, index=Index(profiles, random_folder, store))
    assert found[70] == [] and 70 not in [other.client for other in found[0]]


def test_mistakes(random_folder: Path, tmp_path: Path):
    profiles = open_profiles(random_folder)
    with pytest.raises(KitError, match="no client 5 among the 300"):
        neighbours(profiles, [5])
    with pytest.raises(KitError, match="no readable vectors"):
        open_profiles(tmp_path / "none")
    with pytest.raises(KitError, match="ids for"):
        open_profiles(write(tmp_path / "odd", np.ones((3, 2)), np.arange(2)))


def test_a_submission_from_elsewhere_is_one_block(tmp_path: Path):
    profiles = open_profiles(write(tmp_path / "s", np.eye(3)))
    assert (list(profiles.blocks), profiles.names[1]) == (["profile"], "profile.column_1")


@pytest.mark.technique("I1")
def test_the_index_finds_nearly_all_and_is_kept(random_folder: Path, store: Store):
    pytest.importorskip("faiss")
    profiles = open_profiles(random_folder)
    index = Index(profiles, random_folder, store)
    assert recall(profiles, index, 10) > 0.95
    same = neighbours(profiles, [0], 5), neighbours(profiles, [0], 5, index=index)
    assert [n.client for n in same[0][0]] == [n.client for n in same[1][0]]
    made = [record["made"] for record in store.records("neighbours")]
    Index(profiles, random_folder, store)
    assert [record["made"] for record in store.records("neighbours")] == made


@pytest.mark.technique("I1")
def test_recall_notices_a_bad_index(random_folder: Path):
    class Bad:
        def search(self, profiles: Profiles, rows: np.ndarray, k: int) -> list[np.ndarray]:
            good = exact(profiles, rows, 2 * k)
            return [np.concatenate([near[: k // 2], near[-(k // 2) :]]) for near in good]

    assert recall(open_profiles(random_folder), Bad(), 10) == pytest.approx(0.5, abs=0.01)


def test_the_command(random_folder: Path):
    done = CliRunner().invoke(app, ["neighbours", str(random_folder), "0", "10", "-k", "2", "--json"])
    said = json.loads(done.stdout)
    assert list(said["neighbours"]) == ["0", "10"]
    assert set(said["neighbours"]["0"][0]) == {"client", "cosine", "blocks", "features"}
    plain = CliRunner().invoke(app, ["neighbours", str(random_folder), "0", "-k", "1"])
    assert "counts" in plain.stdout
