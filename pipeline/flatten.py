"""Nested settings by dotted path: `{"train": {"lr": 0.1}}` is `{"train.lr": 0.1}`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def join(above: str, name: str) -> str:
    """`above.name`, or `name` at the top."""
    return f"{above}.{name}" if above else name


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """`{"train.lr": 0.1, "downstream.0.seeds": 5, …}`: lists of scalars and empty sections stay whole."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
        items = enumerate(value)
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for name, item in items:
        flat.update(flatten(item, join(path, str(name))))
    return flat
