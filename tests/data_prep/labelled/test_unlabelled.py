"""Files of rows without answers are read as they are laid out, whatever those that were learned from look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.labelled.files import LabelledConfig
from data_prep.labelled.loading import unlabelled
from data_prep.labelled.rows import Reading
from data_prep.labelled.suite import read_suite
from data_prep.labelled.task import task_of
from data_prep.labelled.unlabelled import laid_out

PAIR = [("a b", "c"), ("d", "e f")]
QUESTIONS = ["How far is the moon ?", "Who ?"]


def task(suite: str, name: str, **more: Any) -> Any:
    given = read_suite(suite)
    values = {**given.common, **given.tasks[name], **more}
    return task_of({key: value for key, value in values.items() if key not in ("train", "validation", "test")}, name)


def read(task: Any, path: Path, content: str, columns: list[str] | None = None) -> tuple[list[Example], list[str]]:
    """The rows of a file, and what is told about it."""
    path.write_text(content)
    reading = Reading()
    examples = list(unlabelled(laid_out(task, path, columns, reading), Path(), "predict", reading))
    return examples, reading.remarks()


@pytest.mark.parametrize(("content", "second"), [("text,text_pair\na b,c\nd,\n", "c"), ("text\na b\nd\n", None)])
def test_second_texts_may_be_missing_as_in_a_file_that_was_learned_from(
    content: str, second: str | None, tmp_path: Path
) -> None:
    reads = LabelledConfig(path="rows.csv").reads("class", in_pairs=True)
    examples, _ = read(task_of(reads, "predict"), tmp_path / "a.csv", content)
    assert [(example.text, example.text_pair) for example in examples] == [("a b", second), ("d", None)]


@pytest.mark.parametrize(
    ("suite", "name", "file", "content", "remark"),
    [
        ("glue", "rte", "a.tsv", "sentence1\tsentence2\na b\tc\nd\te f\n", "rows without 'index', named by file"),
        ("glue", "rte", "a.csv", 'sentence2,sentence1\n"c","a b"\ne f,d\n', "rows without 'index'"),
        ("glue", "rte", "a.csv", "sentence1;sentence2\na b;c\nd;e f\n", "its columns are parted by ';'"),
        ("xnli", "xnli", "a.tsv", "a b\tc\td\nd\te f\tg\n", ""),
        ("xnli", "xnli", "a.tsv", "a b\tc\nd\te f\n", "a.tsv: its 2 columns are read as premise, hypothesis"),
        ("xnli", "xnli", "a.tsv", "hypothesis\tpremise\nc\ta b\ne f\td\n", ""),
        ("xnli", "xnli", "a.jsonl", "".join(f"{json.dumps({'premise': a, 'hypothesis': b})}\n" for a, b in PAIR), ""),
        ("sentences", "sick-relatedness", "a.csv", "sentence_A,sentence_B\na b,c\nd,e f\n", "rows without 'pair_ID'"),
    ],
)  # fmt: skip
def test_pairs_of_suites(suite: str, name: str, file: str, content: str, remark: str, tmp_path: Path) -> None:
    examples, remarks = read(task(suite, name), tmp_path / file, content)
    assert [(example.text, example.text_pair) for example in examples] == PAIR
    assert any(text.startswith(remark) for text in remarks) if remark else not remarks


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("test.tsv", "index\tsentence\n0\tHe sings.\n1\tSing he.\n"),
        ("dev.tsv", "gj04\t1\t\tHe sings.\ngj04\t0\t*\tSing he.\n"),
        ("mine.tsv", "gj04\t\tHe sings.\ngj04\t*\tSing he.\n"),
        ("alone.tsv", "He sings.\nSing he.\n"),
        ("mine.csv", 'n,sentence\n1,"He sings."\n2,Sing he.\n'),
    ],
)
def test_cola_with_and_without_its_header(file: str, content: str, tmp_path: Path) -> None:
    examples, _ = read(task("glue", "cola"), tmp_path / file, content)
    assert [example.text for example in examples] == ["He sings.", "Sing he."]


def test_a_label_in_front_of_blanks_is_not_taken_from_a_question(tmp_path: Path) -> None:
    trec, path = task("sentences", "trec"), tmp_path / "questions.txt"
    with pytest.raises(UserError, match=r"questions\.txt: label and question stand .* --columns question, or"):
        read(trec, path, "\n".join(QUESTIONS))
    told, _ = read(trec, path, "\n".join(QUESTIONS), ["question"])
    as_learned, _ = read(trec, path, "".join(f"NUM:dist {text}\n" for text in QUESTIONS), ["label", "question"])
    with_header, _ = read(trec, tmp_path / "a.csv", "question\n" + "\n".join(QUESTIONS))
    of_json, _ = read(trec, tmp_path / "a.jsonl", "\n".join(json.dumps({"question": text}) for text in QUESTIONS))
    for examples in (told, as_learned, with_header, of_json):
        assert [example.text for example in examples] == QUESTIONS


def test_a_file_of_lines_has_the_columns_that_are_named(tmp_path: Path) -> None:
    path = tmp_path / "reviews.txt"
    examples, _ = read(task("glue", "sst2"), path, 'He said, "no".\nYes\n', ["sentence"])
    assert [example.text for example in examples] == ['He said, "no".', "Yes"]
    with pytest.raises(
        UserError,
        match=r"reviews\.txt: nothing tells .* name their columns, such as --columns ",
    ):
        read(task("glue", "sst2"), path, "Yes\n")


def test_words_without_tags(tmp_path: Path) -> None:
    conll = task_of({"layout": "tokens", "columns": ["word", "pos", "chunk"]}, "task")
    for content in ("It PRP B-NP\nis VBZ B-VP\n", "It PRP\nis VBZ\n", "It\nis\n"):
        examples, _ = read(conll, tmp_path / "a.txt", content)
        assert [example.words for example in examples] == [("It", "is")]
    examples, remarks = read(conll, tmp_path / "a.jsonl", '{"word": ["It", "is"], "pos": ["PRP", "VBZ"]}\n')
    assert [example.words for example in examples] == [("It", "is")] and not remarks
    with pytest.raises(UserError, match=r"a\.jsonl line 1: has no 'word', .* it has text"):
        read(conll, tmp_path / "a.jsonl", '{"text": "It is"}\n')


@pytest.mark.parametrize("content", ["Label\tText\n1\ta b\n", "TEXT\na b\n"])
def test_a_header_in_other_letters_is_not_answered_as_a_row(content: str, tmp_path: Path) -> None:
    given = task_of({"inputs": ["text"], "columns": ["label", "text"]}, "task")
    with pytest.raises(UserError, match=r"first line, (Label,Text|TEXT), looks like a header, .* label,text; write"):
        read(given, tmp_path / "a.tsv", content)


def test_a_column_that_names_the_language_may_be_missing_and_other_columns_may_not(tmp_path: Path) -> None:
    given = task_of({"inputs": ["text"], "columns": ["text", "more", "label"], "language": "language"}, "task")
    ((example,), _) = read(given, tmp_path / "a.csv", "u,v\n")
    assert (example.text, example.language, example.id) == ("u", "", "a.csv:1")
    with pytest.raises(UserError, match=r"a\.csv line 1.* 4 .*expected 3"):
        read(given, tmp_path / "a.csv", "u,v,w,x\n")
    with pytest.raises(UserError, match=r"has no 'text', which predict names; it has a, b"):
        read(given, tmp_path / "a.csv", "a,b\nu,v\n", [])
    with pytest.raises(UserError, match="cannot be read"):
        list(unlabelled(laid_out(given, tmp_path / "none.csv", None, Reading()), Path(), "predict", Reading()))


def test_a_network_reads_what_its_task_says_of_rows_without_answers(tmp_path: Path) -> None:
    predict: Any = [{"path": name, "inputs": ["body"], "id": "own"} for name in ("a.csv", "b.csv")]
    given = {"train": "train.csv", "inputs": ["text"], "label": "kind", "predict": predict, "prompt": "{text} is"}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(given))
    config = LabelledConfig(task=str(tmp_path / "task.yaml"))
    assert config.reads("class", False) == {"inputs": ["body"], "id": "own", "label": "kind", "head": "class"}
    given |= {"predict": [predict[0], "c.csv"], "inputs": [], "head": "text"}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(given))
    assert config.reads("text", False) == {"inputs": ["{text} is"], "label": "kind", "head": "text"}
