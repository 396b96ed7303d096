"""The organisers' own feature code beside ours, on the same slices of a shop, one after the other in one run.

Theirs is run unmodified: `python -m baseline.aggregated_features_baseline.create_embeddings` from a checkout of
Synerise/recsys2025, with a Python that has pandas, pyarrow and tqdm. Times are those of whole processes, starting and
importing included, so the line through them has these in its base and the cost of a client in its slope.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from curves.child import Order
from curves.meter import watch
from curves.results import Line, Result, Results
from curves.runner import Plan, environment, last_words, run_child, said, seen
from curves.shops import cut_slice
from curves.stages import SLICES
from kit.progress import say

THEIRS: Final = "slice-theirs"
TITLES: Final = {THEIRS: "organisers' code", **{name: stage.title for name, stage in SLICES.items()}}
FULL: Final = 1_000_000
"""Relevant clients of the challenge."""


def measure_slices(plan: Plan, checkout: Path, python: str, clients: Sequence[int], source: int) -> None:
    """Measure every slice with every code, all of them again if one is missing: ratios come from one run.

    Args:
        plan: where to keep results, and the rest.
        checkout: of the organisers' repository.
        python: that can run it.
        clients: relevant clients per slice.
        source: size of the shop that slices are cut from.
    """
    names = list(TITLES)
    if not plan.force and all(plan.results.stands(size, name, plan.cap(name)) for size in clients for name in names):
        return
    for size in clients:
        place = plan.work / "slices" / f"{size}"
        cut_slice(plan.data(source), size, place, plan.seed)
        for name in names:
            job = plan.work / "slices" / "jobs" / name
            order = Order(
                size, name, place, place.with_suffix(".work"), job, plan.threads, plan.seed, plan.cap(name), 0.0
            )
            result = run_theirs(order, checkout, python, plan) if name == THEIRS else run_child(order, plan.setting)
            result = replace(result, setting={**result.setting, "source": source})
            plan.results.write(result)
            say(f"  slice of {size:,} clients · {TITLES[name]}: {said(result)}")
        shutil.rmtree(place)


def run_theirs(order: Order, checkout: Path, python: str, plan: Plan) -> Result:
    """Their command on one slice."""
    out = order.place
    command = [python, "-W", "ignore", "-m", "baseline.aggregated_features_baseline.create_embeddings"]
    command += ["--data-dir", str(order.data.resolve()), "--embeddings-dir", str(out.resolve())]
    around = environment(order.threads) | {"PYTHONPATH": str(checkout.resolve())}
    load, started = os.getloadavg()[0], time.strftime("%Y-%m-%dT%H:%M:%S")
    watched = watch(command, around, order.job / "log", order.cap)
    shutil.rmtree(out, ignore_errors=True)
    about = {
        **plan.setting,
        "threads": order.threads,
        "cap_seconds": order.cap,
        "load": round(load, 2),
        "started": started,
    }
    result = seen(Result(order.size, order.stage, "measured", setting=about), watched)
    if watched.cut:
        return replace(result, state="cut", note=f"cut after {order.cap / 60:g} min", seconds=watched.seconds)
    if watched.code:
        return replace(result, state="failed", note=last_words(order.job / "log", watched.code))
    return replace(result, seconds=watched.seconds)


def lines(results: Results, clients: Sequence[int]) -> dict[str, tuple[Line, Line | None, list[Result]]]:
    """Per code: the line of process seconds over clients, that of peak anonymous MiB, and what they go through.

    Codes with fewer than two whole slices are left out.
    """
    found = {}
    for name in TITLES:
        whole = [result for size in clients if (result := results.read(size, name)) and result.state == "measured"]
        if len(whole) < 2:
            continue
        seconds = Line.through([(result.size, result.spent_seconds or 0.0) for result in whole])
        held = [(result.size, result.anonymous_mib) for result in whole if result.anonymous_mib]
        memory = Line.through(held) if len(held) == len(whole) else None
        found[name] = (seconds, memory, whole)
    return found
