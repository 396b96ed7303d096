"""The R of a technique: the same recipe with and without its part, through `kit bench`'s machinery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.recipe import Recipe, parse, read_recipe
from kit.store import Store, write_json
from kit.studies.bench.measure import Asked
from kit.studies.bench.measure import measure as benched
from kit.techniques.catalogue import Technique
from kit.techniques.table import keys_of

PLAIN = "without"


def over(table: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """`table` with `keys` laid over it, level by level; a part that is named in its place replaces another kind's settings."""
    merged = dict(table)
    for name, value in keys.items():
        inner = merged.get(name)
        same = isinstance(inner, dict) and inner.get("kind") == value.get("kind") if isinstance(value, dict) else False
        replaces = isinstance(value, dict) and "kind" in value and not same
        merged[name] = (
            over(inner, value) if isinstance(value, dict) and isinstance(inner, dict) and not replaces else value
        )
    return merged


def pair_of(technique: Technique, base: Path | None) -> list[Recipe]:
    """A recipe without the technique's part, and one with it for each place that chooses it.

    Raises:
        KitError: no recipe key chooses it, or the recipe has no block of that kind.
    """
    found = keys_of(technique)
    if not found:
        raise KitError(
            f"No recipe key chooses {technique.id} ({technique.name}), so there is nothing to measure with and without it.",
            "Measure others; `kit techniques` shows keys.",
        )
    made = []
    for number, keys in enumerate(found):
        kind = keys["kind"]
        alone: dict[str, Any] = {"network": {"kind": kind}}
        blocks = read_recipe(base).model_dump(mode="json")["blocks"] if base else alone
        hosts = [name for name, entry in blocks.items() if entry["kind"] == kind]
        if not hosts:
            raise KitError(
                f"{base} has no block of kind {kind!r}, which {technique.id} needs.", "Give another --recipe."
            )
        changed = {name: over(entry, keys) if name in hosts else entry for name, entry in blocks.items()}
        if number == 0:
            without = {name: entry for name, entry in blocks.items() if len(keys) > 1 or name not in hosts}
            if not without:
                raise KitError(
                    f"{technique.id} is the block {kind!r} itself: it is measured against the rest of a recipe.",
                    f"Give --recipe one that has a block of kind {kind!r} and others.",
                )
            made.append(parse(Recipe, {"name": PLAIN, "blocks": without}, technique.id))
        made.append(parse(Recipe, {"name": f"{technique.id}-{number}", "blocks": changed}, technique.id))
    return made


def measure(
    techniques: list[Technique],
    data: list[Path],
    probes: list[str],
    results: Path,
    base: Path | None,
    work: Path | None,
) -> None:
    """Measure and add to the file of results, entry by entry; an entry of the same technique, folder and probe is replaced."""
    store = Store()
    for technique in techniques:
        recipes = pair_of(technique, base)
        for folder in map(DataFolder, data):
            place = (work or store.root / "techniques") / technique.id
            asked = Asked([folder], recipes, probes, place, against=PLAIN, oracle=False)
            with store.in_use(f"The measuring of {technique.id}"):
                bench = benched(asked, store)
            if bench.failures:
                raise KitError(f"{technique.id} on {folder.root}: {bench.failures[0].what}", "Mend it and run again.")
            shop = bench.shops[0]
            for recipe in recipes[1:]:
                for probe in probes:
                    gains = [g for g in bench.gains if (g.row, g.probe) == (recipe.name, probe)]
                    entry = {
                        "id": technique.id, "key": recipe.model_dump(mode="json")["blocks"], "data": shop.name,
                        "clients": shop.clients, "probe": probe, "recipe": base.name if base else "",
                        "gains": [gain.model_dump(mode="json") for gain in gains],
                    }  # fmt: skip
                    if gains:
                        add(results, recipe.name, entry)


def add(path: Path, row: str, entry: dict[str, Any]) -> None:
    """Write an entry into the file, in place of one of the same row, folder and probe."""
    entries = json.loads(path.read_text(encoding="utf-8"))["entries"] if path.is_file() else []
    same = ("row", "data", "probe", "recipe")
    entry = {"row": row, **entry}
    kept = [old for old in entries if any(old.get(name) != entry[name] for name in same)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"entries": sorted([*kept, entry], key=lambda e: tuple(str(e[name]) for name in same))})
