"""Task files: what is read of tables for each head, how rows are split, and what is said of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.labelled import checks
from data_prep.labelled.examples import Answer
from data_prep.labelled.loading import load_task
from data_prep.labelled.task import TaskFile, fields_of, files_of, read_task, task_of
from data_prep.tokens.cleaning import Cleaning
from tests.data_prep.labelled.conftest import Load

FILMS = 'sentence\tlabel\nfine \t1\n"bad" film\t0\nlong\t0\nshort\t1\n'
TWO = {"inputs": ["sentence"], "train": "train.tsv", "validation": "dev.tsv"}


def texts(examples: list[Any]) -> list[str]:
    return [example.text for example in examples]


# ---------------------------------------------------------------- what is read


def test_a_table_with_a_header(load: Load) -> None:
    data = load({"train.tsv": FILMS, "dev.tsv": FILMS[:22]}, **TWO, quotes=False, labels={0: "negative", 1: "positive"})
    assert data.labels == ["negative", "positive"] and data.head == "class" and data.reported == "validation"
    assert texts(data.splits["train"]) == ["fine ", '"bad" film', "long", "short"]
    assert [example.label for example in data.splits["train"]] == [1, 0, 0, 1]
    first = data.splits["train"][0]
    assert (first.id, first.place, first.text_pair) == ("train.tsv:2", "train.tsv:2", None)
    assert "there is no test: scores are those of validation" in data.notes


def test_columns_may_have_any_name_without_braces(load: Load) -> None:
    """What a format takes for a conversion, a width or a place in a list is part of the name."""
    columns = ["a:b", "c!r", "d[0]", "__e__"]
    files = {"train.csv": f"{','.join(columns)},label\n1,2,3,4,u\n5,6,7,8,v\n"}
    template = "{{{a:b} {c!r}}} {d[0]} {__e__}"
    assert fields_of(template) == columns
    data = load(files, train="train.csv", validation="train.csv", inputs=[template])
    assert texts(data.splits["train"]) == ["{1 2} 3 4", "{5 6} 7 8"]


def test_a_headerless_file_beside_one_with_a_header(load: Load) -> None:
    """CoLA: train and dev have no header, test has one, and no labels."""
    files = {
        "train.tsv": "gj04\t1\t\tIt is.\nks08\t0\t*\tIs it it?",
        "test.tsv": "index\tsentence\n0\tWho?\n1\tHe did.\n",
    }
    columns = ["source", "label", "mark", "sentence"]
    predict = {"path": "test.tsv", "columns": []}
    data = load(files, train="train.tsv", validation="train.tsv", predict=predict, columns=columns, inputs=["sentence"])
    assert texts(data.splits["train"]) == ["It is.", "Is it it?"] and texts(data.splits["predict"]) == [
        "Who?",
        "He did.",
    ]
    assert {example.label for example in data.splits["predict"]} == {-1} and data.labels == ["0", "1"]


def test_two_inputs_and_templates_with_columns_inside_of_columns(load: Load) -> None:
    row = {"text": "He saw her.", "target": {"span": "her", "words": ["a", "b"]}, "label": True, "id": 7}
    rows = [row, {**row, "id": 8, "label": 0}]
    data = load(
        {"a.json": rows},
        train="a.json",
        validation="a.json",
        inputs=["text", "{target.span}: {{{target.words}}}"],
        id="id",
    )
    example = data.splits["train"][0]
    assert (example.text, example.text_pair, example.id) == ("He saw her.", "her: {a b}", "7")


def test_a_second_text_may_be_missing_where_the_task_says_so(load: Load) -> None:
    rows = [{"a": "x", "b": 0, "label": 1}, {"a": "y", "b": " ", "label": 0}, {"a": "z", "label": 1}]
    rows += [{"a": "w", "b": None, "label": 0}]
    settings: dict[str, Any] = {"train": "a.json", "validation": "a.json", "inputs": ["a", "b"]}
    data = load({"a.json": rows}, **settings, optional=["b"])
    assert [example.text_pair for example in data.splits["train"]] == ["0", None, None, None]
    with pytest.raises(UserError, match=r"'b' is \" \"; expected text"):
        load({"a.json": rows}, **settings)
    with pytest.raises(UserError, match="optional: a; a row may do without its second text alone, here b"):
        load({"a.json": rows}, **settings, optional=["a"])


def test_scores(load: Load) -> None:
    data = load(
        {"a.tsv": "a\tb\tscore\nx\ty\t4.750\nx\tz\t0\n"},
        validation="a.tsv",
        inputs=["a", "b"],
        head="score",
        label="score",
    )
    assert [example.score for example in data.splits["validation"]] == [4.75, 0.0] and data.labels == []
    assert data.task == "regression" and not list(checks.problems(data))


def test_words_and_tags_of_a_table(load: Load) -> None:
    rows = [{"tokens": ["Ann", "ran"], "tags": ["B-PER", "O"]}, {"tokens": "She sat", "tags": "O O"}]
    data = load({"a.jsonl": rows}, validation="a.jsonl", inputs=["tokens"], label="tags", head="tags")
    assert [example.words for example in data.splits["validation"]] == [("Ann", "ran"), ("She", "sat")]
    assert data.labels == ["B-PER", "O"] and data.splits["validation"][0].tags == (0, 1) and data.scheme == "BIO"


def test_multiple_choice(load: Load) -> None:
    rows = [
        {"q": "Who?", "options": ["I", "you"], "answer": 1},
        {"q": "What?", "options": '["it", "all"]', "answer": "it"},
    ]
    data = load({"a.jsonl": rows}, validation="a.jsonl", inputs=["q"], choices="options", label="answer")
    assert [(row.choices, row.label) for row in data.splits["validation"]] == [(("I", "you"), 1), (("it", "all"), 0)]
    data = load(
        {"b.csv": "q,a,b,answer\nWho,I,we,0\n"}, validation="b.csv", inputs=["q"], choices=["a", "b"], label="answer"
    )
    assert data.head == "choice" and data.splits["validation"][0].choices == ("I", "we")


def test_texts_to_write(load: Load) -> None:
    rows = [{"doc": "long", "sum": "[short]"}, {"doc": "longer", "sum": ["s", "t"]}]
    data = load({"a.jsonl": rows}, validation="a.jsonl", head="text", prompt="summarize: {doc}", label="sum")
    first, second = data.splits["validation"]
    assert (first.text, first.target, first.answers) == ("summarize: long", "[short]", ())
    assert second.target == "s" and second.answers == (Answer("s"), Answer("t"))


def test_questions_in_a_table_as_hugging_face_has_them(load: Load) -> None:
    answers = {"text": ["cat", "a cat"], "answer_start": [2, 0]}
    rows = [{"context": "a cat ", "question": "Who?", "answers": answers}]
    data = load({"a.jsonl": rows}, validation="a.jsonl", head="answer", inputs=["context", "question"], label="answers")
    [example] = data.splits["validation"]
    assert example.answers == (Answer("cat", 2), Answer("a cat", 0)) and example.text == "a cat "


@pytest.mark.parametrize("quotes", [True, False])
def test_files_of_other_names_and_compressed_ones(load: Load, quotes: bool) -> None:
    files = {"a.txt": "x|label\nu|1\nv|0\n", "b.tsv.gz": gzip.compress(b"x\tlabel\nw\t1\n")}
    data = load(files, train="a.txt", test="a.txt", validation="a.txt", inputs=["x"], separator="|", quotes=quotes)
    assert texts(data.splits["train"]) == ["u", "v"]
    data = load(files, validation="b.tsv.gz", inputs=["x"], labels=["0", "1"], quotes=quotes)
    assert texts(data.splits["validation"]) == ["w"]


def test_a_json_file_may_be_one_list(load: Load) -> None:
    data = load({"a.json": '\n[{"x": "u", "label": 1},\n {"x": "v", "label": 0}]'}, validation="a.json", inputs=["x"])
    assert [(row.text, row.place) for row in data.splits["validation"]] == [("u", "a.json:1"), ("v", "a.json:2")]


def test_several_files_and_languages(load: Load) -> None:
    rows = {name: f"x,label\n{name} one,1\n{name} two,0\n" for name in ("en", "zh", "de")}
    data = load(
        {f"{name}.csv": content for name, content in rows.items()},
        train=[{"path": "en.csv", "language": "en"}, {"path": "zh.csv", "language": "zh"}],
        test={"path": "{language}.csv", "language": ["zh", "de"]},
        split={"validation": 0.5, "test": 0.5 - 1e-9},
        inputs=["x"],
    )
    held_out = data.splits["train"] + data.splits["validation"]
    assert sorted((row.text, row.language) for row in held_out) == [
        ("en one", "en"), ("en two", "en"), ("zh one", "zh"), ("zh two", "zh"),
    ]  # fmt: skip
    assert [(row.text, row.language) for row in data.splits["test"]] == [
        ("zh one", "zh"), ("zh two", "zh"), ("de one", "de"), ("de two", "de"),
    ]  # fmt: skip
    [shared] = [text for text in (*checks.problems(data), *checks.remarks(data)) if "of test are in train" in text]
    assert "zh.csv:" in shared and "de.csv" not in shared  # what is shared is found across languages


def test_columns_that_name_languages_parts_and_rows_that_are_not_asked(load: Load) -> None:
    lines = ["lang,x,gold,k"] + [f"{lang},{lang} {n},{n % 2},{n}" for lang in ("en", "sw", "ur") for n in range(2)]
    file = {"path": "a.csv", "only": {"lang": ["en", "sw"]}, "language": "lang", "part": "all"}
    data = load({"a.csv": "\n".join(lines)}, test=[file], inputs=["x"], label="gold", id="k")
    assert [(row.language, row.part, row.id) for row in data.splits["test"]] == [
        ("en", "all", "0"), ("en", "all", "1"), ("sw", "all", "0"), ("sw", "all", "1"),
    ]  # fmt: skip


def test_parts_may_have_columns_of_their_own(load: Load) -> None:
    files = {"mt.tsv": "premise\thypo\tlabel\na\tb\tcontradictory\n", "dev.tsv": "s1\ts2\tgold\nc\td\tcontradiction\n"}
    data = load(
        files,
        train={"path": "mt.tsv", "inputs": ["premise", "hypo"], "label": "label"},
        validation="dev.tsv",
        inputs=["s1", "s2"],
        label="gold",
        labels={"entailment": "entailment", "contradiction": "contradiction", "contradictory": "contradiction"},
    )
    assert data.labels == ["entailment", "contradiction"]
    assert [data.splits[split][0].label for split in ("train", "validation")] == [1, 1]


def test_shards_are_found_by_a_pattern(load: Load) -> None:
    files = {f"part/{name}.csv": f"x,label\n{name},{number}\n" for number, name in enumerate("abc")}
    data = load(files, validation="part/*.csv", inputs=["x"])
    assert [row.place for row in data.splits["validation"]] == ["part/a.csv:2", "part/b.csv:2", "part/c.csv:2"]
    with pytest.raises(UserError, match=r"part/\*\.tsv names no file"):
        load({}, validation="part/*.tsv", inputs=["x"])


def test_texts_are_cleaned_where_asked(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,label\nso  good ,1\nbad,0\n")
    (tmp_path / "task.yaml").write_text("validation: a.csv\ninputs: [x]")
    assert [load_task(tmp_path / "task.yaml", how).splits["validation"][0].text for how in (None, Cleaning())] == [
        "so  good ", "so good",
    ]  # fmt: skip
    row = {"c": "a  cat", "q": "who  is", "label": [{"text": "cat", "answer_start": 3}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (tmp_path / "task.yaml").write_text("validation: a.jsonl\ninputs: [c, q]\nhead: answer")
    [example] = load_task(tmp_path / "task.yaml", Cleaning()).splits["validation"]
    assert (example.text, example.text_pair, example.answers) == ("a  cat", "who is", (Answer("cat", 3),))


# ---------------------------------------------------------------- splits


def test_train_is_divided_by_contents_whatever_the_order(load: Load) -> None:
    rows = [f"text {number % 40},{number % 40 % 2}" for number in range(80)]
    data = load({"a.csv": "\n".join(["x,label", *rows])}, train="a.csv", inputs=["x"])
    again = load({"a.csv": "\n".join(["x,label", *reversed(rows)])}, train="a.csv", inputs=["x"])
    assert [len(data.splits[split]) for split in ("train", "validation", "test")] == [64, 8, 8]
    for split in ("train", "validation", "test"):
        assert sorted(texts(data.splits[split])) == sorted(texts(again.splits[split]))
    assert not set(texts(data.splits["train"])) & set(texts(data.splits["test"]))
    other = load({}, train="a.csv", inputs=["x"], seed=1)
    assert set(texts(other.splits["test"])) != set(texts(data.splits["test"]))


def test_questions_about_one_context_stay_together(load: Load) -> None:
    rows = [{"c": f"context {n // 4}", "q": f"question {n}", "a": ["context"]} for n in range(80)]
    data = load({"a.jsonl": rows}, train="a.jsonl", inputs=["c", "q"], head="answer", label="a")
    contexts = [set(texts(data.splits[split])) for split in ("train", "validation", "test")]
    assert all(contexts) and not contexts[0] & (contexts[1] | contexts[2])
    assert not [text for text in checks.remarks(data) if "are about contexts that" in text]
    same: dict[str, Any] = {"train": "a.jsonl", "validation": "b.jsonl", "test": "b.jsonl"}
    data = load({"b.jsonl": [{"c": "c", "q": "q", "a": ["c"]}]}, **same, inputs=["c", "q"], head="answer", label="a")
    assert "1 of 1 questions of test are about contexts that validation has, too (b.jsonl:1)" in [*checks.remarks(data)]


# ---------------------------------------------------------------- what is said


def test_leaks_are_counted_and_named(load: Load) -> None:
    train = "x,label\n" + "".join(f"row {n},{n % 2}\n" for n in range(9))
    test = "x,label\nrow  3,1\nrow 5,1\n" + "".join(f"new {n},{n % 2}\n" for n in range(6))
    data = load({"a.csv": train, "b.csv": test}, train="a.csv", validation="b.csv", test="b.csv", inputs=["x"])
    said = list(checks.remarks(data))
    assert "2 of 8 rows of test are in train, too (b.csv:2 is a.csv:5, b.csv:3 is a.csv:7)" in said
    [of_validation] = [text for text in said if "validation, too" in text]
    assert of_validation.startswith("8 of 8 rows of test are in validation, too (b.csv:2 is b.csv:2, ")
    assert not list(checks.problems(data)), "whoever has one file for both reports on it knowingly"
    data = load({}, train="a.csv", test="a.csv", validation="b.csv", inputs=["x"])
    [problem] = checks.problems(data)
    assert problem.startswith("9 of 9 rows of test are in train, too (a.csv:2 is a.csv:2, ") and "hold out" in problem


def test_equal_texts_with_different_labels_are_counted(load: Load) -> None:
    data = load({"a.csv": "x,label\nu,1\nu,0\nv,0\n"}, train="a.csv", test="a.csv", validation="a.csv", inputs=["x"])
    [said] = [text for text in checks.remarks(data) if "labelled differently" in text]
    assert said == "6 of 9 rows are labelled differently in another row of the same text (a.csv:2, a.csv:3, a.csv:2, …)"


def test_ignored_labels_and_rejects_are_counted(load: Load) -> None:
    content = "x\tlabel\nu\t1\nv\t-\nbroken\nw\t0\n\t1\nz\t-\n"
    data = load({"a.tsv": content}, validation="a.tsv", inputs=["x"], ignore=["-"], max_rejects=2, quotes=False)
    assert texts(data.splits["validation"]) == ["u", "w"]
    assert "rows with an ignored label, left out: 2 (a.tsv:3, a.tsv:7)" in data.notes
    [left_out] = [note for note in data.notes if "cannot be used" in note]
    assert left_out.startswith("rows that cannot be used, left out: 2 (") and "line 4 has 1 columns" in left_out
    with pytest.raises(UserError, match=r"line 6: 'x' is \"\"; expected text \(and max_rejects allows 1 rows"):
        load({}, validation="a.tsv", inputs=["x"], ignore=["-"], max_rejects=1, quotes=False)


def test_rows_of_train_with_one_id_get_numbers(load: Load) -> None:
    files, no_others = {"a.csv": "k,x,label\n1,u,1\n1,v,0\n1,w,0\n"}, {"validation": 0, "test": 0}
    data = load(files, train="a.csv", inputs=["x"], id="k", split=no_others)
    assert [row.id for row in data.splits["train"]] == ["1", "1#2", "1#3"]
    assert "rows of train with the id of another, which get #2, #3 … behind it: 2 (a.csv:3, a.csv:4)" in data.notes


@pytest.mark.parametrize("own", ["k", ""])
def test_no_row_of_predict_is_left_out(load: Load, own: str) -> None:
    """Neither where ids name rows nor where their numbers do: what is empty is answered, what cannot be is refused."""
    rows = [{"k": 7, "text": "u"}, {"k": 8, "text": ""}, {"k": 9, "text": None}, {"k": 10, "text": ["w", 1]}]
    lines = [f"{json.dumps(row)}\n" for row in rows]
    files = {"a.csv": "k,text,label\n1,u,1\n2,v,0\n", "b.jsonl": "".join(lines[:2]), "c.jsonl": "".join(lines)}
    given: dict[str, Any] = {"train": "a.csv", "validation": "a.csv", "inputs": ["text"], "id": own, "max_rejects": 9}
    data = load(files, predict="b.jsonl", **given)
    assert [(row.id, row.text) for row in data.splits["predict"]] == (
        [("7", "u"), ("8", "")] if own else [("b.jsonl:1", "u"), ("b.jsonl:2", "")]
    )
    assert "rows of predict with an empty text, answered as they are: 1 (b.jsonl:2)" in data.notes
    named = "9, 10" if own else "c.jsonl:3, c.jsonl:4"
    with pytest.raises(
        UserError,
        match=rf"c\.jsonl line 3: 'text', .* has no value; .*; 2 rows of predict \(id {named}\) cannot be answered, "
        "and test servers want an answer to every row: mend them",
    ):
        load(files, predict="c.jsonl", **given)


def test_rows_of_predict_may_have_one_id_and_a_column_of_their_own_for_it(load: Load) -> None:
    files = {"a.csv": "k,text,label\n1,u,1\n2,v,0\n", "b.csv": "own,text\n7,u\n7,v\n"}
    data = load(
        files, train="a.csv", validation="a.csv", inputs=["text"], id="k", predict={"path": "b.csv", "id": "own"}
    )
    assert [row.id for row in data.splits["predict"]] == ["7", "7"]
    assert "rows of predict with the id of another: 1 (b.csv:3)" in data.notes


# ---------------------------------------------------------------- files and settings


def test_the_files_of_a_task(tmp_path: Path) -> None:
    for name in ("en.csv", "de.csv", "hub/a.parquet", "hub/b.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    values = {"train": {"path": "{language}.csv", "language": ["en", "de"]}, "test": "hub", "predict": "*.csv"}
    task = task_of(values, "task")
    assert [str(path.relative_to(tmp_path)) for path in files_of(task, tmp_path)] == [
        "en.csv", "de.csv", "hub/a.parquet", "hub/b.parquet",
    ]  # fmt: skip
    assert [path.name for path in files_of(task, tmp_path, ["train"])] == ["en.csv", "de.csv"]


def test_names_and_numbers_in_place_of_lists_and_texts() -> None:
    values = {
        "train": None,
        "test": {"path": "a", "inputs": "x", "only": {"k": [1, 2], "l": 3}},
        "inputs": "y",
        "metrics": "f1",
    }
    task = task_of(values, "task")
    assert (task.train, task.inputs, task.metrics) == ([], ["y"], ["f1"])
    assert (task.test[0].inputs, task.test[0].only) == (["x"], {"k": ["1", "2"], "l": "3"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": 3}, "task.train: found 3; give a path"),
        ({"train": {"language": "en"}}, "task.train: found .*; give a path"),
        ({"test": [{"path": 1}]}, "task.test.0: found 1; input should be a valid string"),
        ({"test": [{"path": "a", "layout": "squat"}]}, "task.test.0: found 'squat'; input should be 'table', 'squad'"),
        ({"head": "clas"}, "task.head: found 'clas'; input should be 'class'"),
        ({"separator": "ab"}, "task.separator: found 'ab'; one character parts columns"),
        ({"max_rejects": -1}, "task.max_rejects: found -1"),
        ({"lables": []}, "task.lables: unknown key; .*did you mean labels"),
    ],
)
def test_settings_that_cannot_be_meant(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.compile(message)):
        task_of(values, "task")


@pytest.mark.parametrize("head", ["score", "answer", "text"])
def test_labels_are_of_heads_that_choose_one(head: str) -> None:
    with pytest.raises(UserError, match=f"labels are of classes, tags and choices, and the head is {head}"):
        task_of({"inputs": ["a", "b"], "head": head, "labels": ["no", "yes"]}, "task")


def test_settings_that_are_left_out_are_those_of_a_plain_table() -> None:
    task = TaskFile()
    assert (task.layout, task.predicts, task.label, task.quotes, task.classes) == ("table", "class", "label", True, {})
    assert [TaskFile(layout=name).predicts for name in ("squad", "tokens")] == ["answer", "tags"]
    assert TaskFile(choices="options").predicts == "choice"
    assert TaskFile(choices={"0": "no", "1": "yes"}).classes == {"0": "no", "1": "yes"}


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(
    str.strip
)
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6)


@given(ROWS)
def test_quoted_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    """Quotes, delimiters, line ends and any script, as CSV quotes them."""
    folder = tmp_path_factory.mktemp("rows")
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [("a", "b", "label"), *((*row, 0) for row in rows)]
    )
    (folder / "a.csv").write_bytes(text.getvalue().encode())
    (folder / "task.yaml").write_text("validation: a.csv\ninputs: [a, b]\nlabels: ['0', '1']")
    data = load_task(folder / "task.yaml")
    assert [(row.text, row.text_pair) for row in data.splits["validation"]] == rows


@given(ROWS)
def test_rows_of_other_formats_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    objects = [{"a": first, "b": second, "label": 1} for first, second in rows]
    (folder / "lines.jsonl").write_bytes("\n".join(json.dumps(row, ensure_ascii=False) for row in objects).encode())
    (folder / "list.json").write_text(json.dumps(objects, indent=1))
    pq.write_table(pa.Table.from_pylist(objects), folder / "rows.parquet")
    for name in ("lines.jsonl", "list.json", "rows.parquet"):
        (folder / "task.yaml").write_text(f"validation: {name}\ninputs: [a, b]\nlabels: ['0', '1']")
        data = load_task(folder / "task.yaml")
        assert [(row.text, row.text_pair) for row in data.splits["validation"]] == rows


UNQUOTED = CELLS.filter(lambda cell: not re.search("[\t\n\r]", cell))


@given(st.lists(st.tuples(UNQUOTED, UNQUOTED), min_size=1, max_size=6))
def test_unquoted_rows_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    """Quotes are characters, and only a line feed ends a row, as in GLUE's files."""
    folder = tmp_path_factory.mktemp("rows")
    lines = ["a\tb\tlabel", *(f"{first}\t{second}\t1" for first, second in rows)]
    (folder / "a.tsv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    (folder / "task.yaml").write_text("validation: a.tsv\nquotes: false\ninputs: [a, b]\nlabels: ['0', '1']")
    data = load_task(folder / "task.yaml")
    assert [(row.text, row.text_pair) for row in data.splits["validation"]] == rows
    assert read_task(folder / "task.yaml").quotes is False and yaml.safe_load((folder / "task.yaml").read_text())
