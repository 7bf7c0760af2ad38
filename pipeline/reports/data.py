"""Figures of training, comparisons and learning curves, as PNG files.

Colours are Okabe and Ito's, which most colour-blind readers tell apart.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.legible import masked, plain
from pipeline.reports.fonts import give_fonts
from training.monitor.names import HELD_OUT_LOSS, LOSS, PER_SECOND, SPEED, TRAIN, VALIDATION

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DOTS_PER_INCH = 130


def new_axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    return figure, axes


def literal(text: str) -> str:
    """Text of data in a figure: safe, on one line, and no formula. `save` sees to all texts but those at ticks."""
    return re.sub(r"(?<!\\)\$", r"\\$", masked(plain(text, keep="\n")))


def save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot
    from matplotlib.text import Text

    path.parent.mkdir(parents=True, exist_ok=True)
    for text in figure.findobj(Text):  # those of numbers on axes are made when it is drawn
        shown = text.get_text()
        text.set_text(literal(shown) if text.get_parse_math() else masked(plain(shown, keep="\n")))
    if without := give_fonts(figure.findobj(Text)):
        note = f"a box is a character that no font installed here has ({len(without):,} of them)"
        figure.supxlabel(note, x=0.995, ha="right", fontsize=7, color="#666666")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # said by the note
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
    pyplot.close(figure)
    return path


def training_curves(records: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """loss.png, accuracy.png and throughput.png from a run's records, for the metrics they hold."""
    terms = _terms(records)
    unit = "loss (nats per target)" if terms else "loss"
    speeds = _ending(records, PER_SECOND) or [""]
    counted = speeds[0].removeprefix(SPEED).replace("_", " ")
    return [
        *_curves(records, folder / "loss.png", "Loss", unit, terms or [LOSS, HELD_OUT_LOSS]),
        *_curves(records, folder / "accuracy.png", "Accuracy", "share correct", _ending(records, "_accuracy")),
        *_curves(records, folder / "throughput.png", "Throughput", counted, speeds),
    ]


def _terms(records: Sequence[dict[str, Any]]) -> list[str]:
    """Names of loss terms: metrics with an accuracy of the same name, in training and on held-out rows."""
    return [name.removesuffix("_accuracy") for name in _ending(records, "_accuracy")]


def _ending(records: Sequence[dict[str, Any]], suffix: str) -> list[str]:
    return sorted({name for record in records for name in record if name.endswith(suffix)})


def _curves(records: Sequence[dict[str, Any]], path: Path, title: str, y: str, names: Sequence[str]) -> list[Path]:
    series = {n: [(r["step"], r[n]) for r in records if n in r] for n in names}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return []
    figure, axes = new_axes(title, "optimizer step", y)
    colours: dict[str, str] = {}
    for name, points in series.items():
        held_out = name.startswith(VALIDATION)
        base = name.removeprefix(VALIDATION).removeprefix(TRAIN).removeprefix(SPEED)
        colour = colours.setdefault(base, COLOURS[len(colours) % len(COLOURS)])
        style = {"marker": "o", "linestyle": "--", "markersize": 4} if held_out else {"linewidth": 1.4}
        label = base.replace("_", " ") + (" (held out)" if held_out else "")
        axes.plot(*zip(*points, strict=True), color=colour, label=label, **style)
    if all(value >= 0 for points in series.values() for _, value in points):
        axes.set_ylim(bottom=0)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    return [save(figure, path)]


def losses_by_arm(curves: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], path: Path) -> Path:
    """Held-out loss over the steps, a line for each run; where it was measured once, the training loss.

    curves: by label, the records of one or several runs, which share a colour.
    """
    figure, axes = new_axes("While it trains", "optimizer step", "loss (nats per target)")
    for index, (label, runs) in enumerate(curves.items()):
        colour, style = COLOURS[index % len(COLOURS)], ("-", "--", ":", "-.")[index // len(COLOURS) % 4]
        for number, records in enumerate(runs):
            held_out = [(r["step"], r[HELD_OUT_LOSS]) for r in records if HELD_OUT_LOSS in r]
            points = held_out if len(held_out) > 1 else [(r["step"], r[LOSS]) for r in records if LOSS in r]
            if points:
                shown = {"label": label} if number == 0 else {}
                axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.4, **shown)
    axes.legend(frameon=False, fontsize=8)
    return save(figure, path)


def scores_by_arm(scores: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> Path:
    """A panel for each score: each arm's values as points and their mean as a line.

    scores: by score, then by arm.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    arms = list(dict.fromkeys(arm for of_score in scores.values() for arm in of_score))
    size = (1.6 + 3.0 * len(scores), 1.2 + 0.38 * len(arms))
    figure, panels = pyplot.subplots(1, len(scores), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axes, (name, of_score) in zip(panels[0], scores.items(), strict=True):
        for place, arm in enumerate(arms):
            values = of_score.get(arm, ())
            axes.scatter(values, [place] * len(values), s=22, color=COLOURS[0], alpha=0.7)
            if len(values) > 1:
                axes.scatter(sum(values) / len(values), place, marker="|", s=320, color=COLOURS[1])
        axes.set_title(name, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
        axes.set_yticks(range(len(arms)), [literal(arm) for arm in arms])
    panels[0][0].invert_yaxis()
    return save(figure, path)


def against(names: tuple[str, str], points: Mapping[str, Sequence[tuple[float, float]]], path: Path) -> Path:
    """One score against another, a point for each run, labelled by arm. points: (x, y) by arm."""
    x, y = names
    figure, axes = new_axes(f"{y} against {x}", x, y)
    markers = "osD^v<>pP*"
    for index, (arm, of_arm) in enumerate(points.items()):
        if of_arm:
            marker = markers[index // len(COLOURS) % len(markers)]
            axes.scatter(*zip(*of_arm, strict=True), color=COLOURS[index % len(COLOURS)], marker=marker, label=arm)
    axes.legend(frameon=False, fontsize=8)
    return save(figure, path)


def learning_curve(title: str, metric: str, cells: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Score over the number of labels: mean and standard deviation over the seeds, for models and baselines.

    cells: `model`, `kind`, `labels`, `mean`, `std`.
    """
    figure, axes = new_axes(title, "labelled training examples", metric)
    for index, model in enumerate(dict.fromkeys(cell["model"] for cell in cells)):
        own = [cell for cell in cells if cell["model"] == model]
        x = [cell["labels"] for cell in own]
        mean = [cell["mean"] for cell in own]
        spread = [cell["std"] for cell in own]
        baseline = own[0]["kind"] == "baseline"
        axes.errorbar(
            x,
            mean,
            yerr=spread,
            label=model,
            color=COLOURS[index % len(COLOURS)],
            marker="s" if baseline else "o",
            linestyle=":" if baseline else "-",
            capsize=3,
        )
    axes.set_xscale("log")
    labels = sorted({cell["labels"] for cell in cells})
    axes.set_xticks(labels, [f"{n:,}" for n in labels], minor=False)
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


def confusion(labels: Sequence[str], truth: Sequence[int], predicted: Sequence[int], path: Path) -> Path:
    """How many rows of each label (lines) were given each (columns), coloured by their share of the line."""
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (np.asarray(truth), np.asarray(predicted)), 1)
    figure, axes = new_axes("What is taken for what", "answer", "right")
    axes.grid(False)
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    places = range(len(labels))
    names = [literal(label if len(label) <= 18 else f"{label[:17]}…") for label in labels]
    axes.set_xticks(places, names, rotation=45 if len(labels) > 3 else 0, ha="right" if len(labels) > 3 else "center")
    axes.set_yticks(places, names)
    if len(labels) <= 12:
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    return save(figure, path)


def reliability(bins: Sequence[tuple[float, float, int]], error: float, path: Path) -> Path:
    """How often answers are right, by how sure the network is of them. bins: (confidence, accuracy, rows)."""
    figure, axes = new_axes(f"Calibration: {error:.1f} points off on average", "how sure it is", "share that is right")
    axes.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1)
    sure, right, rows = (np.array(column) for column in zip(*bins, strict=True))
    axes.scatter(sure, right, s=20 + 300 * rows / rows.sum(), color=COLOURS[0], alpha=0.8)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    return save(figure, path)
