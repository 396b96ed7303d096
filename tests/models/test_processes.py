"""Two CPU processes (Fabric, gloo): disjoint batches, equal weights, the result of one process with doubled accumulation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import fresh
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from kit.blocks.sequence import SequenceBlock, SequenceSettings
from kit.blocks.sequence import new_model as new_sequence_model
from kit.errors import KitError
from kit.history import History
from kit.models.training import TrainSettings, _fabric, _loop, _Training, train
from kit.store import write_json
from kit.tokens import tokenise

TWO = {"devices": 2, "accelerator": "cpu"}


class Line(nn.Module):
    """y = w·x; and a layer without gradient, as a loss term of weight 0 leaves it."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.idle = nn.Linear(2, 2)

    def forward(self, batch):
        x, y, _ = batch
        return {"mse": ((self.layer(x)[:, 0] - y) ** 2).mean()}


def new_model(dropout: float = 0.0) -> Line:
    torch.manual_seed(0)
    return Line(dropout)


def batches_of(count: int):
    def batches(epoch: int):
        data = np.random.default_rng(0).normal(size=(8 * count, 3)).astype(np.float32)
        order = np.random.default_rng([7, epoch]).permutation(8 * count).reshape(count, 8)

        def make(number: int):
            x = torch.from_numpy(data[order[number]])
            return lambda: (x, x.sum(dim=1), torch.tensor([epoch, number]))

        return [make(number) for number in range(count)]

    return batches


EQUAL = TrainSettings(epochs=2, lr=0.02, accumulate=2, **TWO)
RESUME = TrainSettings(epochs=3, lr=0.02, schedule="schedule-free", **TWO)


def scenario(fabric: Fabric, folder: Path) -> None:
    """Runs in both processes, which are slow to start: everything that the tests below look at, left in files."""
    rank = fabric.global_rank

    def note(batch) -> int:
        with (folder / f"seen-{rank}").open("a") as stream:
            stream.write(f"{batch[2].tolist()}\n")
        return len(batch[0])

    def validate(model: nn.Module) -> float:
        with (folder / f"weights-{rank}").open("a") as stream:
            stream.write(b"".join(v.numpy().tobytes() for v in model.state_dict().values()).hex() + "\n")
        return float(rank)  # only the first process's word may count

    def dying(epoch: int):
        if epoch == 2:
            raise KeyboardInterrupt
        return batches_of(4)(epoch)

    def keep(name: str, dropout: float, batches, settings: TrainSettings, **more) -> None:
        model = new_model(dropout)
        arguments = {"validate": None, "size": lambda batch: 1, "checkpoint": None, "optimizer": None} | more
        report = _loop(fabric, _Training(model, batches, settings, 1, "t", **arguments))
        torch.save(model.state_dict(), folder / f"{name}-{rank}")
        write_json(folder / f"{name}-{rank}.json", report.as_json())

    keep("equal", 0.0, batches_of(8), EQUAL, size=note, validate=validate)
    keep("whole", 0.3, batches_of(4), RESUME)
    with suppress(KeyboardInterrupt):
        keep("killed", 0.3, dying, RESUME, checkpoint=folder / "c.pt")
    fabric.barrier()
    keep("resumed", 0.3, batches_of(4), RESUME, checkpoint=folder / "c.pt")


@pytest.fixture(scope="module")
def quick_start() -> Iterator[None]:
    """Processes forked from one that has imported the libraries: as new as spawned ones, without seconds of imports each.

    `test_plugin_road.py` spawns them, as users do.
    """
    fresh.context()
    with pytest.MonkeyPatch.context() as patch:
        forked = partial(DDPStrategy, start_method="forkserver")
        patch.setattr("kit.models.training.DDPStrategy", lambda start_method, **more: forked(**more))
        yield


@pytest.fixture(scope="module")
def ran(quick_start: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    _fabric(EQUAL).launch(scenario, folder)
    return folder


def test_each_batch_is_seen_by_one_process(ran: Path):
    first, second = ((ran / f"seen-{rank}").read_text().splitlines() for rank in (0, 1))
    assert len(first) == len(second)
    assert sorted(first + second) == sorted(str([epoch, number]) for epoch in range(2) for number in range(8))


def test_weights_are_equal_in_both_after_every_epoch(ran: Path):
    assert (ran / "weights-0").read_bytes() == (ran / "weights-1").read_bytes()
    assert len(set((ran / "weights-0").read_text().splitlines())) == 2


def test_the_result_is_that_of_one_process_with_doubled_accumulation(ran: Path):
    report, one = json.loads((ran / "equal-0.json").read_text()), new_model()
    plain = EQUAL.model_copy(update={"devices": 1, "accumulate": 4})
    alone = train(one, batches_of(8), plain, seed=1, name="t", size=lambda batch: len(batch[0]))
    for name, value in torch.load(ran / "equal-0").items():
        torch.testing.assert_close(value, one.state_dict()[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(one.layer[0].weight, new_model().layer[0].weight)
    assert report["steps"] == alone.steps == 4
    assert report["items"] == alone.items == 2 * 64
    assert [epoch["mse"] for epoch in report["losses"]] == pytest.approx([e["mse"] for e in alone.losses], rel=1e-4)
    assert report["validation"] == [0.0, 0.0]


def test_stopped_and_resumed_equals_uninterrupted(ran: Path):
    """Bit by bit, with every process's own random state: the dropout masks of the two differ."""
    states = torch.load(ran / "c.pt", weights_only=True)["torch"]
    assert len(states) == 2 and not torch.equal(states[0], states[1])
    assert not (ran / "killed-0").exists()
    for rank in (0, 1):
        whole, resumed = torch.load(ran / f"whole-{rank}"), torch.load(ran / f"resumed-{rank}")
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(KitError, match="written by 2 processes, not 1"):
        alone = RESUME.model_copy(update={"devices": 1})
        train(new_model(0.3), batches_of(4), alone, seed=1, name="t", checkpoint=ran / "c.pt")


def test_more_processes_than_batches():
    with pytest.raises(KitError, match="2 devices for 1 batches"):
        train(new_model(), batches_of(1), TrainSettings(epochs=1, **TWO), seed=0, name="t")


@pytest.mark.usefixtures("quick_start")
def test_what_goes_wrong_in_a_process_is_told():
    class Bad(Line):
        def forward(self, batch):
            return {"mse": super().forward(batch)["mse"] * float("inf")}

    with pytest.raises(KitError, match=r"2 processes failed.*Lower `train.lr`"):
        train(Bad(), batches_of(2), TrainSettings(epochs=1, **TWO), seed=0, name="t")


@pytest.mark.usefixtures("quick_start")
def test_a_block_trains_with_two_processes(toy_history: History):
    """What real blocks hand over (tokens, models, closures) reaches the processes, and the weights come back."""
    settings = SequenceSettings(
        events={"width": 8},
        encoder={"heads": 2, "layers": 1, "length": 16, "anchor": True},
        budget=256,
        train={"epochs": 1, **TWO},
    )
    block = SequenceBlock(settings, seed=0).fit(toy_history)
    assert block.report.items > 0
    fresh = new_sequence_model(tokenise(toy_history, settings.tokens).vocabulary, settings, 0).state_dict()
    moved = [name for name, value in block.model.state_dict().items() if not torch.equal(value, fresh[name])]
    assert any("encoder" in name for name in moved)
    assert np.isfinite(block.transform(toy_history, toy_history.clients).values).any()
