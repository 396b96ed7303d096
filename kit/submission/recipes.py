"""Recipes looked at without building anything: written out in full, checked, compared, and their JSON schema."""

from __future__ import annotations

import atexit
import errno
import json
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from kit.blocks.base import BLOCKS, Block, make_block
from kit.challenge import MAX_WIDTH
from kit.data.layout import DataFolder
from kit.data.prepare import dated, plan_events
from kit.errors import Finding, KitError, Severity, nearest
from kit.history import History
from kit.lineage import changes
from kit.profile.assemble import select
from kit.profile.build import plan_block
from kit.recipe import BlockEntry, Recipe, keys_beside, read_recipe, recipe_file
from kit.store import Store, is_whole, remove_tree
from kit.trouble import number_of

SAMPLE = 32
"""Clients whose features are computed to count a block's columns."""
COMMON = tuple(name for name in BlockEntry.model_fields if name not in ("kind", "like"))


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe with every default filled in, the blocks' own settings too; keys without a value are left out.

    Raises:
        KitError: unknown block or setting.
    """
    blocks = {}
    for name, entry in recipe.blocks.items():
        own = make_block(name, entry, recipe.seed).settings.model_dump(mode="json")
        blocks[name] = {"kind": entry.kind} | entry.model_dump(mode="json", include=set(COMMON)) | own
    whole = recipe.model_dump(mode="json", exclude={"blocks"})
    assembly = whole.pop("assembly")
    found: dict[str, Any] = _without_none(whole | {"blocks": blocks, "assembly": assembly})
    return found


def differences(first: Recipe, second: Recipe) -> list[str]:
    """What changes from the first recipe to the second, defaults filled in: `blocks.als.factors: 8 → 16`."""
    return changes(resolved(first), resolved(second), {}, {})


def check_recipe(path: Path, data: Path | None = None, store: Store | None = None) -> list[Finding]:
    """Everything that is wrong with a recipe at once, and with a data folder also the width of each block.

    Raises:
        KitError: the file is missing or no TOML; the data folder cannot be opened.
    """
    path = recipe_file(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        read_recipe(path)  # says which of them it is
        raise
    found = list(_errors(Recipe, raw, "", file=path))
    blocks = raw.get("blocks")
    for name, table in blocks.items() if isinstance(blocks, dict) else ():
        if isinstance(table, dict) and table.get("kind"):
            found += _block_errors(f"blocks.{name}", table)
    if not found and data is not None:
        found += _widths(read_recipe(path), data, store or Store())
    return found


def _block_errors(where: str, table: dict[str, Any]) -> list[Finding]:
    """Unknown kind, unknown or ill-typed settings, unknown feature families of one block's table; `uses` where there is none to
    be, or none where it must be."""
    kinds = BLOCKS.loaded()
    kind = table["kind"]
    if kind not in kinds:
        return [_error(f"There is no block called {kind!r}.", f"{where}.kind", nearest(str(kind), kinds))]
    settings = {key: value for key, value in table.items() if key not in BlockEntry.model_fields}
    found = list(_errors(kinds[kind].Settings, settings, f"{where}.", COMMON))
    if table.get("uses") and not kinds[kind].takes:
        found.append(_error(f"Blocks of kind {kind!r} use no other entries.", f"{where}.uses", "Leave `uses` out."))
    if kinds[kind].takes and not table.get("uses"):
        what = f"A block of kind {kind!r} learns from other entries."
        found.append(_error(what, f"{where}.uses", 'Name them: uses = ["stats"].'))
    return found + list(_unknown_families(settings, where))


def _errors(
    model: type[BaseModel], raw: dict[str, Any], prefix: str, also: Iterable[str] = (), file: Path | None = None
) -> Iterable[Finding]:
    """One finding per mistake that pydantic sees; unknown keys with the nearest valid one (`also`: further valid keys)."""
    try:
        model.model_validate(raw, context={"where": str(file or prefix.rstrip("."))})
    except KitError as error:  # a plugin
        yield _error(error.what, prefix.rstrip(".") or "(top)", error.remedy)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            where = prefix + ".".join(map(str, item["loc"]))
            if item["type"] == "extra_forbidden":
                beside = item.get("ctx", {}).get("known") or keys_beside(model, item["loc"])
                top = also if len(item["loc"]) == 1 else ()
                yield _error("The key is unknown.", where, nearest(str(item["loc"][-1]), [*beside, *top]))
            elif item["type"] == "missing":
                yield _error("The key is needed.", where, "Add it.")
            else:
                message = item["msg"].removeprefix("Value error, ")
                found = "" if item["type"] in ("value_error", "moved") else f" (found {item['input']!r})"
                yield _error(f"{message}{found}.", where or "(top)", "Mend it.")


def _unknown_families(settings: dict[str, Any], where: str) -> Iterable[Finding]:
    """Families in `families`, `also`, `without` and the combined block's `stats` that do not exist."""
    from kit.features.registry import FAMILIES

    known = FAMILIES.loaded()
    inner = settings.get("stats")
    tables = [(settings, where)] + ([(inner, f"{where}.stats")] if isinstance(inner, dict) else [])
    for table, place in tables:
        for key in ("families", "also", "without"):
            names = table.get(key, [])
            for name in names if isinstance(names, list) else ():
                if name not in known:
                    yield _error(f"There is no feature family {name!r}.", f"{place}.{key}", nearest(str(name), known))


def _error(what: str, where: str, remedy: str) -> Finding:
    return Finding(Severity.ERROR, what, where, remedy)


def _widths(recipe: Recipe, data: Path, store: Store) -> list[Finding]:
    """The blocks' widths as far as they can be known without building them, and an error if they are too many."""
    events = plan_events(DataFolder(data), "input", store, recipe.duplicates)
    fingerprint = dated(events.fingerprint, events.cut)
    history = _opened(recipe, data, store)
    found, widths = [], {}
    for name, entry in recipe.blocks.items():
        folder = store.folder(plan_block(name, entry, recipe.seed, fingerprint, events.stage.key, recipe.blocks))
        try:
            width = _width(name, entry, recipe.seed, history, folder)
        except KitError as error:  # a pattern of `columns` that matches nothing
            found.append(_error(error.what, f"blocks.{name}", error.remedy))
            continue
        if width is None:
            found.append(
                Finding(Severity.INFO, "Width unknown until it is built.", f"blocks.{name}", "`kit submit` says it.")
            )
            continue
        if not entry.profile:
            continue
        widths[name] = width
        flags = " and a flag per pattern of missing values" if entry.flags and entry.pca is None else ""
        what = f"At most {width} columns{flags}."
        found.append(Finding(Severity.INFO, what, f"blocks.{name}", "Constant columns are left out."))
    total = sum(widths.values())
    if total > MAX_WIDTH and recipe.assembly.pca is None:
        what = f"{total} columns, where the evaluator takes {MAX_WIDTH}."
        found.append(_error(what, "blocks", "Give a block `pca = N`, or `[assembly] pca = N`, or fewer families."))
    return found


def _opened(recipe: Recipe, data: Path, store: Store) -> History:
    """The history; where the store cannot be written its tables are made for this call alone."""
    try:
        return History.open(DataFolder(data), store=store, duplicates=recipe.duplicates)
    except OSError as error:
        if number_of(error) not in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise
    folder = tempfile.mkdtemp(prefix="kit-")
    atexit.register(remove_tree, Path(folder))
    return History.open(DataFolder(data), store=Store(Path(folder)), duplicates=recipe.duplicates)


def _width(name: str, entry: BlockEntry, seed: int, history: History, folder: Path) -> int | None:
    """Columns of a block: counted where it is in the store, else by its settings or on a few clients; None if unknown."""
    columns: tuple[str, ...] | None = None
    if is_whole(folder):
        columns = tuple(json.loads((folder / "columns.json").read_text(encoding="utf-8")))
    elif entry.kind in ("stats", "organisers"):  # stateless: a few clients have the columns of all
        some = history.clients[:SAMPLE]
        columns = make_block(name, entry, seed).fit(history).transform(history, some).columns
    elif entry.kind == "als":
        settings = make_block(name, entry, seed).settings.model_dump()
        columns = tuple(f"{settings['items']}_{i}" for i in range(settings["factors"]))
    if columns is None:
        return None
    kept = len(select(columns, entry.columns))
    return min(kept, entry.pca or kept)


def json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of recipes, with the settings of every block kind: for editors and other programs."""
    schema = Recipe.model_json_schema()
    shared = schema["$defs"].pop("BlockEntry")["properties"]
    common = {key: shared[key] for key in COMMON}
    variants = [_variant(kind, cls, common, schema["$defs"]) for kind, cls in BLOCKS.loaded().items()]
    like = {"like": {"type": "string", "description": shared["like"]["description"]}}
    alike = {"type": "object", "properties": like | common, "required": ["like"], "additionalProperties": False}
    schema["properties"]["blocks"]["additionalProperties"] = {"anyOf": [*variants, alike]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Recipe of a submission"}


def _variant(kind: str, cls: type[Block], common: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The table of one kind of block; the schemas of its nested settings go into `definitions`."""
    own = cls.Settings.model_json_schema(ref_template="#/$defs/{model}")
    for name, nested in own.pop("$defs", {}).items():
        if definitions.setdefault(name, nested) != nested:
            raise ValueError(f"two schemas are called {name!r}; rename one of the settings classes")
    return {
        "type": "object",
        "title": kind,
        "description": cls.description,
        "properties": {"kind": {"const": kind}} | common | own.get("properties", {}),
        "required": ["kind", *own.get("required", [])],
        "additionalProperties": False,
    }


def _without_none(value: Any) -> Any:  # noqa: ANN401
    """TOML has no null: keys without a value are left out."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value
