"""What decides a score: vectors, target files, the probe and its code; and what is to be said or refused where it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.origin import changed, listed
from kit.errors import KitError
from kit.fingerprint import code_of
from kit.probes.registry import PROBES, Probe, Source
from kit.progress import say
from kit.store import Store, digest
from kit.submission.submission import Submission
from kit.tasks import Task
from kit.tasks.labels import own_digest, target_files, targets_digest

SHARED_CODE: Final = ("kit.tasks.challenge", "kit.tasks.labels", "kit.scoring.cohorts")
"""Modules that decide scores of the challenge's tasks, besides the probe's own; other tasks have `own_digest`."""


def evidence(folder: DataFolder, probe: Probe, precision: str) -> dict[str, Any]:
    """All that decides a score besides vectors and seeds: target files, probe, precision and the code of the probe."""
    return {
        "targets": Store().files_digest(target_files(folder)),
        "probe": probe.name,
        "precision": precision,
        "code": probe_code(probe),
    }


def probe_code(probe: Probe) -> str:
    """Digest of the code that decides a probe's scores."""
    return code_of(probe.run, *SHARED_CODE).digest


def fingerprint_of(submission: Submission, folder: DataFolder, decided: dict[str, Any]) -> str:
    """Digest of all that decides a report but its number of runs: vectors, ids, the events of cohorts, and `evidence`; and
    what a probe reads beside the vectors."""
    own = {
        "submission": submission.digest,
        "events": Store().files_digest(folder.input(kind) for kind in EventType),  # for the cohorts
    }
    return digest(own | decided | reads_of(PROBES.loaded()[decided["probe"]], Source(submission.folder, folder)))


def reads_of(probe: Probe, source: Source) -> dict[str, Any]:
    """What of a submission decides the probe's scores beside its vectors; empty where nothing does."""
    return {} if probe.reads is None else {"reads": probe.reads(source)}


def still_asks(task: Task, folder: DataFolder, entry: dict[str, Any] | None) -> bool:
    """Whether a known entry is of the task as it is now: that of one's own may have changed since."""
    return entry is not None and entry.get("made_of") == own_digest(task, folder)


def made_of(task: Task, folder: DataFolder) -> dict[str, str]:
    """What an entry of a task of one's own keeps, for `still_asks`."""
    own = own_digest(task, folder)
    return {} if own is None else {"made_of": own}


def origin_notes(submission: Submission, folder: DataFolder) -> list[str]:
    """A note where the submission was made from other events than the folder's input holds now; empty where it says nothing of
    them, as one for the cut at the end, which is made from other tables."""
    origin = submission.origin
    inputs = [folder.input(kind).relative_to(folder.root).as_posix() for kind in EventType]
    found = changed(folder, origin, Store(), [name for name in inputs if name in origin])
    if not found:
        return []
    return [
        f"The submission was made from other data than {folder.root} holds now ({listed(found)}): its vectors may know what the "
        "target windows hold, or miss what came before. Build it again."
    ]


def require_same_targets(submission: Submission, folder: DataFolder, targets: str) -> None:
    """KitError where the target files are others than when the scoring began: its scores would be filed under the wrong ones."""
    if targets_digest(folder) != targets:
        raise KitError(
            f"The target files of {folder.root} were exchanged while {submission} was scored.",
            "What was scored since then was not written: score it again.",
        )


def require_replaceable(
    before: dict[str, Any] | None, decided: dict[str, Any], vectors: str, probe: Probe, missing: Sequence[Task]
) -> None:
    """There is one place per probe in scores.json: what stands there may have taken hours.

    Raises:
        KitError: sound scores in another precision would be replaced by those of the `missing` tasks.
    """
    if before is None or not missing or before.get("vectors") != vectors:
        return
    if before.get("targets") != digest(decided["targets"]):
        say(f"  the {probe.name} probe's scores on {before['data']} are replaced")
    elif (
        before.get("code") == str(decided["code"])
        and before["precision"] != decided["precision"]
        and before["precision"] in probe.precisions
    ):
        raise KitError(
            f"{before['submission']} has the {probe.name} probe's scores in {before['precision']}: those in "
            f"{decided['precision']} would replace them.",
            f"Give --precision {before['precision']} to go on with them, or --force to score anew (beside --against: score "
            "the other one by itself first), or score a copy.",
        )
