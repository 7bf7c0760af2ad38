"""What recipes can set, read from the types of settings: names, what is allowed, defaults, descriptions."""

from __future__ import annotations

import re
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from data_prep.errors import MOST_LISTED, UserError, choices
from data_prep.settings import described_fields
from pipeline.recipe import errors, unions
from pipeline.recipe.recipe import ORDER, Evaluation, Recipe

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_SENTENCE_END = re.compile(r"(?<!et al)\. |; see `")
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


class Line(NamedTuple):
    """A setting, or one of the choices for a setting."""

    name: str
    allowed: str
    default: str
    about: str


def lines(path: str = "") -> list[Line]:
    """What is below a dotted path of a recipe: its keys, or its choices where it is a union or one of many names.

    A branch of a union is named as a part of the path: downstream.anomaly.detectors. Raises UserError where there is no
    such setting.
    """
    models: list[type[BaseModel]] = [Recipe, Evaluation]
    branches: dict[str, type[BaseModel]] = {}
    field = None
    for name in filter(lambda name: name and not name.isdecimal(), path.split(".")):
        if name in branches:
            models, branches, field = [branches[name]], {}, None
            continue
        field = next((described_fields(model)[name] for model in models if name in model.model_fields), None)
        if field is None:
            keys = sorted({key for model in models for key in model.model_fields})
            raise UserError(f"{path}: recipes have no such setting; {choices(name, [*branches, *keys])}")
        branches = unions.branches_of(field)[0]
        models = [model for model, _ in errors.models_in(field.annotation)]
    if branches:
        return [Line(name, "a section", "", _first_sentence(model.__doc__)) for name, model in branches.items()]
    if field is None or models:
        fields = {name: field for model in reversed(models) for name, field in described_fields(model).items()}
        if not path:
            fields = {name: fields[name] for name in ORDER}
        return [_line(name, field) for name, field in fields.items()]
    return [_line(path.rpartition(".")[2], field), *(Line(name, "", "", _about(field, name)) for name in _many(field))]


def _line(name: str, field: FieldInfo) -> Line:
    default = field.get_default(call_default_factory=True)
    plain = default is not None and isinstance(default, str | bool | int | float | list | tuple) and default != []
    shown = str(default).lower() if isinstance(default, bool) else str(default) if plain else ""
    return Line(name, _allowed(field), shown, _first_sentence(field.description))


def _many(field: FieldInfo) -> list[str]:
    """The names that a setting can have, where they are too many for a line."""
    names = [*_literals(field.annotation), *map(str, field.examples or ())]
    return names if len(names) > MOST_LISTED else []


def _about(field: FieldInfo, name: str) -> str:
    """What the field says of one of its names, under `about` in its schema."""
    extra = field.json_schema_extra
    about = extra.get("about") if isinstance(extra, dict) else None
    return str(about.get(name, "")) if isinstance(about, dict) else ""


def _allowed(field: FieldInfo) -> str:
    branches, tag = unions.branches_of(field)
    if tag:
        return f"a section, {tag} one of {len(branches)}"
    if _many(field):
        return f"one of {len(_many(field))}" + ("" if _literals(field.annotation) else ", or others")
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(rule, name, None) is not None
    ]
    return " ".join([_kind(field.annotation), *bounds])


def _kind(annotation: Any) -> str:
    """A type in words."""
    if annotation in _WORDS:
        return _WORDS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section"
    origin, inner = get_origin(annotation), [each for each in get_args(annotation) if each is not NoneType]
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in (list, tuple):
        return f"a list of {_kind(inner[0])}"
    if origin is dict:
        return f"a section of {_kind(inner[1])} each"
    inner = [each for each in inner if not isinstance(each, FieldInfo)]  # what Annotated adds to a type
    return " or ".join(dict.fromkeys(map(_kind, inner))) or "any value"


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [name for inner in get_args(annotation) for name in _literals(inner)]


def _first_sentence(text: str | None) -> str:
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    return _SENTENCE_END.split(paragraph, maxsplit=1)[0].rstrip(".")
