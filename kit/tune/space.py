"""Search spaces: a recipe whose leaves may be ranges or choices, and a `[search]` table that says how to search.

    [search]                 every key has a default; `kit tune --help` shows an example
    [blocks.als_url]
    on = { choices = [true, false], default = true }    the whole block is there or not
    weight = { low = 0.1, high = 2.0, log = true, default = 1.0 }

With all leaves at one value each it is a plain recipe, read by the same schema (`kit.recipe`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field, PlainSerializer, PlainValidator, field_validator, model_validator

from kit.blocks.base import make_block
from kit.errors import KitError, nearest
from kit.plugins import use_plugins
from kit.recipe import Recipe, Strict, parse, shipped
from kit.store import digest
from kit.tasks import CHALLENGE, Task, find_task
from kit.tune.leaves import ABSENT, Leaf, Pick, Scalar, as_leaf

SWITCH: Final = "on"
"""Key of a block's table that says whether the block is there at all."""
FREE: Final = {"sampler", "startup", "pruner", "prune_epochs", "seed", "official_precision", "official_seeds"}
"""Keys of the search table that may change from run to run: they decide which trials are run, not what one is worth."""
Goal = Literal["score", "seconds", "width"]


def _named(value: object) -> Task:
    """The task of a name; pydantic wants a ValueError."""
    try:
        return value if isinstance(value, Task) else find_task(str(value))
    except KitError as error:
        raise ValueError(str(error)) from error


NamedTask = Annotated[Task, PlainValidator(_named), PlainSerializer(lambda task: task.name)]


class Search(Strict):
    """The `[search]` table."""

    tasks: tuple[NamedTask, ...] = Field(
        CHALLENGE, min_length=1, description="Tasks that count; undefined ones are skipped."
    )
    probe: str = Field("fast", description="The probe that steers: fast, gbm or official.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the probe's matrix products.")
    seeds: int = Field(1, ge=1, description="Probe runs per task and trial.")
    noise_seeds: int = Field(5, ge=2, description="Probe runs of the reference that the tasks' noise is measured from.")
    gain: Literal["zscore", "sum", "borda"] = Field(
        "zscore",
        description="Mean gain over the reference in units of seed noise; sum of scores; Borda against stored submissions.",
    )
    noise: Literal["seeds", "clients"] = Field(
        "seeds",
        description="What a z-score is measured in: the wobble of the probe's start, or that and the chance of having these "
        "clients and not others; the second weighs tasks by what would hold on other clients.",
    )
    goals: tuple[Goal, ...] = Field(("score",), min_length=1, description="More than one: a Pareto front.")
    reference: str = Field("defaults", description="The recipe's own defaults, another recipe, or a submission folder.")
    against: tuple[str, ...] = Field((), description="Submission folders to compete with when gain = `borda`.")
    sampler: Literal["tpe", "random", "grid", "cmaes"] = "tpe"
    startup: int = Field(10, ge=1, description="Random trials before the sampler learns.")
    pruner: Literal["wilcoxon", "median", "none"] = Field(
        "wilcoxon",
        description="Stop a trial between tasks and seeds: paired against the best trial, or under the median.",
    )
    prune_epochs: bool = Field(
        False,
        description="Stop training that validates in the lowest quarter of earlier trials at the same epoch; for "
        "spaces in which nothing changes what validation means.",
    )
    seed: int = Field(0, ge=0, description="Of the sampler.")
    official_precision: Literal["fp32", "bf16"] = Field("fp32", description="For re-scoring with the official probe.")
    official_seeds: int = Field(
        1,
        ge=1,
        description="Runs per task of that re-scoring; those after the first read the rows in other random orders, whose noise "
        "is larger than most gains.",
    )

    @field_validator("goals", "tasks")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("lists something twice")
        return values

    @model_validator(mode="after")
    def _sound(self) -> Search:
        if self.gain == "borda" and not self.against:
            raise ValueError('gain = "borda" needs `against`: the submissions to compete with')
        if "score" not in self.goals:
            raise ValueError("goals must include score")
        return self


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        raw: the recipe's tables with leaves in them, without `[search]`.
        search: how to search.
        text: the file as it was read.
        where: its name, for messages.
    """

    raw: Mapping[str, Any]
    search: Search
    text: str
    where: str

    @property
    def name(self) -> str:
        """The recipe's name: also the study's."""
        return str(self.raw["name"])

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides what a trial means; comments and the sampler do not."""
        how = self.search.model_dump(mode="json", exclude=FREE)
        # The median pruner is told running means, the other one gains: neither can go on with what the other left.
        reports = "means" if self.search.pruner == "median" else "gains"
        return digest([{key: value for key, value in self.raw.items() if key != "description"}, how, reports])

    def recipe(self, pick: Pick) -> Recipe:
        """The plain recipe with values from `pick`."""
        return parse(Recipe, self.tables(pick), self.where)

    def tables(self, pick: Pick) -> dict[str, Any]:
        """The plain recipe as tables."""
        return _fill(self.raw, (), pick)

    def parameters(self) -> dict[str, BaseDistribution]:
        """Every parameter that may be asked for, in order, conditional ones included."""
        seen: dict[str, BaseDistribution] = {}
        for path, leaf in leaves(self.raw):
            leaf.draw(".".join(path), lambda name, dist, _: _note(seen, name, dist))
        return seen


def defaults(_name: str, _distribution: BaseDistribution, default: Scalar) -> Scalar:
    """A Pick that takes every default."""
    return default


def from_params(params: Mapping[str, Any]) -> Pick:
    """A Pick that takes the values of a stored trial."""
    return lambda name, _distribution, _default: params[name]


def from_trial(trial: optuna.Trial) -> Pick:
    """A Pick that asks a running trial's sampler."""

    def pick(name: str, distribution: BaseDistribution, default: Scalar) -> Scalar:
        if isinstance(distribution, CategoricalDistribution):
            chosen: Scalar = trial.suggest_categorical(name, distribution.choices)  # type: ignore[assignment]
            return chosen
        if isinstance(distribution, IntDistribution):
            low, high = distribution.low, distribution.high
            return trial.suggest_int(name, low, high, step=distribution.step, log=distribution.log)
        assert isinstance(distribution, FloatDistribution)
        low_, high_ = distribution.low, distribution.high
        return trial.suggest_float(name, low_, high_, step=distribution.step, log=distribution.log)

    return pick


def default_params(space: Space) -> dict[str, Scalar]:
    """Parameters of the first trial: the defaults of every key that the defaults ask for."""
    params: dict[str, Scalar] = {}

    def pick(name: str, _distribution: BaseDistribution, default: Scalar) -> Scalar:
        params[name] = default
        return default

    space.tables(pick)
    return params


def read_space(path: Path, overrides: Mapping[str, Any] | None = None) -> Space:
    """Read and check a search space: the defaults and both ends of every leaf must be valid recipes.

    Args:
        path: pipelines/tune/….toml; a plain recipe is an error, since there is nothing to search.
        overrides: keys of `[search]` given elsewhere (the command line).

    Raises:
        KitError: missing file, TOML syntax, unknown or ill-typed key (names the nearest), nothing to search.
    """
    path = shipped(path)
    if not path.is_file():
        beside = sorted(str(p) for p in Path("pipelines/tune").glob("*.toml"))
        raise KitError(f"There is no search space {str(path)!r};", nearest(str(path), beside))
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise KitError(f"{path} is not text ({error}).", "A search space is a TOML file.") from error
    return parse_space(text, str(path), overrides)


def _use_plugins(modules: object, where: str) -> None:
    """Before `[search]` is read, which may name a plugin's task; what is no list of names is the recipe's schema's to refuse."""
    if isinstance(modules, list) and all(isinstance(name, str) for name in modules):
        use_plugins(modules, where, [Path(where).parent] if Path(where).is_file() else [])


def parse_space(text: str, where: str, overrides: Mapping[str, Any] | None = None) -> Space:
    """`read_space` for text at hand."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KitError(f"{where} is not valid TOML: {error}.", "Mend the line and run again.") from error
    table = raw.pop("search", {})
    if not isinstance(table, dict):
        raise KitError(f"{where}: search is not a table.", "Write it as [search].")
    _use_plugins(raw.get("plugins"), where)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    space = Space(raw, parse(Search, table | given, f"{where} [search]"), text, where)
    found = list(leaves(raw))
    if not found:
        raise KitError(
            f"{where} has nothing to search: no value in it is a range or a choice.",
            "Write e.g. `weight = { low = 0.1, high = 2.0, default = 1.0 }`, or use one of pipelines/tune/.",
        )
    _check_switches(space)
    _check(space, defaults)
    for leaf_path, leaf in found:
        for corner in leaf.corners() if leaf_path[-1] != SWITCH else ():
            _check(space, _everything_on, {leaf_path: corner})
    return space


def leaves(raw: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    """(path, leaf) for every leaf under a table, in the file's order, switches of blocks first."""
    for key in sorted(raw, key=lambda key: key != SWITCH):
        leaf = as_leaf(raw[key], ".".join((*path, key)))
        if leaf is not None:
            yield (*path, key), leaf
        elif isinstance(raw[key], dict):
            yield from leaves(raw[key], (*path, key))


def _fill(
    node: Mapping[str, Any], path: tuple[str, ...], pick: Pick, fixed: Mapping[tuple[str, ...], Any] | None = None
) -> dict[str, Any]:
    """A table with every leaf replaced by its value; blocks that are switched off are left out."""
    out: dict[str, Any] = {}
    for key, value in node.items():
        here = (*path, key)
        leaf = as_leaf(value, ".".join(here))
        if fixed and here in fixed:
            out[key] = fixed[here]
        elif leaf is not None:
            drawn = leaf.draw(".".join(here), pick)
            if drawn != ABSENT or not leaf.absent:
                out[key] = drawn
        elif isinstance(value, dict):
            if path == ("blocks",) and SWITCH in value:
                switch = as_leaf(value[SWITCH], ".".join((*here, SWITCH)))
                if not (switch.draw(".".join((*here, SWITCH)), pick) if switch else value[SWITCH]):
                    continue
                value = {inner: value[inner] for inner in value if inner != SWITCH}  # noqa: PLW2901
            filled = _fill(value, here, pick, fixed)
            if filled or not value:  # a table whose every key was left out is left out too
                out[key] = filled
        else:
            out[key] = value
    return out


def _everything_on(name: str, _distribution: BaseDistribution, default: Scalar) -> Scalar:
    return True if name.endswith((f".{SWITCH}", ".given")) else default


def _check(space: Space, pick: Pick, fixed: Mapping[tuple[str, ...], Any] | None = None) -> None:
    """The recipe and its blocks' settings are valid with these values."""
    recipe = parse(Recipe, _fill(space.raw, (), pick, fixed), space.where)
    for name, entry in recipe.blocks.items():
        make_block(name, entry, recipe.seed)


def _check_switches(space: Space) -> None:
    """A block that another one is `like` must stay: without it there would be nothing to be like."""
    blocks = space.raw.get("blocks", {})
    for name, table in blocks.items():
        like = table.get("like") if isinstance(table, dict) else None
        if isinstance(like, str) and isinstance(blocks.get(like), dict) and SWITCH in blocks[like]:
            raise KitError(
                f"{space.where}: block {name!r} is like {like!r}, which can be switched off.",
                f"Give {name!r} its own kind and settings, or take `on` away from {like!r}.",
            )


def _note(seen: dict[str, BaseDistribution], name: str, distribution: BaseDistribution) -> Scalar:
    """A Pick that remembers what it was asked, and lets every condition hold."""
    seen[name] = distribution
    if isinstance(distribution, CategoricalDistribution):
        first: Scalar = distribution.choices[0]  # type: ignore[assignment]
        return first
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    return distribution.low
