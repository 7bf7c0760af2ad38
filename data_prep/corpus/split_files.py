"""Cuts the rows of a unit into one file per split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import pyarrow as pa

from data_prep.corpus.documents import SPLITS
from data_prep.corpus.draft import Writing


def cut(job: Writing, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Write a unit's rows, in order, to `<split>/<file>` in `job.out`; without the rejected ones.

    Yields the split and the rows of each batch written. The files are complete once all have been taken.
    """
    start = 0
    with ExitStack() as stack:
        writers: dict[str, pa.RecordBatchFileWriter] = {}
        for batch in batches:
            split_of = job.split_of[start : start + batch.num_rows]
            start += batch.num_rows
            for code, split in enumerate(SPLITS):
                chosen = batch.filter(pa.array(split_of == code))
                if not chosen.num_rows:
                    continue
                if split not in writers:
                    (job.out / split).mkdir(exist_ok=True)
                    sink = pa.ipc.new_file(str(job.out / split / job.file), chosen.schema)
                    writers[split] = stack.enter_context(sink)
                writers[split].write_batch(chosen)
                yield split, chosen
