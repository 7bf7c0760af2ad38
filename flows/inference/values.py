"""The values of a file that are embedded, one after another: texts, or arrays of numbers.

.txt                                     a text a line
.tsv .csv .jsonl .json .parquet .arrow   a column, as tables of labelled data are read (`data_prep.labelled`); of arrays
                                         it may have paths of files that hold them, such as recordings
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.errors import UserError
from data_prep.labelled.heads import value_of
from data_prep.labelled.layouts import table
from data_prep.labelled.rows import Asked, Reading
from data_prep.labelled.values import as_text, short
from data_prep.opening.files import UnfitError
from data_prep.sources.lines import lines_of
from data_prep.tokens.cleaning import Cleaning

TEXT = "text"  # the column that is read where none is named
_LINES = (".txt", ".txt.gz")


class Value(NamedTuple):
    """content: a text or an array; None where the row has none. place: file and line, for remarks."""

    id: str
    content: str | np.ndarray | None
    place: str

    @property
    def text(self) -> str | None:
        return self.content if isinstance(self.content, str) else None


class Window(NamedTuple):
    """Rows of a file that stand together. vectors: float32 [R, D]; has: bool [R], which rows have one."""

    rows: list[Value]
    vectors: np.ndarray
    has: np.ndarray


def texts(
    path: Path, column: str | None, name: str | None, cleaning: Cleaning | None, reading: Reading
) -> Iterator[Value]:
    """The texts of a file. name: the column that names rows; None: their numbers do.

    A row whose text is empty has no content. UserError, with the line, for what is no text.
    """
    if path.name.lower().endswith(_LINES):
        if column or name:
            raise UserError(f"{path}: is read line by line and has no columns; leave out --column and --id.")
        rows: Iterator[tuple[str, str, Any, Any]] = _lines(path)
    else:
        rows = _cells(path, column or TEXT, name, reading)
    for number, (where, place, value, own) in enumerate(rows, 1):
        text = "" if value is None else as_text(where, column or TEXT, value)
        if text.strip():
            text = text if cleaning is None else cleaning(text)
        yield Value(_id(where, number, name, own), text if text.strip() else None, place)


def arrays(
    path: Path,
    column: str | None,
    name: str | None,
    shape: tuple[int | None, ...],
    reading: Reading,
    read: Callable[[Path], np.ndarray] | None = None,
) -> Iterator[Value]:
    """The arrays of a column, float32 of `shape`, in which None is any length. UserError, with the line, for others.

    read: what makes arrays of files, whose paths the column may have instead, from the folder of `path` on.
    """
    if column is None:
        raise UserError(f"{path}: name the column with the numbers that the network takes: --column.")
    for number, (where, place, value, own) in enumerate(_cells(path, column, name, reading), 1):
        if isinstance(value, str) and value and read is not None:
            content = _of_file(where, path.parent, value, read)
        else:
            content = None if value is None else _array(where, column, value, shape)
        yield Value(_id(where, number, name, own), content, place)


def _id(where: str, number: int, name: str | None, own: Any) -> str:
    return str(number) if name is None else as_text(where, name, own)


def _of_file(where: str, folder: Path, name: str, read: Callable[[Path], np.ndarray]) -> np.ndarray:
    try:
        return read(folder / Path(name).expanduser())
    except UnfitError as error:
        raise UserError(f"{where}: {error}; give the path of a file, from {folder} on.") from None


def _array(where: str, column: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    expected = " × ".join("any number" if size is None else f"{size:,}" for size in shape)
    problem = f"{where}: {column!r} is {short(value)}; expected {expected} numbers"
    try:
        array = np.asarray(value, np.float32)
        array = array.reshape([-1 if size is None else size for size in shape])
    except (ValueError, TypeError):
        raise UserError(problem) from None
    if not np.isfinite(array).all():
        raise UserError(f"{problem} that are finite")
    return array


def _cells(path: Path, column: str, name: str | None, reading: Reading) -> Iterator[tuple[str, str, Any, Any]]:
    """Where a row stands, for errors and for remarks, its value and its name."""
    asked = Asked(wanted=[column, *filter(None, [name])], quotes=True)
    for row in table.rows(path, asked, reading):
        if isinstance(row, UserError):
            raise row
        value = row.fields[column] if column in row.fields else value_of(row, column, "--column")
        yield row.where, row.place, value, None if name is None else value_of(row, name, "--id")


def _lines(path: Path) -> Iterator[tuple[str, str, Any, Any]]:
    try:
        for number, text in lines_of(path):
            yield f"{path} line {number}", f"{path.name}:{number}", text, None
    except UnfitError as error:
        raise UserError(f"{path}: {error}; name a text file in UTF-8.") from None
