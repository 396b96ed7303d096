"""Cost curves: time and peak memory of every stage at several numbers of clients, plotted over them, as HTML and JSON.

    python tests/benchmarks/cost_curves.py --work data/bench [--sizes 10000,100000,1000000]
        [--folder 1000000=data/official] [--stage-minutes 4 --stage-minutes features=12] [--only events --only features]
        [--theirs CHECKOUT --python PYTHON] [--slices 1000,2000,4000] [--threads 2] [--force] [--report-only]

Makes a shop in the official proportions per size (or takes the split folder that is given), runs every stage in a fresh
process, and fits the organisers' feature code on slices, given a checkout of Synerise/recsys2025 and a Python that can run it
(tests/probes/golden/README.md). Each result is kept in WORK/results; a rerun measures only what is missing or was stopped by a
smaller cap than now allowed. WORK/cost_curves.html and .json are written anew after every size. A million clients need about
12 GB of disk beside the shop.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from curves.page import collect, render
from curves.runner import Plan, machine, measure_all
from curves.stages import STAGES
from curves.theirs import measure_slices

from kit.errors import KitError, nearest
from kit.progress import say
from kit.store import write_atomically, write_json

SIZES = "10000,100000,1000000"
SLICES = "1000,2000,4000"
MINUTES = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; returns the exit code: 0, 1 if a stage failed, 2 for a mistake in the call."""
    try:
        return run(parse(arguments))
    except KitError as error:
        print(f"error: {error.what}\n{error.remedy}", file=sys.stderr)
        return 2


def run(given: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    caps = caps_of(given.stage_minutes)
    names = [name for name in STAGES if not given.only or name in given.only]
    plan = Plan(
        sizes=sorted(given.sizes), stages=names, work=given.work, folders=folders_of(given.folder), caps=caps,
        threads=given.threads, seed=given.seed, force=given.force,
        setting={} if given.report_only else machine(given.work),
    )  # fmt: skip
    if not given.report_only:
        for size in plan.sizes:
            one = Plan(**{**plan.__dict__, "sizes": [size]})
            measure_all(one)
            write_report(plan, given.slices)
        if given.theirs is not None:
            measure_slices(plan, given.theirs, given.python, given.slices, slice_source(plan, given.slices))
    failed = write_report(plan, given.slices)
    say(f"  {plan.work / 'cost_curves.html'}")
    return 1 if failed else 0


def write_report(plan: Plan, slices: Sequence[int]) -> bool:
    """HTML and JSON of what stands; returns whether a stage failed."""
    report = collect(plan.results, plan.sizes, slices)
    page = render(report)
    write_atomically(plan.work / "cost_curves.html", lambda path: path.write_text(page, encoding="utf-8"))
    write_json(plan.work / "cost_curves.json", report.as_json())
    return any(result.state == "failed" for row in report.rows for result in row.results)


def slice_source(plan: Plan, slices: Sequence[int]) -> int:
    """Size of the smallest split shop that holds the largest slice."""
    for size in plan.sizes:
        if size >= max(slices) and (plan.data(size) / "target" / "split.json").exists():
            return size
    raise KitError(
        f"No shop here holds {max(slices):,} clients to cut slices from.", "Add a larger --sizes or smaller --slices."
    )


def caps_of(texts: Sequence[str]) -> dict[str, float]:
    """Seconds per stage from `4` and `features=12`."""
    caps = {"": 60 * MINUTES}
    for text in texts:
        name, _, minutes = text.rpartition("=")
        if name and name not in STAGES and not name.startswith("slice-"):
            raise KitError(f"--stage-minutes {text}: there is no stage {name!r};", nearest(name, STAGES))
        try:
            caps[name] = 60 * float(minutes)
        except ValueError as error:
            raise KitError(f"--stage-minutes {text} is no number of minutes.", "Such as 4 or features=12.") from error
    return caps


def folders_of(texts: Sequence[str]) -> dict[int, Path]:
    """Existing shops from `1000000=PATH`."""
    folders = {}
    for text in texts:
        size, _, path = text.partition("=")
        if not size.isdigit() or not (Path(path) / "target").is_dir():
            raise KitError(f"--folder {text} names no split data folder.", "Such as 1000000=data/official.")
        folders[int(size)] = Path(path)
    return folders


def numbers(text: str) -> list[int]:
    """`1000,3000` → [1000, 3000]; underscores may group digits."""
    return sorted({int(part) for part in text.replace(" ", "").split(",")})


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for shops, stores, results and the report")
    parser.add_argument("--sizes", type=numbers, default=numbers(SIZES), help=f"relevant clients; default {SIZES}")
    parser.add_argument("--folder", action="append", default=[], help="SIZE=PATH of a split shop of that size; repeat")
    parser.add_argument("--only", action="append", choices=list(STAGES), help="one stage; repeat for several")
    parser.add_argument("--stage-minutes", action="append", default=[], metavar="[STAGE=]MINUTES",
                        help=f"cap of every stage or of one; repeat; default {MINUTES:g}")  # fmt: skip
    parser.add_argument("--theirs", type=Path, help="a checkout of the organisers' repository")
    parser.add_argument("--python", default=sys.executable, help="a Python that can run it")
    parser.add_argument("--slices", type=numbers, default=numbers(SLICES), help=f"clients per slice; default {SLICES}")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="measure again what stands")
    parser.add_argument("--report-only", action="store_true", help="write the report from what is there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
