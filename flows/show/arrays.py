"""Shows tables and pictures: rows of their corpora and shards (`sesame peek`), and what they are in numbers (`stats`).

A picture is drawn in half blocks, two pixels a cell; a row of a table with its columns' own values. Where training adds
noise, what the network sees stands beside what it has to rebuild.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.corruptions import CorruptionConfig, build
from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.format import Shards
from data_prep.shards.rows import Rows
from data_prep.shards.streams import stream_of
from data_prep.stats import columns
from data_prep.tables.transform import FILE, Transform
from flows.show.readable import number, plain
from pipeline.artifact import Artifact
from pipeline.reports.describe import STATS

MOST_COLUMNS = 12  # of a table, on a terminal
WIDEST = 40  # cells of a picture


def of_arrays(artifact: Artifact) -> bool:
    """Whether it holds rows of a table or pictures."""
    return artifact.stage in ("ingest", "shards") and artifact.config["kind"] != "text"


def peek(
    artifact: Artifact,
    preprocessor: Path | None,
    split: str,
    index: range,
    console: Console,
    corruption: CorruptionConfig | None,
    seed: int,
    name: str,
) -> None:
    """Print rows of a split. preprocessor: folder; corruption, seed, name: of the recipe that trains on these shards.

    Raises UserError where there is no such split or row.
    """
    rows, total, classes = _read(artifact, split, index)
    console.print(Text(f"rows {index.start:,}–{index.start + len(rows['row']) - 1:,} of {total:,} in {split}", "dim"))
    if corruption is not None:
        kind = "validation" if split == "validation" else "train"
        keys = Draws(key(seed, *stream_of(kind, name)), 0, np.asarray(rows["row"]))
        rows = build(corruption)(rows, keys)
    names = [classes[label] if label >= 0 else "none" for label in np.asarray(rows["label"]).tolist()]
    views = {"sees": rows["seen"], "rebuilds": rows["input"]} if "seen" in rows else {"": rows["input"]}
    shown = {view: scaled(np.asarray(values)) for view, values in views.items()}
    if rows["input"].ndim == 4:  # type: ignore[union-attr]
        _pictures(shown, names, console)
        return
    transform = preprocessor / FILE if preprocessor else None
    _columns(shown, names, Transform.load(transform) if transform and transform.is_file() else None, console)


def _read(artifact: Artifact, split: str, index: range) -> tuple[Rows, int, list[str]]:
    """Rows, how many there are in all, and the names of classes."""
    if artifact.stage == "ingest":
        raise UserError(f"{artifact.key}: `sesame stats` shows a corpus of rows, and peek the shards made of it")
    if split not in artifact.summary["parts"]:
        raise UserError(f"{artifact.key} has no split {split!r}; it has {', '.join(artifact.summary['parts'])}")
    table = Shards(artifact.path / split)
    if index.start >= table.rows:
        raise UserError(f"{artifact.key} has {table.rows:,} rows in {split}, so none is number {index.start:,}")
    rows = table.read(np.arange(index.start, min(index.stop, table.rows)))
    return rows, table.rows, _classes(artifact)


def _classes(artifact: Artifact) -> list[str]:
    stats = json.loads((artifact.path / STATS).read_text(encoding="utf-8"))
    return stats["names"]


def _pictures(views: dict[str, np.ndarray], names: list[str], console: Console) -> None:
    """Each view a line of pictures, as many beside each other as fit."""
    width = next(iter(views.values())).shape[-1]
    across = max(1, console.width // (min(width, WIDEST) + 2))
    for start in range(0, len(names), across):
        some = slice(start, start + across)
        for view, pictures in views.items():
            grid = Table.grid(padding=(0, 2))
            grid.add_row(*(Text(plain(name if not view else f"{view} ({name})"), "dim") for name in names[some]))
            grid.add_row(*(drawn(picture) for picture in pictures[some]))
            console.print(grid)


def drawn(picture: np.ndarray) -> Text:
    """A picture [C, H, W] in 0 … 1 as half blocks: the upper pixel in front of the lower one."""
    channels, width = picture.shape[0], picture.shape[2]
    step = -(-width // WIDEST)
    values = np.rint(np.clip(picture[:, ::step, ::step], 0, 1) * 255).astype(int)
    if values.shape[1] % 2:
        values = np.concatenate([values, np.zeros_like(values[:, :1])], 1)
    colours = np.broadcast_to(values, (3, *values.shape[1:])) if channels == 1 else values
    text = Text()
    for y in range(0, values.shape[1], 2):
        for x in range(values.shape[2]):
            front, back = ("#{:02x}{:02x}{:02x}".format(*colours[:, row, x]) for row in (y, y + 1))
            text.append("▀", f"{front} on {back}")
        text.append("\n")
    return text


def _columns(views: dict[str, np.ndarray], names: list[str], transform: Transform | None, console: Console) -> None:
    """Each row a line in each view, in the units of the table."""
    called: list[str] = []
    cells: dict[str, list[list[str]]] = {}
    for view, values in views.items():
        if transform is None:
            called = [f"{i}" for i in range(values.shape[1])]
            cells[view] = [[number(float(value)) for value in row] for row in values]
            continue
        batch = transform.invert(values)
        called = [name for name in batch.schema.names if name not in transform.dropped]
        cells[view] = [[_cell(row[name]) for name in called] for row in batch.to_pylist()]
    table = Table("class", *([""] if len(views) > 1 else []), *map(plain, called[:MOST_COLUMNS]), box=None)
    for place, name in enumerate(names):
        for line, (view, rows) in enumerate(cells.items()):
            head = [plain(name) if line == 0 else "", *([view] if len(views) > 1 else [])]
            table.add_row(*head, *(plain(cell) for cell in rows[place][:MOST_COLUMNS]))
    console.print(table)
    if len(called) > MOST_COLUMNS:
        console.print(Text(f"… {len(called) - MOST_COLUMNS:,} more columns", "dim"))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return number(value) if isinstance(value, int | float) else str(value)


def gather(artifact: Artifact) -> dict[str, Any]:
    """What `sesame stats` tells of a corpus or shards of arrays, as plain values."""
    found: dict[str, Any] = {"artifact": artifact.key, "stage": artifact.stage}
    if artifact.stage == "shards":
        return found | json.loads((artifact.path / STATS).read_text(encoding="utf-8"))
    return found | columns.of_corpus(artifact.path) | {"ingested": artifact.summary}


def show(artifact: Artifact, found: dict[str, Any], console: Console) -> None:
    """Print what `gather` found."""
    console.print(Text.assemble((artifact.key, "bold"), f" · {artifact.stage}"))
    classes = list(dict.fromkeys(name for split in found["splits"].values() for name in split["classes"]))
    table = Table("split", "rows", *map(plain, classes), box=None, header_style="bold", pad_edge=False)
    for name, split in found["splits"].items():
        table.add_row(name, f"{split['rows']:,}", *(f"{split['classes'].get(one, 0):,}" for one in classes))
    console.print(table)
    if "pixels" in found:
        pixels, shape = found["pixels"], " × ".join(map(str, found["shape"]))
        console.print(f"{shape}, mean {pixels['mean']:.3f}, standard deviation {pixels['std']:.3f} (of 0 to 1)")
        return
    console.print(Text("\nColumns", "bold").append(" of training rows", "dim"))
    columns = ("column", "kind", "missing", "mean", "std", "min", "max", "categories")
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    dropped = artifact.summary.get("dropped", {})
    for one in found["columns"]:
        values = (one.get(name) for name in ("mean", "std", "min", "max"))
        frequent = ", ".join(f"{level} {count:,}" for level, count in list(one.get("frequent", {}).items())[:4])
        more = f"{one['levels']:,}: {frequent}" if "levels" in one else dropped.get(one["name"], "")
        table.add_row(
            plain(one["name"]),
            one["kind"],
            f"{one['missing']:,}" if one["missing"] else "",
            *("" if value is None else _cell(value) for value in values),
            plain(more),
        )
    console.print(table)
