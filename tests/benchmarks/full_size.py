"""The learned parts at full size: tables, a timed slice of real steps of each, and an extrapolation that says what it rests on.

    python tests/benchmarks/full_size.py DATA --store DIR [--parts tables,optimiser,als,twhin,sequence,combined]
        [--seconds 60] [--threads 2] [--json FILE]

Tokens and edges are built at DATA's real size (and kept in the store: a second run finds them). A part's block is then fitted up
to its training loop with its default settings, real batches are trained on for --seconds, and everything else is arithmetic:

    hours = epochs · steps · seconds per step;   GPU: counted operations and bytes at the rates printed beside them

Times are CPU seconds of this process per thread, so other processes disturb them little. For `combined` only a few clients'
features are made (--learners) and its own graph is trained for a moment: neither changes what a step costs; how many steps there
are is counted from the real lengths of the block's own number of learners. Steps of `als` are half-iterations on a part of the
clients, scaled by entries.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from kit.arrays import blocks
from kit.blocks.base import Block, make_block
from kit.data.layout import DataFolder
from kit.history import History
from kit.models.optim import LazyAdamW
from kit.models.slices import DEVICES, FLOAT, RESERVE, Slice, timed_slice
from kit.models.throughput import best_seconds, matmul_gflops
from kit.recipe import BlockEntry
from kit.store import Store
from kit.tokens import Tokens, TokenSettings, length_buckets, tokenise

PUBLISHED = {"sku": 1_200_000, "url": 12_700_000}
"""Distinct skus and urls of the real challenge."""
WIDTH = 64


class Reached(Exception):
    """A block has come to its training."""


def main() -> None:
    """Run the parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--store", type=Path, required=True, help="where tokens and edges are kept")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--learners", type=int, default=4_000, help="clients whose features are made for `combined`")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    history = History.open(DataFolder(given.data), store=Store(given.store))
    found: dict[str, Any] = {"clients": len(history.clients), "threads": given.threads}
    found["matmul_gflops"] = matmul_gflops()
    print(
        f"{len(history.clients):,} clients; {given.threads} threads; a 1024 × 1024 product: {found['matmul_gflops']:.0f} GFLOP/s"
    )
    for name in given.parts.split(","):
        began = time.perf_counter()
        found[name] = PARTS[name](history, given)
        found[name]["wall_seconds"] = time.perf_counter() - began
        found[name]["peak_gib_so_far"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"\n{name} ({found[name]['wall_seconds']:.0f} s, peak so far {found[name]['peak_gib_so_far']:.1f} GiB)")
        tell(found[name], found["matmul_gflops"])
        if given.json:
            given.json.write_text(json.dumps(found, indent=2, default=float) + "\n")


def tell(part: dict[str, Any], reference: float) -> None:
    """One part's lines."""
    for key, value in part.items():
        if key == "slice":
            gflops = value["flops"] / value["step_seconds"] / 1e9
            print(
                f"  a step (of {value['steps']}): {value['step_seconds']:.3f} s, {1 / value['step_seconds']:.2f} steps/s, "
                f"{value['events'] / value['step_seconds']:,.0f} events/s, {gflops:.1f} GFLOP/s = {gflops / reference:.0%} of a "
                f"matrix product's; optimiser {value['optimiser_seconds']:.3f} s; "
                f"loader {value['loader_seconds']:.4f} s = {value['stall']:.1%} of step and loader; "
                f"one batch made ahead: {value['waiting']:.1%} of the time waiting"
            )
        elif isinstance(value, dict):
            print(f"  {key}: " + "; ".join(f"{k} {number(v)}" for k, v in value.items()))
        elif isinstance(value, list):
            for row in value:
                print(f"  {key}: " + "; ".join(f"{k} {number(v)}" for k, v in row.items()))
        else:
            print(f"  {key}: {number(value)}")


def number(value: object) -> str:
    """Short."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def tables(history: History, given: argparse.Namespace) -> dict[str, Any]:
    """Tokens, what share of events keeps a word at which threshold, and what embedding tables weigh."""
    tokens = tokenise(history, TokenSettings())
    names = ("time", "kind", "sku", "product", "url", "query", "offsets", "queries")
    found: dict[str, Any] = {"tokens": len(tokens), "token_bytes": sum(getattr(tokens, name).nbytes for name in names)}
    rows = []
    for name, column, of in (("sku", tokens.sku, (1, 2, 3)), ("url", tokens.url, (4,))):
        words = tokens.vocabulary.skus if name == "sku" else tokens.vocabulary.urls
        counts = np.zeros(len(words) + 1, dtype=np.int64)
        events = 0
        for at in blocks(len(tokens)):
            mine = np.isin(tokens.kind[at], of)
            events += int(mine.sum())
            counts += np.bincount(column[at][mine], minlength=len(counts))
        least = int(counts[1:].min()) if len(words) else 0
        for threshold in sorted({least, 5, 10, 20, 50}):
            kept = counts[1:][counts[1:] >= threshold]
            if threshold >= least:
                rows.append(
                    {"of": name, "min": threshold, "words": len(kept), "events kept": kept.sum() / max(events, 1),
                     "table MB": len(kept) * WIDTH * FLOAT / 1e6}
                )  # fmt: skip
    found["thresholds"] = rows
    catalogue = tokens.vocabulary.catalogue
    found["catalogue"] = {
        "products": len(catalogue),
        "with a word": int((catalogue.word > 0).sum()),
        "code-only": int((catalogue.word[1:] == 0).sum()),
        "bytes of codes and rows": catalogue.codes.nbytes + len(catalogue) * (4 + 8 + 64),
    }
    found["if every id had a word"] = [
        {"ids": name, "rows": n, "width": WIDTH, "table GB": n * WIDTH * FLOAT / 1e9,
         "with Adam GB": state_bytes(n, WIDTH, "adam") / 1e9, "with row-wise Adagrad GB": state_bytes(n, WIDTH, "adagrad") / 1e9}
        for name, n in {**PUBLISHED, "both": sum(PUBLISHED.values())}.items()
    ]  # fmt: skip
    return found


def state_bytes(rows: int, width: int, rule: str) -> int:
    """Bytes of a float32 table and of its optimiser's state."""
    return FLOAT * rows * (3 * width if rule == "adam" else width + 1)


def optimiser(history: History, given: argparse.Namespace) -> dict[str, Any]:
    """One update of the sequence encoder's table, as large as these data make it, after a batch that met 10,000 of its rows."""
    vocabulary = tokenise(history, TokenSettings()).vocabulary
    rows = len(vocabulary.skus) + len(vocabulary.urls) + 5_000
    index = torch.from_numpy(np.random.default_rng(0).integers(0, rows, 10_000))
    found: dict[str, Any] = {"rows": rows, "width": WIDTH, "touched": len(index.unique())}  # type: ignore[no-untyped-call]
    for name, sparse, rule in (
        ("dense AdamW", False, "adam"),
        ("lazy AdamW", True, "adam"),
        ("row Adagrad", True, "adagrad"),
    ):
        table = torch.nn.Embedding(rows, WIDTH, sparse=sparse)
        stepper = LazyAdamW(table.parameters(), rows=rule)  # type: ignore[arg-type]

        def update(table: torch.nn.Embedding = table, stepper: LazyAdamW = stepper) -> None:
            stepper.zero_grad(set_to_none=True)
            table(index).square().sum().backward()
            stepper.step()

        held = state_bytes(rows, WIDTH, rule) / 1e9
        found[name] = {"seconds": best_seconds(update, 3), "table and state GB": held}
    return found


def first_training(unit: Block, module: str, history: History) -> dict[str, Any]:
    """What a block hands to the training loop."""
    caught: dict[str, Any] = {}

    def catch(model: Any, batches: Any, settings: Any, **more: Any) -> None:
        caught.update(more, model=model, batches=batches, settings=settings)
        raise Reached

    with patch.object(importlib.import_module(f"kit.blocks.{module}"), "train", catch), suppress(Reached):
        unit.fit(history)
    if not caught:
        raise SystemExit(f"{module} has nothing to train on here")
    return caught


def trained(caught: dict[str, Any], seconds: float, steps: Callable[[int], float]) -> tuple[dict[str, Any], Slice]:
    """A slice of a block's training and what all of it would take; `steps` turns the batches at hand into those of an epoch."""
    settings, thunks = caught["settings"], caught["batches"](0)
    model = caught["model"]
    optimizer = caught.get("optimizer") or LazyAdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, rows=settings.rows
    )
    found = timed_slice(model, thunks, caught.get("size", lambda batch: 1), optimizer, seconds)
    total = settings.epochs * steps(len(thunks))
    here = total * (found.step_seconds + found.loader_seconds)
    rows = [
        {"device": device.name, "step ms": 1000 * found.seconds_on(device), "hours": total * found.seconds_on(device) / 3600,
         "needs GB": found.resident_bytes() / 1e9, "fits": found.resident_bytes() < device.memory,
         "loader threads to keep up": found.loader_seconds / found.seconds_on(device)}
        for device in DEVICES
    ]  # fmt: skip
    memory = {
        "parameters MB": found.parameter_bytes / 1e6,
        "optimiser state MB": found.state_bytes / 1e6,
        "gradients MB": found.gradient_bytes / 1e6,
        "activations MB": found.activation_bytes / 1e6,
    }
    told = {"slice": asdict(found) | {"stall": found.stall}, "epochs": settings.epochs, "steps in all": total}
    return {**told, "hours on this CPU": here / 3600, "memory": memory, "gpu": rows}, found


def sequence(history: History, given: argparse.Namespace) -> dict[str, Any]:
    """Training and inference of the block `sequence`."""
    unit = make_block("sequence", BlockEntry(kind="sequence"), 0)
    caught = first_training(unit, "sequence", history)
    found, _ = trained(caught, given.seconds, float)
    tokens = tokenise(history, unit.settings.tokens)  # type: ignore[attr-defined]
    client = unit.model.client.eval()  # type: ignore[attr-defined]
    sizes = np.minimum(tokens.lengths(), client.length)
    groups = length_buckets(sizes, 32_768)
    pick = np.random.default_rng(0).permutation(len(groups))[:8]

    def embed(rows: np.ndarray[Any, Any]) -> int:
        with torch.inference_mode():
            client.pooled(client.batch(tokens, rows, None), ("last", "recent"), tokens.cut)
        return len(rows) * int(sizes[rows].max())

    padded = sum(len(rows) * int(sizes[rows].max()) for rows in groups)
    return found | {"inference for all": forward_cost([lambda rows=groups[i]: embed(rows) for i in pick], padded)}


def forward_cost(runs: list[Callable[[], int]], total: int) -> dict[str, float]:
    """CPU hours per thread of all units of work from a few runs that return how many they did."""
    runs[0]()
    began, done = time.process_time(), 0
    for run in runs:
        done += run()
    seconds = (time.process_time() - began) / torch.get_num_threads() / done * total
    return {"measured share": done / total, "hours on this CPU": seconds / 3600}


def twhin(history: History, given: argparse.Namespace) -> dict[str, Any]:
    """Training of the block `twhin`; its inference is linear algebra per client and timed on some."""
    unit = make_block("twhin", BlockEntry(kind="twhin"), 0)
    caught = first_training(unit, "twhin", history)
    found, _ = trained(caught, given.seconds, float)
    graph = caught["batches"].__closure__
    model = caught["model"]
    edges = next(cell.cell_contents for cell in graph if callable(cell.cell_contents)).__closure__
    whole = next(cell.cell_contents for cell in edges if hasattr(cell.cell_contents, "edges"))
    found["edges"] = {name: len(part) for name, part in whole.edges.items()}
    found["edge bytes"] = sum(12 * len(part) for part in whole.edges.values())
    from kit.blocks.graph import CLIENTS_AT_ONCE
    from kit.models.graph.inductive import Tables
    from kit.models.training import TrainReport

    unit.tables, unit.report = Tables.of(model, whole), TrainReport()  # type: ignore[attr-defined]
    some = history.clients[: min(CLIENTS_AT_ONCE, len(history.clients))]
    embed: Any = unit
    embed.client_vectors(history, some[:10])  # what is computed once for all clients
    found["inference for all"] = forward_cost([lambda: len(embed.client_vectors(history, some))], len(history.clients))
    return found


def combined(history: History, given: argparse.Namespace) -> dict[str, Any]:
    """Training and inference of the block `combined`."""
    defaults: Any = make_block("combined", BlockEntry(kind="combined"), 0).settings
    graph = defaults.graph.model_dump() | {"passes": 1e-3}
    graph["train"] = graph["train"] | {"epochs": 1}
    settings = {"learners": given.learners, "cuts": 1, "graph": graph}
    unit: Any = make_block("combined", BlockEntry(kind="combined", **settings), 0)
    caught = first_training(unit, "combined", history)
    tokens: Tokens = unit.tokens
    learn = np.random.default_rng(0).permutation(len(tokens.clients))[: defaults.learners]
    steps = 0
    for k in range(1, defaults.cuts + 1):
        sizes = np.minimum(
            tokens.lengths(tokens.cut - k * defaults.stride * 86_400_000_000), defaults.network.encoder.length
        )
        sizes = sizes[learn[: round((1 - defaults.held_out) * len(learn))]]
        steps += len(length_buckets(sizes, defaults.budget, most=defaults.clients))
    found, _ = trained(caught, given.seconds, lambda batches: float(steps))
    found["learners"], found["cuts"] = defaults.learners, defaults.cuts
    columns = len(unit.state.inputs["features"].columns)
    held = min(defaults.learners, len(tokens.clients)) * defaults.cuts * columns * FLOAT
    found["memory of the fit"] = {"feature columns": columns, "features GB": held / 1e9}
    thunks = caught["batches"](0)[:6]
    made = [thunk() for thunk in thunks]

    plans = {kind: head.plan(history, tokens, made[0].market) for kind, head in unit.network.each_head().items()}

    def predict(batch: Any) -> int:
        unit.network.eval().predict(batch, plans)
        return len(batch)

    known = int((tokens.lengths() > 0).sum())
    found["inference for all"] = forward_cost([lambda batch=batch: predict(batch) for batch in made], known)
    return found


def als(history: History, given: argparse.Namespace) -> dict[str, Any]:
    """An iteration of the factorisation on a part of the clients, scaled by entries."""
    rows = []
    for items in ("category", "sku", "url"):
        unit: Any = make_block("als", BlockEntry(kind="als", items=items, iterations=1), 0)
        began = time.process_time()
        entries = unit._entries(history)
        made = time.process_time() - began
        part = history.among(history.clients[:: max(1, len(history.clients) // 50_000)])
        began = time.process_time()
        unit.fit(part)
        seconds = time.process_time() - began
        some = unit._entries(part)
        factors, n, m = unit.settings.factors, len(history.clients), entries["item"].n_unique()
        flops = (
            15 * 2 * len(entries) * factors * 2 * 8 + 15 * (n + m) * factors**2 * 2 * 4
        )  # 3 conjugate-gradient steps
        hours = 15 * seconds * len(entries) / max(len(some), 1) / given.threads / 3600
        rows.append(
            {"items": items, "entries": len(entries), "distinct": m, "entries CPU s": made,
             "measured share": len(some) / max(len(entries), 1),
             "hours on this CPU, at most": hours, "GFLOP in all": flops / 1e9,
             "matrix GB": 2 * 8 * len(entries) / 1e9, "factors MB": (n + m) * factors * FLOAT / 1e6,
             "24 GB GPU minutes": 15 * 4 * len(entries) * factors * FLOAT * 4 / DEVICES[0].bandwidth / 60,
             "fits 24 GB": RESERVE + 16 * len(entries) + (n + m) * factors * FLOAT < DEVICES[0].memory}
        )  # fmt: skip
    return {"factorisation": rows}


PARTS: dict[str, Callable[[History, argparse.Namespace], dict[str, Any]]] = {
    "tables": tables,
    "optimiser": optimiser,
    "als": als,
    "twhin": twhin,
    "sequence": sequence,
    "combined": combined,
}

if __name__ == "__main__":
    main()
