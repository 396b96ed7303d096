"""A submission: client_ids.npy, embeddings.npy, manifest.json (and later scores) in one folder, written as a whole."""

from __future__ import annotations

import json
import platform
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kit import __version__, tracking
from kit.content import bytes_digest
from kit.contract import client_errors, examine, require_none
from kit.data.clients import Clients, left_out
from kit.data.fetch.fetch import licence
from kit.data.layout import DataFolder
from kit.data.origin import FILES as FILES_READ
from kit.data.origin import origin_of
from kit.data.prepare import require_sound
from kit.errors import KitError
from kit.history import History
from kit.limits.memory import in_use, memory, within
from kit.limits.watchdog import doing, watched
from kit.plugins import places
from kit.profile import Profile, build_profile, profile_code
from kit.profile.learned import FILES as ASSEMBLY_FILES
from kit.progress import say
from kit.recipe import Recipe
from kit.store import Store, remove_tree, versions, write_json
from kit.submission.card import write_card
from kit.submission.manifest import read_manifest
from kit.submission.needs import require_room, stage_needs
from kit.submission.plan import SubmissionPlan, parse_cut
from kit.submission.validate import asked_for, errors_of
from kit.trouble import disk_trouble

FILES = ("client_ids.npy", "embeddings.npy")
LEARNED = ("scores.json", "influence-*.npz", "ablation.json", "drift.json", "explain-*.json")
"""What other commands wrote beside the vectors; each says what it was made from, and is not shown where that changed."""


def require_own(plan: SubmissionPlan) -> None:
    """Refuse a folder that a submission must not replace: data, the store, somebody's files, scores of another one.

    Raises:
        KitError: the folder has no name or is a file, holds the data or the store, is not empty and no submission, or is a
            submission with scores that was made from other data or for the other cut.
    """
    folder, data = plan.folder, plan.data.root
    remedy = "Give --out a folder of its own, such as submissions/NAME."
    place = real_place(folder).resolve()
    if not folder.name:
        raise KitError(f"{str(folder)!r} is no name for a submission's folder.", remedy)
    for path in (data, plan.store.root):
        if path.resolve().is_relative_to(place):
            raise KitError(f"{folder} holds {path}: the submission would replace it.", remedy)
    if folder.exists() and not folder.is_dir():
        raise KitError(f"{folder} is a file.", remedy)
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if held and not (is_submission(folder) or held >= set(FILES)):
        shown = ", ".join(sorted(held)[:4]) + (" …" if len(held) > 4 else "")
        raise KitError(f"{folder} is no submission (it holds {shown}): it would be replaced as a whole.", remedy)
    if "scores.json" in held:
        made = read_manifest(folder).get("data", {}) if "manifest.json" in held else {}
        before = Path(str(made.get("folder", data))).resolve(), str(made.get("until", plan.cut))
        if before != (data.resolve(), plan.cut):
            raise KitError(
                f"{folder} holds the scores of a submission from {before[0]} (--cut {before[1]}).",
                "Give this one another --name, or remove that folder.",
            )


def is_submission(folder: Path) -> bool:
    """Whether a folder was made by `kit submit`: other programs have a manifest.json, too."""
    try:
        return bool(read_manifest(folder))
    except KitError:
        return False


def write_submission(plan: SubmissionPlan, profile: Profile, history: History, began: float) -> None:
    """Write the folder beside its place, then swap it in: readers see the old submission or the new one, whole.

    Args:
        plan: goes into the manifest; the caller sees to it that nobody else writes into its folder.
        profile: what to write.
        history: what the profile was made from; its fingerprint goes into the manifest.
        began: time.perf_counter() when the work started.

    Raises:
        KitError: the disk is full, the folder cannot be written, or what was to be written is not valid; an older submission
            is still in its place.
    """
    origin, folder = origin_of(plan.events, plan.data, plan.store), real_place(plan.folder)
    fresh, old = _beside(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tidy(folder)
        fresh.mkdir()
        _save(fresh, profile)
        manifest = _manifest(fresh, profile, plan.recipe, history, time.perf_counter() - began)
        manifest["data"] |= {
            "folder": str(plan.data.root),
            "until": plan.cut,
            "clients": plan.clients,
            "licence": licence(plan.data.root),
            FILES_READ: origin,
        }
        (fresh / "manifest.json").write_text(json.dumps(manifest, indent=2, default=str) + "\n", encoding="utf-8")
        _keep_what_was_learned(folder, fresh, manifest["content"])
        write_card(fresh, plan.folder)
        _require_valid(fresh, plan.folder, plan.data, profile)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except OSError as error:
        trouble = disk_trouble(error, folder)
        if trouble is error:
            remedy = "Choose another --out or mend the permissions; nothing was lost."
            trouble = KitError(f"{folder} could not be written: {error}.", remedy)
        raise trouble from error
    finally:
        tidy(folder)


def _save(fresh: Path, profile: Profile) -> None:
    """All files but the manifest, which names their content, and the card."""
    np.save(fresh / "client_ids.npy", profile.clients)
    np.save(fresh / "embeddings.npy", profile.matrix)
    profile.learned.save(fresh)
    columns = {row.name: list(row.columns) for row in profile.blocks}
    (fresh / "columns.json").write_text(json.dumps(columns, indent=1) + "\n", encoding="utf-8")
    if profile.training:
        (fresh / "training.json").write_text(json.dumps(profile.training, indent=1) + "\n", encoding="utf-8")


def _require_valid(fresh: Path, folder: Path, data: DataFolder, profile: Profile) -> None:
    """What is not valid must not take the place of what is.

    Raises:
        KitError: `kit validate` would call something about the new folder an error; the words are the same, and blocks whose
            columns are not finite are named.
    """
    found = examine(fresh)
    errors = [*found.errors, *(client_errors(found.ids, asked_for(fresh, data)) if found.ids is not None else ())]
    if not errors:
        return
    bad = () if found.statistics is None else found.statistics.bad_columns.tolist()
    blocks = [row.name for row in profile.blocks if any(row.start <= column < row.stop for column in bad)]
    source = f" They come from {'block' if len(blocks) == 1 else 'blocks'} {' and '.join(blocks)}." if blocks else ""
    kept = f"{folder} is left as it was" if folder.exists() else "nothing was written"
    remedy = "Look at its scale and weight, and at what the block itself makes." if blocks else errors[0].remedy
    raise KitError(
        f"The new submission is not valid, and {kept}: {errors[0].what} ({errors[0].where}).{source}",
        remedy,
    )


def real_place(folder: Path) -> Path:
    """Where a submission's folder really lies: behind a link, such as to a bigger disk, which stays.

    Raises:
        KitError: it links to a place that is not there, such as a disk that is not mounted.
    """
    if not folder.is_symlink():
        return folder
    try:
        place = folder.resolve()
        there = place.parent.is_dir() and not place.is_symlink()
    except (OSError, RuntimeError):  # a link in a circle
        place, there = folder.readlink(), False
    if not there:
        raise KitError(
            f"{folder} is a link to {place}, and there is no folder {place.parent}.",
            "Mount the disk, or remove the link.",
        )
    return place


def _keep_what_was_learned(folder: Path, fresh: Path, content: dict[str, str]) -> None:
    """Scores and studies of the very same vectors go on to the new folder; of others they are gone, which is said."""
    learned = [path for pattern in LEARNED for path in sorted(folder.glob(pattern))]
    if not learned:
        return
    if not is_submission(folder) or read_manifest(folder).get("content") != content:
        say(f"  {folder} has other vectors now: {', '.join(path.name for path in learned)} of the old ones are dropped")
        return
    for path in learned:
        shutil.copy2(path, fresh / path.name)


def tidy(folder: Path) -> None:
    """Remove what a killed run left beside a submission; an old one that was on its way out goes back to its place."""
    folder = real_place(folder)
    fresh, old = _beside(folder)
    remove_tree(fresh)
    if old.exists() and not folder.exists():
        old.rename(folder)
    remove_tree(old)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the new submission is written, and where the old one waits while they are swapped."""
    return folder.with_name(f".{folder.name}.tmp"), folder.with_name(f".{folder.name}.old")


def _manifest(fresh: Path, profile: Profile, recipe: Recipe, history: History, seconds: float) -> dict[str, Any]:
    blocks = [{key: value for key, value in asdict(row).items() if key != "columns"} for row in profile.blocks]
    code = profile_code(recipe)
    return {
        "name": recipe.name,
        "fingerprint": profile.fingerprint,
        "kit": __version__,
        "code": code.digest,
        "data": {"history": history.fingerprint, "cut": history.cut.isoformat()},
        "seed": recipe.seed,
        "clients": len(profile.clients),
        "width": int(profile.matrix.shape[1]),
        "blocks": blocks,
        "artefacts": {"events": history.artefact, "blocks": profile.artefacts},
        "recipe": recipe.model_dump(mode="json"),
        "plugins": places(recipe.plugins),
        "sources": dict(code.files),
        "seconds": round(seconds, 2),
        "peak_memory_mib": round(_peak_mib()),
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": versions(),
        "bytes": {name: (fresh / name).stat().st_size for name in FILES},
        "content": {name: bytes_digest(fresh / name) for name in FILES},
        "assembly": {name: bytes_digest(fresh / name) for name in sorted(ASSEMBLY_FILES)},
    }


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def submit(
    recipe: Recipe,
    data: Path,
    folder: Path,
    cut: str = "input",
    store: Store | None = None,
    memory_limit: int | None = None,
    clients: Clients = "relevant",
) -> bool:
    """The main job: blocks → profile → submission, validated. A second run on the same folder waits for the first.

    Args:
        recipe: what to build.
        data: the data folder.
        folder: the submission's folder.
        cut: `input` or `end`.
        store: the default store if None.
        memory_limit: bytes. Work is cut to fit (into what is available if None); a run that passes the limit is stopped.
        clients: whose vectors; `all` with the cut `end` takes in who is not on a list that our split made.

    Returns:
        True if it was built, False if the folder was fresh already.

    Raises:
        KitError: bad data or recipe; memory or disk would not do; the folder is something else than a submission; the result
            does not pass validation.
    """
    began = time.perf_counter()
    plan = SubmissionPlan(recipe, DataFolder(data), folder, parse_cut(cut), clients, store or Store())
    require_own(plan)
    told = {"recipe": recipe.model_dump(mode="json"), "data": str(data), "submission": str(folder), "cut": plan.cut}
    with _alone(folder, plan.store), tracking.run("submit", told, plan.store.root / "runs"):
        events = plan.events
        require_sound(plan.data, events, plan.store)
        listed = plan.cut == "end" and clients == "relevant"
        if listed and (words := left_out(plan.data, events.files, events.cut, plan.store)):
            say(f"  {words}")
        if plan.is_fresh:
            write_card(folder)
            require_none(errors_of(folder, plan.data), folder)  # an older version may have let it through
            return False
        _build(plan, memory_limit, began)
    return True


def _build(plan: SubmissionPlan, limit: int | None, began: float) -> None:
    """All that is missing, within the memory that there is; see `submit`."""
    recipe, store = plan.recipe, plan.store
    stages = stage_needs(plan)
    require_room(stages, limit, store.root, plan.folder)
    most = in_use() + memory().available if limit is None else limit
    with within(most, store.root / "scratch"), watched(limit):
        with doing("events"):
            history = History.open(plan.data, plan.cut, store=store, duplicates=recipe.duplicates, clients=plan.clients)
        if not stages[0].fresh:  # now the tables are counted, not estimated
            require_room(stage_needs(plan), limit, store.root, plan.folder)
        if plan.cut == "end":
            lost, rows = history.unlisted()
            say(
                f"  {lost / max(rows, 1):.1%} of {rows:,} purchases, cart adds and removals have no row in the catalogue"
            )
        profile = build_profile(recipe, history, store)
        with doing("submission"):
            write_submission(plan, profile, history, began)
        seconds = time.perf_counter() - began
        tracking.log("profile", {"clients": len(profile.clients), "width": profile.matrix.shape[1], "seconds": seconds})


@contextmanager
def _alone(folder: Path, store: Store) -> Iterator[None]:
    """Keep other runs off a submission's folder, and let the store know the folder, for `kit clean`."""
    known = store.submission_file(folder)
    with store.alone(known.with_suffix(".lock"), str(folder)):
        tidy(folder)
        write_json(known, {"folder": str(folder.resolve())})
        yield
