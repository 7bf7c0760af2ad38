"""The base class of settings, how plain values are checked, and the identity that is part of the keys of results.

An identity leaves out settings that have their default, so that adding a setting does not change existing keys, and
settings can be restored from an identity. The default must therefore be the behaviour from before the setting existed,
and must never change. To give new recipes another value, use `changed_default`; reading a recipe fills it in. The
discriminator of a union has no default and is always included.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from data_prep.errors import UserError, choices

NOW = "now"

Model = TypeVar("Model", bound=BaseModel)


class Settings(BaseModel):
    """Base class that rejects unknown keys and implicit conversions; a docstring below a field describes it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)


@cache
def described_fields(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The fields of settings; the `description` of each is the docstring below it, unless `Field` gives one.

    Read when somebody asks: Pydantic (`use_attribute_docstrings`) would parse the source of every class whenever a
    process starts, which is a third of the time that a recipe takes to import.
    """
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            texts |= _docstrings(base)
    fields = {name: copy(field) for name, field in model.model_fields.items()}
    for name, field in fields.items():
        field.description = field.description or texts.get(name)
    return fields


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """By field; none where a class has no source, being made at run time."""
    try:
        source = inspect.getsource(model)
    except OSError:
        return {}
    [definition] = ast.parse(textwrap.dedent(source)).body
    found: dict[str, str] = {}
    for field, below in pairwise(definition.body if isinstance(definition, ast.ClassDef) else ()):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found


class Belongs(NamedTuple):
    """What else must be set for a setting to have an effect. Classes declare it by field, as `belongs`.

    to: the other setting, in words. holds: whether it is set so, in settings of that class.
    """

    to: str
    holds: Callable[[Any], bool]


def without_effect(settings: BaseModel, path: str = "") -> Iterator[str]:
    """A sentence for each setting that was given, differs from its default, and has no effect beside the others."""
    belongs: Mapping[str, Belongs] = getattr(type(settings), "belongs", {})
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        is_given = name in settings.model_fields_set and not _is_unused(field, value)
        if is_given and name in belongs and not belongs[name].holds(settings):
            shown = value if isinstance(value, str) else json.dumps(value)
            yield f"{path}{name}: {shown} has no effect, as it belongs to {belongs[name].to}"
        for inner_path, inner in _inner(value, f"{path}{name}."):
            yield from without_effect(inner, inner_path)


def _inner(value: Any, path: str) -> Iterator[tuple[str, BaseModel]]:
    """Settings in a value, with the path that their names follow."""
    if isinstance(value, BaseModel):
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        yield from _inner(item, f"{path}{key}.")


def changed_default(default: Any, now: Any, **rules: Any) -> Any:
    """A field with the value `now` in recipes that leave it out; `default` is its value in identities without it."""
    return Field(default=default, json_schema_extra={NOW: now}, **rules)


def with_new_defaults(settings: Model) -> Model:
    """A recipe's settings, with omitted ones set to the current defaults."""
    updates = {}
    for name, field in type(settings).model_fields.items():
        extra, value = field.json_schema_extra, getattr(settings, name)
        if isinstance(extra, Mapping) and NOW in extra and name not in settings.model_fields_set:
            updates[name] = extra[NOW]
        elif (renewed := _renewed(value)) is not value:
            updates[name] = renewed
    return settings.model_copy(update=updates) if updates else settings


def _renewed(value: Any) -> Any:
    """`value` with current defaults; the same object if nothing changes."""
    if isinstance(value, BaseModel):
        return with_new_defaults(value)
    if isinstance(value, list | tuple):
        items = [_renewed(item) for item in value]
        return type(value)(items) if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        renewed = {name: _renewed(item) for name, item in value.items()}
        return renewed if any(renewed[name] is not item for name, item in value.items()) else value
    return value


def checked(kind: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """`values` as a `kind`; UserError names the first key that is wrong, as `where.key`."""
    known_keys = ", ".join(sorted(kind.model_fields))
    unknown = sorted(set(values) - set(kind.model_fields))
    if unknown:
        raise UserError(f"{where}.{unknown[0]}: unknown key; {choices(unknown[0], sorted(kind.model_fields))}")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        first = problems[0]
        if not first["loc"]:  # settings that do not fit each other
            raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}.") from None
        name = first["loc"][0]
        path = ".".join([where, str(name), *(str(part) for part in first["loc"][1:] if isinstance(part, int))])
        if first["type"] == "missing":
            raise UserError(f"{path}: missing; set it (known keys: {known_keys}).") from None
        # Of a union, every member's message.
        texts = [problem["msg"].removeprefix("Value error, ") for problem in problems if problem["loc"][0] == name]
        messages = dict.fromkeys(text[0].lower() + text[1:] for text in texts)
        raise UserError(f"{path}: found {first['input']!r}; {', or '.join(messages)}.") from None


def identity(settings: BaseModel, without: Collection[str] = ()) -> dict[str, Any]:
    """The settings that differ from their defaults, as plain values, except for the fields `without`."""
    values = settings.model_dump(mode="json")
    return {
        name: _plain(getattr(settings, name), values[name])
        for name, field in type(settings).model_fields.items()
        if name not in without and not _is_unused(field, getattr(settings, name))
    }


def _is_unused(field: Any, value: Any) -> bool:
    default = field.get_default(call_default_factory=True)
    return default is not PydanticUndefined and value == default and type(value) is type(default)


def _plain(value: Any, plain: Any) -> Any:
    if isinstance(value, BaseModel):
        return identity(value)
    if isinstance(value, list | tuple):
        return [_plain(*pair) for pair in zip(value, plain, strict=True)]
    if isinstance(value, dict):
        return {name: _plain(item, plain[name]) for name, item in value.items()}
    return plain
