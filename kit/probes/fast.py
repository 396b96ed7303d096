"""The fast probe: the official network, narrower. Same steps, same unscaled inputs, same row order, same clock of 3 epochs.

It stands in for the official probe in rankings, not in absolute scores: the official one takes few steps and punishes width,
norm and order of the vectors, and a stand-in must be as unforgiving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from kit.limits.processor import bf16_support
from kit.probes.mlp import train
from kit.probes.network import Shape
from kit.probes.registry import Options, Precision, TaskRun, Vectors, probe
from kit.tasks.labels import TaskData

FAST: Final = Shape(thin=1024, wide=1024, paced=True, scored_from=2)
"""An eighth of the official number of weights inside, and learning rates that move its outputs as far a step (see
`Shape.paced`): at the official rates it lags behind and ranks profiles by how easily they are learned rather than by what they
hold. Narrower networks flatter what the official one learns slowly. The first epoch is hardly ever the best and costs as much to
score as the others (docs/measured.md)."""
PRECISION: Final[Precision] = "bf16" if bf16_support() == "fast" else "fp32"
"""Half the time where there are bfloat16 units; where not, or where nobody knows, bf16 could be slower."""


@probe(
    "fast",
    "The official probe, an eighth as large: for ranking profiles, at a fraction of the time.",
    precisions=(PRECISION,),
)
def fast(vectors: Vectors, tasks: Sequence[TaskData], options: Options) -> list[TaskRun]:
    """Scores of the narrow network, in its own precision; all tasks share each pass over the vectors."""
    return train(vectors, tasks, replace(options, precision=PRECISION), FAST)
