"""Figures of unusual documents: scores compared with normal ones, and words by their surprisal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.reports.data import COLOURS, new_axes, save

BINS = 40
COLUMNS, LINES, LINE_INCHES = 132, 7, 0.21  # of a document's text
STRONG = 8.0  # nats beyond what was expected: the deepest shade


def scores(
    normal: np.ndarray, unusual: Mapping[str, np.ndarray], thresholds: Mapping[str, float], x: str, path: Path
) -> Path:
    """Histograms of scores of normal documents and of each kind of unusual ones, with thresholds."""
    figure, axes = new_axes("Scores of test documents (first draw)", x, "share of documents")
    together = np.concatenate([normal, *unusual.values()])
    edges = np.linspace(together.min(), together.max(), BINS)
    for number, (name, values) in enumerate({"normal": normal, **unusual}.items()):
        weights = np.full(len(values), 1 / len(values))
        colour = COLOURS[number % len(COLOURS)]
        if name == "normal":
            axes.hist(values, edges, weights=weights, color=colour, alpha=0.4, label=name)
        else:
            axes.hist(values, edges, weights=weights, color=colour, histtype="step", linewidth=1.8, label=name)
    for (name, value), style in zip(thresholds.items(), ("-", "--"), strict=False):
        axes.axvline(value, color="black", linewidth=1.0, linestyle=style, label=f"threshold {name}")
    figure.legend(frameon=False, fontsize=9, loc="outside right center")
    return save(figure, path)


def words(documents: Sequence[tuple[str, Sequence[tuple[str, float]]]], path: Path) -> Path:
    """The beginning of each document (title, [(word, surprisal beyond expectation)]), shaded by surprisal."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [_lines(document) for _, document in documents]
    heights = [LINE_INCHES * (len(rows) + 1.6) for rows in lines]
    figure = pyplot.figure(figsize=(9.6, sum(heights)))
    grid = figure.add_gridspec(len(lines), 1, height_ratios=heights, left=0.02, right=0.98, top=1, bottom=0, hspace=0)
    for number, ((title, _), rows) in enumerate(zip(documents, lines, strict=True)):
        axes = figure.add_subplot(grid[number])
        axes.set(xlim=(0, COLUMNS), ylim=(len(rows) + 0.6, -1))
        axes.set_axis_off()
        axes.text(0, -0.3, title, fontsize=9, fontweight="bold", va="center", parse_math=False)
        for down, row in enumerate(rows):
            _line(axes, row, down + 0.6)
    return save(figure, path)


def _line(axes: Any, row: Sequence[tuple[int, str, float]], down: float) -> None:
    for start, word, value in row:
        share = float(np.clip(value / STRONG, 0, 1))
        box = {"facecolor": COLOURS[1], "alpha": 0.75 * share, "edgecolor": "none", "pad": 1.0}
        axes.text(
            start, down, word, fontsize=8, family="monospace", va="center", bbox=box if share else None,
            parse_math=False,
        )  # fmt: skip


def _lines(document: Sequence[tuple[str, float]]) -> list[list[tuple[int, str, float]]]:
    """Words with the columns where they begin, in at most LINES lines."""
    lines: list[list[tuple[int, str, float]]] = [[]]
    column = 0
    for word, value in document:
        if column and column + len(word) > COLUMNS:
            if len(lines) == LINES:
                break
            lines.append([])
            column = 0
        lines[-1].append((column, word[:COLUMNS], value))
        column += len(word) + 1
    return lines
