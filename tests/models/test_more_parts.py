"""Trunk, balance, item encoders and numeric encoding: known answers by hand."""

from __future__ import annotations

import pytest
import torch

from kit.models.balances import BALANCES, make_balance
from kit.models.balances.min_norm import least_norm
from kit.models.parts.periodic import Periodic, PeriodicSettings
from kit.models.trunks.dlrm import DLRM, DLRMSettings


@pytest.mark.technique("D4")
def test_dlrm_has_every_dot_product_once():
    torch.manual_seed(0)
    trunk = DLRM(5, 4, DLRMSettings(fields=4, size=3))
    x = torch.randn(2, 5)
    fields = trunk.project(x).view(2, 4, 3)
    slow = [[float(row[i] @ row[j]) for i in range(4) for j in range(i + 1, 4)] for row in fields]
    torch.testing.assert_close(trunk.products(x), torch.tensor(slow))


@pytest.mark.technique("G2")
def test_least_norm_of_two_is_the_closed_form_and_of_many_the_brute_force():
    torch.manual_seed(0)
    one, two = torch.randn(2, 6, dtype=torch.float64)
    share = least_norm(torch.stack([one, two]) @ torch.stack([one, two]).T)
    exact = ((two - one) @ two / (one - two).square().sum()).clamp(0, 1)
    assert float(share[0]) == pytest.approx(float(exact), abs=1e-9)
    many = torch.randn(3, 2, dtype=torch.float64) + 1
    grid = torch.tensor([[i, j, 100 - i - j] for i in range(101) for j in range(101 - i)], dtype=torch.float64) / 100
    best = (grid @ many).square().sum(1).min()
    found = least_norm(many @ many.T, steps=200)
    assert float(found.sum()) == pytest.approx(1)
    assert float((found @ many).square().sum()) <= float(best) * 1.02 + 1e-9


@pytest.mark.parametrize("mode", ["minnorm", "moco"])
def test_the_trunk_gets_the_combination_of_gradients_and_a_loud_task_no_more_than_its_share(mode: str):
    torch.manual_seed(0)
    balance = make_balance({"a": 1.0, "b": 1.0}, BALANCES.loaded()["min-norm"].Settings(mode=mode)).train()
    targets = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0, 1.0]])}
    for _ in range(100):
        z = torch.zeros(1, 2, requires_grad=True)
        losses = {
            task: (1000.0 if task == "a" else 1.0) * -(balance.fork(z, task) * to).sum() for task, to in targets.items()
        }
        sum(balance(losses).values()).backward()
    assert -z.grad[0, 0].item() == pytest.approx(-z.grad[0, 1].item(), rel=0.02)  # orthogonal, of one norm: half each


@pytest.mark.technique("G2")
def test_a_conflict_is_settled_so_that_neither_task_gets_worse():
    balance = make_balance({"a": 1.0, "b": 1.0}, BALANCES.loaded()["min-norm"].Settings()).train()
    gradients = torch.tensor([[[1.0, 0.0]], [[-0.8, 0.6]]])
    combined = balance.combine(gradients)
    assert all(float((combined * gradient).sum()) >= -1e-6 for gradient in gradients)


@pytest.mark.technique("K5")
def test_periodic_by_hand_and_missing_values():
    layer = Periodic(1, PeriodicSettings(frequencies=1, size=2))
    with torch.no_grad():
        layer.frequency.fill_(0.25)
        layer.weight.copy_(torch.eye(2)[None])
        layer.missing.copy_(torch.tensor([[5.0, 6.0]]))
    out = layer(torch.tensor([[1.0], [0.0], [float("nan")]]))  # cos and sin of π/2 and of 0
    torch.testing.assert_close(out, torch.tensor([[0.0, 1.0], [1.0, 0.0], [5.0, 6.0]]), atol=1e-6, rtol=0)
