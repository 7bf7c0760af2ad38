"""How a file of rows without answers is laid out, where it is not laid out as those that were learned from.

learned from    columns [source, label, mark, sentence], no header, tabs between them
to answer       a header with `sentence`; JSON lines, Parquet; all four columns, all but `label`, or `sentence` alone

Of kinds whose rows are files, a file is a table of their paths, or one of them.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from data_prep.errors import UserError
from data_prep.kinds import kind_of
from data_prep.labelled.examples import TEXT
from data_prep.labelled.layouts import files, table, tokens
from data_prep.labelled.rows import Reading
from data_prep.labelled.task import Part, TaskFile, columns_in
from data_prep.sources.dialect import BEGIN, dialect_of
from data_prep.sources.separated import TAB


def laid_out(task: TaskFile, path: Path, columns: Sequence[str] | None, reading: Reading) -> TaskFile:
    """The task with the rows of a file to predict, laid out as the file is.

    task: as rows were laid out in training. columns: of the file, where somebody names them; none: it has a header.
    reading: to which is added which columns it was taken to have. UserError where that cannot be seen.
    """
    task = task if task.kind == TEXT else _of_files(task, path)
    one = task.model_copy(update={"predict": [Part(path=str(path))]})
    if columns is not None:
        one = one.model_copy(update={"columns": list(columns)})
    has_format = path.name.lower().endswith(table.FORMATS)
    is_records = has_format and not table.is_separated(path)
    if task.layout == "tokens" and is_records:
        words, head = task.inputs or (task.columns or [tokens.WORDS])[:1], task.predicts
        of_table = {"layout": "table", "head": head, "inputs": words, "columns": [], "separator": None}
        return one.model_copy(update=of_table)
    if task.layout == "tokens":
        if columns is not None:
            return one
        return _narrower(one, path, len(tokens.columns_of(path, task.encoding)), reading)
    if task.layout != "table":
        return one
    if is_records:
        return one.model_copy(update={"columns": [], "separator": None})
    if not has_format and task.separator is None:  # such as .txt: lines, if somebody names their columns
        if not columns:
            known = ", ".join((*table.FORMATS, *(kind_of(task.kind).file_suffixes if task.kind != TEXT else ())))
            raise UserError(
                f"{path}: nothing tells how its lines are laid out; name their columns, such as "
                f"--columns {','.join(columns_in(one.inputs))}, or give a file of {known}."
            )
        return one.model_copy(update={"separator": TAB, "quotes": False})
    begin = _begin(path, task.encoding)
    header = _header(one, path, begin) if columns is None or not columns else None
    if header is not None:
        return one.model_copy(update={"columns": [], **header})
    if not one.columns or columns is not None:
        return one
    delimiter = one.separator or dialect_of(begin, _usual(path)).delimiter
    if delimiter == " " and one.label in one.columns[:-1]:
        others = ",".join(_others(one.columns, {one.label}))
        raise UserError(
            f"{path}: {' and '.join(one.columns)} stand between blanks, and nothing tells whether its lines begin with "
            f"{one.label}; name its columns: --columns {others}, or --columns {','.join(one.columns)}."
        )
    cells = _cells(begin, 0, delimiter, one.quotes)
    if cells and {cell.casefold() for cell in cells} <= {name.casefold() for name in one.columns}:
        names = ",".join(cells)
        raise UserError(
            f"{path}: its first line, {names}, looks like a header, though not by the names that were learned from, "
            f"{','.join(one.columns)}; write these there, or leave the line out."
        )
    return _narrower(one, path, len(cells), reading)


def _of_files(task: TaskFile, path: Path) -> TaskFile:
    """The task of a kind whose rows are files, for one of them, or a table of their paths."""
    if path.name.lower().endswith(kind_of(task.kind).file_suffixes):
        if len(task.inputs) > 1 or task.predicts == "choice":
            nouns = f"{kind_of(task.kind).file_noun}s"
            raise UserError(f"{path}: rows have several {nouns}, and it is one; give a table of their paths.")
        return task.model_copy(update={"layout": "files", "inputs": []})
    if task.layout == "files":
        return task.model_copy(update={"layout": "table", "inputs": task.inputs or [files.FILE]})
    return task


def _begin(path: Path, encoding: str | None) -> bytes:
    """The first bytes of a file, as UTF-8; none of one that cannot be read, of which its reader says why."""
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            return table.decoded(path, cast(BinaryIO, stream), encoding).read(BEGIN)
    except (OSError, EOFError, zlib.error, UnicodeError, UserError):
        return b""


def _usual(path: Path) -> str:
    """What a file's name says to part its columns."""
    name = path.name.lower().removesuffix(".gz")
    return next((table.DELIMITERS[end] for end in table.DELIMITERS if name.endswith(end)), TAB)


def _header(task: TaskFile, path: Path, begin: bytes) -> dict[str, Any] | None:
    """What is different about a file whose first line names the columns that are read; None where it does not."""
    choices = [task.choices] if isinstance(task.choices, str) else list(task.choices or ())
    wanted = {*columns_in(task.inputs), *choices * (task.predicts == "choice")} - {*task.optional}
    if task.separator not in (None, " ") and wanted <= set(_cells(begin, 0, task.separator, task.quotes)):
        return {}
    dialect = dialect_of(begin, _usual(path), wanted)
    if table.is_separated(path) and wanted <= set(_cells(begin, dialect.skip, dialect.delimiter, quotes=True)):
        return {"separator": None, "quotes": task.quotes or dialect.delimiter != TAB}
    return None


def _cells(begin: bytes, skip: int, delimiter: str, quotes: bool) -> list[str]:
    """The cells of the first line that is not empty, after some that are skipped."""
    lines = begin.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")[skip:]
    line = next((line.rstrip("\r") for line in lines if line.strip()), "")
    if quotes and delimiter != TAB:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    return [cell.strip() for cell in line.split(delimiter)]


def _narrower(task: TaskFile, path: Path, width: int, reading: Reading) -> TaskFile:
    """The task with the columns of a file of so many: all, all but the one with the answer, or those that are read."""
    given, of_words = task.columns, task.layout == "tokens"
    if not given or width == len(given):
        return task
    label = task.label if not of_words or "label" in task.model_fields_set else given[-1]
    read = set(columns_in(task.inputs)) or ({given[0]} if of_words else set())
    for columns in (_others(given, {label}), [name for name in given if name in read]):
        if len(columns) == width < len(given) and read <= set(columns):
            reading.notes.append(f"{path.name}: its {width} columns are read as {', '.join(columns)}")
            return task.model_copy(update={"columns": columns})
    return task


def _others(names: Sequence[str], without: Collection[str]) -> list[str]:
    return [name for name in names if name not in without]
