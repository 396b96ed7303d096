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
from kit.models.objectives.softmax import Correction, full_softmax, sampled_softmax

__all__ = [
    "Correction",
    "Objective",
    "ObjectiveSettings",
    "Objectives",
    "SequenceModel",
    "full_softmax",
    "load_objectives",
    "make_objectives",
    "objective",
    "sampled_softmax",
]
