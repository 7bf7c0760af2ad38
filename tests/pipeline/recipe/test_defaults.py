"""Declared defaults, kept: what a setting stands for when a recipe leaves it out may not change in silence.

A setting that has its default is in no key (`data_prep.settings.identity`), so an artifact made by an old default would
be taken for one made by the new one. `python -m tests.pipeline.recipe.test_defaults` writes `defaults.json` anew: new
settings are then added to it; a changed one has to be declared by `changed_default`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

from data_prep.settings import UNUSED
from pipeline.recipe.recipe import Recipe

KEPT = Path(__file__).with_name("defaults.json")


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type names, be it one, a union or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for inner in get_args(annotation):
        yield from models(inner)


def branch(model: type[BaseModel]) -> str:
    """What tells a model from the others of its union, as a recipe writes it."""
    named = [
        get_args(model.model_fields[name].annotation) for name in ("kind", "name", "task") if name in model.model_fields
    ]
    return next((f"[{values[0]}]" for values in named if values), "")


def defaults(model: type[BaseModel] = Recipe, path: str = "") -> dict[str, Any]:
    """By its path in a recipe, every setting with a default: the value that leaves it out of a key, as JSON has it."""
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        extra, where = field.json_schema_extra, f"{path}{name}"
        default = field.get_default(call_default_factory=True)
        if isinstance(extra, dict) and UNUSED in extra:
            default = extra[UNUSED]
        inner = list(models(field.annotation))
        for each in inner:
            values |= defaults(each, f"{where}{branch(each)}.")
        if default is not PydanticUndefined and not (inner and isinstance(default, BaseModel)):
            values[where] = TypeAdapter(Any).dump_python(default, mode="json")
    return values


def test_no_default_has_changed_in_silence() -> None:
    kept, declared = json.loads(KEPT.read_text()), defaults()
    assert len(declared) > 200, "the walk over all settings finds them"
    changed = {name: (kept[name], value) for name, value in declared.items() if name in kept and kept[name] != value}
    assert not changed, "declare the old value by `changed_default`"
    missing = sorted(set(declared) - set(kept))
    assert not missing, "new settings: `python -m tests.pipeline.recipe.test_defaults` adds them"


if __name__ == "__main__":
    KEPT.write_text(json.dumps(defaults(), indent=1, sort_keys=True) + "\n")
