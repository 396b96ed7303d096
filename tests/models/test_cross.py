"""Cross networks: hand-computed layers, the polynomial degree they reach, and a planted product that a linear twin misses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn

from kit.models.parts.numeric import PiecewiseLinear
from kit.models.training import TrainSettings, train
from kit.models.trunks.deep_cross import CrossLayer, CrossMixture, DeepCross, DeepCrossSettings


@pytest.mark.technique("D1")
def test_full_layer_by_hand():
    layer = CrossLayer(2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        layer.linear.bias.copy_(torch.tensor([0.5, 0.0]))
    x0, x = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, 4.0]])
    # x0 * (W x + b) + x = [2 * (1 + 8 + .5) + 1, 3 * (-4) + 4]
    torch.testing.assert_close(layer(x0, x), torch.tensor([[20.0, -8.0]]))


def test_mixture_with_one_expert_is_the_written_formula():
    torch.manual_seed(0)
    layer = CrossMixture(5, rank=3, experts=1)
    x0, x = torch.randn(4, 5), torch.randn(4, 5)
    slow = x0 * (torch.tanh(torch.tanh(x @ layer.down[0]) @ layer.inner[0]) @ layer.up[0] + layer.bias) + x
    torch.testing.assert_close(layer(x0, x), slow)


@pytest.mark.technique("D1")
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_l_layers_give_a_polynomial_of_degree_l_plus_one(layers: int):
    """Along a ray t·v the output is a polynomial in t: its (L+2)-th finite difference vanishes, the (L+1)-th does not."""
    torch.manual_seed(0)
    stack = [CrossLayer(3).double() for _ in range(layers)]
    v = torch.randn(1, 3, dtype=torch.float64)

    def f(t: float) -> torch.Tensor:
        start = x = t * v
        for layer in stack:
            x = layer(start, x)
        return x

    values = torch.stack([f(0.5 * i) for i in range(layers + 5)]).detach().numpy()
    scale = np.abs(values).max()
    assert np.abs(np.diff(values, n=layers + 2, axis=0)).max() < 1e-10 * scale
    assert np.abs(np.diff(values, n=layers + 1, axis=0)).max() > 1e-6 * scale


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_product_is_found_where_a_linear_twin_fails(rank: int, seed: int):
    """y = [x1 · x2 > 0]: linear AUROC ≈ .5; the cross tower alone (no deep layers) must find it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3_000, 6)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.float32)

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = DeepCross(6, 16, DeepCrossSettings(hidden=24, layers=2, depth=0, rank=rank))
            self.head = nn.Linear(16, 1)

        def forward(self, batch):
            return {
                "bce": nn.functional.binary_cross_entropy_with_logits(self.head(self.body(batch[0]))[:, 0], batch[1])
            }

    def batches(epoch: int):
        order = np.random.default_rng([seed, epoch]).permutation(2_000).reshape(-1, 100)
        return [lambda rows=rows: (torch.from_numpy(x[rows]), torch.from_numpy(y[rows])) for rows in order]

    torch.manual_seed(seed)
    model = Classifier()
    train(model, batches, TrainSettings(epochs=8, lr=0.01), seed=seed, name="xor")
    with torch.no_grad():
        scores = model.head(model.body(torch.from_numpy(x[2_000:])))[:, 0].numpy()
    linear = LogisticRegression().fit(x[:2_000], y[:2_000]).decision_function(x[2_000:])
    assert roc_auc_score(y[2_000:], linear) < 0.58
    assert roc_auc_score(y[2_000:], scores) > 0.85


@pytest.mark.technique("K5")
def test_piecewise_linear_by_hand():
    edges = torch.tensor([[0.0, 1.0, 3.0], [5.0, 5.0, 6.0]])
    layer = PiecewiseLinear(edges, 1)
    got = layer.encode(torch.tensor([[2.0, 5.5], [-1.0, 4.0], [9.0, 5.0]]))
    want = torch.tensor([[[1.0, 0.5], [1.0, 0.5]], [[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
    torch.testing.assert_close(got, want)


def test_missing_values_have_their_own_vector_and_gradients_stay_finite():
    values = torch.tensor([[0.0, float("nan")], [1.0, 2.0], [2.0, 4.0]])
    layer = PiecewiseLinear(torch.tensor([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]), 3)
    with torch.no_grad():
        layer.missing.copy_(torch.arange(6.0).reshape(2, 3))
    out = layer(values)
    torch.testing.assert_close(out[0, 3:], torch.tensor([3.0, 4.0, 5.0]))
    out.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in layer.parameters())


def test_empty_batch():
    assert DeepCross(4, 3, DeepCrossSettings())(torch.zeros(0, 4)).shape == (0, 3)
