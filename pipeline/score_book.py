"""Scores of files that come and grow, each row exactly once.

    BOOK/.lock                one writer at a time
    BOOK/scores-….arrow       rows of a file, or of what was added to it, and in its last batch which rows they are

A part is written under another name and renamed into place, and that *is* the commit: whoever is killed before it has
left nothing that counts, whoever is killed after it has left the rows and the note that they are done, for both are one
file. What there is to do follows from the book and the files alone.

Files of lines (.csv, .tsv, .jsonl) may grow at their end. Only whole rows are taken, and only if what was scored of the
file before is still what it was. A file that changed otherwise is named and left alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data_prep.errors import UserError
from data_prep.readers_files import open_file
from data_prep.source_files import DAMAGED, SourceFile, opened
from data_prep.sources import stamp_of
from pipeline import scoring
from pipeline.detectors import AnyDetector
from pipeline.document_detector import DocumentDetector
from pipeline.scoring import Tally

PATTERN, LOCK = "scores-*.arrow", ".lock"
GROWING = (".csv", ".tsv", ".jsonl")
CHUNK = 1 << 20
NOTE = "sesame"


@dataclass(frozen=True)
class Part:
    """Which rows of which file a committed part holds: those in bytes [start, stop)."""

    file: str
    start: int
    stop: int
    lines: int  # line ends in bytes [0, stop)
    digest: str  # of bytes [0, stop) of the file
    stamp: str  # of the file when it was listed
    detector: str
    tally: Tally

    def to_json(self) -> str:
        return json.dumps({**vars(self), "tally": self.tally.to_json()})

    @staticmethod
    def of_json(text: str) -> Part:
        value = json.loads(text)
        return Part(**{**value, "tally": Tally.of_json(value["tally"])})


class Scored(NamedTuple):
    """What a pass over the files did."""

    parts: list[Part]
    changed: list[str]
    """Files that are not what was scored of them, and have not only grown."""

    @property
    def tally(self) -> Tally:
        total = Tally()
        for part in self.parts:
            total.add(part.tally)
        return total


class Book:
    """A folder of committed parts, held by one writer: `with Book.held(folder) as book`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[str, Part] = {}  # the last one of each file
        for path in sorted(folder.glob(PATTERN)):
            part = Part.of_json(scoring.told(path)[NOTE])
            if part.file not in self.parts or self.parts[part.file].stop < part.stop:
                self.parts[part.file] = part

    @staticmethod
    @contextmanager
    def held(folder: Path) -> Iterator[Book]:
        """The book of a folder, made if it is not there. UserError while somebody else writes to it."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{folder}: another run is scoring into it; wait for its end.") from None
            for draft in folder.glob(".draft-*"):  # of runs that were killed
                draft.unlink()
            yield Book(folder)

    def score(self, detector: AnyDetector, name: str, files: list[SourceFile]) -> Scored:
        """Score what is new in the files, and commit it file by file. `name`: the detector's."""
        done, changed = [], []
        for file in files:
            new = self._new(file)
            if new is None:
                changed.append(file.name)
            elif new.start < new.stop:
                done.append(self._commit(detector, replace(new, detector=name), file))
        return Scored(done, changed)

    def _new(self, file: SourceFile) -> Part | None:
        """The stretch of a file that has not been scored, empty if all has; None where it has changed before that."""
        last, grows = self.parts.get(file.name), file.name.endswith(GROWING) and not file.member
        before = last.stop if last else 0
        if last and last.stamp == file.stamp:
            return replace(last, start=before)
        if last and (file.size < before or (file.size > before and not grows)):
            return None
        if last and self._digest(file, before)[0] != last.digest:
            return None
        end = _whole_rows(file, before) if grows else file.size
        digest, lines = self._digest(file, end)
        return Part(file.name, before, end, lines, digest, file.stamp, "", Tally())

    def _digest(self, file: SourceFile, stop: int) -> tuple[str, int]:
        """Digest of bytes [0, stop) of a file, and the line ends among them."""
        total, lines = hashlib.blake2b(digest_size=16), 0
        try:
            for chunk in _stretch(file, 0, stop):
                total.update(chunk)
                lines += chunk.count(b"\n")
        except DAMAGED:  # what an archive does not give is told where its rows are read
            total.update(file.stamp.encode())
        return total.hexdigest(), lines

    def _commit(self, detector: AnyDetector, part: Part, file: SourceFile) -> Part:
        tally = Tally()
        called = hashlib.blake2b(f"{part.file} {part.start} {part.digest}".encode(), digest_size=12).hexdigest()
        draft, final = self.folder / f".draft-{called}", self.folder / f"scores-{called}.arrow"
        rows = self.folder / f".draft-{called}-rows"
        if file.member or not file.name.endswith(GROWING):
            batches = scoring.score_file(detector, file, tally)
        else:
            taken, shift = _cut(file, part, self.parts.get(part.file), rows, _has_header(detector, file))
            batches = map(partial(_shifted, shift), scoring.score_file(detector, taken, tally))
        scoring.write(draft, batches, lambda: {NOTE: replace(part, tally=tally).to_json()})
        rows.unlink(missing_ok=True)
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        draft.replace(final)
        done = self.parts[part.file] = replace(part, tally=tally)
        return done


def _has_header(detector: AnyDetector, file: SourceFile) -> bool:
    if isinstance(detector, DocumentDetector):
        return not file.name.endswith(".jsonl")
    from data_prep.table_layouts import LAYOUTS

    schema = detector.transform.schema if detector.transform else None
    layout = LAYOUTS.get(schema.layout or "") if schema else None
    return layout is None or layout.header


def _cut(file: SourceFile, part: Part, last: Part | None, path: Path, header: bool) -> tuple[SourceFile, int]:
    """The stretch as a file of its own, under its header; what its lines have to be counted on by."""
    first = b""
    if header and part.start:
        for chunk in _stretch(file, 0, part.start):
            line, end, _ = chunk.partition(b"\n")
            first += line + end
            if end:
                break
    with path.open("wb") as out:
        out.write(first)
        for chunk in _stretch(file, part.start, part.stop):
            out.write(chunk)
    status = path.stat()
    taken = SourceFile(str(path), file.name, status.st_size, stamp_of(status.st_size, str(status.st_mtime_ns)))
    return taken, (last.lines if last else 0) - first.count(b"\n")


def _shifted(shift: int, batch: pa.RecordBatch) -> pa.RecordBatch:
    from data_prep.table_values import pc

    return batch.set_column(1, "position", pc.add(batch["position"], shift))


def _whole_rows(file: SourceFile, before: int) -> int:
    """Where the last whole row of a file ends: a line end that, but for JSON lines, is not inside quotes."""
    end, quotes, place = before, 0, before
    quoted = not file.name.endswith(".jsonl")  # there, a line end inside quotes is written otherwise
    for chunk in _stretch(file, before, file.size):
        start = 0
        while (found := chunk.find(b"\n", start)) >= 0:
            quotes += chunk.count(b'"', start, found)
            if quotes % 2 == 0 or not quoted:
                end = place + found + 1
            start = found + 1
        quotes += chunk.count(b'"', start)
        place += len(chunk)
    return end


def _stretch(file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
    with opened(file) if file.member else open_file(file.uri) as stream:
        stream.seek(start)
        left = stop - start
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk
