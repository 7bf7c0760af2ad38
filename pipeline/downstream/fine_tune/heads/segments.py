"""A label at each position in time of a recording, and so its segments.

    file ─► frames [L, width] ─► windows that overlap ─► scores of each frame ─► of each hundredth of a second those of
                                                                                 the frame whose middle is nearest

A frame is learned with the label at its middle; frames in no segment are not learned, unless the task names their label
(`outside`). Each frame is learned, and answered, in the window in which most stands around it. Labels that change from
frame to frame would break segments: their probabilities are averaged over a time around each position, which validation
rows choose by F1 of segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data_prep.kinds import FileReader
from data_prep.labelled.examples import Example
from data_prep.labelled.segments import RATE, UNKNOWN, middles, stretches
from data_prep.shards.rows import Ragged, Rows, offsets_of
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, arrays, softmax
from pipeline.downstream.metrics.segments import segment_f1
from pipeline.downstream.question_answering.windows import Frame, asked_once, cut, ranges

AT_ONCE = arrays.AT_ONCE
SMOOTHINGS = (1, 5, 9, 17, 33, 65)  # positions
_NOTHING = Frame((), (), ())  # around frames there are no specials


def outputs(shape: Shape) -> int:
    return len(shape.labels)


def encode(shape: Shape, examples: Sequence[Example], read: FileReader, layout: Layout) -> Encoded:
    frames = Ragged.from_rows((arrays.array_of(example, read) for example in examples), np.float32)
    none = Ragged.from_rows([[] for _ in examples], np.uint32, ())
    windows = cut(none, frames, _NOTHING, layout.length, min(layout.window_overlap, layout.length - 1))
    begins = frames.offsets[:-1][windows.example] + windows.first
    positions, frame = asked_once(windows, frames, np.ones(len(frames.values), bool))
    times = [read.times(length) for length in frames.lengths.tolist()]
    tags = np.concatenate([tags_at(example, of) for example, of in zip(examples, times, strict=True)])
    of_windows: Rows = {
        "input": Ragged(frames.values[ranges(begins, windows.size)], offsets_of(windows.size)),
        "target_positions": positions,
        "target_ids": Ragged.from_lengths(tags[frame], positions.lengths),
    }
    is_known = np.bincount(positions.row_index(), tags[frame] != UNKNOWN, len(windows)) > 0
    of_examples = zip(frames.offsets[:-1], examples, times, strict=True)
    nearest = Ragged.from_rows((begin + nearest_to(example, of) for begin, example, of in of_examples), np.int64)
    long = Counted(
        int((frames.lengths > layout.length).sum()),
        len(examples),
        f"rows have over {layout.length} positions and are read in windows that overlap",
    )
    return Encoded(of_windows, examples, [long], {"frame": frame, "nearest": nearest}, is_known)


def tags_at(example: Example, times: np.ndarray) -> np.ndarray:
    """The label at some times, [L], of an example; UNKNOWN where there is none."""
    if not example.tags:
        return np.full(len(times), UNKNOWN)
    return np.array(example.tags)[np.minimum((times * RATE).astype(np.int64), len(example.tags) - 1)]


def nearest_to(example: Example, times: np.ndarray) -> np.ndarray:
    """Of each position of an example, the number of the time that is nearest to its middle. times: [L], ascending."""
    between = (times[1:] + times[:-1]) / 2
    return np.searchsorted(between, middles(example.seconds))


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    """The label at each position, and the mean probability of these."""
    shares = [smoothed(each, shape.smoothing) for each in _probabilities(encoded, scores)]
    return Predicted([each.argmax(-1).tolist() for each in shares], [float(each.max(-1).mean()) for each in shares])


def fitted(shape: Shape, encoded: Encoded, scores: Ragged) -> Shape:
    """The shape with the smoothing by which F1 of these rows' segments is best; the least of several."""
    shares = _probabilities(encoded, scores)
    return replace(shape, smoothing=best_smoothing(shape.labels, shape.outside, encoded.examples, shares))


def best_smoothing(
    labels: Sequence[str], outside: str, examples: Sequence[Example], shares: Sequence[np.ndarray]
) -> int:
    """The smoothing by which F1 of examples' segments is best; the least of several. shares: probabilities of labels at
    the positions of each."""
    truth = [[None if tag == UNKNOWN else tag for tag in example.tags] for example in examples]
    of_segments = [number for number, label in enumerate(labels) if label != outside]
    best = {}
    for width in SMOOTHINGS:
        answers = [smoothed(each, width).argmax(-1).tolist() for each in shares]
        best[width] = segment_f1(truth, answers, of_segments).scores()["segment-f1"]
    return max(best, key=lambda width: best[width])


def _probabilities(encoded: Encoded, scores: Ragged) -> list[np.ndarray]:
    """Of each example the labels' probabilities at its positions, [positions, labels]."""
    of_frames = np.empty(scores.values.shape)
    of_frames[encoded.more["frame"]] = softmax(scores.values.astype(np.float64))
    nearest: Ragged = encoded.more["nearest"]
    return [of_frames[nearest.row(row)] for row in range(len(nearest))]


def smoothed(shares: np.ndarray, width: int) -> np.ndarray:
    """Means of probabilities [positions, labels] over an odd number of positions around each, as far as there are
    any."""
    if width == 1:
        return shares
    sums = np.concatenate([np.zeros((1, shares.shape[1])), shares.cumsum(0)])
    place = np.arange(len(shares))
    first, last = np.maximum(place - width // 2, 0), np.minimum(place + width // 2 + 1, len(shares))
    return (sums[last] - sums[first]) / (last - first)[:, None]


def told(shape: Shape, example: Example, answer: Sequence[int]) -> dict[str, Any]:
    """`segments`, with times in seconds, and `predicted`, their labels; but for those of what is in no segment."""
    named = [each._replace(label=shape.labels[each.label]) for each in stretches(answer, example.seconds)]
    segments = [segment._asdict() for segment in named if segment.label != shape.outside]
    return {"predicted": [segment["label"] for segment in segments], "segments": segments}
