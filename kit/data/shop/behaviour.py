"""How people behave in the synthetic shop: rates and tastes that all clients of one shop share, and its season."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kit.data.shop.presets import BLACK_FRIDAY, FIRST_DAY

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Behaviour:
    """Rates shared by all clients and sizes. Per day unless stated."""

    leave: float = 1 / 110
    """Hazard of silently leaving while present."""
    comeback: float = 1 / 250
    """Hazard of coming back after having left."""
    switch: float = 1 / 70
    """An interest slot is replaced."""
    drift: float = 1 / 10
    """A client's interest weights are jolted."""
    path: float = 0.35
    """Share of browsing sessions whose category follows from the previous session's (order matters)."""
    crowd: float = 0.15
    """Share of the remaining sessions that follow popularity instead of the client's own interests."""
    follow: float = 0.45
    """A session without order is continued later."""
    follow_open: float = 0.65
    """The same after a cart was left open."""
    follow_rate: float = 0.5
    """Hazard of that continuation while it is pending."""
    complement: float = 0.35
    """An order is followed by interest in the category's complement."""
    complement_rate: float = 1 / 7
    restock_shape: float = 6.0
    """Weibull shape of restock gaps (spread about a fifth of the period)."""
    restock_same: float = 0.75
    """A restock buys the same sku again."""
    bundle: float = 0.15
    """An order holds something from the complement category at once."""
    basket: float = 1.7
    """Mean items of the main category per order."""
    launched: float = 0.4
    """Share of the catalogue that is launched after the first day."""
    novelty: float = 20.0
    """A product just launched draws this much more attention, fading by half every three weeks."""
    price_spread: float = 0.17
    """Width of the range of prices that suit a client, of 1."""
    style: float = 5.0
    """A client chooses from the style that suits this much more often than from each other style."""
    searching: float = 1.0
    """Factor on the chance of a search in a session."""
    pages: float = 1.0
    """Factor on the pages of a session."""
    first_leave: float = 0.38
    """Chance that a relevant client leaves for good right after the first visit."""
    season: float = 1.0
    """How strong the sale in November is: a power of its lift."""
    latent: float = 0.0
    """0: interests are categories out of two departments. Else tastes are positions in a space that clients, categories and
    styles share, and this is how sharply a client's attention follows nearness in it."""
    order_base: float = 1.0
    order_follow: float = 1.6
    order_open: float = 5.0
    order_complement: float = 5.0
    order_restock: float = 60.0

    def sale(self, days: Ints) -> Floats:
        """How much readier clients are to buy on each day: 1 outside November, 2.4 on Black Friday where the season is 1."""
        warm = np.where((days >= BLACK_FRIDAY - 14) & (days < BLACK_FRIDAY - 4), 1.15, 1.0)
        week = np.where((days >= BLACK_FRIDAY - 4) & (days <= BLACK_FRIDAY + 3), 1.6, 1.0)
        after = np.where(days > BLACK_FRIDAY + 3, 1.2, 1.0)
        lift: Floats = warm * week * after * np.where(days == BLACK_FRIDAY, 1.5, 1.0)
        return lift if self.season == 1 else lift**self.season

    def traffic(self, days: Ints) -> Floats:
        """Visits per client on each day against an average day: weekly rhythm and a share of the sale."""
        weekday = (days + FIRST_DAY.weekday()) % 7
        rhythm = np.array([1.12, 1.05, 1.02, 0.98, 0.9, 0.86, 1.07])[weekday]
        return np.asarray(rhythm * np.sqrt(self.sale(days)))


BEHAVIOUR: Final = Behaviour()
