"""Scores of files that arrive and grow, each row exactly once and reported at least once.

    LEDGER/.lock              one writer at a time
    LEDGER/scores-….arrow     scores of a file or of what was added to it; metadata of the last batch says which rows
    LEDGER/.told              which parts were reported

A part is written under another name and renamed into place, which *is* the commit: a pass killed before it leaves
nothing that counts, one killed after it leaves the scores and the note that they are done, which are one file. What
remains to be done follows from the ledger and the files alone.

Files of lines (.csv, .tsv, .jsonl) may grow at their end. Only complete rows are scored, and only if the bytes scored
before are unchanged; a last row without a line end is complete once the file has not been written to for a while. A
file that changed otherwise is reported and skipped. But a part without a scored row binds nothing (it may be of an
incomplete file): when its file has changed, those bytes are read again and the part is replaced, by a rename as well.

Parts are reported after the commit, and marked as reported after that: if a pass is killed in between, they are
reported twice, but never not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data_prep.errors import UserError
from data_prep.sources.archives import SourceFile
from data_prep.sources.config import stamp_of
from data_prep.sources.files import is_remote, stamp
from pipeline.scoring import score_files
from pipeline.scoring.detector import Detector
from pipeline.scoring.score_files import Tally
from pipeline.scoring.tail import LineFormat, cut, digests, ends_there, head_end, is_blank, last_end, line_format_of

FORMAT = 2
PATTERN, LOCK, TOLD = "scores-*.arrow", ".lock", ".told"
NOTE = "sesame"
DRIFT = "drift"
SETTLED_SECONDS = 60.0


@dataclass(frozen=True)
class ScoredPart:
    """Describes the rows of a committed part: those in bytes [start, stop) of a file."""

    key: str  # of the file: where it lies
    file: str  # its name, for people
    start: int
    stop: int
    whole: int  # where its last row begins if that had no line end, else `stop`
    lines: int  # line ends in bytes [0, stop)
    digest: str  # of bytes [0, stop) of the file
    stamp: str  # of the file when it was listed
    number: int  # parts are numbered as they are committed
    detector: str
    tally: Tally

    @property
    def mark(self) -> str:
        return _short(self.key, self.start, self.stop, self.digest)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **vars(self), "tally": self.tally.to_json()})

    @staticmethod
    def of(path: Path) -> ScoredPart:
        """Read a part. UserError if the file is none, or of another version."""
        try:
            value = json.loads(score_files.note_of(path)[NOTE])
            part_format = value.pop("format", 1)
            if part_format == FORMAT:
                return ScoredPart(**{**value, "tally": Tally.of_json(value["tally"])})
            problem = f"it has format {part_format}, and this version reads {FORMAT}"
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no part of a ledger that can be gone on with ({problem}); give another folder.")


class ScoringPass(NamedTuple):
    """The result of a pass over the files."""

    parts: list[ScoredPart]
    changed: list[str]
    """Files whose scored bytes have changed."""
    waiting: dict[str, int]
    """Bytes at the end of files that wait for a line end."""
    earlier: Sequence[ScoredPart] = ()
    """Parts that were reported before, newest first, back to the last reported drift."""

    @property
    def tally(self) -> Tally:
        """Rows, alarms and rejects, without counts: bins of different detectors cannot be added."""
        total = Tally()
        for part in self.parts:
            total.add(replace(part.tally, counts={}))
        return total

    def recent(self, detector: str, least_rows: int) -> Tally:
        """Tally of a detector's new parts, and of earlier ones until there are `least_rows` rows."""
        total = Tally()
        for part in self.parts:
            if part.detector == detector:
                total.add(part.tally)
        for part in self.earlier:
            if total.rows >= least_rows:
                break
            total.add(part.tally)
        return total


class Ledger:
    """A folder of committed parts, held by one writer: `with Ledger.held(folder) as ledger`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: dict[str, list[ScoredPart]] = {}  # of each file, in its order
        for part in sorted(map(ScoredPart.of, folder.glob(PATTERN)), key=lambda part: part.start):
            self.parts.setdefault(part.key, []).append(part)
        self._number = max((part.number for part in self._all()), default=0)

    @staticmethod
    @contextmanager
    def held(folder: Path) -> Iterator[Ledger]:
        """The ledger of a folder, created if missing. UserError while another process holds it."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{folder}: another run is scoring into it; wait for its end.") from None
            for draft in folder.glob(".draft-*"):  # of runs that were killed
                draft.unlink()
            yield Ledger(folder)

    def score(
        self, detector: Detector, name: str, files: Iterable[SourceFile], settled_seconds: float = SETTLED_SECONDS
    ) -> ScoringPass:
        """Score what is new in the files, and commit it file by file. `name`: the detector's.

        settled_seconds: after how long without a write a last row without a line end is complete.
        """
        done, changed, waiting = [], [], {}
        for key, file in _keyed(self.folder, files):
            line_format = line_format_of(detector, file)
            new = self._new(key, file, line_format, settled_seconds)
            if new is None:
                changed.append(file.name)
                continue
            if new.start < new.stop:
                done.append(self._commit(detector, replace(new, detector=name), file, line_format))
            if line_format and new.stop < file.size and not is_blank(file, line_format, new.stop, file.size):
                waiting[file.name] = waiting.get(file.name, 0) + file.size - new.stop
        return ScoringPass(done, changed, waiting)

    def to_tell(self, scored: ScoringPass, detector: str) -> ScoringPass:
        """The pass with all parts that were not reported yet, those of earlier passes included."""
        marks = _marks(self.folder)
        parts = sorted(self._all(), key=lambda part: -part.number)
        drifted = max((part.number for part in parts if DRIFT in marks.get(part.mark, ())), default=0)
        earlier = [part for part in parts if part.mark in marks and part.detector == detector and part.number > drifted]
        untold = [part for part in reversed(parts) if part.mark not in marks]
        return scored._replace(parts=untold, earlier=earlier)

    def _all(self) -> Iterator[ScoredPart]:
        return (part for parts in self.parts.values() for part in parts)

    def _base(self, key: str) -> ScoredPart | None:
        """The last part of a file with a scored row, which fixes the bytes before its end."""
        return next((part for part in reversed(self.parts.get(key, [])) if part.tally.rows), None)

    def _new(
        self, key: str, file: SourceFile, line_format: LineFormat | None, settled_seconds: float
    ) -> ScoredPart | None:
        """The bytes of a file to score as a part, maybe empty; None if bytes scored before have changed."""
        base, last = self._base(key), self.parts.get(key, [None])[-1]
        start = base.stop if base else 0
        empty = ScoredPart(key, file.name, start, start, start, 0, "", file.stamp, 0, "", Tally())
        if last and last.stamp == file.stamp and last.stop == file.size:
            return replace(empty, start=file.size, stop=file.size)
        if base and (file.size < start or (file.size > start and line_format is None)):
            return None
        rows_end = last_end(file, line_format, start, file.size) if line_format else file.size
        stop = rows_end
        if line_format and _is_settled(file, settled_seconds) and not is_blank(file, line_format, rows_end, file.size):
            stop = file.size
        if base and stop == start and base.stamp == file.stamp:
            return empty
        before, whole_stretch = digests(file, start, stop)
        if base and before.content != base.digest:
            return None
        if base and line_format and base.whole < base.stop and not ends_there(file, line_format, base.whole, base.stop):
            return None
        is_unchanged = last is not None and (last.stop, last.digest) == (stop, whole_stretch.content)
        if is_unchanged or (line_format and is_blank(file, line_format, start or head_end(file, line_format), stop)):
            return replace(empty, start=stop, stop=stop)
        return replace(empty, stop=stop, whole=rows_end, lines=whole_stretch.lines, digest=whole_stretch.content)

    def _commit(
        self, detector: Detector, part: ScoredPart, file: SourceFile, line_format: LineFormat | None
    ) -> ScoredPart:
        """Score a part and commit it, replacing a part without scored rows that began at the same byte."""
        tally, base = Tally(), self._base(part.key)
        name = _short(part.key, part.start)
        draft, rows = self.folder / f".draft-{name}", self.folder / f".draft-{name}-rows"
        if line_format is None:
            batches = score_files.score_file(detector, file, tally)
        else:
            stretch_file, head = cut(file, line_format, part.start, part.stop, rows)
            shift = base.lines - head if base else 0
            batches = map(partial(_shifted, shift), score_files.score_file(detector, stretch_file, tally))
        done = replace(part, tally=tally, number=self._number + 1)
        score_files.write(draft, batches, lambda: {NOTE: done.to_json()})
        rows.unlink(missing_ok=True)
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        draft.replace(self.folder / f"scores-{name}.arrow")
        self._number = done.number
        self.parts[part.key] = [other for other in self.parts.get(part.key, []) if other.start < part.start] + [done]
        return done


def mark_told(folder: Path, parts: Iterable[ScoredPart], drift: bool = False) -> None:
    """Mark parts as reported; drift: with drift, so that their rows no longer count for it."""
    marks = [f"{part.mark} {DRIFT}" if drift else part.mark for part in parts]
    if not marks:
        return
    with (folder / TOLD).open("a") as file:
        file.write("\n".join(["", *marks, ""]))  # starts a new line: a killed pass may have left half of one
        file.flush()
        os.fsync(file.fileno())


def _marks(folder: Path) -> dict[str, set[str]]:
    """Notes on the reported parts, by their marks."""
    marks: dict[str, set[str]] = {}
    path = folder / TOLD
    for line in path.read_text().splitlines() if path.exists() else ():
        mark, _, word = line.partition(" ")
        marks.setdefault(mark, set()).add(word)
    return marks


def _keyed(folder: Path, files: Iterable[SourceFile]) -> Iterator[tuple[str, SourceFile]]:
    """(key, file) for each file once, without those of the ledger itself. The key is its location, also in an archive.

    Members are keyed by name, because their numbers depend on the other members.
    """
    places: set[tuple[str, int]] = set()
    names: Counter[tuple[str, str]] = Counter()
    own = folder.resolve()
    for file in files:
        if (file.uri, file.member) in places or (not is_remote(file.uri) and own in Path(file.uri).resolve().parents):
            continue
        places.add((file.uri, file.member))
        member = score_files.member_of(file)
        names[file.uri, member] += 1
        yield json.dumps([file.uri, member, names[file.uri, member]]), file


def _is_settled(file: SourceFile, seconds: float) -> bool:
    """Whether a file was not written to for so long, nor since it was listed; False if unknown."""
    written = file.stamp.partition("@")[2]
    if not written.isdecimal() or time.time() - int(written) / 1e9 < seconds:
        return False
    now = stamp(file.uri)
    return now is not None and stamp_of(*now) == file.stamp


def _short(*values: object) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=12).hexdigest()


def _shifted(shift: int, batch: pa.RecordBatch) -> pa.RecordBatch:
    from data_prep.arrow import pc

    return batch.set_column(1, "position", pc.add(batch["position"], shift))
