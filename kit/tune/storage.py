"""Where studies live: a journal file that survives kills and full disks, or any storage URL that Optuna takes.

A journal is a log of one JSON line per operation. Two things can hurt it that Optuna's own file backend does not mend: a line
that was cut short (a kill or a full disk while writing), which would swallow the next line, and a lock that a killed
process never released. Here a torn last line is cut off before the next write, a write that does not fit is taken back, and the
lock is the kernel's, which ends with the process that held it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import optuna
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend

from kit.errors import KitError, nearest
from kit.store import DEFAULT_ROOT
from kit.trouble import disk_trouble

TAIL: Final = 2**20
"""Bytes read at a time when looking for the end of the last whole line."""


class KernelLock:
    """Optuna's lock interface on a lock that the kernel releases when its holder dies.

    Args:
        path: of the lock file; it stays where it is.
    """

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


class Journal(JournalFileBackend):
    """A journal file that never holds half a line for longer than until the next write.

    Args:
        path: the file; made if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            super().__init__(str(path), lock_obj=KernelLock(_beside(path, "write")))  # type: ignore[arg-type]
        except OSError as error:
            raise disk_trouble(error, path) from error
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write whole lines or nothing.

        Raises:
            KitError: the disk is full; the file is as it was before.
        """
        self._lock.acquire()
        try:
            whole = mend(self.path)
            try:
                append_lines(self.path, logs)
            except OSError as error:
                os.truncate(self.path, whole)
                raise disk_trouble(error, self.path) from error
        finally:
            self._lock.release()


def append_lines(path: Path, logs: list[dict[str, Any]]) -> None:
    """Append lines as Optuna writes them, forced to the disk."""
    text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
    with path.open("ab", buffering=0) as stream:
        while text:
            text = text[stream.write(text) :]
        os.fsync(stream.fileno())


def mend(path: Path) -> int:
    """Cut off a last line that does not end; returns the size of what is left, in bytes."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        end = size
        while end:
            start = max(0, end - TAIL)
            stream.seek(start)
            at = stream.read(end - start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
    if end < size:
        os.truncate(path, end)
    return end


@dataclass(frozen=True)
class StudyPlace:
    """Where a study is: a journal file or a storage URL.

    Attributes:
        target: path or URL.
        name: the study's name inside it; None if it is the only one there.
    """

    target: str
    name: str | None = None

    @property
    def is_url(self) -> bool:
        """Whether it is a storage URL (`postgresql+psycopg://…`)."""
        return "://" in self.target

    @property
    def shown(self) -> str:
        """For messages: a URL without its password."""
        head, _, tail = self.target.rpartition("@")
        return f"{head.split('://')[0]}://…@{tail}" if head and self.is_url else self.target

    def storage(self) -> optuna.storages.BaseStorage:
        """Open it.

        Raises:
            KitError: no such database, driver or server; or the journal cannot be read.
        """
        if not self.is_url:
            return _journal(Path(self.target))
        try:
            return optuna.storages.RDBStorage(self.target, skip_compatibility_check=False)
        except Exception as error:  # SQLAlchemy, the driver and Optuna raise their own kinds
            raise KitError(
                f"The storage {self.shown} cannot be opened: {_first_line(error)}.",
                "Check the URL and the server; PostgreSQL needs a driver: pip install 'kit[tune-postgres]'.",
            ) from error


def find_place(study: str | None, name: str) -> StudyPlace:
    """Where `--study` points: a path, a URL, a bare name under .kit/tune/, or by default .kit/tune/NAME.journal."""
    if study is None:
        return StudyPlace(str(DEFAULT_ROOT / "tune" / f"{name}.journal"), name)
    if "://" in study:
        return StudyPlace(study, name)
    path = Path(study)
    bare = path.name == study and path.suffix != ".journal" and not path.is_file()
    return StudyPlace(str(DEFAULT_ROOT / "tune" / f"{study}.journal") if bare else study, name)


def open_existing(study: str, name: str | None = None) -> tuple[optuna.Study, StudyPlace]:
    """The study that `kit tune status|best|report STUDY` names.

    Raises:
        KitError: it does not exist (names what does), or the storage holds several and `name` does not say which.
    """
    place = find_place(study, "")
    if not place.is_url and not Path(place.target).is_file():
        beside = sorted(path.stem for path in (DEFAULT_ROOT / "tune").glob("*.journal"))
        raise KitError(f"There is no study {study!r};", nearest(Path(study).stem, beside))
    storage = place.storage()
    names = optuna.study.get_all_study_names(storage)
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        said = f"no study {name!r}" if name else f"{len(names)} studies"
        raise KitError(f"{place.shown} holds {said};", f"give --name: {nearest(name or '', names)}")
    found = StudyPlace(place.target, name)
    return optuna.load_study(study_name=name, storage=storage), found


@contextmanager
def study_lock(place: StudyPlace, purpose: str) -> Iterator[None]:
    """One process at a time, on all machines of a study; a holder that dies loses the lock.

    Args:
        place: journal file, SQLite or PostgreSQL.
        purpose: locks of different purposes do not wait for each other.

    Raises:
        KitError: a database that no such lock is known for.
    """
    if not place.is_url:
        with FileLock(_beside(Path(place.target), purpose)):
            yield
        return
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.pool import NullPool

    url = make_url(place.target)
    kind = url.get_backend_name()
    if kind == "sqlite":
        with FileLock(_beside(Path(url.database or "study"), purpose)):
            yield
    elif kind == "postgresql":
        key = int.from_bytes(hashlib.blake2b(f"{place.name}|{purpose}".encode(), digest_size=7).digest())
        with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
    else:
        raise KitError(
            f"A study in {kind} cannot be shared safely: no lock is known for it.",
            "Use a journal file, sqlite:/// or postgresql+psycopg://.",
        )


def causes(error: BaseException | None) -> list[Exception]:
    """An error and what led to it, latest first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return [item for item in chain if isinstance(item, Exception)]


def is_full(error: BaseException) -> bool:
    """Whether a full disk is behind an error."""
    return any(disk_trouble(cause, Path()) is not cause for cause in causes(error))


def _journal(path: Path) -> optuna.storages.JournalStorage:
    backend = Journal(path)
    try:
        return optuna.storages.JournalStorage(backend)
    except (ValueError, KeyError, AssertionError, UnicodeDecodeError) as error:
        stamp = time.strftime("%Y-%m-%d")
        raise KitError(
            f"{path} is no journal of a study ({_first_line(error)}).",
            f"Give another --study, or put this file aside (mv {path} {path}.{stamp}).",
        ) from error


def _beside(path: Path, purpose: str) -> Path:
    return path.with_name(f".{path.name}.{purpose}.lock")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
