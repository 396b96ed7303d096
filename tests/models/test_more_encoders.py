"""Encoders against what their papers say of them, by hand: scans, filters, masks and biases."""

from __future__ import annotations

import pytest
import torch

from kit.models.sequence import ENCODERS, make_encoder
from kit.models.sequence.caser import Caser, CaserSettings
from kit.models.sequence.history_tokens import bottleneck
from kit.models.sequence.kuaiformer import visible
from kit.models.sequence.min_gru import scan
from kit.models.sequence.ruled import Ruled, RuledSettings, broken


@pytest.mark.technique("B6")
def test_the_scan_is_the_recurrence():
    torch.manual_seed(0)
    keep, add = torch.rand(2, 13, 3, dtype=torch.float64), torch.randn(2, 13, 3, dtype=torch.float64)
    state, slow = torch.zeros(2, 3, dtype=torch.float64), []
    for step in range(13):
        state = keep[:, step] * state + add[:, step]
        slow.append(state)
    torch.testing.assert_close(scan(keep, add), torch.stack(slow, dim=1))


@pytest.mark.technique("B6")
def test_what_is_not_updated_halves_in_a_channels_half_life_and_not_at_all_without_a_clock():
    schema = ENCODERS.loaded()["min_gru"].Settings
    for clock, left in ((True, 0.5), (False, 1.0)):
        layer = make_encoder(4, schema.model_validate({"layers": 1, "clock": clock})).layers[0]
        hours = layer.log_half_life.detach().exp()[2].expand(1, 1)
        assert layer.kept(torch.zeros(1, 1, 4), hours)[0, 0, 2].item() == pytest.approx(left)


@pytest.mark.technique("B7")
def test_a_horizontal_filter_fires_on_a_union_and_a_vertical_one_on_a_skip():
    """[1, 1] on channel 0 sees a pair wherever it is in the window; the vertical filter sees the third last."""
    model = Caser(2, CaserSettings(window=4, heights=(2,), horizontal=1, vertical=1)).eval()
    with torch.no_grad():
        model.across[0].weight.copy_(torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]))
        model.across[0].bias.fill_(-1.5)
        model.down.copy_(torch.tensor([[[0.0, 1.0, 0.0, 0.0]]]))
        x = torch.zeros(1, 2, 8)
        x[0, 0, 2:4] = 1.0  # neighbours at 2 and 3
        x[0, 1, 5] = 7.0
        union = model.horizontal(x, model.across[0], 2)[0, 0]
        skip = model.vertical(x)[0, 1]
    assert union.tolist() == [0, 0, 0, 0.5, 0.5, 0.5, 0, 0]  # three places of a pair in a window of four
    assert skip.tolist() == [0, 0, 0, 0, 0, 0, 0, 7.0]  # two events after it


@pytest.mark.technique("B9")
def test_512_events_are_at_most_80_keys_and_every_old_event_is_in_one_of_them():
    raw, fine, coarse = visible(512, 16, 64, 2, 4)
    keys = raw.sum(1) + fine.sum(1) + coarse.sum(1)
    assert int(keys.max()) <= 80
    covered = raw + fine.repeat_interleave(16, 1) + coarse.repeat_interleave(64, 1).long()
    past = torch.ones(512, 512, dtype=torch.bool).tril()
    assert torch.equal(covered > 0, past)
    assert int(covered.max()) == 1


def rule_batch() -> dict[str, torch.Tensor]:
    """Cart 1, cart 2, remove 1, visit, cart 1 again."""
    return {
        "kind": torch.tensor([[2, 2, 3, 4, 2]]),
        "product": torch.tensor([[1, 2, 1, 0, 1]]),
        "time": torch.tensor([[0, 10_000_000, 20_000_000, 21_000_000, 40_000_000]]),
        "mask": torch.ones(1, 5, dtype=torch.bool),
    }


@pytest.mark.technique("B10")
def test_rules_take_out_what_was_known_to_break_them():
    batch = rule_batch()
    back = broken(batch, "taken_back")[0]
    assert back.nonzero().tolist() == [[2, 0], [3, 0], [4, 0]]  # the first add, from its removal on; the new one counts
    assert broken(batch, "removes")[0, 0].tolist() == [False, False, True, False, False]
    assert broken(batch, "bursts")[0, 0].tolist() == [False, False, False, True, False]


@pytest.mark.technique("B10")
def test_banned_events_get_no_attention_and_the_bias_is_monotone():
    batch, mass = rule_batch(), []
    for weight in (0.0, 1.0, 3.0):
        model = Ruled(8, RuledSettings(heads=2, removes=weight, taken_back=0.0))
        mass.append(torch.softmax(model.bias(batch, 5), dim=-1)[0, 4, 2].item())
    hard = Ruled(8, RuledSettings(heads=2, removes=1.0, taken_back=0.0, hard=True))
    forbidden = torch.softmax(hard.bias(batch, 5), dim=-1)[0]
    assert mass[0] > mass[1] > mass[2] > 0
    assert forbidden[4, 2].item() <= 1e-6
    assert forbidden[2, 2].item() > 0  # an event sees itself


@pytest.mark.technique("B8")
def test_loops_begin_as_the_identity_halt_for_certain_and_cost_no_weights():
    schema = ENCODERS.loaded()["looped"].Settings
    torch.manual_seed(0)
    three = make_encoder(8, schema.model_validate({"heads": 2, "loops": 3, "start": -7.0})).eval()
    one = make_encoder(8, schema.model_validate({"heads": 2, "loops": 1}))
    x, batch = torch.randn(2, 5, 8), {"mask": torch.ones(2, 5, dtype=torch.bool)}
    with torch.no_grad():
        out = three(x, batch)
        states = [torch.randn(2, 5, 8) for _ in range(3)]
        torch.testing.assert_close(three.halting(states).sum(dim=0), torch.ones(2, 5, 1))
    assert float((out - three.norm(x)).norm() / three.norm(x).norm()) < 1e-2
    assert sum(p.numel() for p in three.parameters()) == sum(p.numel() for p in one.parameters()) + 2  # two more α


@pytest.mark.technique("K1")
def test_events_behind_a_history_token_see_it_instead_of_what_it_stands_for():
    seen = bottleneck(5, torch.tensor([1, 3]))
    events, tokens = seen[:5, :5], seen[:5, 5:]
    assert events.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    assert tokens.nonzero().tolist() == [[2, 1], [3, 1], [4, 3]]
    assert torch.equal(seen[5:, :5], torch.ones(5, 5, dtype=torch.bool).tril())
    assert torch.equal(seen[5:, 5:], torch.eye(5, dtype=torch.bool))
    nothing = bottleneck(5, torch.empty(0, dtype=torch.int64))
    assert torch.equal(nothing[:5, :5], torch.ones(5, 5, dtype=torch.bool).tril())
    assert not nothing[:5, 5:].any()


@pytest.mark.technique("K1")
def test_the_bottleneck_is_drawn_in_training_alone():
    schema = ENCODERS.loaded()["history_tokens"].Settings
    always = make_encoder(8, schema.model_validate({"heads": 2, "share": 1.0, "tokens": 3}))
    assert 1 <= len(always.train().places(9, torch.device("cpu"))) <= 3
    assert not len(always.eval().places(9, torch.device("cpu")))
