"""Families of hand-made features: each a function from a History to a lazy frame keyed by client, registered by name.

A new family is one file in this folder, or in a plugin, that decorates a function with `family`; it is found by itself.

Technique A3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from kit.history import History
from kit.kinds import TableOf
from kit.recipe import Strict
from kit.registry import Registry

FAMILIES: Registry[Family] = Registry("feature family", "kit.features")


class FeatureSettings(Strict):
    """What all families share; a recipe sets it under `[blocks.<name>]`."""

    windows: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 3, 7, 14, 28, 56), description="Days before the cut that are counted over."
    )
    half_lives: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1, 3, 7, 14, 30, 90), description="Days for a decayed count to halve."
    )
    top: int = Field(50, ge=1, description="How many of the most popular categories, skus and urls get a column.")
    session_minutes: int = Field(30, ge=1, description="A silence of this many minutes ends a session.")
    family: Annotated[dict[str, Strict | Literal[False]], TableOf(FAMILIES, settled=True)] = Field(
        {}, description="Family → settings that it has for itself, `[blocks.NAME.family.FAMILY]`; false leaves it out."
    )

    @field_validator("windows", "half_lives")
    @classmethod
    def _distinct(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"{list(values)} holds a value twice: their columns would have one name")
        return values


Own = TypeVar("Own", bound=Strict)
Build = Callable[[History, FeatureSettings], pl.LazyFrame]
BuildWith = Callable[[History, FeatureSettings, Own], pl.LazyFrame]


@dataclass(frozen=True)
class Fact:
    """Something that a family learns of everybody at one cut and that its columns go by: which ids have a column, which space
    vectors lie in. At another cut it would be another, and columns of one name would mean different things; so it is learned
    once, kept with the fitted block, and given to the histories that the block meets later (`History.knowing`).

    What families merely count at a cut (popularity, shares, prices) is no such thing: it is counted anew.

    Attributes:
        name: of its arrays.
        key: settings → the key under which the family asks the History for it (`once`, or `always` if `timeless`).
        learn: measures it: the very value that the family would have found.
        pack: value → arrays by name, for a file; `unpack` turns them back.
        timeless: made from the catalogue alone, so that rewound histories share it.
    """

    name: str
    key: Callable[[FeatureSettings], str]
    learn: Callable[[History, FeatureSettings], Any]
    pack: Callable[[Any], Mapping[str, NDArray[np.generic]]]
    unpack: Callable[[Mapping[str, NDArray[Any]]], Any]
    timeless: bool = False


@dataclass(frozen=True)
class Family:
    """A registered family.

    Attributes:
        name: key in recipes and prefix of its columns (`counts__buy_7d`).
        description: one line on what it is for.
        build: History, settings → lazy frame with client_id and numeric columns, at most one row per client.
        absent: value of every column for clients without a row (None = missing: imputed later).
        default: whether a recipe that names no families gets it; False for those that measured as dead weight.
        Settings: schema of the family's own settings.
        facts: what must stay as it was at the cut of the fit for its columns to keep their meaning.
    """

    name: str
    description: str
    build: Build
    absent: float | None
    default: bool = True
    Settings: type[Strict] = Strict
    facts: tuple[Fact, ...] = ()


@overload
def family(
    name: str, description: str, *, absent: float | None = None, default: bool = True, facts: tuple[Fact, ...] = ()
) -> Callable[[Build], Build]:
    """A family whose function takes the shared settings alone."""


@overload
def family(
    name: str,
    description: str,
    *,
    absent: float | None = None,
    default: bool = True,
    facts: tuple[Fact, ...] = (),
    settings: type[Own],
) -> Callable[[BuildWith[Own]], BuildWith[Own]]:
    """A family with settings of its own, the function's third argument."""


def family(
    name: str,
    description: str,
    *,
    absent: float | None = None,
    default: bool = True,
    facts: tuple[Fact, ...] = (),
    settings: type[Strict] | None = None,
) -> Callable[[Callable[..., pl.LazyFrame]], Callable[..., pl.LazyFrame]]:
    """Decorator that registers a family; see `Family` for the arguments.

    Args:
        name: key in recipes and prefix of its columns.
        description: one line on what it is for.
        absent: value of every column for clients without a row.
        default: whether a recipe that names no families gets it; those of a plugin are asked for by name all the same, so that
            installing a package changes no recipe's columns.
        facts: what its columns go by.
        settings: a schema whose keys all have defaults; the function then takes its own settings as a third argument.
    """

    def register(build: Callable[..., pl.LazyFrame]) -> Callable[..., pl.LazyFrame]:
        def with_own(history: History, shared: FeatureSettings) -> pl.LazyFrame:
            return build(history, shared, shared.family.get(name) or settings()) if settings else build(history, shared)

        made = Family(name, description, with_own, absent, default, settings or Strict, facts)
        FAMILIES.add(name, made, build.__module__)
        return build

    return register


def default_families() -> list[str]:
    """Names of the families that a recipe gets when it names none: of the kit's own, those that are on by default."""
    known = FAMILIES.loaded()
    usual = [name for name, item in known.items() if item.default]
    return [name for name, module in zip(usual, known.modules(usual), strict=True) if module.partition(".")[0] == "kit"]
