"""CARD.md: written with the submission, refreshed with its scores, equal for equal inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.data.fetch.fetch import licence
from kit.data.layout import DataFolder
from kit.scoring.results import read_scores
from kit.store import write_json
from kit.submission import read_manifest, write_card
from kit.submission.card import card
from kit.tasks import CHALLENGE


def test_a_scored_submission_has_its_scores_on_the_card(scored: Path):
    text = (scored / "CARD.md").read_text()
    scores = read_scores(scored)
    for task in CHALLENGE:
        entry = scores["fast"]["tasks"][task.name]
        if entry["score"] is not None:
            assert f"| {task.name} | {entry['score']:.4f} |" in text
    for part in ("## Data", "## Blocks", "## Intended use and limits", "## How to reproduce", "licence of the data"):
        assert part in text
    assert read_manifest(scored)["fingerprint"] in text
    assert str(scored) in text  # the command rebuilds it where it lies, not where it was written first


def test_the_card_is_written_once_and_holds_no_times(copy: Path):
    manifest = read_manifest(copy)
    assert write_card(copy)  # it lies elsewhere now
    assert not write_card(copy)
    later = manifest | {"made": "2030-01-01T00:00:00+0000", "seconds": 12345.0, "peak_memory_mib": 99999}
    assert card(later, {}, copy) == card(manifest, {}, copy)
    assert "Not scored yet" in card(manifest, {}, copy)


def test_scores_that_cannot_be_read_do_not_stop_it(copy: Path):
    (copy / "scores.json").write_text("{")
    assert write_card(copy)
    (copy / "manifest.json").unlink()
    assert not write_card(copy)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        (
            "fetched.json",
            {"archive": "a.tar.gz", "licence": "CC BY-NC 4.0", "owner": "Synerise SA"},
            "CC BY-NC 4.0, © Synerise SA",
        ),
        ("truth/shop.json", {}, "synthetic"),
        ("other.json", {}, "not recorded"),
    ],
)
def test_the_licence_of_the_data(tmp_path: Path, file: str, content: dict, says: str):
    write_json(tmp_path / file, content)
    assert says in licence(tmp_path)


def test_own_logs_have_no_licence_on_record(toy: DataFolder):
    assert "not recorded" in licence(toy.root)
