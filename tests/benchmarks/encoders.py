"""Events per second of each encoder's training step on this machine, and the share of its matrix-multiply rate.

    python tests/benchmarks/encoders.py --data data/small [--threads 2] [--only combined --only twhin] [--json]

The models and batches are those that the blocks train on that folder, with their default settings (or --recipe's for the kinds
it names): a block is fitted up to its first training step, then one step (forward, backward, optimiser) on the batch of median
size is repeated. Events are real tokens, padding not counted; for twhin they are edges. Operations are those that torch counts
(matrix products and attention): the share says how much of the time they explain, so a table look-up model has a small one.
Times are CPU seconds per thread, the best of five: other processes disturb them little.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from kit.blocks.base import make_block
from kit.data.layout import DataFolder
from kit.history import History
from kit.models.sequence import ENCODERS
from kit.models.throughput import Throughput, matmul_gflops, step_throughput
from kit.recipe import BlockEntry, read_recipe
from kit.store import Store


class Reached(Exception):
    """A block has come to its training."""


def first_training(entry: BlockEntry, history: History) -> tuple[Any, ...]:
    """What a block hands to the training loop: model, batches of an epoch, size of a batch, optimiser or None."""
    unit, caught = make_block("benchmark", entry, 0), {}

    def catch(model: Any, batches: Any, settings: Any, **more: Any) -> None:
        caught.update(more, model=model, batches=batches, settings=settings)
        raise Reached

    with patch.object(importlib.import_module(f"kit.blocks.{entry.kind}"), "train", catch), suppress(Reached):
        unit.fit(history)
    if not caught:
        raise SystemExit(f"the block {entry.kind} has nothing to train on here")
    return caught["model"], caught["batches"](0), caught.get("size", lambda batch: 1), caught.get("optimizer")


def measure(name: str, entry: BlockEntry, history: History, reference: float, most: int = 9) -> Throughput:
    """The throughput of a block's training step on the batch of median size among the first few."""
    model, thunks, size, optimizer = first_training(entry, history)
    batches = sorted((thunk() for thunk in thunks[:most]), key=size)
    batch = batches[len(batches) // 2]
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-6)
    return step_throughput(name, model.train(), batch, size(batch), optimizer, reference)


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, help="take settings of combined and twhin from here where it has them")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", action="append", help="one encoder; repeat for several")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    named = {entry.kind: entry for entry in read_recipe(given.recipe).blocks.values()} if given.recipe else {}
    sequences = {
        kind: BlockEntry(kind="sequence", encoder={"kind": kind, "anchor": True}) for kind in ENCODERS.loaded()
    }
    others = {kind: named.get(kind, BlockEntry(kind=kind)) for kind in ("combined", "twhin")}
    wanted = {name: entry for name, entry in (sequences | others).items() if not given.only or name in given.only}
    reference = matmul_gflops()
    with tempfile.TemporaryDirectory() as place:
        history = History.open(DataFolder(given.data), store=Store(Path(place)))
        rows = [measure(name, entry, history, reference) for name, entry in wanted.items()]
    if given.json:
        print(
            json.dumps(
                {"threads": given.threads, "matmul_gflops": reference, "rows": [asdict(r) for r in rows]}, indent=2
            )
        )
        return
    print(f"{given.threads} threads, load {os.getloadavg()[0]:.1f}; a 1024 × 1024 product: {reference:.0f} GFLOP/s")
    print(f"  {'encoder':12s} {'events/s':>10s} {'GFLOP/s':>8s} {'share':>6s}")
    for row in rows:
        print(f"  {row.encoder:12s} {row.events_per_second:10,.0f} {row.gflops:8.1f} {row.share:6.0%}")


if __name__ == "__main__":
    main()
