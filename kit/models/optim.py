"""Optimisers for large embedding tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from kit.errors import KitError


class RowAdagrad(Optimizer):
    """Adagrad with one accumulator per row: a step costs as much as the rows that it touches, and a table's state is 1/d of it.

    g₂[row] += mean(grad[row]²);  row −= lr · grad[row] / (√g₂[row] + eps). Sparse and dense gradients are both taken.

    Args:
        parameters: tensors whose first axis counts rows.
        lr: rate.
        eps: added to the root; also keeps rows without gradient where they are.
    """

    def __init__(
        self, parameters: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float = 0.05, eps: float = 1e-10
    ) -> None:
        if lr <= 0:
            raise ValueError(f"lr must be positive, however: {lr=}")
        super().__init__(parameters, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = _evaluated(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group["lr"], group["eps"])
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, lr: float, eps: float) -> None:
        state = self.state[parameter]
        if not state:
            state["squares"] = torch.zeros(parameter.shape[0], device=parameter.device)
        squares: Tensor = state["squares"]
        if gradient.is_sparse:
            _adagrad_rows(parameter, gradient.coalesce(), squares, lr, eps)
        else:
            flat = gradient.flatten(1) if gradient.dim() > 1 else gradient[:, None]
            squares += flat.square().mean(dim=1)
            scale = lr / (squares.sqrt() + eps)
            parameter -= gradient * scale.view(-1, *[1] * (gradient.dim() - 1))


def _evaluated(closure: Callable[[], float] | None) -> float | None:
    """The closure's loss, if there is one: steps run without gradients, it needs them."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _adagrad_rows(parameter: Tensor, gradient: Tensor, squares: Tensor, lr: float, eps: float) -> None:
    """One step of row-wise Adagrad on the rows of a coalesced gradient."""
    rows, values = gradient.indices()[0], gradient.values()
    squares[rows] += values.flatten(1).square().mean(dim=1)
    scale = lr / (squares[rows].sqrt() + eps)
    parameter.index_add_(0, rows, -values * scale.view(-1, *[1] * (values.dim() - 1)))


class LazyAdamW(AdamW):
    """AdamW that also takes row-sparse gradients, whose step costs as much as the rows that it touches.

    Rows with a gradient move as under AdamW, by moments that rest while they have none (as in torch's SparseAdam); a row that
    has one in every step is where AdamW would have it. Rows without one stay as they are: no momentum, no decay. Parameters
    with dense gradients are AdamW's.

    Args:
        parameters: as for AdamW.
        lr, weight_decay: as for AdamW.
        rows: what moves row-sparse tables: `adam` keeps two numbers for each of a table's, `adagrad` one for each row.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        rows: Literal["adam", "adagrad"] = "adam",
    ) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)
        self.rows = rows

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = _evaluated(closure)
        tables = [
            (group, parameter, parameter.grad.coalesce())
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        ]
        for _, parameter, _ in tables:
            parameter.grad = None  # AdamW leaves these alone
        super().step()
        for group, parameter, gradient in tables:
            if self.rows == "adam":
                self._adam_rows(group, parameter, gradient)
            else:
                state = self.state[parameter]
                if not state:
                    state["squares"] = torch.zeros(parameter.shape[0], device=parameter.device)
                _adagrad_rows(parameter, gradient, state["squares"], group["lr"], 1e-10)
            parameter.grad = gradient
        return loss

    def _adam_rows(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta1, beta2), lr = float(state["step"]), group["betas"], group["lr"]
        rows, values = gradient.indices()[0], gradient.values()
        mean = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        scale = (square.sqrt() / (1 - beta2**step) ** 0.5).add_(group["eps"])
        moved = parameter[rows].mul_(1 - lr * group["weight_decay"])
        parameter[rows] = moved.addcdiv_(mean, scale, value=-lr / (1 - beta1**step))


SCALAR_RATE: Final = 10.0
"""Rate of scalars as a multiple of the others': an Adam step moves every number by about the rate, which is much for one of a
thousand weights that add up, and little for a temperature or an age that stands alone."""


def parameter_groups(model: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """A model's parameters as three groups: weights decay; norms, biases and other vectors do not; nor do scalars, which have a
    rate of their own.

    Scalars are what a module names in an attribute `scalars`: parameters of its own, each entry of which stands alone. What has
    one axis or none, or is called a bias, is no weight. A group without parameters is left out.
    """
    alone = {id(getattr(module, name)) for module in model.modules() for name in getattr(module, "scalars", ())}
    weights, plain, scalars = [], [], []
    for name, parameter in model.named_parameters():
        if id(parameter) in alone:
            scalars.append(parameter)
        elif parameter.dim() < 2 or "bias" in name.rpartition(".")[2]:
            plain.append(parameter)
        else:
            weights.append(parameter)
    groups = [
        {"params": weights, "lr": lr, "weight_decay": weight_decay},
        {"params": plain, "lr": lr, "weight_decay": 0.0},
        {"params": scalars, "lr": SCALAR_RATE * lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adam_w(
    model: nn.Module, lr: float, weight_decay: float, rows: Literal["adam", "adagrad"], *, averaged: bool
) -> Optimizer:
    """AdamW for all of a model's parameters, row-sparse tables included, in the groups of `parameter_groups`; `averaged` is
    schedule-free AdamW.

    Raises:
        KitError: averaged, and a part of the model asks for row-sparse gradients (attribute `sparse`, as torch's embeddings
            have): averaging moves every row in every step.
    """
    groups = parameter_groups(model, lr, weight_decay)
    if not averaged:
        return LazyAdamW(groups, lr=lr, weight_decay=weight_decay, rows=rows)
    if any(getattr(module, "sparse", False) is True for module in model.modules()):
        raise KitError(
            "The schedule 'schedule-free' moves every row in every step; this model's table has too many for that.",
            "Use cosine or constant, or raise `events.dense_rows` above the table's rows.",
        )
    from schedulefree import AdamWScheduleFree

    free: Optimizer = AdamWScheduleFree(groups, lr=lr, weight_decay=weight_decay)
    return free
