"""What tables and pictures look like in numbers (`sesame stats`)."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.stats import columns
from flows.show.readable import number, plain
from pipeline.artifact import Artifact
from pipeline.reports.describe import STATS


def of_arrays(artifact: Artifact) -> bool:
    """Whether it holds rows of a table or pictures."""
    return artifact.stage in ("ingest", "shards") and artifact.config["kind"] != "text"


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
