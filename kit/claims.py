"""What a registered part claims to be good for, where it can be put to the test: a planted world in which it must beat itself
with the claimed mechanism switched off (tests/planted runs every claim; a package of one's own can run its own).

    solves: ClassVar[tuple[Claim, ...]] = (Claim("order", margin=0.3, twin={"kind": "bag"}),)

A claim decides no number, so `kit.fingerprint` passes over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """In `world` the part's score is higher than its twin's by `margin` at least.

    Attributes:
        world: name of a planted world; scores are in [0, 1], higher is better.
        margin: least difference.
        twin: settings of the ablated twin, laid over the part's; another `kind` stands for another part.
        given: settings of the part itself in that world, where its defaults do not suit it.
    """

    world: str
    margin: float
    twin: Mapping[str, Any]
    given: Mapping[str, Any] = field(default_factory=dict)


def claims_of(part: object) -> tuple[Claim, ...]:
    """What a registered part claims itself: nothing by default, and nothing that it inherits."""
    found: tuple[Claim, ...] = vars(part).get("solves", ())
    return found
