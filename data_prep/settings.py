"""The base of all settings, and what of them makes a result what it is.

A setting is left out of an identity if it has the value that it had before there was such a setting: so adding one
leaves the keys of what was made before, and settings that are read from an identity are the ones that it was made of.
That value is the field's default, for ever. Where recipes are to have another one from now on, `changed_default` says
so, and reading a recipe puts it in. What tells the branches of a union apart has no default and is always in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticUndefined

NOW = "now"

Model = TypeVar("Model", bound=BaseModel)


class Settings(BaseModel):
    """Unknown keys and silent conversions are refused; a sentence under a field describes it."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_default=True, use_attribute_docstrings=True
    )


def changed_default(default: Any, now: Any, **rules: Any) -> Any:
    """A field that recipes leave at `now`; `default` is what its absence meant when there was no such setting."""
    return Field(default=default, json_schema_extra={NOW: now}, **rules)


def with_new_defaults(settings: Model) -> Model:
    """A recipe's settings, those it leaves out at the defaults of today."""
    updates = {}
    for name, field in type(settings).model_fields.items():
        extra, value = field.json_schema_extra, getattr(settings, name)
        if isinstance(extra, Mapping) and NOW in extra and name not in settings.model_fields_set:
            updates[name] = extra[NOW]
        elif (renewed := _renewed(value)) is not value:
            updates[name] = renewed
    return settings.model_copy(update=updates) if updates else settings


def _renewed(value: Any) -> Any:
    """The value itself where nothing in it changes."""
    if isinstance(value, BaseModel):
        return with_new_defaults(value)
    if isinstance(value, list | tuple):
        items = [_renewed(item) for item in value]
        return type(value)(items) if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        renewed = {name: _renewed(item) for name, item in value.items()}
        return renewed if any(renewed[name] is not item for name, item in value.items()) else value
    return value


def identity(settings: BaseModel, without: Collection[str] = ()) -> dict[str, Any]:
    """The settings that differ from what they were before they existed, as plain values, but for fields `without`."""
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
