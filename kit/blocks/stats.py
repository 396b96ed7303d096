"""Block `stats`: the hand-made feature families as one matrix."""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kit.blocks.base import Block, BlockOutput, block
from kit.features.build import CHUNK, build_features
from kit.features.registry import FeatureSettings
from kit.history import History
from kit.recipe import Strict


class StatsSettings(FeatureSettings, Strict):
    """The families' shared settings and which families to run."""

    families: tuple[str, ...] = Field(
        (), description="Feature families; all when empty. `kit features list` names them."
    )
    without: tuple[str, ...] = Field((), description="Families to leave out of the above.")


@block
class Stats(Block):
    """Hand-made features. Stateless: everything is computed from the History at hand."""

    kind = "stats"
    description = "Hand-made features of every registered family."
    sources = ("features", "history.py", "blocks/stats.py")
    Settings: ClassVar[type[Strict]] = StatsSettings

    def fit(self, history: History) -> Stats:
        """Nothing to learn."""
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """float32 (n, d), NaN where a feature is not defined for a client."""
        settings = cast(StatsSettings, self.settings)
        shared = FeatureSettings(**settings.model_dump(include=set(FeatureSettings.model_fields)))
        families = chosen_families(settings)
        values: NDArray[np.float32] | None = None
        columns: tuple[str, ...] = ()
        first = 0
        for frame in build_features(history.among(clients), families, shared, chunk=CHUNK):
            part = frame.drop("client_id")
            if values is None:  # allocated once: a list of chunks and its concatenation would hold everything twice
                columns = tuple(part.columns)
                values = np.empty((len(clients), len(columns)), dtype=np.float32)
            values[first : first + len(part)] = part.to_numpy()
            first += len(part)
        if values is None:
            raise ValueError("stats was asked for no clients")
        return BlockOutput(values, columns)


def chosen_families(settings: StatsSettings) -> list[str]:
    """Names of the families that the settings ask for; KitError on an unknown name."""
    from kit.features.registry import load_families

    known = load_families()
    for name in (*settings.families, *settings.without):
        known[name]
    return [name for name in (settings.families or list(known)) if name not in settings.without]
