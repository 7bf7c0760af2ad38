"""Corruptions: from x to what a network sees (x′) and must predict (x″), as pure functions of rows and keyed draws.

`CORRUPTIONS` maps a kind to its module, which has `Config`, its settings, and `build(config, specials)`. Adding a
corruption is its file, one line here and a case in `tests/data_prep/corruptions/test_table.py`. It knows ids
and `Specials`: the special ids, and in `specials.texts` what every id spells. `sesame plan` builds it with specials
that are made up. Nothing here knows networks.

What an objective learns from is a corruption's `targets`, by the columns that it leaves:

    clean      `input` is x and x″; `seen`, where it is there, is x′
    sparse     `seen`, and what stood at `target_positions` (ids in `target_ids`; of frames, in `input`)
    sequence   `seen`, and a sequence of its own, `target_tokens`
    views      `input`, and the parameters of two views of it
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter

from data_prep.corruptions.base import Corruption, CorruptionConfig
from data_prep.shards.rows import Specials

CORRUPTIONS = {
    "none": "data_prep.corruptions.none",
    "masked-lm": "data_prep.corruptions.masking",
    "masked-spans": "data_prep.corruptions.masked_spans",
    "masked-slots": "data_prep.corruptions.slots",
    "spans": "data_prep.corruptions.spans",
    "bart": "data_prep.corruptions.bart",
    "mass": "data_prep.corruptions.mass",
    "masked-frames": "data_prep.corruptions.masked_frames",
    "gaussian": "data_prep.corruptions.noise",
    "masking": "data_prep.corruptions.noise",
    "salt-and-pepper": "data_prep.corruptions.noise",
    "views": "data_prep.corruptions.views",
}


@cache
def config_union() -> Any:
    """The settings of all corruptions as a pydantic union, discriminated by `kind`."""
    configs = tuple(import_module(module).Config for module in dict.fromkeys(CORRUPTIONS.values()))
    return Annotated[Union[configs], Field(discriminator="kind")]  # noqa: UP007 - of a tuple


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(config_union())


def config_of(values: Mapping[str, Any]) -> CorruptionConfig:
    """Settings from the plain values in a manifest or a recipe."""
    return _adapter().validate_python(values)


def written() -> set[str]:
    """The columns that any corruption writes."""
    return {column for module in CORRUPTIONS.values() for column in import_module(module).Config.writes}


def fitting(targets: Collection[str], items: str, columns: Collection[str] = ()) -> list[str]:
    """The kinds that accept `items` ("ids" or "values") as x, have one of `targets` as x″ and write all `columns`."""
    configs = {kind: import_module(module).Config for kind, module in CORRUPTIONS.items()}
    return [
        kind
        for kind, each in configs.items()
        if each.targets in targets and each.items in ("any", items) and set(columns) <= set(each.writes)
    ]


def build(config: CorruptionConfig, specials: Specials | None = None) -> Corruption:
    """The corruption with these settings. UserError if a special id that it needs is missing."""
    return import_module(CORRUPTIONS[config.kind]).build(config, specials)


__all__ = ["CORRUPTIONS", "Corruption", "CorruptionConfig", "build", "config_of", "config_union", "fitting", "written"]
