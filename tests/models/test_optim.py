"""Lazy AdamW: what AdamW does where every row has a gradient, nothing at all where a row has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kit.errors import KitError
from kit.history import History
from kit.models.combined import Combined, NetworkSettings
from kit.models.events import EventSettings
from kit.models.items.tower import ItemTower, TowerSettings
from kit.models.optim import LazyAdamW, RowAdagrad, parameter_groups
from kit.models.training import TrainSettings, _clip, train
from kit.tokens import TokenSettings, tokenise


def losses(table: torch.nn.Embedding, rows: list[int], target: torch.Tensor) -> torch.Tensor:
    return ((table(torch.tensor(rows)) - target) ** 2 * torch.arange(1.0, 4.0)).sum()


def tables(count: int = 2) -> list[torch.nn.Embedding]:
    start = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    return [torch.nn.Embedding.from_pretrained(start.clone(), freeze=False, sparse=bool(i)) for i in range(count)]


def test_a_row_with_a_gradient_in_every_step_is_where_adamw_has_it():
    dense, lazy = tables()
    theirs = torch.optim.AdamW(dense.parameters(), lr=0.1, weight_decay=0.2)
    ours = LazyAdamW(lazy.parameters(), lr=0.1, weight_decay=0.2)
    before = lazy.weight.detach().clone()
    for step in range(8):
        rows = [4, 1, 4] if step % 2 else [1, 4, 4]  # a row may occur twice: its gradients add up
        for table, optimizer in ((dense, theirs), (lazy, ours)):
            optimizer.zero_grad()
            losses(table, rows, torch.ones(3)).backward()
            optimizer.step()
            assert table.weight.grad is not None
    torch.testing.assert_close(lazy.weight[[1, 4]], dense.weight[[1, 4]], rtol=1e-6, atol=1e-7)
    assert not torch.equal(lazy.weight[1], before[1])
    torch.testing.assert_close(lazy.weight[[0, 2, 3, 5]], before[[0, 2, 3, 5]], rtol=0, atol=0)
    assert not torch.equal(dense.weight[0], before[0])  # AdamW decays what it does not touch


def test_a_row_that_rests_keeps_its_moments():
    """A row that is touched in steps 1 and 3 is moved by moments that did not fade in step 2; bias is corrected by all steps."""
    table = tables()[1]
    optimizer = LazyAdamW(table.parameters(), lr=0.1, weight_decay=0.0)
    weight = table.weight.detach()[1].double()
    mean, square = torch.zeros(3).double(), torch.zeros(3).double()
    for step, rows in enumerate(([1, 2], [2], [1]), start=1):
        optimizer.zero_grad()
        losses(table, rows, torch.zeros(3)).backward()
        optimizer.step()
        if 1 in rows:
            gradient = 2 * weight * torch.arange(1.0, 4.0).double()
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            weight = weight - 0.1 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(table.weight[1].double(), weight, rtol=1e-5, atol=1e-6)


def test_dense_parameters_are_adamws_and_adagrad_rows_are_row_adagrads():
    mine, theirs = (torch.nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    rows, alone = (tables()[1] for _ in range(2))
    both = LazyAdamW([*mine.parameters(), *rows.parameters()], lr=0.1, weight_decay=0.3, rows="adagrad")
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.3)
    adagrad = RowAdagrad(alone.parameters(), lr=0.1)
    for _ in range(4):
        for linear, table, optimizers in ((mine, rows, [both]), (theirs, alone, [adamw, adagrad])):
            for optimizer in optimizers:
                optimizer.zero_grad()
            (linear(torch.ones(3)).square().sum() + losses(table, [2, 5, 2], torch.ones(3))).backward()
            for optimizer in optimizers:
                optimizer.step()
    assert torch.equal(mine.weight, theirs.weight)
    assert torch.equal(rows.weight, alone.weight)
    state = {name for name, value in both.state[rows.weight].items() if torch.is_tensor(value)}
    assert state == {"squares"}
    assert both.state[rows.weight]["squares"].numel() == len(rows.weight), "one number per row"


def test_a_sparse_tower_has_the_dense_ones_gradient(toy_history: History):
    """Same sums, same gradients; those of the sparse table name only rows that were looked up, and never row 0."""
    vocabulary = tokenise(toy_history, TokenSettings(min_sku=2)).vocabulary
    towers = []
    for limit in (10**9, 0):
        torch.manual_seed(0)
        towers.append(ItemTower(vocabulary, EventSettings(width=8, dense_rows=limit, id_dropout=0.0), TowerSettings()))
    products = torch.tensor([0, 3, 9, 3])
    extra, at = torch.tensor([[5, 6], [7, 0]]), torch.tensor([1, 2])
    results = []
    for tower in towers:
        ragged = tower.sum_ragged(torch.arange(12).view(4, 3), extra, at)
        out = tower(products, 4).sum() + ragged.square().sum() + tower.lookup(torch.tensor([2, 8])).sum()
        out.backward()
        results.append(out)
    dense, sparse = (tower.table.grad for tower in towers)
    assert sparse.is_sparse and not dense.is_sparse
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(sparse.to_dense(), dense)
    assert not dense[0].any()
    named = sparse.coalesce().indices()[0].tolist()
    assert 0 not in named
    assert len(named) < len(dense)
    rest = np.setdiff1d(np.arange(len(dense)), named)
    assert not dense[rest].any()


@pytest.mark.parametrize("rows", ["adam", "adagrad"])
def test_training_leaves_rows_without_gradient_alone(toy_history: History, rows: str):
    vocabulary = tokenise(toy_history, TokenSettings(min_sku=2)).vocabulary
    settings = NetworkSettings.model_validate({"events": {"width": 8, "dense_rows": 0, "id_dropout": 0.0}})
    model = Combined(vocabulary, {"features": 2, "graph": 0}, 8, settings)

    class Alone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = model.client.embedding.items

        def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"x": self.tower(batch, 0).square().mul(torch.arange(8)).sum()}

    alone = Alone()
    before = alone.tower.table.detach().clone()
    batch = torch.tensor([1, 2])
    touched = torch.cat([alone.tower.rest[batch], alone.tower.code_rows[batch]], dim=1).unique()
    train(alone, lambda epoch: [lambda: batch] * 3, TrainSettings(epochs=1, rows=rows), seed=0, name="t")
    moved = (alone.tower.table != before).any(dim=1).nonzero()[:, 0]
    assert moved.tolist() == [row for row in touched.tolist() if row > 0]
    free = TrainSettings(schedule="schedule-free")
    with pytest.raises(KitError, match="every row in every step"):
        train(alone, lambda epoch: [lambda: batch], free, seed=0, name="t")


def test_norms_biases_and_scalars_do_not_decay_and_scalars_have_a_rate_of_their_own(toy_history: History):
    """Every parameter of a network is in one group; by names, those without decay are what they should be."""
    vocabulary = tokenise(toy_history, TokenSettings(min_sku=2)).vocabulary
    model = Combined(vocabulary, {"features": 3, "graph": 2}, 8, NetworkSettings())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights, plain, scalars = parameter_groups(model, 1e-3, 0.1)
    assert (weights["weight_decay"], plain["weight_decay"], scalars["weight_decay"]) == (0.1, 0.0, 0.0)
    assert (weights["lr"], plain["lr"], scalars["lr"]) == (1e-3, 1e-3, 1e-2)
    grouped = [[names[id(p)] for p in group["params"]] for group in (weights, plain, scalars)]
    assert sorted(name for group in grouped for name in group) == sorted(names.values())
    copies = ["heads.choice.copies.kind", "heads.choice.copies.rate"]
    assert sorted(grouped[2]) == [*copies, "heads.choice.scale", "heads.intensity.spread"]
    decayed = [name for name in grouped[0] if "norm" in name or "bias" in name.rpartition(".")[2] or "absent" in name]
    assert not decayed
    assert {"client.embedding.items.table", "trunk.cross.0.down"} <= set(grouped[0])
    assert {"parts.graph.absent", "client.embedding.norm.weight", "heads.choice.inherit.buy_price"} <= set(grouped[1])


def test_a_parameter_that_gets_no_gradient_and_does_not_decay_stays_where_it_is():
    class Some(torch.nn.Module):
        scalars = ("alone",)

        def __init__(self) -> None:
            super().__init__()
            self.alone = torch.nn.Parameter(torch.ones(2, 2))
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"x": 0.0 * (self.linear(x) * self.alone[0, 0]).sum()}

    model = Some()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    train(model, lambda epoch: [lambda: torch.ones(1, 2)] * 3, TrainSettings(weight_decay=0.5), seed=0, name="t")
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"linear.weight"}  # a gradient of zero moves nothing; decay does


def test_the_norm_of_gradients_does_not_depend_on_the_order_of_parameters():
    torch.manual_seed(0)
    values = [torch.randn(7) * 10.0**k for k in range(-3, 4)] * 5
    found = []
    for order in (range(35), reversed(range(35)), np.random.default_rng(0).permutation(35)):
        model = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(7)) for _ in range(35)])
        for parameter, k in zip(model, order, strict=True):
            parameter.grad = values[int(k)].clone()
        found.append(float(_clip(model, 1.0)))
        assert float(torch.cat([p.grad for p in model]).norm()) == pytest.approx(1.0, rel=1e-5)
    assert len(set(found)) == 1
    assert found[0] == pytest.approx(float(torch.cat(values).norm()), rel=1e-6)
