"""Answers that stand in a context: two learned vectors, for first and last token (Devlin et al. 2019, section 4.2).

Contexts are read in windows, each with the question before it. A window that has no answer, or not all of it, points at
its first token; so does that of a question without an answer. Questions whose answers are not found in their context
teach nothing. Where questions may have no answer, validation rows choose the threshold beyond which “no answer” is
said, by F1 (section 4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer

from data_prep.labelled.examples import Example
from data_prep.shards.rows import Ragged
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, Span, softmax
from pipeline.downstream.metrics.squad import best_threshold, raw_scores
from pipeline.downstream.question_answering import questions
from pipeline.downstream.question_answering.spans import Prediction


def outputs(shape: Shape) -> int:
    return 2


def encode(shape: Shape, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout) -> Encoded:
    asked = questions.encode(examples, tokenizer, layout.length, layout.window_overlap, layout.max_question)
    more = {"questions": asked, "max_answer": layout.max_answer}
    return Encoded(asked.rows, examples, asked.counted(), more, ~asked.lost[asked.windows.example])


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    """Answers; "" where “no answer” is likelier by more than the threshold, of data that have questions without one."""
    predictions = _predictions(encoded, scores)
    n_best = [_n_best(prediction, shape.unanswerable) for prediction in predictions]
    odds = [prediction.null_odds for prediction in predictions] if shape.unanswerable else []
    threshold = shape.threshold if shape.unanswerable else np.inf
    answers = [prediction.above(threshold) for prediction in predictions]
    shares = [{span.text: span.score for span in spans} for spans in n_best]
    sure = [share.get(answer) for share, answer in zip(shares, answers, strict=True)]
    return Predicted(answers, sure, n_best=n_best, null_odds=odds)


def fitted(shape: Shape, encoded: Encoded, scores: Ragged) -> Shape:
    """The shape with the threshold of “no answer” whose F1 of these rows is best; where it is best to answer none, with
    one below all of theirs."""
    if not shape.unanswerable:
        return shape
    predictions = _predictions(encoded, scores)
    texts, odds = [each.text for each in predictions], [each.null_odds for each in predictions]
    truth = [[answer.text for answer in example.answers] for example in encoded.examples]
    return with_threshold(shape, truth, texts, raw_scores(truth, texts)[:, 0], odds)


def with_threshold(
    shape: Shape, truth: Sequence[Sequence[str]], texts: Sequence[str], f1: np.ndarray, null_odds: Sequence[float]
) -> Shape:
    """The shape with the threshold whose F1 is best. truth: the answers that count. texts: the best answer to each
    question. f1: [questions] of these, 0 to 1."""
    odds, answerable = np.nan_to_num(null_odds), np.array([bool(golds) for golds in truth])
    best = best_threshold(f1, texts, odds, answerable)
    silent = best.score <= 100 * np.count_nonzero(~answerable) / len(truth)
    return replace(shape, threshold=float(odds.min()) - 1 if silent else best.threshold)


def _predictions(encoded: Encoded, scores: Ragged) -> list[Prediction]:
    width = int(scores.lengths.max(initial=1))
    start, end = (Ragged(scores.values[:, side], scores.offsets).pad(width, -np.inf) for side in (0, 1))
    return encoded.more["questions"].answers(start, end, max_tokens=encoded.more["max_answer"])


def _n_best(prediction: Prediction, unanswerable: bool) -> list[Span]:
    """The best answers of distinct texts, “no answer” among them where there may be none."""
    found = [(answer.text, answer.start, answer.score) for answer in prediction.answers()]
    none = [("", None, prediction.null_score)] if unanswerable else []
    listed = sorted([*found, *none], key=lambda each: -each[2])
    if not listed:
        return []
    shares = softmax(np.array([[score for *_, score in listed]]))[0].tolist()
    return [Span(text, start, share) for (text, start, _), share in zip(listed, shares, strict=True)]
