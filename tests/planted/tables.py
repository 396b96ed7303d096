"""Worlds of columns and of losses: XOR of two columns, bands, a task that dominates, an exposure that is not taste."""

from __future__ import annotations

import numpy as np
import torch
from planted.bench import world
from sklearn.metrics import roc_auc_score
from torch import nn

from kit.models.balances import make_balance
from kit.models.losses.base import PairScores, make_loss

TRAINED = 1_500


def told_apart(body: nn.Module, width: int, x: np.ndarray, y: np.ndarray, seed: int, epochs: int = 10) -> float:
    """AUROC of a linear read-out of `body`, learned together, on rows that training did not see."""
    rng = np.random.default_rng(seed)
    head = nn.Linear(width, 1)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.01)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    body.train()
    for _ in range(epochs):
        for rows in rng.permutation(TRAINED).reshape(-1, 100):
            scores = head(body(inputs[rows]))[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(scores, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    body.eval()
    with torch.no_grad():
        return float(roc_auc_score(y[TRAINED:], head(body(inputs[TRAINED:]))[:, 0].numpy()))


@world("xor", "trunk")
def xor(part, settings, seed: int) -> float:
    """The sign of the product of two columns among sixteen."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2_500, 16)).astype(np.float32)
    torch.manual_seed(seed)
    return told_apart(part(16, 16, settings), 16, x, (x[:, 0] * x[:, 1] > 0).astype(np.float32), seed)


@world("bands", "numeric encoding")
def bands(part, settings, seed: int) -> float:
    """Whether one column lies in one of several bands: no linear function of the column tells."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (2_500, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    y = (np.floor(3 * (np.nan_to_num(x[:, 0]) + 1)) % 2).astype(np.float32)
    torch.manual_seed(seed)
    body = part(4, settings)
    return told_apart(body, body.width, x, y, seed)


@world("dominance", "balance")
def dominance(part, settings, seed: int) -> float:
    """Two tasks share a narrow vector, and one of them has a thousandfold loss: AUROC of the other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2_500, 8)).astype(np.float32)
    loud = (2 * rng.normal(size=2_500) + x[:, 0] + x[:, 1] + x[:, 2] + x[:, 3]).astype(np.float32)
    quiet = (x[:, 4] + x[:, 5] + 0.5 * rng.normal(size=2_500) > 0).astype(np.float32)
    torch.manual_seed(seed)
    trunk, heads = nn.Linear(8, 2), nn.ModuleDict({"loud": nn.Linear(2, 1), "quiet": nn.Linear(2, 1)})
    balance = make_balance({"loud": 1.0, "quiet": 1.0}, settings)
    moved = [*trunk.parameters(), *heads.parameters(), *balance.parameters()]
    optimizer = torch.optim.Adam(moved, lr=0.003)
    inputs, far, near = torch.from_numpy(x), torch.from_numpy(loud), torch.from_numpy(quiet)
    balance.train()
    for _ in range(8):
        for rows in rng.permutation(TRAINED).reshape(-1, 50):
            z = trunk(inputs[rows])
            said = {name: head(balance.fork(z, name))[:, 0] for name, head in heads.items()}
            losses = {
                "loud": 1000 * (said["loud"] - far[rows]).square().mean(),
                "quiet": nn.functional.binary_cross_entropy_with_logits(said["quiet"], near[rows]),
            }
            optimizer.zero_grad()
            sum(balance(losses).values()).backward()
            optimizer.step()
    with torch.no_grad():
        return float(roc_auc_score(quiet[TRAINED:], heads["quiet"](trunk(inputs[TRAINED:]))[:, 0].numpy()))


@world("exposure", "pair loss")
def exposure(part, settings, seed: int) -> float:
    """Negatives are drawn by how often products were shown, not by taste: correlation with the log of taste."""
    rng = np.random.default_rng(seed)
    p = 40
    taste, shown = (rng.permutation(np.geomspace(1, 60, p)) for _ in range(2))
    taste, shown = taste / taste.sum(), shown / shown.sum()
    torch.manual_seed(seed)
    scores = nn.Parameter(torch.zeros(p))
    optimizer = torch.optim.Adam([scores], lr=0.05)
    loss, log_q = make_loss(settings), torch.from_numpy(np.log(shown)).float()
    for _ in range(300):
        own, drawn = (torch.from_numpy(rng.choice(p, size, p=chance)) for size, chance in ((64, taste), (16, shown)))
        pairs = PairScores(
            scores[own],
            scores[drawn].expand(64, 16),
            own[:, None] == drawn,
            log_q_positive=log_q[own],
            log_q_negative=log_q[drawn],
        )
        optimizer.zero_grad()
        loss(pairs).backward()
        optimizer.step()
    found = np.corrcoef(scores.detach().numpy(), np.log(taste))[0, 1]
    return float(max(found, 0.0))
