"""A task in a small YAML file: which rows there are, what is asked of them, and how answers are scored.

    about: Sentiment of sentences of film reviews
    train: train.tsv                     # beside this file, or a whole path; a list of them; {path: …, language: …}
    validation: dev.tsv                  # without it, a share of train (`split`)
    test: test.tsv                       # without it, validation is what is reported
    inputs: [sentence]                   # one or two columns; "{title}: {body}" puts several together
    label: label                         # the column with the answer
    head: class                          # class, score, tags, choice, answer or text
    labels: {"0": negative, "1": positive}
    metrics: [accuracy]                  # the first one counts
    prompt: "Review: {sentence}\\nSentiment:"

Rows of recordings name them by a column of paths, which begin where the file with the row lies; or the files are the
rows, each with the columns `file` and `folder`:

    kind: sound                          | kind: sound
    train: clips.tsv                     | layout: files
    inputs: path                         | train: "train/*/*.wav"       # label: folder

Tags of a recording are those of its segments (`data_prep.labelled.segments`): {"file": "a.wav", "segments": [[0, 0.42,
"one"], [0.42, 0.9, "two"]]}, with inputs: file, label: segments, head: tags.

The same file serves fine-tuning and few-shot prompts; a task needs what its job uses of it. How files may be laid out
is told in `data_prep.labelled.layouts`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from data_prep.corpus.documents import SplitConfig
from data_prep.errors import UserError, choices
from data_prep.kinds import kinds_of_files
from data_prep.labelled.examples import TEXT, Head
from data_prep.labelled.values import spelled
from data_prep.opening.files import HALF, UnfitError, read
from data_prep.settings import Settings, checked
from data_prep.sources.written import Delimiter, Encoding

LARGEST = 1 << 20  # bytes of a task file
Layout = Literal["table", "squad", "tokens", "hub", "files"]
SPLIT_NAMES = ("train", "validation", "test", "predict")
ROW_HEADS: tuple[Head, ...] = ("class", "score", "choice")  # heads with one short answer to a row
FILE_HEADS: tuple[Head, ...] = ("class", "score", "tags", "choice", "answer")  # heads of rows that are files
_OF_TEXT = (
    "optional", "prompt", "step", "description", "delimiter", "between", "unconditional", "content_free", "until",
)  # fmt: skip
_GLOB = "*?"
_YES_AND_NO = ", for YAML reads yes, no, on and off as truth values"
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")  # of a template; a column may have any name without braces


class Part(Settings):
    """Files of a split, and what is different about them from the task's others."""

    path: str
    """A file, or a folder of `layout: hub`; `*` stands for any letters, `{language}` for each language."""
    language: str | list[str] = ""
    """Code of the rows' language, or the column that names it; a list with `{language}` in the path."""
    part: str = ""
    """Name of these rows, if they are reported apart."""
    fields: dict[str, str] = Field(default={})
    """Columns that all rows of these files have, such as the label of a file with rows of one class."""
    only: dict[str, str | list[str]] = Field(default={})
    """Values of columns: rows with others are not read."""
    layout: Layout | None = None
    """How it is laid out; null: as the task's others."""
    columns: list[str] | None = None
    """Names of the columns of a file without a header; []: it has one; null: as the task's others."""
    inputs: list[str] | None = Field(default=None, min_length=1, max_length=2)
    """Input columns; null: as the task's others."""
    label: str | None = None
    """Column with the answer; null: as the task's others."""
    id: str | None = None
    """Column that names rows; null: as the task's others."""
    submit: str = Field(default="", pattern=r"^(?:[\w.-]|\{language\})*$")
    """Of `predict`, the name of the file of predictions that a test server asks for, .tsv, .json or .jsonl, in which
    `{language}` stands for each language; empty: the task's name."""

    @field_validator("only", mode="before")
    @classmethod
    def _numbers_as_texts(cls, value: Any) -> Any:
        """Values of columns are texts, also those that YAML reads as numbers or truth values."""
        if not isinstance(value, Mapping):
            return value
        return {name: [*map(_text, of)] if isinstance(of, list) else _text(of) for name, of in value.items()}

    @field_validator("inputs", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


def _text(value: Any) -> Any:
    return spelled(value) if isinstance(value, int | float) else value


class TaskFile(Settings):
    """The settings of a task file."""

    about: str = ""
    """What the task is, for the report."""
    train: list[Part] = Field(default=[])
    """Rows to learn from; of few-shot prompts, where shots are drawn from."""
    validation: list[Part] = Field(default=[])
    """Rows for decisions; without them, a share of train."""
    test: list[Part] = Field(default=[])
    """Rows that are scored; without them, those of validation."""
    predict: list[Part] = Field(default=[])
    """Rows without answers, of which predictions are written."""
    kind: str = TEXT
    """text, which rows hold; sound, of whose recordings rows have the paths."""
    layout: Layout = "table"
    """table: a row each; squad: questions about paragraphs, JSON; tokens: a word a line; hub: a folder; files: each is
    a row."""
    columns: list[str] = Field(default=[])
    """Names of the columns of files without a header, and of layout tokens."""
    separator: Delimiter = None
    """What parts columns; null: what the file's name and its first lines say."""
    quotes: bool = True
    """Whether a quote may quote a field; false: it is a character, and every line is a row, as in GLUE's files."""
    encoding: Encoding = None
    """Encoding of files that are not UTF-8."""
    inputs: list[str] = Field(default=[], max_length=2)
    """One or two columns, or templates with columns in braces; of `answer` context and question."""
    optional: list[str] = Field(default=[])
    """The second input where it may be empty or missing: such a row is one text."""
    label: str = "label"
    """The column with the answer; unless it is named, of layout tokens the last one, of files `folder`."""
    head: Head | None = None
    """What is predicted; null: what layout and choices say, or else class."""
    labels: list[str] | dict[str, str] = Field(default=[])
    """The labels in order, or the names of those in the files; without them, those of train. Of choice, the codes of
    the choices in order, or the number from 0 of each; without them labels are texts of choices, or numbers."""
    outside: str = ""
    """Of tags of files, the label of what is in no segment; empty: it is not known, and neither learned nor scored."""
    ignore: list[str] = Field(default=[])
    """Labels of rows that are left out, and counted, such as - where judges did not agree."""
    choices: dict[str, str] | str | list[str] | None = None
    """Words for each label; or the column with a row's own choices, or one column for each choice."""
    metrics: list[str] = Field(default=[])
    """Names of metrics; the first one counts."""
    id: str = ""
    """Column that names rows; empty: file and line do."""
    language: str = ""
    """Code of the language of all rows, such as en, or the column that names it."""
    split: SplitConfig = SplitConfig(validation=0.1, test=0.1)
    """Shares of train that are held out where validation or test is missing; equal texts stay together."""
    seed: int = 0
    """Seed of the split."""
    max_rejects: int = Field(default=0, ge=0)
    """Most rows of a split that cannot be used and are left out; the next one is an error, and so is any of `predict`,
    for test servers want an answer to every row: to an empty text, too."""
    licence: str = "not stated"
    """Licence of the rows, for the records."""
    prompt: str = ""
    """What a row becomes as text for a decoder or an encoder–decoder; columns in braces."""
    step: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Step in which a network that writes its answers writes scores; null: about a 25th of the range of those of train,
    which is T5's 0.2 where they reach from 0 to 5, as in STS-B."""
    description: str = ""
    """Text before the first shot."""
    delimiter: str = " "
    """Between a prompt and its answer."""
    between: str = "\n\n"
    """Between shots."""
    unconditional: str = ""
    """Prompt by which the choices' prior is measured; empty: nothing but what texts begin with."""
    content_free: list[str] = Field(default=["N/A", "", "[MASK]"], min_length=1)
    """What fields hold in prompts that say nothing, by which answers are calibrated (Zhao et al. 2021)."""
    until: list[str] = Field(default=["\n"])
    """Texts before which a written answer ends."""

    @field_validator(*SPLIT_NAMES, mode="before")
    @classmethod
    def _as_parts(cls, value: Any) -> Any:
        """A path, a part, or a list of either, as a list of parts."""
        values = value if isinstance(value, list) else [] if value is None else [value]
        for item in values:
            if isinstance(item, Mapping) and (unknown := sorted(map(str, set(item) - set(Part.model_fields)))):
                raise ValueError(f"{unknown[0]!r} is an unknown key; {choices(unknown[0], Part.model_fields)}")
            if not isinstance(item, str | Mapping | Part) or (isinstance(item, Mapping) and "path" not in item):
                raise ValueError("give a path, {path: …, language: …}, or a list of them")
        return [{"path": item} if isinstance(item, str) else item for item in values]

    @field_validator("inputs", "metrics", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        """One name, or a list of them, as a list."""
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> TaskFile:
        for split in SPLIT_NAMES:
            for part in getattr(self, split):
                if ("{language}" in part.path) != isinstance(part.language, list):
                    raise ValueError(f"{split}: {part.path!r}: a list of languages goes with {{language}} in the path")
                self._check_submit(part, split)
        files = [part.submit for part in self.parts("predict") if part.submit]
        if len(set(files)) < len(files):
            twice = next(file for file in files if files.count(file) > 1)
            raise ValueError(
                f"predict: two parts have the submit {twice!r}; give each its own, or put their files in one"
            )
        for name, template in (*(("inputs", template) for template in self.inputs), ("prompt", self.prompt)):
            try:
                fields_of(template)
            except ValueError as error:
                advice = "write names of columns in braces, and {{ for a brace"
                raise ValueError(f"{name}: {error}; {advice}") from None
        if "" in self.until:
            raise ValueError("until: an empty text stands at the beginning of every answer; take it out")
        if self.step is not None and self.predicts != "score":
            raise ValueError(f"step is of written scores, and the head is {self.predicts}; leave it out")
        if self.labels and self.predicts not in ("class", "tags", "choice"):
            raise ValueError(f"labels are of classes, tags and choices, and the head is {self.predicts}; leave it out")
        if self.outside and (self.predicts != "tags" or self.kind == TEXT):
            raise ValueError(
                f"outside is of segments of files, and here are {self.predicts} of {self.kind}; leave it out"
            )
        if self.outside and self.classes and self.outside not in self.classes.values():
            raise ValueError(f"outside: {choices(self.outside, self.classes.values(), 'labels')}")
        self._check_kind()
        if self.predicts == "choice":
            for label, number in self.classes.items():
                if not (number.isascii() and number.isdecimal() and len(number) < 10):
                    raise ValueError(
                        f"labels: {label}: {number!r} is no choice; give the number of the choice, from 0, that the "
                        "label stands for, such as {A: 0, B: 1}"
                    )
        return self

    def _check_kind(self) -> None:
        """Whether all else goes with the kind of data."""
        parts = [part for split in SPLIT_NAMES for part in getattr(self, split)]
        is_files = "files" in {self.layout, *(part.layout for part in parts)}
        if self.kind == TEXT and not is_files:
            return
        if self.kind not in (known := kinds_of_files()):
            if self.kind == TEXT:
                raise ValueError(f"layout files is of rows that are files; set kind to {' or '.join(known)}")
            raise ValueError(f"kind: {choices(self.kind, [TEXT, *known])}")
        if self.predicts not in FILE_HEADS:
            known = ", ".join(FILE_HEADS)
            raise ValueError(f"head {self.predicts} is of kind text, and kind is {self.kind}; set it to one of {known}")
        if of_text := {"squad", "tokens"} & {self.layout, *(part.layout for part in parts)}:
            raise ValueError(f"layout {min(of_text)} is of kind text, and kind is {self.kind}; write a table of paths")
        most = 1 if self.predicts in ("tags", "choice") else 2
        numbers = {len(part.inputs or self.inputs) for part in parts} or {len(self.inputs)}
        if max(numbers) > most:
            text = f"of kind {self.kind} and head {self.predicts} a row has one file"
            raise ValueError(f"inputs: {text}; name the column with its path alone")
        if len(numbers - {0}) > 1:
            raise ValueError(
                f"inputs: of kind {self.kind} all rows have as many files; name as many columns for each part"
            )
        if is_files and (max(numbers) > 1 or self.predicts == "choice"):
            raise ValueError("layout files has one file in a row; name the others in a table")
        for name in (*_OF_TEXT, *(("choices",) if self.predicts != "choice" else ())):
            if name in self.model_fields_set:
                raise ValueError(f"{name} is of kind text, and kind is {self.kind}; leave it out")

    def _check_submit(self, part: Part, split: str) -> None:
        if not part.submit:
            return
        if split != "predict":
            raise ValueError(f"{split}: submit {part.submit!r} is of rows in predict; leave it out")
        if ("{language}" in part.submit) != isinstance(part.language, list):
            raise ValueError(f"predict: submit {part.submit!r}: a list of languages goes with {{language}} in the name")
        ends = (".tsv", ".json", ".jsonl") if self.predicts in ROW_HEADS else (".json", ".jsonl")
        if not part.submit.endswith(ends):
            raise ValueError(f"predict: submit {part.submit!r}: head {self.predicts} is written as {' or '.join(ends)}")

    @property
    def predicts(self) -> Head:
        """The head, also where it is not named."""
        if self.head is not None:
            return self.head
        if self.layout in ("squad", "tokens"):
            return "answer" if self.layout == "squad" else "tags"
        return "class" if self.choices is None or isinstance(self.choices, dict) else "choice"

    @property
    def classes(self) -> dict[str, str]:
        """Names of labels by what stands in the files, in order, of choice the numbers of choices; empty where train
        says which there are."""
        given = self.labels or (self.choices if isinstance(self.choices, dict) else {})
        if isinstance(given, dict):
            return dict(given)
        return {label: str(number) if self.predicts == "choice" else label for number, label in enumerate(given)}

    def parts(self, split: str) -> Iterator[Part]:
        """The parts of a split, one for each language of those with several."""
        for part in getattr(self, split):
            for language in part.language if isinstance(part.language, list) else [part.language]:
                named = {name: getattr(part, name).replace("{language}", language) for name in ("path", "submit")}
                yield part.model_copy(update={**named, "language": language})


def read_task(path: Path) -> TaskFile:
    """The task of a file. UserError, with the key, for what cannot be meant."""
    return task_of(read_settings(path, "the file of a task", "write test, inputs and label, one a line"), str(path))


def task_of(values: Mapping[str, Any], where: str) -> TaskFile:
    """The task of plain values; numbers that stand for labels become texts. where: names it in errors."""
    plain = dict(values)
    for name in ("labels", "choices"):
        plain[name] = _as_texts(plain.get(name), name, where)
    plain = {name: value for name, value in plain.items() if value is not None or name not in ("labels", "choices")}
    task = checked(TaskFile, plain, where)
    if isinstance(task.choices, dict):
        if len(task.choices) < 2:
            raise UserError(f"{where}: choices: {len(task.choices)} is no choice; give two labels or more.")
        if blank := [label for label, words in task.choices.items() if not words.strip()]:
            raise UserError(f"{where}: choices: {blank[0]!r} has no words; give it some.")
        if len(set(task.choices.values())) < len(task.choices):
            raise UserError(f"{where}: choices: two labels have the same words, and nobody could tell them apart.")
    return task


def read_settings(path: Path, what: str, advice: str) -> dict[str, Any]:
    """The settings of a YAML file. what, advice: what it should be and hold, for errors."""
    try:
        values = yaml.safe_load(read(path, LARGEST))
        half = next(filter(HALF.search, _texts_in(values)), None)
    except UnfitError as error:
        raise UserError(f"{path}: {error}; name {what}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: is no YAML ({' '.join(str(error).split())[:200]}); mend it.") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UserError(f"{path}: holds no settings; {advice}.")
    if half is not None:
        raise UserError(f"{path}: {half!a} has half of a surrogate pair, which is no character; take it out.")
    return values


def _texts_in(value: Any) -> Iterator[str]:
    """All texts in plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.items():
            yield from _texts_in(item)
    elif isinstance(value, Sequence | Set):
        for item in value:
            yield from _texts_in(item)


def fields_of(template: str) -> list[str]:
    """The columns of a template, in braces; ValueError for what names none."""
    return list(dict.fromkeys(text for text, is_column in _pieces(template) if is_column))


def columns_in(inputs: Sequence[str]) -> list[str]:
    """The columns that inputs, columns or templates, are made of."""
    return list(dict.fromkeys(name for given in inputs for name in (fields_of(given) if "{" in given else [given])))


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with a text for each of its fields."""
    return "".join(values[text] if is_column else text for text, is_column in _pieces(template))


def renamed(template: str, names: Mapping[str, str]) -> str:
    """A template whose fields have other names."""
    pieces = _pieces(template)
    return "".join(
        f"{{{names[text]}}}" if is_column else text.replace("{", "{{").replace("}", "}}") for text, is_column in pieces
    )


def _pieces(template: str) -> Iterator[tuple[str, bool]]:
    """The texts of a template, and the names of its columns, each with whether it is one."""
    for match in _PIECE.finditer(template):
        piece, name = match[0], match[1]
        if piece in ("{", "}"):
            raise ValueError(f"{template!r} has a single {piece}")
        if name is not None and not name.strip():
            raise ValueError(f"{piece} names no field")
        yield (piece[:1] if piece in ("{{", "}}") else piece, False) if name is None else (name, True)


def paths_of(part: Part, folder: Path) -> list[Path]:
    """The files or folders that a part names, from the folder. UserError if there is none."""
    path = folder / Path(part.path).expanduser()
    if not any(sign in part.path for sign in _GLOB):
        return [path]
    first = next(place for place, piece in enumerate(path.parts) if any(sign in piece for sign in _GLOB))
    paths = sorted(Path(*path.parts[:first]).glob(str(Path(*path.parts[first:]))))
    if not paths:
        raise UserError(f"{path} names no file; give one that there is")
    return paths


def files_of(task: TaskFile, folder: Path, splits: Collection[str] = SPLIT_NAMES) -> list[Path]:
    """All files that a task names, those of its folders one by one, but for those that are rows themselves (layout
    files). folder: where the task file lies."""
    files: list[Path] = []
    for split in splits:
        of_rows = (part for part in task.parts(split) if (part.layout or task.layout) != "files")
        for path in (path for part in of_rows for path in paths_of(part, folder)):
            files += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return list(dict.fromkeys(files))


def _as_texts(value: Any, name: str, where: str) -> Any:
    """Labels and their words, with numbers as texts. UserError for truth values, which YAML makes of yes and no."""
    if isinstance(value, dict):
        for label, words in value.items():
            if not _is_plain(label) or not _is_plain(words):
                problem = f"{label!r}: {words!r} is no label with its words; put both in quotes{_YES_AND_NO}"
                raise UserError(f"{where}: {name}: {problem}.")
        return {str(label): str(words) for label, words in value.items()}
    if isinstance(value, list):
        for label in value:
            if not _is_plain(label):
                raise UserError(f"{where}: {name}: {label!r} is no label; put it in quotes{_YES_AND_NO}.")
        return [str(label) for label in value]
    return value


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
