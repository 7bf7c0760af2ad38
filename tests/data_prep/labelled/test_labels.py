"""How labels, words and tags are spelled, and what is made of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.errors import UserError
from data_prep.labelled.loading import load_task
from data_prep.labelled.task import task_of
from data_prep.labelled.values import alike, plain
from data_prep.tokens.cleaning import Cleaning
from tests.data_prep.labelled.conftest import Load


def lines(values: list[Any], name: str = "label") -> list[dict[str, Any]]:
    return [{"text": f"text {number}", name: value} for number, value in enumerate(values)]


@pytest.mark.parametrize(
    "values",
    [{"labels": {"neg": False, "pos": True}}, {"choices": {"0": False, "1": True}}, {"labels": {True: "a", "b": "c"}}],
)
def test_words_that_yaml_reads_as_truth_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"(labels|choices): .* put both in quotes, for YAML reads yes, no, on and off"):
        task_of(values, "task")


def test_truth_values_have_the_names_that_json_and_cells_have(load: Load) -> None:
    files = {"a.jsonl": lines([True, False]), "b.csv": "text,label\nu,true\nv,false\n"}
    data = load(files, train="a.jsonl", validation="b.csv", inputs=["text"])
    assert data.labels == ["false", "true"] and [row.label for row in data.splits["train"]] == [1, 0]
    for name in ("true", "True"):
        data = load({}, validation="a.jsonl", inputs=["text"], labels={"False": "no", name: "yes"})
        assert [row.label for row in data.splits["validation"]] == [1, 0]


@pytest.mark.parametrize("spelled", ["0.0", "0", "00", '"0.0"'])
def test_numbers_of_labels_in_any_form(load: Load, spelled: str) -> None:
    """As pandas writes whole numbers beside missing ones."""
    data = load(
        {"a.csv": f"text,label\nu,1\nv,{spelled}\n"}, validation="a.csv", inputs=["text"], labels={0: "n", 1: "y"}
    )
    assert [row.label for row in data.splits["validation"]] == [1, 0]


def test_a_label_that_may_be_two_is_refused(load: Load) -> None:
    with pytest.raises(UserError, match=r"line 2: the label '1\.0' in 'label'; allowed: 1, 01"):
        load({"a.csv": "text,label\nu,1.0\n"}, validation="a.csv", inputs=["text"], labels=["1", "01"])


@pytest.mark.parametrize(
    ("text", "name"),
    [("1.0", "1"), ("01", "1"), ("-0", "0"), ("-1.", "-1"), ("1.5", "1.5"), ("True", "true"), ("Yes", "Yes"), ("", "")],
)
def test_what_spellings_have_in_common(text: str, name: str) -> None:
    assert plain(text) == name


def test_labels_that_differ_only_in_spelling_are_told(load: Load) -> None:
    data = load({"a.jsonl": lines([1, "1.0", "01", "Yes", "yes", "no"])}, validation="a.jsonl", inputs=["text"])
    assert len(data.labels) == 6
    told = [note for note in data.notes if "differ only in how they are spelled" in note]
    assert [note[: note.index(" differ")] for note in told] == [
        "the labels '01' and '1' and '1.0'", "the labels 'Yes' and 'yes'",
    ]  # fmt: skip
    assert alike(["B-X", "I-X", "O", "0", "."]) == []


def test_names_of_labels_are_cleaned_as_texts_are(load: Load, tmp_path: Path) -> None:
    load({"a.jsonl": lines(["caf\u00e9", "cafe\u0301", "x"])}, validation="a.jsonl", inputs=["text"])
    data = load_task(tmp_path / "task.yaml", Cleaning())
    assert data.labels == ["caf\u00e9", "x"] and [row.label for row in data.splits["validation"]] == [0, 0, 1]
    (tmp_path / "task.yaml").write_text("validation: a.jsonl\ninputs: [text]\nlabels: [x, cafe\u0301]")
    data = load_task(tmp_path / "task.yaml", Cleaning())
    assert data.labels == ["x", "cafe\u0301"] and [row.label for row in data.splits["validation"]] == [1, 1, 0]


def test_ignored_labels_in_any_form(load: Load) -> None:
    files = {"a.csv": "text,label\nu,-1.0\nv,1.0\nw,0.0\n", "b.jsonl": lines([-1.0, -1, 1, 0])}
    data = load(files, train="b.jsonl", validation="a.csv", inputs=["text"], ignore=["-1"], labels=["0", "1"])
    assert {split: len(data.splits[split]) for split in ("train", "validation")} == {"train": 2, "validation": 2}


# ---------------------------------------------------------------- words and tags in cells

TAGGED: dict[str, Any] = {"validation": "a.tsv", "inputs": ["words"], "label": "tags", "head": "tags", "quotes": False}


def test_words_and_tags_of_cells_may_be_json(load: Load) -> None:
    cells = [(["He", "[", "ran"], ["O", "B-X", "O"]), (["No"], ["O"])]
    table = "".join(f"{json.dumps(words)}\t{json.dumps(tags)}\n" for words, tags in cells)
    data = load({"a.tsv": f"words\ttags\n{table}[ 3 ]\tO O O\n[1]\tO\n[1] ,\tO O\n"}, **TAGGED)
    assert [row.words for row in data.splits["validation"]] == [
        ("He", "[", "ran"), ("No",), ("[", "3", "]"), ("[1]",), ("[1]", ","),
    ]  # fmt: skip
    assert data.labels == ["B-X", "O"]
    data = load({"a.tsv": 'words\ttags\n["a", "b"]\t[0, 3]\n'}, **TAGGED)
    assert data.labels == ["0", "3"]


@pytest.mark.parametrize(
    "cells",
    ["['a', 'b']\tO O", "['a' 'b']\tO O", "a b\t['O', 'O']", "a b\t[0 3]", "a b\t['O' 'O']", '["it\', "a"]\tO O'],
)
def test_lists_as_python_prints_them_are_refused(load: Load, cells: str) -> None:
    with pytest.raises(UserError, match=r"line 2: '(words|tags)' is .*, a list as Python prints it; write it as JSON"):
        load({"a.tsv": f"words\ttags\n{cells}\n"}, **TAGGED)


def test_several_texts_to_write_are_not_none(load: Load) -> None:
    files = {"a.jsonl": lines([[], ["a", "b"], "c"])}
    given: dict[str, Any] = {"validation": "a.jsonl", "inputs": ["text"], "head": "text"}
    with pytest.raises(UserError, match=r"a\.jsonl line 1: 'label' is \[\]; expected a list, not empty"):
        load(files, **given)
    data = load(files, **given, max_rejects=1)
    assert [row.target for row in data.splits["validation"]] == ["a", "c"]
    assert any("left out: 1" in note for note in data.notes)


# ---------------------------------------------------------------- the columns beside them

KEYED = [{**row, "k": key} for row, key in zip(lines([0, 1, 0, 1]), [None, "a", "a", "b"], strict=True)]


def test_rows_whose_value_is_null_are_others(load: Load) -> None:
    data = load({"a.jsonl": KEYED}, validation={"path": "a.jsonl", "only": {"k": "a"}}, inputs=["text"])
    assert [row.text for row in data.splits["validation"]] == ["text 1", "text 2"]
    part = {"path": "a.jsonl", "only": {"k": "a"}}
    files = {"a.jsonl": [*KEYED, {"text": "w", "label": 1}]}
    with pytest.raises(UserError, match=r"line 5: has no 'k', which only names"):
        load(files, validation=part, inputs=["text"])
    assert len(load(files, validation=part, inputs=["text"], max_rejects=1).splits["validation"]) == 2


@pytest.mark.parametrize("value", [True, "true", "True", ["true", "x"], [True]])
def test_truth_values_of_only(load: Load, value: Any) -> None:
    rows = [{**row, "k": row["label"] == 1} for row in lines([0, 1, 1])]
    files = {"a.jsonl": rows, "b.csv": "text,label,k\nu,0,False\nv,1,True\nw,1,true\n"}
    for name in files:
        data = load(files, validation={"path": name, "only": {"k": value}}, inputs=["text"], labels=["0", "1"])
        assert [row.label for row in data.splits["validation"]] == [1, 1]


@pytest.mark.parametrize("missing", [None, ""])
def test_a_row_without_its_language_is_refused_and_counted(load: Load, missing: str | None) -> None:
    files = {
        "a.jsonl": [{**row, "lang": lang} for row, lang in zip(lines([0, 1, 1]), ["en", "de", missing], strict=True)]
    }
    given: dict[str, Any] = {"validation": "a.jsonl", "inputs": ["text"], "language": "lang"}
    with pytest.raises(UserError, match=r"line 3: 'lang', the language, has no value; give it one, such as en"):
        load(files, **given)
    assert [row.language for row in load(files, **given, max_rejects=1).splits["validation"]] == ["en", "de"]


def test_a_column_of_languages_is_read_from_parquet_too(load: Load, tmp_path: Path) -> None:
    table = pa.table({"text": ["u", "v"], "label": [0, 1], "lg": ["en", "de"], "of": [{"lg": "fr"}] * 2})
    pq.write_table(table, tmp_path / "a.parquet")
    for name, languages in (("lg", ["en", "de"]), ("of.lg", ["fr", "fr"]), ("zh", ["zh", "zh"])):
        data = load({}, validation="a.parquet", inputs=["text"], language=name)
        assert [row.language for row in data.splits["validation"]] == languages


@pytest.mark.parametrize("inputs", [["label"], ["text", "label"], ["{text}: {label}"]])
def test_the_answer_is_no_input(load: Load, inputs: list[str]) -> None:
    files = {"a.jsonl": lines([0, 1])}
    with pytest.raises(UserError, match=r"task\.yaml: inputs: 'label' is the column with the answer, too; name others"):
        load(files, validation="a.jsonl", inputs=inputs)
    assert load(files, predict="a.jsonl", inputs=inputs).splits["predict"]


@pytest.mark.parametrize("name", ["A.TSV", "A.Csv", "A.JSONL", "A.Json", "A.PARQUET", "A.JSONL.GZ"])
def test_extensions_in_upper_case(load: Load, tmp_path: Path, name: str) -> None:
    delimiter = "\t" if name == "A.TSV" else ","
    rows = lines([1, 0])
    if name == "A.PARQUET":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    elif "JSON" in name.upper():
        text = "\n".join(map(json.dumps, rows)).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("GZ") else text)
    else:
        cells = [("text", "label"), *(row.values() for row in rows)]
        (tmp_path / name).write_text("".join(f"{delimiter.join(map(str, row))}\n" for row in cells))
    data = load({}, validation=name, inputs=["text"])
    assert [(row.text, row.label) for row in data.splits["validation"]] == [("text 0", 1), ("text 1", 0)]
    (tmp_path / "hub" / "data").mkdir(parents=True)
    (tmp_path / name).rename(tmp_path / "hub" / "data" / f"validation-{name}")
    data = load({}, validation="hub", layout="hub", inputs=["text"])
    assert len(data.splits["validation"]) == 2


def test_words_of_a_compressed_file_in_upper_case(load: Load) -> None:
    line = b"1\tWest\twest\tPROPN\t_\t_\t0\troot\t_\t_\n"
    data = load({"A.CONLLU.GZ": gzip.compress(line)}, validation="A.CONLLU.GZ", layout="tokens", labels=["PROPN", "X"])
    assert data.splits["validation"][0].words == ("West",)
    data = load({"u.txt": "West\tB\nis\tO\n".encode("utf-16")}, validation="u.txt", layout="tokens", encoding="utf-16")
    assert data.splits["validation"][0].words == ("West", "is")
