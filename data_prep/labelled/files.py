"""Labelled data for the downstream jobs: a registered data set, or a file of the user's.

A file is `.jsonl`, `.tsv` or `.csv` (a header line, then a row each), each also `.gz`. One row is

    {"text": "…", "text_pair": "…", "label": "…"}        classification; text_pair is optional
    {"words": ["…", …], "tags": ["…", …]}                tagging; in .tsv and .csv by spaces

and may have {"split": "train" | "validation" | "test"}, in all rows or none. Without it, rows are
split by a keyed hash of their contents, so equal rows are in one split and the order of lines does
not matter. Texts and labels are cleaned as documents are (`data_prep.tokens.cleaning`): rows that
look alike are alike. Unlike in a corpus, a single bad row is an error.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from data_prep.corpus.documents import SPLITS, SplitConfig, assign_splits
from data_prep.errors import UserError, choices
from data_prep.labelled.sets import REGISTERED, Example, Labelled, registered
from data_prep.sources.dialect import begun
from data_prep.sources.records import HEAD, Lines, Reject, joined, marked_encoding, not_encoded, recoded
from data_prep.sources.separated import Quotes, not_utf8_in, records, repeated
from data_prep.sources.stand_ins import stand_in
from data_prep.sources.written import Delimiter, Encoding, as_of_old
from data_prep.tokens.cleaning import Cleaning

__all__ = ["REGISTERED", "Example", "Labelled", "LabelledConfig", "load"]

_LONGEST_NUMBER = 4000  # digits; Python refuses to read more than 4,300
_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair, which JSON can spell
_DELIMITERS = {".tsv": "\t", ".csv": ","}
_FORMATS = tuple(f"{end}{gz}" for end in (".jsonl", *_DELIMITERS) for gz in ("", ".gz"))
_CLASSIFICATION = {"text", "text_pair", "label", "split"}
_TAGGING = {"words", "tags", "split"}


class LabelledConfig(BaseModel):
    """A labelled data set: exactly one of `name` and `path`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str | None = Field(default=None, examples=list(REGISTERED))
    """A registered data set."""
    path: str | None = None
    """A file of the user's; `~` is the home folder."""
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
        return as_of_old(dump(self), ("encoding", "delimiter"))

    @model_validator(mode="after")
    def _one_of_two(self) -> LabelledConfig:
        if (self.name is None) == (self.path is None):
            which_given = "neither" if self.name is None else "both"
            raise ValueError(f"labelled data takes either 'name' or 'path'; found {which_given}")
        if self.name is not None and self.name not in REGISTERED:
            raise ValueError(f"no labelled data is called {self.name!r}; {choices(self.name, REGISTERED)}")
        return self


def load(
    config: LabelledConfig, downloads: Path, corpus: Path | None = None, cleaning: Cleaning | None = None
) -> Labelled:
    """The data set that a config names.

    downloads: folder of packages. corpus: folder of the corpus that some registered sets are derived
    from. cleaning: what is done to the characters of a file's texts, as to those of documents; by
    default as a recipe does by default. Raises `UserError` with file and line, and what was found and
    expected.
    """
    if config.name is not None:
        return registered(config.name, Path(downloads), corpus, config.split, config.seed)
    return _from_file(Path(config.path or "").expanduser(), config, cleaning or Cleaning())


def fields_of(path: Path, names: Collection[str]) -> list[tuple[int, dict[str, Any]]]:
    """Line number and fields of each row of a file, whatever they are. names: of fields that it should have.

    Formats and errors are those of labelled data; texts are as they stand there.
    """
    return list(_rows(path, LabelledConfig(path=str(path)), [], names))


def _from_file(path: Path, config: LabelledConfig, cleaning: Cleaning) -> Labelled:
    notes: list[str] = []
    rows = list(_rows(path, config, notes))
    if not rows:
        raise UserError(f"{path} is empty; it should hold one labelled row per line")
    tagging = "words" in rows[0][1]
    read = _tagged if tagging else _classified
    parsed = [read(_where(path, line), row, cleaning) for line, row in rows]
    names = {label for _, labels in parsed for label in labels}
    labels = sorted(names, key=_in_order)
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
        notes=tuple(notes),
    )


def _where(path: Path, line: int) -> str:
    return f"{path} line {line}"


def _in_order(label: str) -> tuple[bool, int, str]:
    """Sort key: integers by value, then everything else by spelling."""
    is_number = label.removeprefix("-").isdecimal() and len(label) <= _LONGEST_NUMBER
    return (not is_number, int(label) if is_number else 0, label)


def _splits(
    path: Path, rows: list[tuple[int, dict[str, Any]]], parsed: list[dict[str, Any]], config: LabelledConfig
) -> list[str]:
    """The split of each row: as stated in the rows, or by their contents, `parsed`."""
    stated = ["split" in row for _, row in rows]
    if any(stated):
        for line, row in rows:
            if row.get("split") not in SPLITS:
                shown = f"the split {row['split']!r}" if "split" in row else "no split"
                raise UserError(
                    f"{_where(path, line)} has {shown}; since some rows have one, all must, and it"
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
            content[name] = _text(where, f"{name!r} is {_short(value)}", value, cleaning)
    return content, [_label(where, "label", row.get("label"), cleaning)]


def _tagged(where: str, row: dict[str, Any], cleaning: Cleaning) -> tuple[dict[str, Any], list[str]]:
    """What an example is made of, and its labels by name."""
    _known(where, row, _TAGGING)
    words, tags = _list(where, row, "words"), _list(where, row, "tags")
    if len(words) != len(tags):
        raise UserError(f"{where} has {len(words)} words and {len(tags)} tags; expected one each")
    cleaned = tuple(_text(where, f"the word {_short(word)} in 'words'", word, cleaning) for word in words)
    return {"words": cleaned}, [_label(where, "tags", tag, cleaning) for tag in tags]


def _text(where: str, found: str, value: object, cleaning: Cleaning) -> str:
    """The text, cleaned. found: names what was found."""
    if isinstance(value, str) and (half := _HALF.search(value)):
        code = f"\\u{ord(half[0]):04x}"
        raise UserError(
            f"{where}: {found}, with half of a surrogate pair ({code}), which is no character; expected text"
        )
    text = cleaning(value) if isinstance(value, str) else ""
    if not text.strip():
        raise UserError(f"{where}: {found}; expected text")
    return text


def _list(where: str, row: dict[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {name!r} is {_short(value)}; expected a list, not empty")
    return value


def _known(where: str, row: dict[str, Any], allowed: set[str]) -> None:
    unknown = [name for name in row if name not in allowed]
    if unknown:
        raise UserError(
            f"{where} has the field {unknown[0]!r}; expected {', '.join(sorted(_CLASSIFICATION))}"
            f" for classification or {', '.join(sorted(_TAGGING))} for tagging, the same in all rows"
        )


def _label(where: str, name: str, value: object, cleaning: Cleaning) -> str:
    if isinstance(value, str) and value.strip():
        return _text(where, f"{_short(value)} in {name!r}", value, cleaning).strip()
    if isinstance(value, int):
        return str(value)
    raise UserError(f"{where}: {_short(value)} in {name!r}; expected a name or a whole number")


def _short(value: object) -> str:
    text = "missing or null" if value is None else _HALF.sub("\ufffd", json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 60 else text[:59] + "…"


def _rows(
    path: Path, config: LabelledConfig, notes: list[str], names: Collection[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and fields of each row of a file. notes: to which is added how it is written, if oddly.

    names: of the fields, where they are not those of labelled data.
    """
    if not path.name.endswith(_FORMATS):
        raise UserError(f"{path} cannot be read as labelled data; use {', '.join(_FORMATS)}")
    usual = next((_DELIMITERS[end] for end in _DELIMITERS if path.name.removesuffix(".gz").endswith(end)), None)
    try:
        if problem := stand_in(lambda: path.open("rb"), path.name, path.stat().st_size):
            raise UserError(f"{path} is {problem}")
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as stream:
            whole = cast(BinaryIO, stream)
            if config.encoding is None and (problem := marked_encoding(head := whole.read(HEAD))):
                raise UserError(f"{path}: {problem.replace('its source', 'its data')}")
            whole = recoded(joined(head, whole) if config.encoding is None else whole, config.encoding)
            if usual is None:
                yield from _json_rows(path, whole)
            else:
                yield from _separated_rows(path, whole, usual, config.delimiter, notes, names)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is a damaged gzip file ({error}); compress it again") from error
    except UnicodeError as error:
        raise UserError(f"{path}: {not_encoded(config.encoding, error).replace('its source', 'its data')}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a file") from error


def _json_rows(path: Path, stream: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, raw in enumerate(stream, 1):
        try:
            text = raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            byte = f"0x{error.object[error.start]:02x}"
            raise UserError(
                f"{_where(path, line)} holds the byte {byte}; expected UTF-8, or set the encoding of its data"
            ) from error
        if text.strip():
            yield line, _json_row(_where(path, line), text)


def _separated_rows(
    path: Path,
    stream: BinaryIO,
    usual: str,
    delimiter: str | None,
    notes: list[str],
    names: Collection[str] | None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    stream, dialect = begun(stream, usual, {*_CLASSIFICATION, *_TAGGING} if names is None else names, delimiter)
    if dialect.problem:
        raise UserError(f"{path}: {dialect.problem}")
    notes.extend(dialect.notes)
    lines = Lines(stream)
    for _ in range(dialect.skip):
        next(lines, None)
    header: list[str] | None = None
    quotes, blank = Quotes(), 0
    for record in records(path.name, lines, dialect.delimiter, quotes=quotes):
        if isinstance(record, Reject):
            raise UserError(f"{_where(path, record.position)}: {record.reason}")
        line, cells = record
        if not_utf8_in(cells):
            raise UserError(f"{_where(path, line)} is not UTF-8; set the encoding of its data, such as cp1252")
        if header is None:
            header = [cell.strip() for cell in cells]
            if (twice := repeated(header)) is not None:
                raise UserError(f"{_where(path, line)}: more than one column is called {twice!r}; rename one")
        elif any(cell.strip() for cell in cells):
            row = _named_cells(_where(path, line), header, cells)
            yield line, _of_labelled(row) if names is None else row
        else:
            blank += 1
    notes.extend(quotes.notes)
    if blank:
        notes.append(f"{blank:,} row{'s' * (blank > 1)} without any value, left out")


def _json_row(where: str, text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({error}); expected one object per line") from error
    if not isinstance(row, dict):
        raise UserError(f"{where} holds {_short(row)}; expected a JSON object")
    return row


def _named_cells(where: str, header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise UserError(f"{where} has {len(cells)} columns; expected {len(header)}: {', '.join(header)}")
    return dict(zip(header, cells, strict=True))


def _of_labelled(row: dict[str, Any]) -> dict[str, Any]:
    """The row with words and tags apart, and without optional fields that are empty."""
    return {
        name: cell.split(" ") if name in ("words", "tags") else cell
        for name, cell in row.items()
        if cell or name not in ("text_pair", "split")
    }
