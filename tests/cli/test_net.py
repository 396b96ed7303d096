"""The net under every command: read-only folders, full disks, streams that are closed, full or know no Unicode."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from faults import kit, kits, told

from kit.data.layout import DataFolder

RECIPE = "name = 'mine'\n[blocks.counts]\nkind = 'stats'\nfamilies = ['counts']\n"

MAPPING = """
about = "A log."
[files.log]
path = "buys.csv"
[log]
client = "user"
item = "item"
time = { column = "time" }
[tables.product_buy]
[products]
name = ["item"]
"""


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, toy: DataFolder) -> Path:
    """A working folder with a split data folder, a recipe and two valid submissions that are scored on one task."""
    root = tmp_path_factory.mktemp("desk")
    shutil.copytree(toy.root, root / "data")
    (root / "mine.toml").write_text(RECIPE)
    made, rng, ids = root / "submissions" / "other", np.random.default_rng(0), toy.clients()
    made.mkdir(parents=True)
    np.save(made / "client_ids.npy", rng.permutation(ids))
    np.save(made / "embeddings.npy", rng.normal(size=(len(ids), 4)).astype(np.float16))
    calls: list[tuple[str, ...]] = [("submit", "mine.toml", "--data", "data")]
    for name in ("mine", "other"):
        calls.append(("score", f"submissions/{name}", "--data", "data", "--task", "conversion", "--quiet"))
    for done in kits(calls, root):
        assert done.returncode == 0, done.stderr
    shutil.rmtree(root / ".kit")
    return root


@pytest.fixture
def desk(tmp_path: Path, scored: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(scored, tmp_path / "desk")


def write_log(desk: Path, rows: int = 50) -> None:
    """A shop's own log with a mapping, for `kit data convert`."""
    (desk / "log").mkdir()
    lines = [f"{1 + row % 7},2022-06-{1 + row % 28:02d} 10:00:00,{100 + row}" for row in range(rows)]
    (desk / "log" / "buys.csv").write_text("\n".join(["user,time,item", *lines]))
    (desk / "map.toml").write_text(MAPPING)


def locked(folder: Path, mode: int = 0o555) -> None:
    """Take the right to write from a folder and all that is in it."""
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        path.chmod(mode)


READS = (
    ("board",),
    ("status",),
    ("recipe", "check", "mine.toml", "--data", "data"),
    ("validate", "submissions/mine", "--data", "data"),
    ("data", "check", "data"),
    ("doctor",),
    ("compare", "submissions/mine", "submissions/other"),
    ("report", "submissions/mine", "--data", "data", "--format", "markdown"),
    ("explain", "submissions/mine"),
    ("score", "submissions/mine", "--data", "data", "--task", "conversion"),
)
WRITES = {
    ("submit", "mine.toml", "--data", "data"): "KIT_STORE=",
    ("data", "split", "data"): "data cannot be written",
    ("score", "submissions/mine", "--data", "data", "--task", "churn"): "submissions/mine cannot be written",
    ("features", "build", "mine.toml", "--data", "data", "--out", "f.parquet"): "KIT_STORE=",
    ("report", "submissions/mine", "--data", "data"): "submissions/mine",
    ("init", "shop"): "shop",
    ("data", "synth", "shop", "--preset", "tiny"): "shop",
    ("data", "convert", "map.toml", "log", "shop"): "shop",
}
"""Commands, and which folder or remedy they name."""


def test_who_only_reads_needs_no_folder_that_can_be_written(desk: Path):
    locked(desk)
    try:
        found = dict(zip(READS, kits(READS, desk), strict=True))
    finally:
        locked(desk, 0o755)
    for words, done in found.items():
        assert done.returncode in (0, 1) and "error:" not in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr, (words, done.stderr)
    assert "mine" in found["board",].stdout and "other" in found["board",].stdout
    assert "conversion" in found[READS[-1]].stdout and "conversion" in found[READS[6]].stdout
    assert not (desk / ".kit").exists()


def test_who_must_write_says_which_folder_and_what_helps(desk: Path):
    write_log(desk)
    locked(desk)
    try:
        found = dict(zip(WRITES, kits(list(WRITES), desk), strict=True))
    finally:
        locked(desk, 0o755)
    for words, named in WRITES.items():
        assert named in told(found[words]), words
    assert not (desk / "shop").exists()


def test_a_store_that_is_a_file_or_has_no_name(desk: Path):
    (desk / "plain").write_text("")
    error = told(kit("submit", "mine.toml", "--data", "data", cwd=desk, KIT_STORE="plain"))
    assert "plain is no folder" in error or "plain is there already, and no folder" in error
    assert kit("submit", "mine.toml", "--data", "data", "--dry-run", cwd=desk, KIT_STORE="").returncode == 0
    assert {path.name for path in desk.iterdir()} <= {"data", "mine.toml", "plain", "submissions", ".kit"}
    assert kit("submit", "mine.toml", "--data", "data", "--dry-run", cwd=desk, KIT_STORE="~/kept").returncode == 0
    assert (desk / "kept" / "digests").is_dir() or not (desk / "~").exists()


def test_a_disk_without_room_is_named_and_nothing_else_blamed(desk: Path):
    write_log(desk, rows=3000)
    kept = ("data", "submissions/mine", "submissions/other")
    before = {path: path.read_bytes() for name in kept for path in (desk / name).rglob("*") if path.is_file()}
    there = {path.name for path in desk.iterdir()}
    calls = [
        ("data", "synth", "shop", "--preset", "tiny"),
        ("data", "split", "data"),
        ("data", "convert", "map.toml", "log", "shop"),
        ("submit", "mine.toml", "--data", "data", "--name", "third"),
        ("features", "build", "mine.toml", "--data", "data", "--out", "f.parquet"),
        ("score", "submissions/mine", "--data", "data"),
        ("report", "submissions/mine", "--data", "data"),
    ]
    for words, done in zip(calls, kits(calls, desk, size=4096), strict=True):
        error = told(done)
        assert "The size limit for files is reached" in error and "allows 0.00 MiB in a file" in error, (words, error)
        assert "rows that cannot be read" not in error, (words, error)
    assert all(path.read_bytes() == content for path, content in before.items())
    made = {path.name for path in desk.iterdir()} - there
    assert not {name for name in made if not name.startswith(".")}, made  # nothing under a final name
    assert {path.name for path in (desk / "submissions").iterdir() if not path.name.startswith(".")} == {
        "mine",
        "other",
    }


def test_output_that_goes_nowhere(desk: Path):
    check = ("data", "check", "data", "--json")
    assert "could not be written (No space left on device)" in told(kit(*check, cwd=desk, shell=">/dev/full"))
    gone = kit(*check, cwd=desk, shell="| true; exit ${PIPESTATUS[0]}")
    assert (gone.returncode, gone.stderr) == (141, "")
    helped = kit("--help", cwd=desk, shell="| true; exit ${PIPESTATUS[0]}")
    assert (helped.returncode, helped.stderr) == (141, "")
    closed = kit(*check, cwd=desk, shell=">&- 2>&- <&-")
    assert (closed.returncode, closed.stdout) == (0, "")


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        (("data", "check", "data"), "ascii"),
        (("features", "list"), "ascii"),
        (("features", "list"), "latin-1"),
        (("data", "stats", "data"), "latin-1"),
    ],
)
def test_a_terminal_without_unicode_gets_other_letters(desk: Path, words: tuple[str, ...], encoding: str):
    plain = kit(*words, cwd=desk, PYTHONIOENCODING=encoding)
    assert plain.returncode == 0, plain.stderr
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
