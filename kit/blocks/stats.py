"""Block `stats`: the hand-made feature families as one matrix."""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kit.blocks.base import Block, BlockOutput, block
from kit.errors import KitError
from kit.features.build import CHUNK, build_features
from kit.features.registry import FeatureSettings
from kit.history import History
from kit.recipe import Recipe, Strict, parse


class StatsSettings(FeatureSettings, Strict):
    """The families' shared settings and which families to run."""

    families: tuple[str, ...] = Field(
        (), description="Feature families; those on by default when empty. `kit features list` names them."
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
    from kit.features.registry import default_families, load_families

    known = load_families()
    for name in (*settings.families, *settings.without):
        known[name]
    return [name for name in (settings.families or default_families()) if name not in settings.without]


def stats_plans(recipe: Recipe) -> dict[str, tuple[list[str], FeatureSettings]]:
    """Families and settings of every block of kind `stats` in a recipe, by block name.

    Raises:
        KitError: the recipe has no such block, or one names an unknown family or key.
    """
    plans = {}
    for name, entry in recipe.blocks.items():
        if entry.kind == Stats.kind:
            settings = parse(StatsSettings, entry.settings(), f"[blocks.{name}]")
            shared = FeatureSettings(**settings.model_dump(include=set(FeatureSettings.model_fields)))
            plans[name] = (chosen_families(settings), shared)
    if not plans:
        raise KitError(
            f"The recipe {recipe.name!r} has no block of kind 'stats'.", "Add one, or use pipelines/stats.toml."
        )
    return plans
