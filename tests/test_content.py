"""A file's digest follows its bytes whatever its times say, and is not computed again where nothing can have changed."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kit import content
from kit.store import Store

OLD = 1_500_000_000 * 10**9


def oracle(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def write(path: Path, text: str) -> Path:
    """A file with the modification time that all files here have."""
    path.write_text(text)
    os.utime(path, ns=(OLD, OLD))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Stamps may be trusted after a moment, on whatever file system the test runs."""
    monkeypatch.setattr(content, "MARGIN", 0.05)
    monkeypatch.setattr(content, "file_system", lambda folder: "ext4")
    return lambda: time.sleep(0.1)


def in_place(path: Path) -> None:
    write(path, "two")


def appended_and_cut(path: Path) -> None:
    with path.open("r+") as stream:
        stream.write("twox")
        stream.truncate(3)
    os.utime(path, ns=(OLD, OLD))


def renamed_over(path: Path) -> None:
    os.replace(write(path.with_name("other"), "two"), path)


def copied_over(path: Path) -> None:
    subprocess.run(["cp", "-p", write(path.with_name("other"), "two"), path], check=True)


def hard_link(path: Path) -> None:
    other = write(path.with_name("other"), "two")
    path.unlink()
    path.hardlink_to(other)


def through_a_hard_link(path: Path) -> None:
    path.with_name("other").hardlink_to(path)
    write(path.with_name("other"), "two")


def symlink(path: Path) -> None:
    other = write(path.with_name("other"), "two")
    path.unlink()
    path.symlink_to(other)


def folder_exchanged(path: Path) -> None:
    other = path.parent.with_name("other")
    other.mkdir()
    write(other / path.name, "two")
    path.parent.rename(path.parent.with_name("gone"))
    other.rename(path.parent)


def from_an_archive(path: Path) -> None:
    write(path, "two")
    with tarfile.open(path.with_name("t.tar"), "w") as archive:
        archive.add(path, path.name)
    write(path, "one")
    with tarfile.open(path.with_name("t.tar")) as archive:
        archive.extractall(path.parent, filter="data")


def deleted_and_made_again(path: Path) -> None:
    path.unlink()
    write(path, "two")


def mapped(path: Path) -> None:
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 3) as view:
        view[:] = b"two"
    os.utime(path, ns=(OLD, OLD))


EXCHANGES = [
    in_place, appended_and_cut, renamed_over, copied_over, hard_link, through_a_hard_link, symlink, folder_exchanged,
    from_an_archive, deleted_and_made_again, mapped,
]  # fmt: skip


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("remembered", [True, False])
def test_other_bytes_of_the_same_size_and_time_have_another_digest(
    store: Store, tmp_path: Path, settled: Callable[[], None], exchange: Callable[[Path], None], remembered: bool
):
    (tmp_path / "data").mkdir()
    path = write(tmp_path / "data" / "a", "one")
    if remembered:
        settled()
    assert store.file_digest(path) == oracle(path)
    exchange(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (3, OLD) and path.read_text() == "two"
    assert store.file_digest(path) == oracle(path)


@pytest.mark.parametrize("keep", [True, False], ids=["in the store", "in the process"])
def test_what_was_read_is_not_read_again(
    store: Store, tmp_path: Path, settled: Callable[[], None], monkeypatch: pytest.MonkeyPatch, keep: bool
):
    path = write(tmp_path / "a", "one")
    settled()
    first = store.file_digest(path)
    monkeypatch.setattr(content, "read_digest", None)  # calling it fails
    if keep:
        monkeypatch.setattr("kit.store._READ", {})
    else:
        shutil.rmtree(store.root)
    assert store.file_digest(path) == first == oracle(path)


def test_a_file_that_was_changed_a_moment_ago_is_read_again(store: Store, tmp_path: Path):
    path = write(tmp_path / "a", "one")
    assert not content.read_digest(path).lasting
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 3) as view:
        view[:] = b"two"
        assert store.file_digest(path) == oracle(path)
        before = content.stamp(path)
        view[:] = b"six"  # the page is writable already: the system does not notice
        assert content.stamp(path) == before
        assert store.file_digest(path) == hashlib.blake2b(b"six", digest_size=16).hexdigest()


def test_a_file_system_without_a_true_ctime_is_read_each_time(
    store: Store, tmp_path: Path, settled: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path / "a", "one")
    settled()
    assert content.read_digest(path).lasting
    for kind in ("nfs4", "fuse.sshfs", "vfat", "tmpfs", ""):
        monkeypatch.setattr(content, "file_system", lambda folder, kind=kind: kind)
        assert not content.read_digest(path).lasting
    store.file_digest(path)
    assert not (store.root / "digests").exists()


def test_a_clock_set_back_makes_nothing_old(
    tmp_path: Path, settled: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path / "a", "one")
    settled()
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns - 10**12)
    assert not content.read_digest(path).lasting


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, settled: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path / "a", "one")
    settled()
    read = content._digest

    def meanwhile(stream):
        found = read(stream)
        in_place(path)
        return found

    monkeypatch.setattr(content, "_digest", meanwhile)
    assert not content.read_digest(path).lasting


@pytest.mark.parametrize("memory", ["", "{", "[]", "null", '{"stamp": 1}', '{"key": "a|3|0", "digest": "old"}'])
def test_a_damaged_memory_costs_the_reading(
    store: Store, tmp_path: Path, settled: Callable[[], None], monkeypatch: pytest.MonkeyPatch, memory: str
):
    path = write(tmp_path / "a", "one")
    settled()
    store.file_digest(path)
    monkeypatch.setattr("kit.store._READ", {})
    (kept,) = (store.root / "digests").iterdir()
    kept.write_text(memory)
    assert store.file_digest(path) == oracle(path)


def test_a_store_that_cannot_be_written_costs_the_memory_only(tmp_path: Path, settled: Callable[[], None]):
    path = write(tmp_path / "a", "one")
    (tmp_path / "store").write_text("a file")
    settled()
    assert Store(tmp_path / "store").file_digest(path) == oracle(path)


def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount(monkeypatch: pytest.MonkeyPatch):
    class Mount:
        def __init__(self, mountpoint: str, fstype: str) -> None:
            self.mountpoint, self.fstype = mountpoint, fstype

    mounts = [Mount("/", "ext4"), Mount("/data", "nfs4"), Mount("/data/fast", "xfs"), Mount("/data", "vfat")]
    monkeypatch.setattr(content.psutil, "disk_partitions", lambda all: mounts)
    content.file_system.cache_clear()
    try:
        kinds = [content.file_system(Path(path)) for path in ("/database", "/data/x", "/data/fast/x", "/")]
    finally:
        content.file_system.cache_clear()
    assert kinds == ["ext4", "vfat", "xfs", "ext4"]
