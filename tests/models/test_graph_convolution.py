"""LightGCN and its sampler: exact against dense algebra and PyG, unbiased sampling, inductive clients, planted complements."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.metrics import roc_auc_score
from torch_geometric.nn import LGConv

from kit.models.graph.convolution import (
    Convolved,
    LightGCN,
    PairBatch,
    SparseRows,
    joint_adjacency,
    normalised,
    offsets,
)
from kit.models.graph.edges import Edges, Graph, Relation
from kit.models.graph.pairs import pair_batches
from kit.models.graph.sampler import NeighbourSampler
from kit.models.losses.bpr import BPR, BPRSettings
from kit.models.training import TrainSettings, train

BUYS = Relation("buys", "client", "sku")
IN = Relation("in_category", "sku", "category")


def edges(pairs, weight=None) -> Edges:
    table = np.array(sorted(map(tuple, pairs)), dtype=np.int64).reshape(-1, 2)
    weights = np.ones(len(table), dtype=np.float32) if weight is None else np.asarray(weight, dtype=np.float32)
    return Edges(table[:, 0], table[:, 1], weights)


def random_graph(seed: int = 0, clients: int = 30, skus: int = 20, categories: int = 4) -> Graph:
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((clients, skus)) < 0.15)
    pairs = pairs[pairs[:, 0] != 5]  # client 5 has no edges
    return Graph(
        {"category": categories, "client": clients, "sku": skus},
        {"buys": BUYS, "in_category": IN},
        {
            "buys": edges(pairs, rng.uniform(0.1, 3, len(pairs))),
            "in_category": edges([(s, s % categories) for s in range(skus)]),
        },
    )


def dense_normalised(graph: Graph) -> np.ndarray:
    """The slow definition, edge by edge."""
    first = offsets(graph)
    n = sum(graph.sizes.values())
    a = np.zeros((n, n))
    for name, part in graph.edges.items():
        relation = graph.relations[name]
        for head, tail, weight in zip(part.head, part.tail, part.weight, strict=True):
            i, j = first[relation.head] + head, first[relation.tail] + tail
            a[i, j] += weight
            a[j, i] += weight
    degree = a.sum(axis=1)
    root = np.divide(1, np.sqrt(degree), out=np.zeros(n), where=degree > 0)
    return root[:, None] * a * root


def model_of(graph: Graph, layers: int, dim: int = 8, seed: int = 0, **options) -> LightGCN:
    adjacency, _ = normalised(joint_adjacency(graph))
    torch.manual_seed(seed)
    clients = graph.sizes["client"]
    return LightGCN(clients, adjacency.shape[0] - clients, dim, layers, adjacency, **options)


@pytest.mark.technique("C2")
def test_one_layer_is_the_normalised_adjacency_times_the_vectors():
    graph = random_graph()
    model = model_of(graph, 1)
    zero, one = (level.detach().double().numpy() for level in model.propagate())
    assert (zero[:30] == 0).all()
    np.testing.assert_array_equal(zero[30:], model.table.detach().double().numpy())
    np.testing.assert_allclose(one, dense_normalised(graph) @ zero, atol=1e-6)


@pytest.mark.technique("C2")
def test_layers_equal_pyg_and_the_final_vector_is_their_mean():
    """Oracle: PyG's LGConv on the edge list, with its own normalisation."""
    graph = random_graph(1)
    model = model_of(graph, 3)
    coo = joint_adjacency(graph).tocoo()
    index, weight = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64)), torch.from_numpy(coo.data)
    layer, expected = LGConv(normalize=True), [model.inputs()]
    for _ in range(3):
        expected.append(layer(expected[-1], index, weight))
    for ours, theirs in zip(model.propagate(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    convolved = Convolved.of(model.table.detach().numpy(), graph, 3)
    first, mean = offsets(graph), torch.stack(expected).mean(dim=0).detach().numpy()
    for kind in ("sku", "category"):
        np.testing.assert_allclose(
            convolved.of_type(kind), mean[first[kind] : first[kind] + graph.sizes[kind]], atol=1e-6
        )


def test_gradient_equals_the_dense_one():
    graph = random_graph(2)
    model = model_of(graph, 2)
    batch = PairBatch(torch.tensor([0, 3, 9]), torch.tensor([40, 41, 45]), torch.tensor([40, 50, 52, 53]))
    sum(model(batch).values()).backward()
    ours = model.table.grad.clone()
    model.zero_grad()
    dense = torch.from_numpy(dense_normalised(graph)).float()
    zero = model.inputs()
    final = (zero + dense @ zero + dense @ dense @ zero) / 3
    positive = (final[batch.client] * final[batch.item]).sum(1)
    wrong = final[batch.client] @ final[batch.negative].T
    wrong[0, 0] = -torch.inf  # the positive itself
    (torch.logsumexp(torch.cat([positive[:, None], wrong], 1), 1) - positive).mean().backward()
    torch.testing.assert_close(ours, model.table.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.technique("F7")
def test_bpr_by_hand():
    graph = random_graph(2)
    model = model_of(graph, 1, loss=BPR(BPRSettings()), temperature=0.5)
    batch = PairBatch(torch.tensor([0, 3]), torch.tensor([40, 41]), torch.tensor([40, 50]))
    final = torch.stack(model.propagate()).mean(0).detach().double().numpy()
    gaps = [
        final[c] @ (final[i] - final[j]) / 0.5
        for c, i in zip(batch.client, batch.item, strict=True)
        for j in batch.negative
        if i != j
    ]
    assert len(gaps) == 3
    assert model(batch)["bpr"].item() == pytest.approx(np.mean(np.log1p(np.exp(-np.array(gaps)))), rel=1e-5)


def test_clients_from_their_edges_equal_the_training_graph():
    """Inductive client vectors at the cut of the fit are those that training saw; one without edges is missing."""
    graph = random_graph(3)
    model = model_of(graph, 2)
    convolved = Convolved.of(model.table.detach().numpy(), graph, 2)
    found = convolved.embed_clients({"buys": graph.edges["buys"]}, {"buys": "sku"}, 30)
    expected = torch.stack(model.propagate()).mean(dim=0)[:30].detach().numpy()
    empty = np.setdiff1d(np.arange(30), graph.edges["buys"].head)
    assert 5 in empty
    expected[empty] = np.nan
    np.testing.assert_allclose(found, expected, atol=1e-6)
    mine = graph.edges["buys"].head == 7
    part = graph.edges["buys"]
    alone = Edges(np.zeros(mine.sum(), np.int64), part.tail[mine], part.weight[mine])
    np.testing.assert_array_equal(convolved.embed_clients({"buys": alone}, {"buys": "sku"}, 1)[0], found[7])


def sampled_final(
    model: LightGCN, sampler: NeighbourSampler, seeds: np.ndarray, rng: np.random.Generator
) -> torch.Tensor:
    sample = sampler.sample(seeds, rng)
    hops = tuple((SparseRows.of(hop.matrix), torch.from_numpy(hop.own)) for hop in sample.hops)
    none = torch.empty(0, dtype=torch.int64)
    return model.sampled(PairBatch(none, none, none, torch.from_numpy(sample.nodes), hops))


def test_sampling_everything_is_exact():
    graph = random_graph(4)
    model = model_of(graph, 3)
    adjacency, _ = normalised(joint_adjacency(graph))
    seeds = np.array([0, 5, 8, 33, 51])
    found = sampled_final(model, NeighbourSampler(adjacency, [None] * 3), seeds, np.random.default_rng(0))
    torch.testing.assert_close(found, torch.stack(model.propagate()).mean(dim=0)[seeds], atol=1e-6, rtol=1e-5)


def test_sampling_is_unbiased_seeded_and_bounded():
    """The mean of many draws of 3 neighbours is the whole sum; equal seeds draw the same; no row takes more than its fanout.

    The draws are those of one batch: in a graph of equal copies, each copy of a seed draws for itself.
    """
    graph, copies = random_graph(5), 1_200
    model = model_of(graph, 2)
    adjacency, _ = normalised(joint_adjacency(graph))
    sampler = NeighbourSampler(adjacency, [3, 3])
    seeds = np.array([1, 8, 35, 40])
    many = NeighbourSampler(sparse.block_diag([adjacency] * copies, format="csr"), [3, 3])
    with torch.no_grad():
        exact = torch.stack(model.propagate()).mean(dim=0)[seeds]
        sample = many.sample(
            (np.arange(copies)[:, None] * len(sampler.totals) + seeds).ravel(), np.random.default_rng(0)
        )
        hops = tuple((SparseRows.of(hop.matrix), torch.from_numpy(hop.own)) for hop in sample.hops)
        none, nodes = torch.empty(0, dtype=torch.int64), torch.from_numpy(sample.nodes % len(sampler.totals))
        draws = model.sampled(PairBatch(none, none, none, nodes, hops)).reshape(copies, len(seeds), -1)
    error, spread = (draws.mean(0) - exact).abs(), draws.std(0) / np.sqrt(copies)
    assert (error < 4.5 * spread + 1e-6).all()
    assert (draws.std(0).mean(dim=1) > 0).all(), "these are draws: otherwise the bound says nothing"
    one, two = (sampler.sample(seeds, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(one.nodes, two.nodes)
    for a, b in zip(one.hops, two.hops, strict=True):
        assert (a.matrix != b.matrix).nnz == 0
        assert np.diff(a.matrix.indptr).max() <= 3
        assert set(a.matrix.indices) <= set(range(a.matrix.shape[1]))


def test_sampled_neighbours_are_real_ones():
    dense = sparse.random(40, 40, 0.1, random_state=1, dtype=np.float32).toarray()
    dense[7] = 0
    adjacency = sparse.csr_matrix(dense)
    sample = NeighbourSampler(adjacency, [4]).sample(np.arange(40), np.random.default_rng(0))
    hop = sample.hops[0].matrix.tocoo()
    drawn = set(zip(hop.row.tolist(), sample.nodes[hop.col].tolist(), strict=True))
    real = adjacency.tocoo()
    assert drawn <= set(zip(real.row.tolist(), real.col.tolist(), strict=True))
    assert 7 not in hop.row
    np.testing.assert_allclose(
        np.asarray(sample.hops[0].matrix.sum(axis=1)).ravel(), np.asarray(adjacency.sum(axis=1)).ravel(), rtol=1e-5
    )
    with pytest.raises(ValueError, match="fanouts"):
        NeighbourSampler(adjacency, [0])


def complements(seed: int, groups: int = 60):
    """Each group has products A, M, B. Some clients buy A and M, others M and B, nobody A and B. Clients who bought A alone
    will buy B: two product hops away."""
    rng = np.random.default_rng(seed)
    a, m, b = np.arange(groups), np.arange(groups) + groups, np.arange(groups) + 2 * groups
    pairs, client = [], 0
    for g in range(groups):
        for basket in [(a[g], m[g])] * 2 + [(m[g], b[g])] * 2 + [(a[g],)]:
            pairs += [(client, sku) for sku in basket]
            client += 1
    order = rng.permutation(client)
    alone = order[4 + 5 * np.arange(groups)]
    table = [(order[c], s) for c, s in pairs]
    return Graph({"client": client, "sku": 3 * groups}, {"buys": BUYS}, {"buys": edges(table)}), alone, b


def recovered(graph: Graph, alone: np.ndarray, b: np.ndarray, layers: int, seed: int, *, twin: bool) -> float:
    """AUROC of a client's own B among all B's. The twin has client vectors of its own and no convolution."""
    clients, n = graph.sizes["client"], sum(graph.sizes.values())
    adjacency, _ = normalised(joint_adjacency(graph))
    torch.manual_seed(seed)
    model = LightGCN(0 if twin else clients, n if twin else n - clients, 32, layers, adjacency, loss=BPR(BPRSettings()))
    batches = pair_batches(graph, ["buys"], pairs=512, negatives=64, steps=60, seed=seed)
    settings = TrainSettings(epochs=3, lr=0.03, weight_decay=0.0, accelerator="cpu")
    train(model, batches, settings, seed=seed, name="t")
    final = torch.stack(model.propagate()).mean(dim=0).detach().numpy()
    scores = final[alone] @ final[clients + b].T
    return float(roc_auc_score(np.eye(len(b)).ravel(), scores.ravel()))


@pytest.mark.technique("C2")
@pytest.mark.parametrize("seed", range(3))
def test_two_hop_complements_need_the_convolution(seed: int):
    graph, alone, b = complements(seed)
    convolved = recovered(graph, alone, b, 3, seed, twin=False)
    factorised = recovered(graph, alone, b, 0, seed, twin=True)
    assert convolved > 0.95
    assert factorised < convolved - 0.2
