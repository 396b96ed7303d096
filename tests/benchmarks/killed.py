"""A submission that is killed with kill -9 again and again, and what its next call finds, at any size.

    python tests/benchmarks/killed.py RECIPE --data DIR --work DIR [--memory-limit 12GB] [--threads 2]
        [--kill "start+20" --kill "block stats+60" …] [--probe fast --kill-score "start+60"] [--compare]

Runs `kit submit RECIPE --data DIR` in WORK, with a store of its own there. Each --kill is a regular expression and seconds: the
whole process group gets SIGKILL so long after the first line that matches; then the same command is called again and the next
--kill applies, until a call ends by itself. `start+5` means five seconds after the call. With --probe `kit score` follows, killed
by --kill-score in the same way. Prints a line per call: how long it ran, its peak of anonymous memory, what it said last; every
line of every call is in WORK/killed.log with its second. --compare builds once more in a fresh store, undisturbed, and compares
the vectors' bytes. Exit 1 if a call failed by itself or the bytes differ.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).parent))

import psutil
from curves.meter import memory_of

from kit.scoring.results import vectors_digest

EVERY = 0.2
"""Seconds between two looks at the memory."""
START = "start"


@dataclass
class Call:
    """One call of a command.

    Attributes:
        seconds: until it ended or was killed. `code`: exit code, −9 if it was killed. `lines`: (second, line) of its output.
        peak: most anonymous bytes of it and its children. `deadline`: the second at which it is to be killed.
    """

    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    code: int | None = None
    lines: list[tuple[float, str]] = field(default_factory=list)
    peak: int = 0
    deadline: float = float("inf")


@dataclass(frozen=True)
class Kill:
    """SIGKILL `after` seconds after the first line that matches `pattern`."""

    pattern: str
    after: float

    @classmethod
    def of(cls, text: str) -> Kill:
        """`PATTERN+SECONDS`; argparse says so if it is not."""
        pattern, _, after = text.rpartition("+")
        try:
            re.compile(pattern)
            return cls(pattern, float(after))
        except (re.error, ValueError) as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN+SECONDS ({error})") from error


def call(command: list[str], kill: Kill | None, work: Path, threads: int) -> Call:
    """Run the command in `work` until it ends or is killed."""
    seen = Call()
    if kill is not None and kill.pattern == START:
        seen.deadline = kill.after
    environment = os.environ | {"KIT_STORE": ".kit", "PYTHONUNBUFFERED": "1", "POLARS_MAX_THREADS": str(threads)}
    process = subprocess.Popen(
        command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    reader = threading.Thread(target=_read, args=(process.stdout, seen, kill, work / "killed.log"), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            seen.peak = max(seen.peak, _held(process.pid))
            if time.perf_counter() - seen.began > seen.deadline:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(EVERY)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    seen.code, seen.seconds = process.wait(), time.perf_counter() - seen.began
    reader.join()
    return seen


def _read(stream: IO[str] | None, seen: Call, kill: Kill | None, log: Path) -> None:
    with log.open("a", encoding="utf-8", buffering=1) as lines:
        for line in stream or ():
            now = time.perf_counter() - seen.began
            seen.lines.append((now, line.rstrip()))
            lines.write(f"{now:9.1f}  {line.rstrip()}\n")
            if kill is not None and seen.deadline == float("inf") and re.search(kill.pattern, line):
                seen.deadline = now + kill.after


def _held(pid: int) -> int:
    try:
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return 0
    return sum(memory_of(one)[0] for one in tree)


def run(name: str, command: list[str], kills: list[Kill], given: argparse.Namespace) -> bool:
    """Call the command until it ends by itself; returns whether it ended well."""
    left = list(kills)
    while True:
        kill = left.pop(0) if left else None
        seen = call(command, kill, given.work, given.threads)
        last = next((line.strip() for _, line in reversed(seen.lines) if line.strip()), "nothing said yet")
        killed = seen.code == -signal.SIGKILL and kill is not None
        how = f"killed {kill.after:g} s after `{kill.pattern}`" if killed and kill else f"exit {seen.code}"
        told = f"{name}: {seen.seconds:8.1f} s, {seen.peak / 2**30:5.2f} GiB, {how}"
        print(f"{told}; last line: {last[:100]}", flush=True)
        with (given.work / "killed.log").open("a", encoding="utf-8") as log:
            log.write(f"# {told}\n")
        if not killed:
            for missed in [kill, *left] if kill is not None else []:
                print(f"{name}: `{missed.pattern}` did not come", flush=True)
            return seen.code == 0


def main() -> int:
    """Kill, call again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kill", type=Kill.of, action="append", default=[], metavar="PATTERN+SECONDS")
    parser.add_argument("--kill-score", type=Kill.of, action="append", default=[], metavar="PATTERN+SECONDS")
    parser.add_argument("--probe", help="score with it afterwards")
    parser.add_argument("--memory-limit", default="12GB")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--compare", action="store_true", help="build again undisturbed and compare the vectors")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    data, kit = str(given.data.resolve()), [sys.executable, "-m", "kit"]
    submit = [
        *kit, "submit", str(given.recipe.resolve()), "--data", data, "--memory-limit", given.memory_limit,
        "--threads", str(given.threads), "--out",
    ]  # fmt: skip
    good = run("submit", [*submit, "killed"], given.kill, given)
    if good and given.probe:
        score = [*kit, "score", "killed", "--data", data, "--probe", given.probe, "--threads", str(given.threads)]
        good = run("score", score, given.kill_score, given)
    if good and given.compare:
        other = argparse.Namespace(**vars(given) | {"work": given.work / "undisturbed"})
        other.work.mkdir(exist_ok=True)
        good = run("undisturbed", [*submit, "whole"], [], other)
        same = good and vectors_digest(given.work / "killed") == vectors_digest(other.work / "whole")
        print("the vectors are " + ("equal bit by bit" if same else "NOT equal"))
        return 0 if same else 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
