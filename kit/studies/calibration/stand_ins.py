"""Candidates for the fast probe: cheap models that should rank profiles as the official probe does.

`kit score --calibrate` measures each against the official probe. A new candidate is one small function decorated with
`stand_in`. What it has to reproduce is a network that takes few steps: 3 epochs of clients ÷ 128, in file order. The vectors'
norm matters only against the bias of the input layer, because a LayerNorm follows; width matters because the input layer's
initial weights shrink with it while its steps do not; and a network as wide as the official one moves its outputs far in a
single step, which a narrow one at the same learning rate does not (`Shape.paced` makes up for it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kit.probes.fast import fast
from kit.probes.mlp import train
from kit.probes.network import Shape
from kit.probes.registry import Options, Run, TaskRun, Vectors
from kit.registry import Registry
from kit.studies.calibration.random_features import ridge
from kit.tasks.labels import TaskData


@dataclass(frozen=True)
class StandIn:
    """A registered candidate.

    Attributes:
        name: for `kit score --calibrate --stand-in`.
        description: one line.
        run: as a probe's.
        seeds: runs per task whose mean score is the candidate's: several small networks may cost less than one large.
        default: whether a study that names no candidates includes it.
    """

    name: str
    description: str
    run: Run
    seeds: int = 1
    default: bool = True


STAND_INS: Final[Registry[StandIn]] = Registry("stand-in")


def stand_in(name: str, description: str, *, seeds: int = 1, default: bool = True) -> Callable[[Run], Run]:
    """Decorator that registers a candidate; see `StandIn` for the arguments."""

    def register(run: Run) -> Run:
        STAND_INS.add(name, StandIn(name, description, run, seeds, default), run.__module__)
        return run

    return register


@stand_in("paced-256", "256/512, three bottlenecks, learning rates that move outputs as far as the official network's.")
def paced_256(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Cheap; forgives large columns that the official network does not."""
    return train(vectors, tasks, options, Shape(256, 512, paced=True))


@stand_in("paced-512", "512/1024, three bottlenecks, paced.")
def paced_512(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Twice as wide: less is lost in the input layer, and less is left to the initial weights."""
    return train(vectors, tasks, options, Shape(512, 1024, paced=True))


@stand_in("one-block", "512/1024, a single bottleneck, paced.")
def one_block(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Depth for width."""
    return train(vectors, tasks, options, Shape(512, 1024, blocks=1, paced=True))


@stand_in("slim", "Stream of 1,024 with bottlenecks of 256, paced: the width goes where the vectors enter.")
def slim(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """A narrow stream must squeeze wide vectors at once; bottlenecks cost most of the time and can be narrow instead."""
    return train(vectors, tasks, options, Shape(1024, 256, paced=True))


@stand_in(
    "stream-256", "The official stream of 2,048 with bottlenecks of 256, paced: only what lies inside them is missing."
)
def stream_256(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Vectors enter, are normalised and leave as in the official network; a sixteenth of its hidden width."""
    return train(vectors, tasks, options, Shape(2048, 256, paced=True))


@stand_in(
    "fast",
    "The fast probe: stream of 1,024 with bottlenecks of 1,024, paced, in bf16; the first epoch is not scored.",
)
def today(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """An eighth of the official products."""
    return fast(vectors, tasks, options)


@stand_in("no-block", "1024 wide input layer and LayerNorm, no bottleneck: a linear head on learned inputs, paced.")
def no_block(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """The official network's shallowest path: logistic regression in file order, through the same input layer."""
    return train(vectors, tasks, options, Shape(1024, 1, blocks=0, paced=True))


@stand_in("three-128", "Mean of three paced networks of 128/256: less noise of the start for the same time.", seeds=3)
def three_128(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """One small network's rank is mostly noise; the mean of three is less so."""
    return train(vectors, tasks, options, Shape(128, 256, paced=True))


@stand_in(
    "ridge",
    "Closed form: logistic ridge on random features, its penalty given by the official number of steps.",
)
def closed_form(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Blind to row order."""
    return ridge(vectors, tasks, options)


@stand_in(
    "gbm",
    "The boosted-tree probe, for comparison: blind to scale, norm and order.",
    default=False,
)
def gbm(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Only if asked for."""
    from kit.probes.gbm import gbm as trees

    return trees(vectors, tasks, options)
