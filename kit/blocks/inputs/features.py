"""Input `features`: hand-made features of several cuts on one scale."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from kit.arrays import read_array, save_arrays
from kit.blocks.inputs.base import Floats, Input, Kept, input_of
from kit.blocks.kept import kept
from kit.blocks.quantiles import fit_quantiles, quantiles_of, to_quantiles
from kit.blocks.stats import Stats
from kit.features.facts import Facts
from kit.history import History
from kit.limits.need import Counts, Need
from kit.progress import stage
from kit.store import write_json


@input_of
class FeaturesInput(Input):
    """What the block's `stats` settings give, quantile-uniform in [-1, 1]; NaN where missing."""

    kind: ClassVar[str] = "features"

    def fit(self, pasts: Sequence[History], scratch: Kept) -> list[Floats]:
        """Columns of the latest cut, quantiles of all cuts."""
        self.columns = ()
        self.facts: Facts | None = None
        with stage("features at rewound cuts"):
            features = [self.raw(past, scratch, f"features-{k}") for k, past in enumerate(pasts)]
        self.facts = Stats(self.block.stats, self.seed).learn(pasts[0], timeless=True)  # the same at all of them
        self.scaler = fit_quantiles(features, self.seed)
        for k, raw in enumerate(features):  # one by one: all of them raw and scaled would need twice the memory
            features[k] = to_quantiles(self.scaler, raw)
        return features

    def arrays(self, history: History) -> Floats:
        """Scaled."""
        return to_quantiles(self.scaler, self.raw(history))

    def raw(self, history: History, scratch: Kept = None, name: str = "") -> Floats:
        """The features of all clients, float32 (n, F); with a scratch they outlive a killed run. Which columns there are may
        depend on the cut (top lists of a young log are short): those of the first call stay, and one that a later call lacks is
        missing (NaN) there."""
        unit = Stats(self.block.stats, self.seed)
        unit.facts = self.facts
        output = kept(scratch, name, lambda: unit.transform(history, history.clients))
        if not self.columns:
            self.columns = output.columns
        place = {column: i for i, column in enumerate(output.columns)}
        values = np.full((len(output.values), len(self.columns)), np.nan, dtype=np.float32)
        known = [i for i, column in enumerate(self.columns) if column in place]
        values[:, known] = output.values[:, [place[self.columns[i]] for i in known]]
        return values

    def save(self, folder: Path) -> None:
        """columns.json, quantiles.npy, and the space of looks if a family has columns in it."""
        write_json(folder / "columns.json", self.columns)
        save_arrays(folder, {"quantiles": self.scaler.quantiles_})
        if self.facts is not None:
            self.facts.save(folder)

    def load(self, folder: Path) -> None:
        """Columns and their quantiles."""
        self.columns = tuple(json.loads((folder / "columns.json").read_text(encoding="utf-8")))
        self.scaler = quantiles_of(read_array(folder / "quantiles.npy", mapped=False))
        unit = Stats(self.block.stats, self.seed)
        self.facts = unit.load_facts(folder, timeless=True)

    def need(self, learners: Counts, some: Counts) -> tuple[Need, Need]:
        """As the block `stats`."""
        unit = Stats(self.block.stats, self.seed)
        return unit.need(learners), unit.need(some)
