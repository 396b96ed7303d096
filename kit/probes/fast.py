"""The fast probe: the official network, narrower. Same steps, same unscaled inputs, same row order, same clock of 3 epochs.

It stands in for the official probe in rankings, not in absolute scores: the official one takes few steps and punishes width,
norm and order of the vectors, and a stand-in must be as unforgiving.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kit.probes.labels import TaskData
from kit.probes.mlp import train
from kit.probes.network import Shape
from kit.probes.registry import Options, TaskRun, Vectors, probe

FAST: Final = Shape(thin=1024, wide=256, paced=True)
"""1/32 of the official number of weights inside, and learning rates that move its outputs as far a step (see `Shape.paced`):
at the official rates it lags behind and ranks profiles by how easily they are learned rather than by what they hold. The width
goes where the vectors enter: a stream of 256 put a profile of heavy columns second of five that the official network put last.
Provisional: chosen among four shapes on those five profiles (docs/measured.md)."""


@probe("fast", "The official probe with narrow layers: for ranking profiles, at a fraction of the time.")
def fast(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Scores of the narrow network; all tasks share each pass over the vectors."""
    return train(vectors, tasks, options, FAST)
