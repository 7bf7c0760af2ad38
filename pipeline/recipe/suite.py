"""A suite of tasks as a section of a recipe: a job for each task whose files are in the user's folder.

    suite:
      name: glue
      folder: ~/glue
      job: {seeds: 5, steps: 500, …}           # settings of all jobs
      changes: {rte: {steps: 1000}}            # and of some
                                                ─►  downstream: [{name: cola, …}, {name: rte, …}, …]

The jobs are made when a recipe is read. They then stand in `downstream`, as a resolved recipe has them, and `job` and
`changes` are empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_prep.errors import UserError, choices
from data_prep.kinds import Problem
from data_prep.labelled.examples import TASKS, Task
from data_prep.labelled.suite import SUITES, Suite, open_suite, read_suite
from data_prep.settings import Settings
from pipeline.downstream.fine_tune.checks import BASELINES
from pipeline.downstream.model_names import PRETRAINED

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Experiment

KEY = "suite"
_NO_SLUG = re.compile(r"[^a-z0-9]+")


class SuiteConfig(Settings):
    """A suite of tasks, each of which becomes a job."""

    name: str = Field(examples=list(SUITES))
    """A packaged suite, or the file of one."""
    folder: str
    """The folder with its files, as they are downloaded."""
    tasks: list[str] | None = None
    """The tasks to do; null: all whose files are there."""
    job: dict[str, Any] = Field(default={})
    """Settings of the jobs, as in `downstream`."""
    changes: dict[str, dict[str, Any]] = Field(default={})
    """Settings of the jobs of some tasks, laid over those of all."""


def fill(data: dict[str, Any], where: str, layers: Sequence[tuple[str, list[str]]] = ()) -> Callable[[str], str]:
    """Put the jobs of a recipe's suite, as it was written, into `downstream`, before the recipe's own.

    layers: (label, paths that it set) of what was laid over the file: a setting of all jobs that was set after that of
    one task takes its place. Returns a function from a path in the recipe to the one by which the user set it.
    UserError where the suite has no folder, or the folder no task of it, or for tasks that are not there.
    """
    section = data.get(KEY)
    if not isinstance(section, dict) or not isinstance(section.get("name"), str):
        return str
    own = data.get("downstream") or []
    folder = section.get("folder")
    if folder is None:
        source = read_suite(section["name"]).source
        had = f" ({source})" if source else ""
        name = Path(section["name"]).stem
        raise UserError(
            f"{where}: suite.folder: missing; name the folder with the files of {name}{had}: --set suite.folder=…"
        )
    shared, changes = section.get("job", {}), section.get("changes", {})
    if not isinstance(own, list) or not isinstance(folder, str) or not _are_settings(shared, changes):
        return str  # which is refused as settings of the wrong kind
    is_made = any(_of_suite(job) for job in own)
    if is_made and (shared or changes):
        raise UserError(
            f"{where}: suite.{'job' if shared else 'changes'}: downstream has the suite's jobs already; set it there"
        )
    if is_made:
        return str
    try:
        suite = open_suite(section["name"], Path(folder), learned=True)
        names = _asked(suite, section.get("tasks"))
    except UserError as error:
        raise UserError(f"{where}: suite: {error}") from None
    for name in changes:
        if name not in {*suite.tasks, *suite.missing}:
            raise UserError(f"{where}: suite.changes.{name}: no such task; {choices(name, suite.tasks)}")
    changes = {name: _latest(name, settings, layers) for name, settings in changes.items()}
    section["changes"] = changes
    data["downstream"] = [*(_job(section, suite, name) for name in names), *own]
    section.pop("job", None)
    section.pop("changes", None)
    return _origin(names, changes)


def _are_settings(shared: Any, changes: Any) -> bool:
    sections = [shared, changes, *(changes.values() if isinstance(changes, dict) else ())]
    return all(isinstance(section, dict) for section in sections)


def _latest(name: str, settings: Mapping[str, Any], layers: Sequence[tuple[str, list[str]]]) -> dict[str, Any]:
    """The settings of a task that no later layer sets for all."""
    return {
        key: value
        for key, value in settings.items()
        if _layer(f"{KEY}.changes.{name}.{key}", layers) >= _layer(f"{KEY}.job.{key}", layers)
    }


def _layer(path: str, layers: Sequence[tuple[str, list[str]]]) -> int:
    """The number of the last layer that set a path, or what is around it; −1: the file."""
    set_by = [
        number
        for number, (_, paths) in enumerate(layers)
        if any(path == other or path.startswith(f"{other}.") for other in paths)
    ]
    return max(set_by, default=-1)


def _of_suite(job: Any) -> bool:
    of = job.get("data") if isinstance(job, Mapping) else None
    return isinstance(of, Mapping) and of.get("suite") is not None


def _has_suite(job: Any) -> bool:
    return getattr(getattr(job, "data", None), "suite", None) is not None


def _asked(suite: Suite, tasks: Any) -> list[str]:
    """The tasks to do. UserError for one that is asked for and not there."""
    if not isinstance(tasks, list):
        return list(suite.tasks)
    for name in tasks:
        suite.task(str(name))
    return [str(name) for name in tasks]


def _job(section: Mapping[str, Any], suite: Suite, name: str) -> dict[str, Any]:
    """A job as a recipe has it, with all methods without a network that its kind knows unless some are named."""
    task = _task(suite, name)
    settings = {**section.get("job", {}), **section["changes"].get(name, {})}
    data = {"suite": section["name"], "of": name, "folder": section["folder"]}
    slug = _NO_SLUG.sub("-", name.lower()).strip("-")
    return {"name": slug, "task": task, "data": data, "baselines": list(BASELINES[task]), **settings}


def _task(suite: Suite, name: str) -> Task:
    task = TASKS[suite.task(name).predicts]
    if task not in BASELINES:
        raise UserError(f"suite: {name} is {task}, for which there is no job; leave it out of suite.tasks.")
    return task


def _origin(names: list[str], changes: Mapping[str, Any]) -> Callable[[str], str]:
    def origin(path: str) -> str:
        match = re.fullmatch(r"downstream\.(\d+)\.(([^.]+).*)", path)
        if match is None or int(match[1]) >= len(names):
            return path
        name = names[int(match[1])]
        is_changed = match[3] in changes.get(name, {})
        return f"suite.changes.{name}.{match[2]}" if is_changed else f"suite.job.{match[2]}"

    return origin


def problems(recipe: Any) -> Iterator[Problem]:
    """Jobs of another folder, or of other tasks, than the recipe's suite."""
    suite = recipe.suite
    if suite is None:
        return
    done = []
    for index, job in enumerate(recipe.downstream):
        if not _has_suite(job):
            continue
        data = job.data
        done.append(data.of)
        for name, value, wanted in (("suite", data.suite, suite.name), ("folder", data.folder, suite.folder)):
            if value != wanted:
                key = "name" if name == "suite" else name
                yield f"downstream.{index}.data.{name}", f"found {value!r}, and suite.{key} is {wanted!r}"
    if suite.tasks is not None and set(done) != set(suite.tasks):
        yield "suite.tasks", f"names {', '.join(suite.tasks)}, and the jobs of downstream are of {', '.join(done)}"


def opened(recipe: Experiment) -> tuple[Suite, dict[str, str]] | None:
    """The suite that jobs of a recipe belong to, and their tasks by the jobs' names; None if they are of none, or of
    several."""
    of_jobs: dict[str, Any] = {job.name: job.data for job in recipe.downstream if _has_suite(job)}
    places = {(data.suite, data.folder) for data in of_jobs.values()}
    if len(places) != 1:
        return None
    name, folder = places.pop()
    return open_suite(name, Path(folder), learned=True), {name: data.of for name, data in of_jobs.items()}


def described(recipe: Experiment) -> dict[str, Any]:
    """What a report says of the suite of a recipe's jobs, as plain values; empty if there is none."""
    of_jobs = opened(recipe)
    if of_jobs is None:
        return {}
    suite, tasks = of_jobs
    encoders = _encoders(recipe)
    return {
        **({"encoders": encoders} if encoders else {}),
        "name": suite.name,
        "about": suite.about,
        "average": suite.average,
        **({"lacks": list(suite.lacks)} if suite.lacks else {}),
        "published": [row.model_dump(mode="json") for row in suite.published],
        "missing": list(suite.missing),
        "metrics": suite.metrics,
        "tasks": tasks,
    }


def _encoders(recipe: Experiment) -> dict[str, dict[str, str]]:
    """What tables call the networks of a recipe, and what they were pretrained on, as far as it says so."""
    init = getattr(recipe, "init", None)
    named = {**({} if init is None else {PRETRAINED: init}), **recipe.other_networks}
    return {
        name: {"title": of.title, "pretrained_on": of.pretrained_on}
        for name, of in named.items()
        if of.title or of.pretrained_on
    }


def remarks(recipe: Experiment) -> list[str]:
    """Tasks of the recipe's suite that are not there, unless it names those to do, and missing files of the others."""
    of_jobs = opened(recipe)
    if of_jobs is None:
        return []
    suite, tasks = of_jobs
    section = getattr(recipe, KEY, None)
    missing = suite.missing if section is not None and section.tasks is None else {}
    absent = {name: files for name, files in suite.absent.items() if name in tasks.values()}
    return replace(suite, missing=missing, absent=absent).remarks()
