"""Sections that are discriminated unions (`data` by kind, jobs by task …): switching drops keys of the old branch.

    corruption: {kind: masked-lm, rate: 0.4}    --set corruption.kind=gaussian    corruption: {kind: gaussian}

A key stays if the new branch declares it with the same type, or if the change itself sets it.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Collection, Iterator
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class UnionSection(NamedTuple):
    """A section of a recipe that is one branch of a union."""

    path: str
    section: dict[str, Any]
    tag: str
    """The discriminating key."""
    branches: dict[str, type[BaseModel]]

    @property
    def branch(self) -> type[BaseModel] | None:
        """The chosen branch, if it exists."""
        return self.branches.get(str(self.section.get(self.tag)))


def drop_old_branches(model: type[BaseModel], before: Any, data: dict[str, Any], touched: Collection[str]) -> None:
    """Remove from `data` what belongs to branches that were chosen in `before` and no longer are.

    touched: dotted paths that the change has set; they stay.
    """
    earlier = {choice.path: choice for choice in choices(model, before)}
    for choice in list(choices(model, data)):
        old = earlier.get(choice.path)
        if old is None or old.section.get(old.tag) == choice.section.get(choice.tag):
            continue
        was, now = old.branch, choice.branch
        if was is None or now is None or was is now:
            continue
        for name in list(choice.section):
            path = f"{choice.path}.{name}"
            set_now = any(touched_path == path or touched_path.startswith(f"{path}.") for touched_path in touched)
            if name != choice.tag and name in was.model_fields and not set_now and not _alike(was, now, name):
                del choice.section[name]


def _alike(was: type[BaseModel], now: type[BaseModel], name: str) -> bool:
    return name in now.model_fields and was.model_fields[name].annotation == now.model_fields[name].annotation


def choices(model: type[BaseModel], data: Any, above: str = "") -> Iterator[UnionSection]:
    """Every section of `data` whose field in `model` is a discriminated union."""
    if not isinstance(data, dict):
        return
    for name, field in model.model_fields.items():
        if name not in data:
            continue
        path = f"{above}{name}"
        sections = [(path, data[name])]
        if isinstance(data[name], list):
            sections = [(f"{path}.{index}", item) for index, item in enumerate(data[name])]
        branches, tag = branches_of(field)
        for where, section in sections:
            if not isinstance(section, dict):
                continue
            if tag:
                choice = UnionSection(where, section, tag, branches)
                yield choice
                inner = choice.branch
            else:
                inner = next(iter(_models(field.annotation)), None)
            if inner is not None:
                yield from choices(inner, section, f"{where}.")


def declared(model: type[BaseModel], data: Any, path: str) -> str:
    """The path of a key of `data` without places in lists, and with the branches of unions: downstream.tagging.lr."""
    branches = {choice.path: str(choice.section[choice.tag]) for choice in choices(model, data) if choice.branch}
    names, above = [], ""
    for name in path.split("."):
        above = f"{above}.{name}" if above else name
        names += [] if name.isdecimal() else [name]
        names += [branches[above]] if above in branches else []
    return ".".join(names)


def branches_of(field: FieldInfo) -> tuple[dict[str, type[BaseModel]], str | None]:
    """The branches of a field by tag, and the discriminating key; for a list those of its items."""
    tag = _tag_of(field)
    if tag is None:
        return {}, None
    branches: dict[str, type[BaseModel]] = {}
    for branch in _models(field.annotation):
        for value in get_args(branch.model_fields[tag].annotation):
            branches[str(value)] = branch
    return branches, tag


def _tag_of(field: FieldInfo) -> str | None:
    notes = [field, *field.metadata, *_notes(field.annotation)]
    return next((tag for note in notes if isinstance(tag := getattr(note, "discriminator", None), str)), None)


def _notes(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from get_args(annotation)[1:]
    if get_origin(annotation) in (list, Annotated):
        yield from _notes(get_args(annotation)[0])


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, list, Union, types.UnionType):
        return [model for inner in get_args(annotation) for model in _models(inner)]
    return []


def changed(model: type[BaseModel], data: dict[str, Any], change: Any) -> list[str]:
    """Apply `change(data)`, which returns the paths it set, and drop keys that only old branches have."""
    before = copy.deepcopy(data)
    touched: list[str] = change(data)
    drop_old_branches(model, before, data, touched)
    return touched
