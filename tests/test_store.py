"""Artefacts: fresh or not and why, atomic, whole after a kill, one builder at a time."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from kit import store as module
from kit.errors import KitError
from kit.store import Store, code_digest, digest, is_whole, write_atomically


def put(text: str):
    return lambda folder: (folder / "out.txt").write_text(text)


def test_built_once_then_found(store: Store):
    calls = []
    build = lambda folder: (calls.append(1), put("a")(folder))  # noqa: E731
    first = store.get("s", {"x": 1, "y": 2}, build)
    again = store.get("s", {"y": 2, "x": 1}, build)
    assert (first.made_now, again.made_now, len(calls)) == (True, False, 1)
    assert (again.folder / "out.txt").read_text() == "a"
    assert again.record()["inputs"] == {"x": 1, "y": 2}


def test_why_not_fresh_names_the_changed_input(store: Store):
    assert store.why_not_fresh("s", {"x": 1}) == "it was never made"
    folder = store.get("s", {"x": 1, "code": "c"}, put("a")).folder
    assert store.why_not_fresh("s", {"x": 1, "code": "c"}) is None
    assert store.why_not_fresh("s", {"x": 1, "code": "d"}) == "changed: code"
    (folder / "out.txt").write_text("")
    assert store.why_not_fresh("s", {"x": 1, "code": "c"}) == "it was cut short or altered"


def test_truncated_file_is_made_again(store: Store):
    folder = store.get("s", {}, put("whole")).folder
    (folder / "out.txt").write_text("who")
    assert not is_whole(folder)
    again = store.get("s", {}, put("whole"))
    assert again.made_now
    assert (again.folder / "out.txt").read_text() == "whole"


def test_failed_build_leaves_nothing(store: Store):
    def fail(folder: Path) -> None:
        put("half")(folder)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.get("s", {}, fail)
    assert [p.name for p in (store.root / "s").iterdir() if p.is_dir()] == []


def test_full_disk_is_said_plainly(store: Store):
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(KitError, match="disk is full"):
        store.get("s", {}, full)
    assert store.get("s", {}, put("later")).made_now


def _build_slowly(root: Path, marker: Path) -> None:
    def build(folder: Path) -> None:
        put("half")(folder)
        marker.touch()
        time.sleep(60)

    Store(root).get("s", {}, build)


def test_kill_9_while_building_then_rerun(store: Store, tmp_path: Path):
    marker = tmp_path / "building"
    child = multiprocessing.get_context("spawn").Process(target=_build_slowly, args=(store.root, marker))
    child.start()
    while not marker.exists():
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not store.folder("s", {}).exists()
    artefact = store.get("s", {}, put("whole"))
    assert (artefact.folder / "out.txt").read_text() == "whole"
    assert [p.name for p in (store.root / "s").iterdir() if p.is_dir()] == [artefact.fingerprint]


def _append(root: Path, log: Path) -> None:
    def build(folder: Path) -> None:
        with log.open("a") as stream:
            stream.write("x")
        time.sleep(0.3)
        put("a")(folder)

    Store(root).get("s", {}, build)


def test_two_runs_at_once_build_once(store: Store, tmp_path: Path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_append, args=(store.root, log)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert log.read_text() == "x"


def test_file_digest_follows_content(store: Store, tmp_path: Path):
    path = tmp_path / "a"
    path.write_text("one")
    one = store.file_digest(path)
    assert store.file_digest(path) == one
    path.write_text("two!")
    assert store.file_digest(path) != one


def test_write_atomically_keeps_the_old_file_on_failure(tmp_path: Path):
    path = tmp_path / "a"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise ValueError

    with pytest.raises(ValueError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_digest_ignores_key_order_and_code_digest_follows_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text("x = 1")
    before = code_digest("room")
    (tmp_path / "room" / "a.py").write_text("x = 2")
    assert code_digest("room") != before
