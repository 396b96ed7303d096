"""Processes that begin in milliseconds and know as little of the kit as new ones: forked from one that has imported the large
libraries (torch alone takes seconds) and nothing of the kit.

`python` and `kit` run code and commands, as `subprocess.run` would; `context` is for whatever starts processes by
`multiprocessing`. What is about the start itself (what is imported when, memory, signals) takes a real start.
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
from multiprocessing.context import ForkServerContext
from pathlib import Path

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


@cache
def context() -> ForkServerContext:
    """The server is started with the first process that is asked for, once per worker of pytest."""
    found = get_context("forkserver")
    found.set_forkserver_preload(list(LIBRARIES))
    return found


def kit(cwd: Path, *arguments: str, path: Path | None = None) -> Done:
    """`python -m kit ARGUMENTS`; see `python`."""
    return python(cwd, "", *arguments, path=path)


def python(
    cwd: Path,
    code: str,
    *arguments: str,
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Done:
    """Run code in `cwd`, or `kit` if there is none.

    Args:
        cwd: the working folder; modules are not looked for there.
        code: Python.
        arguments: of the command line.
        path: folder that modules are looked for in before all others.
        environment: variables beside ours; the kit's own are not set.
        before: is called first, in the process.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "out", Path(folder) / "err"
        job = (cwd, code, arguments, path, dict(environment or {}), before, said)
        process = context().Process(target=_run, args=job)
        process.start()
        process.join()
        assert process.exitcode is not None
        return Done(process.exitcode, *(file.read_text(encoding="utf-8") if file.exists() else "" for file in said))


def _run(
    cwd: Path,
    code: str,
    arguments: tuple[str, ...],
    path: Path | None,
    environment: Mapping[str, str],
    before: Callable[[], None] | None,
    said: tuple[Path, Path],
) -> None:
    for stream, file in zip((1, 2), said, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ.update(environment)
    os.chdir(cwd)
    tests = str(ROOT / "tests")
    places = [place for place in sys.path if place and not place.startswith(tests)]
    sys.path[:] = [*([] if path is None else [str(path)]), str(ROOT), *places]
    sys.argv = ["kit", *arguments]
    if before is not None:
        before()
    assert "kit" not in sys.modules
    if code:
        exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_module("kit", run_name="__main__")
