"""Answers that stand in a context: two learned vectors, for first and last token (Devlin et al. 2019, section 4.2).

Contexts are read in windows, each with the question before it. A window that has no answer, or not all of it, points at
its first token; so does that of a question without an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from data_prep.labelled.examples import Example
from data_prep.shards.rows import Ragged
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape
from pipeline.downstream.question_answering import questions


def outputs(shape: Shape) -> int:
    return 2


def encode(shape: Shape, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout) -> Encoded:
    asked = questions.encode(examples, tokenizer, layout.length, layout.window_overlap, layout.max_question)
    return Encoded(asked.rows, examples, asked.counted(), {"questions": asked, "max_answer": layout.max_answer})


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    """Answers; "" where “no answer” is likelier, of data that have questions without one."""
    width = int(scores.lengths.max(initial=1))
    start, end = (Ragged(scores.values[:, side], scores.offsets).pad(width, -np.inf) for side in (0, 1))
    predictions = encoded.more["questions"].answers(start, end, max_tokens=encoded.more["max_answer"])
    said = [answer.above(0.0) if shape.unanswerable else answer.text for answer in predictions]
    return Predicted(said, [_logistic(-answer.null_odds) for answer in predictions])


def _logistic(odds: float) -> float | None:
    return None if not np.isfinite(odds) else float(1 / (1 + np.exp(-odds)))
