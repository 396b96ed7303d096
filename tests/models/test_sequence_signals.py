"""Planted signals: what an encoder claims to exploit, it exploits, and its ablated twin cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted.sequences import HOUR, carts

from kit.models.events import EventSettings
from kit.models.objectives import SequenceModel, make_objectives
from kit.models.objectives.timing import TimingSettings
from kit.models.objectives.upcoming import UpcomingSettings
from kit.models.sequence import ENCODERS, ClientEncoder, EncoderSettings
from kit.models.training import TrainSettings, train
from kit.tokens import Tokens, length_buckets

WIDTH = 16


def small_encoder(kind: str, length: int) -> EncoderSettings:
    """One layer without dropout, as far as the kind has such settings."""
    schema = ENCODERS.loaded()[kind].Settings
    wanted = {"heads": 2, "layers": 1, "dropout": 0.0}
    own = {name: value for name, value in wanted.items() if name in schema.model_fields}
    return schema.model_validate({"length": length, **own})


def trained(tokens: Tokens, rows: np.ndarray, kind: str, seed: int, epochs: int, **events) -> SequenceModel:
    torch.manual_seed(seed)
    settings = small_encoder(kind, int(tokens.offsets[1]))
    client = ClientEncoder(tokens.vocabulary, EventSettings(width=WIDTH, **events), settings)
    objectives = {"next_item": UpcomingSettings(target="next", negatives="full", positions=4096)}
    model = SequenceModel(client, make_objectives(objectives, WIDTH, tokens.vocabulary))
    model.bind(tokens)

    def batches(epoch: int):
        sizes = np.zeros(len(tokens.clients), dtype=np.int64)
        sizes[rows] = tokens.offsets[1]
        groups = length_buckets(sizes, 640, np.random.default_rng([seed, epoch]))
        return [
            lambda g=g, i=i: model.batch(tokens, g, np.random.default_rng([seed, epoch, i]))
            for i, g in enumerate(groups)
        ]

    train(model, batches, TrainSettings(epochs=epochs, lr=0.01), seed=seed, name="signal")
    return model


def scores(model: SequenceModel, tokens: Tokens, rows: np.ndarray, step: int, live: int | None = None) -> np.ndarray:
    """(rows, p) logits of the product after token `step`."""
    with torch.inference_mode():
        states = model.client(model.client.batch(tokens, rows))[:, step]
        head, items = model.objectives[0].head, model.client.embedding.items
        user = torch.nn.functional.normalize(head(states), dim=-1)
        return (user @ torch.nn.functional.normalize(items.vectors(None, live), dim=-1).T).numpy()


@pytest.mark.technique("E2")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_products_without_history_are_found_by_their_codes(seed: int):
    """A client keeps to one style, which only the codes show; 60 of 360 products never occur before the last event."""
    rng = np.random.default_rng(seed)
    styles, p, new, n, steps = 12, 360, 60, 600, 9
    style, category = np.arange(p) % styles, rng.integers(0, 8, p)
    codes = rng.integers(0, 256, (p, 16))
    told = rng.random((p, 16)) < 0.6
    codes = np.where(told, rng.integers(0, 256, (styles, 16))[style], codes)
    old, fresh = np.arange(p - new), np.arange(p - new, p)
    taste = rng.integers(0, styles, n)
    popularity = rng.random(p) ** 2

    def draw(pool: np.ndarray) -> np.ndarray:
        weight = (style[pool] == taste[:, None]) * popularity[pool] + 1e-9
        return pool[(np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True) > rng.random((n, 1))).argmax(axis=1)]

    seen = np.stack([*(draw(old) for _ in range(steps - 1)), draw(fresh)], axis=1) + 1
    past = carts(seen[:, : steps - 1], category, codes, unknown=fresh + 1)
    model = trained(past, np.arange(n), "transformer", seed, epochs=6)
    ranked = scores(model, past, np.arange(n), steps - 2)[:, fresh]
    counts = np.bincount(category[seen[:, : steps - 1].ravel() - 1], minlength=8)
    by_popularity = np.broadcast_to(counts[category[fresh]] + rng.random(new), ranked.shape)

    def recall(score: np.ndarray, k: int = 5) -> float:
        top = fresh[np.argsort(-score, axis=1)[:, :k]]
        return float((top == seen[:, -1:] - 1).any(axis=1).mean())

    assert recall(ranked) > 0.3
    assert recall(ranked) >= 2 * recall(by_popularity)


@pytest.mark.parametrize("kind", ["transformer", "gru", "hstu"])
def test_restock_rhythm_is_read_from_the_gaps(kind: str):
    """Every client restocks one product at a pace of its own, 2 hours or 5 days; the twin is not told the gaps."""
    rng = np.random.default_rng(0)
    n, steps = 300, 8
    tokens = carts(np.ones((n, steps), dtype=np.int64), np.zeros(1, dtype=np.int64), rng.integers(0, 256, (1, 16)))
    pace = np.where(rng.random(n) < 0.5, 2 * HOUR, 120 * HOUR)
    waits = pace[:, None] * rng.uniform(0.8, 1.2, (n, steps))
    time = waits.cumsum(axis=1).astype(np.int64)
    tokens = replace(tokens, time=time.ravel(), cut=int(time.max()) + 1)
    losses = {}
    for told in (True, False):
        torch.manual_seed(0)
        settings = small_encoder(kind, steps)
        client = ClientEncoder(tokens.vocabulary, EventSettings(width=WIDTH), settings)
        objectives = make_objectives({"timing": TimingSettings(of=("event",))}, WIDTH, tokens.vocabulary)
        model = SequenceModel(client, objectives)
        model.bind(tokens)

        def batch(rows: np.ndarray, model=model, told=told):
            made = model.batch(tokens, rows, np.random.default_rng(0))
            if not told:  # every clock stands still: gaps, hours of the day, and the times that attention may use
                for name in ("gap", "hour", "time"):
                    made["events"][name] = torch.zeros_like(made["events"][name])
            return made

        loops = TrainSettings(epochs=25, lr=0.02)
        train(model, lambda epoch, batch=batch: [lambda: batch(np.arange(200))], loops, seed=0, name="rhythm")
        with torch.inference_mode():
            losses[told] = float(sum(model(batch(np.arange(200, n))).values()))
    assert losses[True] < 0.75 * losses[False], losses
