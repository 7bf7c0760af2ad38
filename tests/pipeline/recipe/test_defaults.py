"""Declared defaults, kept: what a setting stands for when a recipe leaves it out may not change in silence.

A setting that has its default is in no key (`data_prep.settings.identity`), so an artifact made by an old default would
be taken for one made by the new one. `python -m tests.pipeline.recipe.test_defaults` adds new settings to
`defaults.json`; what recipes are to have instead of a default that is there is declared by `changed_default`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

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
        where, default = f"{path}{name}", field.get_default(call_default_factory=True)
        inner = list(models(field.annotation))
        for each in inner:
            values |= defaults(each, f"{where}{branch(each)}.")
        if default is not PydanticUndefined and not (inner and isinstance(default, BaseModel)):
            values[where] = TypeAdapter(Any).dump_python(default, mode="json")
    return values


def of_another_type(model: type[BaseModel] = Recipe, path: str = "") -> set[str]:
    """Paths of settings of numbers whose declared default is a whole number, which is not what is read from a recipe.

    Such a setting is in every key (`identity` compares types, too), and so changes all that are there when it is added.
    """
    paths: set[str] = set()
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        if type(field.default) is int and float in kinds and int not in kinds:
            paths.add(f"{path}{name}")
        for each in models(field.annotation):
            paths |= of_another_type(each, f"{path}{name}{branch(each)}.")
    return paths


def changed() -> dict[str, tuple[Any, Any]]:
    """By path, defaults that were and are."""
    kept, declared = json.loads(KEPT.read_text()), defaults()
    return {name: (kept[name], value) for name, value in declared.items() if name in kept and kept[name] != value}


def test_no_default_has_changed_in_silence() -> None:
    declared = defaults()
    assert len(declared) > 200, "the walk over all settings finds them"
    assert not changed(), "leave the default, and declare the new one by `changed_default`"
    missing = sorted(set(declared) - set(json.loads(KEPT.read_text())))
    assert not missing, "new settings: `python -m tests.pipeline.recipe.test_defaults` adds them"


def test_a_default_is_of_the_type_of_its_setting() -> None:
    assert not of_another_type(), "write 0.0 for 0"


if __name__ == "__main__":
    if differing := changed():
        raise SystemExit(f"changed: {differing}; leave these defaults, and declare the new ones by changed_default")
    KEPT.write_text(json.dumps(defaults(), indent=1, sort_keys=True) + "\n")
