"""The state of every stage of a recipe or of a submission, without computing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit.data.clients import parse_clients
from kit.data.layout import DataFolder
from kit.errors import KitError
from kit.lineage import Freshness, Stage, changes, stage_state, upgrades
from kit.plugins import use_plugins_of
from kit.profile import profile_code
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission.manifest import read_manifest
from kit.submission.plan import SubmissionPlan, parse_cut


def recipe_status(plan: SubmissionPlan) -> list[Stage]:
    """One line per stage: the prepared events, each block, the submission.

    Raises:
        KitError: bad data folder, unknown block or setting.
    """
    manifest = _manifest(plan.folder)
    made_of = manifest.get("artefacts", {"events": None, "blocks": {}})
    stages = [stage_state(plan.store, plan.events.stage, "events", made_of["events"], ())]
    taken = {block.key for block in plan.blocks.values()}
    for name, block in plan.blocks.items():
        others = taken | {key for other, key in made_of["blocks"].items() if other != name}
        stages.append(stage_state(plan.store, block, f"block {name}", made_of["blocks"].get(name), others))
    return [*stages, _submission(plan, manifest)]


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
        made, root, cut = parse(Recipe, {**recipe, "blocks": blocks}, str(folder)), Path(data["folder"]), data["until"]
    except KeyError as error:
        raise KitError(
            f"{folder}/manifest.json has no {error}.", "Build the submission again to see its state."
        ) from error
    clients = parse_clients(data.get("clients", "relevant"))
    return recipe_status(SubmissionPlan(made, DataFolder(root), folder, parse_cut(cut), clients, store or Store()))


def _submission(plan: SubmissionPlan, manifest: dict[str, Any]) -> Stage:
    """The last line. A fresh submission needs none of its artefacts any more."""
    recipe, folder = plan.recipe, plan.folder
    if not manifest:
        return Stage("submission", str(folder), Freshness.MISSING, ("it was never made",))
    if plan.is_fresh:
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
        now | {"history": plan.history, "code": ""} | code,
        old,
        files,
    )
    return Stage("submission", str(folder), Freshness.STALE, tuple(found) or ("its files were cut short or altered",))


def _manifest(folder: Path) -> dict[str, Any]:
    return read_manifest(folder) if (folder / "manifest.json").exists() else {}
