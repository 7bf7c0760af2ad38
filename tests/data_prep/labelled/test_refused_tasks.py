"""Task files that are refused, with their line and what to do."""

from __future__ import annotations

import pytest

from data_prep.errors import UserError
from data_prep.labelled.values import as_text
from tests.data_prep.labelled.conftest import Load


def test_a_number_that_is_none_is_no_text(load: Load) -> None:
    """As pandas writes a missing one."""
    with pytest.raises(UserError, match=r"a.jsonl line 2: 'text' is NaN; expected a text or a number"):
        load({"a.jsonl": '{"text": 7.5, "label": "u"}\n{"text": NaN, "label": "v"}'}, train="a.jsonl", inputs=["text"])


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    """Also where texts are put together to be a prompt, and no head reads them."""
    for value in ("law \ud800 x", ["law", "\udcff"]):
        with pytest.raises(UserError, match=r"a line 1: 'body' is .*, with half of a surrogate pair \(.ud"):
            as_text("a line 1", "body", value)


CSV = {"a.csv": "text,label\nu,1\nv,0\n"}


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        (
            CSV,
            {"inputs": ["texts"]},
            r"line 2: has no 'texts', which task.yaml names; .* text, label; did you mean text\?",
        ),
        (CSV, {"inputs": ["text"], "label": "lable"}, r"line 2: has no 'lable', .*; did you mean label\?"),
        (
            CSV,
            {"inputs": ["text"], "labels": {"0": "no", "10": "yes"}},
            r"line 2: the label '1' in 'label'; allowed: 0, 10",
        ),
        (CSV, {}, "inputs: missing"),
        (CSV, {"inputs": ["text"], "language": "lang"}, "'lang' is neither a column nor the code of a language"),
        (
            CSV,
            {"inputs": ["text"], "train": "a.csv", "validation": []},
            "split leaves no rows for validation; give more",
        ),
        (CSV, {"inputs": ["text"], "head": "choice"}, "choices: name the column"),
        (CSV, {"inputs": ["text"], "head": "answer"}, "inputs: name the column with the context and that with the"),
        (
            CSV,
            {"inputs": ["text"], "id": "label", "columns": ["text", "label"]},
            r"line 1 is a header, and columns says that there is none",
        ),
        (CSV, {"inputs": ["text"], "only": 1}, "only: unknown key"),
        (CSV, {"inputs": ["{text[0]}"]}, r"line 2: has no 'text\[0\]', which .* names; it has text, label"),
        (CSV, {"inputs": ["{text} {}"]}, r"inputs: \{\} names no field"),
        (CSV, {"inputs": ["{text}", "a", "b"]}, "inputs: found"),
        (
            CSV,
            {"inputs": ["text"], "test": {"path": "a.csv", "langauge": "en"}},
            r"test: found .*'langauge' is an unknown key; .*did you mean language\?",
        ),
        (
            CSV,
            {"inputs": ["text"], "test": {"path": "a.csv", "language": ["en", "de"]}},
            r"'a.csv': a list of languages goes with \{language\}",
        ),
        (CSV, {"inputs": ["text"], "labels": [True, False]}, "labels: True is no label; put it in quotes"),
        (
            CSV,
            {"inputs": ["text"], "test": {"path": "a.csv", "only": {"label": "7"}}},
            r"a\.csv has no row with these values of only",
        ),
        ({"a.csv": "text,label\nu,1\nu,\n"}, {"inputs": ["text"]}, r"line 3: \"\" in 'label'; expected a name"),
        ({"a.csv": "text,label\n ,1\nv,0\n"}, {"inputs": ["text"]}, r"line 2: 'text' is \" \"; expected text"),
        ({"a.csv": "text,label\nu,1,2\n"}, {"inputs": ["text"]}, r"line 2 has 3 columns; expected 2: text, label"),
        ({"a.csv": "text,label\n"}, {"inputs": ["text"]}, r"a\.csv has no row"),
        ({"a.csv": "text,label\nu,1\nv,1\n"}, {"inputs": ["text"]}, "all rows have the label '1'; at least two"),
        (
            {"a.csv": "k,text,label\n7,u,1\n7,v,0\n"},
            {"inputs": ["text"], "id": "k"},
            r"a\.csv:3 has the id '7', which a\.csv:2 of validation has, too",
        ),
        (
            {"a.csv": "text,label\nu,1e400\n"},
            {"inputs": ["text"], "head": "score"},
            r"line 2: \"1e400\" in 'label'; expected a number",
        ),
        ({"a.csv": "text,label\nu,nan\n"}, {"inputs": ["text"], "head": "score"}, "expected a number"),
        (
            {"a.csv": "text,label\na b,O\n"},
            {"inputs": ["text"], "head": "tags"},
            "has 2 words and 1 tags; expected one each",
        ),
        (
            {"a.csv": 'text,o,label\nu,"[""x""]",0\n'},
            {"inputs": ["text"], "choices": "o"},
            "'o' is no list of two choices",
        ),
        (
            {"a.csv": 'text,o,label\nu,"[""x"",""y""]",2\n'},
            {"inputs": ["text"], "choices": "o"},
            r"'label' is \"2\", neither the text nor the number",
        ),
        (
            {"a.csv": "c,q,label\nu,v,w\n"},
            {"inputs": ["c", "q"], "head": "answer"},
            "'label' is \"w\"; expected a list of answers",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(load: Load, files: dict, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(files, **{"validation": "a.csv", **settings})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.xlsx", "none.csv"])
def test_files_that_are_none_are_refused(load: Load, name: str) -> None:
    with pytest.raises(UserError, match=r"a\.xlsx cannot be read as labelled data|none\.csv cannot be read \(No such"):
        load({"a.xlsx": "x"}, validation=name, inputs=["x"])
    with pytest.raises(UserError, match="names no files; set train"):
        load({}, inputs=["x"])
