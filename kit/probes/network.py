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

from kit.limits.processor import processor_bf16

LEARNING_RATE: Final = 1e-3
WEIGHT_DECAY: Final = 1e-2
"""AdamW's default, which the organisers leave alone."""


@dataclass(frozen=True)
class Shape:
    """Widths, depth and pace of a probe network, and when it is scored; the defaults are the official one's.

    Attributes:
        thin: width of the residual stream.
        wide: hidden width of a bottleneck.
        blocks: number of bottlenecks.
        paced: multiply the learning rate of every matrix behind the input layer by official ÷ own fan-in. An Adam step moves
            each weight by the learning rate, so a layer's output by an amount that grows with its fan-in: at equal rates a
            narrow network learns more slowly than the official one in as many steps (Yang et al. 2022,
            https://arxiv.org/abs/2203.03466, table 8). The input layer has the vectors' width in any network.
        scored_from: score after this epoch, from 1, and all later ones; the best of these counts.
    """

    thin: int = 2048
    wide: int = 4096
    blocks: int = 3
    paced: bool = False
    scored_from: int = 1

    @property
    def parameters(self) -> int:
        """Weights of the matrices between the input layer and the output layer."""
        return 2 * self.blocks * self.thin * self.wide

    def pace(self, layer: str) -> float:
        """Multiplier of the learning rate of the matrices that read the thin or the wide side."""
        return getattr(OFFICIAL, layer) / getattr(self, layer) if self.paced else 1.0


OFFICIAL: Final = Shape()


class Dense(nn.Linear):
    """A linear layer, (B, in) → (B, out), initialised by nn.Linear. `update` is set by `fuse_updates`.

    Attributes:
        exact: keep this layer's products in float32 even where others run in bfloat16: the input layer sees unscaled
            numbers whose size bfloat16's 8 bits cannot hold.
        rounds: outputs may be rounded to bfloat16 as well. Not those of the last layer: rounded logits tie.
        pace: multiplier of the learning rate.
        update: consumes the weight gradient, (out, in), during the backward pass.
        short: the weight in bfloat16, rewritten by `update`; None where products are float32 or must not round. A product
            that converts a float32 weight by itself takes twice as long, and forward and backward would each do it.
    """

    exact: bool = False
    rounds: bool = False
    pace: float = 1.0
    update: Callable[[Tensor], None] | None = None
    scratch: Tensor | None = None
    short: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) → (B, out)."""
        if self.update is None or not torch.is_grad_enabled():
            return self.product(x)
        out: Tensor = _FusedLinear.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return out

    def product(self, x: Tensor) -> Tensor:
        """(B, in) → (B, out), without what a backward pass would need."""
        if self.short is not None:
            return F.linear(x.bfloat16(), self.short).float().add_(self.bias)
        with exactly(x.device.type, self.exact):
            return F.linear(x, self.weight, self.bias)

    def back(self, gradient: Tensor) -> Tensor:
        """Gradient of the output, (B, out) → of the input, (B, in)."""
        if self.short is not None:
            return (gradient.bfloat16() @ self.short).float()
        return gradient @ self.weight


class _FusedLinear(torch.autograd.Function):
    """Linear whose backward hands the weight gradient to `layer.update` instead of returning it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: Dense) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x)
        ctx.layer = layer
        return layer.product(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor, None]:  # noqa: ANN401
        (x,) = ctx.saved_tensors
        layer: Dense = ctx.layer
        assert layer.scratch is not None and layer.update is not None
        with exactly("cpu", layer.exact):
            before = layer.back(gradient) if ctx.needs_input_grad[0] else None
            torch.mm(gradient.t(), x, out=layer.scratch)
        layer.update(layer.scratch)
        return before, None, gradient.sum(0), None


class Bottleneck(nn.Module):
    """Inverted bottleneck, (B, thin) → (B, thin): https://arxiv.org/abs/2306.13575."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.widen = Dense(shape.thin, shape.wide)
        self.narrow = Dense(shape.wide, shape.thin)
        self.widen.rounds = self.narrow.rounds = True
        self.widen.pace, self.narrow.pace = shape.pace("thin"), shape.pace("wide")

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
        self.norms = nn.ModuleList(nn.LayerNorm(shape.thin) for _ in range(shape.blocks))
        self.bottlenecks = nn.ModuleList(Bottleneck(shape) for _ in range(shape.blocks))
        self.leave_norm = nn.LayerNorm(shape.thin)
        self.leave = Dense(shape.thin, labels)
        self.leave.pace = shape.pace("thin")

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


def fuse_updates(network: Network, precision: str = "fp32") -> torch.optim.Optimizer:
    """Let every matrix of a CPU network update itself in the backward pass; returns the optimizer of all the rest.

    Args:
        network: on the CPU.
        precision: `bf16` keeps a bfloat16 copy of the bottlenecks' weights, where the processor has such units.
    """
    copies = precision == "bf16" and processor_bf16() == "fast"
    buffers: dict[torch.Size, Tensor] = {}
    matrices: set[int] = set()
    for layer in network.modules():
        if not isinstance(layer, Dense):
            continue
        size = layer.weight.shape
        layer.scratch = buffers.setdefault(size, torch.empty(size))
        layer.short = layer.weight.detach().bfloat16() if copies and layer.rounds else None
        layer.update = _updater(layer)
        matrices.add(id(layer.weight))
    rest = [parameter for parameter in network.parameters() if id(parameter) not in matrices]
    return torch.optim.AdamW(rest, lr=LEARNING_RATE, fused=True)


def let_go(network: Network) -> None:
    """Undo `fuse_updates`. A layer and its update refer to each other: without this a network that is no longer needed would
    keep its weights and moments (.9 GB each for the official one) until Python next looks for such circles."""
    for layer in network.modules():
        if isinstance(layer, Dense):
            layer.update = layer.scratch = layer.short = None


def parameter_groups(network: Network) -> list[dict[str, Any]]:
    """All parameters for one optimizer, grouped by pace; the official network is one group."""
    by_pace: dict[float, list[Tensor]] = {}
    matrices = {id(layer.weight): layer.pace for layer in network.modules() if isinstance(layer, Dense)}
    for parameter in network.parameters():
        by_pace.setdefault(matrices.get(id(parameter), 1.0), []).append(parameter)
    return [{"params": group, **_rates(pace)} for pace, group in by_pace.items()]


def _rates(pace: float) -> dict[str, float]:
    """AdamW shrinks weights by rate × decay a step: with a faster pace the decay stays what it is in the official network."""
    return {"lr": LEARNING_RATE * pace, "weight_decay": WEIGHT_DECAY / pace}


def _updater(layer: Dense) -> Callable[[Tensor], None]:
    weight = layer.weight
    optimizer = torch.optim.AdamW([{"params": [weight], **_rates(layer.pace)}], fused=True)

    def update(gradient: Tensor) -> None:
        weight.grad = gradient
        optimizer.step()
        weight.grad = None  # the buffer belongs to the next layer now
        if layer.short is not None:
            layer.short.copy_(weight.detach())

    return update


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Precision of float32 matrix products on the CPU inside the block: `fp32`, or `bf16` with sums and results in float32.

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
