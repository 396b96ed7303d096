"""Graph blocks: edges against their slow definition, vectors for cold products, other cuts, saved files."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kit.blocks.edges import (
    EdgeSettings,
    NodeVocabulary,
    _frequent,
    build_graph,
    build_vocabulary,
    client_edges,
    write_client_edges,
)
from kit.blocks.gcn import GCNBlock, GCNSettings
from kit.blocks.graph import GraphFeatures
from kit.blocks.twhin import TwHINBlock, TwHINSettings
from kit.challenge import EventType
from kit.errors import KitError
from kit.history import History
from kit.recipe import parse

SMALL = {
    "twhin": TwHINBlock(
        TwHINSettings.model_validate({"dim": 8, "batch": 512, "negatives": 16, "train": {"epochs": 1, "lr": 0.1}}), 0
    ),
    "gcn": GCNBlock(GCNSettings.model_validate({"dim": 8, "batch": 256, "steps": 2, "train": {"epochs": 1}}), 0),
}
WEIGHTS = {
    "buys": 3.0,
    "carts": 1.0,
    "removes": 0.25,
    "visits": 0.5,
    "searched": 2.0,
    "in_category": 1.0,
    "has_code": 4.0,
}


def test_edges_equal_the_slow_definition(toy_history: History):
    """Type weight · Σ 2^(−age / half-life), one event at a time; a search is shared by its 16 codes; urls of few clients and
    relations without a weight are left out."""
    settings = EdgeSettings(weights=WEIGHTS, half_life=10.0, min_clients=2)
    vocabulary = build_vocabulary(toy_history, settings)
    graph = build_graph(toy_history, vocabulary, settings)
    assert list(graph.edges) == list(WEIGHTS)
    nodes = {"sku": vocabulary.skus.tolist(), "url": vocabulary.urls.tolist()}
    tables = {"buys": EventType.BUY, "carts": EventType.CART, "removes": EventType.REMOVE, "visits": EventType.VISIT}
    for name, kind in {**tables, "searched": EventType.SEARCH}.items():
        expected: dict[tuple[int, int], float] = defaultdict(float)
        for row in toy_history.events(kind).collect().iter_rows(named=True):
            weight = WEIGHTS[name] * 0.5 ** ((toy_history.cut - row["timestamp"]) / timedelta(days=10))
            client = int(np.searchsorted(toy_history.clients, row["client_id"]))
            if kind is EventType.SEARCH:
                for m, code in enumerate(row["query"]):
                    expected[client, m * 256 + code] += weight / 16
            elif row[kind.value_column] in nodes[graph.relations[name].tail]:
                expected[client, nodes[graph.relations[name].tail].index(row[kind.value_column])] += weight
        found = graph.edges[name]
        assert sorted(expected) == list(zip(found.head.tolist(), found.tail.tolist(), strict=True))
        np.testing.assert_allclose(found.weight, [expected[pair] for pair in sorted(expected)], rtol=2e-5)
    visits = toy_history.events(EventType.VISIT).collect()
    counted = visits.group_by("url").agg(pl.col("client_id").n_unique().alias("n"))
    assert vocabulary.urls.tolist() == sorted(counted.filter(pl.col("n") >= 2)["url"].to_list())
    assert 0 < len(vocabulary.urls) < len(counted)


def test_catalogue_edges_cover_every_product(toy_history: History):
    """Never-bought products too: category and 16 codes each, read off row by row."""
    settings = EdgeSettings(weights=WEIGHTS)
    vocabulary = build_vocabulary(toy_history, settings)
    graph = build_graph(toy_history, vocabulary, settings)
    assert "priced" not in graph.edges
    products = toy_history.products().collect()
    belongs = dict(zip(graph.edges["in_category"].head.tolist(), graph.edges["in_category"].tail.tolist(), strict=True))
    codes = defaultdict(list)
    for head, tail in zip(graph.edges["has_code"].head.tolist(), graph.edges["has_code"].tail.tolist(), strict=True):
        codes[head].append(tail)
    assert (graph.edges["has_code"].weight == 0.25).all()
    for row in products.iter_rows(named=True):
        node = int(np.searchsorted(vocabulary.skus, row["sku"]))
        assert vocabulary.categories[belongs[node]] == row["category"]
        assert codes[node] == [m * 256 + code for m, code in enumerate(row["name"])]
    assert len(belongs) == len(products)


def test_a_misspelt_relation_is_refused():
    with pytest.raises(KitError, match="did you mean 'buys'"):
        parse(EdgeSettings, {"weights": {"buy": 1.0}}, "here")
    with pytest.raises(KitError, match="below 0"):
        parse(EdgeSettings, {"weights": {"buys": -1.0}}, "here")


@pytest.mark.parametrize("setting", [{"weight_decay": 0.1}, {"rows": "adagrad"}])
def test_twhin_refuses_what_its_optimizer_does_not_know(setting: dict[str, object]):
    with pytest.raises(KitError, match=f"the key 'train.{next(iter(setting))}' is unknown"):
        parse(TwHINSettings, {"train": setting}, "here")


def test_query_codes_of_their_own(toy_history: History):
    settings = EdgeSettings(shared_codes=False)
    graph = build_graph(toy_history, build_vocabulary(toy_history, settings), settings)
    assert graph.relations["searched"].tail == "query"
    assert graph.relations["has_code"].tail == "code"


def test_values_without_a_node_are_dropped(toy_history: History):
    empty = np.empty(0, dtype=np.int64)
    found = client_edges(toy_history, toy_history.clients, NodeVocabulary(empty, empty, empty), EdgeSettings())
    assert {name: len(part) for name, part in found.items() if name != "searched"} == {
        "buys": 0, "carts": 0, "removes": 0, "visits": 0,
    }  # fmt: skip
    assert len(found["searched"])


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_ranges_of_clients_leave_no_trace_in_the_edges(toy_history: History, chunk: int, tmp_path: Path):
    """Edges written range by range are those of all clients at once, byte for byte; node numbers fit 32 bits."""
    settings = EdgeSettings(min_clients=2)
    vocabulary = build_vocabulary(toy_history, settings)
    write_client_edges(tmp_path, toy_history, vocabulary, settings, chunk=chunk)
    for name, edges in client_edges(toy_history, toy_history.clients, vocabulary, settings).items():
        assert len(edges)
        for part in ("head", "tail", "weight"):
            ours, theirs = np.load(tmp_path / f"{name}_{part}.npy"), getattr(edges, part)
            assert ours.dtype == theirs.dtype == (np.float32 if part == "weight" else np.int32)
            assert ours.tobytes() == theirs.tobytes(), (name, part)
    graph = build_graph(toy_history, vocabulary, settings)
    assert not graph.edges["searched"].weight.flags.writeable  # mapped
    nobody = toy_history.rewind(400)[0]
    assert not any(map(len, client_edges(nobody, nobody.clients, vocabulary, settings).values()))
    assert not graph_of_nobody(nobody, vocabulary, settings)


def graph_of_nobody(history: History, vocabulary: NodeVocabulary, settings: EdgeSettings) -> list[str]:
    """Relations of clients with edges in a history without events."""
    graph = build_graph(history, vocabulary, settings)
    return [name for name in graph.trained if graph.relations[name].head == "client"]


@pytest.mark.parametrize("least", [1, 2, 4])
def test_frequent_values_by_the_slow_definition(toy_history: History, least: int, monkeypatch: pytest.MonkeyPatch):
    owners = defaultdict(set)
    for row in toy_history.events(EventType.VISIT).collect().iter_rows(named=True):
        owners[row["url"]].add(row["client_id"])
    expected = sorted(url for url, clients in owners.items() if len(clients) >= least)
    assert 0 < len(expected) <= len(owners)
    monkeypatch.setattr("kit.blocks.edges.MERGE", 50)  # several mergers on the way
    for chunk in (1, 30, 1000):
        assert _frequent(toy_history, EventType.VISIT, least, chunk).tolist() == expected


@pytest.mark.parametrize("kind", list(SMALL))
def test_ranges_of_clients_leave_no_trace_in_the_vectors(
    toy_history: History, kind: str, monkeypatch: pytest.MonkeyPatch
):
    block = SMALL[kind].fit(toy_history)
    whole = block.transform(toy_history, toy_history.clients).values
    monkeypatch.setattr("kit.blocks.graph.CLIENTS_AT_ONCE", 5)
    assert block.transform(toy_history, toy_history.clients).values.tobytes() == whole.tobytes()


@pytest.mark.parametrize("kind", list(SMALL))
def test_vectors_at_later_cuts_and_of_all_products(toy_history: History, kind: str, tmp_path: Path):
    """Tables of an early cut place clients at a later one; items cover the catalogue; an earlier cut is refused; files load."""
    early, _ = toy_history.rewind(14)
    block = SMALL[kind]
    graph = GraphFeatures(block).fit(early)
    now, then = (graph.clients(history, history.clients) for history in (toy_history, early))
    assert now.shape == (len(toy_history.clients), 8)
    assert not np.array_equal(now, then)
    np.testing.assert_array_equal(then, block.transform(early, early.clients).values)
    skus, vectors = graph.items()
    assert skus.tolist() == sorted(toy_history.products().collect()["sku"].to_list())
    assert vectors.shape == (len(skus), 8)
    assert np.isfinite(vectors).all()
    assert np.unique(vectors, axis=0).shape == vectors.shape
    earlier, _ = early.rewind(7)
    with pytest.raises(ValueError, match="know the future"):
        graph.clients(earlier, early.clients)
    block.save(tmp_path)
    tables = np.load(tmp_path / "tables.npz")
    np.testing.assert_array_equal(tables["sku"][np.searchsorted(np.load(tmp_path / "skus.npy"), skus)], vectors)


@pytest.mark.parametrize("kind", list(SMALL))
def test_clients_without_edges_are_missing(toy_history: History, kind: str):
    stranger = int(toy_history.clients[-1]) + 1
    block = SMALL[kind].fit(toy_history)
    values = block.transform(toy_history, np.array([toy_history.clients[0], stranger])).values
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[1]).all()


@pytest.mark.parametrize("cls", [TwHINBlock, GCNBlock])
def test_nothing_to_train_on_gives_missing_rows(toy_history: History, cls, tmp_path: Path):
    settings = cls.Settings.model_validate({"dim": 4, "edges": {"weights": {"in_category": 1.0}}})
    block = cls(settings, 0).fit(toy_history)
    assert np.isnan(block.transform(toy_history, toy_history.clients).values).all()
    assert np.isnan(block.item_vectors()[1]).all()
    block.save(tmp_path)


def test_sampled_convolution_trains(toy_history: History):
    """The large-graph mode on a toy: finite vectors and a falling loss."""
    settings = {"dim": 8, "batch": 128, "mode": "sampled", "fanout": 4, "steps": 20, "train": {"epochs": 3, "lr": 0.05}}
    block = GCNBlock(GCNSettings.model_validate(settings), 0)
    block.fit(toy_history)
    assert block.report is not None
    losses = [sum(terms.values()) for terms in block.report.losses]
    assert losses[-1] < losses[0]
    assert np.isfinite(block.item_vectors()[1]).all()
