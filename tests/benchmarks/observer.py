"""How much of what decides purchases does history show? A synthetic shop, its own truth as the label, many clients.

    python tests/benchmarks/observer.py [--seed 4] [--clients 64000] [--preset small] [--work data/bench/observer] [--threads 2]

The ceiling of a shop knows every client's interests, price level and style. History shows them in part: who came once has
tastes that nobody can know. So a second mark: an observer that is trained on what no team has, the generator's own
probabilities of other clients (labels without noise), and sees

- the hand-made features, with few and with many clients to learn from;
- `evidence`: what somebody collects who knows what every page, product and category of this shop is and leads to, decayed
  counts per category, price, style and freshness, the latest session, its successors and complements;
- both.

What evidence adds to features hints at what sequences, graph and codes could add here; how far a model stays below the observer,
at what it lost to few clients and noisy labels. The last row learns from what those clients bought. Ranks --test other clients of
the same shop: AUROC, the mean over the targets that were bought. The observer is a trained network, blind to searches and to the
order of all but the latest session: what it reaches is a lower bound of what can be reached, not the bound itself.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from torch import nn
from torch.nn import functional as F

from kit.blocks.base import make_block
from kit.challenge import PRICE_BUCKETS, EventType
from kit.data.layout import DataFolder
from kit.data.shop import PRESETS, synth
from kit.data.shop.presets import CUT_DAY, FRESH_DAYS, PRICE_BINS, STYLES, Preset
from kit.data.shop.world import CATEGORY_URLS, HOME_URLS, World, build_world
from kit.data.split import split_folder
from kit.features.shared import table
from kit.history import History
from kit.recipe import BlockEntry
from kit.scoring.ceiling import PROBABILITIES, as_logits, write_ceiling
from kit.store import Store
from kit.tasks import CATEGORY, CHALLENGE, CHURN, CONVERSION, NEW_SKU, PRICE, SKU, Task
from kit.tasks.labels import TaskData, load_task
from kit.tasks.metrics import auroc_multilabel

Numbers = NDArray[np.float32]
ASKED = (CONVERSION, CATEGORY, SKU, NEW_SKU, PRICE)
"""Tasks that are foretold; churn is conversion among past buyers."""
HALF_LIVES = (3.0, 15.0, 60.0)


def crowded(preset: str, clients: int) -> Preset:
    """The preset's catalogue with more relevant clients: a seed draws its world before its clients."""
    base = PRESETS[preset]
    return replace(base, relevant=clients, truth_clients=clients, shard=clients + base.other)


def make(root: Path, preset: Preset, seed: int) -> None:
    """The shop, split, with its true probabilities; once."""
    if not (root / "ceiling.json").exists():
        if not (root / "truth").exists():
            synth(root, preset.name, seed)
        split_folder(root)
        write_ceiling(root)


def what_pages_are(world: World) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per url id its product and its category, -1 where it has none."""
    products = HOME_URLS + CATEGORY_URLS * len(world.popularity)
    sku, category = np.full(len(world.url_ids), -1), np.full(len(world.url_ids), -1)
    sku[products : world.tail_start] = np.repeat(np.arange(len(world.price)), np.diff(world.pages))
    category[HOME_URLS:products] = np.arange(products - HOME_URLS) // CATEGORY_URLS
    category[products : world.tail_start] = world.category[sku[products : world.tail_start]]
    page = np.argsort(world.url_ids)  # the ids are a permutation of the pages' positions
    return sku[page], category[page]


def touches(history: History, world: World) -> dict[str, NDArray[np.int64]]:
    """Every event that shows a category: client's row, sku (-1 = a category's page), category, whether bought; and its age."""
    url_sku, url_category = what_pages_are(world)
    row_of_sku = np.full(world.sku_ids.max() + 1, -1)
    row_of_sku[world.sku_ids] = np.arange(len(world.sku_ids))
    parts = []
    for kind in (EventType.BUY, EventType.CART, EventType.REMOVE, EventType.VISIT):
        events = table(history, kind)
        value = events["url" if kind is EventType.VISIT else "sku"].to_numpy()
        sku = url_sku[value] if kind is EventType.VISIT else row_of_sku[value]
        category = url_category[value] if kind is EventType.VISIT else world.category[sku]
        rows = np.searchsorted(history.clients, events["client_id"].to_numpy())
        bought = np.full(len(rows), kind is EventType.BUY)
        parts.append((rows, sku, category, bought, events["age"].to_numpy()))
    rows, sku, category, bought, age = (np.concatenate(part) for part in zip(*parts, strict=True))
    shown = category >= 0
    order = np.flatnonzero(shown)[np.argsort(-age[shown], kind="stable")]
    names = ("client", "sku", "category", "bought", "age")
    return dict(zip(names, (part[order] for part in (rows, sku, category, bought, age)), strict=True))


def evidence(history: History, world: World) -> Numbers:
    """(n, columns) of what an observer knows who knows the shop; see the top of the file."""
    seen, n, k = touches(history, world), len(history.clients), len(world.popularity)

    def counts(chosen: NDArray[np.bool_], index: NDArray[np.int64], width: int, half_life: float) -> Numbers:
        weight = 0.5 ** (seen["age"][chosen] / half_life)
        matrix = sparse.csr_matrix((weight, (seen["client"][chosen], index[chosen])), shape=(n, width))
        return np.log1p(matrix.toarray()).astype(np.float32)

    every, product, slow = np.ones(len(seen["sku"]), dtype=bool), seen["sku"] >= 0, HALF_LIVES[-1]
    launch = world.launch[seen["sku"]]
    fresh = (launch > 0) & (CUT_DAY - seen["age"] - launch < FRESH_DAYS)
    price = world.price[seen["sku"]]
    found = [counts(every, seen["category"], k, half_life) for half_life in HALF_LIVES]
    found += [
        counts(seen["bought"], seen["category"], k, slow),
        counts(product, price * PRICE_BINS // PRICE_BUCKETS, PRICE_BINS, slow),
        counts(product, price // 5, PRICE_BUCKETS // 5, slow),
        counts(product, world.style[seen["sku"]], STYLES, slow),
        counts(product, fresh.astype(np.int64), 2, slow),
        *(latest(seen, every, n, to, 30.0) for to in (np.arange(k), world.successor[:, 0], world.successor[:, 1])),
        latest(seen, seen["bought"], n, world.complement, 7.0),
    ]
    return np.concatenate(found, axis=1)


def latest(
    seen: dict[str, NDArray[np.int64]], chosen: NDArray[np.bool_], n: int, leads_to: NDArray[np.int64], scale: float
) -> Numbers:
    """(n, categories): what the category of each client's latest chosen event leads to, fading with its age."""
    last = np.full(n, -1)
    last[seen["client"][chosen]] = np.flatnonzero(chosen)  # oldest first: the latest stays
    rows = np.flatnonzero(last >= 0)
    out = np.zeros((n, len(leads_to)), dtype=np.float32)
    out[rows, leads_to[seen["category"][last[rows]]]] = np.exp(-seen["age"][last[rows]] / scale)
    return out


def scaled(values: Numbers) -> Numbers:
    """Columns by their ranks to a normal distribution, flags where a value is missing, all standardised."""
    missing = np.isnan(values)
    flags = np.unique(missing[:, missing.mean(axis=0) > 0.01], axis=1).astype(np.float32)
    ranks = QuantileTransformer(output_distribution="normal", random_state=0).fit_transform(values)
    whole = np.concatenate([np.clip(np.nan_to_num(ranks), -3, 3), flags], axis=1)
    return np.asarray(StandardScaler().fit_transform(whole), dtype=np.float32)


def learn(x: Numbers, y: Numbers, weight: Numbers, rows: NDArray[np.int64], epochs: int) -> Numbers:
    """(n, L) logits of everybody by a network of two hidden layers trained on some rows' y in [0, 1]."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width in (x.shape[1], 512):
        layers += [nn.Linear(width, 512), nn.LayerNorm(512), nn.GELU(), nn.Dropout(0.3)]
    net, batch = nn.Sequential(*layers, nn.Linear(512, y.shape[1])), min(256, len(rows) // 8)
    with torch.no_grad():
        net[-1].weight.mul_(0.1)
        net[-1].bias.copy_(torch.from_numpy(as_logits(y[rows].mean(axis=0))))
    steps = epochs * (len(rows) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
    inputs, labels, weights = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(weight)
    for epoch in range(epochs):
        order = torch.from_numpy(np.random.default_rng([0, epoch]).permutation(rows))
        for at in order[: len(order) // batch * batch].split(batch):
            loss = (F.binary_cross_entropy_with_logits(net(inputs[at]), labels[at], reduction="none") * weights).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.inference_mode():
        return torch.cat([net(part) for part in inputs.split(4096)]).numpy()


class Judge:
    """Ranks the test clients by logits of the ASKED tasks and compares with what they bought in the second window."""

    def __init__(self, folder: DataFolder, clients: NDArray[np.int64], test: NDArray[np.int64]) -> None:
        self.data: dict[Task, TaskData] = {task: load_task(task, clients, folder) for task in CHALLENGE}
        self.test = np.isin(np.arange(len(clients)), test)
        bounds = np.cumsum([0, *(self.data[task].width for task in ASKED)])
        self.columns = {task: slice(*bounds[i : i + 2]) for i, task in enumerate(ASKED)}
        self.columns[CHURN] = self.columns[CONVERSION]

    def bought(self, n: int) -> Numbers:
        """(n, L) labels of the second window."""
        out = np.zeros((n, self.columns[ASKED[-1]].stop), dtype=np.float32)
        for task in ASKED:
            out[self.data[task].rows, self.columns[task]] = self.data[task].validation.toarray()
        return out

    def auroc(self, logits: Numbers) -> dict[Task, NDArray[np.float64]]:
        """Per task the AUROC of each target, (L,); NaN where no test client bought it."""
        found = {}
        for task, data in self.data.items():
            chosen = self.test[data.rows]
            values = np.ascontiguousarray(logits[data.rows[chosen], self.columns[task]])
            found[task] = auroc_multilabel(values, data.validation[chosen])
        return found


def line(
    name: str, found: dict[Task, NDArray[np.float64]], against: dict[Task, NDArray[np.float64]] | None = None
) -> None:
    """A line of the table: means, or mean differences with 95 % intervals paired over targets."""
    cells = []
    for task in CHALLENGE:
        if against is None:
            cells.append(f"{np.nanmean(found[task]):.4f}")
            continue
        gain = (found[task] - against[task])[~np.isnan(found[task] - against[task])]
        error = f" ± {1.96 * gain.std(ddof=1) / np.sqrt(len(gain)):.4f}" if len(gain) > 1 else ""
        cells.append(f"{gain.mean():+.4f}{error}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def table_of(judge: Judge, chances: Numbers, features: Numbers, known: Numbers, pool: NDArray[np.int64]) -> None:
    """Train every observer and print its line."""
    # Targets weigh alike, whatever their base rate, and the one answer about buying at all as much as a hundred targets.
    base = np.clip(chances.mean(axis=0), 1e-4, 1 - 1e-4)
    weight = (1 / -(base * np.log(base) + (1 - base) * np.log(1 - base))).astype(np.float32)
    weight[0] *= 100
    weight /= weight.mean()
    print(
        f"| {judge.test.sum()} clients ranked by | {' | '.join(task.name for task in CHALLENGE)} |\n"
        f"|---|{'---|' * len(CHALLENGE)}"
    )
    line("the ceiling, which knows tastes", judge.auroc(as_logits(chances)))
    few, many = pool[: len(pool) // 8], len(pool)
    line(f"features, true chances of {len(few)}", judge.auroc(learn(features, chances, weight, few, 25)))
    main_row = judge.auroc(learn(features, chances, weight, pool, 20))
    line(f"features, true chances of {many}", main_row)
    for name, x in (("evidence", known), ("features and evidence", np.concatenate([features, known], axis=1))):
        found = judge.auroc(learn(x, chances, weight, pool, 20))
        line(f"{name}, true chances of {many}", found)
        line(f"{name} − features", found, main_row)
    line(f"features, purchases of {many}", judge.auroc(learn(features, judge.bought(len(features)), weight, pool, 6)))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--clients", type=int, default=64_000)
    parser.add_argument("--test", type=int, default=8_000, help="clients that are ranked and not learned from")
    parser.add_argument("--work", type=Path, default=Path("data/bench/observer"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    preset = crowded(given.preset, given.clients)
    root = given.work / f"{preset.name}-{given.clients}-{given.seed}"
    given.work.mkdir(parents=True, exist_ok=True)
    with patch.dict(PRESETS, {preset.name: preset}):
        make(root, preset, given.seed)
    folder = DataFolder(root)
    history = History.open(folder, store=Store(given.work / "store"))
    stats = make_block("observer", BlockEntry(kind="stats"), 0).fit(history).transform(history, history.clients)
    knowing = evidence(history, build_world(preset, np.random.default_rng([given.seed, 0])))
    with np.load(root / "truth" / PROBABILITIES) as truth:
        assert np.array_equal(truth["client_ids"], history.clients)
        chances = np.concatenate([truth[task.name].reshape(given.clients, -1) for task in ASKED], axis=1)
    shuffled = np.random.default_rng(0).permutation(given.clients)
    judge = Judge(folder, history.clients, shuffled[: given.test])
    table_of(judge, chances, scaled(stats.values), scaled(knowing), shuffled[given.test :])


if __name__ == "__main__":
    main()
