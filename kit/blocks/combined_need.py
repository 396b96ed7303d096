"""What the combined block will take, for the plan that is made before anything runs. Registers nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kit.blocks.sizes import COPIES, embedding_bytes, token_bytes
from kit.challenge import CODES
from kit.kinds import chosen
from kit.limits.need import Counts, Need, matrix
from kit.models.heads import HEADS
from kit.models.heads.copies import ACTIONS


def combined_need(
    settings: Any,  # noqa: ANN401 - importing the block's settings would be a circle
    inputs: Sequence[Callable[[Counts, Counts], tuple[Need, Need]]],
    counts: Counts,
    at_once: int,
) -> Need:
    """The largest of its phases: tokens, inputs of the learners at all cuts (in files where memory is limited), training,
    prediction for `at_once` clients at a time.

    Choices are (clients, candidates) matrices. In training ten of them live per action: logits, their prior and its
    logarithm, counts, sums and the gradients; at most `budget` / `length` clients of long histories share a batch. In
    prediction five live at a time, for all `clients` of a batch.

    Args:
        settings: of the combined block.
        inputs: `Input.need` of each input.
        counts: what the data hold.
        at_once: clients that are predicted at a time.
    """
    network, width = settings.network, settings.network.events.width
    learners, part = counts.share(settings.learners), counts.share(at_once)
    making, tokens, stored = token_bytes(counts)
    needs = [need(learners, part) for need in inputs]
    candidates = min(settings.candidates, counts.products)
    long = min(settings.clients, max(settings.budget // network.encoder.length, 2))
    choices = matrix(max(10 * len(ACTIONS) * long, 5 * settings.clients), candidates)
    products = counts.products * (CODES + 3) * 4 + candidates * (CODES + 3) * 16 + 5 * matrix(candidates, width)
    table = embedding_bytes(counts, settings.tokens, width)
    heads = chosen(network.heads)
    columns = network.width * (1 + len(network.apart)) + sum(
        HEADS.loaded()[kind].most_columns(own, counts, width) for kind, own in heads.items()
    )
    values = matrix(counts.clients, columns)
    cuts = settings.cuts * sum(matrix(learners.clients, fitted.width) for fitted, _ in needs)
    network_bytes = table + products + choices
    fitting = max([fitted.memory for fitted, _ in needs], default=0)
    floors = max([fitted.floor for fitted, _ in needs], default=0)
    some, some_floor = (sum(getattr(made, name) for _, made in needs) for name in ("memory", "floor"))
    memory = tokens + max(cuts + max(fitting, network_bytes), network_bytes + some + values)
    floor = tokens + max(floors, network_bytes + some_floor)
    helps = "`tokens.min_url` higher (fewer words), `candidates`, `clients` or `learners` smaller, `network.parts.graph = false`"
    disk = 2 * values + cuts + table // COPIES + stored + sum(fitted.disk for fitted, _ in needs)
    return Need(max(making, memory), max(making, floor), disk, columns, helps)
