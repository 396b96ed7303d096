"""The board: Borda by hand, ties, and probabilities of ranks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from typer.testing import CliRunner

from kit.cli.main import app
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.scoring.board import as_markdown, borda, comparable, rank, submissions_on
from kit.scoring.results import vectors_digest
from kit.store import write_json
from kit.tasks.labels import targets_digest


def test_borda_by_hand():
    # two tasks, three submissions: ranks (1, 2, 3) and (3, 1, 2) → points 2 + 0, 1 + 2, 0 + 1
    scores = np.array([[0.9, 0.8, 0.7], [0.1, 0.3, 0.2]])
    assert borda(scores).tolist() == [2, 3, 1]


def test_ties_share_their_points():
    assert borda(np.array([[0.5, 0.5, 0.1]])).tolist() == [1.5, 1.5, 0]


def submission(root: Path, name: str, scores: dict[str, float], spread: float, seed: int = 0) -> Path:
    folder = root / name
    folder.mkdir()
    entries = {task: {"score": score, "novelty": None, "auroc": score} for task, score in scores.items()}
    np.save(folder / "client_ids.npy", np.arange(500))
    report = {"data": "d", "targets": "t", "fingerprint": "f", "vectors": vectors_digest(folder), "tasks": entries}
    write_json(folder / "scores.json", {"fast": report})
    rng = np.random.default_rng(seed)
    arrays = {task: rng.normal(0, spread / 500**0.5, 500).astype(np.float32) for task in scores}
    ids = {f"{task}-clients": np.arange(500) for task in scores}
    np.savez(folder / "influence-fast.npz", fingerprint=np.array("f"), **arrays, **ids)
    return folder


def test_a_clear_winner_is_surely_first_and_equals_are_not(tmp_path: Path):
    tasks = ("churn", "conversion", "propensity_sku")
    clear = submission(tmp_path, "clear", dict.fromkeys(tasks, 0.9), 0.01, 1)
    one = submission(tmp_path, "one", dict.fromkeys(tasks, 0.6), 0.01, 2)
    two = submission(tmp_path, "two", dict.fromkeys(tasks, 0.6001), 0.01, 3)
    rows = rank([one, two, clear], "fast")
    assert [row.name for row in rows] == ["clear", "two", "one"]
    assert rows[0].rank_chances[0] == 1
    assert 0.2 < rows[1].rank_chances[1] < 0.8
    assert sum(rows[1].rank_chances) == pytest.approx(1, abs=1e-3)
    assert as_markdown(rows).splitlines()[2].startswith("| 1 | clear | 0.9000")


def test_unscored_submissions_are_said(tmp_path: Path):
    with pytest.raises(KitError, match="No submission"):
        rank([], "fast")
    (tmp_path / "empty").mkdir()
    with pytest.raises(KitError, match="has not been scored with the gbm probe"):
        rank([tmp_path / "empty"], "gbm")


def test_the_chance_of_a_rank_is_from_one_draw_of_all_tasks(tmp_path: Path):
    """Three tasks that rest on the same clients' luck are won or lost together: .73, not the .82 of two wins in three draws."""
    tasks, rng = ("churn", "conversion", "propensity_sku"), np.random.default_rng(0)
    luck = rng.normal(size=500).astype(np.float32)
    luck *= 0.01 / np.linalg.norm(luck)
    folders = []
    for name, ahead, own in (("ahead", 0.006, luck), ("behind", 0.0, 0 * luck)):
        folder = submission(tmp_path, name, dict.fromkeys(tasks, 0.7 + ahead), 0.01)
        ids = {f"{task}-clients": np.arange(500) for task in tasks}
        np.savez(folder / "influence-fast.npz", fingerprint=np.array("f"), **dict.fromkeys(tasks, own), **ids)
        folders.append(folder)
    (chance,) = (row.rank_chances[0] for row in rank(folders, "fast") if row.name == "ahead")
    assert chance == pytest.approx(norm.cdf(0.6), abs=0.03)


def test_scores_on_targets_that_a_folder_no_longer_has_are_not_on_its_board(toy: DataFolder, tmp_path: Path):
    for name, targets in (("a-first", "before"), ("b-second", "between"), ("now", targets_digest(toy))):
        path = submission(tmp_path, name, {"churn": 0.7}, 0.01) / "scores.json"
        report = json.loads(path.read_text())["fast"]
        write_json(path, {"fast": report | {"data": str(toy.root), "targets": targets}})
    found = {path.name: place for path, place in submissions_on(tmp_path, toy.root, "fast").items()}
    assert found == {
        "a-first": f"{toy.root} (targets before)",
        "b-second": f"{toy.root} (targets betwee)",
        "now": str(toy.root),
    }


def test_boards_go_by_the_target_files_and_leave_out_what_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("a", "b", "c", "stale", "undefined"):
        submission(tmp_path, name, {"churn": 0.7}, 0.01)
    change(tmp_path / "b", data="./elsewhere")  # the same targets under another path
    change(tmp_path / "c", targets="made anew")  # the same path, other targets
    np.save(tmp_path / "stale" / "client_ids.npy", np.arange(7))
    change(tmp_path / "undefined", tasks={"churn": {"score": None, "undefined": "not defined here"}})
    found = {path.name: place for path, place in submissions_on(tmp_path, None, "fast").items()}
    assert found == {"a": "d", "b": "d", "c": "d (targets made a)"}
    assert "left out: The vectors of" in capsys.readouterr().err


def test_one_pair_without_a_task_in_common_leaves_the_others_on_the_board(tmp_path: Path):
    both = [submission(tmp_path, name, {"churn": 0.7, "conversion": 0.6}, 0.01) for name in "ab"]
    odd = submission(tmp_path, "odd", {"propensity_sku": 0.8}, 0.01)
    half = submission(tmp_path, "half", {"churn": 0.75}, 0.01)
    kept, absent = comparable([*both, odd], "fast")
    assert kept == both
    assert absent == {"odd": "it was scored on propensity_sku only, the others on churn and conversion"}
    kept, absent = comparable([*both, odd, half], "fast")
    assert kept == [*both, half] and list(absent) == ["odd"], "the largest set, though it has fewer tasks in common"
    assert comparable([], "fast") == ([], {})
    with pytest.raises(KitError, match=r"share no scored task \(a: churn, conversion; odd: propensity_sku\)"):
        rank([both[0], odd], "fast")


def test_the_command_ranks_what_can_be_ranked_and_names_the_rest(tmp_path: Path):
    for name in "ab":
        submission(tmp_path, name, {"churn": 0.7}, 0.01)
        change(tmp_path / name, precision="fp32", code="c", seeds=1)
    submission(tmp_path, "odd", {"propensity_sku": 0.8}, 0.01)
    submission(tmp_path, "broken", {"churn": 0.7}, 0.01)
    (tmp_path / "broken" / "scores.json").write_text("{")
    submission(tmp_path, "shapeless", {"churn": 0.7}, 0.01)
    (tmp_path / "shapeless" / "scores.json").write_text('{"fast": {"data": "d"}}')
    submission(tmp_path, "stale", {"churn": 0.9}, 0.01)
    np.save(tmp_path / "stale" / "client_ids.npy", np.arange(500)[::-1])
    done = CliRunner().invoke(app, ["board", "--submissions", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    assert [row["name"] for row in found["rows"]] == ["a", "b"]
    why = {row["name"]: row["why"] for row in found["left_out"]}
    assert set(why) == {"odd", "broken", "shapeless", "stale"}
    assert "scored on propensity_sku only, the others on churn" in why["odd"]
    assert "is not JSON" in why["broken"] and "are not those that the fast probe scored" in why["stale"]
    for name in why:
        assert f"left out: {name}: " in done.stderr


def change(folder: Path, **fields: object) -> None:
    content = json.loads((folder / "scores.json").read_text())
    content["fast"] |= fields
    write_json(folder / "scores.json", content)
