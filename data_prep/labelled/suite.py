"""Suites: many tasks in one YAML file, whose data lie in a folder of the user's as they are downloaded.

    about: nine tasks of sentences
    common: {quotes: false}             # settings of all tasks that do not say otherwise
    tasks:
      sst2: {train: SST-2/train.tsv, validation: SST-2/dev.tsv, inputs: [sentence], …}    # as in a task file
    published:
      - {name: BERT-base, split: test, source: Devlin et al. 2019, scores: {sst2: {accuracy: 93.5}}}

Of a task, files may be missing, which is said; without a file that can be scored the task is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from data_prep.errors import UserError, choices
from data_prep.labelled import suites
from data_prep.labelled.examples import Labelled
from data_prep.labelled.loading import load_files
from data_prep.labelled.rows import NAMED
from data_prep.labelled.task import SPLIT_NAMES, Part, TaskFile, paths_of, read_settings, task_of
from data_prep.settings import Settings, checked
from data_prep.tokens.cleaning import Cleaning

_FOLDER = Path(str(suites.__file__)).parent
Average = Literal["", "tasks", "glue"]
SUITES = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


class Published(Settings):
    """Scores that others published, to be set beside one's own."""

    name: str
    """Of the system, or of people."""
    source: str
    """Paper and table, or page."""
    split: str = "test"
    """The rows that were scored."""
    note: str = ""
    """What is different about how they were made."""
    pretrained_on: str = ""
    """What an encoder of theirs was pretrained on, such as its languages."""
    scores: dict[str, dict[str, float]] = Field(default={})
    """Percentages by task (or by part of one, or by language, as xquad/zh) and metric."""
    average: float | None = None
    """The suite's own average, where it was published."""


class SuiteFile(Settings):
    """The settings of a suite."""

    about: str
    """What it is."""
    average: Average = ""
    """What its own score is, if it has one: the mean over tasks, or that of GLUE's leaderboard."""
    lacks: list[str] = Field(default=[])
    """Tasks that its own score is of, too, and that are not here."""
    source: str = ""
    """Where its data are to be had."""
    common: dict[str, Any] = Field(default={})
    """Settings of all tasks that have no others."""
    tasks: dict[str, dict[str, Any]] = Field(min_length=1)
    """Settings of each task, as in a task file; paths begin at the folder that the user names."""
    published: list[Published] = Field(default=[])
    """Scores of others."""


@dataclass(frozen=True)
class Suite:
    """A suite and what a folder has of it.

    tasks: those with rows to score, with the files that are there. missing: the files of the others. absent: files that
    tasks do without, by task. average, lacks: see `SuiteFile`.
    """

    name: str
    about: str
    average: Average
    folder: Path
    tasks: dict[str, TaskFile]
    missing: dict[str, list[str]]
    absent: dict[str, list[str]]
    published: tuple[Published, ...]
    metrics: dict[str, list[str]]
    """Names of the metrics of all tasks, those that are missing among them."""
    lacks: tuple[str, ...] = ()
    source: str = ""

    def load(self, task: str, cleaning: Cleaning | None = None) -> Labelled:
        """The data of a task. UserError if the folder lacks it, or the suite."""
        return load_files(self.task(task), self.folder, f"{self.name}/{task}", cleaning)

    def task(self, name: str) -> TaskFile:
        """The settings of a task, with the files that are there. UserError if the folder lacks it, or the suite."""
        if name not in self.tasks:
            raise UserError(f"{self.name}: {self._lacks(name)}")
        return self.tasks[name]

    def remarks(self) -> list[str]:
        """Which tasks and files are missing."""
        said = [f"{name} is missing: {self._lacks(name)}" for name in self.missing]
        return [*said, *(f"{name} does without {_few(files)}" for name, files in self.absent.items())]

    def _lacks(self, task: str) -> str:
        if task not in self.missing:
            return f"no task is called {task!r}; {choices(task, [*self.tasks, *self.missing])}"
        return f"{self.folder} lacks {_few(self.missing[task])}"


def open_suite(name_or_path: str, folder: Path, learned: bool = False) -> Suite:
    """A packaged suite, or that of a file, with the tasks whose files are in the folder; no row is read.

    learned: a task whose rows to learn from are not there counts as missing, even if it could be scored. UserError for
    what is no suite, and if the folder has no task of it.
    """
    path, folder = _path_of(name_or_path), Path(folder).expanduser()
    suite = _read(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name the one with the files of {path.stem}")
    tasks: dict[str, TaskFile] = {}
    lacking: dict[str, list[str]] = {}
    all_tasks = _tasks(suite, path)
    for name, task in all_tasks.items():
        there, absent = _there(task, folder)
        if absent:
            lacking[name] = absent
        lacks_train = bool(task.train) and not there.train
        if _is_scored(task, there) and not (learned and lacks_train):
            tasks[name] = there
    if not tasks:
        first = next(iter(lacking))
        others = [name for name in SUITES if name != path.stem and _has_some(name, folder)]
        hint = f"; it has tasks of {' and '.join(others)}" * bool(others)
        raise UserError(f"{folder} has no task of {path.stem}: of {first}, for one, no {lacking[first][0]}{hint}")
    missing = {name: files for name, files in lacking.items() if name not in tasks}
    absent = {name: files for name, files in lacking.items() if name in tasks}
    metrics = {name: task.metrics for name, task in all_tasks.items()}
    return Suite(
        path.stem,
        suite.about,
        suite.average,
        folder,
        tasks,
        missing,
        absent,
        tuple(suite.published),
        metrics,
        tuple(suite.lacks),
        suite.source,
    )


def load_suite(
    name_or_path: str, folder: Path, only: Collection[str] = (), cleaning: Cleaning | None = None
) -> dict[str, Labelled]:
    """The data of a suite's tasks, or of those that are named; `open_suite` says which are missing."""
    suite = open_suite(name_or_path, folder)
    return {name: suite.load(name, cleaning) for name in only or suite.tasks}


def read_suite(name_or_path: str) -> SuiteFile:
    """The settings of a packaged suite, or of the file of one. UserError for what is none."""
    return _read(_path_of(name_or_path))


def _path_of(name_or_path: str) -> Path:
    if name_or_path in SUITES:
        return _FOLDER / f"{name_or_path}.yaml"
    if "/" not in name_or_path and not name_or_path.endswith((".yaml", ".yml")):
        raise UserError(f"no suite is called {name_or_path!r}; {choices(name_or_path, SUITES)}, or name a file")
    return Path(name_or_path).expanduser()


def _read(path: Path) -> SuiteFile:
    values = read_settings(path, f"a packaged suite ({', '.join(SUITES)}) or the file of one", "write about and tasks")
    return checked(SuiteFile, values, str(path))


def _tasks(suite: SuiteFile, path: Path) -> dict[str, TaskFile]:
    return {
        name: task_of({**suite.common, **settings}, f"{path}: tasks.{name}") for name, settings in suite.tasks.items()
    }


def _has_some(name: str, folder: Path) -> bool:
    """Whether a folder has a task of a packaged suite."""
    path = _path_of(name)
    return any(_is_scored(task, _there(task, folder)[0]) for task in _tasks(_read(path), path).values())


def _is_scored(task: TaskFile, there: TaskFile) -> bool:
    """Whether what is there of a task has rows to score: those it names, or a share of train if it names none."""
    return bool(there.validation or there.test or (there.train and not (task.validation or task.test)))


def _few(files: list[str]) -> str:
    """The first of some files, and how many more there are."""
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return f"{', '.join(files[:NAMED])}{more}"


def _there(task: TaskFile, folder: Path) -> tuple[TaskFile, list[str]]:
    """The task with the parts whose files are in the folder, and the paths of the others."""
    parts: dict[str, list[Part]] = {}
    lacking: list[str] = []
    for split in SPLIT_NAMES:
        parts[split] = []
        for part in task.parts(split):
            if _is_there(part, folder):
                parts[split].append(part)
            else:
                lacking.append(part.path)
    return task.model_copy(update=parts), list(dict.fromkeys(lacking))


def _is_there(part: Part, folder: Path) -> bool:
    try:
        return all(path.exists() for path in paths_of(part, folder))
    except UserError:  # a pattern that names nothing
        return False
