"""The rows of a task file as a labelled data set: read, put in splits, numbered, and checked.

files ─► layout ─► rows ─► head ─► examples ─► splits, labels, ids
                     └► not usable: an error with its line, or counted (`max_rejects`)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.corpus.documents import SplitConfig, assign_splits
from data_prep.errors import UserError
from data_prep.labelled import choices
from data_prep.labelled.examples import TASKS, TEXT, Example, Labelled, unit_of
from data_prep.labelled.heads import MAKERS, Columns, Draft, value_of, value_or_null
from data_prep.labelled.layouts import files, hub, squad, table, tokens
from data_prep.labelled.layouts.schemes import scheme_in
from data_prep.labelled.rows import NAMED, Asked, Reading, Rejects, Row, first_of
from data_prep.labelled.segments import UNKNOWN, tags_of
from data_prep.labelled.task import SPLIT_NAMES, Layout, Part, TaskFile, columns_in, paths_of, read_task
from data_prep.labelled.values import alike, as_text, in_order, plain, spelled
from data_prep.tokens.cleaning import Cleaning

READERS: dict[Layout, Callable[[Path, Asked, Reading], Iterator[Row | UserError]]] = {
    "table": table.rows,
    "squad": squad.rows,
    "tokens": tokens.rows,
    "hub": hub.rows,
    "files": files.rows,
}
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")


def load_task(path: Path, cleaning: Cleaning | None = None) -> Labelled:
    """The data of a task file. UserError, with file and line, for what cannot be used.

    cleaning: what is done to texts, but not to contexts, in which answers have places; None: nothing.
    """
    path = Path(path).expanduser()
    return load_files(read_task(path), path.parent, path.name, cleaning)


def load_files(task: TaskFile, folder: Path, name: str, cleaning: Cleaning | None = None) -> Labelled:
    """The data of a task whose paths begin at a folder. name: of the task, for errors."""
    reading = Reading()
    drafts: dict[str, list[Draft]] = {}
    for split in SPLIT_NAMES:
        reader = _Reader(task, folder, name, split, reading, cleaning, has_all=split == "predict")
        drafts[split] = [draft for part in task.parts(split) for draft in reader.drafts(part)]
    if not any(drafts.values()):
        raise UserError(f"{name}: names no files; set train, validation or test")
    _unique_ids(drafts, reading, name)
    if task.predicts == "choice":
        _choose(drafts, task.label, name)
    _hold_out(task, drafts, name)
    labels = _labels(task, drafts, reading, cleaning)
    splits = {split: _examples(drafts[split], labels, task.outside) for split in SPLIT_NAMES}
    scheme = _scheme(splits, labels, reading) if task.predicts == "tags" and task.kind == TEXT else ""
    if not splits["test"] and splits["validation"]:
        reading.notes.append("there is no test: scores are those of validation")
    reported = "test" if splits["test"] else "validation"
    measured = ", ".join(task.metrics) or "the head's own metrics"
    return Labelled(
        task=TASKS[task.predicts],
        labels=labels,
        splits=splits,
        description=task.about or f"{sum(map(len, drafts.values())):,} rows of {name}",
        licence=task.licence,
        protocol=f"{measured} over the {unit_of(task.predicts, task.kind)} of {reported}",
        notes=tuple(reading.remarks()),
        metrics=tuple(task.metrics),
        scheme=scheme,
        outside=task.outside,
        kind=task.kind,
    )


def unlabelled(
    task: TaskFile, folder: Path, name: str, reading: Reading, cleaning: Cleaning | None = None
) -> Iterator[Example]:
    """Rows of `predict`, one after another, without answers; where they lack the column `id`, file and line name them.

    reading: to which is added what is odd about them.
    """
    reader = _Reader(task, folder, name, "predict", reading, cleaning, needs_names=False)
    for part in task.parts("predict"):
        for draft in reader.drafts(part):
            yield Example(**draft.content)


def examples_of(task: TaskFile, rows: Sequence[Mapping[str, Any]], cleaning: Cleaning | None = None) -> list[Example]:
    """Rows that stand in no file, laid out as tables of the task, without answers; of kinds whose rows are files they
    hold the contents of these. UserError, with the number of the row, for one that cannot be used."""
    reader = _Reader(task, Path(), "the task", "predict", Reading(), cleaning, are_sent=True)
    part = Part(path="rows")
    columns = reader._columns(part)
    read = [Row(f"row {number}", f"row {number}", dict(fields)) for number, fields in enumerate(rows, 1)]
    drafts = (reader._draft(row, part, columns) for row in read)
    return [Example(**draft.content) for draft in drafts if draft is not None]


def rows_of(
    task: TaskFile, split: str, folder: Path, wanted: Sequence[str], reading: Reading
) -> Iterator[Row | UserError]:
    """The rows of a split as its files hold them. wanted: the columns that are used."""
    for part in task.parts(split):
        yield from _read(task, part, split, folder, [*wanted, *part.only], reading)


def is_ignored(task: TaskFile, row: Row, label: str, name: str, reading: Reading) -> bool:
    """Whether the task leaves out rows with the row's label; such rows are counted. name: of the task, for errors."""
    if not task.ignore or plain(spelled(value_of(row, label, name))) not in map(plain, task.ignore):
        return False
    reading.add("rows with an ignored label, left out", row.place)
    return True


def _read(
    task: TaskFile, part: Part, split: str, folder: Path, wanted: Sequence[str], reading: Reading
) -> Iterator[Row | UserError]:
    columns = tuple(task.columns if part.columns is None else part.columns)
    language = [name for name in (part.language or task.language,) if isinstance(name, str) and name]
    asked = Asked(wanted, task.encoding, task.separator, columns, task.quotes, split, language)
    for path in paths_of(part, folder):
        shown = str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
        for row in READERS[part.layout or task.layout](path, asked, reading):
            if not isinstance(row, UserError):
                row.fields.update(part.fields)
            if isinstance(row, UserError):
                yield row
            elif not isinstance(asked_for := _is_asked(row, part), bool):
                yield asked_for
            elif asked_for:
                begin = row.folder if row.folder != Path() else path if path.is_dir() else path.parent
                yield row._replace(place=shown + row.place[len(path.name) :], folder=begin)


def _is_asked(row: Row, part: Part) -> bool | UserError:
    """Whether a row has the values of `only`; an error for one without such a column."""
    try:
        values = {name: value_or_null(row, name, "only") for name in part.only}
    except UserError as error:
        return error
    return all(
        value is not None and plain(spelled(value)) in map(plain, [given] if isinstance(given, str) else given)
        for (name, value), given in zip(values.items(), part.only.values(), strict=True)
    )


@dataclass
class _Reader:
    """Makes drafts of the rows of one split."""

    task: TaskFile
    folder: Path
    name: str
    split: str
    reading: Reading
    cleaning: Cleaning | None
    needs_names: bool = True
    """Whether rows must have the columns that name them and their language."""
    has_all: bool = False
    """Whether no row may be left out: files for test servers have all, empty ones, too."""
    are_sent: bool = False
    """Whether rows stand in no file."""

    def __post_init__(self) -> None:
        self.rejects = Rejects(self.task.max_rejects, self.reading)

    def drafts(self, part: Part) -> Iterator[Draft]:
        columns = self._columns(part)
        names = [*columns.names, *filter(None, (id_column(self.task, part),)), *part.only]
        count, unanswerable = 0, _Unanswerable()
        for row in _read(self.task, part, self.split, self.folder, names, self.reading):
            count += 1
            try:
                if isinstance(row, UserError):
                    raise row
                if (draft := self._draft(row, part, columns)) is not None:
                    yield draft
            except UserError as error:
                if self.has_all:
                    unanswerable.add(error, None if isinstance(row, UserError) else self._id_if_any(row, part))
                else:
                    self.rejects.add(error)
        unanswerable.check()
        if not count:
            of_only = " with these values of only" * bool(part.only)
            raise UserError(f"{self.folder / part.path} has no row{of_only}; name a file that has some.")

    def _columns(self, part: Part) -> Columns:
        task, layout = self.task, part.layout or self.task.layout
        inputs = tuple(part.inputs or task.inputs)
        label = part.label or (task.label if "label" in task.model_fields_set or layout in ("table", "hub") else "")
        if layout == "squad":
            inputs, label = inputs or squad.COLUMNS, label or squad.LABEL
        elif layout == "tokens":
            columns = tuple(task.columns if part.columns is None else part.columns)
            words, tags = tokens.defaults(columns or tokens.columns_of(paths_of(part, self.folder)[0], task.encoding))
            inputs, label = inputs or (words,), label or tags
        elif layout == "files":
            inputs = inputs if part.inputs or task.layout == layout else ()  # tables beside them have their own
            inputs = inputs or (files.FILE,)
            label = label or (task.label if task.label in part.fields else files.FOLDER)
        if not inputs and task.predicts == "text" and task.prompt:
            inputs = (task.prompt,)
        if not inputs:
            raise UserError(f"{self.name}: inputs: missing; name the one or two columns that a network reads")
        if task.predicts == "answer" and len(inputs) != 2:
            raise UserError(f"{self.name}: inputs: name the column with the context and that with the question")
        if task.predicts == "choice" and not isinstance(task.choices, str | list):
            raise UserError(f"{self.name}: choices: name the column with a row's choices, or one column for each")
        own = task.choices if isinstance(task.choices, str) else tuple(task.choices or ())
        options = own if task.predicts == "choice" else ()
        if task.kind == TEXT and self.split != "predict" and label in columns_in(inputs):
            raise UserError(f"{self.name}: inputs: {label!r} is the column with the answer, too; name others")
        may_lack = inputs[1:] if task.predicts != "answer" else ()
        if unfit := [name for name in task.optional if name not in may_lack]:
            second = f"here {may_lack[0]}" if may_lack else "and there is none here"
            raise UserError(f"{self.name}: optional: {unfit[0]}; a row may do without its second text alone, {second}")
        optional = tuple(task.optional)
        may_be_empty = self.has_all and task.kind == TEXT
        return Columns(
            inputs, label, options, task.classes or None, self.name, optional, task.kind, may_be_empty, task.outside,
            self.are_sent,
        )  # fmt: skip

    def _draft(self, row: Row, part: Part, columns: Columns) -> Draft | None:
        is_labelled = self.split != "predict"
        if is_labelled and is_ignored(self.task, row, columns.label, self.name, self.reading):
            return None
        draft = MAKERS[self.task.predicts](row, columns, is_labelled, self.cleaning, self.reading)
        texts = (draft.content.get("text"), draft.content.get("text_pair"), *draft.content.get("words", ()))
        if columns.may_be_empty and not all(text is None or text.strip() for text in texts):
            self.reading.add("rows of predict with an empty text, answered as they are", row.place)
        draft.content.update(
            id=self._id(row, part),
            language=self._language(row, part),
            part=part.part,
            place=row.place,
            submit=part.submit,
        )
        return draft

    def _id(self, row: Row, part: Part) -> str:
        """The row's own, or file and line."""
        name = id_column(self.task, part)
        if name and not self.needs_names and not {name, name.partition(".")[0]} & set(row.fields):
            self.reading.add(f"rows without {name!r}, named by file and line", row.place)
            name = ""
        return as_text(row.where, name, value_of(row, name, self.name)) if name else row.place

    def _id_if_any(self, row: Row, part: Part) -> str | None:
        with suppress(UserError):
            return self._id(row, part)
        return None

    def _language(self, row: Row, part: Part) -> str:
        language = str(part.language or self.task.language)
        if {language, language.partition(".")[0]} & set(row.fields):
            value = value_or_null(row, language, self.name)
            if self.needs_names and (value is None or value == ""):
                raise UserError(f"{row.where}: {language!r}, the language, has no value; give it one, such as en")
            return "" if value is None else as_text(row.where, language, value)
        if not language or _LANGUAGE.fullmatch(language):
            return language
        if not self.needs_names:
            return ""
        problem = f"{language!r} is neither a column nor the code of a language, such as en or zh-TW"
        raise UserError(f"{row.where}: language: {problem}; it has {', '.join(row.fields)}")


class _Unanswerable:
    """Rows that a test server asks an answer to, and that have none: they are refused together."""

    def __init__(self) -> None:
        self.first: UserError | None = None
        self.count, self.ids = 0, list[str]()

    def add(self, error: UserError, own: str | None) -> None:
        """own: the row's id, where it has one that can be read."""
        self.first, self.count = self.first or error, self.count + 1
        if own is not None and len(self.ids) <= NAMED:
            self.ids.append(own)

    def check(self) -> None:
        """UserError if there are some."""
        if self.first is not None:
            what = "1 row" if self.count == 1 else f"{self.count:,} rows"
            named = f" (id {first_of(self.ids)})" if self.ids else ""
            first = str(self.first).rstrip(".")
            raise UserError(
                f"{first}; {what} of predict{named} cannot be answered, and test servers want an answer to every row: "
                f"mend {'it' if self.count == 1 else 'them'}."
            )


def id_column(task: TaskFile, part: Part) -> str:
    """The column that names rows; empty: file and line do."""
    return (task.id if part.id is None else part.id) or (squad.ID if (part.layout or task.layout) == "squad" else "")


def _hold_out(task: TaskFile, drafts: dict[str, list[Draft]], name: str) -> None:
    """Move a share of train to validation, and to test if neither is there; equal texts stay together."""
    if not drafts["train"] or drafts["validation"]:
        return
    share = SplitConfig(validation=task.split.validation, test=0 if drafts["test"] else task.split.test)
    key = "text" if task.predicts == "answer" else None  # questions about one context stay together
    key = key if task.kind == TEXT else "digest"  # as do copies of a file
    columns = (key,) if key else ("text", "text_pair", "words", "choices")
    contents = [json.dumps([draft.content.get(column) for column in columns]) for draft in drafts["train"]]
    if task.kind != TEXT and task.predicts == "answer":
        contents = [draft.content["digest"].partition(" ")[0] for draft in drafts["train"]]  # of the context
    split_of = assign_splits(list(dict.fromkeys(contents)), share, task.seed)
    train, drafts["train"] = drafts["train"], []
    for content, draft in zip(contents, train, strict=True):
        drafts[split_of[content]].append(draft)
    for split, asked in (("train", 1), ("validation", share.validation), ("test", share.test)):
        if asked and not drafts[split]:
            raise UserError(f"{name}: split leaves no rows for {split}; give more rows, other shares, or files for it")


def _choose(drafts: dict[str, list[Draft]], column: str, name: str) -> None:
    """Give each row with a label of multiple choice the number of its choice: all labels are texts, or all numbers."""
    open_rows = [draft for of_split in drafts.values() for draft in of_split if draft.labels]
    rows = [
        choices.RightChoice(f"{name}: {draft.content['place']}", draft.labels[0], draft.content["choices"])
        for draft in open_rows
    ]
    for draft, number in zip(open_rows, choices.numbers(rows, column), strict=True):
        draft.content["label"] = number
    for split, of_split in drafts.items():
        drafts[split] = [Draft(draft.content) for draft in of_split]


def _labels(task: TaskFile, drafts: dict[str, list[Draft]], reading: Reading, cleaning: Cleaning | None) -> list[str]:
    """The labels in order: those of the task file, of the data set's classes, or of the rows."""
    if task.predicts not in ("class", "tags"):
        return []
    if task.classes:
        return list(dict.fromkeys(task.classes.values()))
    seen = {label for split in drafts.values() for draft in split for label in draft.labels} | ({task.outside} - {""})
    known = (list(dict.fromkeys(map(cleaning or str, names))) for names in reading.classes.values())
    named = next((names for names in known if seen <= set(names)), None)
    if named is None and len(seen) == 1:
        raise UserError(f"all rows have the label {next(iter(seen))!r}; at least two are needed")
    labels = named or sorted(seen, key=in_order)
    reading.notes.extend(alike(labels))
    return labels


def _examples(drafts: list[Draft], labels: list[str], outside: str) -> list[Example]:
    number = {label: place for place, label in enumerate(labels)}
    examples = []
    for content, names, segments in drafts:
        numbers = tuple(number[name] for name in names)
        answer: dict[str, Any] = {"tags": numbers} if "words" in content else {"label": numbers[0]} if numbers else {}
        if segments is not None:
            numbered = [segment._replace(label=number[segment.label]) for segment in segments]
            answer = {"tags": tags_of(numbered, content["seconds"], number.get(outside, UNKNOWN))}
        examples.append(Example(**content, **answer))
    return examples


def _unique_ids(drafts: dict[str, list[Draft]], reading: Reading, name: str) -> None:
    """Refuse ids of scored rows that others of the split have, too; in predict they are counted, and in train they get
    a number."""
    for split, of_split in drafts.items():
        first: dict[tuple[str, str, str], tuple[str, int]] = {}
        for content, *_ in of_split:
            key = (content["id"], content["language"], content["part"])
            if key not in first:
                first[key] = (content["place"], 1)
                continue
            place, count = first[key]
            if split == "predict":
                reading.add("rows of predict with the id of another", content["place"])
                continue
            if split != "train":
                own = f"{content['place']} has the id {content['id']!r}"
                raise UserError(f"{name}: {own}, which {place} of {split} has, too; give each row its own")
            first[key] = (place, count + 1)
            content["id"] = f"{content['id']}#{count + 1}"
            reading.add("rows of train with the id of another, which get #2, #3 … behind it", content["place"])


def _scheme(splits: dict[str, list[Example]], labels: list[str], reading: Reading) -> str:
    """The scheme of the tags, which is said, and so is what breaks it."""
    examples = [example for split in splits.values() for example in split]
    scheme, broken = scheme_in([[labels[tag] for tag in example.tags] for example in examples], labels)
    if scheme:
        reading.notes.append(f"tags mark chunks by the scheme {scheme}")
        places = [f"{examples[number].place} word {place + 1}" for number, place in broken]
        if places:
            reading.notes.append(f"{len(places):,} tags break the scheme {scheme} ({first_of(places)})")
    return scheme
