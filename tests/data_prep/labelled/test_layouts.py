"""Files as data sets are distributed: questions, columns of words, folders of Hugging Face; what is odd is counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.labelled import checks
from data_prep.labelled.answers import answers_of
from data_prep.labelled.examples import Answer
from data_prep.labelled.layouts.schemes import misfits, scheme_in, scheme_of
from data_prep.labelled.loading import load_task
from data_prep.labelled.rows import Reading, Row
from tests.data_prep.labelled.conftest import Load

CONTEXT = "The cat sat. The cat ran."


def squad(*questions: dict[str, Any], context: str = CONTEXT) -> str:
    return json.dumps(
        {"version": "1.1", "data": [{"title": "Cats", "paragraphs": [{"context": context, "qas": list(questions)}]}]}
    )


def question(name: str, *answers: tuple[str, int], **more: Any) -> dict[str, Any]:
    given = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": f"Who is {name}?", "answers": given, **more}


# ---------------------------------------------------------------- questions about paragraphs


def test_squad(load: Load) -> None:
    content = squad(question("a", ("cat", 4), ("The cat", 0)), question("b", ("ran", 21)))
    data = load(
        {"a.json": content, "b.json.gz": gzip.compress(content.encode())},
        train="a.json",
        validation="b.json.gz",
        layout="squad",
    )
    assert data.head == "answer" and data.splits["train"][0].text == CONTEXT
    assert [(row.id, row.text_pair, row.answers) for row in data.splits["validation"]] == [
        ("a", "Who is a?", (Answer("cat", 4), Answer("The cat", 0))),
        ("b", "Who is b?", (Answer("ran", 21),)),
    ]
    assert data.splits["train"][0].place == "a.json#a"
    assert "2 of 2 questions of validation are about contexts that train has, too (b.json.gz#a, b.json.gz#b)" in list(
        checks.remarks(data)
    )


def test_squad_v2(load: Load) -> None:
    odd = question("c", ("cat", 4), is_impossible=True)
    rows = [
        question("a", ("cat", 4), is_impossible=False),
        {**question("b", is_impossible=True), "plausible_answers": [1]},
        odd,
    ]
    data = load({"a.json": squad(*rows)}, validation="a.json", layout="squad")
    assert [row.answers for row in data.splits["validation"]] == [(Answer("cat", 4),), (), ()]
    assert "answers of questions that are marked as impossible, left out: 1 (a.json#c)" in data.notes


def test_questions_without_answers_are_for_predictions(load: Load) -> None:
    secret = [{"id": "a", "question": "Who?"}]
    data = load({"a.json": squad(*secret)}, predict="a.json", layout="squad")
    assert data.splits["predict"][0].answers == ()
    with pytest.raises(UserError, match=r"paragraph 1 question 1 \(a\): has no 'answers'"):
        load({}, validation="a.json", layout="squad")
    data = load({"a.json": squad(question("a"))}, validation="a.json", layout="squad")
    assert list(checks.problems(data)) == [
        "no question of validation has an answer; name the file in predict if they are secret"
    ]


def test_cmrc_without_places(load: Load) -> None:
    raw = [{"context_id": "1", "context_text": "猫坐。猫跑。", "title": "猫", "qas": [
        {"query_id": "1_1", "query_text": "谁跑？", "answers": ["猫", "跑", "狗"]}]}]  # fmt: skip
    data = load({"a.json": json.dumps(raw)}, validation="a.json", layout="squad")
    [row] = data.splits["validation"]
    assert (row.id, row.text_pair) == ("1_1", "谁跑？")
    assert row.answers == (Answer("猫", 0), Answer("跑", 4), Answer("狗", -1))
    assert [note.partition(" (")[0] for note in data.notes if note.startswith("answers")] == [
        "answers without a place that stand several times in their context, taken at the first: 1",
        "answers that stand nowhere in their context, which count in scores and teach nothing: 1",
    ]


def test_answers_that_are_not_where_the_file_says(load: Load) -> None:
    rows = [question("near", ("cat", 15), ("cat", 10), ("cat", -3), ("dog", 0), ("", 0))]
    data = load({"a.json": squad(*rows)}, validation="a.json", layout="squad")
    assert [answer.start for answer in data.splits["validation"][0].answers] == [17, 4, 4, -1]
    said = "answers that do not stand where the file says, taken at the nearest place: 3 (a.json#near, a"
    assert (
        any(note.startswith(said) for note in data.notes)
        and "answers of no characters, read as none: 1 (a.json#near)" in data.notes
    )


@given(st.text(alphabet="ab ", min_size=1, max_size=12), st.integers(0, 11), st.integers(1, 4), st.integers(-3, 14))
def test_an_answer_stands_where_its_place_says(context: str, begin: int, length: int, told: int) -> None:
    text = context[begin : begin + length]
    row = Row("a", "a", {})
    [*answers] = answers_of(row, "answers", [{"text": text, "answer_start": told}], context, Reading())
    if not text:
        assert not answers
        return
    start = answers[0].start
    assert context[start : start + len(text)] == text
    assert not any(
        context.startswith(text, place) and abs(place - told) < abs(start - told) for place in range(len(context))
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "has no list 'data'"),
        (
            '{"data": [{"paragraphs": [{"context": "c"}]}]}',
            "paragraph 1 is .*; expected a context and a list of questions",
        ),
        (
            squad({"id": "a", "question": "?", "answers": [{"text": 1}]}),
            r"'answers' holds .*; expected a text and its place",
        ),
        (
            squad({"id": "a", "question": "?", "answers": [{"text": "a", "answer_start": "4"}]}),
            "expected a text and its place",
        ),
        (squad({"id": "a", "question": "?", "answers": "a"}), "expected a list of answers"),
        (squad({"id": "a", "answers": []}), r"\(a\): has no 'question'"),
        (squad({"question": "?", "answers": []}), "question 1: has no 'id'"),
        (squad(question("a"), context=" "), r"'context' is \" \"; expected text"),
        (squad(question("a"), question("a")), r"a\.json#a has the id 'a', which a\.json#a of validation has, too"),
        (squad("who"), 'question 1 is "who"; expected an object'),  # type: ignore[arg-type]
    ],
)
def test_questions_that_cannot_be_read(load: Load, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load({"a.json": content}, validation="a.json", layout="squad")


def test_questions_without_text_are_counted(load: Load) -> None:
    rows = [{**question("a", ("cat", 4)), "question": ""}]
    data = load({"a.json": squad(*rows)}, validation="a.json", layout="squad")
    assert (
        data.splits["validation"][0].text_pair == "" and "rows without text in 'question': 1 (a.json#a)" in data.notes
    )


# ---------------------------------------------------------------- a word a line

CONLL_2003 = "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\n# # I-NP O\nrejects VBZ I-VP O\n\nPeter NNP I-NP I-PER\n"
CONLL_U = (
    "# sent_id = 1\n# text = one two three four five six seven eight\n"
    "1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\tde\tADP\tE\t_\t0\troot\t_\t_\n2\tle\tle\tDET\tD\t_\t1\tdet\t_\t_\n"
    "2.1\tvu\tvoir\tVERB\tV\t_\t_\t_\t_\t_\n3\t10 000\t10\tNUM\tN\t_\t1\tnum\t_\t_\n\n"
)  # fmt: skip


def words_and_tags(data: Any, split: str = "validation") -> list[tuple[tuple[str, ...], list[str]]]:
    return [(row.words, [data.labels[tag] for tag in row.tags]) for row in data.splits[split]]


def test_conll_columns(load: Load) -> None:
    data = load({"a.txt": CONLL_2003}, validation="a.txt", layout="tokens")
    assert words_and_tags(data) == [(("EU", "#", "rejects"), ["I-ORG", "O", "O"]), (("Peter",), ["I-PER"])]
    assert [row.place for row in data.splits["validation"]] == ["a.txt:3", "a.txt:7"]
    assert data.scheme == "IOB1" and "tags mark chunks by the scheme IOB1" in data.notes
    names = ["word", "pos", "chunk", "ner"]
    data = load({}, validation="a.txt", layout="tokens", columns=names, inputs=["word"], label="pos")
    assert words_and_tags(data)[1] == (("Peter",), ["NNP"]) and data.scheme == ""


def test_words_with_blanks_between_tabs(load: Load) -> None:
    content = "\ufeff10 000\tNUM\r\n#\tSYM\r\nb\u00a0c\tX\r\n\r\n\r\nd\tX"
    data = load({"a.tsv": content}, validation="a.tsv", layout="tokens")
    assert words_and_tags(data) == [(("10 000", "#", "b\u00a0c"), ["NUM", "SYM", "X"]), (("d",), ["X"])]


def test_comments_stand_before_sentences_and_words_may_begin_with_their_mark(load: Load) -> None:
    content = "# id 7\tdomain=en\n#tag\tX\nb\tO\n\n# id 8\tdomain=en\nc\tO\n# d\tX\n"
    data = load({"a.tsv": content}, validation="a.tsv", layout="tokens")
    assert words_and_tags(data) == [(("#tag", "b"), ["X", "O"]), (("c", "# d"), ["O", "X"])]
    data = load({"a.txt": "# a sentence\n# SYM\nb X\n\n#c X\n"}, validation="a.txt", layout="tokens")
    assert words_and_tags(data) == [(("#", "b"), ["SYM", "X"]), (("#c",), ["X"])]
    assert [note for note in data.notes if "#" in note] == [
        "lines before a sentence that begin with # and have a word's columns, read as words: 1 (a.txt:2)"
    ]
    assert words_and_tags(load({"b.txt": "#a X\n#b Y\n"}, validation="b.txt", layout="tokens"))[0][0] == ("#a", "#b")


def test_conll_u(load: Load) -> None:
    data = load({"a.conllu": CONLL_U}, validation="a.conllu", layout="tokens")
    assert words_and_tags(data) == [(("de", "le", "10 000"), ["ADP", "DET", "NUM"])]
    assert "tokens of several words (1-2), of which only the words are read: 1 (a.conllu:3)" in data.notes
    assert "empty words (1.1), left out: 1 (a.conllu:6)" in data.notes
    data = load({}, validation="a.conllu", layout="tokens", label="deprel")
    assert words_and_tags(data)[0][1] == ["root", "det", "num"]
    data = load({"a.conllu.gz": gzip.compress(CONLL_U.encode())}, predict="a.conllu.gz", layout="tokens")
    assert data.splits["predict"][0].tags == ()


def test_other_encodings_and_files_of_several_languages(load: Load) -> None:
    files = {"es.txt": "señor N\nva V\n".encode("latin-1"), "en.txt": "he N\ngoes V\n"}
    parts = {"path": "{language}.txt", "language": ["en", "es"]}
    data = load(files, validation=parts, layout="tokens", encoding="latin-1")
    assert [(row.words[0], row.language) for row in data.splits["validation"]] == [("he", "en"), ("señor", "es")]
    with pytest.raises(UserError, match=r"es\.txt line 1 is not UTF-8; set the encoding"):
        load({}, validation=parts, layout="tokens")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a B\nc\n", "line 2 has 1 columns; expected 2: 1, 2"),
        ("\n# only\n", "has no line with a word"),
        ("a\tB\n#tag\nb\tB\n", "line 2 has 1 columns; expected 2: 1, 2"),
        ("#tag\na\tB\n", "line 1 has 1 columns; expected 2: 1, 2"),
        ("a B\n# a comment\n", "line 2 has 3 columns; expected 2: 1, 2"),
        ("a\t\n", r"line 1: \"\" in '2'; expected a name"),
        ("\u3000\tX\n", "the word .* in '1'; expected text"),
        (b"\x1f\x8bno", "not text but packed as a .gz file"),
    ],
)
def test_lines_that_cannot_be_read(load: Load, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load({"a.txt": content}, validation="a.txt", layout="tokens", labels=["X", "Y"])


def test_a_sentence_with_a_broken_line_is_left_out_as_a_whole(load: Load) -> None:
    data = load(
        {"a.txt": "a X\nb\nc X\n\nd Y\n"}, validation="a.txt", layout="tokens", labels=["X", "Y"], max_rejects=1
    )
    assert words_and_tags(data) == [(("d",), ["Y"])]
    assert any(note.startswith("rows that cannot be used, left out: 1") for note in data.notes)


@pytest.mark.parametrize(
    ("scheme", "tags", "places"),
    [
        ("BIO", "B-A I-A O B-A B-A I-A", []),
        ("BIO", "I-A I-A O B-A I-B O", [0, 4]),
        ("IOB1", "I-A I-A B-A O I-B I-A", []),
        ("IOB1", "B-A O I-A B-B", [0, 3]),
        ("IOBES", "S-A B-A I-A E-A O B-B E-B", []),
        ("IOBES", "U-A B-A I-A L-A", []),
        ("IOBES", "B-A O E-A B-B", [1, 2, 4]),
        ("IOBES", "I-A E-B B-A S-A", [0, 1, 3]),
    ],
)
def test_where_tags_break_a_scheme(scheme: str, tags: str, places: list[int]) -> None:
    assert list(misfits(tags.split(), scheme)) == places


def test_the_scheme_is_the_one_that_fits_best(load: Load) -> None:
    assert scheme_of(["O", "NOUN"]) == scheme_of(["O"]) == scheme_of([]) == ""
    assert scheme_of(["B-A", "E-A", "O"]) == "IOBES" and scheme_of(["B-A", "O"]) == "BIO"
    assert scheme_in([["I-A", "I-A"], ["I-A", "B-A"]], ["I-A", "B-A"]) == ("IOB1", [])
    content = "a B-X\nb I-X\n\nc I-X\n"
    data = load({"a.txt": content}, validation="a.txt", layout="tokens")
    assert data.scheme == "BIO" and "1 tags break the scheme BIO (a.txt:4 word 1)" in data.notes


@given(
    st.lists(
        st.lists(
            st.tuples(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1), st.sampled_from("AB")),
            min_size=1,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_sentences_come_back(tmp_path_factory: pytest.TempPathFactory, sentences: list[list[tuple[str, str]]]) -> None:
    folder = tmp_path_factory.mktemp("sentences")
    text = "\n\n".join("\n".join(f"{word}\t{tag}" for word, tag in sentence) for sentence in sentences)
    (folder / "a.tsv").write_bytes(text.encode())
    (folder / "task.yaml").write_text("validation: a.tsv\nlayout: tokens\nlabels: [A, B]")
    data = load_task(folder / "task.yaml")
    assert [list(zip(*pair, strict=True)) for pair in words_and_tags(data)] == sentences


# ---------------------------------------------------------------- Parquet, Arrow, folders

FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["bad", "good"], "_type": "ClassLabel"},
    "tags": {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "Sequence"},
}
TABLE = pa.table({"text": ["u", "v", "w"], "label": [1, 0, -1], "tags": [[0, 1], [1], [0]], "unused": [b"x"] * 3})


def with_features(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})


def saved(folder: Path, table: pa.Table, files: int = 1) -> None:
    """A folder as `Dataset.save_to_disk` writes it."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    for number, name in enumerate(names):
        rows = table.slice(number * len(table) // files, len(table) // files)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(rows)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names], "_split": None})
    )
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def test_parquet_with_names_of_classes(load: Load, tmp_path: Path) -> None:
    pq.write_table(with_features(TABLE.slice(0, 2)), tmp_path / "a.parquet")
    data = load({}, validation="a.parquet", inputs=["text"])
    assert data.labels == ["bad", "good"] and [row.label for row in data.splits["validation"]] == [1, 0]
    assert data.splits["validation"][1].place == "a.parquet:2"
    table = TABLE.slice(0, 2).append_column("words", [[["He", "ran"], ["No"]]])
    pq.write_table(with_features(table), tmp_path / "a.parquet")
    data = load({}, validation="a.parquet", inputs=["words"], label="tags", head="tags")
    assert data.splits["validation"][0].tags == (0, 1)
    pq.write_table(TABLE.slice(0, 2), tmp_path / "b.parquet")
    data = load({}, validation="b.parquet", inputs=["text"], labels={0: "bad", 1: "good"})
    assert [row.label for row in data.splits["validation"]] == [1, 0]
    with pytest.raises(
        UserError, match=r"b\.parquet row 1: has no 'txt', .* it has text, label, tags, unused; did you mean text"
    ):
        load({}, validation="b.parquet", inputs=["txt"])


def test_rows_without_a_label_are_refused_but_for_predictions(load: Load, tmp_path: Path) -> None:
    pq.write_table(with_features(TABLE), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"row 3: 'label', which task\.yaml names, has no value"):
        load({}, validation="a.parquet", inputs=["text"])
    assert len(load({}, predict="a.parquet", inputs=["text"]).splits["predict"]) == 3


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_files(load: Load, tmp_path: Path, kind: str) -> None:
    table = TABLE.slice(0, 2)
    writer = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table)
    data = load({}, validation="a.arrow", inputs=["text"])
    assert [row.text for row in data.splits["validation"]] == ["u", "v"] and data.labels == ["0", "1"]
    content = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a\.arrow is damaged after row"):
        load({}, validation="a.arrow", inputs=["text"])


def test_a_saved_data_set(load: Load, tmp_path: Path) -> None:
    saved(tmp_path / "set" / "train", TABLE.slice(0, 2), files=2)
    saved(tmp_path / "set" / "dev", TABLE.slice(0, 1))
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "dev"]}')
    (tmp_path / "set" / "set.py").write_text("raise SystemExit")
    data = load({}, train="set", validation="set", layout="hub", inputs=["text"])
    assert data.labels == ["bad", "good"] and [row.label for row in data.splits["train"]] == [1, 0]
    places = [row.place for row in data.splits["train"]]
    assert places == ["set/train/data-00000-of-00002.arrow:1", "set/train/data-00001-of-00002.arrow:1"]
    assert "set.py of set: code, which is not run" in data.notes
    data = load({}, test="set/dev", layout="hub", inputs=["text"], labels=["good", "bad"])
    assert [row.label for row in data.splits["test"]] == [0]
    with pytest.raises(UserError, match="set has no split test; it has train, dev: name the folder of one"):
        load({}, test="set", layout="hub", inputs=["text"])


def test_a_folder_of_parquet(load: Load, tmp_path: Path) -> None:
    folder = tmp_path / "repo" / "plain_text"
    folder.mkdir(parents=True)
    for number in range(2):
        pq.write_table(with_features(TABLE.slice(number, 1)), folder / f"train-{number:05d}-of-00002.parquet")
    pq.write_table(with_features(TABLE.slice(0, 1)), folder / "validation-00000-of-00001.parquet")
    data = load({}, train="repo", validation="repo", layout="hub", inputs=["text"])
    assert [[row.text for row in data.splits[split]] for split in ("train", "validation")] == [["u", "v"], ["u"]]
    with pytest.raises(UserError, match="repo has no files of test; it has train, validation"):
        load({}, test="repo", layout="hub", inputs=["text"])
    (folder / "train_log.json").write_text("{}")
    data = load({}, train="repo", validation="repo", layout="hub", inputs=["text"])
    assert "plain_text/train_log.json of repo: not read beside its Parquet or Arrow files" in data.notes
    (folder / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"train-00001-of-00002\.parquet is not there; download"):
        load({}, train="repo", layout="hub", inputs=["text"])


def test_one_of_several_sets_in_a_folder_is_named(load: Load, tmp_path: Path) -> None:
    for language in ("de", "en"):
        (tmp_path / "repo" / language).mkdir(parents=True)
        path = tmp_path / "repo" / language / "train-00000-of-00001.parquet"
        pq.write_table(with_features(TABLE.slice(0, 2)), path)
    with pytest.raises(UserError, match="repo has files of train in several folders: de, en; name the one"):
        load({}, train="repo", layout="hub", inputs=["text"])
    data = load({}, train="repo/de", layout="hub", inputs=["text"], split={"validation": 0, "test": 0})
    assert len(data.splits["train"]) == 2


def test_a_folder_of_json_lines_and_separated_values(load: Load) -> None:
    files: dict[str, Any] = {
        "repo/train.jsonl": [{"text": "u", "label": "a"}, {"text": "v", "label": "b"}],
        "repo/data/test-en.csv": "text,label\nw,a\n",
        "repo/data/test-de.csv": "text,label\nx,a\n",
        "repo/dataset_infos.json": "{}",
        "repo/.cache/train.json": "{}",
    }
    data = load(files, train="repo", test="repo", layout="hub", inputs=["text"], split={"validation": 0, "test": 0})
    assert [[row.text for row in data.splits[split]] for split in ("train", "test")] == [["u", "v"], ["x", "w"]]
    assert "test of repo is all of test-de.csv, test-en.csv" in data.notes
    with pytest.raises(UserError, match=r"repo has files that end in \.csv and in \.jsonl; name those"):
        load({"repo/train.csv": "text,label\nw,a\n"}, train="repo", layout="hub", inputs=["text"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is no folder of a data set"),
        ({"set/readme.md": "x"}, "has no state.json and no files such as .parquet"),
        ({"set/state.json": "{"}, "state.json is no JSON: .*; save the data set again"),
        ({"set/state.json": '{"_data_files": [{"filename": "../a"}]}'}, "'../a' is no name of a file in this folder"),
        ({"set/state.json": '{"_data_files": [{"filename": "a.arrow"}]}'}, "a.arrow is not there; save the data set"),
        ({"set/state.json": '{"_indices_files": [{"filename": "a"}]}'}, r"save it after flatten_indices"),
        ({"set/dataset_dict.json": '{"splits": "train"}'}, "has no list 'splits' of names"),
    ],
)
def test_folders_that_cannot_be_read(load: Load, files: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(files, validation="set", layout="hub", inputs=["text"])
