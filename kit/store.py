"""Artefacts that know what they were made from: a folder per fingerprint, renamed into place, `DONE` written last.

    ROOT/<stage>/<fingerprint>/…files…  artefact.json  DONE

A fingerprint is the digest of everything that decides the bytes: settings, digests of the inputs, digest of the code. Equal
inputs find the folder and nothing is computed; a killed run leaves only a temporary folder, which the next run removes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kit.errors import KitError
from kit.progress import say

DEFAULT_ROOT = Path(os.environ.get("KIT_STORE", ".kit"))
PACKAGE = Path(__file__).parent


def digest(value: object) -> str:
    """32 hex digits of any JSON-able value; keys are sorted, so the order of a mapping does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def code_digest(*parts: str) -> str:
    """Digest of the package's own sources: each part is a file or folder under kit/ («history.py», «features»)."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in sorted(parts):
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            hasher.update(str(file.relative_to(PACKAGE)).encode() + b"\0" + file.read_bytes() + b"\0")
    return hasher.hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: readers see the old bytes or the new, never half.

    Raises:
        KitError: the disk is full; the temporary file is removed and the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _full_disk(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Atomically write indented JSON that ends in a newline."""
    text = json.dumps(value, indent=2, default=str) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _full_disk(error: OSError, path: Path) -> Exception:
    if error.errno == errno.ENOSPC:
        free = shutil.disk_usage(path.parent).free / 2**20
        return KitError(
            f"The disk is full ({free:.0f} MiB left) while writing {path}.",
            "Free some space and run the same command: finished stages are kept.",
        )
    return error


@dataclass(frozen=True)
class Artefact:
    """A finished stage output."""

    folder: Path
    stage: str
    fingerprint: str
    made_now: bool

    def record(self) -> dict[str, Any]:
        """What artefact.json says: inputs, files with sizes, seconds, when."""
        return dict(json.loads((self.folder / "artefact.json").read_text(encoding="utf-8")))


class Store:
    """All artefacts under one root.

    Args:
        root: the folder; `.kit` in the working directory unless KIT_STORE or the caller says otherwise.
    """

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        self.root = root

    def folder(self, stage: str, inputs: Mapping[str, object]) -> Path:
        """Where the artefact of these inputs lies or would lie."""
        return self.root / stage / digest(dict(inputs))[:16]

    def get(self, stage: str, inputs: Mapping[str, object], build: Callable[[Path], None]) -> Artefact:
        """The artefact of `inputs`, built by `build(folder)` unless it is fresh.

        Two runs that want the same artefact: the second waits, then finds it. An exception or a kill while building leaves
        nothing behind under the final name.
        """
        final = self.folder(stage, inputs)
        if is_whole(final):
            return Artefact(final, stage, final.name, made_now=False)
        with self._lock(final):
            if is_whole(final):  # the run that we waited for made it
                return Artefact(final, stage, final.name, made_now=False)
            self._build(final, stage, inputs, build)
        return Artefact(final, stage, final.name, made_now=True)

    def why_not_fresh(self, stage: str, inputs: Mapping[str, object]) -> str | None:
        """None if fresh, else the reason: never made, cut short, or which inputs differ from the newest one made."""
        final = self.folder(stage, inputs)
        if is_whole(final):
            return None
        if final.exists():
            return "it was cut short or altered"
        others = sorted((self.root / stage).glob("*/artefact.json"), key=lambda path: path.stat().st_mtime)
        if not others:
            return "it was never made"
        before = json.loads(others[-1].read_text(encoding="utf-8"))["inputs"]
        now = json.loads(json.dumps(dict(inputs), default=str))
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        return f"changed: {', '.join(changed)}"

    def file_digest(self, path: Path) -> str:
        """Digest of a file's bytes, remembered by path, size and modification time: a second look costs a stat."""
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        memory = self.root / "digests" / f"{digest(str(path.resolve()))[:16]}.json"
        if memory.exists():
            known = json.loads(memory.read_text(encoding="utf-8"))
            if known.get("key") == key:
                return str(known["digest"])
        with path.open("rb") as stream:
            value = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        write_json(memory, {"key": key, "digest": value})
        return value

    def files_digest(self, paths: Iterable[Path]) -> dict[str, str]:
        """name → digest for the files that exist; a missing file is left out, so that its appearance changes the inputs."""
        return {path.name: self.file_digest(path) for path in sorted(paths) if path.exists()}

    @contextmanager
    def _lock(self, final: Path) -> Iterator[None]:
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(final.with_name(final.name + ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"  waiting for another run that is making {final.parent.name}/{final.name} …")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _build(self, final: Path, stage: str, inputs: Mapping[str, object], build: Callable[[Path], None]) -> None:
        temporary = final.with_name(f"{final.name}.tmp")
        for leftover in (temporary, final):  # of a killed or cut-short run: we hold the lock, so nobody writes there
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        began = time.perf_counter()
        try:
            build(temporary)
            files = {
                str(p.relative_to(temporary)): p.stat().st_size for p in sorted(temporary.rglob("*")) if p.is_file()
            }
            record = {
                "stage": stage,
                "fingerprint": final.name,
                "inputs": dict(inputs),
                "files": files,
                "seconds": round(time.perf_counter() - began, 3),
                "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
            write_json(temporary / "artefact.json", record)
            (temporary / "DONE").write_text(digest(files) + "\n", encoding="utf-8")
            os.replace(temporary, final)
        except OSError as error:
            raise _full_disk(error, final) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def is_whole(folder: Path) -> bool:
    """Whether DONE is there and every recorded file has its recorded size (a truncated file means: make it again)."""
    done, record = folder / "DONE", folder / "artefact.json"
    if not done.exists() or not record.exists():
        return False
    files: dict[str, int] = json.loads(record.read_text(encoding="utf-8"))["files"]
    sound = all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in files.items())
    return sound and done.read_text(encoding="utf-8").strip() == digest(files)
