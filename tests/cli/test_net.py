"""The net under every command: read-only folders, full disks, streams that are closed, full or know no Unicode."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from faults import kit, told

from kit.data.layout import DataFolder

RECIPE = "name = 'mine'\n[blocks.counts]\nkind = 'stats'\nfamilies = ['counts']\n"


@pytest.fixture
def desk(tmp_path: Path, toy: DataFolder) -> Path:
    """A working folder with a split data folder, a recipe and a valid submission, scored by hand."""
    shutil.copytree(toy.root, tmp_path / "data")
    (tmp_path / "mine.toml").write_text(RECIPE)
    made = tmp_path / "submissions" / "mine"
    made.mkdir(parents=True)
    rng = np.random.default_rng(0)
    ids = rng.permutation(toy.clients())
    np.save(made / "client_ids.npy", ids)
    np.save(made / "embeddings.npy", rng.normal(size=(len(ids), 4)).astype(np.float16))
    return tmp_path


def locked(folder: Path, mode: int = 0o555) -> None:
    """Take the right to write from a folder and all that is in it."""
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        path.chmod(mode)


@pytest.mark.parametrize(
    "words",
    [
        ("board",),
        ("status",),
        ("recipe", "check", "mine.toml", "--data", "data"),
        ("validate", "submissions/mine", "--data", "data"),
        ("data", "check", "data"),
        ("doctor",),
    ],
)
def test_who_only_reads_needs_no_folder_that_can_be_written(desk: Path, words: tuple[str, ...]):
    locked(desk)
    try:
        done = kit(*words, cwd=desk)
    finally:
        locked(desk, 0o755)
    if words == ("board",):  # nothing is scored yet, which it says in the usual way
        assert "submission" in told(done)
    else:
        assert done.returncode in (0, 1) and "ermission" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (desk / ".kit").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("submit", "mine.toml", "--data", "data"), "KIT_STORE="),
        (("data", "split", "data"), "data cannot be written"),
        (("score", "submissions/mine", "--data", "data"), "submissions/mine cannot be written"),
        (("features", "build", "mine.toml", "--data", "data", "--out", "f.parquet"), "KIT_STORE="),
    ],
)
def test_who_must_write_says_which_folder_and_what_helps(desk: Path, words: tuple[str, ...], named: str):
    locked(desk)
    try:
        assert named in told(kit(*words, cwd=desk))
    finally:
        locked(desk, 0o755)


def test_a_store_that_is_a_file_or_has_no_name(desk: Path):
    (desk / "plain").write_text("")
    error = told(kit("submit", "mine.toml", "--data", "data", cwd=desk, KIT_STORE="plain"))
    assert "plain is no folder" in error or "plain is there already, and no folder" in error
    assert kit("submit", "mine.toml", "--data", "data", "--dry-run", cwd=desk, KIT_STORE="").returncode == 0
    assert {path.name for path in desk.iterdir()} <= {"data", "mine.toml", "plain", "submissions", ".kit"}
    assert kit("submit", "mine.toml", "--data", "data", "--dry-run", cwd=desk, KIT_STORE="~/kept").returncode == 0
    assert (desk / "kept" / "digests").is_dir() or not (desk / "~").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("data", "synth", "shop", "--preset", "tiny"),
        ("data", "split", "data"),
        ("submit", "mine.toml", "--data", "data"),
        ("features", "build", "mine.toml", "--data", "data", "--out", "f.parquet"),
    ],
)
def test_a_disk_without_room_is_named_and_nothing_else_blamed(desk: Path, words: tuple[str, ...]):
    before = {path: path.read_bytes() for path in (desk / "data").rglob("*") if path.is_file()}
    error = told(kit(*words, cwd=desk, size=4096))
    assert "The size limit for files is reached" in error and "MiB are free on the file system at /" in error
    assert "rows that cannot be read" not in error
    assert all(path.read_bytes() == content for path, content in before.items())
    made = [path for path in desk.iterdir() if path.name not in ("data", "mine.toml", "submissions", ".kit")]
    assert not [path for path in made if not path.name.startswith(".")], made  # nothing under a final name
    assert {path.name for path in (desk / "submissions").iterdir() if not path.name.startswith(".")} == {"mine"}


def test_output_that_goes_nowhere(desk: Path):
    check = ("data", "check", "data", "--json")
    assert "could not be written (No space left on device)" in told(kit(*check, cwd=desk, shell=">/dev/full"))
    gone = kit(*check, cwd=desk, shell="| true; exit ${PIPESTATUS[0]}")
    assert (gone.returncode, gone.stderr) == (141, "")
    helped = kit("--help", cwd=desk, shell="| true; exit ${PIPESTATUS[0]}")
    assert (helped.returncode, helped.stderr) == (141, "")
    closed = kit(*check, cwd=desk, shell=">&- 2>&- <&-")
    assert (closed.returncode, closed.stdout) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("words", [("data", "check", "data"), ("features", "list"), ("data", "stats", "data")])
def test_a_terminal_without_unicode_gets_other_letters(desk: Path, words: tuple[str, ...], encoding: str):
    plain = kit(*words, cwd=desk, PYTHONIOENCODING=encoding)
    usual = kit(*words, cwd=desk, PYTHONIOENCODING="utf-8", COLUMNS="1", TERM="dumb", NO_COLOR="1")
    assert plain.returncode == usual.returncode == 0, plain.stderr
    assert not plain.stderr.count("error")
    if encoding == "ascii":
        assert plain.stdout.isascii()


def test_a_damaged_file_is_named_with_what_helps(desk: Path):
    (desk / "data" / "target" / "split.json").write_text('{"train_start": ')
    error = told(kit("submit", "mine.toml", "--data", "data", cwd=desk))
    assert "split.json" in error


def test_json_on_stdout_stays_whole_beside_noise(desk: Path):
    done = kit("validate", "submissions/mine", "--data", "data", "--json", cwd=desk, shell="2>/dev/full")
    assert json.loads(done.stdout)["ok"] is True
