"""Draws every figure of README and docs from the JSON beside them, and writes the README's table of scores.

    python docs/figures.py                       all figures, and the tables between their marks
    python docs/figures.py --check               exit 1 if a file is not what this would write
    python docs/figures.py --take BENCH.json     first take the scores of `kit bench worlds --probe official --out BENCH.json`

`docs/measured/official.json` holds per task [organisers, kit] and the ceiling: the first screen. Each
`docs/measured/figures/NAME.json` becomes `docs/img/NAME.svg`: rows × series of numbers as dots, or lines over x.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
OFFICIAL = DOCS / "measured" / "official.json"
TABLES = (ROOT / "README.md", DOCS / "measured" / "scores.md")
MARKS = re.compile(r"(<!-- scores -->\n).*?(<!-- /scores -->)", re.DOTALL)

LIGHT = {
    "ink": "#1f2328",
    "soft": "#59636e",
    "grid": "#d1d9e0",
    "dots": ("#9a6700", "#0969da", "#8250df", "#1a7f37", "#cf222e"),
}
DARK = {
    "ink": "#e6edf3",
    "soft": "#9198a1",
    "grid": "#3d444d",
    "dots": ("#d29922", "#58a6ff", "#bc8cff", "#3fb950", "#f85149"),
}
WIDTH, NAMES, EDGE, LINE, HEAD, FOOT = 640, 136, 18, 30, 62, 32


def style(colours: Mapping[str, Any]) -> str:
    """CSS rules of one colour scheme."""
    rules = [
        f"text{{font:15px system-ui,sans-serif;fill:{colours['ink']}}}",
        f".s{{fill:{colours['soft']};font-size:13px}}",
    ]
    rules += [f".g{{stroke:{colours['grid']}}}", f".m{{stroke:{colours['ink']};stroke-width:2}}"]
    for k, colour in enumerate(colours["dots"]):
        rules += [f".f{k}{{fill:{colour}}}", f".l{k}{{stroke:{colour};fill:none;stroke-width:2}}"]
    return "".join(rules)


def sheet(scheme: str) -> str:
    """`light`, `dark`, or `auto`: as the reader's system has it."""
    if scheme == "auto":
        return f"{style(LIGHT)}@media(prefers-color-scheme:dark){{{style(DARK)}}}"
    return style(LIGHT if scheme == "light" else DARK)


class Scale:
    """Numbers to pixels, straight or by logarithm."""

    def __init__(self, values: Sequence[float], start: float, stop: float, *, log: bool = False) -> None:
        self.log, self.start, self.stop = log, start, stop
        low, high = min(map(self._on, values)), max(map(self._on, values))
        pad = (high - low or 1.0) * 0.04
        self.low, self.high = low - pad, high + pad

    def _on(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def __call__(self, value: float) -> float:
        """Position of a number."""
        share = (self._on(value) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers inside, six at most."""
        if self.log:
            steps = [base * 10.0**power for power in range(-4, 9) for base in (1, 2, 5)]
            inside = [value for value in steps if self.low <= math.log10(value) <= self.high]
            return inside if len(inside) <= 6 else [value for value in inside if str(value).strip("0.")[0] == "1"]
        raw = (self.high - self.low) / 6
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
        first = math.ceil(self.low / step)
        return [round(k * step, 10) for k in range(first, first + 7) if k * step <= self.high]


def shown(value: float) -> str:
    """A tick's label: `.75`, `8,000`."""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.4f}".rstrip("0").rstrip(".") or "0"


def legend(names: Sequence[str], mark: str | None) -> Iterator[str]:
    """What the colours are, under the title."""
    x = EDGE
    for k, name in enumerate(names):
        yield f'<circle class="f{k}" cx="{x + 5}" cy="38" r="5"/><text class="s" x="{x + 15}" y="42">{escape(name)}</text>'
        x += 34 + round(7.0 * len(name))
    if mark:
        yield f'<line class="m" x1="{x + 5}" x2="{x + 5}" y1="31" y2="45"/>'
        yield f'<text class="s" x="{x + 13}" y="42">{escape(mark)}</text>'


def drawing(title: str, height: int, body: Sequence[str], scheme: str) -> str:
    """A whole SVG file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    name = f'<text x="{EDGE}" y="20" font-weight="600">{escape(title)}</text>'
    return f"{head}<style>{sheet(scheme)}</style>{name}{''.join(body)}</svg>\n"


def dots(figure: Mapping[str, Any], scheme: str = "auto") -> str:
    """A line per row, a dot per series (joined where there are two), a bar for the mark."""
    rows, series, mark = figure["rows"], figure["series"], figure.get("mark")
    marks = mark["values"] if mark else [None] * len(rows)
    values = [v for line in [*series.values(), marks] for v in line if v is not None]
    scale = Scale(values, NAMES, WIDTH - EDGE, log=figure.get("log", False))
    bottom = HEAD + LINE * len(rows)
    body = [*legend(list(series), mark["name"] if mark else None)]
    for tick in scale.ticks():
        at = scale(tick)
        body.append(f'<line class="g" x1="{at}" x2="{at}" y1="{HEAD - 4}" y2="{bottom}"/>')
        body.append(f'<text class="s" x="{at}" y="{bottom + 16}" text-anchor="middle">{shown(tick)}</text>')
    for i, row in enumerate(rows):
        y = HEAD + LINE * i + LINE // 2
        body.append(f'<text x="{NAMES - 14}" y="{y + 4}" text-anchor="end">{escape(row)}</text>')
        found = [line[i] for line in series.values() if line[i] is not None]
        if len(found) > 1:
            body.append(
                f'<line class="g" stroke-width="3" x1="{scale(min(found))}" x2="{scale(max(found))}" y1="{y}" y2="{y}"/>'
            )
        for k, (name, line) in enumerate(series.items()):
            if line[i] is not None:
                tip = escape(f"{row}, {name}: {line[i]}")
                body.append(
                    f'<circle class="f{k}" cx="{scale(line[i])}" cy="{y}" r="5.5"><title>{tip}</title></circle>'
                )
        if marks[i] is not None:
            at = scale(marks[i])
            tip = escape(f"{row}, {mark['name']}: {marks[i]}")
            body.append(f'<line class="m" x1="{at}" x2="{at}" y1="{y - 9}" y2="{y + 9}"><title>{tip}</title></line>')
    return drawing(figure["title"], bottom + FOOT, body, scheme)


def lines(figure: Mapping[str, Any], scheme: str = "auto") -> str:
    """A line per series over x, which grows by factors."""
    x, series = figure["x"], figure["series"]
    values = [v for line in series.values() for v in line if v is not None]
    bottom = HEAD + 220
    across = Scale(x, 70, WIDTH - EDGE, log=True)
    up = Scale(values, bottom, HEAD, log=figure.get("log", False))
    body = [*legend(list(series), None)]
    for tick in up.ticks():
        body.append(f'<line class="g" x1="64" x2="{WIDTH - EDGE}" y1="{up(tick)}" y2="{up(tick)}"/>')
        body.append(f'<text class="s" x="58" y="{up(tick) + 4}" text-anchor="end">{shown(tick)}</text>')
    for value in x:
        body.append(f'<text class="s" x="{across(value)}" y="{bottom + 16}" text-anchor="middle">{shown(value)}</text>')
    for k, (name, line) in enumerate(series.items()):
        found = [(across(a), up(b), a, b) for a, b in zip(x, line, strict=True) if b is not None]
        body.append(f'<polyline class="l{k}" points="{" ".join(f"{a},{b}" for a, b, _, _ in found)}"/>')
        for a, b, clients, value in found:
            tip = escape(f"{name}, {clients:,}: {value}")
            body.append(f'<circle class="f{k}" cx="{a}" cy="{b}" r="4"><title>{tip}</title></circle>')
    return drawing(figure["title"], bottom + FOOT, body, scheme)


def badge(left: str, right: str, colour: str) -> str:
    """A badge that needs no server."""
    a, b = 12 + round(6.6 * len(left)), 12 + round(6.6 * len(right))
    text = 'font-family="Verdana,sans-serif" font-size="11" fill="#fff"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{a + b}" height="20" role="img" aria-label="{left}: {right}">'
    )
    plates = f'<rect width="{a + b}" height="20" fill="#555"/><rect x="{a}" width="{b}" height="20" fill="{colour}"/>'
    return (
        f'{head}{plates}<text x="6" y="14" {text}>{left}</text><text x="{a + 6}" y="14" {text}>{right}</text></svg>\n'
    )


def official() -> dict[str, Any]:
    """The scores of the first screen."""
    found: dict[str, Any] = json.loads(OFFICIAL.read_text(encoding="utf-8"))
    return found


def screen() -> dict[str, Any]:
    """Six tasks: organisers → kit, the ceiling as a mark."""
    tasks = official()["tasks"]
    return {
        "title": "AUROC under the organisers' own probe: their features, and kit",
        "rows": list(tasks),
        "series": {
            "organisers' features": [t["auroc"][0] for t in tasks.values()],
            "kit": [t["auroc"][1] for t in tasks.values()],
        },
        "mark": {"name": "ceiling of the synthetic shop", "values": [t["ceiling"] for t in tasks.values()]},
    }


def table() -> str:
    """The table of scores, with its caveat."""
    found = official()
    lines = ["| task | score: organisers → kit | AUROC: organisers → kit | AUROC of the ceiling |", "|---|---|---|---|"]
    for name, task in found["tasks"].items():
        score, auroc = (" → ".join(f"{value:.4f}"[1:] for value in task[key]) for key in ("score", "auroc"))
        lines.append(f"| {name} | {score} | {auroc} | {task['ceiling']:.4f} |".replace("| 0.", "| ."))
    shops = f"{len(found['shops'])} synthetic shops of {found['clients']:,} clients"
    lines += [
        "",
        f"Means over {shops}, {found['precision']}, {found['made']}: denser than",
        "life, so they say nothing of scores in the challenge.",
    ]
    if "note" in found:
        lines.append(found["note"])
    return "\n".join(lines) + "\n"


def wanted() -> dict[Path, str]:
    """File → what should be in it."""
    image = DOCS / "img"
    files = {image / f"scores-{scheme}.svg": dots(screen(), scheme) for scheme in ("light", "dark")}
    files[image / "scores.svg"] = dots(screen())
    files[image / "python.svg"] = badge("python", "3.11 or newer", "#0969da")
    files[image / "licence.svg"] = badge("licence", "MIT", "#1a7f37")
    for path in sorted((DOCS / "measured" / "figures").glob("*.json")):
        figure = json.loads(path.read_text(encoding="utf-8"))
        files[image / f"{path.stem}.svg"] = {"dots": dots, "lines": lines}[figure["kind"]](figure)
    for path in filter(Path.exists, TABLES):
        text = path.read_text(encoding="utf-8")
        files[path] = MARKS.sub(lambda found: f"{found[1]}{table()}{found[2]}", text)
    return files


def stale() -> list[str]:
    """Files that are not what their JSON says."""
    return [
        str(path.relative_to(ROOT))
        for path, text in wanted().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def take(path: Path) -> None:
    """Official scores of the rows `baseline` and `blend` of a bench → official.json; SystemExit for one without them."""
    bench = json.loads(path.read_text(encoding="utf-8"))
    means = {(m["row"], m["task"], m["measure"]): m["mean"] for m in bench["means"] if m["probe"] == "official"}
    shops = [shop for shop in bench["shops"] if not shop["chosen"]]
    try:
        tasks = {
            task.removeprefix("propensity_"): {
                measure: [round(means[row, task, measure], 4) for row in ("baseline", "blend")]
                for measure in ("score", "auroc")
            }
            | {"ceiling": round(sum(shop["ceiling"][task]["auroc"] for shop in shops) / len(shops), 4)}
            for task in bench["tasks"]
        }
    except KeyError as error:
        sys.exit(
            f"{path} lacks {error}: it needs --probe official, recipes baseline and blend, and shops with a ceiling."
        )
    record = {
        "made": bench["made"][:10],
        "command": bench["command"],
        "probe": "official",
        "precision": bench["precision"],
        "shops": [shop["name"] for shop in shops],
        "clients": shops[0]["clients"],
        "tasks": tasks,
    }
    OFFICIAL.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--take", type=Path)
    chosen = parser.parse_args()
    if chosen.take:
        take(chosen.take)
    if chosen.check:
        if old := stale():
            sys.exit(f"stale: {', '.join(old)}; run: python docs/figures.py")
        return
    for path, text in wanted().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
