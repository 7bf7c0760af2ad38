"""Prints blocks of statistics on a terminal, by type of block and for any kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from data_prep.legible import plain
from data_prep.stats.blocks import Bars, Block, Histogram, Note, Table, Value
from flows.show.readable import number

BAR = 30  # cells of the longest bar
EIGHTHS = " ▏▎▍▌▋▊▉█"


def show_blocks(blocks: Sequence[Block], console: Console) -> None:
    """Print blocks in order, except curves, which are only for figures."""
    for block in blocks:
        if isinstance(block, Note):
            console.print(Text(plain(block.text), "dim"))
        elif isinstance(block, Table):
            _table(block, console)
        elif isinstance(block, Histogram):
            for name, (edges, counts) in block.series.items():
                _heading(console, block.title, f"{name}, {block.unit}")
                ranges = [f"{number(low)}–{number(high)}" for low, high in pairwise(edges)]
                bars(console, list(zip(ranges, counts, strict=True)))
        elif isinstance(block, Bars):
            _heading(console, block.title, block.unit)
            totals: dict[str, int] = {}
            for counts in block.parts.values():
                for name, count in counts.items():
                    totals[name] = totals.get(name, 0) + count
            bars(console, [(plain(name), count) for name, count in totals.items()])


def _table(block: Table, console: Console) -> None:
    if not block.rows:
        return
    _heading(console, block.title)
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(block.columns):
        is_number = all(not isinstance(row[index], str) for row in block.rows)
        grid.add_column(plain(column.replace("_", " ")), justify="right" if is_number else "left")
    for row in block.rows:
        grid.add_row(*(Text(_cell(value)) for value in row))
    console.print(grid)


def _cell(value: Value) -> str:
    if value is None:
        return ""
    return plain(value) if isinstance(value, str) else number(value)


def _heading(console: Console, title: str, about: str = "") -> None:
    console.print(Text(f"\n{plain(title)}", "bold").append(f"  {plain(about)}" if about else "", "not bold dim"))


def bars(console: Console, items: Sequence[tuple[str, int]], total: int | None = None, width: int = BAR) -> None:
    """Print a line for each item: name, bar, count and its share of `total` (default: the sum of the counts).

    width: cells of the longest bar; shorter bars leave more room for names.
    """
    total = total or sum(count for _, count in items)
    longest = max((count for _, count in items), default=0)
    grid = Grid.grid(padding=(0, 1))
    grid.add_column(justify="right", no_wrap=True, overflow="ellipsis", min_width=16, max_width=28 + BAR - width)
    grid.add_column(width=width, no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, min_width=9)
    grid.add_column(justify="right", no_wrap=True, min_width=7)
    for name, count in items:
        share = Text(percent(count / max(total, 1)), "dim")
        grid.add_row(Text(name), Text(bar(count, longest, width), "cyan"), f"{count:,}", share)
    if items:
        console.print(grid)


def bar(count: int, longest: int, width: int = BAR) -> str:
    """A bar with a resolution of an eighth of a cell, `width` cells for `longest`; any count above 0 is visible."""
    if not count:
        return ""
    eighths = max(1, round(count / longest * width * 8))
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def percent(share: float) -> str:
    """A share in 0 … 1 as per cent with one or two decimals; 0 % and 100 % only if exact."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if value < 0.1:
        return f"{value:.2f} %" if value >= 0.005 else "<0.01 %"
    return f"{min(value, 99.9):.1f} %"
