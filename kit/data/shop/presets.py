"""Sizes of the synthetic shop, its calendar, and the constants of behaviour that every size shares.

What is matched to the published figures (CHALLENGE.md section 7) and what is not: see `kit.data.shop`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

import numpy as np

from kit.challenge import TARGET_DAYS
from kit.errors import KitError, nearest

FIRST_DAY: Final = date(2022, 6, 23)
"""Day 0. The last day is 2022-12-06, so that the last purchase falls where the raw data's does."""
DAYS: Final = 167
CUT_DAY: Final = DAYS - 2 * TARGET_DAYS
"""Day of train_start (2022-11-09) where windows are as long as the challenge's: the organisers' rule counts the last purchase's
day as day 28. With windows of `days` it is DAYS - 2 * days, and validation_start is DAYS - days."""
VALIDATION_DAY: Final = CUT_DAY + TARGET_DAYS
"""Day of validation_start (2022-11-23)."""
EPOCH_DAYS: Final = 7
"""The assortment changes every seventh day."""
BLACK_FRIDAY: Final = 155
"""2022-11-25, inside the validation window."""
STYLES: Final = 3
PRICE_BINS: Final = 5
CELLS: Final = PRICE_BINS * STYLES * 2
"""A category's shelf is divided by price bin, style and freshness (launched within FRESH_DAYS or not)."""
FRESH_DAYS: Final = 28
INTERESTS: Final = 4
"""Interest slots per client; the rest of a client's attention follows the crowd."""


@dataclass(frozen=True)
class Preset:
    """One size of the shop.

    Attributes:
        relevant, other: numbers of clients; only the first are asked for in a submission.
        skus, categories, departments: catalogue sizes.
        tail_urls: pages beside product, category and home pages (blog posts, filters, campaigns).
        density: multiplies the order propensity of returning clients (1 = as sparse as the real shop).
        other_buy: chance that a passer-by buys on the first visit.
        bots, bot_visits: crawling clients among the relevant ones, and the visits of the busiest.
        shard: clients per shard (a unit of memory and of random streams).
        truth_clients: how many relevant clients' true states are kept for the ceiling.
    """

    name: str
    relevant: int
    other: int
    skus: int
    categories: int
    departments: int
    tail_urls: int
    density: float
    other_buy: float
    bots: int
    bot_visits: int
    shard: int
    truth_clients: int

    @property
    def clients(self) -> int:
        """All clients."""
        return self.relevant + self.other

    @property
    def shards(self) -> int:
        """Number of shards; each holds its part of the relevant clients and of the others."""
        return -(-self.clients // self.shard)


_TINY: Final = Preset(
    name="tiny",
    relevant=1_000,
    other=3_000,
    skus=3_000,
    categories=130,
    departments=8,
    tail_urls=8_000,
    density=3.0,
    other_buy=0.15,
    bots=1,
    bot_visits=3_000,
    shard=4_000,
    truth_clients=1_000,
)
_SMALL: Final = Preset(
    name="small",
    relevant=8_000,
    other=24_000,
    skus=3_200,
    categories=180,
    departments=12,
    tail_urls=40_000,
    density=4.0,
    other_buy=0.06,
    bots=2,
    bot_visits=22_000,
    shard=32_000,
    truth_clients=8_000,
)
_MEDIUM: Final = Preset(
    name="medium",
    relevant=50_000,
    other=300_000,
    skus=30_000,
    categories=900,
    departments=24,
    tail_urls=400_000,
    density=0.8,
    other_buy=0.02,
    bots=8,
    bot_visits=22_000,
    shard=175_000,
    truth_clients=20_000,
)
_CITY: Final = Preset(
    name="city",
    relevant=128_000,
    other=1_000_000,
    skus=110_000,
    categories=1_600,
    departments=30,
    tail_urls=1_000_000,
    density=0.75,
    other_buy=0.014,
    bots=16,
    bot_visits=24_000,
    shard=188_000,
    truth_clients=20_000,
)
_OFFICIAL: Final = Preset(
    name="official",
    relevant=1_000_000,
    other=19_500_000,
    skus=1_500_000,
    categories=7_000,
    departments=60,
    tail_urls=9_000_000,
    density=0.6,
    other_buy=0.006,
    bots=60,
    bot_visits=28_000,
    shard=512_500,
    truth_clients=20_000,
)
PRESETS: Final = {preset.name: preset for preset in (_TINY, _SMALL, _MEDIUM, _CITY, _OFFICIAL)}


def preset_called(name: str) -> Preset:
    """The preset of that name.

    Raises:
        KitError: there is none; the message lists those that exist.
    """
    if name not in PRESETS:
        raise KitError(f"There is no shop preset called {name!r};", nearest(name, PRESETS))
    return PRESETS[name]


FEWEST: Final = 200
"""Relevant clients of a shop at least."""
MOST_IN_SHARD: Final = 200_000


def sized(preset: Preset, clients: int) -> Preset:
    """The preset's shop with another number of relevant clients: catalogue, pages and passers-by follow by the powers by which
    they grow from `small` to `official`; how densely people buy stays the preset's.

    Raises:
        KitError: fewer than FEWEST clients.
    """
    if clients < FEWEST:
        raise KitError(f"--clients {clients} is too few for a shop.", f"Give {FEWEST} or more.")
    times = clients / preset.relevant

    def grown(name: str) -> int:
        power = np.log(getattr(_OFFICIAL, name) / getattr(_SMALL, name)) / np.log(_OFFICIAL.relevant / _SMALL.relevant)
        return max(1, round(float(getattr(preset, name) * times**power)))

    categories = grown("categories")
    return replace(
        preset,
        relevant=clients,
        other=grown("other"),
        skus=max(grown("skus"), 4 * categories),
        categories=categories,
        departments=grown("departments"),
        tail_urls=grown("tail_urls"),
        bots=grown("bots"),
        shard=min(MOST_IN_SHARD, clients + grown("other")),
        truth_clients=min(clients, 20_000),
    )
