"""`kit tune report`: one HTML file with everything in it (plotly.js too), to be read offline and passed on."""

from __future__ import annotations

import html
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import optuna
import plotly.graph_objects as go
import plotly.io
import plotly.offline
from optuna import visualization as draw
from optuna.trial import FrozenTrial

from kit.store import write_atomically
from kit.tune.best import recipe_text, winner
from kit.tune.status import status
from kit.tune.storage import StudyPlace
from kit.tune.study import best_trials, is_first

MOST: Final = 12
"""Parameters per figure; those that matter most."""
STYLE: Final = """
:root {
  color-scheme: light dark;
  --bg: #ffffff; --ink: #1b1d21; --muted: #5d636b; --line: #e2e3e5; --soft: #f1f2f4; --link: #2f55d4;
}
@media (prefers-color-scheme: dark) {
  :root { --bg: #121418; --ink: #e9ebee; --muted: #9ca4ae; --line: #2b3037; --soft: #1f2329; --link: #8ea8ff }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 16px; color: var(--ink);
  background: var(--bg); overflow-wrap: break-word }
h1 { line-height: 1.2 } h2 { margin: 2em 0 .5em }
a { color: var(--link) } nav { display: flex; flex-wrap: wrap; gap: 4px 1em } .note { color: var(--muted) }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; font-variant-numeric: tabular-nums }
td, th { padding: .25em .7em; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { color: var(--muted); font-weight: 550 }
td:first-child, th:first-child { padding-left: 0; text-align: left } td.text { text-align: left; white-space: normal }
pre { background: var(--soft); padding: 1em; overflow-x: auto; border-radius: 8px }
.figure { overflow-x: auto; background: #fff; border-radius: 8px; margin: 1em 0 } .figure > div { min-width: 640px }
"""
"""Light and dark; what is wider than a phone scrolls in its own place. Figures stand on white in the dark too: Plotly's scales
from white to dark blue would be lost on any other ground."""
Section = tuple[str, str, str]
"""(anchor, heading, HTML)."""


def write_report(study: optuna.Study, place: StudyPlace, path: Path) -> None:
    """Write the report whole or not at all.

    Args:
        study: in any state; sections that need more trials say so.
        place: for the record.
        path: of the HTML file.

    Raises:
        KitError: the disk is full.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = render(study, place)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def render(study: optuna.Study, place: StudyPlace) -> str:
    """The HTML page."""
    sections = list(_sections(study, place))
    links = "".join(f'<a href="#{anchor}">{html.escape(title)}</a>' for anchor, title, _ in sections)
    body = "".join(f'<h2 id="{anchor}">{html.escape(title)}</h2>\n{content}\n' for anchor, title, content in sections)
    title = html.escape(f"Search {study.study_name}")
    where = f"{html.escape(place.shown)}, {time.strftime('%Y-%m-%d %H:%M')}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style>"
        f"<script>{plotly.offline.get_plotlyjs()}</script></head><body><h1>{title}</h1>"
        f'<p class="note">{where}</p><nav>{links}</nav>{body}</body></html>\n'
    )


def _sections(study: optuna.Study, place: StudyPlace) -> Iterator[Section]:
    state, ranked = status(study, place), best_trials(study)
    goals: list[str] = state["goals"]
    yield "summary", "Summary", _summary(state)
    if not ranked:
        return
    chosen = winner(study)
    text = recipe_text(study, chosen, place)
    yield "best", "The winner", f"<pre>{html.escape(text)}</pre>"
    yield "trials", "Best trials", _trials(ranked, goals, state["official"])
    label = str(state["gain"])

    def score(trial: FrozenTrial) -> float:
        return float((trial.values or [float("nan")])[goals.index("score")])

    yield "history", "History", _figure(lambda: draw.plot_optimization_history(study, target=score, target_name=label))
    if len(goals) > 1:
        yield "pareto", "Pareto front", _figure(lambda: draw.plot_pareto_front(study, target_names=goals))
    important = _importances(study, score)
    yield "importances", "What mattered", _importance_figure(important)
    top = list(important)[:MOST] or sorted(ranked[0].params)[:MOST]
    yield "slices", "Slices", _figure(lambda: draw.plot_slice(study, params=top, target=score, target_name=label))
    yield (
        "parallel",
        "Parallel coordinates",
        _figure(lambda: draw.plot_parallel_coordinate(study, params=top, target=score, target_name=label)),
    )
    yield "cost", "Cost", _cost(study) + _figure(lambda: draw.plot_timeline(study))
    yield "pruned", "Pruned, failed and lost", _reasons(state["reasons"]) + _pruning(study)


def _summary(state: dict[str, Any]) -> str:
    hits = state["hit_rate"]
    rows = [
        ("data", state["data"]),
        (
            "trials",
            ", ".join(f"{count} {name}" for name, count in state["trials"].items() if count) + f"; cap {state['cap']}",
        ),
        ("goals", ", ".join(state["goals"]) + f" (score = {state['gain']})"),
        ("blocks found in the store", f"{hits['fresh']} of {hits['asked']}" if hits["asked"] else "none asked for"),
        ("median seconds of a trial", state["seconds_per_trial"]),
    ]
    return _table(("", ""), [(name, str(value)) for name, value in rows])


def _trials(ranked: Sequence[FrozenTrial], goals: Sequence[str], official: dict[str, Any]) -> str:
    shown = [*ranked[:20], *(trial for trial in ranked[20:] if is_first(trial))]
    tasks = list(shown[0].user_attrs.get("result", {}).get("scores", {}))
    rows = []
    for trial in shown:
        result = trial.user_attrs.get("result", {})
        scores = [f"{result.get('scores', {}).get(task, float('nan')):.4f}" for task in tasks]
        name = f"{trial.number}{' (defaults)' if is_first(trial) else ''}"
        marks = [str(official.get(str(trial.number), {}).get("sum", ""))]
        values = [f"{value:.4g}" for value in trial.values]
        rows.append((name, *values, *scores, str(result.get("width", "")), str(result.get("seconds", "")), *marks))
    names = [task.removeprefix("propensity_") for task in tasks]
    return _table(("trial", *goals, *names, "width", "seconds", "official sum"), rows)


def _importances(study: optuna.Study, score: Callable[[FrozenTrial], float]) -> dict[str, float]:
    """Share of the score's variance by parameter; empty when there are too few trials or they all agree."""
    try:
        return dict(optuna.importance.get_param_importances(study, target=score))
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}


def _importance_figure(important: dict[str, float]) -> str:
    note = (
        '<p class="note">Share of the variance that a parameter explains (fANOVA), over the parameters that all complete '
        "trials have; those of blocks that can be switched off are in the slices only.</p>"
    )
    if not important:
        return note + _too_few("too few different complete trials")
    names = list(important)[:MOST][::-1]
    bars = go.Bar(x=[important[name] for name in names], y=names, orientation="h")
    return note + _figure(lambda: go.Figure(bars).update_layout(margin={"l": 260}))


def _cost(study: optuna.Study) -> str:
    """Seconds per trial beside what its blocks would take without the store."""
    results = [(t.number, t.user_attrs["result"]) for t in study.get_trials(deepcopy=False) if "result" in t.user_attrs]
    if not results:
        return _too_few("no trial has a result")
    numbers = [number for number, _ in results]
    took = [float(result["seconds"]) for _, result in results]
    blocks = [float(result["block_seconds"]) for _, result in results]
    figure = go.Figure(
        [
            go.Bar(x=numbers, y=took, name="seconds of the trial"),
            go.Bar(x=numbers, y=blocks, name="its blocks from nothing"),
        ]
    ).update_layout(xaxis_title="trial", yaxis_title="seconds")
    spent, saved = sum(took), sum(blocks)
    said = f"All trials together took {spent:.0f} s of work; making every trial's blocks anew would have taken {saved:.0f} s."
    return f"<p>{said}</p>" + _figure(lambda: figure)


def _reasons(reasons: Sequence[dict[str, Any]]) -> str:
    if not reasons:
        return "<p>None.</p>"
    rows = [(str(row["trial"]), row["state"], row["reason"]) for row in reasons]
    return _table(("trial", "state", "why"), rows, text=True)


def _pruning(study: optuna.Study) -> str:
    """What trials reported step by step, if they did."""
    if not any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        return ""
    return _figure(lambda: draw.plot_intermediate_values(study))


def _figure(make: Callable[[], go.Figure]) -> str:
    """A figure as HTML, or why it cannot be drawn yet."""
    try:
        drawn = plotly.io.to_html(make(), include_plotlyjs=False, full_html=False, config={"responsive": True})
        return f'<div class="figure">{drawn}</div>'
    except (ValueError, RuntimeError, ZeroDivisionError, IndexError) as error:
        return _too_few(str(error))


def _too_few(why: str) -> str:
    return f'<p class="note">Nothing to draw yet: {html.escape(why)}.</p>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, text: bool = False) -> str:
    top = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    kind = ' class="text"' if text else ""
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"
