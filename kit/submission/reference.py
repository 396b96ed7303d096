"""The reference of recipes, written from the schemas that check them: it cannot be out of date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kit.blocks.base import BLOCKS
from kit.kinds import OneOf, TableOf
from kit.recipe import Assembly, BlockEntry, Recipe, schema_in

HEAD = """# Reference: recipes

Written by `python -m kit.cli.reference docs/reference` from the schemas that check recipes; do not edit. How to write
one, by example: [pipelines/README.md](../../pipelines/README.md).
"""


def recipe_reference() -> str:
    """All keys of a recipe as Markdown: top level, blocks in common, each kind of block, assembly."""
    parts = [HEAD, *_table("Top level", Recipe, without=("blocks", "assembly"))]
    parts += _table("`[blocks.NAME]`, every kind", BlockEntry)
    for kind, cls in BLOCKS.loaded().items():
        parts += [f'## `kind = "{kind}"`\n', f"{cls.description}\n"]
        parts.append(_lines(_rows(cls.Settings, None)))
    parts += _table("`[assembly]`", Assembly)
    return "\n".join(parts)


def _table(title: str, model: type[BaseModel], without: tuple[str, ...] = ()) -> list[str]:
    return [f"## {title}\n", _lines(row for row in _rows(model, None) if row.split("`")[1] not in without)]


def _lines(rows: Iterable[str]) -> str:
    found = list(rows)
    return (
        "\n".join(["| key | type | default | what it is |", "|---|---|---|---|", *found]) + "\n"
        if found
        else "No settings.\n"
    )


def _rows(model: type[BaseModel], values: BaseModel | None, prefix: str = "") -> Iterable[str]:
    """A row per key, nested ones dotted. `values`: the defaults that whoever nests this schema gives its keys."""
    for name, field in model.model_fields.items():
        default = getattr(values, name) if values is not None else field.get_default(call_default_factory=True)
        nested = schema_in(field.annotation)
        parts = next((item for item in field.metadata if isinstance(item, OneOf | TableOf)), None)
        if isinstance(parts, OneOf):
            yield from _kinds(f"{prefix}{name}.", parts, field, default)
        elif isinstance(parts, TableOf):
            yield from _parts(f"{prefix}{name}.", parts, default)
        elif nested is not None and model is not Recipe:
            yield from _rows(nested, default, f"{prefix}{name}.")
        else:
            yield _row(f"{prefix}{name}", field, default, needed=values is None and field.is_required())


def _kinds(prefix: str, parts: OneOf, field: FieldInfo, default: Any) -> Iterable[str]:  # noqa: ANN401
    """Rows of a setting that is one part: its kind, then the keys of each kind; those that kinds share are told once."""
    schemas = parts.kinds()
    about = field.description or ""
    yield f"| `{prefix}kind` | one of {', '.join(schemas)} | `{_plain(getattr(default, 'kind', None))}` | {about} |"
    told: dict[str, list[str]] = {}
    for kind, schema in schemas.items():
        shown = default if getattr(default, "kind", None) == kind else schema.model_validate(parts.over(default, kind))
        for row in _rows(schema, shown, prefix):
            if f"`{prefix}kind`" not in row:
                told.setdefault(row, []).append(kind)
    for row, kinds in told.items():
        which = "" if len(kinds) == len(schemas) else f"({', '.join(kinds)}) "
        head, end = row.removesuffix(" |").rsplit(" | ", 1)
        yield f"{head} | {which}{end} |"


def _parts(prefix: str, parts: TableOf, default: Any) -> Iterable[str]:  # noqa: ANN401
    """Rows of a setting that is several parts: each part, and its keys."""
    for name, schema in parts.kinds().items():
        own = default.get(name, False)
        about = parts.registry[name].description.replace("|", "\\|")
        yield f"| `{prefix}{name}` | table, true or false | `{_plain(own is not False)}` | {about} |"
        yield from _rows(schema, own or None, f"{prefix}{name}.")


def _row(name: str, field: FieldInfo, value: object, *, needed: bool) -> str:
    default = "needed" if needed else f"`{_plain(value)}`"
    limits = "".join(f", {text}" for item in field.metadata for text in _limits(item))
    about = (field.description or "").replace("|", "\\|")
    return f"| `{name}` | {_type(field.annotation)}{limits} | {default} | {about} |"


def _plain(value: Any) -> str:  # noqa: ANN401
    """A default as TOML would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_plain(item)}" for key, item in value.items()) + " }" if value else "{}"
    return str(value)


def _type(annotation: Any) -> str:  # noqa: ANN401
    """`int`, `list of str`, `one of a, b`: as one writes it in TOML."""
    origin, inside = (
        get_origin(annotation),
        [part for part in get_args(annotation) if part not in (type(None), Ellipsis)],
    )
    if origin is Annotated:
        limits = "".join(f" {text}" for item in annotation.__metadata__ for text in _limits(item))
        return _type(annotation.__origin__) + limits
    if origin is Literal:
        return "one of " + ", ".join(map(str, inside))
    if origin in (tuple, list, Sequence):
        return f"list of {_type(inside[0])}"
    if origin is dict:
        return f"table of {_type(inside[1])}"
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in inside)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return str(getattr(annotation, "__name__", annotation))


def _limits(item: object) -> list[str]:
    """`≥ 1`, from what pydantic keeps beside a type: itself, or a whole `Field`."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "pattern": "matches"}
    inside = item.metadata if isinstance(item, FieldInfo) else [item]
    return [
        f"{sign} {getattr(one, name)}"
        for one in inside
        for name, sign in signs.items()
        if getattr(one, name, None) is not None
    ]
