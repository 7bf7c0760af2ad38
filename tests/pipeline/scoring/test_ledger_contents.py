"""What was scored is known by its content: rows are scored once, whatever their files are called."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scoring import contents, tail
from pipeline.scoring.contents import Contents
from pipeline.scoring.ledger import Ledger, ScoringPass
from tests.pipeline.scoring.recorder import HEADER, line, score, scored, text


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


class KilledError(BaseException):
    """The end of the process."""


class World:
    """Files that are appended to, rotated, compressed, copied and overwritten, and the rows that were written."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice, self.folder = random.Random(seed), folder
        self.inboxes = [folder / "one", folder / "two"]
        for inbox in self.inboxes:
            inbox.mkdir()
        self.logs = [self.inboxes[0] / "a.csv", self.inboxes[0] / "b.csv"]
        self.packed = self.inboxes[1] / "c.csv.gz"
        self.nightly = self.inboxes[1] / "day.csv"
        self.rest: dict[Path, str] = {}  # of a row that is being written
        self.written = Counter[int]()
        self.number = 0
        for log in self.logs:
            log.write_text(self.begun())
        self.packed.write_bytes(gzip.compress(self.begun().encode()))

    def new(self, count: int) -> list[int]:
        """Numbers of rows to write: mostly new ones, some repeated."""
        numbers = []
        for _ in range(count):
            self.number += 1
            again = numbers and self.dice.random() < 0.2
            numbers.append(self.dice.choice(numbers) if again else self.number)
        self.written.update(numbers)
        return numbers

    def some(self) -> int:
        return self.dice.randint(1, 4)

    def begun(self) -> str:
        """A file with so many different rows that it is no other one's beginning by chance."""
        self.number += 4
        self.written.update(numbers := range(self.number - 3, self.number + 1))
        return text(*numbers)

    def append(self) -> None:
        log = self.dice.choice(self.logs)
        self.end_row(log)
        with log.open("a") as file:
            file.writelines(map(line, self.new(self.some())))

    def begin_row(self) -> None:
        log = self.dice.choice(self.logs)
        self.end_row(log)
        written = line(self.new(1)[0])
        cut = self.dice.randint(1, len(written) - 1)
        with log.open("a") as file:
            file.write(written[:cut])
        self.rest[log] = written[cut:]

    def end_row(self, log: Path) -> None:
        with log.open("a") as file:
            file.write(self.rest.pop(log, ""))

    def append_packed(self) -> None:
        with self.packed.open("ab") as file:
            file.write(gzip.compress("".join(map(line, self.new(self.some()))).encode()))

    def append_half(self) -> None:
        """Looked at while its last stream is cut short, long after that was written."""
        content = self.packed.read_bytes()
        more = gzip.compress("".join(map(line, self.new(self.some()))).encode())
        settled(self.packed, content + more[: self.dice.randint(1, len(more) - 1)])
        self.look()
        self.packed.write_bytes(content + more)

    def rotate(self, log: Path | None = None) -> None:
        log = log or self.dice.choice(self.logs)
        self.end_row(log)
        for number in range(4, 0, -1):
            for end in (".csv", ".csv.gz"):
                old = log.with_name(f"{log.stem}.{number}{end}")
                if old.exists():
                    old.rename(log.with_name(f"{log.stem}.{number + 1}{end}"))
        log.rename(log.with_name(f"{log.stem}.1.csv"))
        log.write_text(self.begun())

    def copy_and_truncate(self) -> None:
        log = self.dice.choice(self.logs)
        self.end_row(log)
        self.number += 1
        shutil.copy(log, log.with_name(f"{log.stem}-{self.number}.csv"))
        with log.open("r+") as file:
            file.write(self.begun())
            file.truncate()

    def compress(self) -> None:
        old = [path for inbox in self.inboxes for path in inbox.glob("*[.-][0-9]*.csv")]
        if old:
            path = self.dice.choice(sorted(old))
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()

    def rename(self) -> None:
        old = [path for inbox in self.inboxes for path in inbox.glob("*[.-][0-9]*.csv*")]
        if old:
            self.number += 1
            path = self.dice.choice(sorted(old))
            end = ".csv.gz" if path.suffix == ".gz" else ".csv"
            path.rename(self.dice.choice(self.inboxes) / f"moved-{self.number}{end}")

    def copy(self) -> None:
        path = self.dice.choice(sorted(self.inboxes[0].glob("*.csv*")))
        if path not in self.rest:
            shutil.copy(path, self.inboxes[1] / path.name)

    def overwrite(self) -> None:
        self.look()
        if self.dice.random() < 0.5:
            self.nightly.unlink(missing_ok=True)
        self.nightly.write_text(self.begun() + "".join(map(line, self.new(self.some()))))

    def look(self) -> None:
        score(self.folder / "ledger", *self.inboxes)

    def look_and_die(self) -> None:
        """Killed before or after a commit."""
        commits, is_dead = self.dice.randint(0, 3), False
        commit, save = Ledger._commit, Contents.save

        def one_of_the_last(*arguments: Any) -> Any:
            nonlocal commits, is_dead
            done = commit(*arguments) if commits or self.dice.random() < 0.5 else None
            commits -= 1
            if commits < 0:
                is_dead = True
                raise KilledError
            return done

        def unless_dead(held: Contents) -> None:
            if not is_dead:
                save(held)

        with (
            mock.patch.object(Ledger, "_commit", one_of_the_last),
            mock.patch.object(Contents, "save", unless_dead),
            contextlib.suppress(KilledError),
        ):
            self.look()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_every_row_that_is_written_is_scored_once(seed: int) -> None:
    with tempfile.TemporaryDirectory() as name, mock.patch("os.fsync"):
        world = World(Path(name), seed)
        acts = [world.append] * 4 + [world.look] * 4 + [world.rotate, world.copy_and_truncate, world.compress]
        acts += [
            world.rename,
            world.copy,
            world.overwrite,
            world.append_packed,
            world.append_half,
            world.begin_row,
            world.look_and_die,
        ]
        done = []
        for _ in range(world.dice.randint(1, 25)):
            act = world.dice.choice(acts)
            act()
            done.append(act.__name__)
        for log in world.logs:
            world.end_row(log)
        world.look()
        assert scored(world.folder / "ledger") == world.written, done
        again = score(world.folder / "ledger", *world.inboxes)
        assert (again.parts, again.replaced, again.known) == ([], [], {})


def test_a_rotated_file_is_gone_on_with_and_its_place_is_new(inbox: Path, tmp_path: Path) -> None:
    """Renamed, written anew, and compressed; rows that were added before come first."""
    (inbox / "a.csv").write_text(text(1, 2, 3, 4, 5))
    assert score(tmp_path / "ledger", inbox).tally.rows == 5
    with (inbox / "a.csv").open("a") as file:
        file.write(line(6))
    (inbox / "a.csv").rename(inbox / "a.1.csv")
    (inbox / "a.csv").write_text(text(1, 2))  # as the old one began
    rotated = score(tmp_path / "ledger", inbox)
    assert {part.file: part.tally.rows for part in rotated.parts} == {"inbox/a.1.csv": 1, "inbox/a.csv": 2}
    (inbox / "a.1.csv.gz").write_bytes(gzip.compress((inbox / "a.1.csv").read_bytes()))
    (inbox / "a.1.csv").unlink()
    assert score(tmp_path / "ledger", inbox) == ScoringPass([], [], {}, {"inbox/a.1.csv.gz": 6})
    assert scored(tmp_path / "ledger") == {1: 2, 2: 2, 3: 1, 4: 1, 5: 1, 6: 1}


def test_a_new_file_may_be_just_like_the_one_that_was_renamed(inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.csv").write_text(text(1))
    score(tmp_path / "ledger", inbox)
    (inbox / "a.csv").rename(inbox / "a.1.csv")
    (inbox / "a.csv").write_text(text(1))
    assert score(tmp_path / "ledger", inbox).tally.rows == 1
    (inbox / "a.1.csv").rename(inbox / "a.2.csv")
    (inbox / "a.csv").rename(inbox / "a.1.csv")
    (inbox / "a.csv").write_text(text(1, 5))
    assert score(tmp_path / "ledger", inbox).tally.rows == 2
    assert scored(tmp_path / "ledger") == {1: 3, 5: 1}


def test_a_nightly_file_is_scored_every_night(inbox: Path, tmp_path: Path) -> None:
    """Also if it begins as another night's, or is as the one of two nights ago."""
    for night, numbers in enumerate([(1, 2, 3), (4, 5), (1, 2, 3), (1, 9, 3), (1, 2)]):
        (inbox / "day.csv").write_text(text(*numbers))
        scored = score(tmp_path / "ledger", inbox)
        assert (scored.tally.rows, scored.replaced) == (len(numbers), ["inbox/day.csv"] * (night > 0))
    (inbox / "day.csv").write_text(text(1, 2))
    assert score(tmp_path / "ledger", inbox) == ScoringPass([], [], {}, {"inbox/day.csv": 2}), "the same, and said"


def test_copying_and_truncating(inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.csv").write_text(text(1, 2, 3, 4))
    score(tmp_path / "ledger", inbox)
    shutil.copy(inbox / "a.csv", inbox / "a-old.csv")
    with (inbox / "a.csv").open("r+") as file:
        file.truncate(len(HEADER))
    assert score(tmp_path / "ledger", inbox) == ScoringPass([], ["inbox/a.csv"], {}, {"inbox/a-old.csv": 4})
    with (inbox / "a.csv").open("a") as file:
        file.write(line(1) + line(2))
    assert score(tmp_path / "ledger", inbox).tally.rows == 2
    assert scored(tmp_path / "ledger") == {1: 2, 2: 2, 3: 1, 4: 1}


def test_a_file_in_two_inboxes_is_scored_once_and_said_to_be_known(inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.csv").write_text(text(1, 1, 2, 3, 4))
    (other := tmp_path / "other").mkdir()
    shutil.copy(inbox / "a.csv", other / "a.csv")
    both = score(tmp_path / "ledger", inbox, other)
    assert (both.tally.rows, list(both.known.values())) == (5, [5])
    for folder in (other, inbox):  # the copy goes ahead
        with (folder / "a.csv").open("a") as file:
            file.writelines(map(line, range(5, 10)))
        passed = score(tmp_path / "ledger", inbox, other)
        assert passed.tally.rows == 5 * (folder == other)
        assert passed.known == ({} if folder == other else {"inbox/a.csv": 10})
    for number, folder in enumerate((other, inbox), 10):  # and they part
        with (folder / "a.csv").open("a") as file:
            file.write(line(number))
    assert score(tmp_path / "ledger", inbox, other).tally.rows == 2
    assert scored(tmp_path / "ledger") == {1: 2} | dict.fromkeys(range(2, 12), 1)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


def settled(path: Path, content: bytes) -> None:
    """Write a file as if long ago; each time of another age."""
    path.write_bytes(content)
    os.utime(path, (len(content), len(content)))


@pytest.mark.parametrize("end", PACK)
def test_rows_are_appended_to_compressed_files(inbox: Path, tmp_path: Path, end: str) -> None:
    """Each time a stream more, and only what is new is scored, at its place in the whole."""
    pack = PACK[end]
    path, written = inbox / f"a.csv.{end}", text(1)
    path.write_bytes(pack(written.encode()))
    for number in range(2, 5):
        assert score(tmp_path / "ledger", inbox).tally.rows == 1
        with path.open("ab") as file:
            file.write(pack(line(number).encode()))
    assert score(tmp_path / "ledger", inbox).tally.rows == 1
    assert scored(tmp_path / "ledger") == {1: 1, 2: 1, 3: 1, 4: 1}
    batches = [pa.ipc.open_file(str(path)).read_all() for path in (tmp_path / "ledger").glob("scores-*.arrow")]
    rows = {(row["source"], row["position"], int(row["score"])) for rows in batches for row in rows.to_pylist()}
    assert rows == {(f"inbox/a.csv.{end}", number + 1, number) for number in range(1, 5)}


def test_a_row_that_is_being_written_is_scored_when_it_ends_wherever_it_then_is(inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.csv").write_text(text(1, 2, 3, 4) + "5")
    assert score(tmp_path / "ledger", inbox).waiting == {"inbox/a.csv": 1}
    (inbox / "a.csv").write_text(text(1, 2, 3, 4, 5))
    (inbox / "a.csv").rename(inbox / "b.csv")
    assert score(tmp_path / "ledger", inbox).tally.rows == 1
    assert scored(tmp_path / "ledger") == dict.fromkeys(range(1, 6), 1)


def test_what_is_unchanged_is_not_read(inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (inbox / f"{number}.csv").write_text(text(number))
    score(tmp_path / "ledger", inbox)
    read = []
    monkeypatch.setattr(contents, "measure", lambda file, ends: read.append(file.name) or tail.measure(file, ends))
    with (inbox / "1.csv").open("a") as file:
        file.write(line(7))
    assert score(tmp_path / "ledger", inbox).tally.rows == 1
    assert set(read) == {"inbox/1.csv"}


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("end", PACK)
def test_a_damaged_file_is_gone_on_with_when_it_is_whole(inbox: Path, tmp_path: Path, end: str, moves: bool) -> None:
    """Cut short, cut elsewhere, and damaged in a later stream: each row once, a reject as long as rows are missing."""
    first, second = (PACK[end](part.encode()) for part in (text(1, 2, 3, 4), f"{line(5)}{line(6)}"))
    third = PACK[end]("".join(map(line, range(7, 2007))).encode())
    path, ledger = inbox / f"a.csv.{end}", tmp_path / "ledger"
    settled(path, first + second[: len(second) // 3])
    cut = score(ledger, inbox)
    assert cut.tally.rows >= 4 and cut.tally.rejected == 1 and "cut short" in cut.tally.lost[0]
    assert score(ledger, inbox) == ScoringPass([], [], {}, {})
    settled(path, first + second[: len(second) // 2])
    more = score(ledger, inbox)
    assert (bool(more.parts), more.tally.rejected) == (more.tally.rows > 0, more.tally.rows > 0), "said before"
    settled(path, first + second + third[: len(third) // 3] + bytes(50) + third[len(third) // 3 + 50 :])
    damaged = score(ledger, inbox)
    assert cut.tally.rows + more.tally.rows + damaged.tally.rows == 6
    assert damaged.tally.rejected == bool(damaged.parts) and damaged.replaced == []
    if moves:
        path.unlink()
        path = inbox / "b.csv.gz"
    path.write_bytes(first + second + third if not moves else gzip.compress(text(*range(1, 2007)).encode()))
    whole = score(ledger, inbox)
    assert (whole.tally.rows, whole.tally.rejected, whole.replaced) == (2000, 0, [])
    assert scored(ledger) == Counter(range(1, 2007))
    assert score(ledger, inbox) == ScoringPass([], [], {}, {})


def test_a_file_cut_in_its_header_binds_nothing(inbox: Path, tmp_path: Path) -> None:
    """Nor one that is cut where nothing is new: its reject is gone when it is whole."""
    path, ledger = inbox / "a.csv.gz", tmp_path / "ledger"
    rows = [gzip.compress(part.encode()) for part in (HEADER, line(1), line(2))]
    for content, rejected in (
        (rows[0] + rows[1][:12], 1),
        (rows[0] + rows[1], 0),
        (rows[0] + rows[1] + rows[2][:12], 1),
    ):
        settled(path, content)
        passed = score(ledger, inbox)
        assert (passed.tally.rows, passed.tally.rejected, passed.replaced) == (1 - rejected, rejected, [])
    settled(path, b"".join(rows))
    assert score(ledger, inbox).tally.rows == 1
    batches = [pa.ipc.open_file(str(part)).read_all() for part in ledger.glob("scores-*.arrow")]
    assert sorted(row["position"] for batch in batches for row in batch.to_pylist()) == [2, 3]


class PoorWorld:
    """Files of two kinds of rows, which begin alike by chance."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice, self.folder, self.inbox = random.Random(seed), folder, folder / "inbox"
        self.inbox.mkdir()
        self.write()
        self.stamps = set[int]()
        """When the files were written that the last pass saw."""

    def rows(self) -> str:
        return "".join(map(line, self.dice.choices([1, 1, 1, 2], k=self.dice.randint(1, 6))))

    def some(self, pattern: str = "*") -> list[Path]:
        """One of the files, or none."""
        return self.dice.sample(files := sorted(self.inbox.glob(pattern)), min(1, len(files)))

    def place(self, end: str = ".csv") -> Path:
        return self.inbox / f"{self.dice.randint(0, 5)}{end}"

    def write(self) -> None:
        """Anew, into the same file or another one of that name."""
        path = self.place()
        if self.dice.random() < 0.5:
            path.unlink(missing_ok=True)
        path.write_text(HEADER + self.rows())

    def append(self) -> None:
        for path in self.some("*.csv"):
            with path.open("a") as file:
                file.write(self.rows())

    def move(self) -> None:
        for path in self.some():
            path.rename(self.place("".join(path.suffixes)))

    def copy(self) -> None:
        for path in self.some():
            (self.inbox / f"{self.dice.randint(6, 9)}{''.join(path.suffixes)}").write_bytes(path.read_bytes())

    def truncate(self) -> None:
        for path in self.some("*.csv"):
            path.write_text(HEADER)

    def compress(self) -> None:
        for path in self.some("*.csv"):
            path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()

    def look(self) -> None:
        passed = score(self.folder / "ledger", self.inbox)
        rows_by_file = Counter[str](passed.known)
        for part in passed.parts:
            rows_by_file[part.file] += part.tally.rows
        for path in self.inbox.iterdir():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            was_there = path.stat().st_mtime_ns in self.stamps and not rows_by_file[f"inbox/{path.name}"]
            assert was_there or rows_by_file[f"inbox/{path.name}"] == content.count(b"\n") - 1
        self.stamps = {path.stat().st_mtime_ns for path in self.inbox.iterdir()}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_no_row_of_files_that_are_alike_is_left_out_unsaid(seed: int) -> None:
    """Every row of a file that was written to is scored, or counted as one that is as it was."""
    with tempfile.TemporaryDirectory() as name, mock.patch("os.fsync"):
        world = PoorWorld(Path(name), seed)
        acts = [world.write] * 4 + [world.append] * 3 + [world.look] * 4
        acts += [world.move, world.copy, world.truncate, world.compress]
        for _ in range(world.dice.randint(1, 30)):
            world.dice.choice(acts)()
        world.look()


@pytest.mark.parametrize("same_file", [True, False])
def test_a_nightly_file_with_the_same_few_rows(inbox: Path, tmp_path: Path, same_file: bool) -> None:
    """Written into the same file its first rows may be the old ones, and are counted; in another they are new."""
    for night, count in enumerate((3, 5, 5)):
        if not same_file and night:
            (inbox / "day.csv").rename(tmp_path / f"{night}.csv")
        (inbox / "day.csv").write_text(text(*[1] * count))
        passed = score(tmp_path / "ledger", inbox)
        known = {0: {}, 1: {"inbox/day.csv": 3}, 2: {"inbox/day.csv": 5}}[night] if same_file else {}
        assert (passed.tally.rows, passed.known) == (count - sum(known.values()), known)
    shutil.copy(inbox / "day.csv", inbox / "other.csv")
    assert score(tmp_path / "ledger", inbox).tally.rows == 5
