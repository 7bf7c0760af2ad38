"""Renders blocks of statistics as tables for MLflow, figures and a page, for any kind of data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from data_prep.legible import escaped
from data_prep.stats.blocks import Bars, Block, Curves, Histogram, Note, Table, Value
from pipeline.reports import tables
from pipeline.reports.data import COLOURS, literal, new_axes, save


def write_tables(blocks: Iterable[Block], folder: Path) -> None:
    """Write a file for every table; MLflow shows them as tables."""
    chosen = {block.name: block for block in blocks if isinstance(block, Table)}
    tables.write(
        {name: tables.Table(list(table.columns), [list(row) for row in table.rows]) for name, table in chosen.items()},
        folder,
    )


def draw(blocks: Iterable[Block], folder: Path) -> None:
    """Draw a PNG for every histogram, bar chart and set of curves."""
    for block in blocks:
        path = folder / _file(block)
        if isinstance(block, Histogram):
            _histogram(block, path)
        elif isinstance(block, Bars):
            _bars(block, path)
        elif isinstance(block, Curves):
            _curves(block, path)


def page(title: str, blocks: Iterable[Block]) -> str:
    """The blocks as Markdown, next to the folder `figures`."""
    lines = [f"# Data of {escaped(title)}", ""]
    for block in blocks:
        if isinstance(block, Note):
            lines += [escaped(block.text), ""]
        elif isinstance(block, Table):
            if block.rows:
                lines += [f"## {escaped(block.title)}", "", *_markdown(block), ""]
        else:
            lines += [f"![{escaped(block.name)}](figures/{quote(_file(block))})", ""]
    return "\n".join(lines)


def _file(block: Block) -> str:
    return "" if isinstance(block, Note) else f"{block.name}.png"


def _histogram(block: Histogram, path: Path) -> None:
    figure, axes = new_axes(block.title, block.unit, f"share of {block.items}")
    for index, (name, (edges, counts)) in enumerate(block.series.items()):
        shares = [count / max(sum(counts), 1) for count in counts]
        colour, dashed = COLOURS[index % len(COLOURS)], name.startswith("validation")
        if index == 0:
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.15)
        style = "--" if dashed else "-"
        axes.stairs(shares, edges, color=colour, linewidth=1.6, linestyle=style, label=_label(name, 48))
    if block.logarithmic:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=9)
    save(figure, path)


def _bars(block: Bars, path: Path) -> None:
    """A stacked bar for each name."""
    names = list(dict.fromkeys(name for counts in block.parts.values() for name in counts))
    figure, axes = new_axes(_label(block.title, 80), block.unit, "")
    figure.set_size_inches(6.4, 1.2 + 0.32 * len(names))
    left = [0] * len(names)
    for index, (part, counts) in enumerate(block.parts.items()):
        widths = [counts.get(name, 0) for name in names]
        axes.barh(range(len(names)), widths, 0.7, left, label=_label(part), color=COLOURS[index % len(COLOURS)])
        left = [before + width for before, width in zip(left, widths, strict=True)]
    for place, total in enumerate(left):
        axes.text(total, place, f" {total:,}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), [literal(_label(name, 44)) for name in names], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False)
    if len(block.parts) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    save(figure, path)


def _curves(block: Curves, path: Path) -> None:
    figure, axes = new_axes("", block.x, block.y)
    axes.set_title(_label(block.title, 90), loc="left", fontsize=10, y=1.04)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for index, (name, (x, y)) in enumerate(block.series.items()):
        colour, style = COLOURS[index % len(COLOURS)], "--" if name == "validation" else "-"
        axes.plot(x, y, color=colour, linestyle=style, linewidth=1.6, label=_label(name), zorder=3)
    if block.series:
        x, y = next(iter(block.series.values()))
        if block.reference:
            ends = [x[0], x[-1]], [y[0], y[0] * x[0] / x[-1]]
            axes.plot(*ends, color="0.6", linestyle=":", linewidth=1.2, label=block.reference)
        above, sides = axes.get_xaxis_transform(), ("center", "right", "left")
        for index, (label, place) in enumerate(block.marks.items()):
            axes.axvline(place, color="0.75", linewidth=0.8, zorder=1)
            side = sides[index % len(sides)]
            axes.text(place, 1.005, _label(label), transform=above, ha=side, fontsize=7, color="0.4")
        axes.legend(frameon=False, fontsize=9, loc="lower left")
    save(figure, path)


def _label(text: str, longest: int = 30) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _markdown(table: Table) -> list[str]:
    columns: Sequence[Any] = table.columns
    numeric = [all(not isinstance(row[place], str) for row in table.rows) for place in range(len(columns))]
    return [
        f"| {' | '.join(escaped(column.replace('_', ' ')) for column in columns)} |",
        f"|{'|'.join('---:' if right else '---' for right in numeric)}|",
        *(f"| {' | '.join(map(_cell, row))} |" for row in table.rows),
    ]


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else escaped(value)
