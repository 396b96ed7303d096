"""The report as Markdown: short enough for a pull request."""

from __future__ import annotations

from kit.report.collect import Report
from kit.report.html import cohort_tables, headline_tiles, health_tiles
from kit.report.scores import Against, ProbeScores
from kit.report.words import number, percent, short, signed
from kit.submission.card import table


def render_markdown(report: Report) -> str:
    """Verdict, scores, gains, blocks, attributions, cohorts, health and drift; what is missing in one list at the end."""
    parts = [f"## {report.verdict.headline}", "\n".join(f"- {sentence}" for sentence in report.verdict.sentences)]
    parts.append(" · ".join(f"{label}: **{value}**" for value, label in headline_tiles(report)))
    for probe in report.probes:
        parts += [f"### {probe.probe} probe, {probe.precision}, on `{probe.data}`", _scores(probe)]
    if report.first and report.first.board:
        parts += ["### Board", _board(report.first)]
    parts += [_ablation(report), _attributions(report), _cohorts(report), _health(report), _drift(report)]
    if report.missing:
        parts.append("<details><summary>Not here yet</summary>\n\n" + _missing(report) + "\n\n</details>")
    parts.append(f"<sub>fingerprint `{report.manifest['fingerprint']}`, kit {report.manifest['kit']}</sub>")
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(probe: ProbeScores) -> str:
    rival = probe.against[0] if probe.against else None
    ceiling = any(row.ceiling is not None for row in probe.rows)
    head = ["task", "score", "AUROC"]
    head += [rival.name, "difference", "95 % interval", ""] if rival else []
    head += ["ceiling's AUROC", "gap closed"] if ceiling and rival else ["ceiling's AUROC"] if ceiling else []
    rows = []
    for row in probe.rows:
        if row.undefined:
            rows.append([short(row.task), row.undefined, *[""] * (len(head) - 2)])
            continue
        cells = [short(row.task), number(row.score), number(row.auroc)]
        cells += _gain(rival, row.task) if rival else []
        cells += [number(row.ceiling_auroc)] if ceiling else []
        gap = rival.gap.get(row.task) if rival else None
        cells += [percent(gap)] if ceiling and rival else []
        rows.append(cells)
    rows.append(["**sum**", f"**{probe.sum:.4f}**", ""])
    if rival and rival.total:
        gain = rival.total
        rows[-1] += [
            number(sum(rival.scores.values())),
            signed(gain.difference),
            f"[{signed(gain.low)}, {signed(gain.high)}]",
        ]
        rows[-1].append(gain.verdict)
    rows[-1] += [""] * (len(head) - len(rows[-1]))
    return table(head, rows)


def _gain(rival: Against, task: str) -> list[str]:
    gain = rival.gains.get(task)
    if gain is None:
        return ["–", "–", "–", ""]
    return [
        number(rival.scores[task]),
        signed(gain.difference),
        f"[{signed(gain.low)}, {signed(gain.high)}]",
        gain.verdict,
    ]


def _board(first: ProbeScores) -> str:
    tasks = list(first.board[0]["scores"])
    head = ["rank", "submission", *(short(task) for task in tasks), "sum", "chance of 1st"]
    rows = [
        [str(row["rank"]), row["name"], *(number(row["scores"][task]) for task in tasks), number(row["sum"]),
         percent(row["rank_chances"][0])]
        for row in first.board
    ]  # fmt: skip
    return table(head, rows)


def _ablation(report: Report) -> str:
    if report.ablation is None:
        return ""
    tasks = list(report.ablation.full)
    rows = []
    for row in report.ablation.rows:
        cells = [row.block]
        for task in tasks:
            entry = row.without.get(task)
            bold = "**" if entry and entry.verdict != "cannot tell" else ""
            cells.append("–" if entry is None else f"{bold}{signed(entry.difference)}{bold}")
        rows.append([*cells, signed(row.total)])
    text = "What each block adds (full minus without; bold = told from noise at 95 %)"
    return f"### Blocks\n\n{text}\n\n" + table(["block", *(short(task) for task in tasks), "sum"], rows)


def _attributions(report: Report) -> str:
    """Per task the shares of the blocks as the explained probes weigh them, heaviest first."""
    known = {"LightGBM": report.attributions, "network": report.network}
    read = {name: found for name, found in known.items() if found is not None}
    tasks = list(dict.fromkeys(task for found in read.values() for task in found.blocks))
    rows = []
    for task in tasks:
        cells = []
        for found in read.values():
            shares = sorted(found.blocks.get(task, {}).items(), key=lambda pair: -pair[1])
            cells.append(", ".join(f"{block} {percent(share)}" for block, share in shares[:4]) or "–")
        rows.append([short(task), *cells])
    text = "Share of each block: of the gain of LightGBM's splits, of the size of the network's attributions"
    return f"### What the probes look at\n\n{text}\n\n" + table(["task", *read], rows) if read else ""


def _cohorts(report: Report) -> str:
    tables, tasks = cohort_tables(report.probes)
    parts = []
    for group, cohorts in tables.items():
        rows = [
            [name, f"{cell['clients']:,}", *(number(cell["auroc"].get(task), 3) for task in tasks)]
            for name, cell in cohorts.items()
        ]
        parts.append(table([f"by {group}", "clients", *(short(task) for task in tasks)], rows))
    return "### Cohorts (AUROC)\n\n" + "\n\n".join(parts) if parts else ""


def _health(report: Report) -> str:
    tiles = health_tiles(report)
    return "### Embedding health\n\n" + "\n".join(f"- {label}: {value}" for value, label in tiles) if tiles else ""


def _drift(report: Report) -> str:
    if report.drift is None:
        return ""
    rows = []
    for row in report.drift["blocks"]:
        most = ", ".join(f"`{name}`" for name, _ in row["top"][:3])
        rows.append([row["block"], f"{row['auroc']:.3f}", f"{row['moved']} of {row['columns']}", most])
    text = f"{report.drift['earlier'][:10]} against {report.drift['later'][:10]}: AUROC of a classifier that tells the cuts apart"
    return f"### Drift\n\n{text}\n\n" + table(["block", "AUROC", "columns above PSI .25", "moved most"], rows)


def _missing(report: Report) -> str:
    return "\n".join(f"- {section}: `{command}`" for section, command in report.missing.items())
