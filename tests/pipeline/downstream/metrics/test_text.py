"""BLEU, chrF and ROUGE: values that the libraries' own pages give, and what must hold of any of them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.downstream.metrics import measured, scores
from pipeline.downstream.metrics.text import ROUGE, bleu, chrf, rouge

SAID = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
RIGHT = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]


def test_golden_values_of_sacrebleu() -> None:
    assert bleu(SAID, RIGHT) == pytest.approx(48.530827, abs=1e-5)
    assert chrf(SAID, RIGHT) == pytest.approx(59.73, abs=0.01)


def test_golden_values_of_rouge_score() -> None:
    scores = rouge(["The quick brown dog jumps on the log."], [["The quick brown fox jumps over the lazy dog"]])
    assert scores["rouge1"] == pytest.approx(100 * 12 / 17)  # P 6/8, R 6/9
    assert scores["rougeL"] == pytest.approx(100 * 10 / 17)  # P 5/8, R 5/9
    assert scores["rouge2"] == pytest.approx(100 * 2 * (2 / 7) * (2 / 8) / (2 / 7 + 2 / 8))


def test_bleu_by_hand() -> None:
    """Precisions 4/5, 2/4, 1/3, and 0/2 smoothed to 1/4; no penalty, for the lengths are equal."""
    wanted = 100 * (4 / 5 * 2 / 4 * 1 / 3 * 1 / 4) ** 0.25
    assert bleu(["a b c x e"], [["a b c d e"]]) == pytest.approx(wanted, abs=1e-6)


def test_characters_where_words_have_no_spaces() -> None:
    assert bleu(["我爱北京天安门"], [["我爱北京天安门"]], "zh") == pytest.approx(100)
    assert bleu(["我爱北京天安门广场"], [["我爱上海天安门广场"]], "zh") > 20
    assert bleu(["“a,b”"], [["“ a , b ”"]], "intl") == pytest.approx(100)


def test_a_reference_that_is_met_is_enough_for_rouge() -> None:
    assert rouge(["a b"], [["c d", "a b"]])["rouge1"] == 100


def test_lines_are_sentences_of_rouge_lsum() -> None:
    text, right = "c d . a b .", "a b . c d ."
    assert rouge([text], [[right]])["rougeLsum"] < 100
    in_lines = [each.replace(" . ", " .\n") for each in (text, right)]  # as T5 has it: where a full stop stands alone
    assert rouge(in_lines[:1], [in_lines[1:]])["rougeLsum"] == 100


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("abc d", min_size=1).filter(str.strip), min_size=1, max_size=4))
def test_a_text_that_is_the_reference_has_all_and_none_has_more(texts: list[str]) -> None:
    same = [[text] for text in texts]
    assert chrf(texts, same) == pytest.approx(100)
    scores = rouge(texts, same)
    assert scores["rouge1"] == scores["rougeL"] == scores["rougeLsum"] == pytest.approx(100)
    other = [["x y z"]] * len(texts)
    assert 0 <= chrf(texts, other) <= 100 and 0 <= bleu(texts, other) <= 100
    assert set(rouge(texts, other)) == set(ROUGE)


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge", "exact-match"])
def test_texts_can_be_drawn_again(name: str) -> None:
    """The score of a resample is that of its texts."""
    texts, right = [*SAID, "a b c d e f"], [*RIGHT, ["a b c d e f", "no"]]
    bound = measured(name, "text", right, texts)
    weights = np.array([[1, 1, 1, 1], [0, 2, 1, 1], [3, 0, 0, 1]])
    for counts, value in zip(weights, next(iter(bound.of(weights).values())), strict=True):
        drawn = np.repeat(np.arange(4), counts)
        wanted = scores([name], "text", [right[row] for row in drawn], [texts[row] for row in drawn])
        assert value == pytest.approx(next(iter(wanted.values())))


def test_named_metrics_are_the_functions_themselves() -> None:
    values = scores(["bleu", "chrf", "rouge"], "text", RIGHT, SAID)
    assert values["bleu"] == pytest.approx(bleu(SAID, RIGHT)) and values["chrf"] == pytest.approx(chrf(SAID, RIGHT))
    assert {name: values[name] for name in ROUGE} == pytest.approx(rouge(SAID, RIGHT))
    chinese = scores(["bleu-zh"], "text", [["我爱上海天安门广场"]], ["我爱北京天安门广场"])["bleu"]
    assert chinese == pytest.approx(bleu(["我爱北京天安门广场"], [["我爱上海天安门广场"]], "zh"))


def test_exact_match() -> None:
    assert scores(["exact-match"], "text", [["a b", "c"], ["d"], ["e"]], [" c\n", "D", None])["exact-match"] == (
        pytest.approx(100 / 3)
    )


def test_texts_without_references_are_refused() -> None:
    for texts, references in (([], []), (["a"], []), (["a", "b"], [["a"], []])):
        with pytest.raises(ValueError, match="need a reference each"):
            bleu(texts, references)
        with pytest.raises(ValueError, match="need a reference each"):
            rouge(texts, references)


def test_the_module_is_read_without_its_libraries() -> None:
    code = "import sys, pipeline.downstream.metrics.text; print([m for m in ('sacrebleu', 'nltk') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
