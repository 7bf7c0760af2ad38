"""Writes the files of a corpus of text: rows into their splits, rejects with reasons into a separate file."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.arrow import pc
from data_prep.corpus.documents import DOCUMENT_SCHEMA, REJECT_SCHEMA
from data_prep.corpus.draft import REJECTED, Writing
from data_prep.corpus.row_writer import Writer
from data_prep.corpus.split_files import cut
from data_prep.sealed import digest, mapped
from data_prep.text.ingest.decide import TextDecision, taken_by
from data_prep.text.rules.spans import TOO_LITTLE, without_marked


def write(job: Writing) -> dict[str, dict[str, Any]]:
    """Copy a unit's rows, in order, into one file per split; returns the counts of each file."""
    counts: dict[str, dict[str, Any]] = {}
    for split, rows in cut(job, _documents(job)):
        entry = counts.setdefault(
            split, {"file": f"{split}/{job.file}", "documents": 0, "sentences": 0, "characters": 0}
        )
        sentences = rows["sentences"].flatten()
        entry["documents"] += rows.num_rows
        entry["sentences"] += len(sentences)
        entry["characters"] += pc.sum(pc.utf8_length(sentences)).as_py() or 0
    for entry in counts.values():
        entry["digest"] = digest(mapped(job.out / entry["file"]))
    return counts


def _documents(job: Writing) -> Iterator[pa.RecordBatch]:
    """The documents of a unit, without the sentences that are marked."""
    first = 0
    for batch in _batches(job.folder / "documents.arrow"):
        batch = batch.select(DOCUMENT_SCHEMA.names)
        if job.marks is not None:
            sentences, at = batch["sentences"], batch.schema.get_field_index("sentences")
            first, span = first + len(sentences.flatten()), slice(first, first + len(sentences.flatten()))
            marked, numbers = job.marks.read(span), batch["paragraphs"]
            batch = batch.set_column(at, "sentences", without_marked(sentences, marked))
            at = batch.schema.get_field_index("paragraphs")
            batch = batch.set_column(at, "paragraphs", without_marked(numbers, marked))
        yield batch


def write_rejects(decided: TextDecision, out_dir: Path) -> None:
    """Write all rejects in reading order: those of the units, and the rows that repeat others."""
    table = decided.table
    with Writer(out_dir / "rejects.arrow", REJECT_SCHEMA) as writer:
        for unit, folder in enumerate(table.folders):
            span = table.span(unit)
            own = (row for batch in _batches(folder / "rejects.arrow") for row in batch.to_pylist())
            repeats = np.flatnonzero(decided.split_of[span] == REJECTED)
            rejects = heapq.merge(own, _repeats(decided, unit, repeats), key=lambda reject: reject["row"])
            for reject in rejects:
                writer.write([reject[name] for name in REJECT_SCHEMA.names], len(reject["reason"]))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_file(str(path)) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _repeats(decided: TextDecision, unit: int, repeats: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rejects of the rows `repeats` of a unit, in their order."""
    table, first = decided.table, 0
    for batch in _batches(table.folders[unit] / "documents.arrow") if len(repeats) else ():
        inside = repeats[(repeats >= first) & (repeats < first + batch.num_rows)]
        rows = inside + table.span(unit).start
        copy_of, near = decided.copy_of[rows], decided.near[rows].tolist()
        other = np.where(copy_of >= 0, copy_of, decided.name_of[rows])
        others = table.names(np.maximum(other, 0))
        chosen = batch.take(pa.array(inside - first)).to_pylist()
        for place, (row, is_near, (name, source)) in enumerate(zip(chosen, near, others, strict=True)):
            if other[place] < 0:
                reason = TOO_LITTLE
            elif copy_of[place] < 0:
                reason = taken_by(row["name"], source)
            else:
                reason = f"{'near ' * is_near}duplicate of {name}"
            yield {**row, "reason": reason, "excerpt": " ".join(row["sentences"])[:80]}
        first += batch.num_rows
