"""Parallel texts: what a row says is the same in several languages.

    sentences: {path: tatoeba.tsv, columns: [en, zh]}                  a table with a column for each language
    sentences: {files: {en: dev-en.tsv, zh: dev-zh.tsv}, columns: [premise, hypothesis, label], column: hypothesis}
    words: {files: {en: swadesh-en.txt, de: swadesh-de.txt}, synonyms: "\\t"}      row n of all files is one concept

A row may lack a language: then it says nothing about that one, and is counted. Of synonyms each one is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field, model_validator

from data_prep.errors import UserError, choices
from data_prep.labelled.layouts import table
from data_prep.labelled.rows import Asked, Reading
from data_prep.labelled.values import as_text
from data_prep.opening.files import UnfitError, read
from data_prep.rng import key
from data_prep.settings import Settings
from data_prep.shards.order import permute
from data_prep.sources.written import Delimiter, Encoding
from data_prep.tokens.cleaning import Cleaning

LARGEST = 1 << 30  # bytes of a file of lines


class ParallelConfig(Settings):
    """Texts that say the same in several languages: a table, or a file for each language."""

    path: str | None = None
    """A table with a column for each language."""
    files: dict[str, str] = Field(default={})
    """By language, files whose rows say the same: tables, or with any other name a text a line."""
    languages: list[str] = Field(default=[])
    """The columns of `path` that are languages; empty: all of `columns`."""
    pivot: str | None = None
    """The language that each other one is paired with; null: every two languages are a pair."""
    columns: list[str] = Field(default=[])
    """Names of the columns of tables without a header."""
    column: str | None = None
    """The column of `files` with the text, where they are tables."""
    synonyms: str = ""
    """What parts several words of which each is right, such as a tab; empty: a cell, or a line, is one text."""
    separator: Delimiter = None
    """What parts columns; null: what the file's name and its first lines say."""
    quotes: bool = True
    """Whether a quote may quote a field; false: it is a character, and every line is a row."""
    encoding: Encoding = None
    """Encoding of files that are not UTF-8."""
    licence: str = "not stated"
    """Licence of the texts, for the records."""

    @model_validator(mode="after")
    def _is_one(self) -> ParallelConfig:
        if (self.path is None) == (not self.files):
            given = "neither" if self.path is None else "both"
            raise ValueError(f"takes your texts as path, a table, or as files, one a language, and found {given}")
        if self.files and self.languages:
            raise ValueError("'languages' are columns of 'path'; leave it out, for 'files' names its languages")
        if self.path is not None and self.column is not None:
            raise ValueError("'column' is of 'files'; name the columns of 'path' in languages")
        if len(set(self.named)) < 2:
            raise ValueError("needs two languages or more; name them in files, in languages or in columns")
        for name in self.languages:
            if self.columns and name not in self.columns:
                raise ValueError(f"languages: {name!r} is none of columns; {choices(name, self.columns)}")
        if self.pivot is not None and self.pivot not in self.named:
            raise ValueError(f"pivot: {self.pivot!r} is no language of these; {choices(self.pivot, self.named)}")
        return self

    @property
    def named(self) -> list[str]:
        """The languages, in an order of their own: that of `files` is not kept in keys."""
        return sorted(self.files) or self.languages or self.columns

    def paths(self) -> list[Path]:
        """The user's files."""
        return [Path(path).expanduser() for path in self.files.values() or [self.path or ""]]


class Pair(NamedTuple):
    """Two languages whose texts are found by each other. links: int64 [P, 2], places in both lists of texts."""

    first: str
    second: str
    texts: tuple[list[str], list[str]]
    """Each text once."""
    links: np.ndarray
    missing: int
    """Rows that lack one of the two."""

    @property
    def name(self) -> str:
        return f"{self.first}-{self.second}"


@dataclass(frozen=True)
class Parallel:
    """Rows with texts by language; several where there are synonyms, none where a row lacks a language."""

    languages: tuple[str, ...]
    rows: Sequence[dict[str, tuple[str, ...]]]
    notes: tuple[str, ...] = ()
    pivot: str | None = None

    def ends(self) -> list[tuple[str, str]]:
        """The languages of each pair."""
        if self.pivot is None:
            return list(combinations(self.languages, 2))
        return [(self.pivot, other) for other in self.languages if other != self.pivot]

    def pairs(self) -> list[Pair]:
        """The texts of each pair of languages. UserError where a pair has no row."""
        return [self.pair(*ends) for ends in self.ends()]

    def pair(self, first: str, second: str) -> Pair:
        """UserError where no row has both languages."""
        both = [row for row in self.rows if row[first] and row[second]]
        if not both:
            raise UserError(f"no row of the parallel texts has both {first} and {second}; name other files.")
        places: tuple[dict[str, int], dict[str, int]] = ({}, {})
        links = {
            (places[0].setdefault(text, len(places[0])), places[1].setdefault(other, len(places[1])))
            for row in both
            for text in row[first]
            for other in row[second]
        }
        texts = (list(places[0]), list(places[1]))
        return Pair(first, second, texts, np.array(sorted(links), np.int64), len(self.rows) - len(both))

    def some(self, limit: int | None, seed: int) -> tuple[Parallel, Parallel]:
        """A keyed sample of rows, in their order, and the others; without a limit all rows, and none."""
        if limit is None or limit >= len(self.rows):
            return self, replace(self, rows=[])
        chosen = set(permute(np.arange(limit), len(self.rows), key(seed, "parallel texts")).tolist())
        parts: tuple[list[dict[str, tuple[str, ...]]], list[dict[str, tuple[str, ...]]]] = ([], [])
        for number, row in enumerate(self.rows):
            parts[number not in chosen].append(row)
        return replace(self, rows=parts[0]), replace(self, rows=parts[1])

    def texts(self, language: str) -> list[str]:
        """All texts of a language, each once."""
        return list(dict.fromkeys(text for row in self.rows for text in row[language]))


def load(config: ParallelConfig, cleaning: Cleaning) -> Parallel:
    """The texts of a config. UserError, with file and line, for what cannot be used."""
    reading = Reading()
    languages = tuple(config.named)
    if config.path is not None:
        asked = Asked(languages, config.encoding, config.separator, tuple(config.columns), config.quotes)
        rows_of_cells = list(_cells(Path(config.path).expanduser(), asked, reading))
        columns = [[cells[number] for cells in rows_of_cells] for number in range(len(languages))]
    else:
        columns = [list(_column(Path(config.files[name]).expanduser(), config, reading)) for name in languages]
    counts = dict(zip(languages, map(len, columns), strict=True))
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise UserError(f"parallel texts have different numbers of rows ({listed}); mend the files, row by row.")
    if not columns[0]:
        raise UserError(f"{config.paths()[0]} is empty; it should hold a text in each row.")
    rows = [
        {name: _texts(cell, config.synonyms, cleaning) for name, cell in zip(languages, cells, strict=True)}
        for cells in zip(*columns, strict=True)
    ]
    return Parallel(languages, rows, tuple(reading.remarks()), config.pivot)


def _texts(cell: str, synonyms: str, cleaning: Cleaning) -> tuple[str, ...]:
    texts = map(cleaning, cell.split(synonyms) if synonyms else [cell])
    return tuple(dict.fromkeys(text for text in texts if text.strip()))


def _cells(path: Path, asked: Asked, reading: Reading) -> Iterator[list[str]]:
    """The cells of a table in the columns that are wanted, row by row."""
    for row in table.rows(path, asked, reading):
        if isinstance(row, UserError):
            raise row
        for name in asked.wanted:
            if name not in row.fields:
                raise UserError(f"{row.where}: has no column {name!r}; {choices(name, row.fields)}.")
        values = [row.fields[name] for name in asked.wanted]
        yield ["" if value is None else as_text(row.where, name, value)
               for name, value in zip(asked.wanted, values, strict=True)]  # fmt: skip


def _column(path: Path, config: ParallelConfig, reading: Reading) -> Iterator[str]:
    """The texts of one language, row by row."""
    if config.column is not None or path.name.lower().endswith(table.FORMATS):
        if config.column is None:
            raise UserError(f"{path} is a table; say which of its columns has the text: column.")
        asked = Asked((config.column,), config.encoding, config.separator, tuple(config.columns), config.quotes)
        yield from (cells[0] for cells in _cells(path, asked, reading))
        return
    try:
        text = read(path, LARGEST).decode(config.encoding or "utf-8-sig")
    except (UnfitError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); name a text file, or set encoding.") from None
    yield from (line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
