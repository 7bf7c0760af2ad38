"""Scores of files that arrive and grow, each row exactly once and reported at least once.

    LEDGER/.lock              one writer at a time
    LEDGER/scores-….arrow     scores of a file or of what was added to it; metadata of the last batch says which rows
    LEDGER/.places            what was found where by the last pass (`pipeline.scoring.contents`)
    LEDGER/.told              which parts were reported
    LEDGER/.retraining        held while a detector is trained again

A part is written under another name and renamed into place, which *is* the commit: a pass killed before it leaves
nothing that counts, one killed after it leaves the scores and the note that they are done, which are one file. What
remains to be done follows only from the ledger and the files.

What was scored is known by its content, not by its name: a file that was renamed, rotated, compressed or copied is
scored from where its content was scored to, and a file whose place another one takes is scored from its beginning.
Contents with few different rows are scored rather twice than never.
Files of lines (.csv, .tsv, .jsonl, also compressed or in an archive) may grow at their end. Only complete rows are
scored; a last row without a line end is complete once the file has not been written to for a while, and is scored
again if it grows. Of a compressed file that is cut short or damaged, the complete rows before are scored, and a
reject stands for the rest; when the whole file comes, scoring continues after them. But a part without a scored row
binds nothing (it may be of an incomplete file): when its file has changed otherwise, or is no longer damaged, the part
is replaced, by a rename as well.

Parts are reported after the commit, and marked as reported after that: if a pass is killed in between, they are
reported twice, but never not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data_prep.errors import UserError
from data_prep.sources.archives import SourceFile
from data_prep.sources.config import stamp_of
from data_prep.sources.files import is_remote, stamp
from pipeline.scoring import score_files
from pipeline.scoring.contents import NOTE, PLACES, Contents, Listed, Match, Place, ScoredPart, inode_of
from pipeline.scoring.detector import Detector
from pipeline.scoring.score_files import Tally
from pipeline.scoring.tail import Measured, Range, copy_of, cut, head_end, is_blank, last_end, line_format_of

PATTERN, LOCK, TOLD, RETRAINING = "scores-*.arrow", ".lock", ".told", ".retraining"
DRIFT = "drift"
SETTLED_SECONDS = 60.0


class ScoringPass(NamedTuple):
    """The result of a pass over the files."""

    parts: list[ScoredPart]
    replaced: list[str]
    """Files whose scored rows are gone, and that were scored from the beginning."""
    waiting: dict[str, int]
    """Bytes at the end of files that wait for a line end."""
    known: dict[str, int] = {}  # noqa: RUF012
    """Rows of files that are as they were scored before, in another file or in this one, and not scored again."""
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
        parts = {path: ScoredPart.of(path) for path in folder.glob(PATTERN)}
        self._files = {part.number: path for path, part in parts.items()}
        self._contents = Contents(parts.values(), folder / PLACES)

    @staticmethod
    @contextmanager
    def held(folder: Path) -> Iterator[Ledger]:
        """The ledger of a folder, created if missing. UserError while another process holds it."""
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / LOCK) as is_ours:
            if not is_ours:
                raise UserError(f"{folder}: another run is scoring into it; wait for its end.")
            for draft in folder.glob(".draft-*"):  # of runs that were killed
                draft.unlink()
            yield Ledger(folder)

    def score(
        self, detector: Detector, name: str, files: Iterable[SourceFile], settled_seconds: float = SETTLED_SECONDS
    ) -> ScoringPass:
        """Score what is new in the files, and commit it file by file, the short ones first. `name`: the detector's.

        settled_seconds: after how long without a write a last row without a line end is complete.
        """
        contents, done = self._contents, ScoringPass([], [], {}, {})
        all_listed = [
            Listed(key, file, line_format_of(detector, file), inode_of(file))
            for key, file in _keyed(self.folder, files)
        ]
        changed = [(listed, contents.measured(listed)) for listed in all_listed if not contents.is_unchanged(listed)]
        contents.begin(changed, {listed.key: listed.inode for listed in all_listed})
        try:
            for listed, measured in sorted(changed, key=lambda pair: pair[1].size):
                self._score(detector, name, listed, measured, settled_seconds, done)
        finally:
            if changed:
                contents.save()
        return done

    def to_tell(self, scored: ScoringPass, detector: str) -> ScoringPass:
        """The pass with all parts that were not reported yet, those of earlier passes included."""
        marks = _marks(self.folder)
        parts = sorted(self._contents.parts.values(), key=lambda part: -part.number)
        drifted = max((part.number for part in parts if DRIFT in marks.get(part.mark, ())), default=0)
        earlier = [part for part in parts if part.mark in marks and part.detector == detector and part.number > drifted]
        untold = [part for part in reversed(parts) if part.mark not in marks]
        return scored._replace(parts=untold, earlier=earlier)

    def _score(
        self,
        detector: Detector,
        name: str,
        listed: Listed,
        measured: Measured,
        settled_seconds: float,
        done: ScoringPass,
    ) -> None:
        """Score what is new in a file, and note what it holds."""
        file, is_settled = listed.file, _is_settled(listed.file, settled_seconds)
        if measured.damage:
            if listed.line_format and not is_settled and not file.problem:  # a compressed file that is being written
                return
            if not measured.size:  # nothing of it can be relied on, as the reader says
                listed = listed._replace(line_format=None)
        match, measured = self._contents.match(listed, measured)
        if match.replaces:
            done.replaced.append(file.name)
        new, left = _new(listed, measured, match, is_settled)
        if match.is_known and match.part and (new or not left):
            done.known[file.name] = match.part.total - (match.start < match.part.stop)
        place = Place(match.part.number if match.part else 0, "" if left else file.stamp, listed.inode)
        if new is not None:
            part = self._commit(detector, name, listed, measured, match, new, place.stamp)
            if part is None:  # the file changed meanwhile, as the next pass finds
                return
            done.parts.append(part)
            place = place._replace(number=part.number)
        if left:
            done.waiting[file.name] = done.waiting.get(file.name, 0) + left
        if place.number or listed.key in self._contents.places:  # a new file without rows may become a copy
            self._contents.put(listed.key, place)
        if match.is_known:  # which no part says
            self._contents.save()

    def _commit(
        self, detector: Detector, name: str, listed: Listed, measured: Measured, match: Match, new: Range, stamp: str
    ) -> ScoredPart | None:
        """Score new rows and commit them as a part; None if the rows before have changed meanwhile."""
        number, tally = self._contents.number + 1, Tally()
        draft, rows = self.folder / f".draft-{number}", self.folder / f".draft-{number}-rows"
        if listed.line_format is None:
            copy = copy_of(listed.file, measured)
        else:
            copy = cut(listed.file, listed.line_format, new, rows)
            if copy is None or (new.start and copy.begins != measured.at[new.start]):
                return None
        parent, others = match.part, 0
        if parent is not None:
            others = parent.total - (new.start < parent.stop)  # whose last row is scored again
        damage = measured.damage if listed.line_format else None  # else the reader says it
        parts = iter(()) if damage and new.start == new.stop else detector.read(copy.file)
        if damage:
            parts = chain(parts, [replace(damage, position=damage.position - copy.shift)])
        scored = score_files.score_parts(detector, parts, tally)
        part = partial(
            ScoredPart, listed.key, listed.file.name, number, parent.number if parent else 0, *new, copy.digest,
            copy.whole_digest, copy.head, stamp=stamp, inode=listed.inode, detector=name,
        )  # fmt: skip
        done = lambda: part(  # noqa: E731
            total=others + tally.rows + tally.rejected - (damage is not None), tally=tally
        )
        score_files.write(
            draft, (_placed(batch, listed.file.name, copy.shift) for batch in scored), lambda: {NOTE: done().to_json()}
        )
        rows.unlink(missing_ok=True)
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        path = (
            self._files[match.instead.number]
            if match.instead
            else self.folder / f"scores-{number:08d}-{secrets.token_hex(4)}.arrow"
        )
        draft.replace(path)
        self._files[number] = path
        self._contents.add(done(), match.instead)
        return done()


def _new(listed: Listed, measured: Measured, match: Match, is_settled: bool) -> tuple[Range | None, int]:
    """The bytes of a file to score, if any; and how many after them wait for a line end."""
    file, line_format, start, size = listed.file, listed.line_format, match.start, measured.size
    if line_format is None:
        has_rows = match.part is None and (size > 0 or measured.damage)
        return (Range(0, size, size) if has_rows else None), 0
    rows_end = last_end(file, line_format, start, size)
    is_rest_blank = is_blank(file, line_format, rows_end, size)
    stop = size if is_settled and not is_rest_blank and not measured.damage else rows_end
    left = 0 if is_rest_blank or measured.damage else size - stop
    if is_blank(file, line_format, start or head_end(file, line_format, stop), stop):
        is_told = match.part is not None and bool(match.part.tally.lost)
        return (Range(start, start, start) if measured.damage and not is_told else None), left
    return Range(start, rows_end, stop), left


def mark_told(folder: Path, parts: Iterable[ScoredPart], drift: bool = False) -> None:
    """Mark parts as reported; drift: with drift, so that their rows no longer count for it."""
    marks = [f"{part.mark} {DRIFT}" if drift else part.mark for part in parts]
    if not marks:
        return
    with (folder / TOLD).open("a") as file:
        file.write("\n".join(["", *marks, ""]))  # starts a new line: a killed pass may have left half of one
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def retraining_held(folder: Path) -> Iterator[bool]:
    """Whether this process is the one that trains the ledger's detector again, until the block ends."""
    with _locked(folder / RETRAINING) as is_ours:
        yield is_ours


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether a lock could be taken; it is held until the block ends."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


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


def _placed(batch: pa.RecordBatch, source: str, shift: int) -> pa.RecordBatch:
    """Rows of a copied range with their file and their positions in it."""
    from data_prep.arrow import pc

    if not shift and all(name == source for name in batch["source"].unique().to_pylist()):
        return batch
    batch = batch.set_column(0, "source", pa.array([source] * batch.num_rows, pa.string()))
    return batch.set_column(1, "position", pc.add(batch["position"], shift))
