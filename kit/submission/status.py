"""The state of every stage of a recipe or of a submission, without computing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.data.clients import Clients, parse_clients
from kit.data.layout import DataFolder
from kit.data.prepare import dated, plan_events
from kit.errors import KitError
from kit.lineage import Freshness, Stage, changes, stage_state, upgrades
from kit.plugins import use_plugins_of
from kit.profile import plan_block, profile_code
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission.fresh import is_fresh, parse_cut
from kit.submission.manifest import read_manifest


def recipe_status(
    recipe: Recipe,
    data: Path,
    folder: Path,
    cut: str = "input",
    store: Store | None = None,
    clients: Clients = "relevant",
) -> list[Stage]:
    """One line per stage: the prepared events, each block, the submission.

    Args:
        recipe: what would be built.
        data: the data folder.
        folder: the submission's folder.
        cut: `input` or `end`.
        store: the default store if None.
        clients: `relevant` or `all`.

    Raises:
        KitError: bad data folder, unknown block or setting.
    """
    store = store or Store()
    manifest = _manifest(folder)
    made_of = manifest.get("artefacts", {"events": None, "blocks": {}})
    events = plan_events(DataFolder(data), parse_cut(cut), store, recipe.duplicates, clients)
    history = dated(events.fingerprint, events.cut)
    stages = [stage_state(store, events.stage, "events", made_of["events"], ())]
    plans = {
        name: plan_block(name, entry, recipe.seed, history, events.stage.key, recipe.blocks)
        for name, entry in recipe.blocks.items()
    }
    taken = {plan.key for plan in plans.values()}
    for name, plan in plans.items():
        others = taken | {key for other, key in made_of["blocks"].items() if other != name}
        stages.append(stage_state(store, plan, f"block {name}", made_of["blocks"].get(name), others))
    return [*stages, _submission(recipe, folder, history, manifest)]


def submission_status(folder: Path, store: Store | None = None) -> list[Stage]:
    """The same for a submission, by the recipe and the data folder that its manifest names.

    Raises:
        KitError: no manifest, or one that is too old to say; the data folder or a plugin is gone.
    """
    manifest = read_manifest(folder)
    use_plugins_of(folder)
    try:
        recipe, data = manifest["recipe"], manifest["data"]
        blocks = {name: {**entry, "like": ""} for name, entry in recipe["blocks"].items()}
        plan, root, cut = parse(Recipe, {**recipe, "blocks": blocks}, str(folder)), Path(data["folder"]), data["until"]
    except KeyError as error:
        raise KitError(
            f"{folder}/manifest.json has no {error}.", "Build the submission again to see its state."
        ) from error
    return recipe_status(plan, root, folder, cut, store, parse_clients(data.get("clients", "relevant")))


def _submission(recipe: Recipe, folder: Path, history: str, manifest: dict[str, Any]) -> Stage:
    """The last line. A fresh submission needs none of its artefacts any more."""
    if not manifest:
        return Stage("submission", str(folder), Freshness.MISSING, ("it was never made",))
    if is_fresh(folder, recipe, history):
        size = sum(manifest["bytes"].values())
        notes = upgrades(manifest.get("libraries", {}))
        return Stage("submission", str(folder), Freshness.FRESH, notes, manifest["made"], manifest["seconds"], size)
    unread = {"name", "description", "plugins"}
    before = {key: value for key, value in manifest.get("recipe", {}).items() if key not in unread}
    now = recipe.model_dump(mode="json", exclude=unread)
    files = profile_code(recipe).files
    old = manifest.get("sources", {})
    code = {"code": "now"} if old != files else {}
    found = changes(
        before | {"history": manifest["data"]["history"], "code": ""},
        now | {"history": history, "code": ""} | code,
        old,
        files,
    )
    return Stage("submission", str(folder), Freshness.STALE, tuple(found) or ("its files were cut short or altered",))


def _manifest(folder: Path) -> dict[str, Any]:
    return read_manifest(folder) if (folder / "manifest.json").exists() else {}
