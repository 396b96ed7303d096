"""What the fast probe's network read: expected gradients (Erion et al. 2021, https://arxiv.org/abs/1906.10670), by SHAP.

The attribution of a column to a logit is the mean, over clients x' of a background and positions between x' and the client x,
of (x − x') times the gradient there. Summed over the columns it is the logit minus the background's mean logit, up to the noise
of the draws, which is reported. SHAP's GradientExplainer draws and differentiates; it is an extra (`pip install 'kit[shap]'`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kit.errors import KitError
from kit.probes.fast import FAST, PRECISION
from kit.probes.mlp import BLOCK, Learner, passes
from kit.probes.network import Network, Shape, build, products
from kit.probes.registry import Explanation, Options, Vectors, explains
from kit.progress import track
from kit.tasks import Task
from kit.tasks.labels import TaskData

BACKGROUND: Final = 512
"""Clients that stand for `nobody in particular`."""
SAMPLE: Final = 64
"""Clients by whom a task's columns and blocks are weighed."""
LABELS: Final = 3
"""Labels explained per client: those with the highest logits."""
DRAWS: Final = 100
"""Pairs of background client and position per explained logit of the sample; named clients get FINE times as many."""
FINE: Final = 5
SEED: Final = 0


@dataclass(frozen=True)
class Gradients:
    """Attributions of some rows' most likely labels.

    Attributes:
        labels: (n, K) which labels, most likely first.
        values: (n, K, d) attributions.
        logits: (n, K) of these labels.
        base: (n, K) mean logit of these labels over the background; base + values differ from logits by noise alone.
    """

    labels: NDArray[np.int64]
    values: NDArray[np.float64]
    logits: NDArray[np.float64]
    base: NDArray[np.float64]


def require_shap() -> None:
    """KitError that says how to install SHAP where it is missing; imports nothing."""
    if importlib.util.find_spec("shap") is None:
        raise KitError(
            "Explaining the network needs the package shap, which is not installed.",
            "pip install 'kit[shap]', or explain LightGBM by --probe gbm, which needs nothing more.",
        )


@explains("fast", "the network", "attributions", require_shap)
def explain_network(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> dict[Task, Explanation]:
    """Train the fast probe's networks (official seed) once more and explain them, and each client that `options.explain` names.

    Raises:
        KitError: SHAP is not installed.
    """
    require_shap()
    rows = np.empty(0, dtype=np.int64) if options.explain is None else options.explain
    own = replace(options, precision=PRECISION, seeds=1, keep_logits=False, reorder=False, finished=None)
    todo = track(tasks, "explained networks", len(tasks), "tasks") if options.progress else tasks
    return {data.task: explain_task(vectors, data, rows, own, FAST) for data in todo}


def explain_task(
    vectors: Vectors, data: TaskData, rows: NDArray[np.int64], options: Options, shape: Shape
) -> Explanation:
    """Explain the network of a task by a seeded sample of its clients, and the named clients that take part in it."""
    network = best_network(vectors, data, options, shape)
    rng = np.random.default_rng(SEED)
    background, sample = (
        np.sort(rng.choice(data.rows, min(count, len(data.rows)), replace=False)) for count in (BACKGROUND, SAMPLE)
    )
    named = rows[np.isin(rows, data.rows)]
    behind = _read(vectors, background, network)
    spread = expected_gradients(network, behind, _read(vectors, sample, network), draws=DRAWS)
    single = expected_gradients(network, behind, _read(vectors, named, network), draws=DRAWS * FINE)
    by_label = spread.values.reshape(-1, vectors.shape[1])
    return Explanation(
        gain=np.abs(by_label).mean(axis=0),
        rows=named,
        contributions=np.concatenate([single.values, single.base[:, :, None]], axis=2),
        sample=by_label,
        labels=single.labels,
        margins=single.logits,
    )


def best_network(vectors: Vectors, data: TaskData, options: Options, shape: Shape) -> Network:
    """The network whose score counts: trained as the probe trains it, with the weights of its best epoch, ready to be read."""
    seed = options.seed_numbers()[0]
    learner = Learner(data, seed, vectors.shape[1], shape, options)
    trained = learner.forward
    if not isinstance(trained, nn.Module):
        raise TypeError(f"{trained!r} has no weights to read")
    best: dict[str, Tensor] = {}
    with products(options.precision):
        for act, batch in passes(shape):
            learner.rewind(batch)
            scored = len(learner.epochs)
            for first in range(0, len(vectors), BLOCK):
                block = torch.from_numpy(np.array(vectors[first : first + BLOCK])).float()
                act(learner, first, block.to(learner.device))
            if len(learner.epochs) > scored and learner.epochs[-1] is max(learner.epochs, key=lambda one: one.score):
                # a compiled network says _orig_mod. before every name
                best = {key.removeprefix("_orig_mod."): value.clone() for key, value in trained.state_dict().items()}
    network = build(vectors.shape[1], data.width, shape, seed)  # anew: a learner's backward pass moves its weights
    network.load_state_dict(best)
    return network.requires_grad_(False).eval().to(learner.device)


def expected_gradients(network: nn.Module, background: Tensor, x: Tensor, *, draws: int, seed: int = SEED) -> Gradients:
    """Attributions of the most likely labels of every row.

    Args:
        network: (B, d) → (B, L) logits.
        background: (m, d) rows whose mean logit is the base.
        x: (n, d) rows to explain; n may be 0.
        draws: pairs of background row and position per row and label; the noise falls with its root.
        seed: of the draws.
    """
    with torch.no_grad(), products("fp32"):
        typical = network(background).double().mean(dim=0).cpu().numpy()
        logits = network(x).double().cpu().numpy()
    width = min(LABELS, logits.shape[1])
    if not len(x):
        empty = np.empty((0, width))
        return Gradients(empty.astype(np.int64), np.empty((0, width, x.shape[1])), empty, empty)
    values, ranked = _shap_values(network, background, x, width, draws, seed)
    labels = ranked.astype(np.int64)
    return Gradients(
        labels=labels,
        values=np.moveaxis(values, -1, 1).astype(np.float64),  # (n, d, K) → (n, K, d)
        logits=np.take_along_axis(logits, labels, axis=1),
        base=typical[labels],
    )


def _shap_values(
    network: nn.Module, background: Tensor, x: Tensor, width: int, draws: int, seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n, d, width) attributions and (n, width) labels. SHAP seeds NumPy's global state; it is put back."""
    import shap

    state = np.random.get_state()
    try:
        with products("fp32"):
            explainer = shap.GradientExplainer(network, background, batch_size=draws)
            values, labels = explainer.shap_values(x, nsamples=draws, ranked_outputs=width, rseed=seed)
    finally:
        np.random.set_state(state)
    return np.asarray(values), labels.cpu().numpy()


def _read(vectors: Vectors, rows: NDArray[np.int64], network: Network) -> Tensor:
    """(rows, d) float32 on the network's device."""
    return torch.from_numpy(np.asarray(vectors[rows], dtype=np.float32)).to(network.leave.weight.device)
