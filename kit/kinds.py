"""Registered parts in a recipe: one chosen by its `kind`, or several by name, each checked by the settings that it brings itself.

    encoder: Annotated[EncoderSettings, OneOf(ENCODERS)] = TransformerSettings(layers=2)
    heads: Annotated[dict[str, HeadSettings | Literal[False]], TableOf(HEADS)] = Field({"intensity": IntensitySettings()})

In a recipe: `encoder = { kind = "gru", layers = 1 }`, or `encoder = "gru"`; `heads = { intensity = { weights = { far = 2 } } }`,
and `heads.contrast = false` leaves one out. Which kinds there are is asked when a recipe is read, so that parts from outside
the kit are known by then. Naming one key, or one part, never resets the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from kit.errors import nearest
from kit.recipe import Over, Strict, keys_beside, over
from kit.registry import Registry

UNKNOWN = "extra_forbidden"
"""Pydantic's word for an unknown key; ours carries the keys that are known, which only the part's own schema knows."""


class Configurable(Protocol):
    """What a registry must hold for its parts to be chosen in recipes: classes with settings of their own."""

    kind: ClassVar[str]
    description: ClassVar[str]
    Settings: ClassVar[type[Strict]]


AnyPart = TypeVar("AnyPart", bound=type[Any])


@dataclass(frozen=True)
class OneOf(Over):
    """Marks a setting that is one registered part: a table with `kind` and the part's own keys, or the kind alone.

    Attributes:
        registry: of the parts.
    """

    registry: Registry[Any]

    def kinds(self) -> dict[str, type[Strict]]:
        """The schema of each kind."""
        return {kind: part.Settings for kind, part in self.registry.loaded().items()}

    def over(self, default: Any, value: Any) -> Any:  # noqa: ANN401
        """The table, with what it leaves out as in the default: all of it for the same kind, for another kind those keys that
        the default sets and that the other kind has too (such as a length that all encoders have)."""
        table = {"kind": value} if isinstance(value, str) else value
        if not isinstance(table, Mapping) or not isinstance(default, Strict):
            return table
        own = str(getattr(default, "kind", ""))
        kind = table.get("kind", own)
        if kind == own:
            return over(default, table)
        schema = self.kinds().get(kind)
        fields = schema.model_fields if schema else {}
        shared = {
            name: getattr(default, name) for name in default.model_fields_set if name in fields and name != "kind"
        }
        return {**shared, **table}

    def validate(self, value: Any) -> Strict:  # noqa: ANN401
        """Settings of the kind that is named."""
        if isinstance(value, Strict):
            self._schema(getattr(value, "kind", None))
            return value
        if not isinstance(value, Mapping):
            raise ValueError("this is a table with a `kind`, or the kind alone")
        return checked(self._schema(value.get("kind")), value)

    def _schema(self, kind: object) -> type[Strict]:
        parts = self.registry.loaded()
        if kind is None:
            raise ValueError(f"`kind` is needed; {nearest('', parts)}")
        if kind not in parts:
            raise ValueError(f"there is no {parts.noun} called {kind!r}; {nearest(str(kind), parts)}")
        schema: type[Strict] = parts[str(kind)].Settings
        return schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:  # noqa: ANN401
        dump = core_schema.plain_serializer_function_ser_schema(
            lambda value, info: value.model_dump(mode=info.mode), info_arg=True
        )
        return core_schema.no_info_plain_validator_function(self.validate, serialization=dump)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        variants = [handler(cls.__pydantic_core_schema__) for cls in self.kinds().values()]
        return {"anyOf": [{"enum": list(self.kinds())}, *variants]}


@dataclass(frozen=True)
class TableOf(Over):
    """Marks a setting that is several registered parts: a table of name → the part's own keys, `true`, or `false` = left out.

    Attributes:
        registry: of the parts.
        settled: whether only parts that have settings of their own may be named.
    """

    registry: Registry[Any]
    settled: bool = False

    def kinds(self) -> dict[str, type[Strict]]:
        """The schema of each part."""
        known = {kind: part.Settings for kind, part in self.registry.loaded().items()}
        return {kind: schema for kind, schema in known.items() if schema.model_fields or not self.settled}

    def over(self, default: Any, value: Any) -> Any:  # noqa: ANN401
        """All parts of the default, with those given in their place, key by key."""
        if not isinstance(value, Mapping) or not isinstance(default, Mapping):
            return value
        merged: dict[str, Any] = dict(default)
        for name, given in value.items():
            inner = default.get(name)
            if isinstance(inner, Strict) and isinstance(given, Mapping):
                merged[name] = over(inner, given)
            else:
                merged[name] = (inner or {}) if given is True else given
        return merged

    def validate(self, value: Any) -> dict[str, Any]:  # noqa: ANN401
        """Settings by name."""
        if not isinstance(value, Mapping):
            raise ValueError("this is a table of parts by name")
        kinds, found, wrong = self.kinds(), {}, []
        for name, given in value.items():
            if name not in kinds:
                wrong.append(InitErrorDetails(type=_unknown(kinds), loc=(name,), input=given))
            elif given is False or isinstance(given, Strict):
                found[name] = given
            elif not isinstance(given, Mapping) and given is not True:
                what = PydanticCustomError("part", "this is a table, true or false")
                wrong.append(InitErrorDetails(type=what, loc=(name,), input=given))
            else:
                try:
                    found[name] = checked(kinds[name], {} if given is True else given)
                except ValidationError as error:
                    wrong += [_again(item, (name, *item["loc"])) for item in error.errors(include_url=False)]
        if wrong:
            raise ValidationError.from_exception_data("parts", wrong)
        return found

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:  # noqa: ANN401
        dump = core_schema.plain_serializer_function_ser_schema(
            lambda value, info: {name: part and part.model_dump(mode=info.mode) for name, part in value.items()},
            info_arg=True,
        )
        return core_schema.no_info_plain_validator_function(self.validate, serialization=dump)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        tables = {
            name: {"anyOf": [{"type": "boolean"}, handler(cls.__pydantic_core_schema__)]}
            for name, cls in self.kinds().items()
        }
        return {"type": "object", "properties": tables, "additionalProperties": False}


class Numbers(Over):
    """Marks a table of numbers whose names are fixed by its default: those that are not given stay."""

    def over(self, default: Any, value: Any) -> Any:  # noqa: ANN401
        """The default's entries with those given in their place."""
        return {**default, **value} if isinstance(value, Mapping) and isinstance(default, Mapping) else value


def checked(schema: type[Strict], value: Mapping[str, Any]) -> Strict:
    """`value` as settings; an unknown key's error holds the keys that are known beside it.

    Raises:
        ValidationError: with places relative to `value`.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        items: list[Any] = error.errors(include_url=False)
        for item in items:
            if item["type"] == UNKNOWN and "known" not in item.get("ctx", {}):
                item["ctx"] = {"known": keys_beside(schema, item["loc"])}
        raise ValidationError.from_exception_data(
            schema.__name__, [_again(item, item["loc"]) for item in items]
        ) from None


def register(registry: Registry[Any], part: AnyPart) -> AnyPart:
    """Add a part under its `kind`.

    Raises:
        ValueError: the name is taken, or the part's settings have a `kind` that is another.
    """
    named = part.Settings.model_fields.get("kind")
    if named is not None and named.default != part.kind:
        raise ValueError(f"{registry.noun} {part.kind!r}: its settings say kind = {named.default!r}")
    registry.add(part.kind, part)
    return part


def chosen(table: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a table that are not left out."""
    return {name: settings for name, settings in table.items() if settings is not False}


def chosen_modules(settings: object) -> Iterator[str]:
    """Where the parts were written that settings choose, at any depth: their code decides what is made with these settings."""
    if isinstance(settings, BaseModel):
        for name, field in type(settings).model_fields.items():
            value = getattr(settings, name)
            for item in field.metadata:
                if isinstance(item, OneOf):
                    yield from item.registry.loaded().modules([value.kind])
                elif isinstance(item, TableOf):
                    yield from item.registry.loaded().modules(chosen(value))
            yield from chosen_modules(value)
    elif isinstance(settings, Mapping | list | tuple):
        for inner in settings.values() if isinstance(settings, Mapping) else settings:
            yield from chosen_modules(inner)


def _unknown(known: Any) -> PydanticCustomError:  # noqa: ANN401
    return PydanticCustomError(UNKNOWN, "The key is unknown", {"known": list(known)})


def _again(item: Any, loc: tuple[Any, ...]) -> InitErrorDetails:  # noqa: ANN401
    """An error that pydantic reported, at another place."""
    ctx = item.get("ctx", {})
    custom = "known" in ctx or item["type"] in ("part", "moved")
    kind = PydanticCustomError(item["type"], item["msg"].replace("{", "{{"), ctx) if custom else item["type"]
    return InitErrorDetails(type=kind, loc=loc, input=item["input"], ctx=ctx)
