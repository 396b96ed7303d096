"""Builds a recipe stage by stage in a process of its own and prints, per stage, estimated and measured bytes as JSON.

Arguments: recipe, data folder, working folder, limit in bytes (0 = none).
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from kit.data.layout import DataFolder
from kit.history import History
from kit.limits import watchdog
from kit.limits.memory import in_use, within
from kit.profile import build_profile, run_block
from kit.recipe import read_recipe
from kit.store import Store
from kit.submission.needs import stage_needs
from kit.submission.plan import SubmissionPlan

watchdog.EVERY = 0.005  # type: ignore[misc]
measured: dict[str, int] = {}


@contextmanager
def measuring(name: str) -> Iterator[None]:
    gc.collect()
    before = in_use()
    look = watchdog.Watchdog(None)
    try:
        yield
    finally:
        look.close()
        measured[name] = max(look.peak - before, 0)


def main(recipe_file: str, data: str, work: str, limit: str) -> None:
    recipe, source, store = read_recipe(Path(recipe_file)), DataFolder(Path(data)), Store(Path(work) / "store")
    bounds = within(int(limit), store.root / "scratch") if int(limit) else nullcontext()
    with bounds:
        with measuring("events"):
            history = History.open(source, store=store)
        needs = stage_needs(SubmissionPlan(recipe, source, Path(work) / "none", store=store))
        for name, entry in recipe.blocks.items():
            with measuring(f"block {name}"):
                run_block(name, entry, 0, history, store)
            history = History.open(source, store=store)  # what was learned for one block is not kept for the next
        with measuring("profile"):
            profile = build_profile(recipe, history, store)
    told = {
        stage.name: {"estimate": stage.need.memory, "floor": stage.need.floor, "measured": measured.get(stage.name)}
        for stage in needs
    }
    print(json.dumps({"clients": len(profile.clients), "stages": told}))


if __name__ == "__main__":
    main(*sys.argv[1:])
