"""Scores of the rows of files, as a stream of any size: an Arrow file with score, flag and reasons of every row.

A row is one of a table, a picture or a document; of a document, "columns" are words.

    source, position      where the row stands
    score, flag           how unusual it is, and whether that is an alarm
    reasons               of an alarm: columns, and their share of what makes the row unusual
    rejected              why the row could not be scored: then it has no score

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

from data_prep.images import units
from data_prep.images.pixels import Picture
from data_prep.sources.archives import SourceFile, listed
from data_prep.sources.config import Accepts, SourceConfig
from data_prep.sources.files import shown
from data_prep.sources.records import Reject
from data_prep.tables import files
from data_prep.tables.schema import Typed
from pipeline.scoring.detectors import AnyDetector
from pipeline.scoring.document_detector import DocumentDetector, files_of_text
from pipeline.scoring.row_detector import Detector, Scores

REASON = pa.struct([("column", pa.string()), ("share", pa.float32())])
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
PICTURES = 256  # scored together
REJECTS = 4096  # written together


@dataclass
class Tally:
    """What was scored: rows, alarms and rejects, and how rows fall into the bins of the detector's baseline."""

    rows: int = 0
    alarms: int = 0
    rejected: int = 0
    counts: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Rows of another part."""
        self.rows, self.alarms = self.rows + other.rows, self.alarms + other.alarms
        self.rejected += other.rejected
        for name, counts in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + counts

    def to_json(self) -> dict[str, Any]:
        counts = {name: found.tolist() for name, found in self.counts.items()}
        return {"rows": self.rows, "alarms": self.alarms, "rejected": self.rejected, "counts": counts}

    @staticmethod
    def of_json(value: dict[str, Any]) -> Tally:
        counts = {name: np.array(found) for name, found in value["counts"].items()}
        return Tally(value["rows"], value["alarms"], value["rejected"], counts)


def files_of(detector: AnyDetector, paths: Iterable[str], downloads: Path) -> list[SourceFile]:
    """The files of paths (files, folders, globs, remote ones) that the detector's kind of rows may be in, once each.

    Those of one name go by where they lie, for rows refer to them by name.
    """
    if isinstance(detector, DocumentDetector):
        found = [file for path in paths for file in files_of_text(path, downloads)]
    else:
        accepted = accepts(detector)
        found = [file for path in paths for file in listed(SourceConfig(path=path), accepted, downloads)]
    found = list({(file.uri, file.member, file.groups): file for file in found}.values())
    names = Counter(file.name for file in found)
    return [file if names[file.name] == 1 else file._replace(name=_place(file)) for file in found]


def _place(file: SourceFile) -> str:
    """Where a file lies, also in an archive."""
    member = member_of(file)
    return f"{shown(file.uri)}/{member}" if member else shown(file.uri)


def member_of(file: SourceFile) -> str:
    """The name that a file has in its archive; "" of one that lies in none."""
    archive = shown(file.uri).rpartition("/")[2]
    return file.name.partition(f"{archive}/")[2] if file.member else ""


def accepts(detector: Detector) -> Accepts:
    """Which files hold rows for the detector."""
    if detector.transform is not None:
        schema = detector.transform.schema
        return files.accepts(schema.layout if schema else None)
    assert detector.images is not None
    return units.accepts(detector.images)


def score_file(detector: AnyDetector, file: SourceFile, tally: Tally) -> Iterator[pa.RecordBatch]:
    """Rows of a file with their scores, batch by batch, in order within a batch; `tally` counts them.

    Rows that were rejected are in batches of their own.
    """
    rejects: list[Reject] = []
    for part in _inputs(detector, file):
        if isinstance(part, Reject):
            tally.rejected += 1
            rejects.append(part)
            if len(rejects) == REJECTS:
                yield _refused(rejects)
                rejects.clear()
            continue
        sources, positions, inputs = part
        found = detector.judge(inputs)
        counts = detector.baseline.count(detector.told(inputs, found))
        tally.add(Tally(len(positions), int(found.flag.sum()), 0, counts))
        yield _scored(sources, positions, found)
    if rejects:
        yield _refused(rejects)


def write(path: Path, batches: Iterable[pa.RecordBatch], said: Callable[[], dict[str, str]] = dict) -> None:
    """An Arrow file at `path`, whose last batch has no rows and what `said` tells once the others are written."""
    nothing = pa.record_batch([pa.array([], kind) for kind in SCHEMA.types], schema=SCHEMA)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
        writer.write_batch(nothing, custom_metadata=said())


def told(path: Path) -> dict[str, str]:
    """What `said` told when the file was written."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        metadata = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1).custom_metadata
    return {name.decode(): value.decode() for name, value in (metadata or {}).items()}


def _inputs(detector: AnyDetector, file: SourceFile) -> Iterator[tuple[list[str], np.ndarray, Any] | Reject]:
    """(sources, positions, rows) as the detector judges them."""
    if isinstance(detector, DocumentDetector):
        yield from detector.read(file)
        return
    for part in _batches(detector, file):
        yield part if isinstance(part, Reject) else (part[0], part[1], detector.inputs(part[2]))


def _batches(
    detector: Detector, file: SourceFile
) -> Iterator[tuple[list[str], np.ndarray, pa.RecordBatch | np.ndarray] | Reject]:
    """(sources, positions, rows) as the detector takes them."""
    transform = detector.transform
    if transform is None:
        yield from _pictures(detector, file)
        return
    assert transform.schema is not None
    for part in files.typed_batches(file, transform.schema):
        if isinstance(part, Typed):
            rows = pa.record_batch(list(part.columns.values()), names=list(part.columns))
            yield [file.name] * rows.num_rows, part.positions, rows
        else:
            yield part


def _pictures(detector: Detector, file: SourceFile) -> Iterator[tuple[list[str], np.ndarray, np.ndarray] | Reject]:
    waiting: list[Picture] = []

    def together() -> tuple[list[str], np.ndarray, np.ndarray]:
        sources = [picture.source for picture in waiting]
        return sources, np.array([p.position for p in waiting]), np.stack([p.pixels for p in waiting])

    assert detector.images is not None
    _, height, width = detector.scorer.members[0][0].shape
    for picture in units.pictures(file, detector.images):
        if isinstance(picture, Reject):
            yield picture
            continue
        if picture.pixels.shape[1:] != (height, width):
            found = " × ".join(map(str, picture.pixels.shape[1:]))
            reason = f"is {found} pixels and not {height} × {width}, and data.images.size was not set"
            yield Reject(picture.source, picture.position, reason)
            continue
        waiting.append(picture)
        if len(waiting) == PICTURES:
            yield together()
            waiting.clear()
    if waiting:
        yield together()


def _scored(sources: list[str], positions: np.ndarray, found: Scores) -> pa.RecordBatch:
    reasons = [[{"column": name, "share": share} for name, share in row] for row in found.reasons]
    return pa.record_batch(
        [
            pa.array(sources, pa.string()),
            pa.array(positions, pa.int64()),
            pa.array(found.score, pa.float64()),
            pa.array(found.flag, pa.bool_()),
            pa.array(reasons, pa.list_(REASON)),
            pa.nulls(len(sources), pa.string()),
        ],
        schema=SCHEMA,
    )


def _refused(rejects: list[Reject]) -> pa.RecordBatch:
    missing = [None] * len(rejects)
    sources, positions = [one.source for one in rejects], [one.position for one in rejects]
    columns = [sources, positions, missing, missing, missing, [one.reason for one in rejects]]
    return pa.record_batch([pa.array(*one) for one in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)
