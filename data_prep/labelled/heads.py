"""What each head makes of a row: the contents of an example, and the names of its labels.

class    inputs ─► text, text_pair     label ─► one of the labels
score    inputs ─► text, text_pair     label ─► a number
tags     input  ─► words               label ─► one of the labels for each word
choice   inputs ─► text, text_pair     choices, and which one is right
answer   inputs ─► context, question   label ─► texts with their places in the context
text     inputs ─► text, text_pair     label ─► the text to write, or a list of those that count

Of kinds of data whose rows are files, such as recordings, inputs are paths of them, and

tags     input  ─► a file              label ─► segments, each with one of the labels
choice   input  ─► a file              choices, which are files, and which one is right
answer   inputs ─► context, question   label ─► spans of the context, in seconds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.errors import UserError, meant
from data_prep.kinds import kind_of
from data_prep.labelled.answers import answers_of
from data_prep.labelled.choices import places
from data_prep.labelled.examples import TEXT, Answer, Head
from data_prep.labelled.rows import Reading, Row
from data_prep.labelled.segments import Segment, segments_of, spans_of
from data_prep.labelled.task import columns_in, fields_of, filled
from data_prep.labelled.values import (
    as_text,
    choices_of,
    known_label,
    label_of,
    list_of,
    score_of,
    short,
    spelled,
    text_of,
    texts_of,
)
from data_prep.opening.files import UnfitError
from data_prep.tokens.cleaning import Cleaning


class Draft(NamedTuple):
    """An example whose labels have no numbers yet. segments: with labels by name; None: labels are not of segments."""

    content: dict[str, Any]
    labels: tuple[str, ...] = ()
    segments: tuple[Segment, ...] | None = None


@dataclass(frozen=True)
class Columns:
    """Which columns of a file are used, and how."""

    inputs: tuple[str, ...]
    label: str
    choices: str | tuple[str, ...] = ()
    classes: Mapping[str, str] | None = None
    """Names of the labels that there may be; of choice, numbers from 0; None: any."""
    task: str = "the task"
    """What names the columns, for errors."""
    optional: tuple[str, ...] = ()
    """Second inputs that a row may do without."""
    kind: str = TEXT
    """Kind of data: text, or that of the files whose paths the inputs are."""
    may_be_empty: bool = False
    """Whether texts may be empty: of rows that test servers ask an answer to, whatever they hold."""
    outside: str = ""
    """The label of what is in no segment; empty: it is not known."""
    are_sent: bool = False
    """Whether rows stand in no file, but were sent: where the inputs are files, they hold their contents."""

    @property
    def names(self) -> list[str]:
        """All columns that examples are made of."""
        own = [self.choices] if isinstance(self.choices, str) else self.choices
        return list(dict.fromkeys([*columns_in(self.inputs), *own, self.label]))


Maker = Callable[[Row, Columns, bool, Cleaning | None, Reading], Draft]


def value_of(row: Row, name: str, task: str) -> Any:
    """The value of a column; `a.b` is b of what the column a holds. UserError where there is none."""
    if (value := value_or_null(row, name, task)) is None:
        raise UserError(f"{row.where}: {name!r}, which {task} names, has no value; give it one, or leave the row out.")
    return value


def value_or_null(row: Row, name: str, task: str) -> Any:
    """The value of a column, or None where it is null. UserError where there is no such column."""
    value: Any = row.fields
    for key in [name] if name in row.fields else name.split("."):
        if value is None:
            return None
        if not isinstance(value, dict) or key not in value:
            near = meant(name, [known for known in row.fields if known != name])
            has = f"it has {', '.join(row.fields)}" + f"; {near}" * bool(near)
            raise UserError(f"{row.where}: has no {name!r}, which {task} names; {has}.")
        value = value[key]
    return value


def _cell(row: Row, name: str) -> Any:
    """The value of a column; None where there is none, or no such column."""
    value: Any = row.fields
    for key in [name] if name in row.fields else name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _inputs(row: Row, columns: Columns, cleaning: Cleaning | None) -> dict[str, Any]:
    """The inputs: texts, or files with their paths as texts, or with their contents where rows are sent."""
    if columns.kind == TEXT:
        return _texts(row, columns, cleaning)
    if columns.are_sent:
        return _files(row, columns.kind, [_content(row, name, columns) for name in columns.inputs])
    content = _texts(row, columns, None)
    return content | _files(row, columns.kind, [path for path in content.values() if path is not None])


def _files(row: Row, kind: str, given: Sequence[str | bytes]) -> dict[str, Any]:
    """The files of a row, by their paths or contents, with what is known of them. UserError, with the place, for what
    is none."""
    sources = [each if isinstance(each, bytes) else row.folder / Path(each).expanduser() for each in given]
    try:
        facts = [kind_of(kind).file_facts(source) for source in sources]
    except UnfitError as error:
        noun, is_sent = kind_of(kind).file_noun, any(isinstance(source, bytes) for source in sources)
        advice = "send one as it is in a file" if is_sent else f"give the path of a {noun}, from {row.folder} on"
        raise UserError(f"{row.where}: {error}; {advice}.") from None
    files = tuple(source if isinstance(source, bytes) else str(source.absolute()) for source in sources)
    return {"files": files, "digest": " ".join(each.digest for each in facts), "seconds": facts[0].seconds}


def _content(row: Row, name: str, columns: Columns) -> bytes:
    """The contents of a file that a column holds."""
    return _sent(row, name, value_of(row, name, columns.task), columns)


def _sent(row: Row, name: str, value: object, columns: Columns) -> bytes:
    """The contents of a file, and never its path: whoever sends rows may not have files of this machine read."""
    if not isinstance(value, bytes) or not value:
        noun = kind_of(columns.kind).file_noun
        raise UserError(f"{row.where}: {name!r} is {short(value)}; expected the bytes of a {noun}, in JSON as base64.")
    return value


def _texts(row: Row, columns: Columns, cleaning: Cleaning | None) -> dict[str, Any]:
    """The inputs as texts."""
    texts = []
    for given in columns.inputs:
        if given in columns.optional and (_cell(row, given) is None or not str(_cell(row, given)).strip()):
            continue
        if "{" in given:
            fields = {name: as_text(row.where, name, value_of(row, name, columns.task)) for name in fields_of(given)}
            value = filled(given, fields)
        else:
            value = as_text(row.where, given, value_of(row, given, columns.task))
        texts.append(text_of(row.where, f"{given!r} is %s", value, cleaning, columns.may_be_empty))
    return {"text": texts[0], "text_pair": texts[1] if len(texts) > 1 else None}


def _label(row: Row, columns: Columns, value: object, cleaning: Cleaning | None) -> str:
    name = label_of(row.where, columns.label, value, cleaning)
    if columns.classes is None or (name in columns.classes.values() and name not in columns.classes):
        return name
    return columns.classes[known_label(row.where, columns.label, name, columns.classes, columns.task)]


def _class(row: Row, columns: Columns, labelled: bool, cleaning: Cleaning | None, reading: Reading) -> Draft:
    labels = (_label(row, columns, value_of(row, columns.label, columns.task), cleaning),) if labelled else ()
    return Draft(_inputs(row, columns, cleaning), labels)


def _score(row: Row, columns: Columns, labelled: bool, cleaning: Cleaning | None, reading: Reading) -> Draft:
    content = _inputs(row, columns, cleaning)
    if labelled:
        content["score"] = score_of(row.where, columns.label, value_of(row, columns.label, columns.task))
    return Draft(content)


def _tags(row: Row, columns: Columns, labelled: bool, cleaning: Cleaning | None, reading: Reading) -> Draft:
    if columns.kind != TEXT:
        return _segments(row, columns, labelled, cleaning, reading)
    given, found = columns.inputs[0], f"the word %s in {columns.inputs[0]!r}"
    words = texts_of(row.where, given, value_of(row, given, columns.task), are_words=True)
    texts = tuple(text_of(row.where, found, word, cleaning, columns.may_be_empty) for word in words)
    if not labelled:
        return Draft({"words": texts})
    tags = texts_of(row.where, columns.label, value_of(row, columns.label, columns.task), are_words=False)
    if len(words) != len(tags):
        raise UserError(f"{row.where} has {len(words)} words and {len(tags)} tags; expected one each")
    names: dict[str, str] = {}  # of a sentence's few different tags
    keys = [tag if isinstance(tag, str) else short(tag) for tag in tags]
    for key, tag in zip(keys, tags, strict=True):
        if key not in names:
            names[key] = _label(row, columns, tag, cleaning)
    return Draft({"words": texts}, tuple(names[key] for key in keys))


def _segments(row: Row, columns: Columns, labelled: bool, cleaning: Cleaning | None, reading: Reading) -> Draft:
    content = _inputs(row, columns, cleaning)
    if not labelled:
        return Draft(content)
    value = value_of(row, columns.label, columns.task)
    found = segments_of(row, columns.label, value, content["seconds"], reading)
    if not found and not columns.outside:
        advice = f"give it some, or name the label of what is in none by outside in {columns.task}"
        raise UserError(f"{row.where}: {columns.label!r} has no segment; {advice}.")
    segments = tuple(each._replace(label=_label(row, columns, each.label, cleaning)) for each in found)
    return Draft(content, tuple(dict.fromkeys(segment.label for segment in segments)), segments)


def own_choices(row: Row, columns: str | Sequence[str], task: str, cleaning: Cleaning | None) -> tuple[str, ...]:
    """A row's own choices: of one column with a list, or of a column for each, the last of which may be empty."""
    if isinstance(columns, str):
        return choices_of(row.where, columns, value_of(row, columns, task), cleaning)
    cells = [value_or_null(row, name, task) for name in columns]
    while cells and (cells[-1] is None or cells[-1] == ""):
        cells.pop()
    return choices_of(row.where, ", ".join(columns), cells, cleaning)


def chosen(row: Row, columns: Columns, options: Sequence[str], cleaning: Cleaning | None) -> int | str:
    """Which of a row's choices is right: its number, or a label that may be a number or a text (`choices.numbers`)."""
    value = value_of(row, columns.label, columns.task)
    if columns.classes is None:
        label = spelled(value) if isinstance(value, int | float) else value
        label = text_of(row.where, f"%s in {columns.label!r}", label, cleaning).strip()
        if not any(place is not None for place in places(label, options)):
            known = "neither the text nor the number, from 0, of a choice; other codes, such as letters, are "
            advice = f"given numbers by labels in {columns.task}: {{A: 0, B: 1}}"
            raise UserError(f"{row.where}: {columns.label!r} is {short(value)}, {known}{advice}.")
        return label
    code = known_label(
        row.where, columns.label, label_of(row.where, columns.label, value, cleaning), columns.classes, columns.task
    )
    if (number := int(columns.classes[code])) >= len(options):
        problem = f"{columns.label!r} is {code!r}, by labels choice {number} from 0, and the row has {len(options)}"
        raise UserError(f"{row.where}: {problem}.")
    return number


def _choice(row: Row, columns: Columns, labelled: bool, cleaning: Cleaning | None, reading: Reading) -> Draft:
    if columns.kind != TEXT and columns.are_sent:
        return Draft(_sent_choices(row, columns))
    is_text = columns.kind == TEXT
    content = _texts(row, columns, cleaning if is_text else None)
    content["choices"] = own_choices(row, columns.choices, columns.task, cleaning if is_text else None)
    if not is_text:
        content |= _files(row, columns.kind, [content["text"], *content["choices"]])
    right = chosen(row, columns, content["choices"], cleaning) if labelled else -1
    return Draft({**content, "label": right}) if isinstance(right, int) else Draft(content, (right,))


def _sent_choices(row: Row, columns: Columns) -> dict[str, Any]:
    """A file and choices that are files, as they were sent; choices are called by their numbers, from 0."""
    own = columns.choices
    values = value_of(row, own, columns.task) if isinstance(own, str) else [_cell(row, name) for name in own]
    options = [value for value in values if value is not None] if isinstance(values, Sequence) else []
    if len(options) < 2:
        raise UserError(f"{row.where}: has {len(options)} choices; send two or more.")
    contents = [_sent(row, "choices", value, columns) for value in options]
    names = tuple(map(str, range(len(contents))))
    return {"choices": names} | _files(row, columns.kind, [_content(row, columns.inputs[0], columns), *contents])


def _answer(row: Row, columns: Columns, labelled: bool, cleaning: Cleaning | None, reading: Reading) -> Draft:
    if columns.kind != TEXT:
        return _span(row, columns, labelled, cleaning, reading)
    name, of_question = columns.inputs
    context, question = (as_text(row.where, each, value_of(row, each, columns.task)) for each in columns.inputs)
    # kept as it is: cleaning would move the answers
    text_of(row.where, f"{name!r} is %s", context, None, columns.may_be_empty)
    question = question if cleaning is None else cleaning(question)
    if not question.strip():
        reading.add(f"rows without text in {of_question!r}", row.place)
    content: dict[str, Any] = {"text": context, "text_pair": question}
    if labelled:
        value = value_of(row, columns.label, columns.task)
        content["answers"] = answers_of(row, columns.label, value, context, reading)
    return Draft(content)


def _span(row: Row, columns: Columns, labelled: bool, cleaning: Cleaning | None, reading: Reading) -> Draft:
    content = _inputs(row, columns, cleaning)
    if labelled:
        value = value_of(row, columns.label, columns.task)
        content["answers"] = spans_of(row, columns.label, value, content["seconds"])
    return Draft(content)


def _text(row: Row, columns: Columns, labelled: bool, cleaning: Cleaning | None, reading: Reading) -> Draft:
    content = _texts(row, columns, cleaning)
    if labelled:
        value = value_of(row, columns.label, columns.task)
        targets = list_of(row.where, columns.label, value) if isinstance(value, list) else [value]
        texts = [
            text_of(row.where, f"%s in {columns.label!r}", target, cleaning)
            for target in (as_text(row.where, columns.label, each) for each in targets)
        ]
        content |= {"target": texts[0], "answers": tuple(map(Answer, texts)) if len(texts) > 1 else ()}
    return Draft(content)


MAKERS: dict[Head, Maker] = {
    "class": _class,
    "score": _score,
    "tags": _tags,
    "choice": _choice,
    "answer": _answer,
    "text": _text,
}
