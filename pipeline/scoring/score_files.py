"""Scores the rows of files as a stream: an Arrow file with score, flag and reasons of every row.

A row is one of a table, an image or a document; for documents, "columns" are words.

    source, position      where the row is
    score, flag           how unusual it is, and whether that is an alarm
    reasons               of an alarm: columns, their share of what makes the row unusual, and how a value lies outside
                          of what was learned
    rejected              why the row could not be scored; it then has no score

Rows in = rows scored + rows rejected; every one is in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.sources.archives import SourceFile
from data_prep.sources.config import describe_left_out, suffix_of
from data_prep.sources.files import find, shown
from data_prep.sources.records import Reject
from pipeline.scoring.detector import Batch, Detector, Scores

REASON = pa.struct([("column", pa.string()), ("share", pa.float32()), ("why", pa.string())])
SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("position", pa.int64()),
        ("score", pa.float64()),
        ("flag", pa.bool_()),
        ("reasons", pa.list_(REASON)),
        ("rejected", pa.string()),
    ]
)
REJECTS = 4096  # written together


@dataclass
class Tally:
    """Counts of rows, alarms and rejects, and of rows in the bins of the detector's baseline."""

    rows: int = 0
    alarms: int = 0
    rejected: int = 0
    lost: list[str] = field(default_factory=list)
    """Files that could not be read, wholly or from some row on, and why."""
    counts: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.rows, self.alarms = self.rows + other.rows, self.alarms + other.alarms
        self.rejected += other.rejected
        self.lost += other.lost
        for name, counts in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + counts

    def to_json(self) -> dict[str, Any]:
        counts = {name: counts.tolist() for name, counts in self.counts.items()}
        lost = {"lost": self.lost} if self.lost else {}
        return {"rows": self.rows, "alarms": self.alarms, "rejected": self.rejected, **lost, "counts": counts}

    @staticmethod
    def of_json(value: dict[str, Any]) -> Tally:
        counts = {name: np.array(counts) for name, counts in value["counts"].items()}
        return Tally(value["rows"], value["alarms"], value["rejected"], value.get("lost", []), counts)


def files_of(detector: Detector, paths: Iterable[str], downloads: Path) -> list[SourceFile]:
    """The files of paths (files, folders, globs, remote ones) that may hold rows for the detector, once each.

    Files with the same name are named by their location, because rows refer to files by name.
    """
    files = [file for path in paths for file in detector.files(path, downloads)]
    files = list({(file.uri, file.member, file.groups): file for file in files}.values())
    names = Counter(file.name for file in files)
    return [file if names[file.name] == 1 else file._replace(name=_place(file)) for file in files]


def left_out(detector: Detector, paths: Iterable[str]) -> str:
    """The files of folders and globs that are not of the detector's kind, by suffix, in words; "" if there is none."""
    counts: Counter[str] = Counter()
    for path in paths:
        listing = find(path)
        if listing.label:
            others = (file.relative for file in listing.files if not detector.readable(file.relative))
            counts.update(map(suffix_of, others))
    return describe_left_out(counts)


def _place(file: SourceFile) -> str:
    """The location of a file, also in an archive."""
    member = member_of(file)
    return f"{shown(file.uri)}/{member}" if member else shown(file.uri)


def member_of(file: SourceFile) -> str:
    """The name of a file in its archive; "" if it is in none."""
    archive = shown(file.uri).rpartition("/")[2]
    return file.name.partition(f"{archive}/")[2] if file.member else ""


def score_file(detector: Detector, file: SourceFile, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Rows of a file with their scores, batch by batch, in order within a batch; `tally` counts them.

    Rejected rows are in separate batches.
    """
    yield from score_parts(detector, detector.read(file), tally)


def score_parts(detector: Detector, parts: Iterable[Batch | Reject], tally: Tally) -> Iterator[pa.RecordBatch]:
    """Rows that were read with their scores, as `score_file` gives them."""
    rejects: list[Reject] = []
    for part in parts:
        if isinstance(part, Reject):
            tally.rejected += 1
            rejects.append(part)
            if part.lost:
                tally.lost.append(f"{part.source}: {part.reason}")
            if len(rejects) == REJECTS:
                yield _refused(rejects)
                rejects.clear()
            continue
        scores = detector.score(part.inputs)
        counts = detector.baseline.count(detector.drift_columns(part.inputs, scores))
        tally.add(Tally(len(part.positions), int(scores.flag.sum()), counts=counts))
        yield _scored(part, scores)
    if rejects:
        yield _refused(rejects)


def write(path: Path, batches: Iterable[pa.RecordBatch], note: Callable[[], dict[str, str]] = dict) -> None:
    """Write an Arrow file. Its last batch has no rows, and `note()`, called after the others, as metadata."""
    nothing = pa.record_batch([pa.array([], kind) for kind in SCHEMA.types], schema=SCHEMA)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
        writer.write_batch(nothing, custom_metadata=note())


def note_of(path: Path) -> dict[str, str]:
    """The metadata that `write` stored in a file."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        metadata = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1).custom_metadata
    return {name.decode(): value.decode() for name, value in (metadata or {}).items()}


def _scored(part: Batch, scores: Scores) -> pa.RecordBatch:
    reasons = [[reason._asdict() for reason in row] for row in scores.reasons]
    return pa.record_batch(
        [
            pa.array(part.sources, pa.string()),
            pa.array(part.positions, pa.int64()),
            pa.array(scores.score, pa.float64()),
            pa.array(scores.flag, pa.bool_()),
            pa.array(reasons, pa.list_(REASON)),
            pa.nulls(len(part.sources), pa.string()),
        ],
        schema=SCHEMA,
    )


def _refused(rejects: list[Reject]) -> pa.RecordBatch:
    missing = [None] * len(rejects)
    sources, positions = [reject.source for reject in rejects], [reject.position for reject in rejects]
    columns = [sources, positions, missing, missing, missing, [reject.reason for reject in rejects]]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)
