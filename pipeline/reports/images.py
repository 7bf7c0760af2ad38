"""Figures of rows and images: grids of images, maps of codes, curves of detectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.reports.data import COLOURS, literal, save

CLASSES = "tab10"  # colours of up to ten classes
GAP = 2  # pixels between the images of a mosaic


def image_grid(rows: Mapping[str, np.ndarray], path: Path) -> Path:
    """Rows of images, each with its name. Images: float [N, C, H, W] in 0 … 1."""
    from matplotlib import pyplot

    count = len(next(iter(rows.values())))
    figure, grid = pyplot.subplots(
        len(rows), count, figsize=(0.72 * count + 1.4, 0.78 * len(rows)), squeeze=False, layout="constrained"
    )
    for axes_of_row, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(axes_of_row, images, strict=True):
            shown = np.clip(image, 0, 1).transpose(1, 2, 0)
            axes.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
        axes_of_row[0].set_axis_on()
        axes_of_row[0].set(xticks=[], yticks=[])
        axes_of_row[0].spines[:].set_visible(False)
        axes_of_row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return save(figure, path)


def tiles(grids: Mapping[str, np.ndarray], path: Path) -> Path:
    """Square grids of images side by side, each with its name. Images: float [N, C, H, W] in 0 … 1."""
    from matplotlib import pyplot

    grids = {name: images for name, images in grids.items() if len(images)}
    figure, places = pyplot.subplots(
        1, len(grids), figsize=(4.4 * len(grids), 4.7), squeeze=False, layout="constrained"
    )
    for axes, (name, images) in zip(places[0], grids.items(), strict=True):
        shown = mosaic(images)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_axis_off()
    return save(figure, path)


def mosaic(images: np.ndarray) -> np.ndarray:
    """Images [N, C, H, W] in 0 … 1 as one nearly square image [height, width] or [height, width, 3]."""
    count, channels, height, width = images.shape
    across = math.ceil(math.sqrt(count))
    down = -(-count // across)
    canvas = np.ones((down * (height + GAP) - GAP, across * (width + GAP) - GAP, channels), np.float32)
    for number, image in enumerate(np.clip(images, 0, 1)):
        top, left = (number // across) * (height + GAP), (number % across) * (width + GAP)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas[..., 0] if channels == 1 else canvas


def maps(points: Mapping[str, np.ndarray], labels: np.ndarray | None, names: Sequence[str], path: Path) -> Path:
    """Maps in two dimensions side by side, coloured by class. points: [N, 2] by title; labels: [N]."""
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        1, len(points), figsize=(4.2 * len(points), 4.2), squeeze=False, layout="constrained"
    )
    for axes, (title, places) in zip(grid[0], points.items(), strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_alpha(0.3)
        if labels is None:
            axes.scatter(*places.T, s=5, alpha=0.7, linewidths=0, color=COLOURS[0])
            continue
        colours = pyplot.get_cmap(CLASSES)
        for label in np.unique(labels):
            mine = labels == label
            name = names[label] if 0 <= label < len(names) else "none"
            axes.scatter(*places[mine].T, s=6, alpha=0.75, linewidths=0, color=colours(label % 10), label=name)
    if labels is not None:
        handles, called = grid[0][-1].get_legend_handles_labels()
        figure.legend(handles, called, loc="outside right center", frameon=False, fontsize=9, markerscale=2.5)
    return save(figure, path)


def error_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]], phases: Mapping[str, int], mean: float, path: Path
) -> Path:
    """Error over the steps, with the phases of the first curve and the error of the mean of all rows."""
    from pipeline.reports.data import new_axes

    figure, axes = new_axes("Error on held-out rows", "optimizer step", "squared error (sum over a row)")
    for index, (name, points) in enumerate(curves.items()):
        style = {"linewidth": 2.0, "marker": "o"} if index == 0 else {"linewidth": 1.3, "marker": "."}
        axes.plot(*zip(*points, strict=True), label=name, color=COLOURS[index % len(COLOURS)], markersize=4, **style)
    axes.axhline(mean, color="grey", linewidth=0.8, linestyle=":", label="the mean of all rows")
    axes.set_yscale("log")
    for plain in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        plain("{x:g}")
    for name, end in list(phases.items())[:-1]:
        axes.axvline(end, color=COLOURS[0], linewidth=0.7, linestyle="--", alpha=0.5)
        place = axes.get_xaxis_transform()
        axes.text(end, 1.0, f"{name} ", ha="right", va="top", fontsize=7, color=COLOURS[0], transform=place)
    axes.legend(frameon=False, fontsize=8)
    return save(figure, path)


def heat_map(
    values: np.ndarray, x: Sequence[str], y: Sequence[str], title: str, xlabel: str, unit: str, path: Path
) -> Path:
    """A heat map of values [len(y), len(x)], with a colour bar in `unit`."""
    from matplotlib import pyplot

    size = (min(12.0, 2.6 + 0.3 * len(x)), min(9.0, 1.4 + 0.28 * len(y)))
    figure, axes = pyplot.subplots(figsize=(max(5.0, size[0]), max(3.2, size[1])), layout="constrained")
    drawn = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0)
    axes.set_xticks(range(len(x)), list(map(literal, x)), fontsize=8)
    axes.set_yticks(range(len(y)), list(map(literal, y)), fontsize=8)
    axes.set_xlabel(xlabel)
    axes.set_title(title, loc="left", fontsize=11)
    figure.colorbar(drawn, ax=axes, label=unit)
    return save(figure, path)


def bars(values: Mapping[str, Mapping[str, float]], title: str, y: str, path: Path) -> Path:
    """A grouped bar chart: values by group and name."""
    from pipeline.reports.data import new_axes

    figure, axes = new_axes(title, "", y)
    names = list(dict.fromkeys(name for group in values.values() for name in group))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        x = [place + (index - (len(names) - 1) / 2) * width for place in range(len(values))]
        heights = [group.get(name, np.nan) for group in values.values()]
        drawn: Any = axes.bar(x, heights, width * 0.92, label=name, color=COLOURS[index % len(COLOURS)])
        axes.bar_label(drawn, fmt="{:.3g}", fontsize=8, padding=2)
    axes.set_xticks(range(len(values)), list(map(literal, values)))
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)
