"""Task balance: plain weights, learned uncertainty, and equal gradient shares at the shared representation."""

from __future__ import annotations

import pytest
import torch

from kit.models.balances import BALANCES, Balance, make_balance


def balance_of(kind: str, weights: dict[str, float]) -> Balance:
    return make_balance(weights, BALANCES.loaded()[kind].Settings())


def shared_gradients(kind: str, scale: float, steps: int = 300) -> dict[str, float]:
    """Norm of each task's gradient at the shared vector when task a's loss is multiplied by `scale`."""
    torch.manual_seed(0)
    balance = balance_of(kind, {"a": 1.0, "b": 1.0})
    balance.train()
    targets = {"a": torch.randn(16, 4), "b": torch.randn(16, 4)}
    norms = {}
    for _ in range(steps):
        z = torch.zeros(16, 4, requires_grad=True)
        for task, target in targets.items():
            z.grad = None
            factor = scale if task == "a" else 1.0
            loss = balance({task: factor * ((balance.fork(z, task) - target) ** 2).mean()})[task]
            loss.backward()
            norms[task] = float(z.grad.norm())
    return norms


@pytest.mark.technique("G2")
def test_fixed_lets_a_loud_task_dominate_and_gradient_norm_does_not():
    loud = shared_gradients("fixed", 1000.0)
    assert loud["a"] / loud["b"] > 500
    even = shared_gradients("gradient-norm", 1000.0)
    assert even["a"] / even["b"] == pytest.approx(1.0, abs=0.05)


def test_gradient_norm_keeps_the_weights():
    torch.manual_seed(0)
    balance = balance_of("gradient-norm", {"a": 3.0, "b": 1.0})
    balance.train()
    target = torch.randn(16, 4)
    norms = {}
    for _ in range(300):
        for task in ("a", "b"):
            z = torch.zeros(16, 4, requires_grad=True)
            balance({task: ((balance.fork(z, task) - target) ** 2).mean()})[task].backward()
            norms[task] = float(z.grad.norm())
    assert norms["a"] / norms["b"] == pytest.approx(3.0, rel=0.05)


def test_fork_changes_no_value_and_nothing_in_eval():
    balance = balance_of("gradient-norm", {"a": 1.0})
    z = torch.randn(3, 2, requires_grad=True)
    torch.testing.assert_close(balance.fork(z, "a"), z)
    balance.eval()
    assert balance.fork(z, "a") is z


def test_uncertainty_learns_log_of_the_loss():
    """Σ e^{-s} L + s is smallest at s = log L."""
    balance = balance_of("uncertainty", {"a": 1.0, "b": 1.0})
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        sum(balance({"a": torch.tensor(4.0), "b": torch.tensor(0.25)}).values()).backward()
        optimizer.step()
    learned = {name: float(value) for name, value in balance.log_variance.items()}
    assert learned["a"] == pytest.approx(torch.tensor(4.0).log().item(), abs=0.05)
    assert learned["b"] == pytest.approx(torch.tensor(0.25).log().item(), abs=0.05)
