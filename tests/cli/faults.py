"""Means to make faults on a plain machine: folders that cannot be written, disks that are full."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fresh import python

ROOT = Path(__file__).parents[2]
DROP = 24
"""prctl's PR_CAPBSET_DROP."""
VERSION = 0x20080522
"""Of what capget and capset read and write: effective, permitted and inheritable capabilities, 32 of them, then the others."""
OVERRIDES = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: with them root writes where nobody may."""


def bound_by_permissions() -> None:
    """In a child before it begins: root is bound by permission bits like everybody, and so is what it starts."""
    if os.geteuid() == 0:
        system = ctypes.CDLL(None)
        header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
        system.capget(header, sets)
        for capability in OVERRIDES:
            system.prctl(DROP, capability, 0, 0, 0)
            sets[0] &= ~(1 << capability)
            sets[1] &= ~(1 << capability)
        system.capset(header, sets)


def short_of_room(size: int) -> None:
    """In a child before it starts: no file may grow past `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _before(size: int | None) -> None:
    bound_by_permissions()
    if size is not None:
        short_of_room(size)


def _environment(cwd: Path) -> dict[str, str]:
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    # the import system would leave half of a module where there is no room
    return known | {"PYTHONDONTWRITEBYTECODE": "1"}


def kit(
    *words: str | Path, cwd: Path, shell: str = "", size: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `kit`, bound by permission bits.

    Args:
        words: of the command line.
        cwd: where it runs.
        shell: redirections, as a shell writes them.
        size: no larger file may be written.
        environment: variables beside the few that a bare environment has.
    """
    if not shell and "PYTHONIOENCODING" not in environment:  # these two are about the start
        own = {"HOME": str(cwd), "OMP_NUM_THREADS": "1"} | environment
        done = python(cwd, "", *map(str, words), environment=own, before=partial(_before, size))
        return subprocess.CompletedProcess(list(map(str, words)), done.returncode, done.stdout, done.stderr)
    call = " ".join(f"'{word}'" for word in (sys.executable, "-m", "kit.cli.main", *words))
    return subprocess.run(
        ["bash", "-c", f"{call} {shell}"],
        cwd=cwd, env=_environment(cwd) | environment, capture_output=True, text=True, errors="surrogateescape", timeout=120,
        check=False, preexec_fn=partial(_before, size),
    )  # fmt: skip


MANY = """
import json, os, sys
from kit.cli.main import app
from kit.cli.net import caught
sys.dont_write_bytecode = True  # the import system would leave half of a module where there is no room
calls, place = json.loads(sys.argv[1]), sys.argv[2]
for number, words in enumerate(calls):
    for stream in (1, 2):
        os.dup2(os.open(f"{place}/{number}.{stream}", os.O_CREAT | os.O_WRONLY), stream)
    sys.argv = ["kit", *words]
    code = caught(app)
    sys.stdout.flush()
    sys.stderr.flush()
    with open(f"{place}/{number}.code", "w") as out:
        out.write(str(code))
"""
"""Runs many commands one after another: to start it takes longer than most of them."""


def kits(
    calls: Sequence[tuple[str, ...]], cwd: Path, size: int | None = None
) -> list[subprocess.CompletedProcess[str]]:
    """What `kit` does for several command lines, in one process; see there."""
    with tempfile.TemporaryDirectory() as place:
        job = (MANY, json.dumps(calls), place)
        done = python(cwd, *job, environment={"OMP_NUM_THREADS": "1", "HOME": str(cwd)}, before=partial(_before, size))
        assert done.returncode == 0, done.stderr

        def held(number: int, what: str) -> str:
            return (Path(place) / f"{number}.{what}").read_text(encoding="utf-8", errors="surrogateescape")

        return [
            subprocess.CompletedProcess(list(call), int(held(at, "code")), held(at, "1"), held(at, "2"))
            for at, call in enumerate(calls)
        ]


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The error that a command ended with, which must be a sentence and a remedy."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and "cannot handle this" not in done.stderr, done.stderr
    lines = done.stderr.rstrip().splitlines()
    assert lines[-2].startswith("error: ") and lines[-1].startswith("       "), done.stderr
    return f"{lines[-2]}\n{lines[-1]}"
