"""Reader for a corpus of arrays: memory-mapped typed columns, pixels or samples, with class numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from data_prep.arrow import pc
from data_prep.corpus.documents import INDEX, SPLITS
from data_prep.corpus.schema import TableSchema
from data_prep.errors import UserError
from data_prep.sealed import digest, mapped, unsealed
from data_prep.shards.rows import Ragged

NO_LABEL = -1


class ArrayBatch(NamedTuple):
    """Rows of a corpus of arrays."""

    input: Any
    """Tables: the columns (RecordBatch) including nulls; images: uint8 [R, C, H, W]; sound: Ragged of int16 samples."""
    label: np.ndarray
    """[R] int64: index of the class in `ArrayCorpus.classes`, −1 for unlabelled rows."""
    row: np.ndarray
    """[R] int64: index of the row in its split."""


class ArrayCorpus:
    """One split of a corpus of arrays that `data_prep.ingest` wrote. Raises UserError if it is missing or damaged.

    A file is mapped, and its digest checked, on first access.
    """

    def __init__(self, folder: Path | str, split: str = "train") -> None:
        if split not in SPLITS:
            raise UserError(f"a corpus has no split {split!r}; it has {', '.join(SPLITS)}")
        self.folder, self.split = Path(folder), split
        path = self.folder / INDEX
        try:
            index = unsealed(path.read_bytes())
            self.kind: str = index["kind"]
            self.classes: list[str] = index["classes"]
            self._files: list[tuple[Path, str]] = [
                (self.folder / file["file"], file["digest"]) for file in index["splits"][split]
            ]
            self._starts = np.cumsum([0, *(file["rows"] for file in index["splits"][split])])
            self.schema = TableSchema.of_json(index["schema"]) if self.kind == "table" else None
            self.rate: int | None = index.get("rate")  # samples per second of recordings
            self.shape: tuple[int, ...] | None = tuple(index["shape"]) if index.get("shape") else None
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} is not a corpus of arrays ({error}); ingest it again") from error
        self._open: dict[int, pa.RecordBatchFileReader] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def batches(self, rows: int = 8192) -> Iterator[ArrayBatch]:
        """All rows in order, in batches of at most `rows`."""
        first = 0
        for number in range(len(self._files)):
            reader = self._reader(number)
            for place in range(reader.num_record_batches):
                batch = reader.get_batch(place)
                for start in range(0, batch.num_rows, rows):
                    part = batch.slice(start, rows)
                    yield self._batch(part, np.arange(first, first + part.num_rows))
                    first += part.num_rows

    def read(self, rows: ArrayLike) -> ArrayBatch:
        """The rows with these indices [R], in the given order; repeats are allowed. IndexError if out of range."""
        table, index = self._take(rows)
        return self._batch(table, index)

    def names(self, rows: ArrayLike) -> list[str]:
        """SOURCE:POSITION of each row: its place in its source."""
        table, _ = self._take(rows)
        return [f"{row['source']}:{row['position']}" for row in table.select(["source", "position"]).to_pylist()]

    def labels(self, rows: ArrayLike) -> list[str | None]:
        """The labels of rows as written in their sources, which also tell kinds of anomalies apart."""
        return self._take(rows)[0]["label"].to_pylist()

    def _take(self, rows: ArrayLike) -> tuple[pa.RecordBatch, np.ndarray]:
        index = np.asarray(rows, np.int64)
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(f"rows {index.min()} to {index.max()} of {len(self)}")
        files = np.searchsorted(self._starts, index, side="right") - 1
        order = np.argsort(files, kind="stable")
        parts = []
        for number in np.unique(files).tolist() if len(index) else range(min(1, len(self._files))):
            table = self._reader(number).read_all()
            table = table.set_column(2, "source", table["source"].cast(pa.string()))
            parts.append(table.take(pa.array(index[order[files[order] == number]] - self._starts[number])))
        if not parts:
            raise UserError(f"the split {self.split} of {self.folder} has no rows")
        back = np.argsort(order, kind="stable")
        return pa.concat_tables(parts).take(pa.array(back)).combine_chunks().to_batches()[0], index

    def _batch(self, batch: pa.RecordBatch, rows: np.ndarray) -> ArrayBatch:
        values = batch["input"]
        if self.shape is not None:
            inputs = values.flatten().to_numpy().reshape(-1, *self.shape)
        elif self.schema is None:
            lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
            inputs = Ragged.from_lengths(values.flatten().to_numpy(), lengths)
        else:
            inputs = pa.record_batch(values.flatten(), schema=pa.schema(values.type.fields))
        return ArrayBatch(inputs, self._numbers(batch["label"]), rows)

    def _numbers(self, label: pa.Array) -> np.ndarray:
        if self.schema is not None and self.schema.normal is not None:
            numbers = pc.invert(pc.is_in(label, pa.array(self.schema.normal))).cast(pa.int64())
            numbers = pc.if_else(label.is_valid(), numbers, NO_LABEL)
        else:
            numbers = pc.index_in(label, pa.array(self.classes, pa.string()), skip_nulls=True)
        return np.array(pc.fill_null(numbers, NO_LABEL), np.int64)

    def _reader(self, number: int) -> pa.RecordBatchFileReader:
        if number not in self._open:
            path, wanted = self._files[number]
            if not path.is_file() or digest(mapped(path)) != wanted:
                raise UserError(f"{path} is not what was written; delete the artifact it belongs to and run again")
            self._open[number] = pa.ipc.open_file(pa.memory_map(str(path)))
        return self._open[number]
