"""What a probe read, as `kit score --probe gbm --probe fast --explain --clients …` left it in a submission.

`explain-<probe>.json` says how much weight each block and column has (gain of LightGBM's splits, size of the network's
attributions), and takes the margins of named clients apart; `explain-<probe>.npz` holds every contribution to these margins.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kit.errors import KitError
from kit.scoring.results import PRINT, read_scores
from kit.studies.attributions import explanation_file
from kit.submission.submission import Submission

STEPS: Final = 6
"""Columns drawn one by one in a waterfall; the others are one step together."""
STRONGEST: Final = 6
"""Columns listed by their mean contribution."""


@dataclass(frozen=True)
class Waterfall:
    """A client's most likely label of a task: `base` + `steps` + `rest` = `margin`, in log-odds.

    Attributes:
        client: id.
        label: what is predicted.
        probability: of the label, as the probe sees it.
        base: the margin before anything is known about the client.
        steps: (column, contribution), strongest first.
        rest: of all other columns together, and of a network also what the draws left unexplained.
        margin: log-odds of the label.
    """

    client: str
    label: str
    probability: float
    base: float
    steps: tuple[tuple[str, float], ...]
    rest: float
    margin: float


@dataclass(frozen=True)
class Pushes:
    """How far a task's margins are pushed: means of |contribution| over the named clients and their labels, in log-odds; all
    labels for trees, the most likely ones for networks.

    Attributes:
        clients: how many were named.
        blocks: block → mean of the absolute sum of its columns.
        columns: (column, mean), strongest first.
        waterfalls: one per client, in the order of their rows.
    """

    clients: int
    blocks: dict[str, float]
    columns: tuple[tuple[str, float], ...]
    waterfalls: tuple[Waterfall, ...]


@dataclass(frozen=True)
class Attributions:
    """Per task: block → share of the weight, the strongest columns as (block, column, share), pushes if clients were named."""

    blocks: dict[str, dict[str, float]]
    features: dict[str, list[tuple[str, str, float]]]
    pushes: dict[str, Pushes]


def read_attributions(submission: Submission, probe: str = "gbm") -> Attributions | None:
    """What was explained of a submission's probe; None if nothing was, or if it explains other scores than the stored ones.

    Raises:
        KitError: a file has no such shape.
    """
    path = explanation_file(submission.folder, probe)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        tasks = dict(found["tasks"])
        blocks = {t: {name: float(row["share"]) for name, row in entry["blocks"].items()} for t, entry in tasks.items()}
        features = {
            t: [(str(row["block"]), str(row["column"]), float(row["share"])) for row in entry["features"]]
            for t, entry in tasks.items()
        }
        waterfalls = {
            t: tuple(_waterfall(client, labels[0]) for client, labels in entry.get("clients", {}).items())
            for t, entry in tasks.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise KitError(f"{path} is no explanation ({error!r}).", "Delete it and make it again.") from error
    report = read_scores(submission.folder).get(probe, {})
    if found.get(PRINT) != report.get(PRINT) or report.get("vectors") != submission.digest:
        return None
    drawn = {t: w for t, w in waterfalls.items() if w}
    return Attributions(blocks, features, _pushes(submission, path, str(found[PRINT]), drawn))


def _waterfall(client: str, entry: dict[str, Any]) -> Waterfall:
    """The strongest columns of an entry of the file; what they leave of the margin is the rest."""
    ranked = sorted(entry["columns"].items(), key=lambda pair: -abs(pair[1]))[:STEPS]
    steps = tuple((str(name), float(value)) for name, value in ranked)
    base, margin = float(entry["base"]), float(entry["margin"])
    rest = margin - base - sum(value for _, value in steps)
    return Waterfall(str(client), str(entry["label"]), float(entry["probability"]), base, steps, rest, margin)


def _pushes(
    submission: Submission, explained: Path, fingerprint: str, waterfalls: dict[str, tuple[Waterfall, ...]]
) -> dict[str, Pushes]:
    path = explained.with_suffix(".npz")
    if not waterfalls or not path.exists():
        return {}
    try:
        with np.load(path) as arrays:
            if PRINT in arrays and str(arrays[PRINT]) != fingerprint:  # a run was stopped between the two files
                return {}
            return {t: _push(submission, arrays[f"{t}-contributions"], drawn) for t, drawn in waterfalls.items()}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise KitError(f"{path} holds no contributions ({error!r}).", "Delete it and make it again.") from error


def _push(submission: Submission, contributions: NDArray[np.float64], waterfalls: tuple[Waterfall, ...]) -> Pushes:
    """Means over (clients, labels, columns + 1); the last column is the base, which pushes nobody."""
    count, _, width = contributions.shape
    if count != len(waterfalls):
        raise ValueError(f"{count} clients, and {len(waterfalls)} in the JSON file")
    parts = contributions[:, :, :-1]
    names, slices = submission.columns(width - 1)
    means = np.abs(parts).mean(axis=(0, 1))
    blocks = {name: float(np.abs(parts[:, :, part].sum(axis=2)).mean()) for name, part in slices.items()}
    strongest = np.argsort(-means, kind="stable")[:STRONGEST].tolist()
    return Pushes(count, blocks, tuple((names[i], float(means[i])) for i in strongest if means[i] > 0), waterfalls)
