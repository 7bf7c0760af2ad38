"""Pydantic's errors about a recipe, as one sentence.

bert.yaml: train.learning_rate: unknown key; did you mean train.lr? (known: betas, clip, …)
bert.yaml: scales.tiny.train.steps: found '300' (text); allowed: a whole number (and 2 more)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import takewhile
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from data_prep.errors import UserError, choices, meant
from data_prep.settings import described_fields
from pipeline.recipe import unions
from pipeline.recipe.removed import removed

_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a section of keys",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "a section of keys",
    "model_type": "a section of keys",
    "none_required": "null",
    "string_type": "text",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "too_short": ("min_length", "at least {} of them"),
    "too_long": ("max_length", "at most {} of them"),
    "string_pattern_mismatch": ("pattern", "text that matches {}"),
}


class InconsistentError(ValueError):
    """Keys that are valid one by one but not together: (path, problem) for each."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {text}" for path, text in problems))
        self.problems = problems


def user_error(
    error: ValidationError, data: Any, model: type[BaseModel], origin: Callable[[str, bool], str]
) -> UserError:
    """The first problem, and how many more there are.

    `data` is what was validated against `model`; `origin(path, unknown)` says where that key was written.
    """
    problems = _sentences(error, data, model)
    # An unknown key first: it is often why another one is missing.
    problems.sort(key=lambda item: not item[1])
    path, unknown, text = problems[0]
    and_more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return UserError(f"{origin(path, unknown)}: {text()}{and_more}")


def _sentences(error: ValidationError, data: Any, model: type[BaseModel]) -> list[tuple[str, bool, Callable[[], str]]]:
    """(path, whether its key is unknown, function that gives the message) for each problem."""
    details_by_path: dict[str, list[Any]] = {}
    problems: list[tuple[str, bool, Callable[[], str]]] = []
    tags = {choice.path: str(choice.section.get(choice.tag)) for choice in unions.choices(model, data)}
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, InconsistentError):
            problems += [(path, False, partial(str, text)) for path, text in cause.problems]
        elif detail["type"].startswith("union_tag_"):
            path = _path(detail, data, tags)
            branches = _union_at(path, model, data)[0]
            where = unions.declared(model, data, path)
            problems.append((f"{path}.{_tag(detail)}", False, partial(_wrong_tag, branches, detail, where)))
        else:
            details_by_path.setdefault(_path(detail, data, tags), []).append(detail)
    for path, details in details_by_path.items():
        first = details[0]
        if first["type"] == "extra_forbidden":
            problems.append((path, True, partial(_unknown, path, model, data)))
        elif first["type"] == "missing":
            problems.append((path, False, partial(_missing, path, model, data)))
        elif first["type"] == "value_error":
            problems.append((path, False, partial(str, first["ctx"]["error"])))
        else:
            problems.append((path, False, partial(_not_allowed, details, _optional(path, model, data))))
    return problems


def _path(detail: Any, data: Any, tags: Mapping[str, str]) -> str:
    """The dotted path of an error in `data`; pydantic adds the names of a union's branches, which are left out.

    tags: of sections that are unions, by path, which branch was chosen.
    """
    names: list[str] = []
    loc, after_union = detail["loc"], False
    for index, name in enumerate(loc):
        if after_union and name == tags.get(".".join(names)):
            after_union = False
            continue
        keys: Any = range(len(data)) if isinstance(data, list) else data if isinstance(data, dict) else ()
        if name in keys:
            data = data[name]
        elif detail["type"] != "missing" or index < len(loc) - 1:
            continue
        names.append(str(name))
        after_union = ".".join(names) in tags
    return ".".join(names)


def _tag(detail: Any) -> str:
    """The key that tells the branches of a union apart."""
    return str(detail["ctx"]["discriminator"]).strip("'")


def _wrong_tag(branches: Iterable[str], detail: Any, where: str) -> str:
    if detail["type"] == "union_tag_not_found":
        return f"missing; {choices('', branches, _listed_by(where))}"
    tag = detail["ctx"].get("tag")
    return f"found {shown(tag)}; {choices(tag, branches, _listed_by(where))}"


def _listed_by(where: str) -> str:
    """What lists the choices for a setting (`pipeline.recipe.reference`)."""
    return f"`sesame settings {where}`"


def _not_allowed(details: list[Any], optional: bool) -> str:
    value = details[0]["input"]
    allowed = [*dict.fromkeys(_allowed(detail) for detail in details), *(["null"] if optional else [])]
    names = [name for text in allowed for name in re.findall(r"'([^']+)'", text)]
    hint = meant(value, names) if isinstance(value, str) else ""
    return f"found {shown(value)}; allowed: {' or '.join(allowed)}" + (f"; {hint}" if hint else "")


def _allowed(detail: Any) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _KINDS:
        return _KINDS[kind]
    if kind == "literal_error":
        return context["expected"]
    if kind in _BOUNDS:
        name, text = _BOUNDS[kind]
        return text.format(context[name])
    return detail["msg"][:1].lower() + detail["msg"][1:]


def shown(value: Any) -> str:
    """A value in a message: short, with its type where that is not obvious."""
    if isinstance(value, dict | list):
        kind = "a section" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value)}" if value else f"an empty {kind[2:]}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"{value[:60]!r} (text)"
    return repr(value)


def _optional(path: str, model: type[BaseModel], data: Any) -> bool:
    above, _, name = path.rpartition(".")
    fields = (holder.model_fields.get(name) for holder in models_at(model, above, data))
    return any(field is not None and type(None) in get_args(field.annotation) for field in fields)


def _missing(path: str, model: type[BaseModel], data: Any) -> str:
    above, _, name = path.rpartition(".")
    branches, tag = _union_at(path, model, data)
    if tag:
        where = _listed_by(unions.declared(model, data, path))
        return f"missing; set {path}.{tag}; {choices('', branches, where)}"
    for holder in models_at(model, above, data):
        field = described_fields(holder).get(name)
        if field is not None and field.description:
            return f"missing; {field.description[0].lower()}{field.description[1:].rstrip('.')}"
    return "missing"


def _unknown(path: str, model: type[BaseModel], data: Any) -> str:
    if (gone := removed(path, model, data)) is not None:
        return gone
    above = path.rpartition(".")[0]
    known_keys = sorted({name for holder in models_at(model, above, data) for name in holder.model_fields})
    near = nearest(path, known_keys, model)
    hint = f"; did you mean {near}?" if near else ""
    return f"unknown key{hint} (known: {', '.join(known_keys)})"


def nearest(path: str, siblings: Iterable[str], model: type[BaseModel]) -> str | None:
    """The known path most likely meant by an unknown one."""
    above, _, name = path.rpartition(".")
    prefix = f"{above}." if above else ""
    siblings, all_paths = list(siblings), known_paths(model)
    words = set(name.split("_"))
    guesses = (
        [sibling for sibling in siblings if sibling == _initials(name) != name[:1] or name == _initials(sibling)],
        difflib.get_close_matches(name, siblings, 1, 0.75),
        [sibling for sibling in siblings if words & set(sibling.split("_"))],
    )
    for matches in guesses:
        if matches:
            return prefix + matches[0]
    elsewhere: dict[str, list[str]] = {}
    for known_path in all_paths:
        if known_path == path:
            continue  # of another branch of a union
        elsewhere.setdefault(known_path.rpartition(".")[2], []).append(known_path)
    keys = difflib.get_close_matches(name, elsewhere, 1, 0.75)
    return next((max(elsewhere[key], key=lambda known_path: _in_common(known_path, path)) for key in keys), None)


def _in_common(path: str, other: str) -> int:
    """How many keys two paths begin with alike."""
    pairs = zip(path.split("."), other.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def known_paths(model: type[BaseModel], above: str = "") -> list[str]:
    """Every key of a model, dotted; a list's items stand under 0."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        path = f"{above}.{name}" if above else name
        paths.append(path)
        for inner, in_list in models_in(field.annotation):
            paths += known_paths(inner, f"{path}.0" if in_list else path)
    return paths


def models_at(model: type[BaseModel], path: str, data: Any = None) -> list[type[BaseModel]]:
    """The possible models of the section at `path`; of a union the branch that `data` chooses."""
    chosen = {choice.path: choice.branch for choice in unions.choices(model, data) if choice.branch}
    models, above = [model], ""
    for name in path.split(".") if path else []:
        above = f"{above}.{name}" if above else name
        if not name.isdecimal():
            fields = (holder.model_fields.get(name) for holder in models)
            models = [inner for field in fields if field for inner, _ in models_in(field.annotation)]
        if above in chosen:
            models = [chosen[above]]
    return models


def _union_at(path: str, model: type[BaseModel], data: Any) -> tuple[dict[str, type[BaseModel]], str | None]:
    """The branches of the union at `path` by tag, and the key that chooses one; ({}, None) if there is no union."""
    above, _, name = path.rpartition(".")
    if name.isdecimal():  # of a list
        above, _, name = above.rpartition(".")
    fields = (holder.model_fields.get(name) for holder in models_at(model, above, data))
    return next((unions.branches_of(field) for field in fields if field), ({}, None))


def models_in(annotation: Any, in_list: bool = False) -> list[tuple[type[BaseModel], bool]]:
    """(model, whether in a list) for each model that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, in_list)]
    in_list = in_list or getattr(annotation, "__origin__", None) in (list, tuple)
    return [pair for inner in get_args(annotation) for pair in models_in(inner, in_list)]
