"""TwHIN: loss by hand, gradients that the public release lacks, draws, closed-form clients, planted signals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from kit.models.graph.edges import Edges, Graph, Relation
from kit.models.graph.inductive import Tables, embed_heads
from kit.models.graph.twhin import RelationBatch, TwHIN, WeightedSampler, edge_batches
from kit.models.negatives.batch import BatchNegatives, BatchSettings
from kit.models.optim import RowAdagrad
from kit.models.training import TrainSettings, train

BUYS = Relation("buys", "client", "sku")
CARTS = Relation("carts", "client", "sku")
IN = Relation("in_category", "sku", "category")


def edges(pairs, weight=None) -> Edges:
    table = np.array(sorted(map(tuple, pairs)), dtype=np.int64).reshape(-1, 2)
    weights = np.ones(len(table), dtype=np.float32) if weight is None else np.asarray(weight, dtype=np.float32)
    return Edges(table[:, 0], table[:, 1], weights)


def tiny_model(dim: int = 3) -> TwHIN:
    relations = {"buys": BUYS, "in_category": IN}
    torch.manual_seed(0)
    model = TwHIN(
        Graph({"client": 4, "sku": 5, "category": 2}, relations, {name: edges([]) for name in relations}), dim
    )
    torch.nn.init.normal_(model.translations)
    for kind in model.tables:
        torch.nn.init.normal_(model.table(kind).weight)
    return model


def batch(head, tail, heads, tails, share=1.0) -> RelationBatch:
    return RelationBatch(*(torch.tensor(part) for part in (head, tail, heads, tails)), share)


@pytest.mark.technique("C1")
def test_loss_by_hand():
    """Every score written out: the translation is in positives and in both kinds of negatives; their label is 0; a negative
    that is the positive itself is left out; shares weigh relations."""
    model = tiny_model()
    client, sku = (model.table(kind).weight.detach().double().numpy() for kind in ("client", "sku"))
    shift = model.translations.detach().double().numpy()[0]
    head, tail, heads, tails = [0, 1, 3], [4, 2, 2], [1, 2], [2, 0]

    def minus_log_sigmoid(x):
        return np.log1p(np.exp(-x))

    positive = np.mean([minus_log_sigmoid((client[s] + shift) @ sku[t]) for s, t in zip(head, tail, strict=True)])
    wrong_tails = [
        minus_log_sigmoid(-(client[s] + shift) @ sku[n])
        for s, t in zip(head, tail, strict=True)
        for n in tails
        if n != t
    ]
    wrong_heads = [
        minus_log_sigmoid(-(client[n] + shift) @ sku[t])
        for s, t in zip(head, tail, strict=True)
        for n in heads
        if n != s
    ]
    assert (len(wrong_tails), len(wrong_heads)) == (4, 5)
    expected = positive + (np.mean(wrong_tails) + np.mean(wrong_heads)) / 2
    assert model({"buys": batch(head, tail, heads, tails, 0.3)})["buys"].item() == pytest.approx(
        0.3 * expected, rel=1e-5
    )


def test_own_gradient_equals_autograd():
    model = tiny_model()
    part = batch([0, 1, 3], [4, 2, 2], [1, 2], [2, 0])
    model.loss("buys", part).backward()
    ours = {name: p.grad.to_dense() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    shifted = model.table("client")(part.head) + model.translations[0]
    tail = model.table("sku")(part.tail)
    scores = (
        shifted @ model.table("sku")(part.tails).T,
        tail @ (model.table("client")(part.heads) + model.translations[0]).T,
    )
    wrong = [
        torch.nn.functional.softplus(score)[own[:, None] != other].mean()
        for score, own, other in zip(scores, (part.tail, part.head), (part.tails, part.heads), strict=True)
    ]
    (torch.nn.functional.softplus(-(shifted * tail).sum(1)).mean() + 0.5 * sum(wrong)).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad.to_dense())


@pytest.mark.technique("C1")
def test_translations_receive_gradient_from_positives_and_from_negatives():
    """The public release reads them through `.data`: no gradient at all."""
    model = tiny_model()
    model.loss("buys", batch([0, 1], [4, 2], [2, 3], [0, 1])).backward()
    gradient = model.translations.grad
    assert (gradient[0].abs() > 1e-4).all()
    assert (gradient[1] == 0).all()  # in_category had no edge in the batch
    model.zero_grad()
    with torch.no_grad():
        model.table("sku").weight[[4, 2]] = 0.0  # positives score 0 and pass nothing on to the translation
    model.loss("buys", batch([0, 1], [4, 2], [2, 3], [0, 1])).backward()
    assert model.translations.grad[0].abs().max() > 1e-4


@pytest.mark.technique("C1")
def test_negatives_have_label_zero():
    """Descent along a negative's own vector lowers its score, along a positive's raises it. (The release labels both 1.)"""
    model = tiny_model()
    part = batch([0], [4], [2], [1])
    model.loss("buys", part).backward()
    client, sku = model.table("client"), model.table("sku")
    shifted = (client.weight[0] + model.translations[0]).detach()
    steps = {kind: -model.table(kind).weight.grad.to_dense() for kind in ("client", "sku")}
    assert shifted @ steps["sku"][4] > 0  # the positive's tail
    assert shifted @ steps["sku"][1] < 0  # the corrupting tail
    assert sku.weight[4].detach() @ steps["client"][2] < 0  # the corrupting head


def test_edges_are_drawn_in_proportion_to_weight():
    weight = np.array([1, 5, 0.5, 3, 2], dtype=np.float32)
    drawn = np.bincount(WeightedSampler(weight).draw(np.random.default_rng(0), 20_000), minlength=5)
    assert stats.chisquare(drawn, 20_000 * weight / weight.sum()).pvalue > 1e-3


def test_negatives_are_half_uniform_half_of_the_batch():
    rng = np.random.default_rng(1)
    ends, pool = np.array([3, 3, 3, 7]), np.array([0, 1, 3, 7, 9])
    often = np.array([0, 0, 0.75, 0.25, 0])
    sampler = BatchNegatives(BatchSettings(), pool, lambda: often)
    drawn = np.bincount(np.concatenate([sampler.draw(rng, ends, 40) for _ in range(1_000)]), minlength=11)
    expected = np.full(5, 0.1) + 0.5 * often
    np.testing.assert_allclose(sampler.chance(), expected)
    assert drawn.sum() == drawn[pool].sum() == 40_000
    assert stats.chisquare(drawn[pool], 40_000 * expected).pvalue > 1e-3


def test_negatives_are_type_correct_and_stand_at_that_end_of_the_relation():
    """Per relation the uniform half is even over the ends that its edges have: no other type's, no product never bought."""
    graph = Graph(
        {"client": 6, "sku": 50, "category": 3},
        {"buys": BUYS, "in_category": IN},
        {"buys": edges([(0, 1), (2, 3), (2, 4), (5, 3)]), "in_category": edges([(s, s % 2) for s in range(50)])},
    )
    seen: dict = {}
    for thunk in edge_batches(graph, edges=8, negatives=20, steps=200, seed=0)(0):
        for name, part in thunk().items():
            for end, drawn in (("head", part.heads[:10]), ("tail", part.tails[:10])):
                seen.setdefault((name, end), []).append(drawn.numpy())
    for (name, end), drawn in seen.items():
        values, counts = np.unique(np.concatenate(drawn), return_counts=True)
        np.testing.assert_array_equal(values, np.unique(getattr(graph.edges[name], end)))
        assert stats.chisquare(counts).pvalue > 1e-3


def communities(seed: int, *, clients: int = 240, skus: int = 80, held: float = 0.2):
    """Two groups that buy among their own 40 products; categories split the groups' products; the last 8 of each are cold."""
    rng = np.random.default_rng(seed)
    group, kind = np.arange(clients) % 2, np.arange(skus) % 2
    chosen = (rng.random((clients, skus)) < 0.25) & (group[:, None] == kind)
    chosen[:, -16:] = False
    pairs = np.argwhere(chosen)
    test = rng.random(len(pairs)) < held
    category = edges([(s, 2 * (s % 2) + (s // 2) % 2) for s in range(skus)])
    graph = Graph(
        {"client": clients, "sku": skus, "category": 4},
        {"buys": BUYS, "in_category": IN},
        {"buys": edges(pairs[~test]), "in_category": category},
    )
    strangers = rng.integers(0, [clients, skus - 16], (2 * test.sum(), 2))
    strangers = strangers[group[strangers[:, 0]] != kind[strangers[:, 1]]]
    return graph, pairs[test], strangers, group, kind


def fit(graph: Graph, seed: int, dim: int = 16, epochs: int = 4, steps: int = 30) -> Tables:
    torch.manual_seed(seed)
    model = TwHIN(graph, dim)
    train(
        model,
        edge_batches(graph, edges=512, negatives=64, steps=steps, seed=seed),
        TrainSettings(epochs=epochs, lr=0.2, clip=100.0, accelerator="cpu"),
        seed=seed,
        name="t",
        optimizer=RowAdagrad(model.parameters(), lr=0.2),
    )
    return Tables.of(model, graph)


def buy_scores(tables: Tables, graph: Graph) -> np.ndarray:
    """f(client, buys, sku) of all pairs, clients embedded from their edges of all relations."""
    own = {name: graph.edges[name] for name, relation in graph.relations.items() if relation.head == "client"}
    client = np.nan_to_num(embed_heads(tables, own, graph.sizes["client"]))
    return (client + tables.translations["buys"]) @ tables.vectors["sku"].T


@pytest.mark.parametrize("seed", range(3))
def test_planted_communities(seed: int):
    """Held-out edges against pairs across groups: AUROC ≥ .9 with clients embedded inductively; cold products follow their
    category to the right group; training's loss falls."""
    graph, held, strangers, group, kind = communities(seed)
    tables = fit(graph, seed)
    scores = buy_scores(tables, graph)
    labels = np.r_[np.ones(len(held)), np.zeros(len(strangers))]
    assert roc_auc_score(labels, scores[tuple(np.r_[held, strangers].T)]) >= 0.9
    cold = scores[:, -16:]
    assert roc_auc_score((group[:, None] == kind[None, -16:]).ravel(), cold.ravel()) >= 0.9


@pytest.mark.technique("C1")
@pytest.mark.parametrize("seed", range(3))
def test_cart_edges_improve_the_ranking_of_held_out_buys(seed: int):
    """Clients cart what they like and buy one in eight of it: with few buys, cart edges carry the taste."""
    rng = np.random.default_rng(seed)
    clients, skus, groups = 300, 120, 6
    likes = rng.integers(0, groups, clients)[:, None] == np.arange(skus) % groups
    bought = np.argwhere(likes & (rng.random((clients, skus)) < 0.12))
    carted = np.argwhere(likes & (rng.random((clients, skus)) < 0.35))
    test = rng.random(len(bought)) < 0.4
    strangers = rng.integers(0, [clients, skus], (len(bought), 2))
    labels = np.r_[np.ones(test.sum()), np.zeros(len(strangers))]
    pairs = np.r_[bought[test], strangers]
    result = {}
    for with_carts in (False, True):
        parts = {"buys": edges(bought[~test])} | ({"carts": edges(carted)} if with_carts else {})
        relations = {name: {"buys": BUYS, "carts": CARTS}[name] for name in parts}
        graph = Graph({"client": clients, "sku": skus}, relations, parts)
        result[with_carts] = roc_auc_score(labels, buy_scores(fit(graph, seed), graph)[tuple(pairs.T)])
    assert result[True] > result[False] + 0.03


def test_clients_minimise_the_stated_objective():
    """The closed form is the stationary point of the objective written out edge by edge."""
    rng = np.random.default_rng(3)
    d, ridge = 4, 2.0
    tables = Tables(
        {"sku": rng.normal(size=(6, d)).astype("f4")},
        {"buys": rng.normal(size=d).astype("f4"), "carts": rng.normal(size=d).astype("f4")},
        {"buys": "sku", "carts": "sku"},
        {"buys": np.array([0.5, 0.25, 0.25, 0, 0, 0]), "carts": np.full(6, 1 / 6)},
    )
    own = {"buys": edges([(0, 1), (0, 2), (2, 5)], [1.0, 3.0, 0.5]), "carts": edges([(0, 3)], [2.0])}
    found = embed_heads(tables, own, 3, ridge=ridge)
    assert np.isnan(found[1]).all()
    theta = torch.tensor(found[0], dtype=torch.float64, requires_grad=True)
    vectors = torch.tensor(tables.vectors["sku"], dtype=torch.float64)
    loss = ridge / 2 * theta.square().sum()
    for name, part in own.items():
        x = (theta + torch.tensor(tables.translations[name])) @ vectors.T
        popular = torch.tensor(tables.popular[name])
        drawn = 0.5 * popular + 0.5 * (popular > 0) / (popular > 0).sum()
        for head, tail, weight in zip(part.head, part.tail, part.weight.tolist(), strict=True):
            if head == 0:
                # The positives' curvature is pooled over the relation; at the client's own score it acts on θ alone.
                own_curvature = (popular * (theta @ vectors.T).square()).sum() / 8
                linear = (
                    -x[tail] / 2 + tables.translations[name] @ tables.vectors["sku"][tail] * (theta @ vectors[tail]) / 4
                )
                loss = loss + weight * (linear + own_curvature + (drawn * (x / 2 + x.square() / 8)).sum())
    loss.backward()
    assert theta.grad.abs().max() < 1e-5


def test_a_clients_bits_depend_on_its_own_edges_only():
    graph, *_ = communities(0)
    tables = fit(graph, 0, epochs=1, steps=5)
    whole = embed_heads(tables, {"buys": graph.edges["buys"]}, graph.sizes["client"])
    for client in (0, 7, 201):
        mine = graph.edges["buys"].head == client
        alone = Edges(np.zeros(mine.sum(), np.int64), graph.edges["buys"].tail[mine], graph.edges["buys"].weight[mine])
        np.testing.assert_array_equal(embed_heads(tables, {"buys": alone}, 1)[0], whole[client])


def test_row_adagrad_by_hand_sparse_equals_dense():
    start = torch.arange(6, dtype=torch.float32).reshape(3, 2)
    dense, sparse = (torch.nn.Embedding.from_pretrained(start.clone(), freeze=False, sparse=s) for s in (False, True))
    for _ in range(3):
        for table in (dense, sparse):
            optimizer = table.__dict__.setdefault("optimizer", RowAdagrad([table.weight], lr=0.5))
            optimizer.zero_grad()
            (table(torch.tensor([2, 0, 2])) * torch.tensor([[1.0, 3.0]])).sum().backward()
            optimizer.step()
    torch.testing.assert_close(dense.weight, sparse.weight)
    once = np.array([1.0, 3.0]) / np.sqrt(5) * 0.5 * sum(1 / np.sqrt(step) for step in (1, 2, 3))
    np.testing.assert_allclose(dense.weight.detach().numpy(), start.numpy() - [once, [0, 0], once], rtol=1e-5)


def test_sparse_gradients_are_clipped():
    """With a clip of nearly nothing a plain SGD step is no longer than rate · clip."""
    graph, *_ = communities(0)
    torch.manual_seed(0)
    model = TwHIN(graph, 4)
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    settings = TrainSettings(epochs=1, lr=1.0, clip=1e-3, schedule="constant", warmup=0.0, accelerator="cpu")
    batches = edge_batches(graph, edges=64, negatives=8, steps=1, seed=0)
    train(model, batches, settings, seed=0, name="t", optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(1e-3, rel=0.02)


def test_graph_refuses_edges_that_point_nowhere():
    graph, *_ = communities(0)
    with pytest.raises(ValueError, match="outside"):
        replace(graph, sizes={**graph.sizes, "sku": 3})
    with pytest.raises(ValueError, match="positive"):
        replace(graph, edges={**graph.edges, "buys": edges([(0, 0)], [0.0])})
