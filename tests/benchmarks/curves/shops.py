"""Shops of any size in the official proportions, and slices of a shop for code that is too slow for the whole."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.shop import PRESETS
from kit.data.shop.presets import Preset

LEAST_CATEGORIES: Final = 130
"""The category task asks for 100 categories that sell."""
LEAST_DEPARTMENTS: Final = 8
LEAST_BOT: Final = 3_000


def preset_of(size: int) -> Preset:
    """The official preset scaled to `size` relevant clients: the same shares of other clients, products, pages and bots.

    What cannot be scaled down: at least 130 categories in 8 departments and one bot; the busiest bot's visits shrink below
    10,000 clients, lest it be the shop's whole traffic. Behaviour per client (density, passers-by who buy) is the official.
    """
    official = PRESETS["official"]
    share = size / official.relevant
    if share == 1:
        return official

    def scaled(count: int, least: int = 1) -> int:
        return max(least, round(share * count))

    other = scaled(official.other)
    return replace(
        official,
        name=f"official-{size}",
        relevant=size,
        other=other,
        skus=scaled(official.skus, 3_000),
        categories=scaled(official.categories, LEAST_CATEGORIES),
        departments=scaled(official.departments, LEAST_DEPARTMENTS),
        tail_urls=scaled(official.tail_urls),
        bots=scaled(official.bots),
        bot_visits=min(official.bot_visits, max(LEAST_BOT, 3 * size)),
        shard=min(official.shard, size + other),
        truth_clients=min(official.truth_clients, size),
    )


def make(root: Path, size: int, seed: int) -> Preset:
    """Write the shop of that size (not split)."""
    from kit.data.shop import synth

    preset = preset_of(size)
    PRESETS.setdefault(preset.name, preset)
    synth(root, preset.name, seed)
    return preset


def cut_slice(source: Path, clients: int, out: Path, seed: int) -> None:
    """A split folder with `clients` of the relevant clients of another, the same share of its other clients, their events.

    So rows per client and the share of rows that belong to nobody relevant stay as they are. Queries are written with single
    spaces: the organisers' parser refuses line breaks. Product properties and target lists are those of the source.
    """
    whole, part = DataFolder(source), DataFolder(out)
    shutil.rmtree(out, ignore_errors=True)
    (out / "input").mkdir(parents=True)
    relevant = whole.clients()
    if clients > len(relevant):
        raise ValueError(f"a slice of {clients} clients from a folder of {len(relevant)}")
    rng = np.random.default_rng([seed, clients])
    chosen = np.sort(rng.choice(relevant, clients, replace=False))
    tables = {kind: pl.scan_parquet(whole.input(kind)) for kind in EventType}
    everyone = pl.concat([table.select("client_id") for table in tables.values()]).unique().collect(engine="streaming")
    others = np.setdiff1d(everyone["client_id"].to_numpy(), relevant)
    beside = rng.choice(others, round(len(others) * clients / len(relevant)), replace=False)
    kept = pl.LazyFrame({"client_id": np.concatenate([chosen, beside])})
    for kind, table in tables.items():
        rows = table.join(kept, on="client_id", how="semi", maintain_order="left")
        if kind is EventType.SEARCH:
            rows = rows.with_columns(pl.col("query").str.replace_all(r"\s+", " "))
        rows.sink_parquet(part.input(kind), maintain_order=True)
    shutil.copytree(source / "target", out / "target")
    shutil.copyfile(whole.products, part.products)
    np.save(part.relevant_clients, chosen)
