"""Processes that begin in milliseconds and know as little of the kit as new ones: forked from one that has imported the large
libraries (torch alone takes seconds) and nothing of the kit.

`python` and `kit` run code and commands as `subprocess.run` would, `start` as `Popen`; `context` is for whatever starts processes
by `multiprocessing`. What is about the start itself (what is imported when, memory) takes a real start.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
LIBRARIES = (
    "torch._dynamo",
    "lightning_fabric.strategies.ddp",
    "lightgbm",
    "optuna",
    "plotly.graph_objects",
    "schedulefree",
    "scipy.stats",
    "sklearn.linear_model",
    "typer.rich_utils",
    "pydantic",
    "jinja2",
)
"""Without Polars: it starts threads when it is imported, which a fork would not have."""
UNSET = ("KIT_PLUGINS", "KIT_PLUGIN_PATH", "KIT_STORE")


@dataclass(frozen=True)
class Done:
    """As subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


class Running:
    """A process that was started.

    Attributes:
        pid: of the process.
        stderr: what it says there, as it comes.
    """

    def __init__(self, process: ForkServerProcess, out: IO[bytes], stderr: IO[str]) -> None:
        self._process, self._out, self.stderr = process, out, stderr
        assert process.pid is not None
        self.pid = process.pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def finish(self) -> Done:
        """Wait for its end."""
        with self.stderr, self._out:
            said = self.stderr.read()
            self._process.join()
            assert self._process.exitcode is not None
            self._out.seek(0)
            return Done(self._process.exitcode, self._out.read().decode("utf-8", "surrogateescape"), said)


@cache
def context() -> ForkServerContext:
    """The server is started with the first process that is asked for, once per worker of pytest."""
    found = get_context("forkserver")
    found.set_forkserver_preload(list(LIBRARIES))
    return found


def kit(cwd: Path, *arguments: str, path: Path | None = None) -> Done:
    """`python -m kit ARGUMENTS`; see `start`."""
    return start(cwd, "", *arguments, path=path).finish()


def python(cwd: Path, code: str, *arguments: str, **options: Any) -> Done:
    """Run code to its end; see `start`."""
    return start(cwd, code, *arguments, **options).finish()


def start(
    cwd: Path,
    code: str,
    *arguments: str,
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Running:
    """Start a process in `cwd` that runs code, or `kit` if there is none.

    Args:
        cwd: the working folder; modules are not looked for there.
        code: Python.
        arguments: of the command line.
        path: folder that modules are looked for in before all others.
        environment: variables beside ours; the kit's own are not set.
        before: is called first, in the process.
    """
    out = tempfile.TemporaryFile()  # noqa: SIM115 - `finish` closes it
    read, write = os.pipe()
    said = Connection(os.dup(out.fileno()), readable=False), Connection(write, readable=False)
    job = (cwd, code, arguments, path, dict(environment or {}), before, said)
    process = context().Process(target=_run, args=job)
    process.start()
    for end in said:
        end.close()
    return Running(process, out, os.fdopen(read, encoding="utf-8", errors="surrogateescape"))


def _run(
    cwd: Path,
    code: str,
    arguments: tuple[str, ...],
    path: Path | None,
    environment: Mapping[str, str],
    before: Callable[[], None] | None,
    said: tuple[Connection, Connection],
) -> None:
    for stream, end in zip((1, 2), said, strict=True):
        os.dup2(end.fileno(), stream)
        end.close()
    # those of the server believe that they are where its own went
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ.update(environment)
    os.chdir(cwd)
    tests = str(ROOT / "tests")
    places = [place for place in sys.path if place and not place.startswith(tests)]
    sys.path[:] = [*([] if path is None else [str(path)]), str(ROOT), *places]
    sys.argv = ["kit", *arguments]
    assert "kit" not in sys.modules
    if before is not None:
        before()
    if code:
        exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_module("kit", run_name="__main__")
