"""Block `stats`: the hand-made feature families as one matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from kit.blocks.base import Block, BlockOutput, block
from kit.challenge import PUBLISHED_LISTS, EventType
from kit.errors import KitError
from kit.features.build import AT_ONCE, CHUNK, build_features
from kit.features.describe import widths
from kit.features.facts import Facts
from kit.features.registry import FAMILIES, FeatureSettings, default_families
from kit.features.sizes import client_bytes, once_bytes
from kit.history import History
from kit.limits import memory as limits
from kit.limits.need import SAFETY, Counts, Need, matrix
from kit.recipe import Recipe, Strict, parse

LEAST = 5_000
"""Clients per pass at least: every pass opens the tables anew."""


class StatsSettings(FeatureSettings):
    """The families' shared settings and which families to run."""

    families: tuple[str, ...] = Field(
        (), description="Feature families; those on by default when empty. `kit features list` names them."
    )
    also: tuple[str, ...] = Field(
        (), description="Families beside these, such as a plugin's: none of them is on by default."
    )
    without: tuple[str, ...] = Field((), description="Families to leave out of the above.")


@block
class Stats(Block):
    """Hand-made features, computed from the History at hand. What is learned is what columns stand for (`Fact`): the popular
    ids, the kinds of new product, the space of looks. Without `fit` each History has its own."""

    kind = "stats"
    description = "Hand-made features of every registered family."
    Settings: ClassVar[type[Strict]] = StatsSettings
    facts: Facts | None = None

    def parts(self) -> Iterable[str]:
        """The families that are run: another one may change, come or go."""
        return FAMILIES.loaded().modules(chosen_families(cast(StatsSettings, self.settings)))

    def fit(self, history: History) -> Stats:
        """Learn what columns stand for."""
        self.facts = self.learn(history)
        return self

    def transform(self, history: History, clients: NDArray[np.int64]) -> BlockOutput:
        """float32 (n, d), NaN where a feature is not defined for a client."""
        shared, families = self._shared(), chosen_families(self._own)
        if self.facts is not None:
            history = self.facts.given_to(history)
        values: NDArray[np.float32] | None = None
        columns: tuple[str, ...] = ()
        first = 0
        for frame in self._frames(history.among(clients), families, shared):
            part = frame.drop("client_id")
            if values is None:  # allocated once: a list of chunks and its concatenation would hold everything twice
                columns = tuple(part.columns)
                values = limits.empty((len(clients), len(columns)), np.float32)
            values[first : first + len(part)] = part.to_numpy()
            first += len(part)
        if values is None:
            raise ValueError("stats was asked for no clients")
        return BlockOutput(values, columns)

    def need(self, counts: Counts) -> Need:
        """The matrix, what families learn of everybody, and AT_ONCE chunks of clients at a time."""
        settings = cast(StatsSettings, self.settings)
        width, widest = self._widths(chosen_families(settings), counts.targets)
        shared = once_bytes(counts)
        each = client_bytes(counts, width, widest)
        values = matrix(counts.clients, width)
        most, least = min(AT_ONCE * CHUNK, counts.clients), min(AT_ONCE * LEAST, counts.clients)
        helps = "`families` or `without`: fewer feature families"
        return Need(values + shared + int(most * each), shared + int(least * each), values, width, helps)

    def save(self, folder: Path) -> None:
        """facts.npz, where a family learned something."""
        if self.facts is not None:
            self.facts.save(folder)

    def load(self, folder: Path) -> Stats:
        """What columns stood for at the cut of the fit."""
        self.facts = self.load_facts(folder)
        return self

    def learn(self, history: History, *, timeless: bool = False) -> Facts:
        """What columns stand for at the history's cut; `timeless` leaves out what differs from cut to cut."""
        return Facts.learn(history, chosen_families(self._own), self._shared(), timeless=timeless)

    def load_facts(self, folder: Path, *, timeless: bool = False) -> Facts:
        """What `learn` gave, from the file that it was saved to."""
        return Facts.load(folder, chosen_families(self._own), self._shared(), timeless=timeless)

    @property
    def _own(self) -> StatsSettings:
        return cast(StatsSettings, self.settings)

    def _shared(self) -> FeatureSettings:
        """The settings that all families share."""
        return FeatureSettings(**self._own.model_dump(include=set(FeatureSettings.model_fields)))

    def _widths(self, families: list[str], targets: tuple[int, int]) -> tuple[int, int]:
        """Columns of these families together, and of the widest one."""
        known = widths(self._shared(), targets)
        return sum(known[name] for name in families), max((known[name] for name in families), default=0)

    def _frames(self, history: History, families: list[str], shared: FeatureSettings) -> Iterator[pl.DataFrame]:
        """Frames of features in CHUNKs, or in smaller ones where memory is limited; the numbers do not depend on it. If CHUNKs
        might not do, a small one goes first: then what is learned of everybody is in place, and the room left is known."""
        clients = history.clients
        if limits.room() is not None and len(clients):
            targets = [len(history.published_targets(task)) for task in PUBLISHED_LISTS]
            events = {kind: history.prepared(kind) for kind in EventType}
            counts = Counts(len(clients), 0, events, events, {}, (targets[0], targets[1]))
            each = AT_ONCE * SAFETY * client_bytes(counts, *self._widths(families, counts.targets))
            if limits.at_once(2 * each, CHUNK, LEAST) < min(CHUNK, len(clients)):
                yield from build_features(history.among(clients[:LEAST]), families, shared, chunk=LEAST)
                rest = history.among(clients[LEAST:])
                yield from build_features(rest, families, shared, chunk=limits.at_once(each, CHUNK, LEAST))
                return
        yield from build_features(history, families, shared, chunk=CHUNK)


def chosen_families(settings: StatsSettings) -> list[str]:
    """Names of the families that the settings ask for; KitError on an unknown name."""
    known = FAMILIES.loaded()
    for name in (*settings.families, *settings.also, *settings.without):
        known.require(name)
    chosen = dict.fromkeys((*(settings.families or default_families()), *settings.also))
    return [name for name in chosen if name not in settings.without and settings.family.get(name) is not False]


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
