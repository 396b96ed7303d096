"""Artefacts: fresh or not and why, atomic, whole after a kill, one builder at a time."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from kit import store as module
from kit.content import bytes_digest
from kit.errors import KitError
from kit.lineage import stage_state
from kit.store import Artefact, Plan, Store, digest, is_whole, write_atomically
from kit.trouble import disk_trouble


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


def state(store: Store, **inputs):
    found = stage_state(store, Plan("s", inputs), "s", None, ())
    return found.state.value, found.reasons


def test_state_names_what_changed(store: Store):
    assert state(store, x=1) == ("missing", ("it was never made",))
    folder = store.get("s", {"x": 1, "code": "c", "set": {"a": [1], "b": 2}}, put("a")).folder
    assert state(store, x=1, code="c", set={"a": [1], "b": 2}) == ("fresh", ())
    assert state(store, x=1, code="d", set={"a": [1], "b": 2}) == ("stale", ("code: changed",))
    assert state(store, x=1, code="c", set={"a": [1, 2]}) == ("stale", ("set.a: [1] → [1, 2]", "set.b: gone"))
    (folder / "out.txt").write_text("")
    assert state(store, x=1, code="c", set={"a": [1], "b": 2}) == ("stale", ("it was cut short or altered",))


def test_state_compares_with_the_nearest_and_not_with_what_others_use(store: Store):
    near = Artefact.key.fget(store.get("s", {"x": 1, "y": 1, "z": 1}, put("near")))
    store.get("s", {"x": 9, "y": 9, "z": 9}, put("newest"))
    wanted = Plan("s", {"x": 2, "y": 1, "z": 1})
    assert stage_state(store, wanted, "s", None, ()).reasons == ("x: 1 → 2",)
    assert len(stage_state(store, wanted, "s", None, {near}).reasons) == 3
    far = Plan("s", {"x": 9, "y": 9, "z": 9}).key
    assert len(stage_state(store, wanted, "s", far, ()).reasons) == 3  # what the submission was made from comes first


def test_changed_source_files_are_named(store: Store):
    before, now = {"kit/a.py": "1", "kit/b.py": "1"}, {"kit/a.py": "2", "kit/c.py": "1"}
    store.make(Plan("s", {"code": "old"}, before), put("a"))
    assert stage_state(store, Plan("s", {"code": "new"}, now), "s", None, ()).reasons == (
        "code: kit/a.py edited, kit/c.py new, kit/b.py gone",
    )


def test_an_upgraded_library_is_mentioned(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "versions", lambda: {"numpy": "1.0"})
    store.get("s", {}, put("a"))
    monkeypatch.setattr("kit.lineage.versions", lambda: {"numpy": "2.0"})
    assert state(store) == ("fresh", ("made with numpy 1.0, here 2.0",))


def test_record_holds_digests_of_what_was_written(store: Store):
    record = store.get("s", {}, put("a")).record()
    assert record["content"] == {"out.txt": bytes_digest(store.root / record["key"] / "out.txt")}
    assert set(record["libraries"]) == set(module.LIBRARIES)


def test_truncated_file_is_made_again(store: Store):
    folder = store.get("s", {}, put("whole")).folder
    (folder / "out.txt").write_text("who")
    assert not is_whole(folder)
    again = store.get("s", {}, put("whole"))
    assert again.made_now
    assert (again.folder / "out.txt").read_text() == "whole"


def test_altered_bytes_of_the_same_size_and_time_are_made_again(store: Store):
    folder = store.get("s", {}, put("whole")).folder
    path = folder / "out.txt"
    before = path.stat()
    path.write_text("other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_whole(folder)
    again = store.get("s", {}, put("whole"))
    assert again.made_now and (again.folder / "out.txt").read_text() == "whole"


def test_a_copied_or_touched_store_is_still_whole(store: Store, tmp_path: Path):
    folder = store.get("s", {}, put("whole")).folder
    os.utime(folder / "out.txt", ns=(0, 0))
    assert is_whole(folder)
    copy = Store(Path(shutil.copytree(store.root, tmp_path / "copy")))
    assert not copy.get("s", {}, put("whole")).made_now
    (copy.root / "s" / folder.name / "out.txt").write_text("other")
    assert copy.get("s", {}, put("whole")).made_now


def test_a_record_of_an_older_version_goes_by_the_size(store: Store):
    folder = store.get("s", {}, put("whole")).folder
    record = json.loads((folder / "artefact.json").read_text())
    del record["stamps"]
    (folder / "artefact.json").write_text(json.dumps(record))
    (folder / "out.txt").write_text("other")
    assert is_whole(folder)
    (folder / "out.txt").write_text("longer")
    assert not is_whole(folder)


def test_an_empty_record_is_made_again(store: Store):
    folder = store.get("s", {}, put("a")).folder
    (folder / "artefact.json").write_text("")  # as a power cut may leave it
    assert not is_whole(folder)
    assert store.get("s", {}, put("a")).made_now


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


@pytest.mark.parametrize(
    ("error", "plain"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError("1056768 requested and 0 written"), True),  # NumPy
        (RuntimeError("No space left on device (os error 28)"), True),  # Polars
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("something else"), False),
    ],
)
def test_every_form_of_a_full_disk_is_known(tmp_path: Path, error: Exception, plain: bool):
    assert isinstance(disk_trouble(error, tmp_path / "not" / "there"), KitError) == plain


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
    assert not store.folder(Plan("s", {})).exists()
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


def test_digest_ignores_key_order():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
