"""What rows a network is given of examples, and what its scores say about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_prep.labelled.examples import Answer, Example, Labelled
from data_prep.shards.rows import Ragged, num_rows, ragged
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.tokenizers import TokenizerConfig, train
from data_prep.tokens.tokenizers import load as load_tokenizer
from pipeline.downstream import fine_tune
from pipeline.downstream.fine_tune.heads import HEADS, Encoded, Layout, Shape, module_of, shape_of, tokenizer_of

LETTERS = "abcdefgh"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tokenizer() -> Tokenizer:
    """Letters are tokens, words are split at blanks: a word of three letters has three pieces."""
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *LETTERS, *(f"##{c}" for c in LETTERS)])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def data(task: Any, labels: tuple[str, ...] = (), *train: Example) -> Shape:
    return shape_of(
        Labelled(task, [*labels], {"train": [*train], "validation": [], "test": []}, "made up", "CC0-1.0", "none")
    )


TAGGED = data("tagging", ("O", "X", "Y"))


def certain(encoded: Encoded, labels: int) -> Ragged:
    """Scores that say the truth."""
    truth = ragged(encoded.rows, "target_ids")
    return Ragged(10.0 * np.eye(labels, dtype=np.float32)[truth.values], truth.offsets)


words = st.text(LETTERS, min_size=1, max_size=6)
sentences = st.lists(st.tuples(words, st.integers(0, 2)), min_size=1, max_size=30)


@given(st.lists(sentences, min_size=1, max_size=5), st.integers(4, 20), st.integers(0, 8))
def test_every_word_of_a_long_sentence_is_asked_once(tagged: Any, length: int, overlap: int) -> None:
    examples = [Example(words=tuple(w for w, _ in rows), tags=tuple(t for _, t in rows)) for rows in tagged]
    head = module_of(TAGGED)
    encoded = head.encode(TAGGED, examples, tokenizer(), Layout(length, overlap))
    inputs, positions = ragged(encoded.rows, "input"), ragged(encoded.rows, "target_positions")
    assert inputs.lengths.max() <= length and not encoded.remarks
    pieces = inputs.values[np.repeat(inputs.offsets[:-1], positions.lengths) + positions.values]
    assert ((pieces >= 4) & (pieces < 4 + len(LETTERS))).all(), "a first piece of a word"
    assert sorted(encoded.more["word"].tolist()) == list(range(sum(len(example.words) for example in examples)))
    first_letters = "".join(word[0] for example in examples for word in example.words)
    asked = [first_letters[number] for number in encoded.more["word"]]
    assert "".join(asked) == "".join(LETTERS[piece - 4] for piece in pieces)
    predicted = head.predicted(TAGGED, encoded, certain(encoded, 3))
    assert predicted.answers == [list(example.tags) for example in examples]
    assert all(score > 0.99 for score in predicted.scores)


def test_sentences_that_fit_are_rows_as_the_tokenizer_makes_them(tmp_path: Path) -> None:
    example = Example(words=("ab", "c"), tags=(1, 0))
    rows = module_of(TAGGED).encode(TAGGED, [example], tokenizer(), Layout(16, 5)).rows
    assert rows["input"].row(0).tolist() == tokenizer().encode("ab c").ids
    assert rows["target_positions"].row(0).tolist() == [1, 3]
    spoken = ("the", "river", "follows", "the", "farmer")
    train(TokenizerConfig(kind="byte-bpe", vocabulary=300), [" ".join(spoken)] * 3, tmp_path, Cleaning())
    encoded = module_of(TAGGED).encode(
        TAGGED, [Example(words=spoken, tags=(0, 1, 2, 0, 1))], tokenizer_of(TAGGED, tmp_path, False), Layout(64, 20)
    )
    assert encoded.rows["input"].row(0).tolist() == load_tokenizer(tmp_path).encode(" ".join(spoken)).ids
    assert len(encoded.rows["target_positions"].row(0)) == len(spoken)


def test_words_without_a_piece_are_outside_and_counted() -> None:
    encoded = module_of(TAGGED).encode(
        TAGGED, [Example(words=("a", " ", "b"), tags=(1, 2, 1))], tokenizer(), Layout(9, 3)
    )
    assert encoded.remarks == ["1 of 3 words have no piece, and no label is asked for them"]
    assert module_of(TAGGED).predicted(TAGGED, encoded, certain(encoded, 3)).answers == [[1, 0, 1]]


def test_texts_are_cut_and_counted_and_classes_have_probabilities() -> None:
    named = data("classification", ("no", "yes"))
    examples = [Example(text="a b", text_pair="c", label=1), Example(text="a b c d e f g h", label=0)]
    encoded = module_of(named).encode(named, examples, tokenizer(), Layout(6, 0))
    assert encoded.remarks == ["1 of 2 rows have over 6 tokens and are cut"]
    assert ragged(encoded.rows, "input").lengths.tolist() == [6, 6]
    assert ragged(encoded.rows, "segment").row(0).tolist() == [0, 0, 0, 0, 1, 1]
    scores = Ragged.from_lengths(np.array([[0.0, np.log(3)], [5.0, 5.0]]), [1, 1])
    predicted = module_of(named).predicted(named, encoded, scores)
    assert predicted.answers == [1, 0] and predicted.scores == pytest.approx([0.75, 0.5])


def test_scores_are_learned_in_units_of_those_of_train() -> None:
    numbers = data("regression", (), Example(text="a", score=1.0), Example(text="b", score=5.0))
    encoded = module_of(numbers).encode(numbers, [Example(text="a", score=2.0)], tokenizer(), Layout(6, 0))
    assert encoded.rows["value"].tolist() == [-0.5]  # type: ignore[union-attr]
    assert module_of(numbers).predicted(numbers, encoded, Ragged.from_lengths(np.array([[1.5]]), [1])).answers == [6.0]


def test_choices_stand_in_one_row_one_after_another() -> None:
    asked = data("choice")
    head = module_of(asked)
    examples = [
        Example(text="a", text_pair="b", choices=("c", "d e"), label=1),
        Example(text="a", choices=("f", "g", "h h h h h h h"), label=2),
    ]
    encoded = head.encode(asked, examples, tokenizer(), Layout(8, 0))
    whole = [tokenizer().encode("a", pair).ids for pair in ("b c", "b d e")]
    assert encoded.rows["input"].row(0).tolist() == [*whole[0], *whole[1]]
    assert encoded.rows["choice"].row(0).tolist() == [6, 7] and encoded.rows["label"].tolist() == [1, 2]  # type: ignore[union-attr]
    assert encoded.remarks == ["1 of 2 rows have choices of over 8 tokens, which are cut"]
    scores = Ragged.from_lengths(np.array([[0.0], [1.0], [0.0], [0.0], [-1.0]]), [2, 3])
    predicted = head.predicted(asked, encoded, scores)
    assert predicted.answers == [1, 0] and predicted.scores[0] == pytest.approx(1 / (1 + np.exp(-1)))


contexts = st.lists(words, min_size=1, max_size=40).map(" ".join)


@given(contexts, words, st.data(), st.integers(12, 40))
def test_scores_that_say_the_truth_give_the_answer_back(context: str, question: str, draw: Any, length: int) -> None:
    parts = context.split(" ")
    first = draw.draw(st.integers(0, len(parts) - 1))
    answer = " ".join(parts[first : first + 2])
    start = len(" ".join(parts[:first])) + (1 if first else 0)
    example = Example(text=context, text_pair=question[:3], answers=(Answer(answer, start),))
    layout, asked = Layout(length, min(6, length - 10)), data("question-answering", (), example)
    head = module_of(asked)
    encoded = head.encode(asked, [example], tokenizer(), layout)
    inputs = ragged(encoded.rows, "input")
    assert inputs.lengths.max() <= length
    scores = np.zeros((len(inputs.values), 2), np.float32)
    for row in range(len(inputs)):
        for side, name in enumerate(("start", "end")):
            scores[inputs.offsets[row] + np.asarray(encoded.rows[name])[row], side] = 9.0
    predicted = head.predicted(asked, encoded, Ragged(scores, inputs.offsets))
    if encoded.remarks:
        assert encoded.remarks == ["1 of 1 questions have answers that no window has whole, learned as without one"]
    else:
        assert predicted.answers == [answer]


ANSWERED = Example(text="a b c", text_pair="d", answers=(Answer("b", 2),))
UNANSWERED = Example(text="a b c", text_pair="e")


def scored(*of_questions: tuple[float, float]) -> Ragged:
    """Scores of “no answer” and of b: [CLS] d [SEP] a b c [SEP]."""
    scores = np.zeros((len(of_questions), 7, 2), np.float32)
    scores[:, 0], scores[:, 4] = np.array(of_questions).T[:, :, None] / 2
    return Ragged.from_lengths(scores.reshape(-1, 2), [7] * len(of_questions))


@pytest.mark.parametrize(("trained_on", "wanted"), [((ANSWERED,), "b"), ((ANSWERED, UNANSWERED), "")])
def test_no_answer_is_said_where_it_is_likelier_and_there_may_be_none(trained_on: Any, wanted: str) -> None:
    asked = data("question-answering", (), *trained_on)
    head = module_of(asked)
    encoded = head.encode(asked, [ANSWERED], tokenizer(), Layout(16, 4))
    predicted = head.predicted(asked, encoded, scored((10.0, 8.0)))
    (spans,) = predicted.n_best
    assert predicted.answers == [wanted] == [spans[0].text] and predicted.scores == [spans[0].score]
    places = {span.text: span.start for span in spans}
    assert sum(span.score for span in spans) == pytest.approx(1)
    assert (places.pop("", 0), predicted.null_odds) == ((0, []) if wanted else (None, [2.0]))
    assert places == {ANSWERED.text[start:end]: start for start in (0, 2, 4) for end in (1, 3, 5) if end > start}
    best = {span.text: span.score for span in spans}
    assert np.log(best["b"] / best["a b"]) == pytest.approx(4.0), "b is 8 = 4 + 4, a b is 0 + 4"


def test_validation_rows_choose_the_threshold_of_no_answer() -> None:
    """By F1: the right answer is likelier than none by less than nothing, so none may be the likelier by 2."""
    asked = data("question-answering", (), ANSWERED, UNANSWERED)
    head, layout = module_of(asked), Layout(16, 4)
    encoded = head.encode(asked, [ANSWERED, UNANSWERED, ANSWERED], tokenizer(), layout)
    scores = scored((10.0, 8.0), (13.0, 8.0), (9.0, 8.0))
    fitted = head.fitted(asked, encoded, scores)
    assert (asked.threshold, fitted.threshold) == (0.0, 2.0)
    assert head.predicted(asked, encoded, scores).answers == ["", "", ""]
    predicted = head.predicted(fitted, encoded, scores)
    assert predicted.answers == ["b", "", "b"]
    assert predicted.scores == [next(s.score for s in spans if s.text == answer) for answer, spans in
                                zip(predicted.answers, predicted.n_best, strict=True)]  # fmt: skip
    silent = head.fitted(asked, head.encode(asked, [UNANSWERED] * 2, tokenizer(), layout), scored((0.0, 8.0), (0, 9)))
    assert silent.threshold == -10.0, "where nothing is to be answered, nothing is"
    assert head.fitted(data("question-answering", (), ANSWERED), encoded, scores).threshold == 0.0


def test_a_question_whose_answer_stands_nowhere_is_not_learned_as_one_without_an_answer() -> None:
    asked = data("question-answering", (), ANSWERED)
    lost = Example(text="a b c " * 9, text_pair="d", answers=(Answer("h", -1),))
    encoded = module_of(asked).encode(asked, [ANSWERED, lost, UNANSWERED], tokenizer(), Layout(12, 3))
    assert encoded.remarks == ["1 of 3 questions have answers that are not in their context, and are not learned"]
    assert len(encoded) > 3 and encoded.teaches is not None and encoded.teaches.sum() == 2
    assert num_rows(encoded.learnable()) == 2 and np.asarray(encoded.learnable()["start"]).tolist() == [4, 0]


def test_every_head_has_what_the_table_says() -> None:
    for head in HEADS:
        assert {"outputs", "encode", "predicted"} <= vars(module_of(Shape(head))).keys()
    assert "torch" not in vars(fine_tune)
