"""The contract of the ACM RecSys Challenge 2025: event types, columns, tasks, window length and limits. No I/O.

Source: the organisers' repository Synerise/recsys2025 at commit e91c1a6 (read for behaviour, not copied).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

TARGET_DAYS: Final = 14
"""Length of each of the challenge's two target windows, in days; of another split see `kit.data.layout.Split.days`."""
DAY_US: Final = 86_400_000_000
"""A day in microseconds."""
MAX_WIDTH: Final = 2048
"""Largest number of columns the evaluator accepts."""
CODES: Final = 16
"""Integers in a name or query code vector."""
CODE_VALUES: Final = 256
"""Each code is in [0, CODE_VALUES)."""
PRICE_BUCKETS: Final = 100
"""Prices are quantile buckets 0 .. PRICE_BUCKETS - 1."""
TARGET_LIST: Final = 100
"""Categories, skus, new skus or price buckets per propensity task."""
NOVELTY_TOP: Final = 10
"""The novelty term looks at this many best-scored targets of each client."""
AUROC_WEIGHT: Final = 0.8
NOVELTY_WEIGHT: Final = 0.1
DIVERSITY_WEIGHT: Final = 0.1
PROBE_SEED: Final = 1278
"""torch.manual_seed before the official probe is built."""
TIMESTAMP_FORMAT: Final = "%Y-%m-%d %H:%M:%S"


class EventType(StrEnum):
    """The five event tables; the value is the file's stem."""

    BUY = "product_buy"
    CART = "add_to_cart"
    REMOVE = "remove_from_cart"
    VISIT = "page_visit"
    SEARCH = "search_query"

    @property
    def value_column(self) -> str:
        """The column beside client_id and timestamp: sku, url or query."""
        return {EventType.VISIT: "url", EventType.SEARCH: "query"}.get(self, "sku")

    @property
    def short(self) -> str:
        """One word for column names: buy, cart, remove, visit, search."""
        return self.name.lower()


SKU_EVENTS: Final = (EventType.BUY, EventType.CART, EventType.REMOVE)
"""Event types that carry a sku, and through it a category, a price bucket and a name."""
PRODUCT_COLUMNS: Final = ("sku", "category", "price", "name")
FIRST_SEEN: Final = "first_seen"
"""Optional column of product_properties, ours: when a log without a catalogue first named the product; null = always known."""


class TaskName(StrEnum):
    """The six downstream tasks, under the names of the organisers' evaluator; what each asks is in `kit.tasks.challenge`."""

    CHURN = "churn"
    CATEGORY = "propensity_category"
    SKU = "propensity_sku"
    CONVERSION = "conversion"
    NEW_SKU = "propensity_new_sku"
    PRICE = "propensity_price"


PUBLISHED_LISTS: Final = (TaskName.CATEGORY, TaskName.SKU)
"""Tasks whose target lists were public during the challenge."""
