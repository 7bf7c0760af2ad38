"""The base of all settings, and what of them makes a result what it is.

A setting is left out of an identity if it has the value that it had before there was such a setting: so adding one
leaves the keys of what was made before. That value is the field's default, or what `unused` names where the default
was changed later. What tells the branches of a union apart has no default and is always in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticUndefined

UNUSED = "unused"


class Settings(BaseModel):
    """Unknown keys and silent conversions are refused; a sentence under a field describes it."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_default=True, use_attribute_docstrings=True
    )


def changed_default(default: Any, unused: Any, **rules: Any) -> Any:
    """A field whose default is no longer the value that stood for it before: `unused` is."""
    return Field(default=default, json_schema_extra={UNUSED: unused}, **rules)


def identity(settings: BaseModel, without: Collection[str] = ()) -> dict[str, Any]:
    """The settings that differ from what they were before they existed, as plain values, but for fields `without`."""
    values = settings.model_dump(mode="json")
    return {
        name: _plain(getattr(settings, name), values[name])
        for name, field in type(settings).model_fields.items()
        if name not in without and not _is_unused(field, getattr(settings, name), values[name])
    }


def _is_unused(field: Any, value: Any, plain: Any) -> bool:
    extra = field.json_schema_extra
    if isinstance(extra, Mapping) and UNUSED in extra:
        return plain == extra[UNUSED] and type(plain) is type(extra[UNUSED])
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
