"""Does a recipe beat other recipes under the official probe, beyond noise, and how much of the gap to the ceiling does it close?

    python tests/benchmarks/against_baseline.py --precision bf16 --seeds 4 5 6 --oracle --work DIR

Per shop seed: synthesise the small shop, build and score the recipe and its rivals, compare paired over clients. With --oracle
the generator's own probabilities are sent through the probe too, as rate and choice like the blend's: what is lost between
them and the ceiling is lost by the probe, whatever the profile; the last column is the share of the gap between the baseline and
them. Everything is kept in DIR, so an interrupted run goes on where it was. On two cores an official score takes three to five
minutes in bf16.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kit.data.layout import DataFolder
from kit.scoring.results import read_ceiling, read_scored, read_scores
from kit.scoring.statistics import compare
from kit.studies.bench.oracle import write_oracle
from kit.tasks import CHALLENGE, Task


def kit(*arguments: object) -> None:
    """Run a kit command; its output goes to this script's stderr."""
    subprocess.run([sys.executable, "-m", "kit.cli.main", *map(str, arguments)], check=True, stdout=sys.stderr)


def main() -> None:
    """Build, score, compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("pipelines/blend.toml"))
    parser.add_argument("--rivals", type=Path, nargs="*", default=[Path("pipelines/stats.toml")])
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--probe", default="official")
    parser.add_argument("--precision", help="fp32 or bf16; without it the probe's own.")
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument("--keep-scores", action="store_true", help="Take the rivals' scores in DIR as they are.")
    parser.add_argument("--work", type=Path, required=True)
    chosen = parser.parse_args()
    names = ["baseline", *(path.stem for path in chosen.rivals), chosen.recipe.stem]
    rows: dict[Task, list[tuple[float, ...]]] = {task: [] for task in CHALLENGE}
    print(
        f"| seed | task | score: {' → '.join(names)} | difference to each | AUROC: {' → '.join(names)} → ceiling | oracle |"
    )
    print("|---|---|---|---|---|---|")
    for seed in chosen.seeds:
        data = chosen.work / f"{chosen.preset}-{seed}"
        if not (data / "ceiling.json").exists():
            kit("data", "synth", data, "--preset", chosen.preset, "--seed", seed)
        precision = ("--precision", chosen.precision) if chosen.precision else ()
        scoring = ("--data", data, "--probe", chosen.probe, *precision, "--quiet")
        folders = [chosen.work / f"{name}-{seed}" for name in names]
        for recipe, folder in zip(
            [Path("pipelines/baseline.toml"), *chosen.rivals, chosen.recipe], folders, strict=True
        ):
            if chosen.keep_scores and recipe != chosen.recipe and (folder / "scores.json").exists():
                continue
            kit("submit", recipe, "--data", data, "--out", folder)
            kit("score", folder, *scoring)
        oracle = chosen.work / f"oracle-{seed}"
        if chosen.oracle:
            write_oracle(DataFolder(data), oracle)
            kit("score", oracle, *scoring)
        scored = [read_scored(folder, chosen.probe) for folder in folders]
        ceiling = read_ceiling(DataFolder(data))
        tables = [read_scores(folder)[chosen.probe]["tasks"] for folder in folders]
        through = read_scores(oracle)[chosen.probe]["tasks"] if chosen.oracle else {}
        for task in scored[-1]:
            against = [compare(scored[-1][task], other[task]) for other in scored[:-1]]
            best = ceiling[task.name]["auroc"]
            limit = through.get(task.name, {}).get("auroc", np.nan)
            aurocs = [table[task.name]["auroc"] for table in tables]
            scores = [one[task].score for one in scored]
            rows[task].append((*scores, *(row.difference for row in against), *aurocs, best, limit))
            cells = [
                seed,
                task.name,
                " → ".join(f"{score:.4f}" for score in scores),
                ", ".join(f"{row.difference:+.4f} ± {row.detectable:.4f} ({row.verdict})" for row in against),
                " → ".join(f"{value:.4f}" for value in (*aurocs, best)),
                "–" if np.isnan(limit) else f"{limit:.4f}",
            ]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    summarise(names, rows)


def percent(shares: Sequence[float]) -> str:
    """`57 % → 62 %`; a dash where there is no oracle."""
    return "–" if np.isnan(shares).any() else " → ".join(f"{share:.0%}" for share in shares)


def summarise(names: list[str], rows: dict[Task, list[tuple[float, ...]]]) -> None:
    """Means over the seeds: scores, differences, AUROC, and the shares of the gaps baseline → ceiling and baseline → oracle."""
    n = len(names)
    gaps = "closed of the gap to the ceiling | to the oracle through the probe"
    print(f"\n| task | score: {' → '.join(names)} | difference to each | AUROC → ceiling | oracle | {gaps} |")
    print("|---|---|---|---|---|---|---|")
    closed = []
    for task, values in rows.items():
        if not values:
            continue
        mean = np.mean(values, axis=0)
        scores, differences, aurocs = mean[:n], mean[n : 2 * n - 1], mean[2 * n - 1 : 3 * n - 1]
        best, limit = mean[-2:]
        shares, reached = ([(value - aurocs[0]) / (top - aurocs[0]) for value in aurocs[1:]] for top in (best, limit))
        closed.append((shares, reached))
        cells = [
            task.name,
            " → ".join(f"{score:.4f}" for score in scores),
            ", ".join(f"{value:+.4f}" for value in differences),
            " → ".join(f"{value:.4f}" for value in (*aurocs, best)),
            "–" if np.isnan(limit) else f"{limit:.4f}",
            *map(percent, (shares, reached)),
        ]
        print("| " + " | ".join(cells) + " |")
    means = [percent(row) for row in np.mean(closed, axis=0)]
    print(f"| mean | | | | | {means[0]} | {means[1]} |")


if __name__ == "__main__":
    main()
