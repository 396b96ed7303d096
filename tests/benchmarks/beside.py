"""How much slower probes and trainings get beside another busy program, and what giving way to it costs when there is none.

    python tests/benchmarks/beside.py DATA [--works official fast …] [--arms kit torch asleep] [--rounds 3]

DATA is a split folder (`kit data synth data/tiny --preset tiny`). Every work runs in a process of its own: a run of the
official and of the fast probe on one task of seeded vectors, and `fit` of a TwHIN, a sequence and a combined block for a few
epochs. Arms: `kit` gives way (kit/limits/crowd.py); `torch` waits as torch does by itself; `asleep` has threads sleep always
(OMP_WAIT_POLICY=passive). The neighbour is a torch program that multiplies matrices with two threads and never rests.

Prints per work and arm the seconds alone and beside the neighbour, medians of the rounds, in which the arms take turns, and
both as multiples of torch's time alone. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kit.limits import crowd

ARMS = {"kit": {}, "torch": {}, "asleep": {"OMP_WAIT_POLICY": "passive"}}
"""Environment of each arm; `torch` and `asleep` never give way."""
NEIGHBOUR = (
    "import torch\ntorch.set_num_threads(2)\nx = torch.randn(1024, 1024)\nprint(flush=True)\nwhile True: x @ x\n"
)
BLOCKS = {
    "twhin": {"train": {"epochs": 8}},
    "sequence": {"train": {"epochs": 3}},
    "combined": {"train": {"epochs": 1}},
}
WORKS = ("official", "fast", *BLOCKS)


def probe_seconds(name: str) -> float:
    """Seconds of a probe's run on one task of seeded vectors."""
    import numpy as np
    from probe_speed import make_data

    from kit.data.layout import DataFolder
    from kit.probes.registry import PROBES, Options
    from kit.tasks import SKU
    from kit.tasks.labels import load_task

    clients = 768 if name == "official" else 6144
    with tempfile.TemporaryDirectory() as folder:
        submission = make_data(Path(folder) / "data", clients, 256)
        data = load_task(SKU, np.load(submission / "client_ids.npy"), DataFolder(submission.parent))
        vectors = np.load(submission / "embeddings.npy")
        return timed(lambda: PROBES.loaded()[name].run(vectors, [data], Options()))


def block_seconds(kind: str, root: Path) -> float:
    """Seconds of a block's `fit`, from tables that lie in a store of the data folder's own."""
    from kit.blocks.base import make_block
    from kit.data.layout import DataFolder
    from kit.history import History
    from kit.recipe import BlockEntry
    from kit.store import Store

    history = History.open(DataFolder(root), store=Store(root / ".beside"))
    block = make_block(kind, BlockEntry.model_validate({"kind": kind, **BLOCKS[kind]}), 0)
    return timed(lambda: block.fit(history))


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(work: str, root: Path, arm: str) -> float:
    """Seconds of a work in a fresh process."""
    command = [sys.executable, __file__, str(root), "--child", work, "--arms", arm]
    done = subprocess.run(command, env=plain() | ARMS[arm], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{work} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def plain() -> dict[str, str]:
    """The environment without anything that says how threads wait."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GOMP", "OMP"))}


@contextmanager
def neighbour() -> Iterator[None]:
    """The busy program, from its first product on."""
    with subprocess.Popen([sys.executable, "-c", NEIGHBOUR], env=plain(), stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        try:
            yield
        finally:
            busy.kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=["kit", "torch"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=WORKS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        if given.arms != ["kit"]:
            crowd.TOLERATED = math.inf
        print(block_seconds(given.child, given.data) if given.child in BLOCKS else probe_seconds(given.child))
        return
    arms = list(dict.fromkeys([*given.arms, "torch"]))
    print(f"{'work':10s} {'arm':7s} {'alone':>7s} {'beside':>7s}   × alone   × beside", flush=True)
    for work in given.works:
        measure(work, given.data, "torch")  # warm: files read, tables made
        alone = rounds(work, given.data, arms, given.rounds)
        with neighbour():
            beside = rounds(work, given.data, arms, given.rounds)
        for arm in arms:
            a, b = alone[arm], beside[arm]
            print(
                f"{work:10s} {arm:7s} {a:7.2f} {b:7.2f} {a / alone['torch']:9.2f} {b / alone['torch']:10.2f}",
                flush=True,
            )


def rounds(work: str, root: Path, arms: Sequence[str], count: int) -> dict[str, float]:
    """Arm → median seconds of some rounds in which the arms take turns."""
    seen: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(count):
        for arm in arms:
            seen[arm].append(measure(work, root, arm))
    return {arm: statistics.median(seconds) for arm, seconds in seen.items()}


if __name__ == "__main__":
    main()
