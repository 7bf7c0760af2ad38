"""What n-gram models are told of a target is what the network sees next to it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.shards.rows import Ragged
from pipeline.downstream.predictions.kneser_ney import NGrams
from pipeline.downstream.predictions.ngrams import (
    BOTH,
    LEFT,
    RIGHT,
    FillIns,
    NextTokens,
    contexts_of,
    is_hidden,
    words_of,
)
from training.objectives.text import Targets

VOCABULARY = 8
CLS, SEP, MASK = 0, 1, 2
SPECIAL = np.arange(VOCABULARY) < 3
OUTSIDE = VOCABULARY


def targets(text: list[list[int]], places: list[list[int]], ids: list[list[int]], sequence=None, both=True) -> Targets:
    rows = Ragged.from_rows
    of_sequence = rows(sequence) if sequence else None
    return Targets(rows(text), rows(places, np.int64), rows(ids, np.int64), both, of_sequence)


def test_hidden_neighbours_are_not_told() -> None:
    asked = targets([[CLS, MASK, 5, MASK, MASK, 6, SEP], [CLS, MASK, 7]], [[1, 3, 4], [1]], [[3, 4, 5], [6]])
    contexts = contexts_of(asked, SPECIAL)
    assert contexts.words.tolist() == [3, 4, 5, 6]
    assert contexts.left.tolist()[0] == [OUTSIDE, CLS] and contexts.num_left.tolist() == [2, 1, 0, 2]
    assert contexts.right.tolist()[0] == [MASK, 5] and contexts.num_right.tolist() == [1, 0, 2, 2]
    assert contexts.right.tolist()[3] == [OUTSIDE, 7], "beyond a row is nothing, and that is known"
    assert is_hidden(asked, SPECIAL).all()


def test_targets_that_are_seen_are_told_apart_and_told_to_neighbours() -> None:
    asked = targets([[CLS, 5, MASK, SEP]], [[1, 2]], [[3, 4]])  # the first one was replaced
    assert is_hidden(asked, SPECIAL).tolist() == [False, True]
    contexts = contexts_of(asked, SPECIAL)
    assert contexts.left.tolist()[1] == [CLS, 5] and contexts.num_left.tolist() == [2, 2]


def test_nothing_is_seen_of_another_sequence_of_the_row() -> None:
    asked = targets([[3, 4, 5, 6]], [[1, 3]], [[4, 6]], [[0, 0, 1, 1]], both=False)
    contexts = contexts_of(asked, SPECIAL)
    assert contexts.left.tolist() == [[OUTSIDE, 3], [OUTSIDE, 5]]
    assert is_hidden(asked, SPECIAL).all()
    counted = words_of(asked, SPECIAL)
    assert counted.words.tolist() == [4, 6], "what is never predicted is not counted"
    assert counted.left.tolist() == contexts.left.tolist()


def test_ngrams_are_counted_in_the_text_before_it_was_masked() -> None:
    masked = targets([[CLS, MASK, 5, MASK, SEP]], [[1, 3]], [[3, 4]])
    counted = words_of(masked, SPECIAL)
    assert counted.words.tolist() == [3, 5, 4]
    assert counted.left.tolist() == [[OUTSIDE, CLS], [CLS, 3], [3, 5]]
    assert counted.right.tolist() == [[4, 5], [SEP, 4], [OUTSIDE, SEP]]


@given(st.lists(st.lists(st.integers(3, VOCABULARY - 1), min_size=3, max_size=9), min_size=2, max_size=6), st.data())
def test_fill_ins_are_what_the_definition_says(text: list[list[int]], data: st.DataObject) -> None:
    framed = [[CLS, *row, SEP] for row in text]
    nothing = targets(framed, [[] for _ in framed], [[] for _ in framed])
    models = FillIns(words_of(nothing, SPECIAL), SPECIAL)
    hidden = [sorted(data.draw(st.sets(st.integers(1, len(row)), min_size=1))) for row in text]
    seen = [[MASK if n in places else t for n, t in enumerate(row)] for row, places in zip(framed, hidden, strict=True)]
    truth = [[row[n] for n in places] for row, places in zip(framed, hidden, strict=True)]
    asked = contexts_of(targets(seen, hidden, truth), SPECIAL)
    scored = models(asked)
    for number in range(len(asked.words)):
        left = models.models[0][asked.num_left[number]].distributions(asked.left[number : number + 1])[0]
        right = models.models[1][asked.num_right[number]].distributions(asked.right[number : number + 1])[0]
        unigram = models.models[0][0].distributions(asked.left[:1])[0]
        for name, p in {LEFT: left, RIGHT: right, BOTH: left * right / unigram, "unigram": unigram}.items():
            p = np.where(SPECIAL, 0, p)
            np.testing.assert_allclose(scored[name].truth[number], np.log(p[asked.words[number]] / p.sum()))
            assert p[scored[name].best[number]] == max(p)


def test_next_tokens_are_the_models_of_each_order() -> None:
    text = [3, 4, 5, 3, 4, 6, 3, 4, 5, 7]
    asked = targets([text], [list(range(1, 10))], [text[1:]], both=False)
    models = NextTokens(words_of(asked, SPECIAL), SPECIAL)
    contexts = contexts_of(asked, SPECIAL)
    scored = models(contexts)
    assert list(scored) == ["unigram", "bigram", "trigram"]
    for model, scores in zip(models.models, scored.values(), strict=True):
        p = model.distributions(contexts.left)
        np.testing.assert_allclose(scores.truth, np.log(model.probabilities(NGrams(contexts.left, contexts.words))))
        np.testing.assert_allclose(p[np.arange(9), scores.best], p.max(1))
    assert scored["trigram"].truth.mean() > scored["bigram"].truth.mean() > scored["unigram"].truth.mean()
