"""What a reader of scores should know: trainings that are not settled, and comparisons of what was not made alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kit.errors import KitError

UNSETTLED: Final = 0.015
"""Score that a network may lose after its best epoch. Of 93 runs on shops of 8,000 and more clients none lost over .007; one more
lost .028, and two other starts from the same rows scored .05 and .07 above it (docs/measured.md)."""


def unsettled(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A remark on tasks that were scored by one training that fell back: another start, or precision, may score otherwise.

    Args:
        tasks: task → its entry: `epochs`, the scores of the official seed's, and `per_seed` where there were several runs,
            whose spread tells more.
    """
    single = {task: entry["epochs"] for task, entry in tasks.items() if entry.get("epochs") and "per_seed" not in entry}
    lost = {task: max(epochs) - epochs[-1] for task, epochs in single.items()}
    fell = [f"{loss:.3f} in {task}" for task, loss in lost.items() if loss > UNSETTLED]
    if not fell:
        return []
    return [
        f"After its best epoch the score fell by {', '.join(fell)}: such a training is not settled, and another start may score "
        "several hundredths higher or lower; --seeds 3 shows it."
    ]


def notes_on(reports: dict[str, dict[str, Any]]) -> list[str]:
    """What a reader of a comparison should know: name → report. Empty where all were made alike.

    Raises:
        KitError: they were scored on different target files.
    """
    if len({report["targets"] for report in reports.values()}) > 1:
        places = ", ".join(f"{name} on {report['data']}" for name, report in reports.items())
        raise KitError(f"They were scored on different data: {places}.", "Score all on the same folder as it is now.")
    notes = []
    if len({report["precision"] for report in reports.values()}) > 1:
        listed = ", ".join(f"{name} in {report['precision']}" for name, report in reports.items())
        notes.append(f"different precisions: {listed}; they may differ by .002, on unscaled vectors by more.")
    if len({report["code"] for report in reports.values()}) > 1:
        notes.append("scored by different versions of the probe: score all of them again.")
    if len({(report["seeds"], bool(report.get("reordered"))) for report in reports.values()}) > 1:
        listed = ", ".join(f"{name}: {_runs(report)}" for name, report in reports.items())
        notes.append(f"different runs ({listed}): a single run counts as uncertain as one of the others'.")
    return notes


def _runs(report: dict[str, Any]) -> str:
    count = int(report["seeds"])
    orders = "in other orders" if report.get("reordered") else "in one order"
    return "1 run" if count == 1 else f"{count} runs {orders}"
