"""Writes the files of a corpus of text: rows into their splits, rejects with reasons into a separate file."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.corpus.documents import DOCUMENT_SCHEMA, REJECT_SCHEMA, SPLITS
from data_prep.corpus.draft import REJECTED, Writing
from data_prep.corpus.row_writer import Writer
from data_prep.sealed import digest, mapped
from data_prep.text.ingest.decide import TextDecision, taken_by
from data_prep.text.rules.spans import TOO_LITTLE, without_marked


def write(job: Writing) -> dict[str, dict[str, Any]]:
    """Copy a unit's rows, in order, into one file per split; returns the counts of each file."""
    counts: dict[str, dict[str, Any]] = {s: {"documents": 0, "sentences": 0, "characters": 0} for s in SPLITS}
    start = first = 0
    with ExitStack() as stack:
        writers: dict[str, pa.RecordBatchFileWriter] = {}
        reader = stack.enter_context(pa.ipc.open_file(str(job.folder / "documents.arrow")))
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number).select(DOCUMENT_SCHEMA.names)
            split_of = job.split_of[start : start + batch.num_rows]
            start += batch.num_rows
            if job.marks is not None:
                sentences, at = batch["sentences"], batch.schema.get_field_index("sentences")
                first, span = first + len(sentences.flatten()), slice(first, first + len(sentences.flatten()))
                marked, numbers = job.marks.read(span), batch["paragraphs"]
                batch = batch.set_column(at, "sentences", without_marked(sentences, marked))
                at = batch.schema.get_field_index("paragraphs")
                batch = batch.set_column(at, "paragraphs", without_marked(numbers, marked))
            for code, split in enumerate(SPLITS):
                chosen = batch.filter(pa.array(split_of == code))
                if not chosen.num_rows:
                    continue
                if split not in writers:
                    (job.out / split).mkdir(exist_ok=True)
                    sink = pa.ipc.new_file(str(job.out / split / job.file), DOCUMENT_SCHEMA)
                    writers[split] = stack.enter_context(sink)
                writers[split].write_batch(chosen)
                sentences = chosen["sentences"].flatten()
                counts[split]["documents"] += chosen.num_rows
                counts[split]["sentences"] += len(sentences)
                counts[split]["characters"] += pc.sum(pc.utf8_length(sentences)).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    return {
        split: {"file": f"{split}/{job.file}", **counts[split], "digest": digest(mapped(job.out / split / job.file))}
        for split in writers
    }


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
