"""Figures of codecs: rate against distortion, and images next to their decoded versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.downstream.compression.rate_distortion import RatePoint
from pipeline.reports.data import COLOURS, save

CROP = 192  # most pixels of a side shown
MARKS = ("o", "s", "^", "D")


def curves(points: Mapping[str, Sequence[RatePoint]], measure: str, path: Path) -> Path:
    """PSNR and `measure` over bits per pixel, a line for each codec."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.4, 4.2), layout="constrained")
    for index, (name, of) in enumerate(points.items()):
        rates = [point.bpp for point in of]
        style = {"color": COLOURS[index % len(COLOURS)], "marker": MARKS[index % len(MARKS)], "markersize": 4}
        style |= {"linewidth": 2.2, "zorder": 3} if index == 0 else {"linewidth": 1.3}
        left.plot(rates, [point.psnr for point in of], label=name, **style)
        right.plot(rates, [point.similarity for point in of], label=name, **style)
    for axes, name in ((left, "PSNR (dB)"), (right, measure)):
        axes.set_xscale("log")
        axes.set(xlabel="bits per pixel, whole files", ylabel=name)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    left.legend(frameon=False, fontsize=9)
    return save(figure, path)


def side_by_side(images: Mapping[str, Mapping[str, tuple[np.ndarray, str]]], path: Path) -> Path:
    """A row for every image, uint8 [C, H, W]: crops of its middle, each with its caption."""
    from matplotlib import pyplot

    columns = len(next(iter(images.values())))
    figure, grid = pyplot.subplots(
        len(images), columns, figsize=(3.1 * columns, 3.3 * len(images)), squeeze=False, layout="constrained"
    )
    for places, (name, row) in zip(grid, images.items(), strict=True):
        for axes, (title, (image, caption)) in zip(places, row.items(), strict=True):
            axes.imshow(middle(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set(xticks=[], yticks=[], xlabel=caption)
            axes.spines[:].set_visible(False)
            axes.set_title(f"{name}: {title}" if axes is places[0] else title, loc="left", fontsize=10)
    return save(figure, path)


def middle(image: np.ndarray) -> np.ndarray:
    """The square in the middle, [H, W, 3] or [H, W], at most CROP pixels a side."""
    _, height, width = image.shape
    side = min(CROP, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side].transpose(1, 2, 0).squeeze()
