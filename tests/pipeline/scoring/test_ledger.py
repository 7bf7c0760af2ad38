"""Rows of files that come and grow are scored once each, whatever happens in between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from pipeline.scoring import ledger, score_files
from pipeline.scoring.detector import name_of
from pipeline.scoring.ledger import Ledger, ScoringPass
from pipeline.scoring.row_detector import RowDetector
from tests.data_prep.sources.test_archives import packed
from tests.pipeline import detectors

NOTHING = ScoringPass([], [], {}, {})


def score(folder: Path, *inbox: Path, settled: float = 60.0, detector: RowDetector | None = None) -> ScoringPass:
    detector = detector or detectors.detector()
    with Ledger.held(folder) as ledger:
        return ledger.score(
            detector, "name", score_files.files_of(detector, [str(path) for path in inbox], folder), settled
        )


def read(folder: Path) -> list[dict[str, Any]]:
    tables = [pa.ipc.open_file(str(path)).read_all() for path in sorted(folder.glob(ledger.PATTERN))]
    return pa.concat_tables(tables).to_pylist() if tables else []


def places(folder: Path) -> Counter[tuple[str, int]]:
    return Counter((row["source"], row["position"]) for row in read(folder))


def put(path: Path, count: int, seed: int = 0) -> list[str]:
    lines = detectors.csv_lines(detectors.rows(count, seed))
    path.parent.mkdir(exist_ok=True)
    path.write_text(detectors.HEADER + "".join(lines))
    return lines


def test_every_row_has_a_score_and_alarms_have_reasons(tmp_path: Path) -> None:
    lines = put(tmp_path / "inbox" / "a.csv", 50)
    odd = lines[7].split(",")
    odd[2] = "40.0"
    lines[7] = ",".join(odd)
    lines.insert(20, "1,2\n")
    (tmp_path / "inbox" / "a.csv").write_text(detectors.HEADER + "".join(lines))
    tally = score(tmp_path / "ledger", tmp_path / "inbox").tally
    rows = read(tmp_path / "ledger")
    assert (tally.rows, tally.rejected) == (50, 1)
    assert len(rows) == 51 and max(places(tmp_path / "ledger").values()) == 1
    refused = [row for row in rows if row["rejected"]]
    assert [(row["position"], row["score"]) for row in refused] == [(22, None)]
    scored = {row["position"]: row for row in rows if not row["rejected"]}
    worst = max(scored.values(), key=lambda row: row["score"])  # type: ignore[arg-type,return-value]
    assert worst["position"] == 9 and worst["flag"]
    assert worst["reasons"][0]["column"] == "c"  # type: ignore[index]
    assert tally.alarms == sum(bool(row["flag"]) for row in scored.values())
    assert all(bool(row["reasons"]) == row["flag"] for row in scored.values())


def test_scores_do_not_depend_on_how_rows_came(tmp_path: Path) -> None:
    """All at once, and line by line."""
    lines = put(tmp_path / "whole" / "a.csv", 30)
    score(tmp_path / "one", tmp_path / "whole")
    inbox = tmp_path / "parts"
    inbox.mkdir()
    for count in (1, 2, 11, 12, 30):
        (inbox / "a.csv").write_text(detectors.HEADER + "".join(lines[:count]))
        score(tmp_path / "many", inbox)
    at_once, many = ({row["position"]: row["score"] for row in read(tmp_path / name)} for name in ("one", "many"))
    assert at_once.keys() == many.keys() == set(range(2, 32))
    assert np.allclose([at_once[place] for place in at_once], [many[place] for place in at_once], rtol=1e-5)


def test_nothing_new_is_nothing_done(tmp_path: Path) -> None:
    put(tmp_path / "inbox" / "a.csv", 5)
    assert score(tmp_path / "ledger", tmp_path / "inbox").tally.rows == 5
    assert score(tmp_path / "ledger", tmp_path / "inbox") == NOTHING
    (tmp_path / "inbox" / "a.csv").touch()
    assert score(tmp_path / "ledger", tmp_path / "inbox") == NOTHING._replace(known={"inbox/a.csv": 5})
    put(tmp_path / "inbox" / "b.csv", 3, seed=2)
    assert score(tmp_path / "ledger", tmp_path / "inbox").tally.rows == 3


def test_a_row_that_is_being_written_waits(tmp_path: Path) -> None:
    lines = put(tmp_path / "inbox" / "a.csv", 4)
    content = detectors.HEADER + "".join(lines)
    for cut in (len(content) - 1, len(content) - 9):
        (tmp_path / "inbox" / "a.csv").write_text(content[:cut])
        score(tmp_path / "ledger", tmp_path / "inbox")
        assert sorted(place for _, place in places(tmp_path / "ledger")) == [2, 3, 4]
    (tmp_path / "inbox" / "a.csv").write_text(content)
    assert score(tmp_path / "ledger", tmp_path / "inbox").tally.rows == 1


def test_a_line_end_in_quotes_is_no_end(tmp_path: Path) -> None:
    lines = put(tmp_path / "inbox" / "a.csv", 3)
    quoted = lines[2].replace("red", '"re\nd"').replace("green", '"gre\nen"')
    cut = quoted.index("\n") + 1
    (tmp_path / "inbox" / "a.csv").write_text(detectors.HEADER + "".join(lines[:2]) + quoted[:cut])
    assert score(tmp_path / "ledger", tmp_path / "inbox").tally.rows == 2
    (tmp_path / "inbox" / "a.csv").write_text(detectors.HEADER + "".join(lines[:2]) + quoted)
    assert score(tmp_path / "ledger", tmp_path / "inbox").tally.rows == 1
    assert max(places(tmp_path / "ledger").values()) == 1


def test_a_file_that_is_overwritten_is_scored_anew(tmp_path: Path) -> None:
    lines = put(tmp_path / "inbox" / "a.csv", 6)
    assert score(tmp_path / "ledger", tmp_path / "inbox").replaced == []
    (tmp_path / "inbox" / "a.csv").write_text(detectors.HEADER + "".join(reversed(lines)) + lines[0])
    again = score(tmp_path / "ledger", tmp_path / "inbox")
    assert (again.replaced, again.tally.rows) == (["inbox/a.csv"], 7)
    (tmp_path / "inbox" / "a.csv").write_text(detectors.HEADER)
    emptied = score(tmp_path / "ledger", tmp_path / "inbox")
    assert (emptied.replaced, emptied.tally.rows) == (["inbox/a.csv"], 0)
    assert len(read(tmp_path / "ledger")) == 6 + 7


def test_typed_files_are_scored_once(tmp_path: Path) -> None:
    from pyarrow import parquet

    (tmp_path / "inbox").mkdir()
    parquet.write_table(pa.Table.from_batches([detectors.rows(9)]), tmp_path / "inbox" / "a.parquet")
    assert score(tmp_path / "ledger", tmp_path / "inbox").tally.rows == 9
    os.utime(tmp_path / "inbox" / "a.parquet", (1, 1))
    assert score(tmp_path / "ledger", tmp_path / "inbox") == NOTHING._replace(known={"inbox/a.parquet": 9})
    parquet.write_table(pa.Table.from_batches([detectors.rows(10)]), tmp_path / "inbox" / "a.parquet")
    again = score(tmp_path / "ledger", tmp_path / "inbox")
    assert (again.replaced, again.tally.rows) == (["inbox/a.parquet"], 10)


@pytest.mark.parametrize("end", ["zip", "tar", "tar.gz"])
def test_members_of_an_archive_are_files(tmp_path: Path, end: str) -> None:
    """One that comes is scored, one that stays is not scored again, one that is another's copy is named."""
    texts = {
        name: (detectors.HEADER + "".join(put(tmp_path / name, 7, seed))).encode() for seed, name in enumerate("abc")
    }
    path = tmp_path / "inbox" / f"x.{end}"
    path.parent.mkdir()
    packed(path, {"a.csv": texts["a"]})
    assert score(tmp_path / "ledger", path.parent).tally.rows == 7
    packed(path, {"a.csv": texts["a"], "b.csv": texts["b"], "../c.csv": texts["c"]})
    scored = score(tmp_path / "ledger", path.parent)
    assert (scored.tally.rows, scored.tally.rejected, scored.replaced) == (7, 1, [])
    packed(path, {"a.csv": texts["a"], "b.csv": texts["a"]})
    assert score(tmp_path / "ledger", path.parent) == ScoringPass([], [], {}, {f"inbox/x.{end}/b.csv": 7})
    assert len(places(tmp_path / "ledger")) == 15 and set(places(tmp_path / "ledger").values()) == {1}


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Ledger.held(tmp_path), pytest.raises(UserError, match="another run is scoring into it"), Ledger.held(tmp_path):
        pass


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 7)), max_size=8))
def test_files_that_come_and_grow_in_any_order(growth: list[tuple[int, int]]) -> None:
    import tempfile

    lines = [detectors.csv_lines(detectors.rows(60, seed)) for seed in range(3)]
    sizes = [0, 0, 0]
    with tempfile.TemporaryDirectory() as name:
        folder, inbox = Path(name) / "ledger", Path(name) / "inbox"
        put(inbox / "first.csv", 1)
        for number, more in growth:
            sizes[number] += more
            (inbox / f"{number}.csv").write_text(detectors.HEADER + "".join(lines[number][: sizes[number]]))
            score(folder, inbox)
        score(folder, inbox)
        rows = places(folder)
    wanted = {(f"inbox/{number}.csv", line + 2) for number, size in enumerate(sizes) for line in range(size)}
    assert rows == Counter(wanted | {("inbox/first.csv", 2)})


PROGRAM = """
import os, signal, sys
from pathlib import Path
import torch
from pipeline.scoring import score_files
from pipeline.scoring.row_detector import RowDetector
from pipeline.scoring.ledger import Ledger
torch.set_num_threads(1)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
made, folder, inbox = RowDetector.open(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
for line in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    with Ledger.held(folder) as ledger:
        ledger.score(made, "name", score_files.files_of(made, [inbox], folder))
    os._exit(0)
"""


class Forge:
    """A process that has all that scoring needs, and forks a run when asked."""

    def __init__(self, *arguments: Path) -> None:
        command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _begin(self) -> int:
        """The process id of a new run."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def seconds(self) -> float:
        """How long an undisturbed run takes."""
        child, began = self._begin(), time.monotonic()
        while Path(f"/proc/{child}").exists():
            time.sleep(0.001)
        return time.monotonic() - began

    def run(self, seconds: float) -> bool:
        """Begin a run and kill it after so long; whether it was still alive."""
        child = self._begin()
        time.sleep(seconds)
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            return False
        while Path(f"/proc/{child}").exists():
            time.sleep(0.001)
        return True


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """Files grow while runs are killed at random times: before, in and after a write, and between write and commit."""
    folder, inbox = tmp_path / "ledger", tmp_path / "inbox"
    lines = detectors.csv_lines(detectors.rows(40_000))
    inbox.mkdir()
    forge = Forge(detectors.saved(tmp_path / "detector"), folder, inbox)
    dice, written, turns, killed, drafts, commits, usual = random.Random(1), 0, 0, 0, 0, 0, 0.0
    try:
        while killed < 100 or drafts < 20 or commits < 20:
            turns, written = turns + 1, min(len(lines), written + 100)
            assert turns < 1000
            (inbox / "a.csv").write_text(detectors.HEADER + "".join(lines[:written]))
            put(inbox / f"b{turns % 50}.csv", 200, seed=turns % 50)
            before = len(list(folder.glob(ledger.PATTERN)))
            usual = forge.seconds() if turns % 100 == 1 else usual
            if forge.run(dice.uniform(0, 1.2 * usual)):
                killed += 1
                drafts += bool(list(folder.glob(".draft-*")))
                commits += len(list(folder.glob(ledger.PATTERN))) > before
            assert max(places(folder).values(), default=1) == 1
    finally:
        forge.process.kill()
    score(folder, inbox)
    wanted = {("inbox/a.csv", line + 2) for line in range(written)}
    wanted |= {(f"inbox/{path.name}", line + 2) for path in inbox.glob("b*.csv") for line in range(200)}
    assert places(folder) == Counter(wanted)


def test_a_saved_detector_judges_alike(tmp_path: Path) -> None:
    folder = detectors.saved(tmp_path / "detector")
    detector, opened = detectors.detector(), RowDetector.open(folder)
    inputs = detector.inputs(detectors.rows(20, seed=5, moved=1.0))
    scores, scores_of_saved = detector.score(inputs), opened.score(inputs)
    assert np.array_equal(scores.score, scores_of_saved.score) and scores.reasons == scores_of_saved.reasons
    assert scores.flag.any()
    name = name_of(folder)
    (folder / "detector.json").write_bytes((folder / "detector.json").read_bytes().replace(b"0.", b"1.", 1))
    assert name_of(folder) != name
    with pytest.raises(UserError, match="holds no detector that can be used"):
        RowDetector.open(folder)
