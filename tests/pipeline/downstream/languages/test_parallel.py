"""Parallel texts: tables, files of lines, synonyms, samples; what cannot be meant is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data_prep.errors import UserError
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream.languages.parallel import ParallelConfig, load
from tests.pipeline.downstream.languages.conftest import ENGLISH, GREEK


def read(**values: Any) -> Any:
    return load(ParallelConfig(**values), Cleaning())


def test_a_table_has_a_column_for_each_language(table: Path, tmp_path: Path) -> None:
    (pair,) = read(path=str(table), languages=["en", "el"]).pairs()
    assert (pair.name, pair.missing) == ("en-el", 1)
    assert pair.texts == (list(ENGLISH), list(GREEK)) and pair.links.tolist() == [[n, n] for n in range(6)]
    bare = tmp_path / "bare.tsv"
    bare.write_text("7\tyes\tja\toui\n8\tno\tnein\tnon\n")
    texts = read(path=str(bare), columns=["id", "en", "de", "fr"], languages=["de", "en", "fr"])
    assert [pair.name for pair in texts.pairs()] == ["de-en", "de-fr", "en-fr"] and texts.texts("fr") == ["oui", "non"]
    around = read(path=str(bare), columns=["id", "en", "de", "fr"], languages=["de", "en", "fr"], pivot="en")
    assert [pair.name for pair in around.pairs()] == ["en-de", "en-fr"] and around.some(1, 0)[0].ends() == around.ends()


def test_files_of_lines_and_columns_of_files_say_the_same_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("big\tlarge\nwater\n\nbig\n")
    (tmp_path / "de.txt").write_text("groß \r\nWasser\r\nFeuer\r\ngross\r\n")
    files = {name: str(tmp_path / f"{name}.txt") for name in ("en", "de")}
    (pair,) = read(files=files, synonyms="\t", pivot="en").pairs()
    assert pair.texts == (["big", "large", "water"], ["groß", "Wasser", "gross"]) and pair.missing == 1
    assert pair.links.tolist() == [[0, 0], [0, 2], [1, 0], [2, 1]], "a word that comes twice has both translations"
    assert read(files=files).texts("en")[0] == "big large", "without synonyms a line is one text"
    for name, words in (("en", "yes no"), ("de", "ja nein")):
        (tmp_path / f"{name}.tsv").write_text("".join(f"{n}\t{word}\n" for n, word in enumerate(words.split())))
    tables = {name: str(tmp_path / f"{name}.tsv") for name in ("en", "de")}
    texts = read(files=tables, columns=["n", "word"], column="word")
    assert (texts.texts("en"), texts.texts("de")) == (["yes", "no"], ["ja", "nein"])


def test_samples_are_drawn_by_the_seed_and_leave_the_others(table: Path) -> None:
    texts = read(path=str(table), languages=["en", "el"])
    chosen, rest = texts.some(3, seed=1)
    assert (len(chosen.rows), len(rest.rows)) == (3, 4)
    assert sorted([*chosen.rows, *rest.rows], key=str) == sorted(texts.rows, key=str)
    assert texts.some(3, seed=1)[0] == chosen and texts.some(3, seed=2)[0] != chosen
    assert texts.some(None, 0) == texts.some(7, 0) == (texts, rest.__class__(rest.languages, [], rest.notes))


def test_what_cannot_be_meant_is_said(table: Path, tmp_path: Path) -> None:
    uneven = {"en": str(tmp_path / "en.txt"), "de": str(tmp_path / "de.txt")}
    (tmp_path / "en.txt").write_text("one\ntwo\n")
    (tmp_path / "de.txt").write_text("eins\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe4\n")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"path": str(table), "languages": ["en", "de"]}, "has no column 'de'"),
        ({"files": uneven}, r"different numbers of rows \(de 1, en 2\)"),
        ({"files": {**uneven, "de": str(tmp_path / "absent.txt")}}, "absent.txt: cannot be read"),
        ({"files": {**uneven, "de": str(tmp_path / "latin.txt")}}, "set encoding"),
        ({"files": {**uneven, "de": str(table)}}, "say which of its columns"),
    ]
    for values, text in wrong:
        with pytest.raises(UserError, match=text):
            read(**values)
    (tmp_path / "apart.tsv").write_text("en\tel\nyes\t\n\tοχι\n")
    with pytest.raises(UserError, match="no row of the parallel texts has both en and el"):
        read(path=str(tmp_path / "apart.tsv"), languages=["en", "el"]).pairs()
    refused = [
        ({}, "found neither"),
        ({"path": "x", "files": uneven}, "found both"),
        ({"path": "x", "languages": ["en"]}, "two languages"),
        ({"path": "x", "languages": ["en", "de"], "columns": ["en", "dee"]}, "did you mean dee"),
        ({"path": "x", "languages": ["en", "de"], "column": "en"}, "'column' is of 'files'"),
        ({"files": uneven, "languages": ["en"]}, "leave it out"),
        ({"files": uneven, "pivot": "fr"}, "'fr' is no language of these"),
    ]
    for values, text in refused:
        with pytest.raises(ValidationError, match=re.escape(text)):
            ParallelConfig(**values)
