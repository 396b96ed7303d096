"""Sums of a training in one order, so that equal inputs give equal bits whatever else the machine does."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def same_sums(device: torch.device) -> Generator[None]:
    """On a CPU, sums come in one order whatever else the machine does, so that equal inputs give equal bits.

    Racing threads add up the gradient of an index that names an entry twice: on an idle machine they happen to keep their
    order, on a busy one they do not. GPUs, where some operations have no fixed order at all, stay as they are.
    """
    if device.type != "cpu":
        yield
        return
    filling: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # On by default with the above: it writes into all new memory, to find operations that read what nobody wrote.
    filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        filling.fill_uninitialized_memory = filled
