"""Parsing of recipes: a small, predictable subset of YAML, and changes laid over it.

The YAML is the JSON-like core of version 1.2: `1e-4` is a number, `no` is text, dates are text, numbers may have
underscores, keys are always text, a key given twice is an error, and there are no tags that build objects.

Changes come from a scale (`scales: {tiny: {train: {steps: 300}}}`) and from `--set train.steps=300`. Both are mappings
laid over the recipe by the same rule: mappings merge, everything else is replaced, a dotted key reaches inside, and a
number reaches into a list (`downstream.0.seeds`).
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Hashable
from typing import Any

import yaml

from data_prep.errors import UserError
from pipeline.flatten import flatten, join

__all__ = ["dump", "flatten", "lay_over", "parse", "parse_setting"]

DEEPEST = 100  # keys of a path
MOST_ALIASES = 20  # nested, each may double what the one before stands for
_TAG = "tag:yaml.org,2002:"
_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012
    yaml_constructors: dict[str | None, Any] = {None: yaml.SafeLoader.construct_undefined}  # noqa: RUF012

    def number(self, node: yaml.ScalarNode) -> int | float:
        text = self.construct_scalar(node).replace("_", "")
        if node.tag.endswith(":int"):
            return int(text)
        if not math.isfinite(float(text)):
            raise yaml.constructor.ConstructorError(None, None, f"{text} is too large", node.start_mark)
        return float(text)

    def boolean(self, node: yaml.ScalarNode) -> bool:
        return self.construct_scalar(node).lower() == "true"

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        names: set[str] = set()
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", name.start_mark)
            if name.value in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name.value!r} is given twice", name.start_mark
                )
            names.add(name.value)
        self.flatten_mapping(node)
        return {name.value: self.construct_object(item, deep=True) for name, item in node.value}

    def sequence(self, node: yaml.SequenceNode) -> list[Any]:
        return [self.construct_object(item, deep=True) for item in node.value]


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar(_TAG + "str", data, style=None if data.isprintable() else '"')


for _name, _pattern, _first in _RESOLVERS:
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), list(_first))
for _name, _construct in {
    "null": lambda loader, node: None,
    "bool": _Loader.boolean,
    "int": _Loader.number,
    "float": _Loader.number,
    "str": _Loader.construct_scalar,
    "seq": _Loader.sequence,
    "map": _Loader.mapping,
}.items():
    _Loader.add_constructor(_TAG + _name, _construct)


_Dumper.add_representer(str, _Dumper.text)


def parse(text: str, where: str) -> Any:
    """The value of a YAML text; `where` names it in errors, which add the line."""
    try:
        # Through JSON, so that what an alias repeats becomes separate values that can be changed apart.
        _check_aliases(text, where)
        return json.loads(json.dumps(yaml.load(text, _Loader)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    except (ValueError, TypeError, AttributeError) as error:  # a tag that its value does not fit: `!!int abc`
        raise UserError(f"{where}: a value does not fit its tag ({error}); leave out the tag") from None


def _check_aliases(text: str, where: str) -> None:
    """Refuse a text with many aliases: a few lines can expand to gigabytes."""
    if "*" in text and sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _Loader)) > MOST_ALIASES:
        raise UserError(f"{where}: more than {MOST_ALIASES} aliases (*name); write the values out")


def dump(value: Any) -> str:
    """YAML that `parse` reads back to an equal value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def parse_setting(setting: str) -> tuple[str, Any]:
    """`("train.lr", 0.0001)` of "train.lr=1e-4". The value is YAML: a scalar, `[1, 2]` or `{CPU: 1}`."""
    path, equals, text = setting.partition("=")
    path = path.strip()
    if not equals or not all(path.split(".")):
        raise UserError(f"--set {setting}: write it as path.to.key=value")
    if path.count(".") > DEEPEST:
        raise UserError(f"--set {path[:40]}…: nested too deeply")
    if not text.strip():
        raise UserError(f"--set {setting}: no value after '='; write null for none, or '' for empty text")
    return path, parse(text, f"--set {setting}")


def lay_over(base: dict[str, Any], changes: dict[str, Any], where: str) -> list[str]:
    """Lay `changes` over `base`, in place; returns the dotted paths that were set. `where` names them in errors."""
    touched: list[str] = []
    _lay_over(base, changes, "", where, touched)
    return touched


def _lay_over(base: Any, changes: dict[str, Any], above: str, where: str, touched: list[str]) -> None:
    for dotted, value in changes.items():
        names = dotted.split(".")
        holder, path = base, above
        for name in names[:-1]:
            path = join(path, name)
            holder = _step(holder, name, path, where)
        last, path = names[-1], join(path, names[-1])
        if isinstance(value, dict) and value:
            _lay_over(_step(holder, last, path, where), value, path, where, touched)
        else:
            _put(holder, last, copy.deepcopy(value), path, where)
            touched.append(path)


def _step(holder: Any, name: str, path: str, where: str) -> Any:
    """The mapping or list at `name`, created if there is none."""
    inner = holder[_index(holder, name, path, where)] if isinstance(holder, list) else holder.get(name)
    if inner is None:
        inner = {}
        _put(holder, name, inner, path, where)
    if not isinstance(inner, dict | list):
        raise UserError(f"{where}: {path} is a value, not a section; there is nothing inside it to set")
    return inner


def _put(holder: Any, name: Hashable, value: Any, path: str, where: str) -> None:
    holder[_index(holder, str(name), path, where) if isinstance(holder, list) else name] = value


def _index(holder: list[Any], name: str, path: str, where: str) -> int:
    if name.isdecimal() and int(name) < len(holder):
        return int(name)
    allowed = f"0 to {len(holder) - 1}" if holder else "nothing, it is empty"
    raise UserError(f"{where}: {path}: found {name!r} as a place in a list; allowed: {allowed}")
