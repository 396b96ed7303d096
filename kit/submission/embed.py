"""`kit embed`: vectors of other clients, or at a later cut, from the fitted blocks of a submission. Nothing is trained.

What a submission learned lies in two places: its blocks' artefacts in the store, and assembly.npz beside its vectors. Events are
read anew from a data folder, up to the cut asked for; what merely counts them (popularity, shares) is counted anew.

The clients of the submission are embedded in their own company and all others in theirs: sums of floats depend in their last bits
on who else is in a batch, and a client of the submission must not feel who else is asked for.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit import __version__
from kit.arrays import digest_of, read_array
from kit.blocks.base import Block, BlockOutput, make_block
from kit.content import bytes_digest
from kit.contract import IDS, VECTORS
from kit.data.asked import read_asked
from kit.data.clients import Clients, known_clients, parse_clients
from kit.data.layout import DataFolder
from kit.data.prepare import EventsPlan, dated, plan_events, require_sound
from kit.errors import KitError
from kit.history import History
from kit.limits import memory as limits
from kit.limits.memory import in_use, memory, within
from kit.limits.watchdog import doing
from kit.plugins import use_plugins_of
from kit.profile import apply_profile, plan_block
from kit.profile.learned import Learned
from kit.profile.uses import Carried
from kit.progress import stage
from kit.recipe import Recipe, build_order, parse
from kit.store import Store, digest, is_whole, remove_tree, versions, write_json
from kit.submission.manifest import as_built, read_manifest
from kit.submission.plan import Cut, kept_assembly, parse_cut
from kit.trouble import disk_trouble

MANIFEST: Final = "manifest.json"
MARK: Final = "embedded_from"
"""Key of the manifest by which a folder of `kit embed` is known."""


@dataclass(frozen=True)
class Fitted:
    """A submission as it is read to embed with.

    Attributes:
        folder, manifest: of the submission.
        recipe: it was built by.
        clients: of its vectors, in their order, int64 (n,).
        cut: of its fit.
        learned: by its assembly.
        artefacts: block name → folder of what it learned.
    """

    folder: Path
    manifest: Mapping[str, Any]
    recipe: Recipe
    clients: NDArray[np.int64]
    cut: datetime
    learned: Learned
    artefacts: Mapping[str, Path]

    @classmethod
    def read(cls, folder: Path, store: Store) -> Fitted:
        """The submission in `folder`.

        Raises:
            KitError: it is none, is not as it was built, was built by an earlier version or other code, or the artefacts of its
                blocks are not in the store any more.
        """
        use_plugins_of(folder)
        manifest = read_manifest(folder)
        again = f"Build it again: `kit submit RECIPE --data {manifest.get('data', {}).get('folder', 'DIR')}`."
        if "assembly" not in manifest:
            raise KitError(f"{folder} was built by a version of the kit that did not keep what it learned.", again)
        if not kept_assembly(folder, dict(manifest)) or not as_built(folder, dict(manifest)):
            raise KitError(f"{folder} is not as it was built: its vectors or what its assembly learned changed.", again)
        recipe = parse(Recipe, manifest["recipe"], f"{folder / MANIFEST}")
        made = manifest["data"]
        artefacts = {}
        for name, entry in recipe.blocks.items():
            key = str(manifest["artefacts"]["blocks"][name])
            plan = plan_block(name, entry, recipe.seed, made["history"], manifest["artefacts"]["events"], recipe.blocks)
            if plan.key != key:
                raise KitError(f"The code of block {name} changed since {folder} was built from it.", again)
            artefacts[name] = store.root / key
            if not is_whole(artefacts[name]):
                raise KitError(
                    f"What block {name} learned ({key}) is not in {store.root} any more.",
                    f"Make it again under another name: `kit submit RECIPE --data {made['folder']} --name NAME`; "
                    "then embed from either.",
                )
        ids = read_array(folder / IDS, mapped=False)
        return cls(folder, manifest, recipe, ids, datetime.fromisoformat(made["cut"]), Learned.load(folder), artefacts)


def embed(
    submission: Path,
    data: Path,
    out: Path,
    cut: str | None = None,
    clients: Path | None = None,
    store: Store | None = None,
) -> dict[str, Any]:
    """Write client_ids.npy, embeddings.npy (float16) and manifest.json of some clients at some cut.

    Args:
        submission: whose blocks and assembly are used, as they were fitted.
        data: the data folder whose events are read.
        out: a folder of its own.
        cut: `input`, `end`, or an ISO instant; that of the submission if None.
        clients: a file of ids (`read_asked`); the submission's own, in its order, if None.
        store: the default store if None.

    Returns:
        the manifest, and `made_now`: False if the folder held just this already.

    Raises:
        KitError: see `Fitted.read`, `read_asked`; the cut lies before that of the fit; the data is bad; `out` is something
            else.
    """
    began = time.perf_counter()
    store = store or Store()
    fitted = Fitted.read(submission, store)
    source = DataFolder(data)
    until = parse_instant(str(fitted.manifest["data"].get("until", "input")) if cut is None else cut)
    ids = fitted.clients if clients is None else read_asked(clients, data)
    _require_place(out, submission, data, store.root)
    groups = _groups(fitted, source, ids, until, store)
    instant = groups[0].plan.cut
    if instant < fitted.cut:
        raise KitError(
            f"The cut {instant} lies before {fitted.cut}, at which {submission} was fitted: its blocks know what happened in "
            "between.",
            f"Give --cut {fitted.cut.isoformat()} or later, or build a submission at the earlier cut.",
        )
    for group in groups:
        require_sound(source, group.plan, store)
    key = _key(fitted, groups, ids)
    before = _made(out)
    if before is not None and before.get("key") == key and _whole(out, before):
        return before | {"made_now": False}
    most = in_use() + memory().available
    with store.in_use(f"kit embed {submission}"), within(most, store.root / "scratch"):
        matrix = _matrix(fitted, source, groups, until, store)
        manifest = _manifest(fitted, source, groups, ids, matrix, store)
        manifest |= {"key": key, "seconds": round(time.perf_counter() - began, 2)}
        _write(out, ids, matrix, manifest)
    return manifest | {"made_now": True}


def _key(fitted: Fitted, groups: Sequence[Group], ids: NDArray[np.int64]) -> str:
    """Of all that decides the vectors."""
    made = [fitted.manifest[part] for part in ("fingerprint", "content", "assembly")]
    return digest([made, [dated(group.plan.fingerprint, group.plan.cut) for group in groups], digest_of(ids)])


def _manifest(
    fitted: Fitted,
    data: DataFolder,
    groups: Sequence[Group],
    ids: NDArray[np.int64],
    matrix: NDArray[np.float16],
    store: Store,
) -> dict[str, Any]:
    """What was made, of what, and of how many clients nothing was known."""
    plan = groups[0].plan
    seen = known_clients(plan.files, plan.cut, store)
    return {
        MARK: {
            "submission": str(fitted.folder),
            "name": fitted.recipe.name,
            "fingerprint": fitted.manifest["fingerprint"],
            "content": fitted.manifest["content"],
            "cut": fitted.cut.isoformat(),
        },
        "kit": __version__,
        "data": {
            "folder": str(data.root),
            "history": [dated(group.plan.fingerprint, group.plan.cut) for group in groups],
            "cut": plan.cut.isoformat(),
        },
        "clients": len(ids),
        "width": int(matrix.shape[1]),
        "of_the_submission": int(np.isin(ids, fitted.clients).sum()),
        "without_history": int((~np.isin(ids, seen)).sum()),
        "artefacts": fitted.manifest["artefacts"],
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "libraries": versions(),
    }


@dataclass(frozen=True)
class Group:
    """Clients who are embedded in one company.

    Attributes:
        who: the company: a word that plan and History know, or ids.
        rows: of the request that are answered from it, int64 (m,).
        ids: of those rows.
        plan: of the events.
    """

    who: Clients | NDArray[np.int64]
    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    plan: EventsPlan


def _groups(
    fitted: Fitted, data: DataFolder, ids: NDArray[np.int64], until: Cut | datetime, store: Store
) -> list[Group]:
    """The submission's clients, and the others, as far as they are asked for."""
    inside = np.isin(ids, fitted.clients)
    found = []
    for rows, own in ((np.flatnonzero(inside), True), (np.flatnonzero(~inside), False)):
        if len(rows):
            who, plan = _company(fitted, data, fitted.clients if own else ids[rows], until, store)
            found.append(Group(who, rows, ids[rows], plan))
    return found


def _company(
    fitted: Fitted, data: DataFolder, ids: NDArray[np.int64], until: Cut | datetime, store: Store
) -> tuple[Clients | NDArray[np.int64], EventsPlan]:
    """These clients, by the word for them where it names just them: then what `kit submit` prepared is found again."""
    word = parse_clients(str(fitted.manifest["data"].get("clients", "relevant")))
    if word == "relevant" or until == "end":
        plan = plan_events(data, until, store, fitted.recipe.duplicates, word)
        if np.array_equal(plan.clients, np.unique(ids)):
            return word, plan
    return ids, plan_events(data, until, store, fitted.recipe.duplicates, ids)


def _matrix(
    fitted: Fitted, data: DataFolder, groups: list[Group], until: Cut | datetime, store: Store
) -> NDArray[np.float16]:
    """The rows of all groups, float16 (n, d)."""
    # A product of matrices depends in its last bits on how many rows it has: where there is one, the whole company is made.
    whole = fitted.learned.joint is not None or any(block.components for block in fitted.learned.blocks.values())
    parts = []
    for group in groups:
        with stage(f"{len(group.ids):,} clients at {group.plan.cut}"):
            history = History.open(data, until, store=store, duplicates=fitted.recipe.duplicates, clients=group.who)
            some = history.clients if whole else np.sort(group.ids)
            outputs = _outputs(fitted, history, some)
            parts.append(apply_profile(fitted.recipe, outputs, fitted.learned, np.searchsorted(some, group.ids)))
    matrix = limits.empty((sum(map(len, parts)), parts[0].shape[1]), np.float16)
    for group, part in zip(groups, parts, strict=True):
        matrix[group.rows] = part
    return matrix


def _outputs(fitted: Fitted, history: History, clients: NDArray[np.int64]) -> Iterator[tuple[str, BlockOutput]]:
    """What the loaded blocks say of the clients (sorted), in the order of the recipe; entries that share one run are asked
    once."""
    units = load_units(fitted.recipe, fitted.artefacts)
    left = Counter(fitted.artefacts[name] for name, entry in fitted.recipe.blocks.items() if entry.profile)
    shared: dict[Path, BlockOutput] = {}
    for name, entry in fitted.recipe.blocks.items():
        if not entry.profile:
            continue
        place = fitted.artefacts[name]
        with doing(f"block {name}"):
            output = shared.pop(place) if place in shared else units[name].transform(history, clients)
        left[place] -= 1
        if left[place]:
            shared[place] = output
        yield name, output


def load_units(recipe: Recipe, artefacts: Mapping[str, Path]) -> dict[str, Block]:
    """The recipe's blocks as they were fitted.

    Args:
        recipe: of the submission.
        artefacts: block name → folder that the block saved to.

    Raises:
        KitError: a block cannot be loaded.
    """
    units: dict[str, Block] = {}
    others = Carried(units)
    for name in build_order(recipe.blocks):
        unit = make_block(name, recipe.blocks[name], recipe.seed)
        unit.others = others
        units[name] = unit.load(artefacts[name])
    return units


def parse_instant(cut: str) -> Cut | datetime:
    """`input`, `end`, or an ISO instant in the time of the data.

    Raises:
        KitError: it is none of them.
    """
    if cut in ("input", "end"):
        return parse_cut(cut)
    try:
        instant = datetime.fromisoformat(cut)
    except ValueError as error:
        raise KitError(
            f"The cut {cut!r} is unknown.", "Use `input`, `end`, or an instant such as 2022-11-09T00:00:00."
        ) from error
    if instant.tzinfo is not None:
        raise KitError(
            f"The cut {cut!r} names a time zone.", "Leave it out: events have none, and are read as they are."
        )
    return instant


def _require_place(out: Path, *held: Path) -> None:
    """KitError where `out` must not be replaced: it is a file, holds the data or the store, or holds something else than what
    this command wrote."""
    remedy = "Give --out a folder of its own."
    if out.exists() and not out.is_dir():
        raise KitError(f"{out} is a file.", remedy)
    for path in held:
        if path.resolve().is_relative_to(out.resolve()):
            raise KitError(f"{out} holds {path}: it would be replaced.", remedy)
    if out.exists() and any(out.iterdir()) and _made(out) is None:
        raise KitError(f"{out} is not empty, and `kit embed` did not write it: it would be replaced.", remedy)


def _made(out: Path) -> dict[str, Any] | None:
    """The manifest of a folder that `kit embed` wrote; None for any other."""
    try:
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and MARK in found else None


def _whole(out: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the vectors are those that the manifest was written for."""
    paths = {name: out / name for name in (IDS, VECTORS)}
    return all(path.is_file() for path in paths.values()) and manifest.get("content") == {
        name: bytes_digest(path) for name, path in paths.items()
    }


def _write(out: Path, ids: NDArray[np.int64], matrix: NDArray[np.float16], manifest: dict[str, Any]) -> None:
    """The folder, beside its place first, then swapped in."""
    fresh = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        fresh.mkdir(parents=True)
        np.save(fresh / IDS, ids)
        np.save(fresh / VECTORS, matrix)
        content = {name: bytes_digest(fresh / name) for name in (IDS, VECTORS)}
        write_json(fresh / MANIFEST, {**manifest, "content": content})
        remove_tree(out)
        fresh.rename(out)
    except OSError as error:
        trouble = disk_trouble(error, out)
        if trouble is error:
            trouble = KitError(f"{out} could not be written: {error}.", "Choose another --out or mend the permissions.")
        raise trouble from error
    finally:
        remove_tree(fresh)
