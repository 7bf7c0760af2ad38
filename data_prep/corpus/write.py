"""Writes the files of a corpus of arrays: rows into their splits, rejected rows with reasons into a separate file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.corpus.decide import ROWS_IN_MEMORY, ArrayDecision
from data_prep.corpus.documents import REJECT_SCHEMA
from data_prep.corpus.draft import Writing
from data_prep.corpus.split_files import cut
from data_prep.corpus.unit import REJECTS, batches_of
from data_prep.sealed import digest, mapped


def write(job: Writing) -> dict[str, dict[str, Any]]:
    """Copy a unit's rows, in order, into one file per split; returns the summary of each file."""
    summaries: dict[str, dict[str, Any]] = {}
    labels: dict[str, Counter[str | None]] = {}
    for split, rows in cut(job, batches_of(job.folder / "rows.arrow")):
        entry = summaries.setdefault(split, {"file": f"{split}/{job.file}", "rows": 0})
        entry["rows"] += rows.num_rows
        counted = labels.setdefault(split, Counter())
        for label in pc.value_counts(rows["label"]).to_pylist():
            counted[label["values"]] += label["counts"]
    for split, entry in summaries.items():
        entry["digest"] = digest(mapped(job.out / entry["file"]))
        entry["labels"] = {label: labels[split][label] for label in sorted(filter(None, labels[split]))}
    return summaries


def write_rejects(read_folders: Sequence[Path], folders: Sequence[Path], decided: ArrayDecision, path: Path) -> None:
    """Write the rejects of each unit: rows that could not be used, then copies of other rows."""
    units = np.searchsorted(decided.starts, decided.copies, side="right") - 1
    with pa.ipc.new_file(str(path), REJECT_SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for number, both in enumerate(zip(read_folders, folders, strict=True)):
            for batch in (batch for folder in dict.fromkeys(both) for batch in batches_of(folder / REJECTS)):
                writer.write_batch(batch)
            first, last = np.searchsorted(units[:, 0], [number, number + 1])
            for begin in range(first, last, ROWS_IN_MEMORY):
                chunk = slice(begin, min(begin + ROWS_IN_MEMORY, last))
                source, position = _places(folders, decided, decided.copies[chunk, 0], units[chunk, 0])
                other, where = _places(folders, decided, decided.copies[chunk, 1], units[chunk, 1])
                reason = pc.binary_join_element_wise("duplicate of ", other, ":", where.cast(pa.string()), "")
                nothing = pa.array([""] * len(source), pa.string())
                writer.write_batch(pa.record_batch([source, position, reason, nothing], schema=REJECT_SCHEMA))


def _places(
    folders: Sequence[Path], decided: ArrayDecision, rows: np.ndarray, units: np.ndarray
) -> tuple[pa.Array, pa.Array]:
    """Source and position of rows, in the given order."""
    sources, positions, order = [], [], np.argsort(units, kind="stable")
    for unit in np.unique(units).tolist():
        mine = rows[order[units[order] == unit]] - decided.starts[unit]
        table = pa.ipc.open_file(pa.memory_map(str(folders[unit] / "rows.arrow"))).read_all()
        chosen = table.select(["source", "position"]).take(pa.array(mine))
        sources.append(chosen["source"].cast(pa.string()).combine_chunks())
        positions.append(chosen["position"].combine_chunks())
    back = pa.array(np.argsort(order, kind="stable"))
    return pa.concat_arrays(sources).take(back), pa.concat_arrays(positions).take(back)
