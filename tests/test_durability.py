"""A submission that is killed, interrupted, out of room or run twice at once: nothing half-written, same bytes in the end."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import fresh
import pytest
from fresh import Running

from kit.data.layout import DataFolder
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission import submit

PLAN = {
    "name": "s",
    "blocks": {
        "counts": {"kind": "stats", "families": ["counts", "gaps"], "scale": "quantile"},
        "als": {"kind": "als", "items": "category", "factors": 4},
    },
}
TOML = """name = "s"
[blocks.counts]
kind = "stats"
families = ["counts", "gaps"]
scale = "quantile"
[blocks.als]
kind = "als"
items = "category"
factors = 4
"""


STEPS = """
import os, sys
from kit.cli.main import main

at, sys.argv = int(sys.argv[1]), ["kit", *sys.argv[2:]]
here, seen = os.getcwd(), 0


def step(event, args):
    global seen
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir") and not isinstance(args[0], int):
        reads = event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not reads and os.path.abspath(os.fsdecode(args[0])).startswith(here):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), 9)


sys.addaudithook(step)
try:
    main()
finally:
    print(seen, file=sys.stderr)
"""
"""Runs the kit and kills it at its n-th write to the file system (0: never); says how many there were."""


def start(root: Path, data: DataFolder, before: Callable[[], None] | None = None) -> Running:
    (root / "s.toml").write_text(TOML)
    words = ("submit", "s.toml", "--data", str(data.root))
    return fresh.start(root, "", *words, environment={"KIT_STORE": ".kit"}, before=before)


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.suffix in (".tmp", ".old")]


def vectors(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("client_ids.npy", "embeddings.npy", "columns.json")}


@pytest.fixture(scope="module")
def undisturbed(toy: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("undisturbed")
    submit(parse(Recipe, PLAN, "test"), toy.root, root / "s", store=Store(root / "store"))
    return vectors(root / "s")


def run_again(root: Path, data: DataFolder) -> dict[str, bytes]:
    """The same command once more, in this process: it finds what the one before left. What it has written."""
    submit(parse(Recipe, PLAN, "test"), data.root, root / "submissions" / "s", store=Store(root / ".kit"))
    return vectors(root / "submissions" / "s")


def kill_at_step(root: Path, data: DataFolder, step: int) -> tuple[int, str]:
    (root / "s.toml").write_text(TOML)
    words = (str(step), "submit", "s.toml", "--data", str(data.root))
    done = fresh.python(root, STEPS, *words, environment={"KIT_STORE": ".kit"})
    return done.returncode, done.stderr


def test_kill_9_at_random_steps_then_rerun(toy: DataFolder, tmp_path: Path, undisturbed: dict[str, bytes]):
    """Killed at a random one of its writes: before and after opening, renaming, removing; the last ones are the swap."""
    (tmp_path / "whole").mkdir()
    code, said = kill_at_step(tmp_path / "whole", toy, 0)
    assert code == 0, said
    steps = int(said.split()[-1])
    rng = random.Random(1)
    for back in (0, rng.randrange(1, 8), rng.randrange(8, 30)):
        root = tmp_path / f"back-{back}"
        root.mkdir()
        assert kill_at_step(root, toy, steps - back)[0] == -signal.SIGKILL
        assert not (root / "submissions" / "s").exists()
        assert run_again(root, toy) == undisturbed
        assert [path.name for path in root.rglob("*.tmp") if path.is_dir()] == []


def test_kill_9_at_random_moments_then_rerun(toy: DataFolder, tmp_path: Path, undisturbed: dict[str, bytes]):
    """Each run is killed a random while after a random line of its progress; none leaves anything under a final name."""
    rng = random.Random(0)
    for _ in range(3):
        lines = 5 * (not any(tmp_path.glob(".kit/events/*/DONE"))) + 2 - len(list(tmp_path.glob(".kit/block-*/*/DONE")))
        process = start(tmp_path, toy)
        for _ in range(rng.randrange(1, max(lines, 1) + 1)):  # five event tables, two blocks, less those that are there
            process.stderr.readline()
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.finish()
        whole = tmp_path / "submissions" / "s"
        assert not whole.exists() or vectors(whole) == undisturbed
        for folder in tmp_path.glob(".kit/*/*/"):
            assert folder.suffix == ".tmp" or (folder / "DONE").exists()
    done = start(tmp_path, toy).finish()
    assert done.returncode == 0, done.stderr
    assert vectors(tmp_path / "submissions" / "s") == undisturbed
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_runs_say_so_and_tidy_up(toy: DataFolder, tmp_path: Path, number: signal.Signals):
    process = start(tmp_path, toy)
    process.stderr.readline()
    process.send_signal(number)
    done = process.finish()
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr.rstrip().endswith("the same command goes on from there")
    assert "Traceback" not in done.stderr
    assert leftovers(tmp_path) == []


def test_no_room_to_write(toy: DataFolder, tmp_path: Path, undisturbed: dict[str, bytes]):
    """A limit on file sizes, which the event tables do not fit."""
    limit = 2_000
    done = start(tmp_path, toy, partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))).finish()
    assert done.returncode == 2, done.stderr
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(tmp_path) == []
    assert run_again(tmp_path, toy) == undisturbed


def test_two_runs_on_one_folder(toy: DataFolder, tmp_path: Path, undisturbed: dict[str, bytes]):
    both = [process.finish() for process in [start(tmp_path, toy), start(tmp_path, toy)]]
    assert [done.returncode for done in both] == [0, 0]
    assert sorted("fresh already" in done.stdout for done in both) == [False, True]
    assert vectors(tmp_path / "submissions" / "s") == undisturbed


def test_a_kill_between_the_two_renames_of_a_swap(toy: DataFolder, tmp_path: Path, undisturbed: dict[str, bytes]):
    """The old submission has been moved aside, the new one is not in place: the next run puts it back."""
    store, out = Store(tmp_path / "store"), tmp_path / "s"
    plan = parse(Recipe, PLAN, "test")
    submit(plan, toy.root, out, store=store)
    (out / "scores.json").write_text("{}")
    out.rename(tmp_path / ".s.old")
    assert not submit(plan, toy.root, out, store=store)  # fresh again, nothing to build
    assert vectors(out) == undisturbed
    assert (out / "scores.json").exists()
    assert leftovers(tmp_path) == []
