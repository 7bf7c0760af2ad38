"""Frames of recordings over stretches that are coloured by numbers, as a PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.reports.data import COLOURS, literal, save


class Recording(NamedTuple):
    """frames: [T, bands], so many a second (`rate`). stretches: first frame, the one after the last, and a number."""

    heading: str
    frames: np.ndarray
    rate: float
    stretches: Sequence[tuple[int, int, float]]


def stretched(title: str, recordings: Sequence[Recording], path: Path) -> Path:
    """A picture for each recording: positive numbers orange, negative ones blue, the stronger the larger in it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(
        2 * len(recordings),
        1,
        figsize=(6.4, 0.4 + 1.9 * len(recordings)),
        height_ratios=[6, 1] * len(recordings),
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(literal(title), fontsize=11, x=0.01, ha="left")
    for number, recording in enumerate(recordings):
        picture, strip = rows[2 * number, 0], rows[2 * number + 1, 0]
        seconds = len(recording.frames) / recording.rate
        extent = (0, seconds, 0, recording.frames.shape[1])
        picture.imshow(recording.frames.T, aspect="auto", origin="lower", cmap="gray_r", extent=extent)
        picture.set_title(literal(recording.heading), loc="left", fontsize=8.5)
        picture.set_ylabel("band", fontsize=8)
        picture.set_xticks([])
        picture.tick_params(labelsize=8)
        most = max((abs(value) for _, _, value in recording.stretches), default=0.0) or 1.0
        for start, end, value in recording.stretches:
            colour = COLOURS[1 if value > 0 else 0]
            strip.axvspan(start / recording.rate, end / recording.rate, color=colour, alpha=abs(value) / most, lw=0)
        strip.set_xlim(0, seconds)
        strip.set_yticks([])
        strip.tick_params(labelsize=8)
    rows[-1, 0].set_xlabel("seconds", fontsize=8)
    return save(figure, path)
