"""Answers that stand in a context: two learned vectors, for first and last token (Devlin et al. 2019, section 4.2).

Contexts are read in windows, each with the question before it. A window that has no answer, or not all of it, points at
its first token; so does that of a question without an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from data_prep.labelled.examples import Example
from data_prep.opening.pretrained import using_tokenizer
from data_prep.shards.rows import Ragged
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape
from pipeline.downstream.question_answering import spans
from pipeline.downstream.question_answering.windows import cut, encoded, frame_of, rows

SCORES = ("squad",)
UNANSWERABLE_SCORES = ("squad-v2",)


def outputs(shape: Shape) -> int:
    return 2


def encode(shape: Shape, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout) -> Encoded:
    """`start` and `end` are those of the first answer. cut: questions whose answer is in no window as a whole."""
    tokenizer.no_truncation()
    frame = frame_of(tokenizer)
    with using_tokenizer():
        of_questions, of_contexts = (
            tokenizer.encode_batch(texts, add_special_tokens=False)
            for texts in ([example.text_pair or "" for example in examples], [example.text for example in examples])
        )
    questions, _ = encoded(of_questions)
    contexts, offsets = encoded(of_contexts)
    windows = cut(questions, contexts, frame, layout.length, layout.window_overlap, layout.max_question)
    answers = [next((answer for answer in example.answers if answer.start >= 0), None) for example in examples]
    starts = np.array([-1 if answer is None else answer.start for answer in answers])
    ends = np.array([-1 if answer is None else answer.start + len(answer.text) for answer in answers])
    first, last = spans.token_spans(offsets, starts, ends)
    begin, end = spans.targets(windows, first, last)
    is_lost = (starts >= 0) & ~spans.is_found(windows, begin)
    more = {"windows": windows, "offsets": offsets, "max_answer": layout.max_answer}
    columns = {**rows(windows, questions, contexts, frame), "start": begin, "end": end}
    return Encoded(columns, examples, int(is_lost.sum()), more)


def truth(shape: Shape, examples: Sequence[Example]) -> list[Any]:
    return [[answer.text for answer in example.answers] for example in examples]


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    """Answers; "" where “no answer” is likelier, of data that have questions without one."""
    width = int(scores.lengths.max(initial=1))
    start, end = (Ragged(scores.values[:, side], scores.offsets).pad(width, -np.inf) for side in (0, 1))
    predictions = spans.answers(
        encoded.more["windows"],
        start,
        end,
        encoded.more["offsets"],
        [example.text for example in encoded.examples],
        max_tokens=encoded.more["max_answer"],
    )
    said = [answer.above(0.0) if shape.unanswerable else answer.text for answer in predictions]
    return Predicted(said, [_logistic(-answer.null_odds) for answer in predictions])


def _logistic(odds: float) -> float | None:
    return None if not np.isfinite(odds) else float(1 / (1 + np.exp(-odds)))
