"""Worlds of event sequences: order, two interests, bursts, rule breakers, products known by their codes alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from planted.bench import world
from torch import nn

from kit.models.events import EventSettings, to_tensors
from kit.models.sequence.client import ClientEncoder
from kit.tokens import Catalogue, Tokens, Vocabulary, Words, sequence_batch

HOUR = 3600 * 1_000_000
DAY = 24 * HOUR
WIDTH = 16
TEST = 200
"""Clients that the score is of."""
PLAIN = EventSettings(width=WIDTH, id_dropout=0.0)


def carts(products: np.ndarray, category: np.ndarray, codes: np.ndarray, unknown: np.ndarray | None = None) -> Tokens:
    """Clients (rows) that cart these products (1 …), one an hour; `unknown` ones have no word."""
    n, steps = products.shape
    p = len(category)
    known = np.setdiff1d(np.arange(1, p + 1), [] if unknown is None else unknown)
    words = Words(known.astype(np.int64), np.zeros(len(known), dtype=np.int64))
    catalogue = Catalogue(
        sku=np.append(-1, np.arange(1, p + 1)),
        category=np.append(0, category + 1).astype(np.int32),
        price=np.append(0, np.full(p, 5)).astype(np.uint8),
        codes=np.vstack([np.zeros(16), codes]).astype(np.uint8),
        word=np.append(0, words.index(np.arange(1, p + 1))).astype(np.int32),
        categories=np.unique(category),
    )
    flat = products.ravel().astype(np.int32)
    return Tokens(
        clients=np.arange(n),
        offsets=np.arange(n + 1) * steps,
        time=np.tile(np.arange(1, steps + 1) * HOUR, n),
        kind=np.full(n * steps, 2, dtype=np.uint8),
        sku=catalogue.word[flat],
        product=flat,
        url=np.zeros(n * steps, dtype=np.int32),
        query=np.zeros(n * steps, dtype=np.int32),
        queries=np.zeros((1, 16), dtype=np.uint8),
        vocabulary=Vocabulary(words, Words(np.empty(0, np.int64), np.empty(0, np.int64)), catalogue),
        cut=(steps + 1) * HOUR,
    )


@dataclass(frozen=True)
class Told:
    """Histories and what is to be told of each client: `answer` (n,), one of `answers`."""

    tokens: Tokens
    answer: np.ndarray
    answers: int
    clocks: bool = True
    events: EventSettings = PLAIN


def accuracy(settings, told: Told, seed: int, epochs: int = 12, rate: float = 0.01) -> float:
    """Of a linear read-out of the last state, learned with the encoder; the last TEST clients are kept out of training."""
    torch.manual_seed(seed)
    tokens, n = told.tokens, len(told.tokens.clients)
    small = {"heads": 2, "layers": 1, "dropout": 0.0}
    length = int(np.diff(tokens.offsets).max())
    given = {
        key: value
        for key, value in small.items()
        if key in type(settings).model_fields and key not in settings.model_fields_set
    }
    client = ClientEncoder(tokens.vocabulary, told.events, settings.model_copy(update={"length": length, **given}))
    head = nn.Linear(WIDTH, told.answers)
    groups = [np.arange(at, min(at + 100, n - TEST)) for at in range(0, n - TEST, 100)]
    batches = [_batch(told, rows) for rows in groups]
    answer = torch.from_numpy(told.answer)
    optimizer = torch.optim.Adam([*client.parameters(), *head.parameters()], lr=rate)
    client.train()
    for _ in range(epochs):
        for rows, batch in zip(groups, batches, strict=True):
            loss = nn.functional.cross_entropy(head(client.pooled(batch, ("last",))), answer[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    client.eval()
    rows = np.arange(n - TEST, n)
    with torch.no_grad():
        best = head(client.pooled(_batch(told, rows), ("last",))).argmax(dim=1)
    return float((best == answer[rows]).float().mean())


def _batch(told: Told, rows: np.ndarray) -> dict[str, torch.Tensor]:
    batch = to_tensors(sequence_batch(told.tokens, rows, None, int(np.diff(told.tokens.offsets).max())))
    if not told.clocks:  # gaps and hours are not among the tokens' fields: time is in `time` alone
        for name in ("gap", "hour", "age"):
            batch[name] = torch.zeros_like(batch[name])
    return batch


def one_by_one(seen: np.ndarray, p: int, rng: np.random.Generator) -> Tokens:
    """Tokens of products 0 … p − 1, each a category of its own."""
    return carts(seen + 1, np.arange(p), rng.integers(0, 256, (p, 16)))


@cache
def ordered(seed: int) -> Told:
    rng = np.random.default_rng(seed)
    kinds, n, steps = 10, 600, 12
    follows = rng.permutation(kinds)
    seen = rng.integers(0, kinds, (n, steps))
    return Told(one_by_one(seen, kinds, rng), follows[seen[:, -1]], kinds)


@world("order", "sequence encoder")
def order(part, settings, seed: int) -> float:
    """What comes next is a permutation of what was last; the rest of the history is noise."""
    return accuracy(settings, ordered(seed), seed)


@cache
def two_interests(seed: int) -> Told:
    rng = np.random.default_rng(seed)
    kinds, n, steps = 8, 600, 32
    early, late = rng.integers(0, kinds, (2, n))
    seen = np.where(np.arange(steps) < steps - 12, early[:, None], late[:, None])
    seen = np.where(rng.random((n, steps)) < 0.4, rng.integers(0, kinds, (n, steps)), seen)
    return Told(one_by_one(seen, kinds, rng), early, kinds)


@world("interests", "sequence encoder")
def interests(part, settings, seed: int) -> float:
    """An interest of long ago, and then one of late, in a long history: the one of long ago is asked for."""
    return accuracy(settings, two_interests(seed), seed, epochs=8)


@cache
def bursty(seed: int) -> Told:
    """Views a minute apart, and one silence of forty days; the answer is the product with most views since."""
    rng = np.random.default_rng(seed)
    kinds, n, steps = 3, 900, 10
    seen = rng.integers(0, kinds, (n, steps))
    start = rng.integers(1, steps, n)
    gaps = np.where(np.arange(steps) == start[:, None], 40 * 24 * 60, 1) * 60_000_000
    session = np.arange(steps) >= start[:, None]
    weight = session * (1 + 0.1 * np.arange(steps) / steps)  # of equally many, those seen later
    each = np.stack([(weight * (seen == kind)).sum(axis=1) for kind in range(kinds)], axis=1)
    tokens = one_by_one(seen, kinds, rng)
    time = gaps.cumsum(axis=1)
    return Told(replace(tokens, time=time.ravel(), cut=int(time.max()) + 1), each.argmax(axis=1), kinds, clocks=False)


@world("bursts", "sequence encoder")
def bursts(part, settings, seed: int) -> float:
    """Which product has most views in the running session; clocks alone tell where it began, and tokens have no gaps."""
    return accuracy(settings, bursty(seed), seed)


@cache
def broken(seed: int) -> Told:
    """Nine of ten events were taken back (kind 3); the answer is the one product that was not."""
    rng = np.random.default_rng(seed)
    kinds, n, steps = 10, 400, 16
    seen = rng.integers(0, kinds, (n, steps))
    kept = rng.integers(0, steps - 1, n)
    tokens = one_by_one(seen, kinds, rng)
    kind = np.full((n, steps), 3, dtype=np.uint8)
    kind[np.arange(n), kept] = 2
    return Told(replace(tokens, kind=kind.ravel()), seen[np.arange(n), kept], kinds)


@world("rules", "sequence encoder")
def rules(part, settings, seed: int) -> float:
    """Products that a rule takes out (removed from the cart again) crowd the history; what was not removed is asked for."""
    return accuracy(settings, broken(seed), seed, epochs=8)


@cache
def coded(seed: int) -> Told:
    """A product's style is in its codes alone; those that the test clients touched last were never seen in training."""
    rng = np.random.default_rng(seed)
    styles, p, n, steps = 8, 320, 800, 4
    style = np.arange(p) % styles
    own = rng.integers(0, 256, (styles, 16))[style]
    codes = np.where(rng.random((p, 16)) < 0.5, own, rng.integers(0, 256, (p, 16)))
    seen = rng.integers(0, p // 2, (n, steps))
    seen[-TEST:, -1] = rng.integers(p // 2, p, TEST)
    tokens = carts(seen + 1, np.zeros(p, dtype=np.int64), codes, unknown=np.arange(p // 2, p) + 1)
    return Told(tokens, style[seen[:, -1]], styles, events=EventSettings(width=WIDTH, id_dropout=0.2))


@world("codes", "sequence encoder")
def codes(part, settings, seed: int) -> float:
    """The style of the last product, for products without history; event vectors do not have codes, so the encoder has to."""
    told = coded(seed)
    return accuracy(settings, replace(told, events=told.events.model_copy(update={"codes": False})), seed, epochs=10)


@world("codes", "item encoder")
def cold_items(part, settings, seed: int) -> float:
    """Learned on products with a history: which style is it? Asked of products without one."""
    from kit.models.items import make_items

    torch.manual_seed(seed)
    told = coded(seed)
    tokens = told.tokens
    p, half = len(tokens.vocabulary.catalogue), 160
    style = torch.arange(p) % told.answers
    items = make_items(tokens.vocabulary, told.events, settings)
    head = nn.Linear(WIDTH, told.answers)
    optimizer = torch.optim.Adam([*items.parameters(), *head.parameters()], lr=0.01)
    items.train()
    known = torch.arange(1, half + 1)
    for _ in range(60):
        loss = nn.functional.cross_entropy(head(items.vectors(known)), style[:half])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    items.eval()
    with torch.no_grad():
        best = head(items.vectors(torch.arange(half + 1, p + 1))).argmax(dim=1)
    return float((best == style[half:]).float().mean())
