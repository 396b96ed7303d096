"""A family of shops: each number is another one, with behaviour drawn from wide ranges. Choose on some, report on others.

How densely people buy is drawn as the share of the relevant clients who buy within a window, and found by simulating a pilot.
Every third member's tastes are positions in a space (`kit.data.shop.nearness`), the others' are interests out of departments.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from kit.challenge import TARGET_DAYS
from kit.data.shop.behaviour import BEHAVIOUR, Behaviour
from kit.data.shop.clients import build_clients
from kit.data.shop.presets import CUT_DAY, Preset, sized
from kit.data.shop.simulate import simulate
from kit.data.shop.world import build_world
from kit.errors import KitError

DRAWS: Final = 20_251
"""Stream of random numbers that members are drawn from, beside their number."""
PILOT: Final = 3_000
"""Relevant clients of a pilot."""
STEPS: Final = 9
"""Halvings of the range of densities."""
DENSITIES: Final = (0.02, 60.0)
BUYERS: Final = (0.03, 0.20)
"""Share of the relevant clients who buy within a target window: lowest and highest."""
EVEN: Final = {
    "path": (0.0, 0.6),
    "crowd": (0.05, 0.4),
    "follow": (0.2, 0.6),
    "complement": (0.05, 0.6),
    "restock_same": (0.4, 0.95),
    "bundle": (0.03, 0.35),
    "basket": (1.2, 2.6),
    "launched": (0.1, 0.6),
    "first_leave": (0.2, 0.65),
    "season": (0.0, 1.3),
}
"""Behaviour drawn evenly between two ends: order, crowd, continuation, complements, restock, baskets, launches, one-day
clients and the sale."""
BY_FACTOR: Final = {
    "leave": (1 / 250, 1 / 60),
    "comeback": (1 / 500, 1 / 120),
    "switch": (1 / 200, 1 / 25),
    "drift": (1 / 30, 1 / 4),
    "price_spread": (0.1, 0.4),
    "style": (2.0, 10.0),
    "novelty": (3.0, 30.0),
    "searching": (0.3, 2.0),
    "pages": (0.5, 1.8),
}
"""Behaviour whose logarithm is drawn evenly: presence, drift, what tastes are like, news, searches, length of sessions."""
SIZES: Final = {
    "skus": (0.4, 2.5),
    "categories": (0.5, 1.6),
    "departments": (0.6, 1.6),
    "other": (0.6, 2.5),
    "bots": (0.0, 4.0),
}
"""Factors on the sizes of catalogue and shelves, on passers-by and crawlers."""
SHARPNESS: Final = (1.2, 2.4)


def member(preset: Preset, number: int) -> tuple[Preset, Behaviour]:
    """Sizes and behaviour of a member of the family.

    Args:
        preset: how many clients, and the sizes that factors are applied to.
        number: 1 or more; the same behaviour at every size.

    Raises:
        KitError: the number is below 1.
    """
    size, behaviour, share = drawn_for(preset, number)
    return replace(size, density=density_for(size, behaviour, share, number)), behaviour


def drawn_for(preset: Preset, number: int) -> tuple[Preset, Behaviour, float]:
    """A member's sizes but for their density, its behaviour, and the share of relevant clients who are to buy within a window.

    Raises:
        KitError: the number is below 1.
    """
    if number < 1:
        raise KitError(f"--vary {number} is no member of the family of shops.", "Give 1, 2, 3 …")
    rng = np.random.default_rng([DRAWS, number])
    share = float(np.exp(rng.uniform(*np.log(BUYERS))))
    drawn = {name: float(rng.uniform(*ends)) for name, ends in EVEN.items()}
    drawn |= {name: float(np.exp(rng.uniform(*np.log(ends)))) for name, ends in BY_FACTOR.items()}
    factors = {name: float(rng.uniform(*ends)) for name, ends in SIZES.items()}
    sharpness = float(rng.uniform(*SHARPNESS))
    behaviour = replace(BEHAVIOUR, latent=sharpness if number % 3 == 0 else 0.0, **drawn)
    size = replace(preset, **{name: round(getattr(preset, name) * factor) for name, factor in factors.items()})
    size = replace(size, departments=max(size.departments, 3), categories=max(size.categories, 110))
    return replace(size, skus=max(size.skus, 4 * size.categories)), behaviour, share


def density_for(preset: Preset, behaviour: Behaviour, share: float, number: int) -> float:
    """The density at which this share of the relevant clients buys within the first target window of a pilot."""
    pilot = replace(sized(preset, PILOT), bots=0)
    low, high = np.log(DENSITIES)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if buyers(replace(pilot, density=float(np.exp(middle))), behaviour, number) < share:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def buyers(preset: Preset, behaviour: Behaviour, seed: int) -> float:
    """Share of a shop's relevant clients who buy within its first target window. Nobody else is simulated."""
    world = build_world(preset, np.random.default_rng([DRAWS, seed, 0]), behaviour)
    rng = np.random.default_rng([DRAWS, seed, 1])
    sessions, _ = simulate(build_clients(world, preset, np.arange(preset.relevant), rng), world, rng)
    inside = sessions.ordered & (sessions.day >= CUT_DAY) & (sessions.day < CUT_DAY + TARGET_DAYS)
    return len(np.unique(sessions.client[inside])) / preset.relevant
