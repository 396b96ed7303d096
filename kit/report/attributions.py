"""What `explain-gbm.json` in a submission says: how much of the LightGBM probe's gain each block and column brought."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kit.errors import KitError
from kit.probes.score import read_scores

FILE: Final = "explain-gbm.json"


@dataclass(frozen=True)
class Attributions:
    """Per task: block → share of the gain, and the strongest columns as (block, column, share)."""

    blocks: dict[str, dict[str, float]]
    features: dict[str, list[tuple[str, str, float]]]


def read_attributions(submission: Path) -> Attributions | None:
    """explain-gbm.json of a submission; None if there is none, or if it explains other scores than the stored ones.

    Raises:
        KitError: it has no such shape.
    """
    path = submission / FILE
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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KitError(f"{path} is no explanation ({error!r}).", "Delete it and make it again.") from error
    scored = read_scores(submission).get("gbm", {}).get("fingerprint")
    return Attributions(blocks, features) if found.get("fingerprint") == scored else None
