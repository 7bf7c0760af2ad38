"""Answers that are spans of a recording, to questions that are recordings, too: where is what is heard here?

    [0] question [0] frames of the context ─► scores of start and end at each frame ─► the best span, in seconds

Frames of zeros, which are the mean of training, stand where texts have [CLS] and [SEP]; all else is as of texts
(`answers`): windows, “no answer” at the first position, a threshold that validation rows choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.kinds import FileReader
from data_prep.labelled.examples import Example
from data_prep.labelled.segments import as_span, span_in
from data_prep.shards.rows import Ragged, offsets_of
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, answers, arrays, softmax
from pipeline.downstream.metrics.spans import raw_scores
from pipeline.downstream.question_answering import spans
from pipeline.downstream.question_answering.windows import Frame, Windows, cut, ranges

AT_ONCE = arrays.AT_ONCE
outputs = answers.outputs
_FRAME = Frame((0,), (0,), ())
_UNITS = 1000  # a second, as places are whole numbers


def encode(shape: Shape, examples: Sequence[Example], read: FileReader, layout: Layout) -> Encoded:
    contexts, questions = (
        Ragged.from_rows([arrays.array_of(example, read, number) for example in examples], np.float32)
        for number in (0, 1)
    )
    most = max(1, min(layout.max_question, layout.length - len(_FRAME) - layout.window_overlap - 1))
    windows = cut(questions, contexts, _FRAME, layout.length, layout.window_overlap, most)
    times = [read.times(length) for length in contexts.lengths.tolist()]
    middles = np.rint(_UNITS * np.concatenate(times)).astype(np.int64)
    begins, ends = _learned(examples)
    first, last = spans.token_spans(Ragged(np.stack([middles, middles + 1], -1), contexts.offsets), begins, ends)
    starts, stops = spans.targets(windows, first, last)
    has_frames = first != spans.NOWHERE
    lost = (begins >= 0) & ~has_frames
    not_whole = np.count_nonzero(has_frames & ~spans.is_found(windows, starts))
    counted = [
        Counted(int(np.count_nonzero(questions.lengths > most)), len(examples), "questions are too long and cut"),
        Counted(int(np.count_nonzero(lost)), len(examples), "questions have answers without a frame, not learned"),
        Counted(int(not_whole), len(examples), "questions have answers that no window has whole, learned as none"),
        Counted(
            int(np.count_nonzero(last - first >= layout.max_answer)),
            len(examples),
            f"questions have answers of over {layout.max_answer} positions (max_answer), which are not given whole",
        ),
    ]
    of_rows = {"input": _rows(windows, questions, contexts), "start": starts, "end": stops}
    of_frames = [np.rint(_UNITS * edges(of, each.seconds)) for of, each in zip(times, examples, strict=True)]
    more = {"windows": windows, "edges": Ragged.from_rows(of_frames, np.int64), "max_answer": layout.max_answer}
    return Encoded(of_rows, examples, counted, more, ~lost[windows.example])


def _learned(examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Start and end [N] of the first answer of each; start −1 where there is none."""
    places = [span_in(example.answers[0].text) if example.answers else (-1 / _UNITS, 0) for example in examples]
    begins, ends = np.rint(_UNITS * np.array(places).T).astype(np.int64)
    return begins, ends


def _rows(windows: Windows, questions: Ragged, contexts: Ragged) -> Ragged:
    """The frames of windows."""
    offsets = offsets_of(windows.context_at + windows.size)
    values = np.zeros((offsets[-1], *contexts.item), np.float32)
    sizes = windows.question_size[windows.example]
    asked = questions.values[ranges(questions.offsets[:-1][windows.example], sizes)]
    values[ranges(offsets[:-1] + len(_FRAME.before), sizes)] = asked
    read = contexts.values[ranges(contexts.offsets[:-1][windows.example] + windows.first, windows.size)]
    values[ranges(offsets[:-1] + windows.context_at, windows.size)] = read
    return Ragged(values, offsets)


def edges(times: np.ndarray, seconds: float) -> np.ndarray:
    """Where each frame begins and ends, [L, 2] in seconds: each time belongs to the frame whose middle is nearest."""
    places = np.concatenate([[0.0], (times[1:] + times[:-1]) / 2, [max(seconds, times[-1])]])
    return np.stack([places[:-1], places[1:]], -1)


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    """Answers; "" where “no answer” is likelier by more than the threshold, of data that have questions without one."""
    found = _predictions(encoded, scores)
    odds = [_odds(each) for each in found]
    silent = [shape.unanswerable and each > shape.threshold for each in odds]
    texts = ["" if is_silent else _text(each) for each, is_silent in zip(found, silent, strict=True)]
    sure: list[float | None] = [
        _sure(each, is_silent, shape.unanswerable) for each, is_silent in zip(found, silent, strict=True)
    ]
    return Predicted(texts, sure, null_odds=odds if shape.unanswerable else [])


def fitted(shape: Shape, encoded: Encoded, scores: Ragged) -> Shape:
    """The shape with the threshold of “no answer” whose F1 of these rows is best."""
    if not shape.unanswerable:
        return shape
    found = _predictions(encoded, scores)
    truth = [[answer.text for answer in example.answers] for example in encoded.examples]
    texts = [_text(each) for each in found]
    return answers.with_threshold(shape, truth, texts, raw_scores(truth, texts)[:, 0], [_odds(each) for each in found])


def _predictions(encoded: Encoded, scores: Ragged) -> list[spans.Prediction]:
    width, more = int(scores.lengths.max(initial=1)), encoded.more
    start, end = (Ragged(scores.values[:, side], scores.offsets).pad(width, -np.inf) for side in (0, 1))
    contexts = [example.text for example in encoded.examples]
    return spans.answers(more["windows"], start, end, more["edges"], contexts, max_tokens=more["max_answer"])


def _text(found: spans.Prediction) -> str:
    start, end = found.characters[0].tolist()
    return as_span(start / _UNITS, end / _UNITS)


def _odds(found: spans.Prediction) -> float:
    return found.null_score - float(found.scores[0])


def _sure(found: spans.Prediction, is_silent: bool, unanswerable: bool) -> float:
    """The share of the answer in the probability of all that are listed."""
    listed = [*found.scores.tolist(), *([found.null_score] if unanswerable else [])]
    return float(softmax(np.array([listed]))[0][-1 if is_silent else 0])


def told(shape: Shape, example: Example, answer: str) -> dict[str, Any]:
    """`predicted`, start and end in seconds as a text, "" for no answer, and `segments` with the same as numbers."""
    places = [dict(zip(("start", "end"), span_in(answer), strict=True))] if answer else []
    return {"predicted": answer, "segments": places}
