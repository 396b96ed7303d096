"""The training loop: determinism, exact resume, early stopping, two processes, and a plain torch oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kit.errors import KitError
from kit.models.loader import ahead
from kit.models.training import TrainSettings, rate_factor, train


class Line(nn.Module):
    """y = w·x with dropout, so that the random state matters for a resume."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))

    def forward(self, batch):
        x, y = batch
        return {"mse": ((self.layer(x)[:, 0] - y) ** 2).mean()}


def batches(epoch: int):
    rng = np.random.default_rng([7, epoch])
    data = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    order = rng.permutation(64).reshape(8, 8)

    def make(rows):
        x = torch.from_numpy(data[rows])
        return lambda: (x, x.sum(dim=1))

    return [make(rows) for rows in order]


def new_model(dropout: float = 0.2) -> Line:
    torch.manual_seed(0)
    return Line(dropout)


def weights(model: nn.Module) -> bytes:
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


def test_same_seed_same_bits_and_the_loss_falls():
    one, two = new_model(), new_model()
    report = train(one, batches, TrainSettings(epochs=4, lr=0.02), seed=1, name="t")
    train(two, batches, TrainSettings(epochs=4, lr=0.02), seed=1, name="t")
    assert weights(one) == weights(two)
    assert report.losses[-1]["mse"] < 0.7 * report.losses[0]["mse"]
    assert report.steps == 32


class Looked(nn.Module):
    """A row per client, looked up by an index that names most of them many times; a positive may occur twice, too."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(192, 64))

    def forward(self, batch):
        index, column, values = batch
        return {"near": (self.rows[index] * values).sum(), "pick": -self.rows.log_softmax(1)[index, column].mean()}


def test_sums_keep_their_order_on_a_machine_that_is_busy():
    """Eight threads on fewer cores race as they do beside another program: outside of `same_sums` thousands of values differ."""
    before, settings = torch.get_num_threads(), TrainSettings(epochs=1, lr=0.1, clip=1e9)
    draw = torch.Generator().manual_seed(3)
    data = [
        (
            torch.randint(0, 192, (4_000,), generator=draw),
            torch.randint(0, 64, (4_000,), generator=draw),
            torch.randn(4_000, 64, generator=draw),
        )
        for _ in range(4)
    ]
    ends = set()
    torch.set_num_threads(8)
    try:
        for _ in range(6):
            torch.manual_seed(0)
            model = Looked()
            train(model, lambda epoch: [lambda batch=batch: batch for batch in data], settings, seed=0, name="t")
            ends.add(weights(model))
    finally:
        torch.set_num_threads(before)
    assert len(ends) == 1
    assert not torch.are_deterministic_algorithms_enabled()  # a setting of the training alone
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_a_term_s_loss_is_its_mean_over_the_batches_that_define_it():
    class Sometimes(Line):
        def forward(self, batch):
            x, _ = batch
            terms = super().forward(batch)
            return terms | ({"rare": 0.0 * terms["mse"] + 3.0} if bool(x[0, 0] > 0) else {})

    torch.manual_seed(0)
    report = train(Sometimes(), batches, TrainSettings(epochs=3), seed=0, name="t")
    assert [losses["rare"] for losses in report.losses] == pytest.approx([3.0] * 3)


def test_equals_plain_adamw():
    """Oracle: the same steps written out with torch alone."""
    settings = TrainSettings(epochs=2, lr=0.01, schedule="constant", warmup=0.0, clip=1e9, weight_decay=0.1)
    ours, plain = new_model(0.0), new_model(0.0)
    train(ours, batches, settings, seed=0, name="t")
    decaying = [parameter for parameter in plain.parameters() if parameter.dim() > 1]
    rest = [parameter for parameter in plain.parameters() if parameter.dim() < 2]
    assert decaying and rest
    groups = [{"params": decaying, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    for epoch in range(2):
        for thunk in batches(epoch):
            optimizer.zero_grad()
            plain(thunk())["mse"].backward()
            optimizer.step()
    assert weights(ours) == weights(plain)


@pytest.mark.parametrize("schedule", ["cosine", "constant", "schedule-free"])
@pytest.mark.parametrize("stop_after", [1, 3])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, stop_after: int, schedule: str):
    """k epochs, kill, resume = n epochs, bit by bit."""
    settings = TrainSettings(epochs=5, lr=0.02, schedule=schedule)
    whole = new_model()
    train(whole, batches, settings, seed=3, name="t")

    def dying(epoch: int):
        if epoch >= stop_after:
            raise KeyboardInterrupt
        return batches(epoch)

    broken = new_model()
    with pytest.raises(KeyboardInterrupt):
        train(broken, dying, settings, seed=3, name="t", checkpoint=tmp_path / "c.pt")
    resumed = new_model()
    torch.manual_seed(99)  # the state left by other work must not matter
    report = train(resumed, batches, settings, seed=3, name="t", checkpoint=tmp_path / "c.pt")
    assert weights(resumed) == weights(whole)
    assert len(report.losses) == 5


@pytest.mark.parametrize("schedule", ["cosine", "schedule-free"])
@pytest.mark.parametrize("stop_at", [(0, 1), (2, 5), (2, 8)])
def test_stopped_within_an_epoch_and_resumed_equals_uninterrupted(
    tmp_path: Path, stop_at: tuple[int, int], schedule: str, monkeypatch: pytest.MonkeyPatch
):
    """Checkpoints after every step, two batches each; a kill between the two batches of a step goes back to the step before."""
    monkeypatch.setattr("kit.models.checkpoint.EVERY", 0.0)
    settings = TrainSettings(epochs=4, lr=0.02, schedule=schedule, accumulate=2)
    whole, taken = new_model(), []
    expected = train(whole, batches, settings, seed=3, name="t", size=lambda batch: len(batch[1]))

    def dying(epoch: int):
        def interrupted():
            raise KeyboardInterrupt

        cut = stop_at[1] if epoch == stop_at[0] else 8
        return [*batches(epoch)[:cut], *[interrupted] * (8 - cut)]

    def counted(epoch: int):
        return [lambda thunk=thunk: taken.append(epoch) or thunk() for thunk in batches(epoch)]

    with pytest.raises(KeyboardInterrupt):
        train(new_model(), dying if stop_at[1] < 8 else _dying_in(stop_at[0] + 1), settings, seed=3, name="t",
              size=lambda batch: len(batch[1]), checkpoint=tmp_path / "c.pt")  # fmt: skip
    resumed = new_model()
    torch.manual_seed(99)
    report = train(
        resumed, counted, settings, seed=3, name="t", size=lambda batch: len(batch[1]), checkpoint=tmp_path / "c.pt"
    )
    assert weights(resumed) == weights(whole)
    assert (report.losses, report.items, report.steps) == (expected.losses, expected.items, expected.steps)
    done = stop_at[0] * 8 + stop_at[1] // 2 * 2
    assert len(taken) == 32 - done


def _dying_in(epoch: int):
    def dying(current: int):
        if current == epoch:
            raise KeyboardInterrupt
        return batches(current)

    return dying


def test_accumulation_equals_larger_batches():
    def merged(epoch: int):
        small = [thunk() for thunk in batches(epoch)]
        pairs = [
            (torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]])) for a, b in zip(small[::2], small[1::2], strict=True)
        ]
        return [lambda pair=pair: pair for pair in pairs]

    one, two = new_model(0.0), new_model(0.0)
    train(one, batches, TrainSettings(epochs=1, accumulate=2, warmup=0.0), seed=0, name="t")
    train(two, merged, TrainSettings(epochs=1, warmup=0.0), seed=0, name="t")
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_schedule_free_by_hand():
    """Oracle: Defazio et al. 2024 (The Road Less Scheduled), Algorithm 1, with both sequences kept apart."""
    settings = TrainSettings(epochs=2, lr=0.01, schedule="schedule-free", warmup=0.25, clip=1e9, weight_decay=0.1)
    ours, plain = new_model(0.0), new_model(0.0)
    report = train(ours, batches, settings, seed=0, name="t")
    parameters = list(plain.parameters())
    x, z, v = ([value.detach().clone() for value in parameters] for _ in range(3))
    v = [torch.zeros_like(value) for value in v]
    weight_sum, warm = 0.0, 4
    for step, thunk in enumerate([thunk for epoch in range(2) for thunk in batches(epoch)]):
        for p, mean, free in zip(parameters, x, z, strict=True):
            p.data = 0.1 * free + 0.9 * mean  # y, where the gradient is taken
        plain.zero_grad()
        plain(thunk())["mse"].backward()
        rate = 0.01 * min((step + 1) / warm, 1.0)
        weight_sum += rate**2
        for i, p in enumerate(parameters):
            v[i] = 0.999 * v[i] + 0.001 * p.grad**2
            decay = 0.1 if p.dim() > 1 else 0.0  # biases do not decay
            step_by = p.grad / ((v[i] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8) + decay * p.data
            z[i] = z[i] - rate * step_by
            x[i] = x[i] + rate**2 / weight_sum * (z[i] - x[i])
    assert report.steps == 16
    for mine, mean in zip(ours.parameters(), x, strict=True):
        torch.testing.assert_close(mine.data, mean, rtol=2e-3, atol=2e-5)


def test_schedule_free_validates_and_keeps_the_averaged_weights():
    seen: list[bytes] = []

    def validate(model: nn.Module) -> float:
        seen.append(weights(model))
        return float(len(seen) == 2)

    settings = TrainSettings(epochs=3, lr=0.02, schedule="schedule-free")
    watched, plain = new_model(), new_model()
    train(watched, batches, settings, seed=1, name="t", validate=validate)
    assert weights(watched) == seen[1]
    train(plain, batches, settings, seed=1, name="t")
    assert weights(plain) == seen[2]  # looking at a model does not change its training


def test_schedule_free_refuses_a_model_with_its_own_optimiser():
    model = new_model()
    with pytest.raises(KitError, match="'schedule-free'"):
        own = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, batches, TrainSettings(schedule="schedule-free"), seed=0, name="t", optimizer=own)


def test_early_stopping_keeps_the_best_weights():
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3])
    seen: list[bytes] = []

    def validate(model: nn.Module) -> float:
        seen.append(weights(model))
        return next(scores)

    model = new_model()
    report = train(model, batches, TrainSettings(epochs=5, patience=2), seed=0, name="t", validate=validate)
    assert (len(seen), report.best_epoch) == (4, 1)
    assert weights(model) == seen[1]


def test_patience_without_a_validation_is_refused_rather_than_ignored():
    with pytest.raises(KitError, match=r"`train\.patience = 2` would never stop it"):
        train(new_model(), batches, TrainSettings(epochs=5, patience=2), seed=0, name="t")


def test_schedule_by_hand():
    settings = TrainSettings(warmup=0.2)
    assert [rate_factor(step, 10, settings) for step in (0, 1, 2, 6, 10)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])
    assert rate_factor(7, 10, TrainSettings(schedule="constant")) == 1.0


def test_a_loss_that_explodes_is_an_error_not_a_silent_nan():
    class Bad(Line):
        def forward(self, batch):
            return {"mse": super().forward(batch)["mse"] * float("inf")}

    torch.manual_seed(0)
    with pytest.raises(KitError, match=r"Lower `train.lr`"):
        train(Bad(), batches, TrainSettings(epochs=1), seed=0, name="t")


def test_a_foreign_checkpoint_is_refused(tmp_path: Path):
    (tmp_path / "c.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(KitError, match="Delete it"):
        train(new_model(), batches, TrainSettings(epochs=1), seed=0, name="t", checkpoint=tmp_path / "c.pt")


def test_batches_made_ahead_are_the_same_and_errors_come_in_their_turn():
    def fail() -> int:
        raise RuntimeError("the third")

    made = []
    thunks = [lambda i=i: made.append(i) or i for i in range(7)]
    for count in (0, 1, 3, 50):
        made.clear()
        assert list(ahead(thunks, count)) == list(range(7))
        assert made == list(range(7))
    taken = ahead([*thunks[:2], fail, *thunks], 4)
    assert [next(taken), next(taken)] == [0, 1]
    with pytest.raises(RuntimeError, match="the third"):
        next(taken)
    losses = []
    for prefetch in (0, 2):
        report = train(new_model(), batches, TrainSettings(epochs=2, prefetch=prefetch), seed=0, name="t")
        losses.append(report.losses)
    assert losses[0] == losses[1]
