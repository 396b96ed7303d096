"""Leaves of a search space: what may stand where a plain recipe has a value.

weight = { low = 0.1, high = 2.0, log = true, default = 0.5 }             a range
scale = { choices = ["quantile", "standard"], default = "quantile" }      a choice
columns = { subset = ["counts__*", "gaps__*"], default = ["counts__*"] }  a list of any of these, at least one
pca = { low = 32, high = 128, absent = true, default = "absent" }         a range, or the key left out
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field, model_validator

from kit.errors import KitError, nearest
from kit.recipe import Strict, parse

Scalar = bool | int | float | str
Pick = Callable[[str, BaseDistribution, Scalar], Scalar]
"""(parameter, its distribution, its default) → a value: from a sampler, from a stored trial, or the default itself."""
ABSENT: Final = "absent"
TINY: Final = 1e-9


class Leaf(Strict):
    """What all leaves share."""

    absent: bool = Field(False, description="Leaving the key out is one of the possibilities.")

    def draw(self, name: str, pick: Pick) -> Any:  # noqa: ANN401
        """The key's value, or ABSENT when it is to be left out.

        Args:
            name: dotted path of the key: the parameter's name.
            pick: where values come from. Whether the key is there is a parameter of its own, and asked first, so that
                samplers see a conditional space.
        """
        if self.absent:
            there = CategoricalDistribution([True, False])
            if not pick(f"{name}.given", there, self.default_value() != ABSENT):
                return ABSENT
        return self.value(name, pick)

    @abstractmethod
    def value(self, name: str, pick: Pick) -> Any:  # noqa: ANN401
        """The value of a key that is there."""

    @abstractmethod
    def default_value(self) -> Any:  # noqa: ANN401
        """The default as written; ABSENT when the default is to leave the key out."""

    @abstractmethod
    def corners(self) -> list[Any]:
        """Values that together show whether every value is fit for the recipe."""


class Range(Leaf):
    """A number between low and high, both included; integers when both are."""

    low: int | float
    high: int | float
    log: bool = Field(False, description="Drawn evenly on the logarithm.")
    step: int | float | None = Field(None, gt=0, description="Only low, low + step, low + 2 · step …")
    default: int | float | Literal["absent"]

    @model_validator(mode="after")
    def _sound(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low > 0 and no step")
        if self.default == ABSENT:
            if not self.absent:
                raise ValueError('default = "absent" needs absent = true')
            return self
        steps = (float(self.default) - self.low) / (self.step or 1)
        stepped = self.step is not None or isinstance(self.distribution(), IntDistribution)
        if not self.low <= float(self.default) <= self.high or (stepped and abs(steps - round(steps)) > TINY):
            raise ValueError(f"the default {self.default} is not in the range or not on its steps")
        return self

    def distribution(self) -> IntDistribution | FloatDistribution:
        """Integers if low, high and step all are."""
        if isinstance(self.low, int) and isinstance(self.high, int) and not isinstance(self.step, float):
            return IntDistribution(self.low, self.high, log=self.log, step=self.step or 1)
        return FloatDistribution(float(self.low), float(self.high), log=self.log, step=self.step)

    def value(self, name: str, pick: Pick) -> Scalar:
        """A number of the range."""
        return pick(name, self.distribution(), self.low if self.default == ABSENT else self.default)

    def default_value(self) -> Scalar:
        """The default as written."""
        return self.default

    def corners(self) -> list[Any]:
        """Both ends."""
        return [self.low, self.high]


class ChoiceLeaf(Leaf):
    """One of several values of any kind."""

    choices: tuple[Any, ...] = Field(min_length=2)
    default: Any

    @model_validator(mode="after")
    def _sound(self) -> ChoiceLeaf:
        if len({_word(choice) for choice in self.choices}) < len(self.choices):
            raise ValueError(f"two of the choices {list(self.choices)} are the same")
        if self.default != ABSENT or not self.absent:
            _known(self.default, self.choices)
        return self

    def value(self, name: str, pick: Pick) -> Any:  # noqa: ANN401
        """One of the choices. Lists go to the sampler as their JSON text."""
        words = {_word(choice): choice for choice in self.choices}
        default = self.choices[0] if self.default == ABSENT and self.absent else self.default
        return words[pick(name, CategoricalDistribution(list(words)), _word(default))]

    def default_value(self) -> Any:  # noqa: ANN401
        """The default as written."""
        return self.default

    def corners(self) -> list[Any]:
        """Every choice."""
        return list(self.choices)


class Subset(Leaf):
    """A list of some of the items, in the order given; an item may be a named group of several: { name = ["a", "b"] }."""

    subset: tuple[str, ...] | dict[str, tuple[str, ...]] = Field(min_length=2)
    default: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _sound(self) -> Subset:
        if self.absent:
            raise ValueError("a subset cannot be absent")
        for item in self.default:
            _known(item, tuple(self.subset))
        return self

    def value(self, name: str, pick: Pick) -> list[str]:
        """The items that were kept; all of them when none was, since an empty list means `everything` in a recipe."""
        choice = CategoricalDistribution([True, False])
        kept = [item for item in self.subset if pick(f"{name}[{item}]", choice, item in self.default)]
        return self._items(kept or self.subset)

    def default_value(self) -> list[str]:
        """The default as it stands in the recipe."""
        return self._items(self.default)

    def corners(self) -> list[Any]:
        """The whole list."""
        return [self._items(self.subset)]

    def _items(self, names: Iterable[str]) -> list[str]:
        groups = self.subset
        return [item for name in names for item in (groups[name] if isinstance(groups, dict) else (name,))]


KEYS: Final = sorted({key for kind in (Range, ChoiceLeaf, Subset) for key in kind.model_fields})


def as_leaf(value: object, where: str) -> Leaf | None:
    """The leaf that a table describes; None if it is no leaf but a plain part of the recipe.

    Raises:
        KitError: a leaf with an unknown key (names the nearest), without a default, or whose bounds contradict each other.
    """
    if not isinstance(value, dict) or not {"low", "high", "choices", "subset", "default"} & set(value):
        return None
    for key in value:
        if key not in KEYS:
            raise KitError(f"{where}: the key {key!r} of a range or choice is unknown;", nearest(key, KEYS))
    kind = ChoiceLeaf if "choices" in value else Subset if "subset" in value else Range
    if "default" not in value:
        raise KitError(f"{where} has no default.", "Add `default = …`: the defaults are the first trial.")
    return parse(kind, value, where)


def _known(item: object, items: tuple[Any, ...]) -> None:
    if item not in items:
        raise ValueError(f"the default {item!r} is not among {list(items)}")


def _word(choice: object) -> Scalar:
    return choice if isinstance(choice, Scalar) else json.dumps(choice)
