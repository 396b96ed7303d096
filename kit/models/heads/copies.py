"""What a client touched so far, as a part of its choices: a Dirichlet prior that events update. Registers nothing."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from kit.models.batch import Touched

ACTIONS: Final = ("buy", "cart")
"""What is chosen in the future window: bought, or put into the cart (denser)."""
ASPECTS: Final = ("product", "category", "price")
PRIOR_COUNTS: Final = 20.0
"""Start of κ: how many events the prior is worth."""
COPY_DAYS: Final = (15.0, 120.0)
"""Start of the e-folding ages of an event's weight."""
KINDS: Final = 8
TINY: Final = 1e-9


class Copies(nn.Module):
    """What the client touched so far as a part of the choice: a Dirichlet prior that events update.

    p(i) = (κ · prior(i) + Σ w_t over events t that touched i) / (κ + Σ w_t), the mean of a Dirichlet distribution whose prior
    counts κ depend on z; an event's weight depends on its kind and, as a sum of exponentials, on its age. Adding the weights
    to logits instead would let the fifth purchase count as much as the first.
    """

    scalars = ("kind", "rate")

    def __init__(self, width: int) -> None:
        super().__init__()
        columns, days = len(ACTIONS) * len(ASPECTS), torch.tensor(COPY_DAYS)
        self.prior = nn.Linear(width, columns)
        nn.init.zeros_(self.prior.weight)
        nn.init.constant_(self.prior.bias, math.log(PRIOR_COUNTS))
        self.kind = nn.Parameter(torch.full((len(days), KINDS, columns), -math.log(len(days))))
        self.rate = nn.Parameter((-days.log())[:, None].repeat(1, columns))

    def forward(self, prior: Tensor, action: str, aspect: str, z: Tensor, touched: Touched, index: Tensor) -> Tensor:
        """Log-probabilities (B, n) from the prior's (B, n); `index` (B, T) says which of the n each event touched, 0 = none."""
        column = ACTIONS.index(action) * len(ASPECTS) + ASPECTS.index(aspect)
        days = touched.days  # (B, T)
        strength = self.kind[:, :, column].exp()[:, touched.kind.long()]  # (scales, B, T)
        fade = (-days * self.rate[:, column].exp()[:, None, None]).exp()
        weight = (strength * fade).sum(0) * (index > 0)
        counts = torch.zeros(len(z), prior.shape[1] + 1, device=z.device).scatter_add(1, index, weight)[:, 1:]
        kappa = self.prior(z)[:, column, None].float().clamp(-4, 8)
        total = torch.logaddexp(kappa, (weight.sum(1, keepdim=True) + TINY).log())
        return torch.logaddexp(kappa + prior, (counts + TINY).log()) - total
