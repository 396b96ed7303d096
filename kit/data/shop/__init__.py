"""The synthetic shop: the challenge layout, written by a process whose truth is known.

Its clients have tastes that drift (categories, price level, style, appetite for news), come at heavy-tailed rates, leave
silently and sometimes return; sessions lead to further sessions, along paths between categories (order matters), back to
open carts, to complements of what was bought and to restocks. Products are launched all the time; only their category,
price and codes say whom they suit. A sale lifts both target windows. `simulate` is the process, `content` what happens
inside a session, `expect` and `predict` what the process implies for somebody who knows no more than history can show.

Matched to the published figures (CHALLENGE.md, section 7; `kit data stats` prints both): dates; per relevant client the
shares with visits, carts, purchases, removals and searches and the means of visits and carts; exact duplicates; repeat
visits; one-day clients; minutes from cart to purchase; removals per cart; clients without history; the busiest bot; price
quartiles.

`kit data synth --vary N` makes another member of a family of shops (`family`): behaviour drawn from wide ranges, every third
with tastes that are positions in a space (`nearness`). What was drawn is said, and kept in truth/shop.json. `--clients N` makes
any of them at another size (`presets.sized`). What follows is said of the presets as they are.

Not matched, on purpose, in the sizes below official:
- denser buying (`Preset.density`): past buyers churn at about .82 (tiny), .80 (small), .91 (medium) instead of .94, so that
  most of the 100 labels per task have buyers in both windows (at tiny, and for new products at small, many have none);
- three passers-by per relevant client (six at medium), not nineteen, so more clients buy, more buyers of the windows were
  seen before (.6 instead of .45), and the median client has four events instead of two;
- so more purchases come from regulars: at small a relevant client buys 3.1 times (published 2.4), .60 of the buyers buy on one
  day only (.77), gaps between purchases have a quantile .75 of 16 days (33), and .08 of the purchase rows belong to
  one-purchase clients (.245);
- small shelves: the client who carts is likelier to buy just that product some day (.34 of cart additions at small, .19 at
  medium, .20 published);
- products launched lately are bought more, so that the new products of the train window still sell in the next one.
Not matched at any size: purchases are not bulky (the busiest real buyer has 665), gaps between purchases are shorter in the
tail, and relevant clients have 21 events in the median and 9 visits (published: 15 and 18, which do not go together).
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from kit.challenge import TARGET_DAYS
from kit.data.layout import DataFolder
from kit.data.shop.behaviour import BEHAVIOUR, Behaviour
from kit.data.shop.clients import Clients, build_clients
from kit.data.shop.content import fill
from kit.data.shop.family import member
from kit.data.shop.presets import DAYS, PRESETS, Preset, preset_called, sized
from kit.data.shop.simulate import simulate
from kit.data.shop.truth import kept, made_as, save_truth
from kit.data.shop.world import World, build_world
from kit.data.shop.write import ShopTables, write_products
from kit.errors import KitError
from kit.progress import say, track

__all__ = ["PRESETS", "synth"]
LONGEST = DAYS // 3
"""Days of a target window at most: as much again is left before the cut."""


def is_unfinished(
    root: Path, preset: str, seed: int, days: int = TARGET_DAYS, clients: int | None = None, vary: int | None = None
) -> bool:
    """Whether a folder holds this very shop, whole, but no ceiling yet, or one of an earlier version."""
    made = made_as(root)
    many = preset_called(preset).relevant if clients is None else clients
    return made == (preset, seed, days, many, vary) and not DataFolder(root).has_ceiling


def synth(
    root: Path, preset: str, seed: int, days: int = TARGET_DAYS, clients: int | None = None, vary: int | None = None
) -> None:
    """Write a synthetic shop in the challenge layout. Same preset, seed, clients and member: same bytes.

    Args:
        root: the folder to make.
        preset: its size.
        seed: 0 or more.
        days: length of the target windows that it will be split into. It decides at which day the truth is kept, and nothing of
            the events.
        clients: relevant clients, in place of the preset's; catalogue, pages and passers-by follow (`presets.sized`).
        vary: which member of the family of shops (`family.member`); None for the one that all presets share.

    Raises:
        KitError: the preset does not exist, the seed, the length, the clients or the member make no sense, or `root` exists
            and is not an empty folder.
    """
    size, behaviour = preset_called(preset), BEHAVIOUR
    if seed < 0:
        raise KitError(f"The seed {seed} is negative.", "Choose 0 or more.")
    if not 1 <= days <= LONGEST:
        raise KitError(f"--days {days} does not fit the shop's {DAYS} days.", f"Choose 1 to {LONGEST}.")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise KitError(f"{str(root)!r} exists and is not empty.", "Choose another folder, or remove it first.")
    if clients is not None and clients != size.relevant:
        size = sized(size, clients)
    if vary is not None:
        size, behaviour = member(size, vary)
    root.parent.mkdir(parents=True, exist_ok=True)
    building = root.parent / f".{root.name}.building"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        _write(building, size, behaviour, seed, days, vary)
        if root.exists():
            root.rmdir()
        building.replace(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    which = f"{size.name} shop" if vary is None else f"{size.name} shop, member {vary} of the family"
    if vary is not None:
        drawn = ", ".join(
            f"{name} {value:.3g}" for name, value in asdict(behaviour).items() if value != getattr(BEHAVIOUR, name)
        )
        say(f"  behaviour: density {size.density:.3g}, {drawn}")
    say(f"  {which}, seed {seed}: {size.relevant} relevant and {size.other} other clients in {root}")


def _write(root: Path, preset: Preset, behaviour: Behaviour, seed: int, days: int, vary: int | None) -> None:
    world = build_world(preset, np.random.default_rng([seed, 0]), behaviour)
    folder = DataFolder(root)
    folder.relevant_clients.parent.mkdir()
    write_products(root, world)
    np.save(folder.relevant_clients, np.sort(world.client_ids[: preset.relevant].astype(np.int64)))
    tables, truth = ShopTables(root), []
    for shard in track(range(preset.shards), "shards", preset.shards):
        truth.append(_shard(tables, world, preset, seed, shard, DAYS - 2 * days))
    tables.join(preset.shards)
    save_truth(root, world, seed, truth, days, vary)


def _shard(tables: ShopTables, world: World, preset: Preset, seed: int, shard: int, cut: int) -> Clients:
    """Simulate and write every `shards`-th client, returning those whose truth is kept.

    The random numbers depend on the seed and the shard's number alone, not on the order of shards.
    """
    rng = np.random.default_rng([seed, 1, shard])
    rows = np.arange(shard, preset.clients, preset.shards)
    clients = build_clients(world, preset, rows, rng)
    sessions, at_cut = simulate(clients, world, rng, cut)
    tables.add(shard, fill(sessions, clients, world, rng))
    return kept(preset, at_cut, shard)
