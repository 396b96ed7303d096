"""Make the golden record: the organisers' own code on every folder and profile, what is recorded already left alone.

    python tests/probes/golden/record.py CHECKOUT PYTHON [FOLDER/PROFILE …]

CHECKOUT and PYTHON as in tests/benchmarks/organisers.py. `official.json` is written after every task, so that an interrupted
run goes on where it was. A task of 1,000 clients takes them about half a minute of two free cores.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import tiny
import world

from kit.store import write_atomically

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))

import organisers  # noqa: E402

RECORD = HERE / "official.json"
FOLDERS = {"world": world.write_world, "tiny": tiny.write_tiny}


def entry(epochs: list[dict[str, float]]) -> dict[str, object]:
    """As the organisers write it (the best score, rounded, and the first epoch that has it), and the score of each epoch."""
    scores = [epoch["score"] for epoch in epochs]
    best = max(range(len(scores)), key=scores.__getitem__)
    return {"score": round(scores[best], 4), "best_epoch": best, "epochs": [round(score, 6) for score in scores]}


def write(record: dict[str, Any]) -> None:
    """One line per task."""
    head = [f" {json.dumps(key)}: {json.dumps(record[key])}," for key in ("source", "versions")]
    rows = [f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in sorted(record["tasks"].items())]
    text = "\n".join(["{", *head, ' "tasks": {', ",\n".join(rows), " }", "}"])
    write_atomically(RECORD, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def main(checkout: Path, python: str, only: list[str]) -> None:
    """Fill the record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        for folder, make in FOLDERS.items():
            room = Path(name) / folder
            profiles = make(room / "data")
            tiny.write_submissions(profiles, room)
            for profile in profiles:
                place = f"{folder}/{profile}"
                missing = [t for t in organisers.TASKS if "epochs" not in record["tasks"].get(f"{place}/{t}", {})]
                if not missing or (only and place not in only):
                    continue
                for task, theirs in organisers.evaluate(checkout, python, room / "data", room / profile, missing):
                    record["tasks"][f"{place}/{task}"] = entry(theirs.epochs)
                    print(f"{place}/{task}: {theirs.seconds:.0f} s", flush=True)
                    write(record)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
