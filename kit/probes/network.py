"""The organisers' probe network, and a linear layer that trains at the speed of the machine on a CPU.

Source: section 6 of the challenge contract. A plain PyTorch step spends most of its CPU time outside the matrix products:
on fresh memory for every weight gradient and on a slow optimizer. Here every matrix writes its gradient into one shared
scratch buffer and is updated by a fused AdamW as soon as its gradient is known, inside the backward pass. The arithmetic is
that of the ordinary step: within one step no weight is read again after its own update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS: Final = 3
LEARNING_RATE: Final = 1e-3


@dataclass(frozen=True)
class Shape:
    """Widths of a probe network. The official one is 2048 / 4096."""

    thin: int = 2048
    wide: int = 4096


class Dense(nn.Linear):
    """A linear layer, (B, in) → (B, out), initialised by nn.Linear. `update` is set by `fuse_updates`.

    Attributes:
        exact: keep this layer's products in float32 even where others run in bfloat16: the input layer sees unscaled
            numbers whose size bfloat16's 8 bits cannot hold.
        update: consumes the weight gradient, (out, in), during the backward pass.
    """

    exact: bool = False
    update: Callable[[Tensor], None] | None = None
    scratch: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) → (B, out)."""
        if self.update is None or not torch.is_grad_enabled():
            with exactly(x.device.type, self.exact):
                return F.linear(x, self.weight, self.bias)
        out: Tensor = _FusedLinear.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return out


class _FusedLinear(torch.autograd.Function):
    """Linear whose backward hands the weight gradient to `layer.update` instead of returning it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: Dense) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x)
        ctx.layer = layer
        with exactly("cpu", layer.exact):
            return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor, None]:  # noqa: ANN401
        (x,) = ctx.saved_tensors
        layer: Dense = ctx.layer
        assert layer.scratch is not None and layer.update is not None
        with exactly("cpu", layer.exact):
            before = gradient @ layer.weight if ctx.needs_input_grad[0] else None
            torch.mm(gradient.t(), x, out=layer.scratch)
        layer.update(layer.scratch)
        return before, None, gradient.sum(0), None


class Bottleneck(nn.Module):
    """Inverted bottleneck, (B, thin) → (B, thin): https://arxiv.org/abs/2306.13575."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.widen = Dense(shape.thin, shape.wide)
        self.narrow = Dense(shape.wide, shape.thin)

    def forward(self, x: Tensor) -> Tensor:
        """(B, thin) → (B, thin)."""
        out: Tensor = self.narrow(F.gelu(self.widen(x)))
        return out


class Network(nn.Module):
    """The probe network, (B, width) → (B, labels) logits. Layers are made in the official order: it fixes their weights."""

    def __init__(self, width: int, labels: int, shape: Shape) -> None:
        super().__init__()
        self.enter = Dense(width, shape.thin)
        self.enter.exact = True
        self.enter_norm = nn.LayerNorm(shape.thin)
        self.norms = nn.ModuleList(nn.LayerNorm(shape.thin) for _ in range(BLOCKS))
        self.bottlenecks = nn.ModuleList(Bottleneck(shape) for _ in range(BLOCKS))
        self.leave_norm = nn.LayerNorm(shape.thin)
        self.leave = Dense(shape.thin, labels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width) → (B, labels)."""
        x = self.enter_norm(self.enter(x))
        for norm, bottleneck in zip(self.norms, self.bottlenecks, strict=True):
            x = x + bottleneck(norm(x))
        out: Tensor = self.leave(self.leave_norm(x))
        return out


def build(width: int, labels: int, shape: Shape, seed: int) -> Network:
    """A network with the weights that `seed` gives on the CPU; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(width, labels, shape)


def fuse_updates(network: Network) -> torch.optim.Optimizer:
    """Let every matrix of a CPU network update itself in the backward pass; returns the optimizer of all the rest."""
    buffers: dict[torch.Size, Tensor] = {}
    matrices: set[int] = set()
    for layer in network.modules():
        if not isinstance(layer, Dense):
            continue
        size = layer.weight.shape
        layer.scratch = buffers.setdefault(size, torch.empty(size))
        layer.update = _updater(layer.weight)
        matrices.add(id(layer.weight))
    rest = [parameter for parameter in network.parameters() if id(parameter) not in matrices]
    return torch.optim.AdamW(rest, lr=LEARNING_RATE, fused=True)


def _updater(weight: Tensor) -> Callable[[Tensor], None]:
    optimizer = torch.optim.AdamW([weight], lr=LEARNING_RATE, fused=True)

    def update(gradient: Tensor) -> None:
        weight.grad = gradient
        optimizer.step()
        weight.grad = None  # the buffer belongs to the next layer now

    return update


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Precision of float32 matrix products on the CPU inside the block: «fp32», or «bf16» with sums and results in float32.

    On processors without bfloat16 units, bf16 stays float32.
    """
    backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = backend.fp32_precision
    backend.fp32_precision = {"fp32": "ieee", "bf16": "bf16"}[precision]
    try:
        yield
    finally:
        backend.fp32_precision = before


@contextmanager
def exactly(device: str, exact: bool) -> Iterator[None]:
    """Switches bfloat16 off inside the block if `exact`, on the CPU as on a GPU."""
    if not exact:
        yield
    elif device == "cpu":
        with products("fp32"):
            yield
    else:
        with torch.autocast(device, enabled=False):
            yield
