"""Sizes that several blocks' estimates share: tokens, embedding tables, edges. Registers nothing."""

from __future__ import annotations

from dataclasses import dataclass

from kit.arrays import BLOCK
from kit.blocks.edges import CHUNK as EDGES_AT_ONCE
from kit.blocks.edges import EVENTS, EdgeSettings
from kit.challenge import CODES, PRICE_BUCKETS, SKU_EVENTS, EventType
from kit.limits.need import Counts, matrix
from kit.models.graph.edges import CLIENT, RELATIONS, SKU, URL
from kit.tokens import TokenSettings
from kit.tokens.build import CHUNK as TOKENS_AT_ONCE

COPIES = 5
"""A dense parameter, its gradient, AdamW's two moments, and the best epoch's copy."""


def token_bytes(counts: Counts) -> tuple[int, int, int]:
    """(memory while they are made, memory once they are there, disk) in bytes. Tokens are mapped files.

    Made: the queries of all searches, told apart (16 codes thrice, order and row: 70); client, time and value (8 each) and
    kind (1) of a range of clients as parts, sorted, and without duplicates; values and times (8 each) of a block of
    occurrences, as they are, sorted, and marked. There: category, price and owner, which are looked up (9), and the tokens
    that name a product again (25). On disk 25, and the raw value (8) until they are done.
    """
    chunk = counts.share(TOKENS_AT_ONCE).all_events
    making = 70 * counts.searches + 75 * chunk + 40 * min(BLOCK, counts.all_events)
    return making, 9 * counts.all_events + 25 * counts.touches, 33 * counts.all_events


def words(counts: Counts, settings: TokenSettings) -> int:
    """Skus and urls with a word of their own, at most: each takes so many events."""
    return counts.touches // settings.min_sku + counts.urls(settings.min_url)


def embedding_bytes(counts: Counts, settings: TokenSettings, width: int) -> int:
    """Bytes of the table of all fields in training."""
    return COPIES * matrix(words(counts, settings), width)


@dataclass(frozen=True)
class GraphSize:
    """A graph, at most.

    Attributes:
        edges: of clients.
        catalogue: edges of products.
        nodes: that have vectors, without clients.
        largest: edges of the largest relation.
    """

    edges: int
    catalogue: int
    nodes: int
    largest: int


def graph_size(counts: Counts, settings: EdgeSettings) -> GraphSize:
    """Edges and nodes if no client ever touched the same thing twice: what is known without reading the tables."""
    relations = settings.relations()
    pairs = {
        name: counts.events[EVENTS[name]] * (CODES if EVENTS[name] is EventType.SEARCH else 1)
        for name, relation in relations.items()
        if relation.head == CLIENT
    }
    sides = sum(CODES if RELATIONS[name].tail == "code" else 1 for name in relations if relations[name].head == SKU)
    urls = counts.urls(settings.min_clients) if any(r.tail == URL for r in relations.values()) else 0
    skus = (
        counts.products
        + sum(pairs.get(name, 0) for name in pairs if EVENTS[name] in SKU_EVENTS) // settings.min_clients
    )
    return GraphSize(
        sum(pairs.values()), sides * counts.products, skus + urls + PRICE_BUCKETS, max(pairs.values(), default=0)
    )


def edge_bytes(counts: Counts, size: GraphSize) -> tuple[int, int, int]:
    """(memory while they are made, memory once they are there, disk) in bytes. Clients' edges are mapped files.

    Made: client, node and weight of the largest relation (24) for a range of clients, as events, grouped and sorted; how many
    clients touched each url (16), twice. There: running sums that edges are drawn by (8), the catalogue's edges (12), and
    the ends of the largest relation sorted, with its weights as float64 (16). On disk: head, tail and weight (4 each).
    """
    part = min(EDGES_AT_ONCE / max(counts.clients, 1), 1.0)
    making = int(3 * 24 * part * size.largest) + 2 * 16 * counts.urls(1) + 12 * size.catalogue
    return making, 8 * (size.edges + size.catalogue) + 12 * size.catalogue + 16 * size.largest, 12 * size.edges
