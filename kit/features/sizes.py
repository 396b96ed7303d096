"""Estimates of memory for hand-made features, for the plan made before a run and the size of a pass. They decide no number."""

from __future__ import annotations

from kit.challenge import EventType
from kit.features.browsing import SAMPLE_VISITS
from kit.features.embedding import DIMS
from kit.limits.need import Counts


def client_bytes(counts: Counts, width: int, widest: int) -> float:
    """Bytes per client of a chunk: its events in every table that families share, and its columns.

    A row of `table` has client, time, value, age and gap (8 each) and day (4), sku rows also category and price; `touches`
    repeats sku rows with kind, weight and item (13 more), `timeline` all rows (37); both are sorted copies, so they exist
    twice for a moment. Visits and touches are also entries of sparse matrices (position, index and weight, 24).
    Columns exist as the families' frames, aligned, joined and as NumPy (float32), and those of the widest family in four
    float64 matrices on the way.
    """
    rows = 44 * counts.visits + 52 * counts.searches + 60 * counts.touches
    rows += 2 * (73 * counts.touches + 37 * counts.all_events) + 24 * (counts.visits + counts.touches)
    return rows / max(counts.clients, 1) + 4 * 4 * width + 4 * 8 * widest


def once_bytes(counts: Counts) -> int:
    """Bytes of what is learned of everybody once per cut: catalogue (40 bytes a product) and its vectors (DIMS numbers, for a
    moment in float64 thrice), and the sample of visits from which urls get their meaning: counted by url (a table entry of
    32), and those of buyers sorted and joined to what followed (client, time, url, twice, and the match)."""
    visits = min(counts.rows[EventType.VISIT], SAMPLE_VISITS)
    return counts.products * (40 + DIMS * (4 + 3 * 8)) + visits * (32 + 2 * 24 + 16)
