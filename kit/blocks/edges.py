"""From a History to the flat arrays of the graph encoders: vocabularies, clients' edges, catalogue edges. Registers nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from kit.arrays import Growing, digest_of, read_array
from kit.challenge import CODE_VALUES, CODES, PRICE_BUCKETS, EventType
from kit.errors import require_known
from kit.features.embedding import code_rows
from kit.features.matrix import positions
from kit.features.shared import catalogue
from kit.history import History
from kit.models.graph.edges import (
    CATEGORY,
    CLIENT,
    CODE,
    PRICE,
    QUERY,
    RELATIONS,
    SKU,
    URL,
    Edges,
    Graph,
    Relation,
)
from kit.progress import progress
from kit.recipe import Strict

CHUNK: Final = 50_000
"""Clients whose edges are counted at a time."""
MERGE: Final = 4_000_000
"""Counts of values that wait to be added up."""
PARTS: Final[Mapping[str, str]] = {"head": "i4", "tail": "i4", "weight": "f4"}
"""Arrays of a relation's edges and their types."""
SECONDS_PER_DAY = 86_400
UNIT = 1 << 24
"""Decayed weights are summed as integers of 1/UNIT: exact, so any order and engine gives the same sum."""
EVENTS: Final[Mapping[str, EventType]] = {
    "buys": EventType.BUY,
    "carts": EventType.CART,
    "removes": EventType.REMOVE,
    "visits": EventType.VISIT,
    "searched": EventType.SEARCH,
}
"""Relation of clients → its event table."""
WEIGHTS: Final[Mapping[str, float]] = {
    "buys": 3.0,
    "carts": 1.5,
    "removes": 0.5,
    "visits": 0.3,
    "searched": 1.0,
    "in_category": 1.0,
    "priced": 1.0,
    "has_code": 1.0,
}


class EdgeSettings(Strict):
    """Which edges there are and what they weigh."""

    weights: dict[str, float] = Field(dict(WEIGHTS), description="Weight per relation; 0 or absent leaves it out.")
    half_life: float = Field(60.0, gt=0, description="Days for an event's weight to halve.")
    min_clients: int = Field(
        3, ge=1, description="Urls, and skus outside the catalogue, of fewer clients are left out."
    )
    shared_codes: bool = Field(True, description="Query codes are the same nodes as name codes.")

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        require_known("relation", weights, RELATIONS)
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"the weight of {name!r} is below 0: {weight}")
        return weights

    def relations(self) -> dict[str, Relation]:
        """The relations in use, in their fixed order."""
        used = {name: relation for name, relation in RELATIONS.items() if self.weights.get(name, 0.0) > 0}
        if "searched" in used and not self.shared_codes:
            used["searched"] = Relation("searched", CLIENT, QUERY)
        return used


@dataclass(frozen=True)
class NodeVocabulary:
    """Node numbers of what was known at the cut of the fit: a value's place in its sorted array is its node.

    Attributes:
        skus: int64, the catalogue and, beyond it, skus of at least min_clients clients.
        urls: int64, of at least min_clients clients.
        categories: int64, of the catalogue.
    """

    skus: NDArray[np.int64]
    urls: NDArray[np.int64]
    categories: NDArray[np.int64]

    def sizes(self, clients: int) -> dict[str, int]:
        """Node type → number of nodes."""
        codes = CODES * CODE_VALUES
        known = {SKU: len(self.skus), URL: len(self.urls), CATEGORY: len(self.categories)}
        return {CLIENT: clients, **known, PRICE: PRICE_BUCKETS, CODE: codes, QUERY: codes}


def build_vocabulary(history: History, settings: EdgeSettings) -> NodeVocabulary:
    """Nodes of the history's catalogue and its relevant clients' events."""
    products = catalogue(history)
    relations = settings.relations()
    skus = [products["sku"].to_numpy()]
    for name in ("buys", "carts", "removes"):
        if name in relations:
            skus.append(_frequent(history, EVENTS[name], settings.min_clients))
    urls = _frequent(history, EventType.VISIT, settings.min_clients) if "visits" in relations else skus[0][:0]
    categories = products["category"].drop_nulls().unique().sort().to_numpy()
    return NodeVocabulary(np.unique(np.concatenate(skus)), urls, categories)


def client_edges(
    history: History, clients: NDArray[np.int64], vocabulary: NodeVocabulary, settings: EdgeSettings
) -> dict[str, Edges]:
    """Edges of `clients` (sorted; head = position) from events before the history's cut; values without a node are dropped.

    The weight of a pair is the relation's weight · Σ over its events of 2^(−age / half_life); a search's weight is shared by
    its 16 codes. Everything is held in memory: see `build_graph` for all clients of a large shop.
    """
    view = history.among(clients)
    values = {SKU: vocabulary.skus, URL: vocabulary.urls}
    found = {}
    for name, relation in _of_clients(settings).items():
        kind = EVENTS[name]
        age = (pl.lit(history.cut) - pl.col("timestamp")).dt.total_seconds() / (settings.half_life * SECONDS_PER_DAY)
        units = (0.5**age * UNIT).round().cast(pl.Int64).clip(lower_bound=1).alias("units")
        events = view.events(kind)
        if kind is EventType.SEARCH:
            rows = events.select("client_id", units, node=_code_nodes()).explode("node").collect()
        else:
            rows = events.select("client_id", units, value=pl.col(kind.value_column)).collect()
            nodes = positions(
                rows["value"], values[relation.tail]
            )  # no join: its table would be built anew for each range
            rows = rows.select("client_id", "units", node=nodes).filter(pl.col("node") >= 0)
        pairs = rows.group_by("client_id", "node").agg(pl.col("units").sum()).sort("client_id", "node")
        scale = settings.weights[name] / UNIT / (CODES if kind is EventType.SEARCH else 1)
        found[name] = Edges(
            np.searchsorted(clients, pairs["client_id"].to_numpy()).astype(np.int32),
            pairs["node"].to_numpy().astype(np.int32),
            (pairs["units"].to_numpy() * scale).astype(np.float32),
        )
    return found


def catalogue_edges(history: History, vocabulary: NodeVocabulary, settings: EdgeSettings) -> dict[str, Edges]:
    """sku → category, price bucket and 16 name codes of every product, sold or not; a product's codes share one weight."""
    products = catalogue(history)
    node = positions(products["sku"], vocabulary.skus)
    found = {}
    for name, relation in settings.relations().items():
        if relation.head != SKU:
            continue
        weight = settings.weights[name]
        if relation.tail == CODE:
            tails = code_rows(products["name"]).astype(np.int64) + np.arange(CODES) * CODE_VALUES
            weight /= CODES
        elif relation.tail == CATEGORY:
            tails = positions(products["category"], vocabulary.categories)[:, None]
        else:
            tails = products["price"].cast(pl.Int64).fill_null(-1).to_numpy()[:, None]
            tails = np.where(tails < PRICE_BUCKETS, tails, -1)
        heads = np.repeat(node[:, None], tails.shape[1], axis=1)
        kept = (tails >= 0) & (heads >= 0)
        found[name] = Edges(
            heads[kept].astype(np.int32), tails[kept].astype(np.int32), np.full(int(kept.sum()), weight, np.float32)
        )
    return found


def build_graph(history: History, vocabulary: NodeVocabulary, settings: EdgeSettings) -> Graph:
    """The whole graph of the history's clients and the catalogue; clients' edges are files of the store, mapped into memory."""
    known = digest_of(vocabulary.skus, vocabulary.urls, vocabulary.categories)
    inputs = {"settings": settings.model_dump(mode="json"), "vocabulary": known}
    folder = history.keep("edges", inputs, lambda folder: write_client_edges(folder, history, vocabulary, settings))
    edges = {name: _read_edges(folder, name) for name in _of_clients(settings)}
    edges |= catalogue_edges(history, vocabulary, settings)
    relations = settings.relations()
    sizes = vocabulary.sizes(len(history.clients))
    used = {end for relation in relations.values() for end in (relation.head, relation.tail)} | {CLIENT, SKU}
    kept = {kind: size for kind, size in sizes.items() if kind in used}
    return Graph(kept, relations, {name: edges[name] for name in relations})


def write_client_edges(
    folder: Path, history: History, vocabulary: NodeVocabulary, settings: EdgeSettings, *, chunk: int = CHUNK
) -> None:
    """`client_edges` of all the history's clients as <relation>_head.npy, _tail.npy and _weight.npy.

    Heads ascend from one range of `chunk` clients to the next, so the parts of a relation simply follow each other.
    """
    with ExitStack() as stack:
        files = {
            name: {
                part: stack.enter_context(Growing(folder / f"{name}_{part}.npy", dtype))
                for part, dtype in PARTS.items()
            }
            for name in _of_clients(settings)
        }
        advance = stack.enter_context(progress("edges", len(history.clients), "clients"))
        for first in range(0, len(history.clients), chunk):
            some = history.clients[first : first + chunk]
            for name, edges in client_edges(history, some, vocabulary, settings).items():
                files[name]["head"].append(edges.head + np.int32(first))
                files[name]["tail"].append(edges.tail)
                files[name]["weight"].append(edges.weight)
            advance(len(some))


def _read_edges(folder: Path, name: str) -> Edges:
    head, tail, weight = (read_array(folder / f"{name}_{part}.npy") for part in PARTS)
    return Edges(head, tail, weight)


def _of_clients(settings: EdgeSettings) -> dict[str, Relation]:
    """The relations in use that begin at clients."""
    return {name: relation for name, relation in settings.relations().items() if relation.head == CLIENT}


def _frequent(history: History, kind: EventType, least: int, chunk: int = CHUNK) -> NDArray[np.int64]:
    """Values that at least `least` relevant clients touched, sorted int64.

    A client's events lie in one range, so the ranges' counts of distinct clients add up; they are added whenever they have
    outgrown twice their sum.
    """
    column = kind.value_column
    waiting: list[pl.DataFrame] = []
    merged = 0
    for view in history.chunks(chunk):
        pairs = view.events(kind).select("client_id", column).collect().unique()
        waiting.append(pairs.group_by(column).agg(clients=pl.len()))
        if sum(map(len, waiting)) > max(2 * merged, MERGE):
            waiting = [_added(waiting, column)]
            merged = len(waiting[0])
    if not waiting:
        return np.empty(0, dtype=np.int64)
    frequent = _added(waiting, column).filter(pl.col("clients") >= least)
    return frequent[column].sort().to_numpy().astype(np.int64)


def _added(counts: list[pl.DataFrame], column: str) -> pl.DataFrame:
    return pl.concat(counts).group_by(column).agg(pl.col("clients").sum())


def _code_nodes() -> pl.Expr:
    """The 16 nodes m · 256 + c of a query, as a list."""
    return pl.concat_list([pl.col("query").arr.get(m).cast(pl.Int64) + m * CODE_VALUES for m in range(CODES)])
