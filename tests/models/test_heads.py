"""Heads of the combined network: chances over parts of windows, questions that begin as another one, and labels' own columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kit.errors import KitError
from kit.history import History
from kit.models.batch import CombinedBatch
from kit.models.combined import Combined, NetworkSettings
from kit.models.heads.base import HeadShape, Queries, Shared
from kit.models.heads.evidence import Evidence, own_columns
from kit.models.heads.intensity import INTENSITIES, Intensity, IntensitySettings, part_logits
from kit.recipe import parse
from kit.tokens import Catalogue, TokenSettings, Vocabulary, tokenise

TINY = {"width": 8, "events": {"width": 8}, "trunk": {"hidden": 8, "rank": 2}}


def test_in_half_a_window_none_happens_as_often_as_the_root_of_none_in_all_of_it():
    chance = torch.tensor([0.01, 0.19, 0.75, 0.999])
    half = torch.sigmoid(part_logits(torch.logit(chance), torch.tensor(0.5)))
    torch.testing.assert_close(half, 1 - (1 - chance).sqrt())
    whole = torch.linspace(-12, 12, 9)
    torch.testing.assert_close(part_logits(whole, torch.tensor(1.0)), whole, atol=1e-4, rtol=1e-4)
    assert part_logits(torch.tensor([-60.0, 60.0]), torch.tensor(0.5)).isfinite().all()


@pytest.fixture
def vocabulary(toy_history: History) -> Vocabulary:
    return tokenise(toy_history, TokenSettings()).vocabulary


def intensity(vocabulary: Vocabulary, **changes) -> Intensity:
    torch.manual_seed(0)
    return Intensity(HeadShape(4, 4, 8, vocabulary, Queries(4, 4)), IntensitySettings(**changes))


def batch_of(values: torch.Tensor, known: torch.Tensor, share: list[float]) -> CombinedBatch:
    labels = {"intensity": {"values": values, "known": known, "share": torch.tensor(share)}}
    return CombinedBatch(torch.zeros(len(values)), {}, None, {}, None, labels)


@pytest.mark.technique("F9")
def test_losses_of_windows_that_are_known_in_part_by_hand(vocabulary: Vocabulary):
    head = intensity(vocabulary)
    head.spread.data[:] = torch.tensor([1.0, 0.5, 1.0, 1.0])
    z, values = torch.randn(3, 4), torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
    known = torch.ones(3, 4, dtype=torch.bool)
    known[0, 3] = False
    shared = Shared(None, None, lambda shared, task: shared)
    found = head.loss(z, batch_of(values, known, [1.0, 0.25, 1.0, 1.0]), shared)
    chance = torch.sigmoid(head.logits(z))
    chance = torch.cat([chance[:, :1], 1 - (1 - chance[:, 1:2]) ** 0.5, chance[:, 2:]], dim=1)
    for column, name in enumerate(INTENSITIES):
        rows = known[:, column]
        want = F.binary_cross_entropy(chance[rows, column], values[rows, column])
        torch.testing.assert_close(found[name], want)


def test_tied_questions_begin_as_the_first_and_part_from_it(vocabulary: Vocabulary):
    z = torch.randn(5, 4)
    tied, apart = intensity(vocabulary), intensity(vocabulary, tied=False)
    torch.testing.assert_close(tied.logits(z), tied.logits(z)[:, :1].expand(-1, 4))
    assert (apart.logits(z)[:, 1] - apart.logits(z)[:, 0]).abs().min() > 0
    tied.linear.weight.data[1] = 1.0
    torch.testing.assert_close(tied.logits(z)[:, 1], tied.logits(z)[:, 0] + z.sum(1))


def catalogue_of(categories: list[int], prices: list[int]) -> Catalogue:
    """A product per category: sku 10, 20, …"""
    count = len(categories)
    return Catalogue(
        sku=np.array([-1, *(10 * (k + 1) for k in range(count))]),
        category=np.arange(count + 1, dtype=np.int32),
        price=np.array([0, *(price + 1 for price in prices)], dtype=np.uint8),
        codes=np.zeros((count + 1, 16), dtype=np.uint8),
        word=np.zeros(count + 1, dtype=np.int32),
        categories=np.array(categories),
    )


def test_labels_find_the_columns_that_are_about_them():
    names = (
        "counts__buy_7d", "targets__category_7", "top__sku_20", "targets__category_9", "targets__sku_30", "targets__sku_20",
        "price_affinity__at_2", "price_affinity__at_97", "targets__category_70", "top__category_none",
    )  # fmt: skip
    catalogue = catalogue_of([5, 7, 9], [0, 3, 99])
    labels, index = own_columns(names, "category", catalogue)  # 7 and 9 stand second and third; 70 is unknown
    assert (labels.tolist(), index.tolist()) == ([2, 3], [[1, -1], [3, -1]])
    labels, index = own_columns(names, "product", catalogue)
    assert (labels.tolist(), index.tolist()) == ([2, 3], [[5, 2], [4, -1]])
    labels, index = own_columns(names, "price", catalogue)
    assert labels.tolist() == list(range(1, 101))
    assert index[:, 0].tolist() == [6] * 50 + [7] * 50
    assert (index[:, 1:] == -1).all()
    labels, index = own_columns(("counts__buy_7d",), "product", catalogue)
    assert (len(labels), index.shape) == (0, (0, 2))


def test_a_category_that_nobody_bought_is_ranked_by_what_others_taught():
    """Four categories are bought by whom their own column says; the fifth by nobody in training. Its column ranks its buyers;
    without columns of its own it cannot be ranked."""
    torch.manual_seed(0)
    categories = [1, 2, 3, 4, 5]
    names = tuple(f"targets__category_{c}" for c in categories)
    catalogue = catalogue_of(categories, [0] * 5)
    evidence = Evidence(4, names, "category", catalogue)
    features = torch.rand(400, 5) * 2 - 1
    z, popular = torch.zeros(400, 4), torch.zeros(5)
    bought = features[:, :4].argmax(1)
    start = evidence(features, z, popular, evidence.labels)
    assert (start == 0).all()
    optimizer = torch.optim.Adam(evidence.parameters(), lr=0.02)
    for _ in range(150):
        logits = evidence(features, z, popular, evidence.labels)
        loss = F.cross_entropy(logits[:, :4], bought)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        ranks = evidence(features, z, popular, evidence.labels)[:, 4].argsort().argsort().double()
        level = features[:, 4].argsort().argsort().double()
        assert torch.corrcoef(torch.stack([ranks, level]))[0, 1] > 0.8
        missing = features.clone()
        missing[:, 4] = float("nan")
        assert evidence(missing, z, popular, evidence.labels).isfinite().all()
        without = Evidence(4, names[:4], "category", catalogue)
        without.load_state_dict(evidence.state_dict())
        assert (without(features[:, :4], z, popular, without.labels)[:, 4] == 0).all()


def test_evidence_goes_where_a_label_stands_among_what_competes():
    evidence = Evidence(4, ("targets__sku_10", "targets__sku_30"), "product", catalogue_of([1, 2, 3], [0, 0, 0]))
    torch.nn.init.ones_(evidence.out.bias)
    features, z = torch.zeros(2, 2), torch.zeros(2, 4)
    assert evidence(features, z, torch.zeros(2), torch.tensor([2, 0])).tolist() == [
        [0, 1],
        [0, 1],
    ]  # sku 30 does not compete


@pytest.mark.parametrize("apart", [("intensity",), ()])
def test_a_head_apart_moves_its_own_trunk_alone(vocabulary: Vocabulary, apart: tuple[str, ...]):
    settings = NetworkSettings.model_validate({**TINY, "apart": apart, "parts": {"sequence": False, "graph": False}})
    torch.manual_seed(0)
    network = Combined(vocabulary, {"features": 3}, 8, settings)
    z = network.encode(CombinedBatch(torch.zeros(5), {}, None, {"features": torch.randn(5, 3)}, None))
    assert z.shape == (5, 8 * (1 + len(apart))) == (5, len(network.names))
    values = torch.tensor([[1.0, 0, 0, 1]] * 5)
    batch = batch_of(values, values >= 0, [1.0] * 4)
    sum(
        network.each_head()["intensity"].loss(network.seen("intensity", z), batch, network.shared()).values()
    ).backward()
    moved = {
        name.split(".")[0]
        for name, parameter in network.named_parameters()
        if (g := parameter.grad) is not None and g.any()
    }
    assert moved == {"heads", "apart" if apart else "trunk"}
    assert torch.equal(network.seen("choice", z), z[:, :8])


def test_only_heads_that_exist_can_stand_apart():
    with pytest.raises(KitError, match=r"'intensities'.*did you mean 'intensity'"):
        parse(NetworkSettings, {"apart": ["intensities"]}, "network")


def test_a_head_that_is_alone_needs_no_trunk_apart(vocabulary: Vocabulary):
    settings = NetworkSettings.model_validate({**TINY, "heads": {"choice": False, "contrast": False}})
    assert not Combined(vocabulary, {"features": 3, "graph": 0}, 8, settings).apart


def test_a_trunk_apart_reads_its_parts_alone(vocabulary: Vocabulary):
    """What the graph says moves the shared half of z, not the other; where no part to read is there, all are read."""
    for parts, reads, moves in (
        ({}, ["features"], False),
        ({}, ["graph"], True),
        ({"features": False}, ["features"], True),
    ):
        given = {**TINY, "apart_reads": reads, "parts": {"sequence": False, **parts}}
        torch.manual_seed(0)
        network = Combined(vocabulary, {"features": 3, "graph": 4}, 8, NetworkSettings.model_validate(given)).eval()
        inputs = {"features": torch.randn(5, 3), "graph": torch.randn(5, 4)}
        changed = {**inputs, "graph": torch.randn(5, 4)}
        before, after = (
            network.encode(CombinedBatch(torch.zeros(5), {}, None, one, None)) for one in (inputs, changed)
        )
        assert not torch.equal(network.seen("choice", before), network.seen("choice", after))
        assert torch.equal(network.seen("intensity", before), network.seen("intensity", after)) != moves
