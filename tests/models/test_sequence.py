"""Sequence encoders: causal to the bit, blind to padding, deterministic; event vectors and the product tower."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kit.errors import KitError
from kit.history import History
from kit.models.events import EventEmbedding, EventSettings, to_tensors
from kit.models.sequence import ENCODERS, ClientEncoder, make_encoder, pool
from kit.tokens import Tokens, TokenSettings, sequence_batch, tokenise

WIDTH, LENGTH = 16, 24
KINDS = list(ENCODERS.loaded())
DAY = 86_400 * 1_000_000


@pytest.fixture(scope="module")
def tokens(toy_history: History) -> Tokens:
    return tokenise(toy_history, TokenSettings(min_sku=2, min_url=3))


def settings_of(kind: str, **changes):
    """Those of a kind; `heads` where it has some."""
    schema = ENCODERS.loaded()[kind].Settings
    heads = {"heads": 2} if "heads" in schema.model_fields else {}
    return schema.model_validate({"length": LENGTH, **heads, **changes})


def encoder(kind: str, **changes):
    torch.manual_seed(0)
    return make_encoder(WIDTH, settings_of(kind, **changes)).eval()


def client_encoder(tokens: Tokens, kind: str = "transformer", **changes) -> ClientEncoder:
    torch.manual_seed(0)
    settings = settings_of(kind, **changes)
    return ClientEncoder(tokens.vocabulary, EventSettings(width=WIDTH, age=True), settings).eval()


def inputs(rows: int, steps: int):
    torch.manual_seed(1)
    x = torch.randn(rows, steps, WIDTH)
    time = torch.randint(0, 10**12, (rows, steps)).sort(dim=1).values
    told = {"kind": torch.full((rows, steps), 2), "product": torch.ones(rows, steps, dtype=torch.int64)}
    return x, {"mask": torch.ones(rows, steps, dtype=torch.bool), "time": time, **told}


@pytest.mark.technique("B1", "B3", "B4", "B5", "B6", "B7", "B9", "B10", "B12", "B8", "K1")
@pytest.mark.parametrize("kind", KINDS)
def test_the_future_changes_no_bit_of_the_past(kind: str):
    model = encoder(kind)
    x, batch = inputs(3, LENGTH)
    with torch.no_grad():
        before = model(x, batch)
        for step in (1, 7, LENGTH - 1):
            other, later = x.clone(), batch["time"].clone()
            other[:, step:] = 9 * torch.randn(3, LENGTH - step, WIDTH)
            later[:, step:] += 10**11
            after = model(other, {**batch, "time": later})
            assert torch.equal(after[:, :step], before[:, :step])
            assert not torch.allclose(after[:, step], before[:, step])


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_of_the_past_matters(kind: str):
    model = encoder(kind)
    x, batch = inputs(1, 6)
    x.requires_grad_()
    model(x, batch)[0, -1].square().sum().backward()
    assert (x.grad[0].abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_alone_or_in_longer_company(tokens: Tokens, kind: str):
    model = client_encoder(tokens, kind)
    rows = np.argsort(np.minimum(tokens.lengths(), LENGTH), kind="stable")
    with torch.no_grad():
        together = model.pooled(model.batch(tokens, rows))
        for place in (0, 10, len(rows) - 1):
            alone = model.pooled(model.batch(tokens, rows[[place]]))
            torch.testing.assert_close(alone[0], together[place], rtol=0, atol=1e-5)
        wider = to_tensors(sequence_batch(tokens, rows[:9], None, LENGTH, width=LENGTH + 40))
        torch.testing.assert_close(model.pooled(wider), together[:9], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_edge_sizes(tokens: Tokens, kind: str):
    model = client_encoder(tokens, kind)
    nobody = model.batch(tokens, np.empty(0, dtype=np.int64))
    assert model.pooled(nobody).shape == (0, 2 * WIDTH)
    one = model.batch(tokens, np.array([3]), int(tokens.time[tokens.offsets[3]]) + 1)
    assert one["mask"].shape == (1, 1)
    pooled = model.pooled(one)
    torch.testing.assert_close(pooled[:, :WIDTH], pooled[:, WIDTH:])
    silent = model.batch(tokens, np.array([3, 4]), int(tokens.time.min()))
    assert not model.pooled(silent).any()


@pytest.mark.parametrize("kind", KINDS)
def test_states_in_the_padding_are_zero_and_gradients_finite(tokens: Tokens, kind: str):
    model = client_encoder(tokens, kind).train()
    batch = model.batch(tokens, np.arange(12), tokens.cut - 40 * DAY)
    states = model(batch)
    assert not states[~batch["mask"]].any()
    pool(states, batch, ("last", "mean", "recent"), tokens.cut).square().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert not model.embedding.items.table.grad[0].any()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_bits(tokens: Tokens, kind: str):
    one, two = (client_encoder(tokens, kind).embed(tokens) for _ in range(2))
    assert one.tobytes() == two.tobytes()


def test_embed_is_the_pooled_state_and_missing_without_tokens(tokens: Tokens):
    model = client_encoder(tokens)
    cut = int(np.quantile([tokens.time[a] for a in tokens.offsets[:-1]], 0.5))  # half of the clients begin later
    values = model.embed(tokens, cut, ("last", "mean", "recent"), budget=300)
    silent = tokens.lengths(cut) == 0
    assert silent.any() and not silent.all()
    np.testing.assert_array_equal(np.isnan(values).all(axis=1), silent)
    row = int(np.flatnonzero(~silent)[4])
    with torch.no_grad():
        alone = model.pooled(model.batch(tokens, np.array([row]), cut), ("last", "mean", "recent"), cut)[0]
    np.testing.assert_allclose(values[row], alone, atol=1e-5)


def test_pools_by_hand():
    states = torch.arange(12.0).view(2, 3, 2)
    states[1, 1:] = 0
    batch = {
        "size": torch.tensor([3, 1]),
        "mask": torch.tensor([[True, True, True], [True, False, False]]),
        "time": torch.tensor([[0, 7 * DAY, 14 * DAY], [7 * DAY] * 3]),
    }
    got = pool(states, batch, ("last", "mean", "recent"), 14 * DAY)
    recent = (0.25 * states[0, 0] + 0.5 * states[0, 1] + states[0, 2]) / 2.75**0.5
    torch.testing.assert_close(got[0], torch.cat([states[0, 2], states[0].mean(0), recent]))
    torch.testing.assert_close(got[1], torch.cat([states[1, 0], states[1, 0], 0.5 * states[1, 0] / 1.5**0.5]))
    with pytest.raises(ValueError, match="needs the cut"):
        pool(states, batch, ("recent",))


@pytest.mark.technique("B3")
@pytest.mark.parametrize(("kind", "knows"), [("hstu", True), ("transformer", False)])
def test_pointwise_attention_keeps_how_often_and_softmax_does_not(kind: str, knows: bool):
    """Intensity: n equal tokens, all at one instant and without positions. The last state must depend on n, or cannot."""
    model = encoder(kind, layers=1, **({"positions": "learned"} if kind == "transformer" else {}))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "position" in name:
                value.zero_()
    if kind == "hstu":
        for layer in model.layers:
            layer.after = torch.nn.Identity()  # a norm of a single direction would hide the count
    torch.manual_seed(2)
    token = torch.randn(WIDTH)
    last = []
    for count in (1, 4, 12):
        x = token.expand(1, count, WIDTH)
        mask, time = torch.ones(1, count, dtype=torch.bool), torch.zeros(1, count, dtype=torch.int64)
        with torch.no_grad():
            last.append(model(x, {"mask": mask, "time": time})[0, -1])
    moved = min(float((a - b).norm()) for a, b in pairwise(last))
    assert (moved > 1e-3) == knows
    assert knows or moved < 1e-4


def test_unknown_and_impossible_settings():
    for kind in ("transformer", "hstu"):
        with pytest.raises(KitError, match="3 heads"):
            make_encoder(WIDTH, settings_of(kind, heads=3))
    with pytest.raises(ValidationError):
        settings_of("transformer", layer=2)


@pytest.mark.technique("B11")
def test_an_event_is_the_normalised_sum_of_its_fields(tokens: Tokens):
    """Slow definition of the event vector, one token at a time."""
    torch.manual_seed(0)
    embedding = EventEmbedding(tokens.vocabulary, EventSettings(width=WIDTH, age=True, query_codes="separate")).eval()
    fields, table = embedding.items.fields, embedding.items.table.detach()
    arrays = sequence_batch(tokens, np.arange(6), None, 9)
    batch = to_tensors(arrays)
    hidden = torch.zeros(6, 9, dtype=torch.bool)
    hidden[2] = True
    with torch.no_grad():
        got = embedding(batch, hidden)
    for b in range(6):
        for t in range(int(arrays["size"][b])):
            names = ["kind", "gap", "hour", "age"] + ["sku", "category", "price", "url"] * (b != 2)
            total = torch.zeros(WIDTH)
            for name in names:
                value = int(arrays[name][b, t])
                total += table[fields.first[name] + value - 1] if value else 0
            at = int(arrays["position"][b, t])
            for field, codes in (
                ("query", tokens.queries[tokens.query[at]] if tokens.query[at] else ()),
                ("name", tokens.vocabulary.catalogue.codes[tokens.product[at]] if tokens.product[at] else ()),
            ):
                for m, code in enumerate(codes):
                    total += table[fields.first[field] + 256 * m + int(code)] if b != 2 else 0
            torch.testing.assert_close(got[b, t], embedding.norm(total), rtol=1e-4, atol=1e-5)


@pytest.mark.technique("E2")
def test_the_product_tower_knows_ids_only_when_they_are_live(tokens: Tokens):
    torch.manual_seed(0)
    items = EventEmbedding(tokens.vocabulary, EventSettings(width=WIDTH)).items.eval()
    catalogue = tokens.vocabulary.catalogue
    half = len(tokens.vocabulary.skus) // 2
    every = torch.arange(len(catalogue) + 1)
    with torch.no_grad():
        known, partly = items(every), items(every, half)
        hidden = items(every, 0)
        items.table[items.fields.first["sku"] : items.fields.first["category"]] = 0.0
        torch.testing.assert_close(items(every), hidden)
        torch.testing.assert_close(items.vectors(None), hidden[1:])
    word = torch.from_numpy(catalogue.word)
    assert torch.equal(partly[word <= half], known[word <= half])
    assert torch.equal(partly[word > half], hidden[word > half])
    assert not torch.allclose(known[word > half], hidden[word > half])
    assert len(hidden[1:].unique(dim=0)) == len(catalogue)  # codes, category and price tell all products apart


def test_words_are_dropped_in_training_only(tokens: Tokens):
    torch.manual_seed(0)
    items = EventEmbedding(tokens.vocabulary, EventSettings(width=WIDTH, id_dropout=0.5)).items
    words = torch.arange(1, 1 + len(tokens.vocabulary.skus), dtype=torch.int32)
    dropped = (items.train().words(words) == 0).float().mean()
    assert 0.3 < dropped < 0.7
    assert (items.eval().words(words) > 0).all()
    without = EventEmbedding(tokens.vocabulary, EventSettings(width=WIDTH, ids=False)).items.eval()
    assert not without.words(words).any()


def test_without_codes_products_and_searches_are_told_apart_by_words_alone(tokens: Tokens):
    torch.manual_seed(0)
    with_codes, without = (
        EventEmbedding(tokens.vocabulary, EventSettings(width=WIDTH, codes=c)).eval() for c in (True, False)
    )
    without.load_state_dict(with_codes.state_dict())
    assert len(with_codes.items.vectors(None, 0).detach().unique(dim=0)) == len(tokens.vocabulary.catalogue)
    fields = {
        (c, p)
        for c, p in zip(tokens.vocabulary.catalogue.category[1:], tokens.vocabulary.catalogue.price[1:], strict=True)
    }
    assert len(without.items.vectors(None, 0).detach().unique(dim=0)) == len(
        fields
    )  # nothing but category and price is left
    batch = to_tensors(sequence_batch(tokens, np.arange(len(tokens.clients)), tokens.cut, 64))
    moved = {**batch, "codes": batch["codes"] + 1}  # uint8: 255 wraps to 0
    assert not torch.equal(with_codes(batch), with_codes(moved))
    assert torch.equal(without(batch), without(moved))
