"""One unit of a corpus of arrays: some files of a source, which are read and cast independently of other units.

`read` writes a cached folder (`data_prep.corpus.unit_cache`):

raw.arrow        rows as they are in the files
rejects.arrow    rows that cannot be read

`cast` then uses the schema agreed over all units to write another folder:

rows.arrow       input, label, source and position of the rows kept so far
keys.u64         for each row: a 128-bit digest of input and label, and one of its group (or of its input, without one)
rejects.arrow    rows that do not fit the schema
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.corpus.content_keys import content_keys
from data_prep.corpus.documents import REJECT_SCHEMA
from data_prep.corpus.row_writer import Writer
from data_prep.errors import UserError
from data_prep.rng import absorb
from data_prep.sources.archives import SourceFile
from data_prep.sources.records import Reject

VERSION = 2  # of the output of reading; incremented when that changes
RAW, REJECTS = "raw.arrow", "rejects.arrow"
MAX_CLASSES = 10_000
_FIRST_REASONS, _MOST_REASONS = 3, 100


@dataclass(frozen=True)
class Unit:
    """Files of one source that are read one after another. Plain values that can be sent to any process."""

    source: int  # index of the source
    files: tuple[SourceFile, ...]
    key: str  # digest of everything that the rows depend on
    package: str | None = None  # that the files belong to
    split: str | None = None  # of all its rows, if its source says so

    @property
    def size(self) -> int:
        return sum(file.size + (file.beside.size if file.beside else 0) for file in self.files)

    @property
    def contents(self) -> list[tuple[str, str]]:
        parts = (part for file in self.files for part in (file, file.beside) if part)
        return [(part.name, part.digest) for part in parts]


class Cast(NamedTuple):
    """Rows as stored in the corpus."""

    input: pa.Array  # [R]: struct of columns, or a list of C·H·W uint8
    content: np.ndarray  # [R, 2] uint64: digests of the inputs
    label: pa.Array  # [R] string, null for unlabelled rows
    file: np.ndarray  # [R] int32: index of the file in its unit
    position: np.ndarray  # [R] int64
    group: np.ndarray | None = None  # [R, 2] uint64: rows with equal groups share a split; None: group by equal inputs


@dataclass
class Losses:
    """Files that are lost, wholly or from some row on: the number of their rows is unknown."""

    files: dict[str, list[Any]] = field(default_factory=dict)
    """Position and reason, by name."""
    rejects: int = 0
    """Number of rejects that stand for them."""

    def add(self, reject: Reject) -> None:
        self.rejects += 1
        self.files.setdefault(reject.source, [reject.position, reject.reason])

    def to_json(self) -> dict[str, Any]:
        return {"lost_files": self.files, "lost_rejects": self.rejects}


@dataclass
class Tally:
    """Counts of a unit's rows, labels and rejects."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: list[tuple[str, int, str]] = field(default_factory=list)
    losses: Losses = field(default_factory=Losses)

    def reject(self, reject: Reject) -> None:
        self.reasons[_without_values(reject.reason)] += 1
        if reject.lost:
            self.losses.add(reject)
        if len(self.first) < _FIRST_REASONS:
            self.first.append((reject.source, reject.position, reject.reason))

    def to_json(self) -> dict[str, Any]:
        reasons = dict(self.reasons.most_common(_MOST_REASONS))
        return {"rows": self.rows, "reasons": reasons, "first": self.first, **self.losses.to_json()}


def _without_values(reason: str) -> str:
    """A reason without the offending value, so that it can be counted."""
    return reason.partition(", found ")[0].partition(" (")[0]


class Rejects:
    """Writes and counts rejected rows."""

    def __init__(self, path: Path, tally: Tally) -> None:
        self._writer, self._tally = Writer(path, REJECT_SCHEMA, compression="zstd"), tally

    def __enter__(self) -> Rejects:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def write(self, reject: Reject) -> None:
        self._tally.reject(reject)
        line = [reject.source, reject.position, reject.reason, reject.excerpt]
        self._writer.write(line, len(reject.reason) + len(reject.excerpt))


def write_cast(folder: Path, files: Sequence[str], casts: Iterable[Cast | Reject]) -> dict[str, Any]:
    """Write the rows of a unit, whose files have the names `files`. Returns counts and labels."""
    tally, labels, rows = Tally(), set[str](), 0
    writer: pa.RecordBatchFileWriter | None = None
    names = pa.array(files, pa.string())
    with Rejects(folder / REJECTS, tally) as rejects, (folder / "keys.u64").open("wb") as keys:
        try:
            for cast in casts:
                if isinstance(cast, Reject):
                    rejects.write(cast)
                    continue
                source = pa.DictionaryArray.from_arrays(pa.array(cast.file, pa.int32()), names)
                batch = pa.record_batch(
                    {"input": cast.input, "label": cast.label, "source": source, "position": cast.position}
                )
                writer = writer or pa.ipc.new_file(str(folder / "rows.arrow"), batch.schema)
                writer.write_batch(batch)
                row_keys = absorb(cast.content, content_keys({"label": cast.label}, len(cast.label)))
                np.concatenate([row_keys, cast.content if cast.group is None else cast.group], 1).tofile(keys)
                labels.update(cast.label.unique().drop_null().to_pylist())
                if len(labels) > MAX_CLASSES:
                    raise UserError(
                        f"{files[0]}: there are more than {MAX_CLASSES:,} different labels; name a column of classes as"
                        " the target, or none"
                    )
                rows += batch.num_rows
        finally:
            if writer is not None:
                writer.close()
    return {**tally.to_json(), "rows": rows, "labels": sorted(labels)}


def batches_of(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file, one in memory at a time; nothing if the file does not exist."""
    if path.is_file():
        with pa.OSFile(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
