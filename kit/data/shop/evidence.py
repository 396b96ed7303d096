"""Which products the one session of clients who came once showed, read from the events before the cut as anybody could."""

from __future__ import annotations

import numpy as np
import polars as pl

from kit.challenge import EventType
from kit.data.layout import DataFolder
from kit.data.scan import columns_of, scan_events
from kit.data.shop.posterior import Matrix, came_once, nothing_seen
from kit.data.shop.presets import EPOCH_DAYS, FRESH_DAYS
from kit.data.shop.truth import Truth
from kit.data.shop.world import build_world


def seen_cells(folder: DataFolder, truth: Truth) -> Matrix:
    """(n, CELLS) how many products of each cell of the session's category each client visited, carted or bought.

    Rows as in `truth.clients`; those who did not come once see nothing. Pages are told apart by drawing the shop's world again.
    """
    clients, shop, out = truth.clients, truth.catalogue, nothing_seen(truth.clients)
    once = np.flatnonzero(came_once(clients))
    world = build_world(truth.preset, np.random.default_rng([truth.seed, 0]), shop.behaviour)
    first, last = int(world.pages[0]), world.tail_start
    pages = pl.LazyFrame(
        {
            "value": world.url_ids[first:last].astype(np.int64),
            "product": np.repeat(np.arange(len(shop.price)), np.diff(world.pages)),
        }
    )
    skus = pl.LazyFrame({"value": shop.sku_ids.astype(np.int64), "product": np.arange(len(shop.price))})
    who = pl.LazyFrame({"client": clients.id[once], "row": once})
    tables = []
    for kind, names in ((EventType.VISIT, pages), (EventType.CART, skus), (EventType.BUY, skus)):
        client, _, value = columns_of(kind)
        rows = scan_events(folder.input(kind), kind).select(
            pl.col(client).alias("client"), pl.col(value).alias("value")
        )
        tables.append(rows.join(who, on="client").join(names, on="value").select("row", "product"))
    met = pl.concat(tables).unique().sort("row", "product").collect()
    row, product = met["row"].to_numpy(), met["product"].to_numpy()
    within = shop.category[product] == clients.last[row]
    row, product = row[within], product[within]
    age = clients.last_day[row] // EPOCH_DAYS * EPOCH_DAYS - shop.launch[product]
    fresh = (shop.launch[product] > 0) & (age >= 0) & (age < FRESH_DAYS)
    np.add.at(out, (row, shop.cell[product] + fresh), 1)
    return out
