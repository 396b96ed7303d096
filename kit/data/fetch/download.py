"""One file over HTTP, whatever the server does: what has arrived is kept as `.part` and never thrown away without need.

A server with range support is asked for the rest. One without sends everything again: what is on disk already is compared
instead of written, so the file only ever grows, and a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import urllib3
from filelock import FileLock, Timeout

from kit.errors import KitError
from kit.progress import say

CHUNK = 1 << 20


@dataclass(frozen=True)
class Patience:
    """How long to go on.

    Attributes:
        attempts: in a row without a new byte before giving up; any progress starts the count anew.
        first_wait: seconds before the second attempt, doubled each time.
        longest_wait: seconds at most.
        timeouts: seconds to connect, and between two bytes.
        sleep: waits; tests replace it.
    """

    attempts: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    timeouts: tuple[float, float] = (15.0, 60.0)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def pause(self, failures: int, asked: float = 0.0) -> float:
        """Wait after so many failures in a row, at least as long as the server asked; returns the seconds."""
        seconds = min(self.longest_wait, max(asked, self.first_wait * 2.0 ** max(0, failures - 1)))
        self.sleep(seconds)
        return seconds


class _Retry(Exception):
    """An attempt that failed in a way that may pass. `wait`: seconds the server asked for."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


def download(
    url: str, target: Path, size: int | None = None, sha256: str | None = None, patience: Patience | None = None
) -> Path:
    """Bring `url` to `target`; a file that is there already is kept if size and checksum are right, as far as they are known.

    Args:
        url: http(s) address.
        target: where the whole, verified file goes; until then `target` + `.part` grows.
        size: bytes it must have; None to trust the server.
        sha256: hex digest it must have; None if unknown.
        patience: how often to try.

    Raises:
        KitError: the server gives up on us, offers another size, the checksum is wrong, or another run is downloading it.
    """
    if target.exists() and (size is None or target.stat().st_size == size):
        if sha256 is None or _sha256(target) == sha256:
            return target
        say(f"  {target} has the right size and other bytes than were published: it is downloaded again")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        with FileLock(str(part) + ".lock", timeout=0), requests.Session() as session:
            _fill(session, url, part, size, patience or Patience())
            _verify(part, size, sha256)
            os.replace(part, target)
    except Timeout as error:
        raise KitError(f"Another run is downloading {target.name}.", "Wait for it, or stop it first.") from error
    for leftover in (".lock", ".etag"):
        Path(str(part) + leftover).unlink(missing_ok=True)
    return target


def _fill(session: requests.Session, url: str, part: Path, size: int | None, patience: Patience) -> None:
    """Attempts until `part` is whole."""
    failures, most = 0, _length(part)
    while True:
        try:
            _attempt(session, url, part, size, patience)
            return
        except (_Retry, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failures = 0 if _length(part) > most else failures + 1
            most = max(most, _length(part))  # starting anew is no progress until it gets further than ever before
            if failures >= patience.attempts:
                raise KitError(
                    f"{url} could not be downloaded: {_plainly(error)} ({failures} attempts without a new byte).",
                    f"Run the same command later: {_length(part):,} bytes are kept in {part} and will be continued.",
                ) from error
            waited = patience.pause(failures, getattr(error, "wait", 0.0))
            say(f"  {_plainly(error)}; {_length(part):,} bytes are kept; trying again after {waited:.0f} s")


def _attempt(session: requests.Session, url: str, part: Path, size: int | None, patience: Patience) -> None:
    """One request; returns when the file is whole, raises _Retry or RequestException when it is not."""
    have = _length(part)
    if size is not None and have == size:
        return
    if size is not None and have > size:
        part.unlink()
        have = 0
    tag = part.with_name(part.name + ".etag")
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    if have and tag.exists():
        headers["If-Range"] = tag.read_text(encoding="ascii")  # a file replaced meanwhile comes whole instead
    with session.get(url, headers=headers, stream=True, timeout=patience.timeouts) as response:
        if response.status_code == 416:  # nothing lies beyond what we have: whole, or not of this file
            if size is None and _total(response) == have:
                return
            part.unlink(missing_ok=True)
            raise _Retry("the server has nothing beyond what was kept, starting anew")
        if response.status_code not in (200, 206):
            raise _Retry(f"the server answered {response.status_code} {response.reason}", _asked_wait(response))
        resumed = response.status_code == 206
        if resumed and _first(response) != have:
            part.unlink(missing_ok=True)
            raise _Retry("the server sent another range than asked for, starting anew")
        total = _total(response)
        if size is not None and total is not None and total != size:
            raise KitError(
                f"{url} has {total:,} bytes; {size:,} are known to be right.",
                "The file was replaced, or this is no mirror of it: check the address, or accept it with --unverified.",
            )
        if response.headers.get("ETag", "").startswith('"'):
            tag.write_text(response.headers["ETag"], encoding="ascii")
        _receive(response, part, have if resumed else 0)
    got, wanted = _length(part), size if size is not None else total
    if wanted is not None and got < wanted:
        raise _Retry(f"the connection ended after {got:,} of {wanted:,} bytes")
    if wanted is not None and got > wanted:
        part.unlink()
        raise _Retry(f"{got:,} bytes came where {wanted:,} were promised, starting anew")


def _receive(response: requests.Response, part: Path, place: int) -> None:
    """Write the body from byte `place` on. Bytes that are on disk already are compared; from the first that differs on, they
    are replaced."""
    said = time.monotonic()
    with part.open("r+b" if part.exists() else "w+b") as stream:
        have = stream.seek(0, os.SEEK_END)
        stream.seek(place)
        for chunk in _chunks(response):
            known = chunk[: max(0, have - place)]
            if known and stream.read(len(known)) != known:
                have = place
                stream.seek(place)
                stream.truncate()
                known = b""
            stream.write(chunk[len(known) :])
            place += len(chunk)
            if time.monotonic() - said > 5:
                said = time.monotonic()
                total = _total(response)
                say(f"  {place:,} bytes" + (f" of {total:,} ({place / total:.0%})" if total else ""))


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """Whatever has arrived, as it arrives: `iter_content` would drop the bytes of a chunk that a broken connection cut short."""
    while chunk := response.raw.read1(CHUNK, decode_content=False):
        yield chunk


def _total(response: requests.Response) -> int | None:
    """Bytes of the whole file as the server says: from Content-Range, else Content-Length of a whole answer."""
    _, _, total = response.headers.get("Content-Range", "").rpartition("/")
    if total.isdigit():
        return int(total)
    length = response.headers.get("Content-Length", "")
    return int(length) if response.status_code == 200 and length.isdigit() else None


def _first(response: requests.Response) -> int:
    """First byte of a partial answer; −1 if it does not say."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _asked_wait(response: requests.Response) -> float:
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0


def _plainly(error: Exception) -> str:
    """An exception in a few words: requests nests the reason several levels deep."""
    if isinstance(error, _Retry):
        return str(error)
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "the server did not answer in time"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection broke"
    inner: Any = error
    while inner.args and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    return f"there is no connection ({getattr(inner, 'reason', None) or inner})"


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _verify(part: Path, size: int | None, sha256: str | None) -> None:
    """KitError unless size and checksum are right; a wrong file is removed, since going on from it can never succeed."""
    if size is not None and _length(part) != size:
        raise KitError(f"{part} has {_length(part):,} bytes, not {size:,}.", "Run the command again.")
    if sha256 is None:
        return
    found = _sha256(part)
    if found != sha256:
        part.unlink()
        raise KitError(
            f"{part.stem} arrived damaged: its sha256 is {found}, not {sha256}. It was removed.",
            "Run the command again; if it stays so, the publisher replaced the file: --unverified accepts it.",
        )
