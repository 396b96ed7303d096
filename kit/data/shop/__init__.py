"""The synthetic shop: the challenge layout with known truth."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from kit.data.layout import DataFolder
from kit.data.shop.clients import build_clients
from kit.data.shop.content import fill
from kit.data.shop.presets import PRESETS, Preset, preset_called
from kit.data.shop.simulate import simulate
from kit.data.shop.world import World, build_world
from kit.data.shop.write import Tables, write_products
from kit.errors import KitError
from kit.progress import say, track

__all__ = ["PRESETS", "synth"]


def synth(root: Path, preset: str, seed: int) -> None:
    """Write a synthetic shop in the challenge layout. Same preset and seed: same bytes.

    Raises:
        KitError: the preset does not exist, the seed is negative, or `root` exists and is not an empty folder.
    """
    size = preset_called(preset)
    if seed < 0:
        raise KitError(f"The seed {seed} is negative.", "Choose 0 or more.")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise KitError(f"{str(root)!r} exists and is not empty.", "Choose another folder, or remove it first.")
    root.parent.mkdir(parents=True, exist_ok=True)
    building = root.parent / f".{root.name}.building"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        _write(building, size, seed)
        if root.exists():
            root.rmdir()
        building.replace(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    say(f"  {size.name} shop, seed {seed}: {size.relevant} relevant and {size.other} other clients in {root}")


def _write(root: Path, preset: Preset, seed: int) -> None:
    world = build_world(preset, np.random.default_rng([seed, 0]))
    folder = DataFolder(root)
    folder.relevant_clients.parent.mkdir()
    write_products(root, world)
    np.save(folder.relevant_clients, np.sort(world.client_ids[: preset.relevant].astype(np.int64)))
    tables = Tables(root)
    for shard in track(range(preset.shards), "shards", preset.shards):
        _shard(tables, world, preset, seed, shard)
    tables.join(preset.shards)


def _shard(tables: Tables, world: World, preset: Preset, seed: int, shard: int) -> None:
    """Simulate and write every `shards`-th client; its random numbers depend on seed and shard number alone."""
    rng = np.random.default_rng([seed, 1, shard])
    rows = np.arange(shard, preset.clients, preset.shards)
    clients = build_clients(world, preset, rows, rng)
    sessions, _ = simulate(clients, world, rng)
    tables.add(shard, fill(sessions, clients, world, rng))
