"""A block whose training was killed goes on from its checkpoint, ends with the same bytes, and leaves no scratch behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.history import History
from kit.models.checkpoint import Checkpoint
from kit.profile.build import plan_block, run_block
from kit.recipe import BlockEntry
from kit.store import Store
from kit.submission.clean import plan_removals

TRAIN = {"epochs": 2, "lr": 0.1}
ENTRIES = {
    "twhin": BlockEntry(kind="twhin", dim=4, batch=1024, passes=1, train=TRAIN),
    "sequence": BlockEntry(
        kind="sequence", train={"epochs": 5, "lr": 0.01}, events={"width": 8}, encoder={"kind": "gru", "length": 16}
    ),
}


@pytest.mark.parametrize("name", list(ENTRIES))
def test_killed_in_training_then_run_again(
    toy_history: History, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    entry, stores = ENTRIES[name], [Store(tmp_path / end) for end in ("whole", "broken")]
    plan = plan_block(name, entry, 0, toy_history.fingerprint, toy_history.artefact)
    whole = run_block(name, entry, 0, toy_history, stores[0])
    assert not stores[0].scratch(plan).exists()
    taken = []

    def dying(self: Checkpoint) -> None:
        taken.append(self.report.steps)
        if len(taken) == 3:
            self.save()
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save_if_due", dying)
    with pytest.raises(KeyboardInterrupt):
        run_block(name, entry, 0, toy_history, stores[1])
    assert (stores[1].scratch(plan) / "training.pt").exists()
    (half,) = plan_removals(stores[1], tmp_path / "none")
    assert half.path == stores[1].scratch(plan)
    again = run_block(name, entry, 0, toy_history, stores[1])
    assert taken[:4] == [1, 2, 3, 4]  # the fourth step came after the third, not after none
    assert again.made_now
    assert not stores[1].scratch(plan).exists()
    assert again.record()["content"] == whole.record()["content"]
