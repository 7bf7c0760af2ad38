"""A word a line, with what is known of it in columns, and an empty line between sentences.

    West NNP B-NP B-LOC       CoNLL-2000, 2002, 2003: blanks between columns, -DOCSTART- between documents
    West	PROPN             tabs between columns, so that words may hold blanks
    1	West	west	PROPN …   CoNLL-U: ten columns, comments (#), several-word tokens (1-2) and empty words (1.1)

A row is a sentence: a list for each column. Comments stand before the words of a sentence and begin with `# `, in
CoNLL-U with #. Between blanks, such a line with as many columns as the others may be the word # with its tag: it is
read as one, and counted.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from data_prep.errors import UserError
from data_prep.labelled.layouts.table import decoded
from data_prep.labelled.rows import Asked, Reading, Row
from data_prep.sources.records import Lines, not_encoded
from data_prep.sources.separated import TAB, not_utf8_in

WORDS = "words"  # the column with the words of a table's rows, where nothing names it
CONLL_U = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_DOCUMENT = "-DOCSTART-"
_SEVERAL = "tokens of several words (1-2), of which only the words are read"
_EMPTY = "empty words (1.1), left out"
_WORD = "lines before a sentence that begin with # and have a word's columns, read as words"


def columns_of(path: Path, encoding: str | None = None) -> tuple[str, ...]:
    """Names of the columns where the user gives none: of CoNLL-U, or 1, 2, 3 …"""
    cells, _ = _first(path, encoding)
    is_conll_u = path.name.lower().removesuffix(".gz").endswith(".conllu") or cells[0].partition("-")[0] == "1"
    if len(cells) == len(CONLL_U) and is_conll_u:
        return CONLL_U
    return tuple(str(number) for number in range(1, len(cells) + 1))


def defaults(columns: tuple[str, ...]) -> tuple[str, str]:
    """The columns with words and with tags: the first and the last; of CoNLL-U form and upos."""
    return ("form", "upos") if columns == CONLL_U else (columns[0], columns[-1])


def rows(path: Path, asked: Asked, reading: Reading) -> Iterator[Row | UserError]:
    """The sentences of a file; an error in place of each line that has not as many columns as the others."""
    columns = asked.columns or columns_of(path, asked.encoding)
    delimiter = asked.delimiter or _first(path, asked.encoding)[1]
    sentence: list[list[str]] = []
    begin, is_sound = 0, True

    def finished() -> Iterator[Row]:
        if sentence and is_sound:
            fields = {name: [cells[place] for cells in sentence] for place, name in enumerate(columns)}
            yield Row(f"{path} line {begin}", f"{path.name}:{begin}", fields)

    with _opened(path) as file:
        for number, text in _lines(path, decoded(path, cast(BinaryIO, file), asked.encoding)):
            if not text.strip(" \t"):
                yield from finished()
                sentence, is_sound = [], True
                continue
            cells = _cells(text, delimiter)
            begin = number if not sentence else begin
            is_word = len(cells) == len(columns)
            if not sentence and text.startswith("#" if columns == CONLL_U else "# "):
                if not is_word or delimiter != " ":
                    continue
                reading.add(_WORD, f"{path.name}:{number}")
            if not is_word:
                if cells[0] != _DOCUMENT:
                    names = ", ".join(columns)
                    yield UserError(f"{path} line {number} has {len(cells)} columns; expected {len(columns)}: {names}")
                    is_sound = False
            elif columns == CONLL_U and not cells[0].isdecimal():
                reading.add(_SEVERAL if "-" in cells[0] else _EMPTY, f"{path.name}:{number}")
            elif not_utf8_in([text]):
                raise UserError(f"{path} line {number} is not UTF-8; set the encoding of its data, such as latin-1")
            elif cells[0] != _DOCUMENT:
                sentence.append(cells)
        yield from finished()


def _cells(text: str, delimiter: str) -> list[str]:
    """The cells of a line; of blanks, several part columns as one does."""
    return [cell for cell in text.split(" ") if cell] if delimiter == " " else text.split(delimiter)


def _opened(path: Path) -> gzip.GzipFile | BinaryIO:
    try:
        return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a file") from error


def _lines(path: Path, stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Numbers and texts of lines, without their ends; bytes that are not UTF-8 become surrogates."""
    lines = Lines(stream)
    try:
        for raw in lines:
            if raw is None:
                raise UserError(f"{path} line {lines.number} is too long; expected one word a line")
            yield lines.number, raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is a damaged gzip file ({error}); compress it again") from error
    except UnicodeError as error:
        raise UserError(f"{path}: {not_encoded(None, error)}") from error


def _first(path: Path, encoding: str | None) -> tuple[list[str], str]:
    """The cells of the first line that is no comment and no mark of a document, and what parts them. Lines with # may
    be either, and count where there are no others."""
    may_be: tuple[list[str], str] | None = None
    with _opened(path) as file:
        for _, text in _lines(path, decoded(path, cast(BinaryIO, file), encoding)):
            delimiter = TAB if TAB in text else " "
            cells = _cells(text, delimiter) if text.strip() else []
            if not cells or cells[0] == _DOCUMENT:
                continue
            if not text.startswith("#"):
                return cells, delimiter
            if may_be is None and not text.startswith("# "):
                may_be = cells, delimiter
    if may_be is None:
        raise UserError(f"{path} has no line with a word; expected one word a line, with its columns")
    return may_be
