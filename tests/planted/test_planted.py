"""Every claim of every registered part: in the planted world it beats its ablated twin by the margin that it states."""

from __future__ import annotations

import planted.folders
import planted.sequences
import planted.tables  # noqa: F401 - they register worlds
import pytest
from planted.bench import WORLDS, claims, scores

CLAIMS = list(claims())
TEN = {"order", "communities", "codes", "interests", "rules", "xor", "drift", "dominance", "bursts", "exposure"}


def test_the_ten_worlds_are_there_and_each_is_claimed_by_somebody():
    assert {name for name, _ in WORLDS} >= TEN
    assert {claim.world for _, _, claim in CLAIMS} >= TEN
    assert all(0 < claim.margin < 1 for _, _, claim in CLAIMS)


@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.planted), pytest.param(2, marks=pytest.mark.planted)]
)
@pytest.mark.parametrize(
    "registry, kind, claim", [pytest.param(*each, id=f"{each[1]}-{each[2].world}") for each in CLAIMS]
)
def test_a_part_beats_its_twin_in_the_world_that_it_claims(registry, kind, claim, seed):
    own, twin = scores(registry, kind, claim, seed)
    assert own >= twin + claim.margin, f"{own:.3f} against {twin:.3f}"
