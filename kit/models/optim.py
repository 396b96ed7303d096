"""Optimisers for large embedding tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


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
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
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
            gradient = gradient.coalesce()
            rows, values = gradient.indices()[0], gradient.values()
            squares[rows] += values.flatten(1).square().mean(dim=1)
            scale = lr / (squares[rows].sqrt() + eps)
            parameter.index_add_(0, rows, -values * scale.view(-1, *[1] * (values.dim() - 1)))
        else:
            flat = gradient.flatten(1) if gradient.dim() > 1 else gradient[:, None]
            squares += flat.square().mean(dim=1)
            scale = lr / (squares.sqrt() + eps)
            parameter -= gradient * scale.view(-1, *[1] * (gradient.dim() - 1))
