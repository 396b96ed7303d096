"""What `explain-gbm.json` in a submission says: how much each block and feature moved the LightGBM probe's predictions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kit.errors import KitError

FILE: Final = "explain-gbm.json"


@dataclass(frozen=True)
class Attributions:
    """Per task: block → share, and the strongest features as (block, feature, share), shares of the task's total."""

    blocks: dict[str, dict[str, float]]
    features: dict[str, list[tuple[str, str, float]]]


def read_attributions(submission: Path) -> Attributions | None:
    """explain-gbm.json of a submission; None if there is none.

    Raises:
        KitError: it has no such shape.
    """
    path = submission / FILE
    if not path.exists():
        return None
    try:
        tasks = dict(json.loads(path.read_text(encoding="utf-8"))["tasks"])
        blocks = {task: _shares(entry["blocks"], "block") for task, entry in tasks.items()}
        features = {task: _features(entry["features"]) for task, entry in tasks.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KitError(f"{path} is no explanation ({error!r}).", "Delete it and make it again.") from error
    return Attributions(blocks, features)


def _amount(entry: dict[str, Any]) -> float:
    return float(next(entry[key] for key in ("share", "contribution", "importance") if key in entry))


def _shares(entries: dict[str, float] | list[dict[str, Any]], key: str) -> dict[str, float]:
    """name → share of the whole; accepts a mapping or a list of rows."""
    amounts = entries if isinstance(entries, dict) else {str(row[key]): _amount(row) for row in entries}
    total = sum(amounts.values()) or 1.0
    return {name: float(value) / total for name, value in amounts.items()}


def _features(entries: list[dict[str, Any]]) -> list[tuple[str, str, float]]:
    total = sum(_amount(row) for row in entries) or 1.0
    scale = 1.0 if all("share" in row for row in entries) else total
    rows = [(str(row.get("block", "")), str(row["feature"]), _amount(row) / scale) for row in entries]
    return sorted(rows, key=lambda row: -row[2])
