"""Settings that arrive as plain values (`objective.options`, `network.config`), checked against their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from data_prep.errors import UserError
from training.config import Settings

T = TypeVar("T", bound=Settings)


def checked(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """`values` as a `kind`; UserError names the first key that is wrong, as `where.key`."""
    known = ", ".join(sorted(kind.model_fields))
    unknown = sorted(set(values) - set(kind.model_fields))
    if unknown:
        raise UserError(f"{where}.{unknown[0]}: unknown key; known are {known}.")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors(include_url=False)
        first, name = found[0], found[0]["loc"][0]
        path = ".".join([where, str(name), *(str(part) for part in first["loc"][1:] if isinstance(part, int))])
        if first["type"] == "missing":
            raise UserError(f"{path}: missing; set it (known keys: {known}).") from None
        told = {
            one["msg"][0].lower() + one["msg"][1:]: None for one in found if one["loc"][0] == name
        }  # of a union, all
        raise UserError(f"{path}: found {first['input']!r}; {', or '.join(told)}.") from None
