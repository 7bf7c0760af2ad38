"""Settings of how files of text are written: their encoding, and what parts their columns."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator


def as_of_old(values: Mapping[str, Any], new: Collection[str]) -> dict[str, Any]:
    """Settings without those of the `new` ones that are not set, so that keys of results stay as they were."""
    return {name: value for name, value in values.items() if value is not None or name not in new}


def _known(encoding: str | None) -> str | None:
    if encoding is None:
        return None
    try:
        "a".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        raise ValueError(f"no encoding of text is called {encoding!r}; such are utf-16, cp1252, latin-1") from None


def _one_character(delimiter: str | None) -> str | None:
    if delimiter is None:
        return None
    if len(delimiter) != 1 or delimiter.isalnum() or delimiter in '"\r\n':
        raise ValueError(f"one character parts columns, such as ';', '|' or \"\\t\"; found {delimiter!r}")
    return delimiter


Encoding = Annotated[str | None, AfterValidator(_known)]
Delimiter = Annotated[str | None, AfterValidator(_one_character)]
