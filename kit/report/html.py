"""The report as one HTML file: styles and drawings inlined, no script, nothing from the network."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any, Final

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from kit.report import figures
from kit.report.attributions import Attributions, Pushes
from kit.report.collect import Report
from kit.report.scores import ProbeScores
from kit.report.words import instant, number, percent, short, signed
from kit.tasks import CHALLENGE

SECTIONS: Final = {
    "scores": "Scores",
    "gain": "Gain",
    "board": "Board",
    "blocks": "Blocks",
    "attributions": "Attributions",
    "cohorts": "Cohorts",
    "training": "Training",
    "clients": "Map",
    "health": "Health",
    "drift": "Drift",
    "cost": "Cost",
}
DRAWN: Final = 3
"""Named clients whose margins are drawn, per task."""
COHORTS: Final = {"history": "number of events", "mix": "what they did", "purchases": "purchases"}
"""Groups of cohorts in words; others as they are called."""
BRIEF: Final = {"category": "cat.", "conversion": "conv.", "new sku": "new"}


def render(report: Report) -> str:
    """The page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "number": number, "signed": signed, "percent": percent, "short": short, "brief": brief, "instant": instant, "code": code,
        "cohort": lambda group: COHORTS.get(group, group),
    }  # fmt: skip
    files = resources.files("kit.report") / "templates"
    template = environment.from_string((files / "report.html.j2").read_text(encoding="utf-8"))
    css = Markup((files / "report.css").read_text(encoding="utf-8"))
    return template.render(report=report, manifest=report.manifest, css=css, **_scores(report), **_parts(report)) + "\n"


def brief(task: str) -> str:
    """A column head of five letters."""
    return BRIEF.get(short(task), short(task))


def code(text: str) -> Markup:
    """Text with `this` set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _scores(report: Report) -> dict[str, Any]:
    """What the sections about scores need."""
    first = report.first
    rival = first.against[0] if first and first.against else None
    has_ceiling = bool(first) and any(row.ceiling_auroc is not None for row in first.rows) if first else False
    board_tasks = list(first.board[0]["scores"]) if first and first.board else []
    if first and first.published and not board_tasks:
        board_tasks = [row.task for row in first.rows]
    slices, slice_tasks = cohort_tables(report.probes)
    hidden = set()
    if not first:
        hidden |= {"gain", "cohorts"}
    if not first or not (first.board or first.published):
        hidden.add("board")
    return {
        "first": first,
        "rival": rival,
        "has_ceiling": has_ceiling,
        "has_gap": bool(rival and rival.gap),
        "columns": 6 + bool(rival) + has_ceiling,
        "way": figures.way(first) if first else None,
        "forests": [figures.forest(other) for other in first.against] if first else [],
        "board_tasks": board_tasks,
        "slices": slices,
        "slice_tasks": slice_tasks,
        "sections": [(key, title) for key, title in SECTIONS.items() if key not in hidden],
        "tiles": headline_tiles(report),
    }


def _parts(report: Report) -> dict[str, Any]:
    """What the other sections need."""
    health, clients, ablation = report.health, report.clients, report.ablation
    axes = ""
    if clients:
        axes = "UMAP's two axes" if clients.method == "umap" else "the first two principal components"
        if clients.explained:
            axes += f" ({percent(sum(clients.explained))} of the variance)"
    return {
        "ablations": [figures.left_out(ablation, row) for row in ablation.rows] if ablation else [],
        "readings": (found := readings(report)),
        "read_tasks": [task.name for task in CHALLENGE if any(task.name in reading["blocks"] for reading in found)],
        "drawn": DRAWN,
        "sparks": {name: figures.sparks(record) for name, record in report.training.items()},
        "axes": axes,
        "panels": [(panel, *figures.map_panel(clients, panel)) for panel in clients.panels] if clients else [],
        "health_tiles": health_tiles(report),
        "norms": figures.norms(health) if health else "",
        "norm_text": norm_text(report),
        "spectrum": figures.spectrum(health) if health else "",
        "energy": figures.shares(health.energy) if health else [],
        "moved": figures.moved(report.drift) if report.drift else None,
        "seconds": figures.seconds(report.manifest["blocks"]),
        "recipe": json.dumps({k: report.manifest[k] for k in ("recipe", "data", "code")}, indent=2, default=str),
    }


def readings(report: Report) -> list[dict[str, Any]]:
    """What each explained probe read: its name, file and words, bars of blocks by task, columns by task, named clients."""
    known: list[tuple[Attributions | None, dict[str, Any]]] = [
        (report.attributions, {"name": "LightGBM", "file": "explain-gbm.json", "labels": "all labels"}),
        (report.network, {"name": "network", "file": "explain-fast.json", "labels": "their most likely labels"}),
    ]
    return [
        about
        | {
            "blocks": {task: figures.shares(shares) for task, shares in found.blocks.items()},
            "features": found.features,
            "pushes": _pushes(found.pushes),
        }
        for found, about in known
        if found is not None
    ]


def _pushes(found: dict[str, Pushes]) -> list[dict[str, Any]]:
    """Per task what is drawn of the named clients' margins."""
    return [
        {
            "task": task,
            "clients": push.clients,
            "blocks": figures.pushed(list(push.blocks.items())),
            "columns": figures.pushed(push.columns),
            "falls": [(fall, figures.waterfall(fall)) for fall in push.waterfalls[:DRAWN]],
        }
        for task, push in found.items()
    ]


def headline_tiles(report: Report) -> list[tuple[str, str]]:
    """(value, label) of the numbers under the verdict."""
    tiles = []
    first = report.first
    if first:
        tiles.append((f"{first.sum:.4f}", "sum of the scores"))
        rival = first.against[0] if first.against else None
        if rival and rival.total:
            tiles.append((signed(rival.total.difference), f"against {rival.name}"))
        if rival and rival.mean_gap is not None:
            tiles.append((percent(rival.mean_gap), "of the gap to the ceiling closed"))
        mine = next((row for row in first.board if row["name"] == report.name), None)
        if mine:
            tiles.append((f"{mine['rank']} of {len(first.board)}", "rank by Borda"))
    manifest = report.manifest
    tiles.append((f"{manifest['clients']:,} × {manifest['width']:,}", "clients × columns"))
    return tiles


def health_tiles(report: Report) -> list[tuple[str, str]]:
    """(value, label) of the embedding's health."""
    health = report.health
    if health is None:
        return []
    return [
        (f"{health.effective_rank:.0f} of {health.width:,}", "effective rank"),
        (f"{health.dead:,}", "constant columns"),
        (f"{health.duplicate_columns:,}", "columns equal to another"),
        (percent(health.duplicate_rows, 1), "rows equal to another"),
        (f"{health.largest:.3g}", "largest absolute value"),
        (percent(health.rounding, 2), f"rounding noise ÷ spread, median; {health.coarse:,} columns above 1 %"),
    ]


def norm_text(report: Report) -> str:
    """One sentence about the row norms."""
    health = report.health
    if health is None:
        return ""
    low, middle, high = (float(value) for value in np.quantile(health.norms, (0, 0.5, 1)))
    text = f"From {low:.3g} to {high:.3g}, median {middle:.3g}."
    if high - low < 1e-2 * max(high, 1e-9):
        text = f"All rows have norm {middle:.3g}, as the recipe's row_norm makes them."
    return text + (f" {health.zero_rows:,} rows are zero." if health.zero_rows else "")


def cohort_tables(probes: list[ProbeScores]) -> tuple[dict[str, Any], list[str]]:
    """group → cohort → {clients, auroc: task → AUROC}, from the first probe that has slices; and the tasks.

    Clients are counted over the task that covers most of them: churn leaves out who never bought.
    """
    slices = next((probe.slices for probe in probes if probe.slices), {})
    tables: dict[str, dict[str, Any]] = {}
    for task, groups in slices.items():
        for group, cohorts in groups.items():
            for name, cell in cohorts.items():
                entry = tables.setdefault(group, {}).setdefault(name, {"clients": 0, "auroc": {}})
                entry["clients"] = max(entry["clients"], int(cell["clients"]))
                entry["auroc"][task] = cell["auroc"]
    return tables, list(slices)
