"""Settings that arrive as plain values (`objective.options`, `network.config`), checked against their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from data_prep.errors import UserError, choices
from data_prep.settings import Settings

T = TypeVar("T", bound=Settings)


def checked(kind: type[T], values: Mapping[str, Any], where: str) -> T:
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
        texts = [problem["msg"] for problem in problems if problem["loc"][0] == name]
        messages = dict.fromkeys(text[0].lower() + text[1:] for text in texts)
        raise UserError(f"{path}: found {first['input']!r}; {', or '.join(messages)}.") from None
