"""Labelled data for the downstream jobs: a registered data set, or a file of the user's.

A file is one of `layouts.table`: JSON lines, separated values with a header, Parquet, Arrow. One row is

    {"text": "…", "text_pair": "…", "label": "…"}        classification; text_pair is optional
    {"words": ["…", …], "tags": ["…", …]}                tagging; in .tsv and .csv by spaces, or as JSON

and may have {"split": "train" | "validation" | "test"}, in all rows or none. Without it, rows are
split by a keyed hash of their contents, so equal rows are in one split and the order of lines does
not matter. Texts and labels are cleaned as documents are (`data_prep.tokens.cleaning`): rows that
look alike are alike. Unlike in a corpus, a single bad row is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from data_prep.corpus.documents import SPLITS, SplitConfig, assign_splits
from data_prep.errors import UserError, choices
from data_prep.labelled.examples import TEXT, Example, Head, Labelled
from data_prep.labelled.layouts import table
from data_prep.labelled.loading import load_files
from data_prep.labelled.rows import Asked, Reading
from data_prep.labelled.sets import REGISTERED, registered
from data_prep.labelled.suite import SUITES, open_suite
from data_prep.labelled.task import TaskFile, files_of, read_task
from data_prep.labelled.text_to_text import in_one_text
from data_prep.labelled.values import alike, in_order, label_of, list_of, text_of, texts_of
from data_prep.sources.written import Delimiter, Encoding, as_of_old
from data_prep.tokens.cleaning import Cleaning

__all__ = ["REGISTERED", "Example", "Labelled", "LabelledConfig", "load"]

_CLASSIFICATION = {"text", "text_pair", "label", "split"}
_TAGGING = {"words", "tags", "split"}
_OF_SUITE = ("suite", "of", "folder")
_OF_TASKS = ("task", *_OF_SUITE)
_READS = (
    "kind", "layout", "columns", "separator", "quotes", "encoding", "inputs", "optional", "label", "choices", "id",
    "language", "max_rejects",
)  # fmt: skip
_OF_PREDICT = ("layout", "inputs", "id")  # which rows without answers may have of their own


class LabelledConfig(BaseModel):
    """A labelled data set: exactly one of `name`, `path`, `task` and `suite`."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, examples=list(REGISTERED))
    """A registered data set."""
    path: str | None = None
    """A file of the user's; `~` is the home folder."""
    task: str | None = None
    """A task file of the user's (`data_prep.labelled.task`), which says all else itself."""
    suite: str | None = Field(default=None, examples=list(SUITES))
    """A packaged suite of tasks, or the file of one (`data_prep.labelled.suite`), which says all else itself."""
    of: str | None = None
    """The task of that suite."""
    folder: str | None = None
    """The user's folder with the files of that suite."""
    split: SplitConfig = SplitConfig(validation=0.1, test=0.1)
    """Shares held out if the data has no splits. (Sets derived from a corpus use the splits of the corpus.)"""
    seed: int = 0
    """Seed of the split, and of where windows are cut."""
    licence: str | None = None
    """Licence of the user's own file, for the records."""
    encoding: Encoding = None
    """Encoding of a file that is not UTF-8, such as cp1252, latin-1 or utf-16; lines that are UTF-8 stay so."""
    delimiter: Delimiter = None
    """What parts the columns of a `.csv` or `.tsv` file; null: what its name and its first lines say."""

    @model_serializer(mode="wrap")
    def _as_of_old(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return as_of_old(dump(self), ("encoding", "delimiter", *_OF_TASKS))

    @model_validator(mode="after")
    def _is_one(self) -> LabelledConfig:
        given = [name for name in ("name", "path", "task", "suite") if getattr(self, name) is not None]
        if len(given) != 1:
            shown = " and ".join(given) or "none"
            raise ValueError(f"labelled data takes one of name, path, task and suite; found {shown}")
        fields = LabelledConfig.model_fields.items()
        others = [name for name, field in fields if name not in _OF_TASKS and getattr(self, name) != field.default]
        if self.is_task and others:
            raise ValueError(f"a task file says {others[0]} itself; leave it out here")
        for name in _OF_SUITE:
            if (getattr(self, name) is None) != (self.suite is None):
                raise ValueError(f"suite, of and folder belong together, and {name} is {getattr(self, name)!r}")
        if self.name is not None and self.name not in REGISTERED:
            raise ValueError(f"no labelled data is called {self.name!r}; {choices(self.name, REGISTERED)}")
        return self

    @property
    def is_task(self) -> bool:
        """Whether a task file, or a suite, says what the data are."""
        return self.task is not None or self.suite is not None

    @property
    def shown(self) -> str:
        """What to call it in messages."""
        return self.name or self.path or self.task or f"{self.suite}/{self.of} in {self.folder}"

    def files(self) -> list[Path]:
        """The user's files, those that a task file names among them. UserError for a task file that cannot be read."""
        if not self.is_task:
            return [] if self.path is None else [Path(self.path).expanduser()]
        task, folder = self.task_file()
        named = self.task if self.suite is None else None if self.suite in SUITES else self.suite
        own = [] if named is None else [Path(named).expanduser()]
        return [*own, *files_of(task, folder)]

    @property
    def kind(self) -> str:
        """Kind of data of its rows. UserError for a task file that cannot be read."""
        return self.task_file()[0].kind if self.is_task else TEXT

    def task_file(self, written: bool = False) -> tuple[TaskFile, Path]:
        """The task of a task file or of a suite, and the folder where its paths begin. UserError if there is none.

        written: with inputs for a network that writes its answers (`data_prep.labelled.text_to_text`).
        """
        if self.suite is not None:
            suite = open_suite(self.suite, Path(self.folder or ""))
            task, folder, name = suite.task(self.of or ""), suite.folder, self.of or ""
        else:
            path = Path(self.task or "").expanduser()
            task, folder, name = read_task(path), path.parent, path.stem
        return (in_one_text(task, name) if written else task), folder

    def reads(self, head: Head, in_pairs: bool, written: bool = False) -> dict[str, Any]:
        """How rows to predict are laid out, as settings of a task file: as those that are learned from, or as the task
        says of such rows (`predict`)."""
        if self.is_task:
            task = self.task_file(written)[0]
            given = task.model_dump(mode="json", exclude_defaults=True)
            reads = {name: given[name] for name in _READS if name in given}
            for name in _OF_PREDICT:
                first, *others = [getattr(part, name) for part in task.predict] or [None]
                if first is not None and all(other == first for other in others):
                    reads[name] = first
            if task.predicts == "text" and not reads.get("inputs"):
                reads["inputs"] = [task.prompt]
            return {**reads, "head": head}
        inputs = {"tags": ["words"], "answer": ["context", "question"]}.get(head, ["text", "text_pair"][: 1 + in_pairs])
        reads = {"head": head, "inputs": inputs, "encoding": self.encoding, "separator": self.delimiter}
        return {**reads, "optional": inputs[1:]} if in_pairs and head == "class" else reads


def load(
    config: LabelledConfig,
    downloads: Path,
    corpus: Path | None = None,
    cleaning: Cleaning | None = None,
    written: bool = False,
    kind: str = TEXT,
) -> Labelled:
    """The data set that a config names.

    downloads: folder of packages. corpus: folder of the corpus that some registered sets are derived
    from. cleaning: what is done to the characters of a file's texts, as to those of documents; by
    default as a recipe does by default. written: see `LabelledConfig.task_file`. kind: of data that the
    network reads. Raises `UserError` with file and line, and what was found and expected.
    """
    if config.kind != kind:
        raise UserError(
            f"{config.shown}: its rows are of kind {config.kind}, and the network reads {kind}; "
            f"give rows of kind {kind}, or a network of {config.kind}"
        )
    if config.name is not None:
        return registered(config.name, Path(downloads), corpus, config.split, config.seed)
    if config.is_task:
        task, folder = config.task_file(written)
        name = Path(config.task).name if config.task else f"{Path(config.suite or '').stem}/{config.of}"
        return load_files(task, folder, name, cleaning or Cleaning())
    return _from_file(Path(config.path or "").expanduser(), config, cleaning or Cleaning())


def _from_file(path: Path, config: LabelledConfig, cleaning: Cleaning) -> Labelled:
    reading = Reading()
    rows = list(_rows(path, config, reading))
    if not rows:
        raise UserError(f"{path} is empty; it should hold one labelled row per line")
    tagging = "words" in rows[0][1]
    read = _tagged if tagging else _classified
    parsed = [read(where, row, cleaning) for where, row in rows]
    names = {label for _, labels in parsed for label in labels}
    labels = sorted(names, key=in_order)
    if len(labels) < 2:
        raise UserError(f"{path} has only the label {labels[0]!r}; at least two are needed")
    number = {label: i for i, label in enumerate(labels)}
    splits: dict[str, list[Example]] = {split: [] for split in SPLITS}
    assigned = _splits(path, rows, [content for content, _ in parsed], config)
    for (content, split_of_row), split in zip(parsed, assigned, strict=True):
        numbers = tuple(number[label] for label in split_of_row)
        answer: dict[str, Any] = {"tags": numbers} if tagging else {"label": numbers[0]}
        splits[split].append(Example(**content, **answer))
    return Labelled(
        task="tagging" if tagging else "classification",
        labels=labels,
        splits=splits,
        description=f"{len(rows)} rows of {path.name}",
        licence=config.licence or "not stated",
        protocol="accuracy and macro F1 over the " + ("words" if tagging else "rows") + " of test",
        notes=(*reading.notes, *alike(labels)),
    )


def _splits(
    path: Path, rows: list[tuple[str, dict[str, Any]]], parsed: list[dict[str, Any]], config: LabelledConfig
) -> list[str]:
    """The split of each row: as stated in the rows, or by their contents, `parsed`."""
    stated = ["split" in row for _, row in rows]
    if any(stated):
        for where, row in rows:
            if row.get("split") not in SPLITS:
                shown = f"the split {row['split']!r}" if "split" in row else "no split"
                raise UserError(
                    f"{where} has {shown}; since some rows have one, all must, and it"
                    f" is {', '.join(SPLITS[:-1])} or {SPLITS[-1]}"
                )
        splits = [row["split"] for _, row in rows]
    else:
        contents = [json.dumps([row.get(name) for name in ("text", "text_pair", "words")]) for row in parsed]
        split_of = assign_splits(list(dict.fromkeys(contents)), config.split, config.seed)
        splits = [split_of[content] for content in contents]
    for split in SPLITS:
        if split not in splits:
            raise UserError(f"{path} leaves no rows for {split}; add rows, or say which row is in which split")
    return splits


def _classified(where: str, row: dict[str, Any], cleaning: Cleaning) -> tuple[dict[str, Any], list[str]]:
    """What an example is made of, and its labels by name."""
    _known(where, row, _CLASSIFICATION)
    content = {name: row.get(name) for name in ("text", "text_pair")}
    for name, value in content.items():
        if name == "text" or value is not None:
            content[name] = text_of(where, f"{name!r} is %s", value, cleaning)
    return content, [label_of(where, "label", row.get("label"), cleaning)]


def _tagged(where: str, row: dict[str, Any], cleaning: Cleaning) -> tuple[dict[str, Any], list[str]]:
    """What an example is made of, and its labels by name."""
    _known(where, row, _TAGGING)
    words, tags = list_of(where, "words", row.get("words")), list_of(where, "tags", row.get("tags"))
    if len(words) != len(tags):
        raise UserError(f"{where} has {len(words)} words and {len(tags)} tags; expected one each")
    cleaned = tuple(text_of(where, "the word %s in 'words'", word, cleaning) for word in words)
    return {"words": cleaned}, [label_of(where, "tags", tag, cleaning) for tag in tags]


def _known(where: str, row: dict[str, Any], allowed: set[str]) -> None:
    unknown = [name for name in row if name not in allowed]
    if unknown:
        raise UserError(
            f"{where} has the field {unknown[0]!r}; expected {', '.join(sorted(_CLASSIFICATION))}"
            f" for classification or {', '.join(sorted(_TAGGING))} for tagging, the same in all rows"
        )


def _rows(path: Path, config: LabelledConfig, reading: Reading) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and fields of each row of a file."""
    asked = Asked({*_CLASSIFICATION, *_TAGGING}, config.encoding, config.delimiter)
    is_separated = table.is_separated(path)
    for row in table.rows(path, asked, reading):
        if isinstance(row, UserError):
            raise row
        yield row.where, _of_labelled(row.where, row.fields) if is_separated else row.fields


def _of_labelled(where: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row with words and tags apart, and without optional fields that are empty."""
    return {
        name: texts_of(where, name, cell, are_words=name == "words") if name in ("words", "tags") else cell
        for name, cell in row.items()
        if cell or name not in ("text_pair", "split")
    }
