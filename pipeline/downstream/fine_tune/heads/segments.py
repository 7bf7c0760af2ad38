"""A label at each position in time of a recording, and so its segments.

    file ─► frames [L, width] ─► windows that overlap ─► scores of each frame ─► of each hundredth of a second those of
                                                                                 the frame whose middle is nearest

A frame is learned with the label at its middle; frames in no segment are not learned, unless the task names their label
(`outside`). Each frame is learned, and answered, in the window in which most stands around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.kinds import FileReader
from data_prep.labelled.examples import Example
from data_prep.labelled.segments import RATE, UNKNOWN, middles, stretches
from data_prep.shards.rows import Ragged, Rows, offsets_of
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, softmax
from pipeline.downstream.fine_tune.heads.arrays import array_of
from pipeline.downstream.question_answering.windows import Frame, asked_once, cut, ranges

_NOTHING = Frame((), (), ())  # around frames there are no specials


def outputs(shape: Shape) -> int:
    return len(shape.labels)


def encode(shape: Shape, examples: Sequence[Example], read: FileReader, layout: Layout) -> Encoded:
    frames = Ragged.from_rows((array_of(example, read) for example in examples), np.float32)
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
    shares = softmax(scores.values.astype(np.float64))
    tags, sure = np.empty(len(shares), np.int64), np.empty(len(shares))
    tags[encoded.more["frame"]], sure[encoded.more["frame"]] = shares.argmax(-1), shares.max(-1)
    nearest: Ragged = encoded.more["nearest"]
    places = [nearest.row(row) for row in range(len(nearest))]
    return Predicted([tags[of].tolist() for of in places], [float(sure[of].mean()) for of in places])


def told(shape: Shape, example: Example, answer: Sequence[int]) -> dict[str, Any]:
    """`segments`, with times in seconds, and `predicted`, their labels; but for those of what is in no segment."""
    named = [each._replace(label=shape.labels[each.label]) for each in stretches(answer, example.seconds)]
    segments = [segment._asdict() for segment in named if segment.label != shape.outside]
    return {"predicted": [segment["label"] for segment in segments], "segments": segments}
