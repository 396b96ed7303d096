"""What happens inside sessions: pages, searches, carts, removals, orders, each with its second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kit.challenge import EventType
from kit.data.shop.behaviour import Floats, Ints
from kit.data.shop.clients import Clients
from kit.data.shop.codes import LATENT
from kit.data.shop.presets import DAYS
from kit.data.shop.simulate import Sessions
from kit.data.shop.world import CATEGORY_URLS, HOME_URLS, World, epoch_of

DAY_SECONDS: Final = 86_400
QUERY_NOISE: Final = 0.2
"""A search means its product up to this much noise per latent coordinate."""
CARTED_FIRST: Final = 0.35
"""Share of bought items that were put into the cart before (the rest is bought directly or reordered)."""
CART_SECONDS: Final = 420.0
"""Median time from cart to order."""
REMOVING: Final = 0.4
"""Share of sessions in which the client tidies the cart: most unbought items are then taken out again."""
DUPLICATES: Final = {
    EventType.BUY: (0.07, 2.6),
    EventType.CART: (0.02, 1.2),
    EventType.REMOVE: (0.02, 1.2),
    EventType.VISIT: (0.06, 1.5),
}
"""Share of rows that are repeated exactly, and how often on average."""
PAGE_KINDS: Final = {"home": 0.10, "category": 0.16, "lead": 0.27, "other": 0.28, "tail": 0.19}


@dataclass
class Events:
    """One event table before it is written: client ids, seconds since day 0, values (ids, or codes for searches)."""

    client: Ints
    second: Ints
    value: NDArray[np.int64] | NDArray[np.uint8]


def _lognormal(rng: np.random.Generator, median: float, sigma: float, size: int) -> Floats:
    return median * np.exp(sigma * rng.standard_normal(size))


def _draw_products(
    world: World, clients: Clients, rows: Ints, category: Ints, day: Ints, rng: np.random.Generator
) -> Ints:
    """One product per row out of the shelf of its day, by the client's taste; days must be sorted."""
    drawn = np.zeros(len(rows), dtype=np.int64)
    epochs = np.asarray(epoch_of(day))
    for epoch in np.unique(epochs):
        part = slice(*np.searchsorted(epochs, [epoch, epoch + 1]))
        drawn[part] = world.shelf(int(epoch)).draw(rng, category[part], clients.taste(rows[part]))
    return drawn


def _sku_page(world: World, client: Ints, sku: Ints) -> Ints:
    """The page under which this client sees the product: always the same one of several."""
    first, count = world.pages[sku], world.pages[sku + 1] - world.pages[sku]
    return first + (client * 7919 + sku) % count


def visits(s: Sessions, start: Ints, clients: Clients, world: World, rng: np.random.Generator) -> Events:
    """Page views: home and category pages, the session's product, its neighbours, the long tail."""
    size = np.minimum(np.exp(0.7 + 1.1 * rng.standard_normal(len(s.day))) * clients.size[s.client], 250)
    count = np.where(rng.random(len(s.day)) < 0.98, 1 + size.astype(np.int64), 0)
    row = np.repeat(np.arange(len(s.day)), count)
    who, begin = s.client[row], np.repeat(np.cumsum(count) - count, count)
    elapsed = np.cumsum(_lognormal(rng, 30.0, 1.0, len(row)))
    second = start[row] + (elapsed - elapsed[begin]).astype(np.int64) if len(row) else start[row]
    kind = np.searchsorted(np.cumsum(list(PAGE_KINDS.values()))[:-1], rng.random(len(row)), side="right")
    page = rng.integers(HOME_URLS, size=len(row)) * (rng.random(len(row)) < 0.2)
    of_category = HOME_URLS + s.category[row] * CATEGORY_URLS + (who + row % 2) % CATEGORY_URLS
    page = np.where(kind == 1, of_category, page)
    page = np.where(kind == 2, _sku_page(world, who, s.sku[row]), page)
    other = np.flatnonzero(kind == 3)
    sku = _draw_products(world, clients, who[other], s.category[row[other]], s.day[row[other]], rng)
    page[other] = _sku_page(world, who[other], sku)
    tail = np.flatnonzero(kind == 4)
    page[tail] = world.tail_start + (rng.random(len(tail)) ** 2 * world.preset.tail_urls).astype(np.int64)
    crawler, crawled, pages = _crawl(clients, world, rng)
    who, second, page = np.append(who, crawler), np.append(second, crawled), np.append(page, pages)
    return Events(clients.id[who], second, world.url_ids[page].astype(np.int64))


def _crawl(clients: Clients, world: World, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Visits of bots: any page at any second from their first day on."""
    bots = np.flatnonzero(clients.bot)
    who = np.repeat(bots, clients.bot[bots])
    since = clients.birth[who] * DAY_SECONDS
    second = since + (rng.random(len(who)) * (DAYS * DAY_SECONDS - since)).astype(np.int64)
    return who, second, rng.integers(len(world.url_ids), size=len(who))


def searches(s: Sessions, start: Ints, clients: Clients, world: World, rng: np.random.Generator) -> Events:
    """Queries: codes of the session's product, seen through noise."""
    does = rng.random(len(s.day)) < clients.search[s.client]
    count = np.where(does, rng.geometric(0.5, len(s.day)), 0)
    row = np.repeat(np.arange(len(s.day)), count)
    noise = rng.standard_normal((len(row), LATENT), dtype=np.float32) * np.float32(QUERY_NOISE)
    seen = (world.latent[s.sku[row]] + noise) / np.float32(np.sqrt(1 + QUERY_NOISE**2))
    codes = world.quantiser(seen.astype(np.float32))
    second = start[row] + rng.integers(2, 240, size=len(row))
    return Events(clients.id[s.client[row]], second, codes)


def _items(s: Sessions, rows: Ints, count: Ints, lead: bool) -> tuple[Ints, NDArray[np.bool_]]:
    """Session of each item, and whether it is the session's main product (the first item, if `lead`)."""
    row = np.repeat(rows, count)
    begin = np.repeat(np.cumsum(count) - count, count)
    return row, (np.arange(len(row)) == begin) if lead else np.zeros(len(row), dtype=bool)


def carts_and_orders(
    s: Sessions, start: Ints, clients: Clients, world: World, rng: np.random.Generator
) -> dict[EventType, Events]:
    """Cart additions, removals and purchases. The items of an order share its second, as in a real checkout."""
    ordered, tempted = np.flatnonzero(s.ordered), np.flatnonzero(s.carted)
    row, main = _items(s, ordered, rng.geometric(1 / world.behaviour.basket, len(ordered)), lead=True)
    bundle = ordered[rng.random(len(ordered)) < world.behaviour.bundle]
    row, main = np.append(row, bundle), np.append(main, np.zeros(len(bundle), dtype=bool))
    category = s.category[row]
    category[len(row) - len(bundle) :] = world.complement[s.category[bundle]]
    by_day = np.argsort(row, kind="stable")
    row, main, category = row[by_day], main[by_day], category[by_day]
    sku = np.where(main, s.sku[row], _draw_products(world, clients, s.client[row], category, s.day[row], rng))
    once = np.sort(np.unique(row * len(world.price) + sku, return_index=True)[1])  # a product once per order
    row, sku = row[once], sku[once]
    checkout = start + 90 + _lognormal(rng, CART_SECONDS, 0.8, len(start)).astype(np.int64)
    first = rng.random(len(row)) < CARTED_FIRST
    put = np.maximum(checkout[row] - _lognormal(rng, CART_SECONDS, 0.9, len(row)).astype(np.int64), start[row] + 5)

    spare = np.where(s.ordered[tempted], rng.poisson(1.3, len(tempted)), 1 + rng.poisson(1.4, len(tempted)))
    idle, idle_main = _items(s, tempted, spare, lead=True)
    idle_main &= ~s.ordered[idle]
    idle_sku = _draw_products(world, clients, s.client[idle], s.category[idle], s.day[idle], rng)
    idle_sku = np.where(idle_main, s.sku[idle], idle_sku)
    idle_put = start[idle] + rng.integers(10, 900, size=len(idle))
    removed = (rng.random(len(start)) < REMOVING)[idle] & (rng.random(len(idle)) < 0.9)
    out = idle_put[removed] + _lognormal(rng, 200.0, 1.2, int(removed.sum())).astype(np.int64)

    def events(session: Ints, second: Ints, product: Ints) -> Events:
        return Events(clients.id[s.client[session]], second, world.sku_ids[product])

    return {
        EventType.BUY: events(row, checkout[row], sku),
        EventType.CART: events(
            np.append(row[first], idle), np.append(put[first], idle_put), np.append(sku[first], idle_sku)
        ),
        EventType.REMOVE: events(idle[removed], out, idle_sku[removed]),
    }


def _finish(kind: EventType, events: Events, rng: np.random.Generator) -> Events:
    """Cut off at the end of the last day, repeat some rows exactly, shuffle."""
    keep = np.flatnonzero(events.second < DAYS * DAY_SECONDS)
    times = np.ones(len(keep), dtype=np.int64)
    if kind in DUPLICATES:
        share, mean = DUPLICATES[kind]
        times += (rng.random(len(keep)) < share) * rng.geometric(1 / mean, len(keep))
    rows = rng.permutation(np.repeat(keep, times))
    return Events(events.client[rows], events.second[rows], events.value[rows])


def fill(s: Sessions, clients: Clients, world: World, rng: np.random.Generator) -> dict[EventType, Events]:
    """The five event tables of a shard."""
    hour = (clients.hour[s.client] + 1.5 * rng.standard_normal(len(s.day))) % 24
    start = s.day * DAY_SECONDS + (hour * 3600).astype(np.int64)
    tables = {
        EventType.VISIT: visits(s, start, clients, world, rng),
        EventType.SEARCH: searches(s, start, clients, world, rng),
        **carts_and_orders(s, start, clients, world, rng),
    }
    return {kind: _finish(kind, tables[kind], rng) for kind in EventType}
