"""Run a command and watch it from outside: time, memory of its whole process tree, bytes read and written.

Anonymous memory and bytes come from /proc and are None elsewhere; resident memory comes from psutil there.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import psutil

Ended: TypeAlias = tuple[int, resource.struct_rusage]
EVERY: Final = 0.02
"""Seconds between two looks at the memory."""
LOOK_FOR_CHILDREN: Final = 0.25
"""Seconds between two searches for child processes: that costs more."""
GRACE: Final = 5.0
"""Seconds that a stopped process gets to end by itself."""
MIB: Final = 2**20
PROC: Final = Path("/proc/self/status").exists()


@dataclass(frozen=True)
class Watched:
    """What was seen of a process and its children.

    Attributes:
        code: exit code; negative for a signal.
        cut: it was stopped because its time was over.
        seconds, cpu_seconds: wall-clock and processor time.
        anonymous_mib, resident_mib: peaks over the tree.
        io: name in /proc/PID/io → bytes, at the last look; empty except on Linux.
    """

    code: int
    cut: bool
    seconds: float
    cpu_seconds: float
    anonymous_mib: float | None
    resident_mib: float
    io: dict[str, int]


def watch(command: list[str], environment: dict[str, str], log: Path, cap: float) -> Watched:
    """Run `command` to its end or until `cap` seconds are over; its output goes to the file `log`.

    It gets a session of its own, so that stopping it stops what it started; Ctrl-C here stops it as well.
    """
    began = time.perf_counter()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    memory, cut, ended = _Memory(process.pid), False, None
    try:
        while ended is None:
            memory.look()
            time.sleep(EVERY)
            ended = _ended(process.pid)
            if ended is None and time.perf_counter() - began > cap:
                cut, ended = True, _stop(process.pid)
    finally:
        status, usage = ended or _stop(process.pid)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Watched(
        code=process.returncode,
        cut=cut,
        seconds=time.perf_counter() - began,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        anonymous_mib=memory.anonymous / MIB if PROC else None,
        resident_mib=memory.resident / MIB,  # not ru_maxrss: it counts what this process held when it forked
        io=memory.io,
    )


def _ended(pid: int) -> Ended | None:
    """Wait status and resource usage (that of its children included) of an ended process, None while it runs."""
    found, status, usage = os.wait4(pid, os.WNOHANG)
    return (status, usage) if found else None


def _stop(pid: int) -> Ended:
    """End a process group: politely, then not."""
    until = time.perf_counter() + GRACE
    os.killpg(pid, signal.SIGTERM)
    while time.perf_counter() < until:
        ended = _ended(pid)
        if ended:
            return ended
        time.sleep(EVERY)
    os.killpg(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return status, usage


class _Memory:
    """Peaks of a process tree."""

    def __init__(self, pid: int) -> None:
        self.pid, self.tree, self.searched = pid, [pid], 0.0
        self.anonymous = self.resident = 0
        self.io: dict[str, int] = {}

    def look(self) -> None:
        """One sample."""
        if time.perf_counter() - self.searched > LOOK_FOR_CHILDREN:
            self.searched = time.perf_counter()
            try:
                below = psutil.Process(self.pid).children(recursive=True)
            except psutil.Error:
                below = []
            self.tree = [self.pid, *(child.pid for child in below)]
            self.io = read_io(self.pid) or self.io
        held = [memory_of(pid) for pid in self.tree]
        self.anonymous = max(self.anonymous, sum(anonymous for anonymous, _ in held))
        highest = int(_fields(Path(f"/proc/{self.pid}/status")).get("VmHWM", "0").split()[0]) * 1024
        self.resident = max(self.resident, highest, sum(resident for _, resident in held))


def memory_of(pid: int | str) -> tuple[int, int]:
    """(anonymous, resident) bytes of a process at this moment; zeros once it is gone, anonymous is 0 except on Linux."""
    if not PROC:
        try:
            return 0, int(psutil.Process(int(pid)).memory_info().rss)
        except psutil.Error:
            return 0, 0
    fields = _fields(Path(f"/proc/{pid}/status"))
    return tuple(int(fields.get(name, "0").split()[0]) * 1024 for name in ("RssAnon", "VmRSS"))  # type: ignore[return-value]


def read_io(pid: int | str) -> dict[str, int]:
    """/proc/PID/io: rchar, wchar, read_bytes, write_bytes …, ended children included; empty if it cannot be read."""
    return {name: int(value) for name, value in _fields(Path(f"/proc/{pid}/io")).items()}


def _fields(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:  # the process is gone, or there is no /proc
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs if value.strip()}
