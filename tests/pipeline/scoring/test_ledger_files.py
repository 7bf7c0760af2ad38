"""What of a file is scored, and when: rows as the reader finds them, whatever comes between two passes."""

from __future__ import annotations

import gzip
import json
import os
import random
import tempfile
from collections import Counter
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from data_prep.errors import UserError
from data_prep.sources.archives import SourceFile
from pipeline.scoring import contents, ledger, score_files
from pipeline.scoring.ledger import Ledger, ScoringPass, mark_told
from pipeline.scoring.row_detector import RowDetector
from pipeline.scoring.tail import last_end, line_format_of
from tests.data_prep.sources.test_archives import packed
from tests.pipeline import detectors
from tests.pipeline.scoring.test_ledger import NOTHING, places, put, read, score


def laid_out(layout: str) -> RowDetector:
    """A detector that learned from rows of a layout."""
    detector = detectors.detector()
    assert detector.transform is not None and detector.transform.schema is not None
    transform = copy(detector.transform)
    transform.schema = replace(detector.transform.schema, layout=layout)
    return replace(detector, transform=transform)


def old(path: Path) -> Path:
    os.utime(path, (1, 1))
    return path


def rows_of(lines: list[str], first: int = 2) -> set[int]:
    return set(range(first, first + len(lines)))


def scored_by_position(folder: Path) -> dict[Any, bool]:
    """By position, whether a row was scored; each once."""
    rows = read(folder)
    assert max(places(folder).values(), default=1) == 1
    return {row["position"]: row["rejected"] is None for row in rows}


# -- rows --------------------------------------------------------------------------------------------------------------


def test_a_layout_of_a_package_is_none_of_other_files(tmp_path: Path) -> None:
    """Its files have no header, and those that are scored have one."""
    detector = laid_out("sklearn-breast-cancer")
    lines, path = put(tmp_path / "inbox" / "a.csv", 10), tmp_path / "inbox" / "a.csv"
    for count in (4, 10):
        path.write_text(detectors.HEADER + "".join(lines[:count]))
        assert score(tmp_path / "ledger", path.parent, detector=detector).tally.rejected == 0
    assert scored_by_position(tmp_path / "ledger") == dict.fromkeys(rows_of(lines), True)


def test_rows_of_a_layout_without_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_prep.tables.layouts import LAYOUTS

    columns = (*detectors.COLUMNS, "colour")
    monkeypatch.setitem(LAYOUTS, "wdbc", replace(LAYOUTS["wdbc"], columns=columns, drop=frozenset()))
    lines, path = put(tmp_path / "inbox" / "a.csv", 10), tmp_path / "inbox" / "a.csv"
    for count in (4, 10):
        path.write_text("".join(lines[:count]))
        score(tmp_path / "ledger", path.parent, detector=laid_out("wdbc"))
    assert scored_by_position(tmp_path / "ledger") == dict.fromkeys(rows_of(lines, 1), True)


@pytest.mark.parametrize("colour", ['5" red', 'a"b"c', '"re\nd"', '"a ""b"', '"5"" red"'])
def test_a_quote_opens_at_the_beginning_of_a_field(tmp_path: Path, colour: str) -> None:
    lines, path = put(tmp_path / "inbox" / "a.csv", 3), tmp_path / "inbox" / "a.csv"
    odd = lines[0].replace("red", colour).replace("green", colour)
    path.write_text(detectors.HEADER + odd)
    assert score(tmp_path / "ledger", path.parent).tally.rows == 1
    path.write_text(detectors.HEADER + odd + lines[1] + lines[2])
    assert score(tmp_path / "ledger", path.parent).tally.rows == 2
    assert set(scored_by_position(tmp_path / "ledger")) == {2, 3 + odd[:-1].count("\n"), 4 + odd[:-1].count("\n")}


COLOURS = ["red", "green", '"red"', '"re\nd"', '5" red', 'a"b"c', '"a ""b"', '"a"b', "", '"', '"\n"', "a,b", "r\red"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_file_in_stretches_is_the_whole_file(seed: int) -> None:
    """Rows with quotes, line ends and errors, cut anywhere: the same rows at the same places, with the same scores."""
    dice = random.Random(seed)
    end = dice.choice(["\n", "\r\n"])
    text = dice.choice(["", "\ufeff"]) + dice.choice(["", end]) + detectors.HEADER[:-1] + ',"no\nte"' + end
    for line in detectors.csv_lines(detectors.rows(dice.randint(1, 12), dice.randint(0, 99))):
        numbers = line.rpartition(",")[0]
        colour = dice.choice(COLOURS[:4] if dice.random() < 0.7 else COLOURS)
        text += f"{numbers},{colour},{dice.choice(COLOURS[:7])}{end}" + dice.choice(["", "", "", end])
    content = text.encode()[: dice.choice([None, -1, -2, -9])]
    cuts = sorted(dice.randint(1, len(content)) for _ in range(dice.randint(0, 5)))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "inbox" / "a.csv"
        path.parent.mkdir()
        for cut in [*cuts, len(content)]:
            path.write_bytes(content[:cut])
            if cut == len(content):
                old(path)
            score(Path(name) / "many", path.parent)
        score(Path(name) / "one", path.parent)
        assert scored_by_position(Path(name) / "many") == scored_by_position(Path(name) / "one")
        at_once, many = (
            {row["position"]: row["score"] for row in read(Path(name) / ledger)} for ledger in ("one", "many")
        )
        assert all(many[place] == (at_once[place] and pytest.approx(at_once[place], rel=1e-4)) for place in at_once)
        tally = score_files.Tally()
        detector = detectors.detector()
        (file,) = score_files.files_of(detector, [str(path)], Path(name))
        rows = [row for batch in score_files.score_file(detector, file, tally) for row in batch.to_pylist()]
        if tally.rows:
            assert {row["position"]: row["rejected"] is None for row in rows} == scored_by_position(Path(name) / "one")


def test_rows_end_where_the_reader_ends_them_in_many_blocks(tmp_path: Path) -> None:
    """A quote far behind, in a row that begins in one block and ends in another."""
    path = tmp_path / "a.csv"
    content = detectors.HEADER + "1,2,3,4,5,red\n" * 200_000 + '1,2,3,4,5,"re\nd"\n'
    path.write_text(content + '1,2,3,4,5,"r\n')
    (file,) = score_files.files_of(detectors.detector(), [str(path)], tmp_path)
    form = line_format_of(detectors.detector(), file)
    assert form is not None and last_end(file, form, 0, file.size) == len(content)


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_of_the_same_name_are_two(tmp_path: Path) -> None:
    lines = [detectors.csv_lines(detectors.rows(20, seed)) for seed in range(2)]
    paths = [tmp_path / month / "rows.csv" for month in ("jan", "feb")]
    for counts in ((5, 6), (8, 6), (8, 20)):
        for path, rows, count in zip(paths, lines, counts, strict=True):
            path.parent.mkdir(exist_ok=True)
            path.write_text(detectors.HEADER + "".join(rows[:count]))
        assert score(tmp_path / "ledger", *paths).replaced == []
        assert len(read(tmp_path / "ledger")) == sum(counts)


def test_a_file_is_one_by_whatever_way_it_is_found(tmp_path: Path) -> None:
    put(tmp_path / "inbox" / "a.csv", 5)
    assert score(tmp_path / "ledger", tmp_path / "inbox", tmp_path / "inbox" / "a.csv").tally.rows == 5
    assert score(tmp_path / "ledger", tmp_path / "inbox" / "a.csv") == NOTHING


def test_members_may_change_places(tmp_path: Path) -> None:
    texts = {f"{name}.csv": (detectors.HEADER + "".join(put(tmp_path / name, 7, ord(name)))).encode() for name in "ab"}
    path = tmp_path / "inbox" / "x.zip"
    path.parent.mkdir()
    packed(path, {"b.csv": texts["b.csv"]})
    score(tmp_path / "ledger", path.parent)
    packed(path, texts)
    again = score(tmp_path / "ledger", path.parent)
    assert (again.tally.rows, again.replaced) == (7, [])


def test_a_rows_of_ledger_another_version_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "inbox" / "a.csv", 5)
    note = {"file": "inbox/a.csv", "start": 0, "stop": 9}
    (tmp_path / "ledger").mkdir()
    path = tmp_path / "ledger" / "scores-00.arrow"
    score_files.write(path, [], lambda: {contents.NOTE: json.dumps(note)})
    with pytest.raises(UserError, match=r"has format 1, and this version reads 3.*; give another folder"):
        score(tmp_path / "ledger", tmp_path / "inbox")
    score_files.write(path, [])
    with pytest.raises(UserError, match="is no part of a ledger"):
        score(tmp_path / "ledger", tmp_path / "inbox")


@pytest.mark.parametrize("kind", ["parquet", "csv.gz", "csv"])
def test_half_a_file_does_not_block_the_whole_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "inbox" / f"a.{kind}"
    lines = put(tmp_path / "whole" / "a.csv", 9)
    if kind == "parquet":
        parquet.write_table(pa.Table.from_batches([detectors.rows(9)]), tmp_path / "whole" / "b")
        content = (tmp_path / "whole" / "b").read_bytes()
    else:
        content = (detectors.HEADER + "".join(lines)).encode()
        content = gzip.compress(content) if kind == "csv.gz" else content
    path.parent.mkdir()
    path.write_bytes(content[: len(content) // 2] if kind != "csv" else (detectors.HEADER + lines[0][:9]).encode())
    if kind == "csv.gz":  # it may be being written
        assert score(tmp_path / "ledger", path.parent) == NOTHING
    half = score(tmp_path / "ledger", old(path).parent)
    whole_rows = half.tally.rows  # a cut compressed file gives those that are whole
    assert half.tally.rejected == 1 and (whole_rows > 0) == (kind == "csv.gz")
    assert score(tmp_path / "ledger", path.parent) == NOTHING
    path.write_bytes(content)
    assert score(tmp_path / "ledger", path.parent).tally.rows == 9 - whole_rows
    said = int(whole_rows > 0)
    assert len(read(tmp_path / "ledger")) == 9 + said, "what was said of half a file without a row is gone"
    assert score(tmp_path / "ledger", path.parent) == NOTHING


def test_a_kill_before_a_part_is_replaced_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "inbox" / "a.csv"
    put(path, 3)
    path.write_text(detectors.HEADER + "1,2\n")
    score(tmp_path / "ledger", path.parent)
    before = read(tmp_path / "ledger")
    put(path, 3)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        score(tmp_path / "ledger", path.parent)
    assert read(tmp_path / "ledger") == before and before[0]["rejected"]
    assert score(tmp_path / "ledger", path.parent).tally.rows == 3
    assert scored_by_position(tmp_path / "ledger") == {2: True, 3: True, 4: True}


# -- the last row ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_last_row_without_a_line_end_is_whole_after_a_while(tmp_path: Path, end: str) -> None:
    lines, path = put(tmp_path / "inbox" / "a.csv", 8), tmp_path / "inbox" / "a.csv"
    content = (detectors.HEADER + "".join(lines)).replace("\n", end).encode()
    third = len((detectors.HEADER + "".join(lines[:5])).replace("\n", end).encode()) - len(end)
    path.write_bytes(content[:third])
    assert score(tmp_path / "ledger", path.parent).waiting == {"inbox/a.csv": len(lines[4]) - 1}
    assert sorted(scored_by_position(tmp_path / "ledger")) == [2, 3, 4, 5]
    assert score(tmp_path / "ledger", old(path).parent).tally.rows == 1
    assert score(tmp_path / "ledger", path.parent) == NOTHING
    for stop in (third + 1, third + len(end)):  # its line end comes
        path.write_bytes(content[:stop])
        assert score(tmp_path / "ledger", path.parent) == NOTHING
        assert score(tmp_path / "ledger", old(path).parent) == NOTHING
    path.write_bytes(content)
    assert score(tmp_path / "ledger", path.parent).tally.rows == 3
    assert scored_by_position(tmp_path / "ledger") == dict.fromkeys(rows_of(lines), True)


def test_a_file_that_was_written_to_since_it_was_listed_is_not_settled(tmp_path: Path) -> None:
    """Other files may take long between the two."""
    lines, path = put(tmp_path / "inbox" / "a.csv", 3), tmp_path / "inbox" / "a.csv"
    path.write_text(detectors.HEADER + lines[0] + lines[1][:9])
    detector = detectors.detector()
    files = score_files.files_of(detector, [str(old(path))], tmp_path)
    path.write_text(detectors.HEADER + lines[0] + lines[1])
    with Ledger.held(tmp_path / "ledger") as ledger:
        assert ledger.score(detector, "name", files).waiting == {"a.csv": 9}
    assert score(tmp_path / "ledger", path).tally.rows == 1
    assert scored_by_position(tmp_path / "ledger") == {2: True, 3: True}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_line_ends_may_come_before_or_after_a_pass(seed: int) -> None:
    """Each pass finds a settled file that ends behind a row, in its line end or behind that: each row once."""
    dice = random.Random(seed)
    end = dice.choice(["\n", "\r\n"])
    lines = detectors.csv_lines(detectors.rows(dice.randint(1, 9), dice.randint(0, 99)))
    rows = [detectors.HEADER[:-1], *(line.replace("red", dice.choice(COLOURS[:9]))[:-1] for line in lines)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.csv"
        for count in range(1, len(rows) + 1):
            text = end.join(rows[:count]) + end
            for stop in range(len(text) - len(end), len(text) + 1):
                if dice.random() < 0.5 or (stop == len(text) and count == len(rows)):
                    path.write_bytes(text[:stop].encode())
                    assert score(Path(name) / "many", old(path)).replaced == []
        score(Path(name) / "one", path)
        assert scored_by_position(Path(name) / "many") == scored_by_position(Path(name) / "one")


def test_a_last_row_that_goes_on_after_it_was_scored_is_scored_again(tmp_path: Path) -> None:
    lines, path = put(tmp_path / "inbox" / "a.csv", 6), tmp_path / "inbox" / "a.csv"
    text = detectors.HEADER + "".join(lines[:3])
    path.write_text(text[:-1])
    assert score(tmp_path / "ledger", old(path).parent).tally.rows == 3
    path.write_text(text[:-1] + "ish")
    assert score(tmp_path / "ledger", path.parent) == ScoringPass([], [], {"inbox/a.csv": len(lines[2]) + 2}, {})
    path.write_text(text[:-1] + "ish\n")
    assert score(tmp_path / "ledger", path.parent).tally.rows == 1
    path.write_text(text[:-1] + "ish\n" + lines[4])
    assert score(tmp_path / "ledger", path.parent).tally.rows == 1
    assert Counter(row["position"] for row in read(tmp_path / "ledger")) == {2: 1, 3: 1, 4: 2, 5: 1}


def test_quotes_that_stay_open_go_on_behind_a_line_end(tmp_path: Path) -> None:
    lines, path = put(tmp_path / "inbox" / "a.csv", 3), tmp_path / "inbox" / "a.csv"
    text = detectors.HEADER + lines[0] + '1,2,3,4,5,"r'
    path.write_text(text)
    scored = score(tmp_path / "ledger", old(path).parent)
    assert (scored.tally.rows, scored.tally.rejected) == (1, 1)
    path.write_text(text + '\ned"\n')
    assert score(tmp_path / "ledger", path.parent).tally == score_files.Tally(1, 1, 0)
    assert Counter(row["position"] for row in read(tmp_path / "ledger")) == {2: 1, 3: 2}


def test_json_lines_have_a_last_row_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one\\n \\" two"}\n{"text": "thr')
    file = SourceFile(str(path), path.name, path.stat().st_size, "")
    form = line_format_of(detectors.detector(), file)
    assert form is not None and form.delimiter is None
    assert last_end(file, form, 0, file.size) == 25


def test_bare_carriage_returns_are_what_the_reader_says(tmp_path: Path) -> None:
    lines, path = put(tmp_path / "inbox" / "a.csv", 6), tmp_path / "inbox" / "a.csv"
    text = (detectors.HEADER + "".join(lines)).replace("\n", "\r")
    path.write_bytes(text.encode())
    assert score(tmp_path / "ledger", path.parent) == ScoringPass([], [], {"inbox/a.csv": len(text)}, {})
    scored = score(tmp_path / "ledger", old(path).parent)
    assert (scored.tally.rows, scored.tally.rejected) == (0, 1)
    assert "carriage returns alone" in str(read(tmp_path / "ledger")[0]["rejected"])


def test_a_growing_file_keeps_its_dialect(tmp_path: Path) -> None:
    """Lines above the header, another delimiter, and a quoted field with a line end that only it opens."""
    lines, path = put(tmp_path / "inbox" / "a.csv", 6), tmp_path / "inbox" / "a.csv"
    head, rows = f"sep=;\n{detectors.HEADER}".replace(",", ";"), [line.replace(",", ";") for line in lines]
    quoted = rows[1].replace(rows[1].strip().rpartition(";")[2], '"re\nd"')
    path.write_text(head + rows[0])
    assert score(tmp_path / "ledger", path.parent).tally.rows == 1
    path.write_text(head + rows[0] + quoted + rows[2])
    assert score(tmp_path / "ledger", path.parent).tally.rows == 2
    path.write_text(head + rows[0] + quoted + "".join(rows[2:]))
    last = score(tmp_path / "ledger", path.parent)
    assert (last.tally.rows, last.tally.rejected) == (3, 0)


# -- nothing -----------------------------------------------------------------------------------------------------------


def test_a_header_or_an_empty_line_is_no_row(tmp_path: Path) -> None:
    lines, path = put(tmp_path / "inbox" / "a.csv", 2), tmp_path / "inbox" / "a.csv"
    texts = ["", detectors.HEADER[:-1], detectors.HEADER, detectors.HEADER + "\n\r\n"]
    for text in texts:
        path.write_bytes(text.encode())
        for _ in range(2):
            scored = score(tmp_path / "ledger", path.parent)
            assert scored.parts == [] and scored.replaced == []
            assert bool(scored.waiting) == (text == texts[1] and path.stat().st_mtime > 1)
            old(path)
    path.write_text(texts[-1] + lines[0])
    assert score(tmp_path / "ledger", path.parent).tally.rows == 1
    path.write_text(texts[-1] + lines[0] + "\n")
    assert score(tmp_path / "ledger", path.parent) == NOTHING._replace(known={"inbox/a.csv": 1})
    path.write_text(texts[-1] + lines[0] + "\n" + lines[1])
    assert score(tmp_path / "ledger", path.parent).tally.rows == 1
    assert scored_by_position(tmp_path / "ledger") == {4: True, 6: True}


def test_a_book_in_the_inbox_is_no_input(tmp_path: Path) -> None:
    put(tmp_path / "inbox" / "a.csv", 5)
    for _ in range(3):
        score(tmp_path / "inbox" / "ledger", tmp_path / "inbox")
    assert len(read(tmp_path / "inbox" / "ledger")) == 5


# -- what is told ------------------------------------------------------------------------------------------------------


def to_tell(folder: Path, inbox: Path) -> ScoringPass:
    detector = detectors.detector()
    with Ledger.held(folder) as ledger:
        return ledger.to_tell(
            ledger.score(detector, "name", score_files.files_of(detector, [str(inbox)], folder)), "name"
        )


def test_what_was_not_told_is_told_by_the_next_pass(tmp_path: Path) -> None:
    for name in "abc":
        put(tmp_path / "inbox" / f"{name}.csv", 5, ord(name))
        scored = to_tell(tmp_path / "ledger", tmp_path / "inbox")
    assert scored.tally.rows == 15 and scored.earlier == []
    mark_told(tmp_path / "ledger", scored.parts[:1])
    with (tmp_path / "ledger" / ledger.TOLD).open("a") as file:
        file.write(scored.parts[1].mark[:7])  # killed in a mark
    mark_told(tmp_path / "ledger", scored.parts[2:])
    again = to_tell(tmp_path / "ledger", tmp_path / "inbox")
    assert [part.mark for part in again.parts] == [scored.parts[1].mark]
    assert [part.file for part in again.earlier] == ["inbox/c.csv", "inbox/a.csv"]


@pytest.mark.parametrize("is_marked", [False, True])
def test_a_part_that_was_replaced_is_not_told_again(tmp_path: Path, is_marked: bool) -> None:
    """Of half a file, then of the whole: what is told is what the ledger holds, once."""
    path, folder = tmp_path / "inbox" / "a.csv", tmp_path / "ledger"
    put(path, 4)
    path.write_text(detectors.HEADER + "1,2\n")
    half = to_tell(folder, path.parent)
    assert (half.tally.rows, half.tally.rejected, len(half.parts)) == (0, 1, 1)
    if is_marked:
        mark_told(folder, half.parts)
    put(path, 4)
    whole = to_tell(folder, path.parent)
    assert [(part.tally.rows, part.tally.rejected) for part in whole.parts] == [(4, 0)]
    assert whole.earlier == []
    mark_told(folder, whole.parts)
    assert to_tell(folder, path.parent).parts == []


def test_drift_is_of_the_newest_rows_since_it_was_told(tmp_path: Path) -> None:
    sizes = {"a": 10, "b": 20, "c": 30, "d": 40}
    for name, size in sizes.items():
        put(tmp_path / "inbox" / f"{name}.csv", size, ord(name))
        scored = to_tell(tmp_path / "ledger", tmp_path / "inbox")
        if name != "d":
            mark_told(tmp_path / "ledger", scored.parts)
    wanted = {5: 40, 41: 70, 71: 90, 91: 100, 1000: 100}
    assert {least: scored.recent("name", least).rows for least in wanted} == wanted
    assert scored.recent("another", 1).rows == 30, "the new part is not its own"
    mark_told(tmp_path / "ledger", [scored.earlier[1]], drift=True)
    rescored = to_tell(tmp_path / "ledger", tmp_path / "inbox")
    assert rescored.recent("name", 1000).rows == 70
    assert Counter(part.file for part in rescored.parts) == Counter(["inbox/d.csv"])
