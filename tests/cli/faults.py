"""Means to make faults on a plain machine: folders that cannot be written, disks that are full."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DROP = 24
"""prctl's PR_CAPBSET_DROP."""
OVERRIDES = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: with them root writes where nobody may."""


def bound_by_permissions() -> None:
    """In a child before it starts: root is bound by permission bits like everybody."""
    if os.geteuid() == 0:
        for capability in OVERRIDES:
            ctypes.CDLL(None).prctl(DROP, capability, 0, 0, 0)


def short_of_room(size: int) -> None:
    """In a child before it starts: no file may grow past `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


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
    call = " ".join(f"'{word}'" for word in (sys.executable, "-m", "kit.cli.main", *words))
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    known["PYTHONDONTWRITEBYTECODE"] = "1"  # the import system would leave half of a module where there is no room

    def before() -> None:
        bound_by_permissions()
        if size is not None:
            short_of_room(size)

    return subprocess.run(
        ["bash", "-c", f"{call} {shell}"],
        cwd=cwd, env=known | environment, capture_output=True, text=True, errors="surrogateescape", timeout=120,
        check=False, preexec_fn=before,
    )  # fmt: skip


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The error that a command ended with, which must be a sentence and a remedy."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and "cannot handle this" not in done.stderr, done.stderr
    lines = done.stderr.rstrip().splitlines()
    assert lines[-2].startswith("error: ") and lines[-1].startswith("       "), done.stderr
    return f"{lines[-2]}\n{lines[-1]}"
