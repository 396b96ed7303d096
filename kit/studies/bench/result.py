"""What `kit bench` writes and reads again: one JSON file.

    {"shops": [{"name", "path", "clients", "chosen", "ceiling": {TASK: {"score", "auroc", …}}}], "rows": [NAME],
     "probes", "tasks", "cells": [{"shop", "row", "probe", "task", "score", "auroc", "novelty", "diversity", "half_width", …}],
     "gains": [{"shop", "row", "probe", "task", "measure", "difference", "low", "high", "verdict"}],
     "means": [{"row", "probe", "task", "measure", "mean", "low", "high", "gain", "gain_low", "gain_high", "shops", …}], …}

`against` is a row's name, with which every other is compared under the same probe, or `ROW:PROBE`, with which all are compared.
`task` is a task's name or `sum`. Intervals are 95 %: in `cells` (± half_width) and `gains` over the clients of one shop, `gains`
paired with the reference row; in `means` over shops, by Student's t, of the row and of its paired gain.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

from kit.errors import KitError
from kit.store import write_json

SUM: Final = "sum"
ORACLE: Final = "oracle"
Measure = Literal["score", "auroc", "novelty", "diversity"]
MEASURES: Final[tuple[Measure, ...]] = ("score", "auroc", "novelty", "diversity")


class Shop(BaseModel):
    """A data folder.

    Attributes:
        name: in tables.
        path: as it was given.
        clients: scored.
        chosen: whether settings were chosen on it: then it is shown and left out of the means over shops.
        ceiling: task → metrics of the generator's own probabilities; empty where there are none.
    """

    name: str
    path: str
    clients: int
    chosen: bool = False
    ceiling: dict[str, dict[str, Any]] = {}


class Cell(BaseModel):
    """A row's score on one task (or the sum) of one shop by one probe. What does not apply is None.

    Attributes:
        half_width: half of the score's 95 % interval over clients (and runs, where there are several).
        auroc_half_width: the same of AUROC, over clients.
        seconds: of the probe.
        undefined: why there is no score; None where there is one.
    """

    shop: str
    row: str
    probe: str
    task: str
    score: float | None = None
    auroc: float | None = None
    novelty: float | None = None
    diversity: float | None = None
    auroc_defined: float | None = None
    labels_without_positives: int | None = None
    half_width: float | None = None
    auroc_half_width: float | None = None
    seconds: float | None = None
    undefined: str | None = None


class PairedGain(BaseModel):
    """A row's score, or AUROC, minus the reference's, paired over the clients of one shop."""

    shop: str
    row: str
    probe: str
    task: str
    measure: Measure = "score"
    difference: float
    low: float
    high: float
    verdict: str


class OverShops(BaseModel):
    """One measure of a row over the shops that nothing was chosen on.

    Attributes:
        mean, low, high: of the measure; the interval is None for a single shop, which knows nothing of others.
        gain, gain_low, gain_high: of its difference to the reference row, paired over shops; None for the reference.
        clients, gain_clients: half of the 95 % intervals over the clients of these very shops, of score and AUROC: what is known
            of them, and nothing of other shops; None where a shop's is not known.
        shops: how many have the measure.
    """

    row: str
    probe: str
    task: str
    measure: Measure
    mean: float
    low: float | None = None
    high: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    clients: float | None = None
    gain_clients: float | None = None
    shops: int


class Failure(BaseModel):
    """A row that could not be made or scored on a shop, and why."""

    shop: str
    row: str
    what: str


class Bench(BaseModel):
    """A whole table; see the module's docstring. `precision` is that of the official probe; others have their own."""

    kit: str
    made: str
    command: str
    precision: str
    seeds: int
    against: str | None
    probes: list[str]
    tasks: list[str]
    shops: list[Shop]
    rows: list[str]
    cells: list[Cell] = []
    gains: list[PairedGain] = []
    means: list[OverShops] = []
    failures: list[Failure] = []

    def mean(self, row: str, probe: str, task: str, measure: Measure) -> OverShops | None:
        """The entry of `means`; None where no shop has it."""
        wanted = (row, probe, task, measure)
        return next((mean for mean in self.means if (mean.row, mean.probe, mean.task, mean.measure) == wanted), None)


def write_bench(path: Path, bench: Bench) -> None:
    """Write the JSON file atomically."""
    write_json(path, bench.model_dump(mode="json"))


def read_bench(path: Path) -> Bench:
    """What `write_bench` wrote.

    Raises:
        KitError: the file is missing or holds something else.
    """
    remedy = "Give the --out file of `kit bench worlds`."
    if not path.is_file():
        raise KitError(f"There is no file {str(path)!r}.", remedy)
    try:
        return Bench.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise KitError(f"{path} is no bench ({str(error).splitlines()[0]}).", remedy) from error
