"""What packaged recipes need of the user, so that they load: a suite's folder of empty files, parallel texts."""

from __future__ import annotations

import json
from pathlib import Path

from data_prep.labelled.suite import read_suite
from data_prep.labelled.task import SPLIT_NAMES, task_of
from pipeline.recipe.load import read


def touch(suite: str, folder: Path) -> None:
    """Create the files that all tasks of a suite name."""
    settings = read_suite(suite)
    for name, values in settings.tasks.items():
        task = task_of({**settings.common, **values}, name)
        for part in (part for split in SPLIT_NAMES for part in task.parts(split)):
            path = folder / part.path.replace("*", "_")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def settings_of(recipe: str, folder: Path) -> list[str]:
    """What a packaged recipe needs to load: of a suite, a folder with its files; of parallel texts, their file."""
    values = read(recipe)[0]
    section = values.get("suite")
    if section is None:
        lacking = [number for number, job in enumerate(values.get("downstream", ()))
                   if job.get("sentences", {}).get("path", "") is None]  # fmt: skip
        return [f"downstream.{number}.sentences.path={json.dumps(str(folder / 'pairs.tsv'))}" for number in lacking]
    touch(section["name"], folder)
    return [f"suite.folder={json.dumps(str(folder))}"]
