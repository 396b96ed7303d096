"""Artefacts that know what they were made from: a folder per fingerprint, renamed into place, `DONE` written last.

    ROOT/<stage>/<fingerprint>/…files…  artefact.json  DONE

A fingerprint is the digest of everything that decides the bytes: settings, digests of the inputs, digest of the code. Equal
inputs find the folder and nothing is computed; a killed run leaves only a temporary folder, which the next run removes.
artefact.json also says what does not decide where it lies but explains it: digests of every source file and every file
written, the artefacts it was made from, where the data lay, versions, when and how long.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kit import content, tracking
from kit.content import bytes_digest
from kit.errors import KitError
from kit.progress import say
from kit.trouble import disk_trouble

DEFAULT_ROOT = Path(os.path.expanduser(os.environ.get("KIT_STORE", "").strip() or ".kit"))  # noqa: PTH111 - never fails
"""`.kit` in the working directory unless KIT_STORE names another folder; an empty KIT_STORE names none."""
PACKAGE = Path(__file__).parent
LIBRARIES = ("implicit", "lightgbm", "numpy", "polars", "scikit-learn", "scipy", "torch")
"""Recorded with what they made; an upgrade does not make it stale, but `kit status` says so."""
REMOVAL_TRIES = 20
"""A library's threads may still write into a folder while it is being removed after an interrupt."""


def digest(value: object) -> str:
    """32 hex digits of any JSON-able value; keys are sorted, so the order of a mapping does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def versions() -> dict[str, str]:
    """Installed versions of the libraries that compute."""
    return {name: metadata.version(name) for name in LIBRARIES}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: readers see the old bytes or the new, never half.

    Raises:
        KitError: the disk is full; the temporary file is removed and the old file is untouched. Or `path` is a folder, or
            lies below a file.
    """
    if path.is_dir():
        raise KitError(f"{path} is a folder.", "Name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise KitError(f"{path.parent} is no folder.", "Choose another place.") from error
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # the name that the caller knows
        raise disk_trouble(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Atomically write indented JSON that ends in a newline."""
    text = json.dumps(value, indent=2, default=str) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def remove_tree(folder: Path) -> None:
    """Remove a folder if it is there, also while a library's threads still put files into it."""
    for _ in range(REMOVAL_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


@dataclass(frozen=True)
class Artefact:
    """A finished stage output."""

    folder: Path
    stage: str
    fingerprint: str
    made_now: bool

    def record(self) -> dict[str, Any]:
        """What artefact.json says: inputs, files with sizes, seconds, when."""
        return read_record(self.folder)

    @property
    def key(self) -> str:
        """`stage/fingerprint`: how later artefacts name this one."""
        return f"{self.stage}/{self.fingerprint}"


@dataclass(frozen=True)
class Plan:
    """What an artefact is to be made from.

    Attributes:
        stage: kind of artefact: its folder under the store's root.
        inputs: everything that decides the bytes; their digest is the fingerprint.
        sources: the files behind inputs["code"] and their digests (`Code.files`), to say later which one changed.
        parents: keys of the artefacts it is made from.
        notes: what else helps to explain it, such as where the data lay; decides nothing.
    """

    stage: str
    inputs: Mapping[str, object]
    sources: Mapping[str, str] = field(default_factory=dict)
    parents: Sequence[str] = ()
    notes: Mapping[str, object] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the inputs."""
        return digest(dict(self.inputs))[:16]

    @property
    def key(self) -> str:
        """`stage/fingerprint`."""
        return f"{self.stage}/{self.fingerprint}"


_READ: dict[Path, tuple[str, str]] = {}
"""Files that this process has read: stamp and digest, where the store cannot keep them."""


class Store:
    """All artefacts under one root.

    Args:
        root: the folder; `.kit` in the working directory unless KIT_STORE or the caller says otherwise.
    """

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        self.root = root

    def folder(self, plan: Plan) -> Path:
        """Where the artefact of this plan lies or would lie."""
        return self.root / plan.stage / plan.fingerprint

    def scratch(self, plan: Plan) -> Path:
        """Folder for what a killed run may leave to the next one that wants the same artefact: it is deleted when the artefact
        is whole. Nobody but the holder of the artefact's lock may use it, that is `build`; it need not exist."""
        return _scratch(self.folder(plan))

    def get(self, stage: str, inputs: Mapping[str, object], build: Callable[[Path], None]) -> Artefact:
        """`make` for an artefact that is explained by its inputs alone."""
        return self.make(Plan(stage, inputs), build)

    def make(self, plan: Plan, build: Callable[[Path], None]) -> Artefact:
        """The artefact of `plan`, built by `build(folder)` unless it is fresh.

        Two runs that want the same artefact: the second waits, then finds it. An exception or a kill while building leaves
        nothing behind under the final name.

        Raises:
            KitError: the disk is full.
        """
        made = self._make(plan, build)
        about = {"stage": plan.stage, "key": made.key, "fresh": not made.made_now}
        tracking.log("stage", {"seconds": made.record()["seconds"] if made.made_now else 0.0}, about=about)
        return made

    def _make(self, plan: Plan, build: Callable[[Path], None]) -> Artefact:
        final = self.folder(plan)
        if is_whole(final):
            return Artefact(final, plan.stage, final.name, made_now=False)
        with self.alone(final.with_name(final.name + ".lock"), plan.key):
            if is_whole(final):  # the run that we waited for made it
                return Artefact(final, plan.stage, final.name, made_now=False)
            _build(final, plan, build)
        return Artefact(final, plan.stage, final.name, made_now=True)

    def records(self, stage: str = "*") -> list[dict[str, Any]]:
        """artefact.json of every finished artefact (of one stage), oldest first; `key` and `folder` added."""
        paths = sorted(self.root.glob(f"{stage}/*/artefact.json"), key=lambda path: (path.stat().st_mtime, path))
        return [read_record(path.parent) for path in paths if path.parent.suffix != ".tmp" and is_whole(path.parent)]

    def file_digest(self, path: Path) -> str:
        """Digest of a file's bytes. A second look costs a stat where that cannot lie (see `kit.content`).

        The memory is a convenience: a store that cannot be written, or what is damaged in it, costs the reading and no more.
        """
        place, stamp = path.resolve(), content.stamp(path)
        if _READ.get(place, ("", ""))[0] == stamp:
            return _READ[place][1]
        memory = self.root / "digests" / f"{digest(str(place))[:16]}.json"
        with suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(memory.read_text(encoding="utf-8"))
            if known["stamp"] == stamp:
                return str(known["digest"])
        found = content.read_digest(path)
        if found.lasting:
            _READ[place] = found.stamp, found.digest
            with suppress(OSError, KitError):
                write_json(memory, {"path": str(place), "stamp": found.stamp, "digest": found.digest})
        return found.digest

    def files_digest(self, paths: Iterable[Path]) -> dict[str, str]:
        """name → digest for the files that exist; a missing file is left out, so that its appearance changes the inputs."""
        return {path.name: self.file_digest(path) for path in sorted(paths) if path.exists()}

    def submission_file(self, folder: Path) -> Path:
        """Where the store remembers that a submission's folder uses its artefacts; its lock lies beside."""
        return self.root / "submissions" / f"{digest(str(folder.resolve()))[:16]}.json"

    @contextmanager
    def in_use(self, by: str) -> Iterator[None]:
        """Let nobody delete artefacts of this store meanwhile: `users` names `by` until the end, or the process's death.

        Any number may use a store at a time, so each has a lock of its own, which the system frees when its holder dies.
        """
        note = self.root / "users" / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        lock = note.with_suffix(".lock")
        with ExitStack() as held:
            try:
                lock.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(lock))
                write_json(note, {"by": by})
            except (OSError, KitError) as error:  # whoever only reads needs no folder that can be written
                reason = error.what if isinstance(error, KitError) else error.strerror
                say(f"  {self.root} cannot be written ({reason}): let no `kit clean` run there meanwhile")
            held.callback(_forget, note, lock)
            yield

    def users(self) -> list[str]:
        """Who uses the store at this moment, as they called themselves; what dead ones left is cleared away."""
        found = []
        for note in sorted((self.root / "users").glob("*.json")):
            lock = note.with_suffix(".lock")
            try:
                with FileLock(lock).acquire(timeout=0):
                    note.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
            except Timeout:
                with suppress(FileNotFoundError):  # it ended between the two looks
                    found.append(str(json.loads(note.read_text(encoding="utf-8"))["by"]))
        return found

    @contextmanager
    def alone(self, lock_file: Path, what: str) -> Iterator[None]:
        """Hold a lock; say so if another run holds it, and wait. The system frees it when its holder dies."""
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"  waiting for another run that is making {what} …")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _forget(*files: Path) -> None:
    """Remove files if they are there and can be removed."""
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _scratch(final: Path) -> Path:
    return final.with_name(f"{final.name}.scratch")


def _build(final: Path, plan: Plan, build: Callable[[Path], None]) -> None:
    """Fill a temporary folder, add artefact.json and DONE, rename. The caller holds the lock, so nobody else writes there."""
    temporary = final.with_name(f"{final.name}.tmp")
    for leftover in (temporary, final):  # of a killed or cut-short run
        remove_tree(leftover)
    temporary.mkdir()
    began = time.perf_counter()
    try:
        build(temporary)
        written = [path for path in sorted(temporary.rglob("*")) if path.is_file()]
        files = {str(path.relative_to(temporary)): path.stat().st_size for path in written}
        stamps = {str(path.relative_to(temporary)): content.kept_stamp(path) for path in written}  # before the digests
        record = {
            "stage": plan.stage,
            "fingerprint": final.name,
            "inputs": dict(plan.inputs),
            "parents": list(plan.parents),
            "sources": dict(plan.sources),
            "notes": dict(plan.notes),
            "libraries": versions(),
            "files": files,
            "stamps": stamps,
            "content": {str(path.relative_to(temporary)): bytes_digest(path) for path in written},
            "seconds": round(time.perf_counter() - began, 3),
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        write_json(temporary / "artefact.json", record)
        (temporary / "DONE").write_text(digest(files) + "\n", encoding="utf-8")
        os.replace(temporary, final)
        remove_tree(_scratch(final))
    except Exception as error:
        trouble = disk_trouble(error, final)
        if trouble is error:
            raise
        raise trouble from error
    finally:
        remove_tree(temporary)


def read_record(folder: Path) -> dict[str, Any]:
    """artefact.json of a finished artefact; `key` and `folder` added."""
    record = dict(json.loads((folder / "artefact.json").read_text(encoding="utf-8")))
    return record | {"key": f"{folder.parent.name}/{folder.name}", "folder": str(folder)}


def is_whole(folder: Path) -> bool:
    """Whether DONE is there and every recorded file is as it was written: a truncated or altered one means: make it again.

    Inode, size and times that are still those that were recorded stand in for the bytes. In a store that was copied, or brought
    back from a backup, they are others: then the files are read once and compared with the recorded digests.
    """
    done, record = folder / "DONE", folder / "artefact.json"
    if not done.exists() or not record.exists():
        return False
    try:
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        files: dict[str, int] = found["files"]
        sound = all(_as_written(folder, name, size, found) for name, size in files.items())
    except (ValueError, KeyError):  # a power cut may leave it empty
        return False
    return sound and done.read_text(encoding="utf-8").strip() == digest(files)


def _as_written(folder: Path, name: str, size: int, record: Mapping[str, Any]) -> bool:
    """Whether a file of an artefact is the one that was recorded. Records of older versions have no stamps: the size must do."""
    path = folder / name
    if not path.is_file() or path.stat().st_size != size:
        return False
    if "stamps" not in record or content.kept_stamp(path) == str(record["stamps"][name]):
        return True
    return Store(folder.parent.parent).file_digest(path) == str(record["content"][name])
