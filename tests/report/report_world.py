"""Two recipes and how to build them: the plain one and one with a learned block and a name that wants escaping."""

from __future__ import annotations

from pathlib import Path

from kit.data.layout import DataFolder
from kit.recipe import Recipe, parse
from kit.store import Store
from kit.submission import submit

BASELINE = {"name": "baseline", "blocks": {"counts": {"kind": "stats", "families": ["counts"], "scale": "quantile"}}}
MINE = {
    "name": "mine",
    "description": 'Features <script>alert("x")</script> & vectors.',
    "blocks": {
        "counts": {"kind": "stats", "families": ["counts"], "scale": "quantile"},
        "recency": {"kind": "stats", "families": ["recency"], "scale": "quantile"},
        "graph": {"kind": "twhin", "dim": 8, "train": {"epochs": 2, "lr": 0.3, "clip": 100.0}, "row_l2": True},
    },
    "assembly": {"row_norm": 10.0},
}


def build(data: DataFolder, root: Path, plan: dict) -> Path:
    folder = root / "submissions" / plan["name"]
    submit(parse(Recipe, plan, "test"), data.root, folder, store=Store(root / "store"))
    return folder
