"""Families of hand-made features: each a function from a History to a lazy frame keyed by client, registered by name.

A new family is one file in this folder that decorates a function with `family`; it is found by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator

from kit.history import History
from kit.registry import Registry, import_modules


class FeatureSettings(BaseModel):
    """What all families share; a recipe sets it under `[blocks.<name>]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    windows: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 3, 7, 14, 28, 56), description="Days before the cut that are counted over."
    )
    half_lives: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1, 3, 7, 14, 30, 90), description="Days for a decayed count to halve."
    )
    top: int = Field(50, ge=1, description="How many of the most popular categories, skus and urls get a column.")
    session_minutes: int = Field(30, ge=1, description="A silence of this many minutes ends a session.")

    @field_validator("windows", "half_lives")
    @classmethod
    def _distinct(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"{list(values)} holds a value twice: their columns would have one name")
        return values


Build = Callable[[History, FeatureSettings], pl.LazyFrame]


@dataclass(frozen=True)
class Family:
    """A registered family.

    Attributes:
        name: key in recipes and prefix of its columns («counts__buy_7d»).
        description: one line on what it is for.
        build: History, settings → lazy frame with client_id and numeric columns, at most one row per client.
        absent: value of every column for clients without a row (None = missing: imputed later).
        default: whether a recipe that names no families gets it; False for those that measured as dead weight.
    """

    name: str
    description: str
    build: Build
    absent: float | None
    default: bool = True


FAMILIES: Registry[Family] = Registry("feature family")


def family(
    name: str, description: str, *, absent: float | None = None, default: bool = True
) -> Callable[[Build], Build]:
    """Decorator that registers a family; see `Family` for the arguments."""

    def register(build: Build) -> Build:
        FAMILIES.add(name, Family(name, description, build, absent, default))
        return build

    return register


def default_families() -> list[str]:
    """Names of the families that a recipe gets when it names none."""
    return [name for name, item in load_families().items() if item.default]


@cache
def load_families() -> Registry[Family]:
    """All families of this folder, imported on first use."""
    import_modules("kit.features")
    return FAMILIES
