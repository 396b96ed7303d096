"""Self-supervised objectives on the states of a sequence encoder, mixed by weight."""

from kit.models.objectives.base import (
    Objective,
    Objectives,
    ObjectiveSettings,
    SequenceModel,
    load_objectives,
    make_objectives,
    objective,
)

__all__ = [
    "Objective",
    "ObjectiveSettings",
    "Objectives",
    "SequenceModel",
    "load_objectives",
    "make_objectives",
    "objective",
]
