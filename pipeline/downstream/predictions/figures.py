"""Figures of the job `predictions`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.reports.data import COLOURS, new_axes, save

RANKS = (10, 100, 1000, 10_000)  # ends of the groups of tokens, by how frequent they are
FEWEST = 30  # tokens that a point is worth


def by_frequency(rank: np.ndarray, right: Mapping[str, np.ndarray], path: Path) -> Path:
    """Share of right first guesses by the rank [M] of the true token among training tokens, from 0."""
    group = np.searchsorted(RANKS, rank, side="right")
    groups = [number for number in range(len(RANKS) + 1) if (group == number).any()]
    figure, axes = new_axes("Right at first guess, by how frequent the true token is", "", "share right")
    width = 0.8 / len(right)
    for number, (name, values) in enumerate(right.items()):
        shares = [values[group == chosen].mean() for chosen in groups]
        places = np.arange(len(groups)) + (number - (len(right) - 1) / 2) * width
        axes.bar(places, shares, width, color=COLOURS[number], label=name)
    firsts = [1, *(end + 1 for end in RANKS)]
    ends = [f"{first:,} to {end:,}" for first, end in zip(firsts, RANKS, strict=False)] + [f"rarer than {RANKS[-1]:,}"]
    labels = [f"{ends[number]}\n({(group == number).mean():.0%} of tokens)" for number in groups]
    axes.set_xticks(range(len(groups)), labels, fontsize=8)
    axes.set_xlabel("rank among training tokens")
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


def by_place(place: np.ndarray, loss: Mapping[str, np.ndarray], path: Path) -> Path:
    """Mean loss by the place [M] of the token that is predicted in its row, from 0."""
    figure, axes = new_axes("Loss by place in the row", "place of the token, counted from 1", "nats per token")
    edges = np.unique(np.round(np.geomspace(1, int(place.max()) + 2, 13)).astype(int))
    group = np.searchsorted(edges, place, side="right")
    groups = [number for number in range(len(edges) + 1) if (group == number).sum() >= FEWEST]
    middle = [1 + place[group == number].mean() for number in groups]
    for number, (name, values) in enumerate(loss.items()):
        means = [values[group == chosen].mean() for chosen in groups]
        axes.plot(middle, means, marker="o", markersize=4, color=COLOURS[number], label=name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)
