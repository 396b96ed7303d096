"""The bench of planted worlds: each plants one phenomenon; parts that claim it are run beside their ablated twins.

A world is a function (part, its settings, seed) → score in [0, 1], higher is better, for one kind of part (named by its
registry's noun). One world may have a function for several kinds. A part says which worlds it solves by its attribute `solves`
(`kit.claims`); nothing else has to be written for it to be tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from kit.claims import Claim, claims_of
from kit.recipe import parse
from kit.registry import Registry
from kit.techniques.named import REGISTRIES, registered

Runner = Callable[[Any, Any, int], float]
WORLDS: dict[tuple[str, str], Runner] = {}


def world(name: str, noun: str) -> Callable[[Runner], Runner]:
    """Register a world for the parts of one registry."""

    def keep(runner: Runner) -> Runner:
        assert (name, noun) not in WORLDS
        WORLDS[name, noun] = runner
        return runner

    return keep


def claims() -> Iterator[tuple[Registry, str, Claim]]:
    """Every claim of every registered part, plugins' included."""
    for registry, kind, part in registered():
        yield from ((registry, kind, claim) for claim in claims_of(part))


def scores(registry: Registry, kind: str, claim: Claim, seed: int) -> tuple[float, float]:
    """Of the part and of its twin, which by default has the part's settings in that world too."""
    given = dict(claim.given)
    twin = {**({} if "kind" in claim.twin else given), **claim.twin}
    return _run(registry, kind, given, claim.world, seed), _run(registry, kind, twin, claim.world, seed)


def _run(registry: Registry, kind: str, values: dict[str, Any], name: str, seed: int) -> float:
    kind = values.get("kind", kind)
    schema = registry.loaded()[kind].Settings
    own = {key: value for key, value in values.items() if key != "kind" or "kind" in schema.model_fields}
    settings = parse(schema, own, f"the claim of {registry.noun} {kind}")
    return _score(registry.noun, kind, settings.model_dump_json(), name, seed)


@cache
def _score(noun: str, kind: str, settings: str, name: str, seed: int) -> float:
    """Twins that parts share are run once."""
    part = next(registry for registry in REGISTRIES if registry.noun == noun)[kind]
    return WORLDS[name, noun](part, part.Settings.model_validate_json(settings), seed)
