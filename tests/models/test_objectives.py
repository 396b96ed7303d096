"""Objectives: exact identities, Monte-Carlo bias, slow definitions of every target, nothing from after the cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kit.blocks.sequence import SequenceSettings
from kit.challenge import EventType
from kit.errors import KitError
from kit.history import History
from kit.kinds import chosen
from kit.models.events import EventSettings
from kit.models.losses.softmax import SoftmaxSettings, full_softmax, sampled_softmax
from kit.models.negatives.frequency import FrequencySettings
from kit.models.objectives import OBJECTIVES, SequenceModel, make_objectives
from kit.models.objectives.base import Spans, balance
from kit.models.objectives.feedback import BOUGHT, LEFT, REMOVED, Fate, cart_fates
from kit.models.objectives.timing import STEPS, Timing, TimingSettings, hazard_loss
from kit.models.objectives.upcoming import NextItem, NextUrl, UpcomingSettings
from kit.models.sequence import ClientEncoder
from kit.models.sequence.transformer import TransformerSettings
from kit.recipe import parse
from kit.tokens import Tokens, TokenSettings, kind_code, sequence_batch, tokenise

DAY = 86_400 * 1_000_000
WIDTH = 8
BUY, CART = kind_code(EventType.BUY), kind_code(EventType.CART)


@pytest.fixture(scope="module")
def tokens(toy_history: History) -> Tokens:
    return tokenise(toy_history, TokenSettings(min_sku=2, min_url=3))


# Softmax losses.


def gradient(loss, logits: torch.Tensor) -> torch.Tensor:
    (slope,) = torch.autograd.grad(loss, logits)
    return slope


def full_gradient(f: torch.Tensor, p: int) -> torch.Tensor:
    leaf = f.clone().requires_grad_()
    return gradient(-leaf.log_softmax(0)[p], leaf)


def drawn_gradient(f: torch.Tensor, q: torch.Tensor, p: int, drawn: torch.Tensor, how: str) -> torch.Tensor:
    """Gradient of the sampled loss with respect to all logits."""
    leaf = f.clone().requires_grad_()
    loss = sampled_softmax(leaf[[p]], leaf[drawn][None], q[[p]].log(), q[drawn].log(), (drawn == p)[None], how)
    return gradient(loss.sum(), leaf)


@pytest.mark.technique("F5")
@pytest.mark.parametrize("p", [0, 3, 39])
def test_refined_is_exact_when_every_other_candidate_is_there_once(p: int):
    """Identity of TECHNIQUES 5.2: enumerate all d ≠ p with uniform Q' and the gradient is that of the full softmax."""
    generator = torch.Generator().manual_seed(p)
    f = 2 * torch.randn(40, generator=generator, dtype=torch.float64)
    others = torch.tensor([d for d in range(40) if d != p])
    q = torch.full((40,), 1 / 40, dtype=torch.float64)  # Q'(d) = Q / (1 - Q(p)) = 1 / 39, and n = 39
    exact = full_gradient(f, p)
    assert (drawn_gradient(f, q, p, others, "refined") - exact).abs().max() < 1e-10


@pytest.fixture(scope="module")
def bias() -> dict[tuple[str, str], float]:
    """Relative error of the mean gradient over 300 draws: 1,000 items, Zipf Q, n = 256, as in the table of TECHNIQUES 5.2."""
    generator = torch.Generator().manual_seed(0)
    q = 1 / torch.arange(1, 1001, dtype=torch.float64)
    q /= q.sum()
    f = torch.randn(1000, generator=generator, dtype=torch.float64)
    f[300] = 6.0
    found = {}
    for name, p in (("head", 0), ("mid", 300), ("tail", 999)):
        exact = full_gradient(f, p)
        for how in ("none", "logq", "negatives", "refined"):
            generator.manual_seed(7)
            mean = torch.zeros_like(f)
            for _ in range(300):
                drawn = torch.multinomial(q, 256, replacement=True, generator=generator)
                mean += drawn_gradient(f, q, p, drawn, how) / 300
            # The single coordinates are noisy: compare what reaches the positive and the popular half.
            parts = [torch.tensor([p]), torch.arange(1, 50)]
            error = sum(float((mean[i] - exact[i]).sum() ** 2) for i in parts) ** 0.5
            found[name, how] = error / sum(float(exact[i].sum() ** 2) for i in parts) ** 0.5
    return found


@pytest.mark.technique("F4", "F5")
@pytest.mark.parametrize("place", ["head", "mid", "tail"])
def test_corrections_remove_the_bias_of_sampling(bias: dict[tuple[str, str], float], place: str):
    assert bias[place, "refined"] < 0.03
    assert bias[place, "negatives"] < 0.03
    assert bias[place, "none"] > 5 * bias[place, "refined"]
    if place == "mid":  # where the positive is likely, Yi's correction of the positive does harm
        assert bias[place, "logq"] > 0.2


def test_the_two_good_corrections_agree_on_average(bias: dict[tuple[str, str], float]):
    for place in ("head", "mid", "tail"):
        assert abs(bias[place, "refined"] - bias[place, "negatives"]) < 0.02


def test_drawn_positives_are_left_out_and_nothing_else_remains():
    one = torch.tensor([[True, True]])
    for how in ("none", "logq", "negatives", "refined"):
        f = torch.tensor([1.0], requires_grad=True)
        loss = sampled_softmax(f, torch.ones(1, 2), torch.zeros(1) - 1, torch.zeros(2) - 1, one, how)
        assert loss.item() == pytest.approx(0.0, abs=1e-6)
        loss.sum().backward()
        assert torch.isfinite(f.grad).all()


@pytest.mark.technique("F2", "F3")
def test_sampling_without_correction_is_cross_entropy():
    torch.manual_seed(0)
    f = torch.randn(5, 9)
    same = torch.zeros(5, 8, dtype=torch.bool)
    got = sampled_softmax(f[:, 0], f[:, 1:], torch.zeros(5), torch.zeros(8), same, "none")
    torch.testing.assert_close(got, full_softmax(f, torch.zeros(5)))


@pytest.mark.technique("F3")
@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0])
def test_negatives_are_drawn_with_the_probability_that_is_corrected_for(tokens: Tokens, uniform: float):
    settings = UpcomingSettings(negatives="sampled", samples=60_000, sampler=FrequencySettings(uniform=uniform))
    part = NextItem(WIDTH, tokens.vocabulary, settings)
    part.bind(tokens)
    drawn = part.sampler.draw(np.random.default_rng(0), np.empty(0, dtype=np.int64), settings.samples)
    expected = part.chance * len(drawn)
    assert expected.sum() == pytest.approx(len(drawn), rel=1e-4)
    counts = np.bincount(drawn, minlength=part.candidates())
    likely = expected > 5
    chi = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert chi < likely.sum() + 4 * math.sqrt(2 * likely.sum())


# Targets.


def batch_of(tokens: Tokens, cuts: np.ndarray, rows: np.ndarray, length: int = 9):
    batch = sequence_batch(tokens, rows, cuts, length, anchor=True)
    return batch, Spans.of(tokens, batch, rows, cuts)


ROWS = np.array([3, 9, 20, 41, 3])
BACK = np.array([0, 5, 14, 30, 59])


@pytest.mark.technique("A5")
@pytest.mark.parametrize("target", ["next", "window"])
@pytest.mark.parametrize("cls", [NextItem, NextUrl])
def test_upcoming_targets_by_the_slow_definition(tokens: Tokens, cls: type, target: str):
    said = {"horizon": 6.0} if target == "next" else {}  # else that of the target windows
    settings = cls.Settings(target=target, skip_hours=5.0, positions=10**6, **said)
    part = cls(WIDTH, tokens.vocabulary, settings)
    part.days = 20 if said else 6
    part.bind(tokens)
    cuts = tokens.cut - DAY * BACK
    batch, spans = batch_of(tokens, cuts, ROWS)
    values = part.values(tokens)
    seen: dict[int, set[int]] = {}
    for seed in range(40):
        found = part.targets(tokens, batch, spans, np.random.default_rng(seed))
        for flat, value in zip(found["at"].tolist(), found["target"].tolist(), strict=True):
            seen.setdefault(flat, set()).add(value + 1)
    for b, (row, cut) in enumerate(zip(ROWS, cuts, strict=True)):
        mine = range(tokens.offsets[row], tokens.offsets[row + 1])
        for t in range(int(batch["size"][b])):
            at = int(batch["position"][b, t])
            now = int(tokens.time[at]) if at >= 0 else int(cut)
            low, high = now + int(5 / 24 * DAY), now + 6 * DAY
            later = [values[i] for i in mine if (i > at if at >= 0 else tokens.time[i] >= cut)]
            times = [tokens.time[i] for i in mine if (i > at if at >= 0 else tokens.time[i] >= cut)]
            allowed = [int(v) for v, at_ in zip(later, times, strict=True) if v > 0 and low <= at_ < high]
            got = seen.get(b * batch["mask"].shape[1] + t, set())
            if target == "next":
                assert got == set(allowed[:1])
            else:
                assert bool(got) == bool(allowed) and got <= set(allowed)


@pytest.mark.technique("B2")
def test_cart_fates_by_the_slow_definition(tokens: Tokens):
    within = 7 * DAY
    fates = cart_fates(tokens, within)
    seen = set()
    for i in range(len(tokens)):
        if tokens.kind[i] != CART or tokens.product[i] == 0:
            assert fates[i] == -1
            continue
        owner = int(tokens.owners(np.array([i]))[0])
        stop = tokens.offsets[owner + 1]
        start = tokens.offsets[owner]
        same = [
            j
            for j in range(start, stop)
            if tokens.product[j] == tokens.product[i]
            and tokens.kind[j] != CART
            and 0 <= tokens.time[j] - tokens.time[i] < within
        ]
        first = min(same, key=lambda j: (tokens.time[j], tokens.kind[j]), default=None)
        expected = LEFT if first is None else BOUGHT if tokens.kind[first] == BUY else REMOVED
        assert fates[i] == expected
        seen.add(expected)
    assert seen == {LEFT, BOUGHT, REMOVED}


def test_fates_are_learned_only_where_they_are_settled_before_the_cut(tokens: Tokens):
    part = Fate(WIDTH, tokens.vocabulary, Fate.Settings(days=5))
    part.bind(tokens)
    rows = np.arange(len(tokens.clients))
    batch, spans = batch_of(tokens, np.full(len(rows), tokens.cut), rows, 10_000)
    found = part.targets(tokens, batch, spans, np.random.default_rng(0))
    times = batch["time"].ravel()[found["at"]]
    assert (batch["kind"].ravel()[found["at"]] == CART).all()
    assert times.max() + 5 * DAY <= tokens.cut
    settled = (tokens.kind == CART) & (tokens.product > 0) & (tokens.time + 5 * DAY <= tokens.cut)
    assert len(times) == settled.sum()


def test_waits_by_the_slow_definition(tokens: Tokens):
    part = Timing(WIDTH, tokens.vocabulary, TimingSettings(of=("event", "cart", "buy")))
    part.bind(tokens)
    cuts = tokens.cut - DAY * BACK
    batch, spans = batch_of(tokens, cuts, ROWS)
    found = part.targets(tokens, batch, spans, np.random.default_rng(0))
    kinds = [None, CART, BUY]
    for m, (at, now, row) in enumerate(zip(spans.at, spans.now, spans.row, strict=True)):
        mine = range(tokens.offsets[ROWS[row]], tokens.offsets[ROWS[row] + 1])
        for k, kind in enumerate(kinds):
            later = [
                tokens.time[i]
                for i in mine
                if (i > at if at >= 0 else tokens.time[i] >= now) and (kind is None or tokens.kind[i] == kind)
            ]
            until = later[0] if later else tokens.cut
            assert found["ended"][m, k] == bool(later)
            assert found["bucket"][m, k] == min(int(math.log2(1 + (until - now) / 1e6)), STEPS - 1)


def test_hazards_by_hand_and_as_a_distribution():
    logits = torch.randn(4, generator=torch.Generator().manual_seed(0))
    h = torch.sigmoid(logits)
    bucket, ended = torch.tensor([2, 2, 0]), torch.tensor([True, False, False])
    got = hazard_loss(logits.expand(3, 4), bucket, ended)
    alive = (1 - h[0]) * (1 - h[1])
    torch.testing.assert_close(got, -torch.stack([alive * h[2], alive, torch.tensor(1.0)]).log())
    every = torch.arange(4)
    ends = (-hazard_loss(logits.expand(4, 4), every, torch.ones(4, dtype=torch.bool))).exp().sum()
    assert ends + torch.prod(1 - h) == pytest.approx(1.0, abs=1e-6)


def test_balance_gives_cuts_their_share():
    cuts = np.array([True, False, False, False])
    weights = balance(cuts, 0.5)
    np.testing.assert_allclose(weights, [2, 2 / 3, 2 / 3, 2 / 3], rtol=1e-6)
    assert balance(cuts[:1], 0.5).tolist() == [1.0]


# Models.


def model_of(tokens: Tokens, chosen: dict, seed: int = 0) -> SequenceModel:
    torch.manual_seed(seed)
    encoder = TransformerSettings(heads=2, layers=1, length=12, anchor=True)
    client = ClientEncoder(tokens.vocabulary, EventSettings(width=WIDTH), encoder)
    own = {kind: OBJECTIVES.loaded()[kind].Settings(**settings) for kind, settings in chosen.items()}
    model = SequenceModel(client, make_objectives(own, WIDTH, tokens.vocabulary))
    model.bind(tokens)
    return model


@pytest.mark.parametrize("kind", list(OBJECTIVES.loaded()))
def test_every_objective_learns_and_handles_batches_without_targets(tokens: Tokens, kind: str):
    """Its loss falls on one batch that is seen again and again; and silence is no error."""
    model = model_of(tokens, {kind: {}})
    batch = model.batch(tokens, np.arange(40), np.random.default_rng(0), tokens.cut - 10 * DAY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    values = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = model(batch)[kind]
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.mean(values[-5:]) < 0.97 * np.mean(values[:3])
    silent = model.batch(tokens, np.array([2]), np.random.default_rng(0), int(tokens.time.min()))
    assert torch.isfinite(model(silent)[kind])
    nobody = model.batch(tokens, np.empty(0, dtype=np.int64), np.random.default_rng(0))
    assert torch.isfinite(model(nobody)[kind])


@pytest.mark.parametrize("negatives", ["auto", "full", "in_batch", "sampled"])
@pytest.mark.parametrize("correction", ["none", "logq", "negatives", "refined"])
def test_every_kind_of_negatives_trains(tokens: Tokens, negatives: str, correction: str):
    model = model_of(
        tokens, {"next_item": {"negatives": negatives, "loss": SoftmaxSettings(correction=correction), "samples": 50}}
    )
    loss = model(model.batch(tokens, np.arange(30), np.random.default_rng(0)))["next_item"]
    loss.backward()
    assert torch.isfinite(loss)
    assert model.client.embedding.items.table.grad.abs().sum() > 0


def test_weights_multiply_and_zero_leaves_out(tokens: Tokens):
    one = model_of(tokens, {"feedback": {"weight": 1.0}, "timing": {"weight": 0.0}}).eval()
    two = model_of(tokens, {"feedback": {"weight": 3.0}}).eval()
    two.load_state_dict(one.state_dict())
    batches = [m.batch(tokens, np.arange(9), np.random.default_rng(0)) for m in (one, two)]
    assert set(one(batches[0])) == {"feedback"}
    torch.testing.assert_close(3 * one(batches[0])["feedback"], two(batches[1])["feedback"])


def test_masked_inputs_hide_the_product_from_its_own_state(tokens: Tokens):
    model = model_of(tokens, {"masked": {"share": 0.5}}).eval()
    batch = model.batch(tokens, np.arange(20), np.random.default_rng(0))
    hidden = batch["masked"]["hidden"]
    seen = {key: value.clone() for key, value in batch["events"].items()}
    seen["sku"][hidden], seen["category"][hidden], seen["url"][hidden], seen["price"][hidden] = 1, 2, 3, 4
    seen["codes"][hidden.flatten()[seen["coded"]]] = 7
    with torch.no_grad():
        assert torch.equal(model.client(batch["events"], hidden), model.client(seen, hidden))
        assert not torch.equal(model.client(batch["events"]), model.client(seen))


def test_unknown_objectives_and_settings_are_named():
    def read(objectives: dict) -> SequenceSettings:
        return parse(SequenceSettings, {"objectives": objectives}, "recipe")

    with pytest.raises(KitError, match=r"'objectives.nextitem' is unknown; did you mean 'next_item'"):
        read({"nextitem": {}})
    with pytest.raises(KitError, match=r"'objectives.next_item.horizons' is unknown; did you mean 'horizon'"):
        read({"next_item": {"horizons": 3}})


def test_naming_one_objective_resets_no_other():
    one = parse(SequenceSettings, {"objectives": {"fate": {"days": 3}, "masked": True, "timing": False}}, "recipe")
    assert one.objectives["fate"].model_dump() == {"weight": 0.2, "at_cut": 0.3, "days": 3.0}
    assert one.objectives["next_url"] == SequenceSettings().objectives["next_url"]
    assert sorted(chosen(one.objectives)) == ["fate", "feedback", "masked", "next_item", "next_url"]
