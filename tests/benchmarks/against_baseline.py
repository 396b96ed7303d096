"""Does a recipe beat the organisers' features under the official probe, beyond noise, and how much of the gap to the ceiling?

    python tests/benchmarks/against_baseline.py --recipe pipelines/stats.toml --seeds 4 5 6 --work DIR

Per shop seed: synthesise the small shop, build the recipe and pipelines/baseline.toml, score both, compare paired over clients.
Everything is kept in DIR, so an interrupted run goes on where it was. Takes about seven minutes a seed on two cores in fp32.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from kit.challenge import Task
from kit.data.layout import DataFolder
from kit.probes.score import read_ceiling, read_scored, read_scores
from kit.probes.statistics import compare


def kit(*arguments: object) -> None:
    """Run a kit command; its output goes to this script's stderr."""
    subprocess.run([sys.executable, "-m", "kit.cli.main", *map(str, arguments)], check=True, stdout=sys.stderr)


def main() -> None:
    """Build, score, compare, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("pipelines/stats.toml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--probe", default="official")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--work", type=Path, required=True)
    chosen = parser.parse_args()
    closed: dict[Task, list[float]] = {task: [] for task in Task}
    print("| seed | task | baseline | recipe | difference, 95 % | AUROC baseline → recipe → ceiling | gap closed |")
    print("|---|---|---|---|---|---|---|")
    for seed in chosen.seeds:
        data = chosen.work / f"{chosen.preset}-{seed}"
        if not (data / "ceiling.json").exists():
            kit("data", "synth", data, "--preset", chosen.preset, "--seed", seed)
        base, mine = chosen.work / f"baseline-{seed}", chosen.work / f"{chosen.recipe.stem}-{seed}"
        for recipe, folder in ((Path("pipelines/baseline.toml"), base), (chosen.recipe, mine)):
            kit("submit", recipe, "--data", data, "--out", folder)
            kit("score", folder, "--data", data, "--probe", chosen.probe, "--precision", chosen.precision, "--quiet")
        one, two = read_scored(mine, chosen.probe), read_scored(base, chosen.probe)
        ceiling = read_ceiling(DataFolder(data))
        tables = [read_scores(folder)[chosen.probe]["tasks"] for folder in (base, mine)]
        for task in one:
            row = compare(one[task], two[task])
            low, high = (table[task.value]["auroc"] for table in tables)
            best = ceiling[task.value]["auroc"]
            closed[task].append((high - low) / (best - low))
            cells = [
                seed,
                task.value,
                f"{two[task].score:.4f}",
                f"{one[task].score:.4f}",
                f"{row.difference:+.4f} ± {row.detectable:.4f} ({row.verdict})",
                f"{low:.4f} → {high:.4f} → {best:.4f}",
                f"{closed[task][-1]:.0%}",
            ]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    print("\nShare of the AUROC gap baseline → ceiling that is closed, mean over seeds:")
    print(", ".join(f"{task.value} {np.mean(values):.0%}" for task, values in closed.items() if values))


if __name__ == "__main__":
    main()
