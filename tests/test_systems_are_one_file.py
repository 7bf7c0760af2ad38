"""A system is one file, a line in a table, and recipes: nothing else knows its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from data_prep.corruptions import CORRUPTIONS
from data_prep.kinds import KINDS
from data_prep.sources.packages import PACKAGES
from training.objectives import OBJECTIVES

ROOT = Path(__file__).parent.parent
FOLDERS = ("data_prep", "training", "pipeline", "flows", "infra")
RECIPES, COMPARISONS = "pipeline/recipes", "pipeline/recipes/comparisons"


class Place(NamedTuple):
    """Where a name is: the file from the root, the line in it (0: a YAML file, or the name of the file itself)."""

    file: str
    line: int


class Source(NamedTuple):
    """What a file of the project says to machines."""

    file: str
    words: list[tuple[str, int]]  # strings that are no docstrings, and what is imported: each with its line


def _words_of_python(path: Path) -> Iterator[tuple[str, int]]:
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and isinstance(node.body[0] if node.body else None, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value, node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _words_of_yaml(value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _words_of_yaml(name)
            yield from _words_of_yaml(below)
    elif isinstance(value, list):
        for below in value:
            yield from _words_of_yaml(below)
    elif isinstance(value, str):
        yield value, 0


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    """All Python and YAML files that are no tests."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))] + sorted(ROOT.glob("*.yaml"))
    read = []
    for path in paths:
        file = path.relative_to(ROOT).as_posix()
        if path.suffix == ".py":
            read.append(Source(file, list(_words_of_python(path))))
        elif path.suffix in (".yaml", ".yml"):
            documents = yaml.safe_load_all(path.read_text())
            read.append(Source(file, [word for document in documents for word in _words_of_yaml(document)]))
    return read


def places(sources: list[Source], name: str, *modules: str) -> set[Place]:
    """Where a name stands as a whole string, or one of the modules (or what is in it) is imported or named."""
    return {
        Place(source.file, line)
        for source in sources
        for word, line in source.words
        if word == name or any(word == module or word.startswith(f"{module}.") for module in modules)
    }


def line_in(file: str, text: str) -> Place:
    """The one line of a file that begins with a text, spaces aside."""
    (number,) = (n for n, line in enumerate((ROOT / file).read_text().splitlines(), 1) if line.strip().startswith(text))
    return Place(file, number)


def file_of(module: str) -> str:
    path = module.replace(".", "/")
    return f"{path}.py" if (ROOT / f"{path}.py").exists() else f"{path}/"


def recipes_of(section: str, key: str, value: str) -> set[str]:
    """Files of the packaged recipes whose section says so, and of comparisons of these."""
    read = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / RECIPES).glob("*.yaml")}
    chosen = {recipe["name"]: name for name, recipe in read.items() if recipe.get(section, {}).get(key) == value}
    compared = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / COMPARISONS).glob("*.yaml")}
    of_these = {
        f"{COMPARISONS}/{name}" for name, comparison in compared.items() if comparison["base"]["recipe"] in chosen
    }
    return {f"{RECIPES}/{name}" for name in chosen.values()} | of_these


def others(mentions: set[Place], own: set[str], lines: set[Place]) -> list[str]:
    """Places that are neither in a system's own files and folders nor on its lines."""

    def is_own(file: str) -> bool:
        return any(file == name or (name.endswith("/") and file.startswith(name)) for name in own)

    return [f"{place.file}:{place.line}" for place in sorted(mentions) if place not in lines and not is_own(place.file)]


# Lines of other tables in which something else has the same name: a network of transformers, a corruption.
HOMONYMS = {
    "t5": [("training/models/text/architectures.py", '"t5": Architecture(')],
    "electra": [("training/models/text/architectures.py", '"electra": Architecture(')],
    "masked-frames": [("data_prep/corruptions/__init__.py", '"masked-frames": ')],
}


@pytest.mark.parametrize(
    "name", ["gpt", "t5", "sequence-to-sequence", "electra", "span-boundary", "simclr", "masked-frames"]
)
def test_an_objective_is_a_file_a_line_and_recipes(name: str, sources: list[Source]) -> None:
    module = OBJECTIVES[name].module
    names = [other for other, entry in OBJECTIVES.items() if entry.module == module]
    own = {file_of(module)}.union(*(recipes_of("objective", "name", other) for other in names))
    if name in CORRUPTIONS:
        own.add(file_of(CORRUPTIONS[name]))
    lines = {line_in("training/objectives/__init__.py", f'"{name}": ObjectiveEntry(')}
    if len(names) > 1:  # their module is named once, above the table
        lines.add(line_in("training/objectives/__init__.py", '_SEQUENCES = "'))
    lines |= {line_in(*homonym) for homonym in HOMONYMS.get(name, [])}
    mentions = places(sources, name, module)
    assert others(mentions, own, lines) == []
    assert lines <= mentions  # or nothing was looked for
    assert any(place.file.startswith(RECIPES) for place in mentions)


@pytest.mark.parametrize("name", ["sound"])
def test_a_kind_of_data_is_a_folder_a_line_objectives_and_recipes(name: str, sources: list[Source]) -> None:
    module = KINDS[name]
    folder = module.rpartition(".")[0]
    own = {file_of(folder), *recipes_of("data", "kind", name)}
    learning = [objective for objective, line in OBJECTIVES.items() if name in line.kinds]
    lines = {line_in("data_prep/kinds.py", f'"{name}": ')}
    lines |= {line_in("training/objectives/__init__.py", f'"{objective}": ObjectiveEntry(') for objective in learning}
    mentions = places(sources, name, folder)
    catalogue = {place for place in mentions if place.file == "data_prep/sources/catalogue/arrays.py"}
    assert len(catalogue) == 1  # what its packages hold, told once for all of them
    assert others(mentions - catalogue, own, lines) == []
    assert lines <= mentions


def test_packages_hold_kinds_of_data_that_there_are() -> None:
    assert {package.kind for package in PACKAGES.values()} <= set(KINDS)


def test_a_name_that_others_know_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "knows.py"
    path.write_text(
        '"""gpt"""\n'
        "from training.objectives import gpt\n"
        "import training.objectives.gpt as module\n"
        "def special(name):\n"
        '    """gpt"""\n'
        '    return name == "gpt" or name.startswith("gpt2")\n'
    )
    known = [Source("knows.py", list(_words_of_python(path)))]
    assert places(known, "gpt", "training.objectives.gpt") == {Place("knows.py", line) for line in (2, 3, 6)}
    read = [Source("knows.yaml", list(_words_of_yaml(yaml.safe_load("deployments: [{recipe: gpt}, {gpt2: 1}]"))))]
    assert places(read, "gpt") == {Place("knows.yaml", 0)}
    assert others({Place("a/b.py", 3), Place("ab.py", 1), Place("c.py", 2)}, {"a/"}, {Place("c.py", 2)}) == ["ab.py:1"]
