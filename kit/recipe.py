"""Recipes: the strict schema of `pipelines/*.toml`. One file names blocks and settings: one file = one submission."""

from __future__ import annotations

import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from kit.challenge import MAX_WIDTH
from kit.errors import KitError, nearest
from kit.plugins import use_plugins

Model = TypeVar("Model", bound=BaseModel)
Scale = Literal["none", "quantile", "standard", "signed-log"]


class Over(ABC):
    """Marks a setting (in its `Annotated`) whose value is laid over its default in a way of its own."""

    @abstractmethod
    def over(self, default: Any, value: Any) -> Any:  # noqa: ANN401
        """What is to be validated, from the default and the value given."""


class Strict(BaseModel):
    """Base of every schema in a recipe: an unknown key and a number that is not finite are errors, values do not change after
    reading.

    A table that names some keys of a nested schema leaves the others as they would be without it: `train.epochs = 2` keeps the
    learning rate of the block that it stands in, not that of any other.

    Attributes:
        moved: keys of earlier versions → where the setting is now.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    moved: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _siblings_stay(cls, values: Any) -> Any:  # noqa: ANN401 - whatever is to be validated
        if not isinstance(values, Mapping):
            return values
        for name in values:
            if name in cls.moved:
                raise PydanticCustomError(
                    "moved", "the key '{old}' is now {new}", {"old": name, "new": cls.moved[name]}
                )
        given = {name: field for name, field in cls.model_fields.items() if name in values}
        return {**values, **{name: laid_over(field, field.default, values[name]) for name, field in given.items()}}


def laid_over(field: FieldInfo, default: Any, value: Any) -> Any:  # noqa: ANN401
    """The value of a field with what it does not name as in the default."""
    for item in field.metadata:
        if isinstance(item, Over):
            return item.over(default, value)
    return over(default, value) if isinstance(default, Strict) and isinstance(value, Mapping) else value


def over(default: Strict, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `default`, with those given in their place, level by level."""
    fields = type(default).model_fields
    merged: dict[str, Any] = {name: getattr(default, name) for name in fields}
    for name, value in values.items():
        merged[name] = laid_over(fields[name], merged[name], value) if name in fields else value
    return merged


class BlockEntry(BaseModel):
    """One `[blocks.<name>]` table: how its numbers enter the profile. All other keys are the block's own settings.

    Order of treatment: columns scaled, missing values imputed, PCA, row L2, unit RMS, weight.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    kind: str = Field("", description="Which block to run; an unknown one lists the known kinds.")
    like: str = Field(
        "", description="Instead of `kind`: another entry whose block and settings this one shares, run once."
    )
    uses: tuple[str, ...] = Field(
        (), description="Other entries whose output the block learns from; for the kinds that do (`stack`)."
    )
    profile: bool = Field(
        True, description="false: no columns of its own in the profile, as it is there for the entries that use it."
    )
    columns: tuple[str, ...] = Field(
        (), description="Keep only columns that match one of these patterns (`forecast_*`)."
    )
    scale: Scale = Field(
        "none", description="Per column: quantile → uniform in [-1, 1]; standard → z-score; signed-log."
    )
    pca: int | None = Field(None, ge=1, description="Reduce to this many components after scaling; none if absent.")
    row_l2: bool = Field(False, description="Divide each row of the block by its L2 norm.")
    unit_rms: bool = Field(
        False, description="Divide the whole block by its root mean square: components keep their proportions."
    )
    weight: float = Field(1.0, gt=0, description="Multiplier of the block's columns: its share in the unscaled probe.")
    flags: bool = Field(False, description="Add a 0/1 column for each pattern of missing values.")

    def settings(self) -> dict[str, Any]:
        """The block's own settings: whatever is not one of the keys above."""
        return dict(self.model_extra or {})


class Assembly(Strict):
    """How the scaled blocks become one matrix."""

    pca: int | None = Field(None, ge=1, le=MAX_WIDTH, description="Reduce all blocks together to this many columns.")
    row_norm: float | None = Field(None, gt=0, description="Scale every whole row to this L2 norm; none if absent.")
    clip: float = Field(
        6.0,
        gt=0,
        le=60_000,
        description="Values are clipped to ± clip (float16 overflows at 65,504); where that cuts more than .1 % of a block's "
        "values, it is said.",
    )


NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Of recipes and submissions: one folder under submissions/."""


class Recipe(Strict):
    """A submission's whole description."""

    name: str = Field(pattern=NAME, description="Folder name under submissions/.")
    description: str = ""
    plugins: tuple[str, ...] = Field(
        (),
        description="Modules that bring parts of your own (blocks, families …), imported before any of them is looked up: from "
        "what is installed or on PYTHONPATH, the recipe's folder, the working directory.",
    )
    seed: int = Field(0, ge=0, description="Seeds every block and the permutation of rows.")
    duplicates: Literal["keep", "drop"] = Field(
        "keep",
        description="Whether exact duplicates among a client's own events count as often as they occur (keep) or once (drop); "
        "popularity and the like count everybody's rows as they are.",
    )
    blocks: dict[str, BlockEntry] = Field(min_length=1)
    assembly: Assembly = Assembly()

    @field_validator("plugins")
    @classmethod
    def _import(cls, plugins: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Whoever holds a recipe can look its kinds up."""
        where = str((info.context or {}).get("where", "the recipe"))
        use_plugins(plugins, where, [Path(where).parent] if Path(where).is_file() else [])
        return plugins

    @field_validator("blocks")
    @classmethod
    def _resolve(cls, blocks: dict[str, BlockEntry]) -> dict[str, BlockEntry]:
        """Check names and replace `like` by the kind and the settings of the entry it names."""
        resolved = {}
        for name, entry in blocks.items():
            if not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"block name {name!r} may hold letters, digits, - and _ only")
            if bool(entry.kind) == bool(entry.like):
                raise ValueError(f"block {name!r} needs either `kind` or `like`")
            resolved[name] = _follow(name, entry, blocks) if entry.like else entry
        build_order(resolved)
        used = {other for entry in resolved.values() for other in entry.uses}
        if idle := [name for name, entry in resolved.items() if not entry.profile and name not in used]:
            raise ValueError(f"block {idle[0]!r} has profile = false, and no entry uses it")
        if not any(entry.profile for entry in resolved.values()):
            raise ValueError("every entry has profile = false: nothing would be in the profile")
        return resolved


def build_order(blocks: Mapping[str, BlockEntry]) -> list[str]:
    """Names of the entries, each after those that it uses, else in the order of the recipe.

    Raises:
        ValueError: an entry uses one that is not there, or itself by way of others; the message says which.
    """
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ValueError(f"blocks use each other in a circle: {' → '.join([*path[path.index(name) :], name])}")
        if name in order:
            return
        for other in blocks[name].uses:
            if other not in blocks:
                raise ValueError(f"block {name!r} uses {other!r}; {nearest(other, [n for n in blocks if n != name])}")
            visit(other, (*path, name))
        order.append(name)

    for name in blocks:
        visit(name, ())
    return order


def _follow(name: str, entry: BlockEntry, blocks: dict[str, BlockEntry]) -> BlockEntry:
    """`entry` with the kind and settings of the entry that it is like."""
    if entry.like not in blocks or not blocks[entry.like].kind:
        raise ValueError(
            f"block {name!r} is like {entry.like!r}; {nearest(entry.like, [n for n in blocks if blocks[n].kind])}"
        )
    if entry.settings():
        raise ValueError(
            f"block {name!r} is like {entry.like!r} and takes its settings from there: {sorted(entry.settings())}"
        )
    other = blocks[entry.like]
    if entry.uses:
        raise ValueError(f"block {name!r} is like {entry.like!r} and uses what that one uses: leave `uses` out")
    common = {key: getattr(entry, key) for key in BlockEntry.model_fields if key not in ("kind", "like", "uses")}
    return BlockEntry(kind=other.kind, uses=other.uses, **common, **other.settings())


def require_name(name: str) -> None:
    """KitError for a name that is not one folder's: a path, or words."""
    if not re.fullmatch(NAME, name):
        raise KitError(
            f"{name!r} is no name for a submission.", "Use letters, digits, dots, - and _; --out takes a path."
        )


SHIPPED = Path(__file__).parent / "pipelines"
"""The recipes that come with the kit; in a checkout a link to pipelines/."""


def shipped(path: Path) -> Path:
    """`path`, or for a bare name that is no file, such as `blend` or `tune/profile`, the recipe of that name that comes with the
    kit, so that an installed kit needs no checkout."""
    bare = path.name and not path.suffix and not path.is_absolute() and ".." not in path.parts
    named = SHIPPED / path.with_name(f"{path.name}.toml") if bare else path
    return named if not path.is_file() and named.is_file() else path


def recipe_file(path: Path) -> Path:
    """The file of a recipe, `shipped` ones by name.

    Raises:
        KitError: there is none; the nearest name is suggested.
    """
    found = shipped(path)
    if not found.is_file():
        beside = sorted({p.stem for folder in (Path("pipelines"), SHIPPED) for p in folder.glob("*.toml")})
        raise KitError(f"There is no recipe {str(path)!r};", nearest(path.stem, beside) + " (in pipelines/).")
    return found


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe: a file's, or one that comes with the kit by its name.

    Raises:
        KitError: missing file, TOML syntax, unknown or ill-typed key (the message names file, key and nearest valid key), or a
            plugin that cannot be imported.
    """
    path = recipe_file(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KitError(f"{path} is not valid TOML: {error}.", "Mend the line and run again.") from error
    return parse(Recipe, raw, str(path))


def parse(model: type[Model], raw: dict[str, Any], where: str, also: Iterable[str] = ()) -> Model:
    """Validate `raw` against `model`; KitError naming the key, the value found and the nearest valid key, of those `also` that
    another schema takes beside them."""
    try:
        return model.model_validate(raw, context={"where": where})
    except ValidationError as error:
        # An unknown key first: the required one that it was meant to be would only be reported as missing.
        first = min(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"]) or "(top)"
        if first["type"] == "extra_forbidden":
            known = first.get("ctx", {}).get("known") or keys_beside(model, first["loc"])
            beside = also if len(first["loc"]) == 1 else ()
            hint = nearest(str(first["loc"][-1]), [*known, *beside]) if known else ""
            raise KitError(f"{where}: the key {key!r} is unknown;", hint) from error
        found = "" if first["type"] in ("missing", "moved") else f" (found {first['input']!r})"
        raise KitError(f"{where}: {key}: {first['msg']}{found}.", "Mend it and run again.") from error


def keys_beside(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The valid keys beside the (unknown) key at `path`; none where any key is valid."""
    owner = _model_at(model, path[:-1])
    return list(owner.model_fields) if owner else []


def _model_at(model: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel] | None:
    """The schema that owns the key at `path`, to name its valid keys. Walks through dict[…], list[…] and unions."""
    inside: Any = model
    for part in path:
        owner = schema_in(inside)
        if owner is not None:
            field = owner.model_fields.get(str(part))
            inside = None if field is None else field.annotation
        else:  # a key of a dict or an index of a list
            inside = (get_args(inside) or (None,))[-1]
    return schema_in(inside)


def schema_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401
    """The schema that an annotation stands for: itself, or the one member of a union such as Time | None."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    union = get_origin(annotation) in {Union, UnionType}
    return next((found for part in get_args(annotation) if union and (found := schema_in(part))), None)
