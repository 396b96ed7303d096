"""CARD.md: what a submission is, in a page of Markdown beside it, made from its manifest and its scores.

Written by `kit submit`, refreshed by `kit score`. It holds no times, so equal inputs give equal cards.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kit.blocks.base import find_block
from kit.challenge import TaskName
from kit.contract import vectors_digest
from kit.errors import KitError
from kit.profile.assemble import CUT_SHARE, cut_words
from kit.store import write_atomically
from kit.submission.manifest import read_manifest
from kit.submission.stored import understood

CARD = "CARD.md"


def write_card(folder: Path, place: Path | None = None) -> bool:
    """Write or refresh CARD.md of a submission; a folder without a manifest (not made by `kit submit`) gets none.

    Args:
        folder: where the submission's files are now.
        place: where they will be, for the commands in the card; `folder` if None.

    Returns:
        whether the card changed.
    """
    try:
        manifest = read_manifest(folder)
    except KitError:
        return False
    text = card(manifest, _scores(folder), place or folder)
    path = folder / CARD
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return True


SHOWN: Final = frozenset({"tasks", "precision", "seeds", "data"})
"""Of a report in scores.json, what the card tells."""


def _scores(folder: Path) -> dict[str, Any]:
    """Reports in scores.json on these very vectors: an unreadable file must not keep a submission from being written."""
    path = folder / "scores.json"
    try:
        found = understood(json.loads(path.read_text(encoding="utf-8")), path)
        now = vectors_digest(folder) if found else ""
        return {
            name: report for name, report in found.items() if report.get("vectors", now) == now and {*report} >= SHOWN
        }
    except (OSError, ValueError, KitError):
        return {}


def card(manifest: dict[str, Any], scores: dict[str, Any], folder: Path) -> str:
    """The card as Markdown."""
    recipe = manifest["recipe"]
    parts = [
        f"# {manifest['name']}",
        recipe["description"],
        f"One float16 vector of {manifest['width']:,} numbers for each of {manifest['clients']:,} clients: "
        "a profile of what they did before the cut, made to serve churn, conversion and four propensity tasks at once.",
        _data(manifest),
        _blocks(manifest),
        _score_tables(scores, folder),
        _use(),
        _reproduce(manifest, folder),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data(manifest: dict[str, Any]) -> str:
    data = manifest["data"]
    rows = [
        ("folder", f"`{data['folder']}`"),
        ("cut", f"{data['cut']}: no event at or after it was read"),
        ("history", f"`{data['history']}`"),
        (
            "duplicates",
            {"keep": "count as often as they occur", "drop": "count once"}[manifest["recipe"]["duplicates"]],
        ),
        ("licence of the data", data.get("licence", "not recorded")),
    ]
    return "## Data\n\n" + table(("", ""), rows)


def _blocks(manifest: dict[str, Any]) -> str:
    head = ("block", "what it is", "columns", "clients without data")
    rows = []
    for block in manifest["blocks"]:
        try:
            what = find_block(block["kind"]).description
        except KitError:  # a joint PCA, or a block that this version no longer has
            what = block["kind"]
        rows.append((block["name"], what, f"{block['start']}–{block['stop'] - 1}", f"{block['missing_rows']:,}"))
    cut = [f"- {what}." for what, _ in clipped(manifest)]
    return "## Blocks\n\n" + table(head, rows) + ("\n\n" + "\n".join(cut) if cut else "")


def clipped(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """What to say and what to do of each block of which the assembly cut more than a small share of the values."""
    clip = manifest.get("recipe", {}).get("assembly", {}).get("clip")
    return [
        cut_words(block["name"], block["clipped"], block["largest"], clip)
        for block in manifest.get("blocks", [])
        if block.get("clipped", 0) > CUT_SHARE
    ]


def _score_tables(scores: dict[str, Any], folder: Path) -> str:
    if not scores:
        return f"## Scores\n\nNot scored yet: `kit score {shlex.quote(str(folder))} --data DIR`."
    names = list(scores)
    head = ("task", *(f"{name} probe" for name in names))
    rows = []
    own = sorted({task for name in names for task in scores[name]["tasks"]} - set(TaskName))
    for task in (*TaskName, *own):
        entries = [scores[name]["tasks"].get(task, {}) for name in names]
        if any(entries):
            rows.append((str(task), *(number(entry.get("score")) for entry in entries)))
    rows.append(("**sum**", *(f"**{number(scores[name].get('sum'))}**" for name in names)))
    lines = [
        f"- {name} probe: {scores[name]['precision']}, {seeds(scores[name]['seeds'])}, on `{scores[name]['data']}`"
        for name in names
    ]
    notes = [f"- {note}" for note in dict.fromkeys(note for name in names for note in scores[name].get("notes", []))]
    return "## Scores\n\n" + table(head, rows) + "\n\n" + "\n".join(lines + notes)


def _use() -> str:
    return """\
## Intended use and limits

- For ranking and segmenting clients, and as input of models trained on the client's next weeks. Scores hold for windows right
  after the cut; the older the vectors, the less they know.
- Vectors are only comparable within this submission: another recipe, cut or seed spans another space.
- Clients without events hold imputed values only; nothing can be told about them.
- A profile describes a person's behaviour. Hold and share it as personal data, even though names are missing from it; do not use
  it for decisions with legal or similarly grave effect on a person. It was not examined for fairness between groups of people.
- A score of one probe says how much that probe could read out, not what the vectors hold."""


def _reproduce(manifest: dict[str, Any], folder: Path) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in manifest["libraries"].items())
    command = (
        f"kit submit RECIPE.toml --data {shlex.quote(manifest['data']['folder'])} --out {shlex.quote(str(folder))}"
    )
    return (
        f"## How to reproduce\n\n    {command}\n\n"
        f"with the recipe in `manifest.json` (key `recipe`, seed {manifest['seed']}). "
        "Equal recipe, data and code give equal bytes on the CPU.\n\n"
        f"- fingerprint `{manifest['fingerprint']}`, code `{manifest['code']}`, kit {manifest['kit']}\n"
        f"- Python {manifest['python']}; {libraries}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; pipes in cells are escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Four decimals, or `–` where there is nothing."""
    return "–" if value is None else f"{value:.4f}"


def seeds(count: int) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} seed{'' if count == 1 else 's'}"
