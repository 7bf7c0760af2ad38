"""Which content a file holds, of those that were scored: recognised by digests, whatever the file is called.

A content is the bytes of a file, decompressed. A scored part ends a beginning of it, and continues the part before; so
parts form trees, and a file holds the content of a part if it begins with it. Where several are possible, what was
found at places (paths, also in archives) at the last pass decides:

    the file at a place still begins with what was there     it has grown: the rest is new
    or, with the same inode, was emptied
    it has the inode of another place, and its content       it was renamed
    a place that is new begins with a content as far         it is a copy, or compressed: the rest is new
    as that was scored, or with what is at another place
    the file at a place begins otherwise                     it was replaced: new, unless what is at another place
                                                             was moved or copied here

A new file may begin with the rows of an old one by chance. So a beginning of a content counts only as far as that was
scored altogether; and where it has too few different rows (`pipeline.scoring.coincidence`) only if its file is the
same by inode at the same place, or was renamed and not written to since. In doubt, rows are scored. Rows that are not,
because they are as they were before, are counted and reported, except those of a file that has plainly grown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data_prep.errors import UserError
from data_prep.sealed import sealed, unsealed, write_whole
from data_prep.sources.archives import SourceFile
from data_prep.sources.files import is_remote
from pipeline.fingerprint import digest
from pipeline.scoring import score_files
from pipeline.scoring.coincidence import may_be_chance
from pipeline.scoring.score_files import Tally
from pipeline.scoring.tail import HEAD, LineFormat, Measured, ends_there, measure

FORMAT = 3
NOTE = "sesame"
PLACES = ".places"


@dataclass(frozen=True)
class ScoredPart:
    """Describes the rows of a committed part: those in bytes [start, stop) of a content."""

    key: str  # the place of the file
    file: str  # its name, for people
    number: int  # parts are numbered as they are committed, from 1
    parent: int  # the part that ends at `start`; 0: none
    start: int
    whole: int  # where its last row begins if that had no line end, else `stop`
    stop: int
    digest: str  # of bytes [0, stop)
    whole_digest: str  # of bytes [0, whole)
    head: str  # see `Measured.head`
    stamp: str  # of the file when it was listed; "" if it holds more
    inode: str
    detector: str
    total: int  # rows in bytes [0, stop)
    tally: Tally

    @property
    def mark(self) -> str:
        return digest([self.number, self.key, self.start, self.stop, self.digest])[:24]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **vars(self), "tally": self.tally.to_json()})

    @staticmethod
    def of(path: Path) -> ScoredPart:
        """Read a part. UserError if the file is not a part, or of another version."""
        try:
            value = json.loads(score_files.note_of(path)[NOTE])
            part_format = value.pop("format", 1)
            if part_format == FORMAT:
                return ScoredPart(**{**value, "tally": Tally.of_json(value["tally"])})
            problem = f"it has format {part_format}, and this version reads {FORMAT}"
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no part of a ledger that can be gone on with ({problem}); give another folder.")


class Listed(NamedTuple):
    """A file as a pass lists it."""

    key: str
    file: SourceFile
    line_format: LineFormat | None
    inode: str


class Place(NamedTuple):
    """What was found at a place."""

    number: int
    """The part that ends its content; 0: none of its rows was scored."""
    stamp: str
    """Of the file; "" if it is to be looked at again."""
    inode: str


class Match(NamedTuple):
    """How much of a content was scored."""

    part: ScoredPart | None
    """The last part of it."""
    start: int
    """Where rows are new."""
    is_known: bool = False
    """Whether a person is notified of the rows before: they may be meant as new ones."""
    replaces: bool = False
    """Whether its place held rows that are gone."""
    instead: ScoredPart | None = None
    """A part of an incomplete file, without a scored row, that is replaced."""


class Contents:
    """The parts of a ledger, and the places of their contents."""

    def __init__(self, parts: Iterable[ScoredPart], notes: Path) -> None:
        """notes: the file with the places; parts committed after it was written say theirs themselves."""
        self.parts: dict[int, ScoredPart] = {}
        self._by_end: dict[tuple[int, str], list[int]] = {}  # (stop, digest) → parts
        self._ends: dict[str, set[int]] = {}  # by the head of what they end; "" for those within it
        self._continued: set[int] = set()
        for part in sorted(parts, key=lambda part: part.number):
            self.add(part)
        self.number = max(self.parts, default=0)
        self._notes = notes
        noted, self.places = _read_places(notes)
        for part in self.parts.values():
            if part.number > noted:
                self.places[part.key] = Place(part.number, part.stamp, part.inode)
        self._before = dict(self.places)
        self._held = {place.number for place in self.places.values()}
        self._moved: dict[str, str] = {}  # place → the place that its content came from

    def save(self) -> None:
        """Write the places."""
        write_whole(self._notes, sealed({"number": self.number, "places": self.places}))

    def add(self, part: ScoredPart, instead: ScoredPart | None = None) -> None:
        """Add a committed part, in place of another one that it replaces."""
        if instead is not None:
            del self.parts[instead.number]
        self.parts[part.number] = part
        self.number = part.number
        self._continued.add(part.parent)
        self._by_end.setdefault((part.stop, part.digest), []).append(part.number)
        for end in (part.whole, part.stop):
            self._ends.setdefault(part.head if end > HEAD else "", set()).add(end)

    def put(self, key: str, place: Place) -> None:
        """Note what is at a place now."""
        self.places[key] = place
        self._held.add(place.number)

    def is_unchanged(self, listed: Listed) -> bool:
        """Whether all of a file was seen before."""
        place = self.places.get(listed.key)
        return place is not None and place.stamp == listed.file.stamp

    # -- what a file holds --------------------------------------------------------------------------------------------

    def measured(self, listed: Listed) -> Measured:
        """Read a content, with the digests by which parts are found in it."""
        return measure(listed.file, self._ends_of if listed.line_format else lambda head: ())

    def _ends_of(self, head: str) -> set[int]:
        return self._ends.get("", set()) | self._ends.get(head, set())

    def begin(self, changed: Iterable[tuple[Listed, Measured]], present: dict[str, str]) -> None:
        """Begin a pass: find the files that were renamed. present: the inodes of all files, by place.

        A renamed file has the inode of another place, which is gone or has another file, and its content.
        """
        self._before, self._moved = dict(self.places), {}
        places = {place.inode: key for key, place in self._before.items() if place.inode and place.number}
        for listed, measured in changed:
            origin = places.get(listed.inode)
            if origin is None or origin == listed.key or present.get(origin) == listed.inode:
                continue
            part = self.parts.get(self._before[origin].number)
            is_as_it_was = listed.file.stamp == self._before[origin].stamp
            start = None if part is None else self._scored_of(listed, measured, part)
            if start is not None and (is_as_it_was or not self._may_be_chance(listed, 0, start)):
                self._moved[listed.key] = origin

    def match(self, listed: Listed, measured: Measured) -> tuple[Match, Measured]:
        """How much of a file was scored; the content is read again if parts have come that it may begin with."""
        unmeasured = self._ends_of(measured.head) - measured.at.keys()
        if listed.line_format and any(end <= measured.size for end in unmeasured):
            measured = self.measured(listed)
        return self._match(listed, measured), measured

    def _match(self, listed: Listed, measured: Measured) -> Match:
        origin = self._moved.get(listed.key, listed.key)
        place = self._before.get(origin)
        if origin == listed.key and origin in self._moved.values():
            return Match(None, 0)
        if place is not None and place.number == 0 and place.inode == listed.inode:  # it was empty, and has grown
            return Match(None, 0)
        own = self.parts.get(place.number) if place else None
        start = None if own is None else self._scored_of(listed, measured, own)
        is_vague = bool(start) and self._may_be_chance(listed, 0, start)
        if is_vague and place is not None and place.inode != listed.inode:
            start = None
        # Without a row: only of damage, or of a content that has changed.
        is_passing = own is not None and own.tally.rows == 0 and (own.start == own.stop or start != own.stop)
        instead = own if own and own.key == listed.key and is_passing else None
        if own is not None and start is not None:
            if instead:
                return Match(self.parts.get(own.parent), own.start, instead=own)
            further = self._longest(listed, measured, lambda part: self._comes_after(part, own), start)
            if further and start == own.stop:
                return Match(further, further.stop, is_known=True)
            is_rewritten = bool(listed.inode) and origin == listed.key and start == own.stop == measured.size
            return Match(own, start, is_known=is_vague or is_rewritten)

        def is_all(part: ScoredPart) -> bool:
            return part.number in self._held or (place is None and part.number not in self._continued)

        part = self._longest(listed, measured, is_all)
        if part is not None:
            return Match(part, part.stop, is_known=True)
        return Match(None, 0, replaces=bool(place and place.number) and not instead, instead=instead)

    def _longest(
        self, listed: Listed, measured: Measured, allowed: Callable[[ScoredPart], bool], start: int = 0
    ) -> ScoredPart | None:
        """The part with the longest content that a file begins with, and not by chance from `start` on."""
        at = measured.at if listed.line_format else {measured.size: measured.total}
        for end in sorted(at, reverse=True):
            for number in self._by_end.get((end, at[end].content), ()) if end else ():
                part = self.parts.get(number)
                if not part or not part.total or not allowed(part) or self._scored_of(listed, measured, part) != end:
                    continue
                if not self._may_be_chance(listed, start, end):
                    return part
        return None

    def _may_be_chance(self, listed: Listed, start: int, stop: int) -> bool:
        return listed.line_format is not None and may_be_chance(listed.file, listed.line_format, start, stop)

    def _scored_of(self, listed: Listed, measured: Measured, part: ScoredPart) -> int | None:
        """Where the rows of a part end in a content that begins with it; None if it does not.

        Before its last row, if that had no line end and has been continued since.
        """
        line_format = listed.line_format
        if line_format is None:
            return part.stop if (part.stop, part.digest) == (measured.size, measured.total.content) else None
        at = measured.at.get(part.stop)
        if at is not None and at.content == part.digest:
            row_ends = part.whole == part.stop or ends_there(
                listed.file, line_format, part.whole, part.stop, measured.size
            )
            return part.stop if row_ends else part.whole
        at = measured.at.get(part.whole)
        is_row_continued = part.whole < part.stop and at is not None and at.content == part.whole_digest
        return part.whole if is_row_continued else None

    def _comes_after(self, part: ScoredPart, earlier: ScoredPart) -> bool:
        while part.parent > earlier.number and part.parent in self.parts:
            part = self.parts[part.parent]
        return part.parent == earlier.number


def inode_of(file: SourceFile) -> str:
    """Names a file for as long as it exists, whatever it is called; empty if unknown, and in an archive."""
    if file.member or is_remote(file.uri):
        return ""
    try:
        status = Path(file.uri).stat()
    except OSError:  # is reported where it is read
        return ""
    return f"{status.st_dev}:{status.st_ino}"


def _read_places(path: Path) -> tuple[int, dict[str, Place]]:
    """The number of the last part before the places were written, and the places."""
    if not path.is_file():
        return 0, {}
    try:
        value = unsealed(path.read_bytes())
        return value["number"], {key: Place(*place) for key, place in value["places"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and score again.") from error
