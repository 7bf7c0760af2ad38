"""Figures of anomaly detectors: curves, scores with thresholds, AUROC by method, reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.reports.data import COLOURS, literal, new_axes, save

OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # colours of methods that are not ours
DASHES = ("--", ":", "-.")
BINS = 50
GREY = "#9A9A9A"
BRIGHTEST = 0.995  # quantile of the errors that is drawn brightest


class ImageGroup(NamedTuple):
    """Images of one kind, with reconstructions and scores."""

    inputs: np.ndarray  # [N, C, H, W] in 0 … 1
    rebuilt: np.ndarray  # [N, C, H, W]
    errors: np.ndarray  # [N, H, W]
    scores: np.ndarray  # [N]
    flagged: np.ndarray  # [N] bool


def curves(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ours: Sequence[str],
    title: str,
    x: str,
    y: str,
    path: Path,
    level: float | None = None,
) -> Path:
    """ROC or precision-recall curves: (x, y) by method, ours thick. level: precision by chance."""
    figure, axes = new_axes(title, x, y)
    figure.set_size_inches(7.2, 4.4)
    place = 0
    for name, (along, up) in lines.items():
        if name in ours:
            axes.plot(along, up, label=name, color=COLOURS[ours.index(name) % len(COLOURS)], linewidth=2.4, zorder=3)
        else:
            style = DASHES[place // len(OTHERS) % len(DASHES)]
            axes.plot(along, up, label=name, color=OTHERS[place % len(OTHERS)], linestyle=style, linewidth=1.0)
            place += 1
    if level is not None:
        axes.axhline(level, color=GREY, linewidth=0.8)
        axes.annotate("base rate", (0, level), xytext=(4, 3), textcoords="offset points", fontsize=8, color=GREY)
    else:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0 if level is None else max(0, min(level - 0.1, 0.9)), 1.01))
    figure.legend(frameon=False, fontsize=8, loc="outside right center")
    return save(figure, path)


def histogram(
    scores: np.ndarray, anomalous: np.ndarray, thresholds: Mapping[str, float], title: str, x: str, path: Path
) -> Path:
    """Scores of normal rows and of anomalies [R], each as a share of its kind, with thresholds."""
    figure, axes = new_axes(title, x, "share of rows")
    low, high = float(scores.min()), float(scores.max())
    logarithmic = low > 0 and high > 20 * low
    edges = np.geomspace(low, high, BINS) if logarithmic else np.linspace(low, high + (low == high), BINS)
    for name, which, colour in (("normal", ~anomalous, COLOURS[0]), ("anomalies", anomalous, COLOURS[1])):
        values = scores[which]
        if not len(values):
            continue
        axes.hist(values, edges, weights=np.full(len(values), 1 / len(values)), color=colour, alpha=0.55, label=name)
    for (name, value), style in zip(thresholds.items(), ("-", "--", ":", "-."), strict=False):
        axes.axvline(value, color="black", linewidth=1.2, linestyle=style, label=f"threshold {name}")
    if logarithmic:
        axes.set_xscale("log")
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


def areas(means: Mapping[str, float], spreads: Mapping[str, float], ours: Sequence[str], path: Path) -> Path:
    """AUROC of every method, the best on top, with its standard deviation over the splits."""
    figure, axes = new_axes("Area under the ROC curve (test)", "AUROC: mean and standard deviation over splits", "")
    names = sorted(means, key=means.__getitem__)
    figure.set_size_inches(6.8, 0.8 + 0.24 * len(names))
    for place, name in enumerate(names):
        colour = COLOURS[1] if name in ours else COLOURS[0]
        axes.errorbar(means[name], place, xerr=spreads[name], fmt="o", color=colour, capsize=3, markersize=5)
    axes.set_yticks(range(len(names)), list(map(literal, names)), fontsize=8)
    axes.grid(axis="x", alpha=0.25)
    return save(figure, path)


def reasons(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], path: Path) -> Path:
    """Bars of the largest shares for each unusual row (title, [(column, share of its error)])."""
    from matplotlib import pyplot

    height = 0.9 + 0.2 * max(len(columns) for _, columns in rows)
    down = -(-len(rows) // 2)
    figure, grid = pyplot.subplots(down, 2, figsize=(9.6, height * down), squeeze=False, layout="constrained")
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    for axes, (title, columns) in zip(grid.flat, rows, strict=False):
        axes.set_title(title, loc="left", fontsize=9)
        names, shares = zip(*reversed(columns), strict=True)
        axes.barh(range(len(names)), shares, color=COLOURS[0], height=0.7)
        axes.set_yticks(range(len(names)), list(map(literal, names)), fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("share of the row's error that goes with the column", fontsize=8)
    return save(figure, path)


def known_and_new(means: Mapping[str, tuple[float, float]], ours: Sequence[str], path: Path) -> Path:
    """AUROC on (known, new) kinds of anomalies by method, the best on new kinds on top."""
    names = sorted(means, key=lambda name: means[name][1])
    figure, axes = new_axes("Anomalies of kinds that were marked, and of new ones (test)", "AUROC, mean of splits", "")
    figure.set_size_inches(6.8, 1.2 + 0.26 * len(names))
    for place, name in enumerate(names):
        axes.plot(means[name], [place, place], color=GREY, linewidth=1.4, zorder=1)
    for which, label, colour, marker in ((0, "known kinds", COLOURS[0], "D"), (1, "new kinds", COLOURS[1], "o")):
        values = [means[name][which] for name in names]
        axes.scatter(
            values, range(len(names)), s=34 if which else 26, color=colour, marker=marker, label=label, zorder=2
        )
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), list(map(literal, names)), fontsize=8)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name in ours else "normal")
    axes.grid(axis="x", alpha=0.25)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    return save(figure, path)


def reconstructions(kinds: Mapping[str, ImageGroup], what: str, path: Path) -> Path:
    """Images, reconstructions and errors of pixels (`what`, on one scale) below each other, kind by kind.

    Scores are above the images, in another colour where they exceed the threshold.
    """
    from matplotlib import pyplot

    across = max(len(group.inputs) for group in kinds.values())
    brightest = float(np.quantile(np.concatenate([group.errors.ravel() for group in kinds.values()]), BRIGHTEST))
    heights = ([1.0, 1.0, 1.0, 0.3] * len(kinds))[:-1]  # a gap between kinds
    size = (0.8 * across + 2.2, 0.86 * sum(heights) + 0.3)
    figure, grid = pyplot.subplots(
        len(heights), across, figsize=size, squeeze=False, layout="constrained", height_ratios=heights
    )
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    drawn = None
    for number, (kind, group) in enumerate(kinds.items()):
        rows = grid[4 * number : 4 * number + 3]
        for column, (score, flagged) in enumerate(zip(group.scores, group.flagged, strict=True)):
            for axes, image in zip(rows[:2, column], (group.inputs[column], group.rebuilt[column]), strict=True):
                shown = np.clip(image, 0, 1).transpose(1, 2, 0)
                axes.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            drawn = rows[2, column].imshow(
                group.errors[column], cmap="inferno", vmin=0, vmax=brightest, interpolation="nearest"
            )
            text = f"{score:,.0f}" if abs(score) >= 1000 else f"{score:.3g}"
            rows[0, column].set_title(text, fontsize=8, pad=2, color=COLOURS[1] if flagged else "black")
        for axes, name in zip(rows[:, 0], (kind, "rebuilt", "error"), strict=True):
            weight = "bold" if name == kind else "normal"
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, fontweight=weight)
    assert drawn is not None
    bar = figure.colorbar(drawn, ax=grid, shrink=0.5, aspect=30, pad=0.02)
    bar.set_label(what, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return save(figure, path)
