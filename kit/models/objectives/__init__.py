"""Self-supervised objectives on the states of a sequence encoder, mixed by weight."""

from kit.models.objectives.base import (
    OBJECTIVES,
    Objective,
    Objectives,
    ObjectiveSettings,
    SequenceModel,
    make_objectives,
    objective,
)

__all__ = [
    "OBJECTIVES",
    "Objective",
    "ObjectiveSettings",
    "Objectives",
    "SequenceModel",
    "make_objectives",
    "objective",
]
