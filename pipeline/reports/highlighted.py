"""Texts whose words are coloured by numbers, as a PNG file."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.reports.data import COLOURS, DOTS_PER_INCH, literal, save

WIDTH = 96  # columns of a line: those of a Latin letter
LINES = 8  # of a passage; the rest is left out
FONT = 8.5  # points
COLUMN, LINE = 0.6 * FONT / 72, 1.7 * FONT / 72  # inches: the advance of a letter of the monospaced font, and of a line


class Passage(NamedTuple):
    """A heading, and a text in pieces, of which some have a number."""

    heading: str
    pieces: Sequence[tuple[str, float | None]]


class Placed(NamedTuple):
    """A piece of a line at a column."""

    text: str
    line: int
    column: int
    columns: int
    value: float | None


def highlighted(title: str, passages: Sequence[Passage], path: Path) -> Path:
    """A block for each passage: positive numbers orange, negative ones blue, the stronger the larger in the passage."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    blocks = [list(laid_out(passage.pieces)) for passage in passages]
    heights = [2 + max((placed.line for placed in block), default=0) + 1 for block in blocks]
    size = (COLUMN * (WIDTH + 2), LINE * (sum(heights) + 2))
    figure, axes = pyplot.subplots(figsize=size)
    figure.subplots_adjust(0, 0, 1, 1)
    axes.set_axis_off()
    axes.set_xlim(-1, WIDTH + 1)
    axes.set_ylim(sum(heights) + 1, -1)
    axes.text(0, -0.3, literal(title), fontsize=11, va="center")
    top = 1
    for passage, block, height in zip(passages, blocks, heights, strict=True):
        axes.text(0, top, literal(passage.heading), fontsize=FONT, va="center", weight="bold")
        most = max((abs(value) for _, value in passage.pieces if value is not None), default=0.0) or 1.0
        for placed in block:
            middle = top + 1 + placed.line
            if placed.value:
                colour, alpha = COLOURS[1 if placed.value > 0 else 0], 0.75 * abs(placed.value) / most
                corner = (placed.column, middle - 0.45)
                axes.add_patch(Rectangle(corner, placed.columns, 0.9, color=colour, alpha=alpha, linewidth=0))
            axes.text(placed.column, middle, literal(placed.text), fontsize=FONT, va="center", family="monospace")
        top += height
    return save(figure, path)


def laid_out(pieces: Iterable[tuple[str, float | None]], width: int = WIDTH) -> Iterator[Placed]:
    """The pieces on lines of `width` columns: broken at blanks, or anywhere if a part alone is wider than a line."""
    line = column = 0
    for text, value in pieces:
        for part in _parts(text, width):
            columns = columns_of(part)
            if column and column + columns_of(part.rstrip()) > width:
                line, column = line + 1, 0
            if line == LINES:
                return
            if not column:
                part = part.lstrip()
                columns = columns_of(part)
            if part:
                yield Placed(part, line, column, columns, value)
            column += columns


def _parts(text: str, width: int) -> Iterator[str]:
    """A text cut before each blank, and where it is wider than a line."""
    part = ""
    for character in text.replace("\n", " ").replace("\t", " "):
        if part and (character == " " or columns_of(part + character) > width):
            yield part
            part = ""
        part += character
    if part:
        yield part


def columns_of(text: str) -> int:
    """Columns of a monospaced font: none for marks on letters, two for wide characters."""
    wide = (1 + (unicodedata.east_asian_width(character) in "WF") for character in text if not _is_mark(character))
    return sum(wide)


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) > 0 or unicodedata.category(character) in ("Mn", "Cf")


__all__ = ["DOTS_PER_INCH", "Passage", "highlighted", "laid_out"]
