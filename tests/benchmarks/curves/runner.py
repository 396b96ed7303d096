"""Measure stage after stage, size after size, keeping each result; what stands already is not measured again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from curves.child import Order
from curves.meter import MIB, Watched, watch
from curves.results import Result, Results
from curves.stages import REPOSITORY, STAGES
from kit.progress import say

THREADS: Final = (
    "POLARS_MAX_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how.

    Attributes:
        sizes: numbers of relevant clients, ascending. `stages`: names, in order.
        work: where everything is kept. `folders`: size → existing split shop to use.
        caps: stage → seconds; `` for all others.
        threads, seed: as the words say. `force`: measure again what stands.
        setting: machine, versions, commit: recorded with every result.
    """

    sizes: Sequence[int]
    stages: Sequence[str]
    work: Path
    folders: Mapping[int, Path]
    caps: Mapping[str, float]
    threads: int
    seed: int
    force: bool = False
    setting: Mapping[str, Any] = field(default_factory=dict)

    @property
    def results(self) -> Results:
        """Where the results are."""
        return Results(self.work / "results")

    def cap(self, stage: str) -> float:
        """Seconds that a stage may take."""
        return self.caps.get(stage, self.caps[""])

    def place(self, size: int) -> Path:
        """Folder of one size."""
        return self.work / f"{size}"

    def data(self, size: int) -> Path:
        """The shop of one size."""
        return self.folders.get(size, self.place(size) / "shop")


def measure_all(plan: Plan) -> None:
    """Measure what does not stand yet; a stage whose needs are not there is noted as skipped.

    A result that is measured again makes those that read its output due again as well.
    """
    for size in plan.sizes:
        redone: set[str] = set()
        for name in plan.stages:
            needs_new = redone & set(STAGES[name].needs)
            if not plan.force and not needs_new and plan.results.stands(size, name, plan.cap(name)):
                continue
            result = one(plan, size, name)
            plan.results.write(result)
            if result.state in ("measured", "extrapolated"):
                redone.add(name)
            say(f"  {size:>9,} clients · {name}: {said(result)}")


def one(plan: Plan, size: int, name: str) -> Result:
    """Measure one stage at one size, or say why not."""
    given = size in plan.folders
    if name == "synth" and given:
        return Result(size, name, "skipped", "the folder was given", whole=False)
    for need in STAGES[name].needs:
        known = plan.results.read(size, need)
        if given and need in ("synth", "split"):  # it is split already
            continue
        if known is None or not known.whole:
            why = "has not been measured" if known is None else f"was {known.state}"
            why = "was cut" if known is not None and known.state == "extrapolated" else why
            return Result(size, name, "skipped", f"it needs `{STAGES[need].title}`, which {why}", whole=False)
    order = Order(
        size, name, plan.data(size), plan.place(size), plan.place(size) / "jobs" / name,
        plan.threads, plan.seed, plan.cap(name), time.time(),
    )  # fmt: skip
    return run_child(order, plan.setting)


def run_child(order: Order, setting: Mapping[str, Any]) -> Result:
    """Run a stage in a fresh process and make a result of what is seen from outside and reported from inside."""
    order.job.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "marks.json"):
        (order.job / name).unlink(missing_ok=True)
    load = os.getloadavg()[0]
    order = replace(order, started=time.time())
    log = order.job / "log"
    watched = watch(
        [sys.executable, "-m", "curves.child", str(order.write())], environment(order.threads), log, order.cap
    )
    about = {
        **setting,
        "threads": order.threads,
        "cap_seconds": order.cap,
        "load": round(load, 2),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(order.started)),
        "data": order.data.name,
    }
    result = seen(Result(order.size, order.stage, "measured", setting=about), watched)
    if watched.cut:
        return stopped(result, order)
    if watched.code:
        return replace(result, state="failed", whole=False, note=last_words(log, watched.code))
    report = json.loads((order.job / "report.json").read_text(encoding="utf-8"))
    result = with_io(result, report["io"])
    inner = {name: report[name] for name in ("seconds", "cpu_seconds", "before_mib", "details")}
    result = replace(result, **inner)
    if report["foretold"]:
        seconds, how = report["foretold"]
        part = {"timed part": result.seconds, "CPU seconds of the part": result.cpu_seconds}
        return replace(
            result, state="extrapolated", note=how, seconds=seconds, cpu_seconds=None, details=part | result.details
        )
    return result


def seen(result: Result, watched: Watched) -> Result:
    """A result with what was seen from outside."""
    return with_io(
        replace(
            result,
            cpu_seconds=watched.cpu_seconds,
            spent_seconds=watched.seconds,
            anonymous_mib=watched.anonymous_mib,
            resident_mib=watched.resident_mib,
        ),
        watched.io,
    )


def with_io(result: Result, io: Mapping[str, int]) -> Result:
    """A result with bytes read and written, from names of /proc/PID/io."""
    seen = {name: count / MIB for name, count in io.items()}
    return replace(
        result,
        read_mib=seen.get("rchar", result.read_mib),
        written_mib=seen.get("wchar", result.written_mib),
        disk_read_mib=seen.get("read_bytes", result.disk_read_mib),
        disk_written_mib=seen.get("write_bytes", result.disk_written_mib),
    )


def stopped(result: Result, order: Order) -> Result:
    """A stage that ran into its cap: extrapolated from the share that was done if its steps are alike, else a lower bound."""
    path = order.job / "marks.json"
    marks = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    cap = f"cut after {order.cap / 60:g} min"
    part = replace(result, whole=False, cpu_seconds=None)
    if not marks.get("done"):
        lasted = order.started + order.cap - marks.get("began", order.started)
        return replace(part, state="cut", note=f"{cap}: at least as long", seconds=max(lasted, 0.0))
    seconds = marks["seconds"] * marks["total"] / marks["done"]
    how = f"{cap} with {marks['done']:,} of {marks['total']:,} {marks['unit']} done; the rest at the same pace"
    return replace(part, state="extrapolated", note=how, seconds=seconds)


def environment(threads: int) -> dict[str, str]:
    """For a child: this one's, with `threads` for every library and the benchmark's and the kit's modules at hand."""
    paths = [str(Path(__file__).parents[1]), str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    limits = {name: str(threads) for name in THREADS}
    return {**os.environ, **limits, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def last_words(log: Path, code: int) -> str:
    """Why a process failed: its last line, or the signal that ended it."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if code < 0:
        return f"ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return lines[-1][:300] if lines else f"exit code {code}"


def said(result: Result) -> str:
    """One line on a result."""
    if result.state in ("skipped", "failed"):
        return f"{result.state}: {result.note}"
    memory = "" if result.anonymous_mib is None else f", {result.anonymous_mib:,.0f} MiB"
    return f"{result.state}, {result.seconds or 0:,.2f} s{memory}" + (f" ({result.note})" if result.note else "")


def machine(work: Path) -> dict[str, Any]:
    """Processor, memory, system, versions and commit, and a name for this run."""
    from kit.doctor import look

    facts = look(work)
    return {
        "machine": {
            "processor": processor(),
            "cores": facts.cores,
            "memory_gib": round(facts.memory / 2**30, 1),
            "filesystem": facts.filesystem,
            "device": facts.device,
            "bf16": facts.bf16,
            "system": facts.system,
        },
        "versions": {"python": facts.python, "kit": facts.kit, **{k: v for k, v in facts.libraries.items() if v}},
        "commit": commit(),
        "run": f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}",
    }


def processor() -> str:
    """Its name, as the system gives it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def commit() -> str:
    """Short hash of the checkout, with `+` if tracked files differ from it; `unknown` outside one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
