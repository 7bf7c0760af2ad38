"""Prints views of examples on a terminal, by type of view, for any kind of data and corruption.

Images are printed in half blocks, two pixels per cell, frames and waves in block characters, cells in tables. Without
colours, prediction targets are in ‹ ›.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from data_prep.legible import plain
from data_prep.views import Cells, Example, Frames, Image, Lines, Mark, Targets, Tokens, View, Wave
from flows.show.readable import number

MOST_COLUMNS = 12  # of a table
WIDEST = 40  # cells of an image
MOST_FRAMES, MOST_BANDS, WAVE_LINES = 96, 16, 6
SHADES, EIGHTHS = " ░▒▓█", " ▁▂▃▄▅▆▇█"
STYLES: dict[Mark, str] = {
    "target": "bold green",
    "masked": "bold magenta",
    "random": "bold red",
    "kept": "bold cyan",
    "special": "dim",
    "unknown": "yellow",
}
FATES: tuple[Mark, ...] = ("target", "masked", "random", "kept")
BRACKETED: tuple[Mark, ...] = ("target", "random", "kept")


def show_examples(examples: Sequence[Example], console: Console) -> None:
    """Print examples: cells as rows of a table, images side by side, others each in a frame."""
    for layout, alike in groupby(examples, _layout):
        layout(list(alike), console)
    if console.color_system is not None and not console.no_color and any(map(_has_targets, examples)):
        console.print(Text(" · ").join(Text(fate, STYLES[fate]) for fate in FATES))


def _has_targets(example: Example) -> bool:
    return any(isinstance(view, Targets) for view in example.views.values())


def _layout(example: Example) -> Any:
    for view, layout in ((Cells, _table), (Image, _images)):
        if all(isinstance(shown, view) for shown in example.views.values()):
            return layout
    return _panels


def _panels(examples: Sequence[Example], console: Console) -> None:
    marked = console.color_system is None or console.no_color
    for example in examples:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, view in example.views.items():
            grid.add_row(Text(plain(name)), render(view, marked))
        about = Text(plain(example.about), "dim") if example.about else None
        console.print(Panel(Group(grid), title=Text(plain(example.title)), title_align="left", subtitle=about))


def _images(examples: Sequence[Example], console: Console) -> None:
    """A line of images for each view, as many side by side as fit."""
    coloured = console.color_system is not None and not console.no_color
    images = [[view for view in example.views.values() if isinstance(view, Image)] for example in examples]
    across = max(1, console.width // (min(images[0][0].pixels.shape[-1], WIDEST) + 2))
    for start in range(0, len(examples), across):
        group = examples[start : start + across]
        for index, name in enumerate(examples[0].views):
            grid = Table.grid(padding=(0, 2))
            grid.add_row(*(Text(plain(f"{name} {example.title}".strip()), "dim") for example in group))
            grid.add_row(*(half_blocks(views[index].pixels, coloured) for views in images[start : start + across]))
            console.print(grid)


def _table(examples: Sequence[Example], console: Console) -> None:
    """A line for each view."""
    columns = list(dict.fromkeys(name for example in examples for name in _cells(next(iter(example.views.values())))))
    several = len(examples[0].views) > 1
    names = columns[:MOST_COLUMNS]
    table = Table("", *([""] if several else []), *map(plain, names), box=None, header_style="bold", pad_edge=False)
    for example in examples:
        for line, (name, view) in enumerate(example.views.items()):
            head = [plain(example.title) if line == 0 else "", *([plain(name)] if several else [])]
            table.add_row(*map(Text, (*head, *(_cell(_cells(view).get(column)) for column in names))))
    console.print(table)
    if len(columns) > MOST_COLUMNS:
        console.print(Text(f"… {len(columns) - MOST_COLUMNS:,} more columns", "dim"))


def _cells(view: View) -> dict[str, Any]:
    return view.cells if isinstance(view, Cells) else {}


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return number(value) if isinstance(value, int | float) else plain(str(value))


def render(view: View, marked: bool = False) -> RenderableType:
    """One view, for printing. marked: marks are shown by characters instead of colours."""
    if isinstance(view, Tokens):
        return _tokens(view, marked)
    if isinstance(view, Targets):
        return _targets(view)
    if isinstance(view, Lines):
        return _lines(view)
    if isinstance(view, Image):
        return half_blocks(view.pixels, not marked)
    if isinstance(view, Cells):
        return Text(", ".join(f"{plain(name)} {_cell(value)}" for name, value in view.cells.items()))
    if isinstance(view, Frames):
        return spectrogram(view)
    return waveform(view)


def _tokens(view: Tokens, marked: bool) -> Text:
    text = Text()
    for token in view.tokens:
        piece = plain(token.text)
        if token.opens:
            text.append("\n")
            piece = piece.lstrip()
        bare = piece.lstrip(" ")
        text.append(piece[: len(piece) - len(bare)])
        text.append(f"‹{bare}›" if marked and token.mark in BRACKETED else bare, STYLES.get(token.mark, ""))
    return text


def _targets(view: Targets) -> Text:
    """Every target with its position, and with the network's input there unless it is a mask."""
    text = Text()
    for target in view.targets:
        if text:
            text.append(" · ", "dim")
        text.append(f"{target.position} ", "dim").append(plain(target.text), STYLES["target"])
        if target.mark == "random":
            text.append(" (saw ").append(plain(target.seen), STYLES["random"]).append(")")
        elif target.mark == "kept":
            text.append(" (").append("kept", STYLES["kept"]).append(")")
    return text


def _lines(view: Lines) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    for line in view.lines:
        grid.add_row(Text("–", "dim"), Text(plain(line)))
    if view.num_more:
        grid.add_row("", Text(f"… {view.num_more:,} more", "dim"))
    return grid


def half_blocks(pixels: np.ndarray, coloured: bool = True) -> Text:
    """An image [C, H, W] in 0 … 1, C = 1 or 3, as half blocks: the upper pixel in front, the lower behind.

    Without colours, each cell is a shade, by the mean of both pixels. Images wider than `WIDEST` cells are subsampled.
    """
    channels, width = pixels.shape[0], pixels.shape[2]
    step = -(-width // WIDEST)
    values = np.rint(np.clip(pixels[:, ::step, ::step], 0, 1) * 255).astype(int)
    if values.shape[1] % 2:
        values = np.concatenate([values, np.zeros_like(values[:, :1])], 1)
    if not coloured:
        levels = values.mean(0).reshape(values.shape[1] // 2, 2, -1).mean(1) / 256 * len(SHADES)
        return Text("\n".join("".join(SHADES[level] for level in row) for row in levels.astype(int)) + "\n")
    colours = np.broadcast_to(values, (3, *values.shape[1:])) if channels == 1 else values
    text = Text()
    for y in range(0, values.shape[1], 2):
        for x in range(values.shape[2]):
            front, back = ("#{:02x}{:02x}{:02x}".format(*colours[:, row, x]) for row in (y, y + 1))
            text.append("▀", f"{front} on {back}")
        text.append("\n")
    return text


def spectrogram(view: Frames) -> Text:
    """Frames [T, F] as shades from the smallest to the largest value; time to the right, high frequencies on top."""
    values = np.asarray(view.values, np.float64)
    length = len(values) / view.rate if view.rate else 0.0
    caption = f"{len(values):,} frames of {values.shape[1]:,}, {length:.2f} s"
    if not values.size:
        return Text(caption, "dim")
    values = _means(_means(values, MOST_FRAMES, 0), MOST_BANDS, 1).T[::-1]
    low, high = values.min(), values.max()
    levels = np.rint((values - low) / max(high - low, 1e-12) * (len(SHADES) - 1)).astype(int)
    text = Text("\n".join("".join(SHADES[level] for level in band) for band in levels))
    return text.append(f"\n{caption}", "dim")


def waveform(view: Wave) -> Text:
    """Samples [T] as bars: the largest amplitude in each column."""
    samples = np.abs(np.asarray(view.samples, np.float64))
    length = len(samples) / view.rate if view.rate else 0.0
    caption = f"{len(samples):,} samples, {length:.2f} s"
    if not samples.size:
        return Text(caption, "dim")
    heights = np.maximum.reduceat(samples, np.arange(0, len(samples), -(-len(samples) // MOST_FRAMES)))
    eighths = np.rint(heights / max(heights.max(), 1e-12) * WAVE_LINES * 8).astype(int)
    lines = [
        "".join(EIGHTHS[level] for level in np.clip(eighths - 8 * line, 0, 8)) for line in reversed(range(WAVE_LINES))
    ]
    return Text("\n".join(lines)).append(f"\n{caption}", "dim")


def _means(values: np.ndarray, num_parts: int, axis: int) -> np.ndarray:
    """Means over at most `num_parts` parts of equal length along an axis of a matrix; the last part may be shorter."""
    step = -(-values.shape[axis] // num_parts)
    starts = np.arange(0, values.shape[axis], step)
    lengths = np.diff([*starts, values.shape[axis]])
    return np.add.reduceat(values, starts, axis) / np.expand_dims(lengths, 1 - axis)
