"""What of the files given is not scored: files of other kinds, and files that are lost, are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from data_prep.sources.archives import SourceFile
from data_prep.sources.records import Reject, lost
from pipeline.scoring import score_files
from pipeline.scoring.detector import Batch, Detector
from pipeline.scoring.score_files import Tally


class OfTables:
    """The part of a detector that says which files it reads, and that reads none."""

    def readable(self, name: str) -> bool:
        return name.lower().endswith(".csv")

    def read(self, file: SourceFile) -> Iterator[Batch | Reject]:
        yield Reject(file.name, 2, "not UTF-8")
        yield lost(file.name, 3, "damaged gzip file: it is cut short")


DETECTOR = cast(Detector, OfTables())


def test_files_of_other_kinds_are_counted(tmp_path: Path) -> None:
    for name in ("a.csv", "B.CSV", "c.xlsx", "in/d.xlsx", "e.parquet", "@eaDir/f.xlsx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n1\n")
    assert score_files.left_out(DETECTOR, [str(tmp_path)]) == "3 files left out: .xlsx 2, .parquet 1"
    assert score_files.left_out(DETECTOR, [str(tmp_path / "a.csv"), str(tmp_path / "*.csv")]) == ""


def test_files_that_are_lost_are_named_and_kept_in_the_ledger() -> None:
    tally: Any = Tally()
    list(score_files.score_file(DETECTOR, SourceFile("/in/a.csv.gz", "a.csv.gz", 1, "1@1"), tally))
    assert (tally.rejected, tally.lost) == (2, ["a.csv.gz: damaged gzip file: it is cut short"])
    assert Tally.of_json(tally.to_json()) == tally
    assert Tally.of_json({"rows": 1, "alarms": 0, "rejected": 0, "counts": {}}) == Tally(1), "written before"
    total = Tally()
    total.add(tally)
    total.add(tally)
    assert len(total.lost) == 2


@pytest.mark.parametrize("names_it", [True, False])
def test_an_inbox_may_be_empty_but_not_of_another_kind_by_name(tmp_path: Path, names_it: bool) -> None:
    from data_prep.errors import UserError
    from flows.score import _files_now

    class Lists(OfTables):
        def files(self, path: str, downloads: Path) -> list[SourceFile]:
            raise UserError(f"{path} holds no file")

    (tmp_path / "a.xlsx").write_bytes(b"x")
    path = tmp_path / ("*.xls*" if names_it else "*")
    if names_it:
        with pytest.raises(UserError, match="holds no file"):
            _files_now(cast(Detector, Lists()), str(path), tmp_path)
    else:
        assert _files_now(cast(Detector, Lists()), str(path), tmp_path) == []
