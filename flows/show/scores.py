"""Prints the most unusual rows in a file of scores, and the reasons."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.arrow import pc
from data_prep.legible import plain

MOST_ROWS, MOST_REASONS = 5, 3


def show_alarms(path: Path, out: Console) -> None:
    """Print the flagged rows with the highest scores: place, score, and the columns with the largest shares of it.

    path: Arrow file that `sesame score` wrote. Prints nothing if no row is flagged.
    """
    with pa.memory_map(str(path)) as file:
        scores = pa.ipc.open_file(file).read_all()
        flagged = pc.fill_null(scores["flag"], False)
        num_alarms = pc.sum(flagged).as_py() or 0
        if not num_alarms:
            return
        # Of a file of any size, only scores are looked at, and a few rows read.
        among = pa.table({"score": pc.if_else(flagged, scores["score"], None)})
        highest = pc.select_k_unstable(among, min(MOST_ROWS, num_alarms), sort_keys=[("score", "descending")])
        rows = scores.take(highest).to_pylist()
    table = Table(
        "source",
        "row",
        "score",
        "share of it that would go if it were usual",
        "outside of what was learned",
        box=None,
        header_style="bold",
    )
    for row in rows:
        reasons = sorted(row["reasons"] or (), key=lambda reason: -reason["share"])[:MOST_REASONS]
        shares = ", ".join(f"{plain(reason['column'])} {reason['share']:.0%}" for reason in reasons)
        said = next((f"{plain(reason['column'])} {plain(reason['why'])}" for reason in reasons if reason["why"]), "")
        table.add_row(*map(Text, (plain(row["source"]), f"{row['position']:,}", f"{row['score']:.4g}", shares, said)))
    out.print(table)
    if num_alarms > MOST_ROWS:
        out.print(Text(f"… {num_alarms - MOST_ROWS:,} more", "dim"))
