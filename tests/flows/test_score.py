"""`sesame score`: all rows into a file, or new ones into a book; alarms, drift and hooks are told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep.errors import UserError
from flows import score as scores
from pipeline import scoring
from pipeline.home import Home
from pipeline.score_book import Book, Scored
from tests.pipeline import detectors


def inbox(folder: Path, count: int, moved: float = 0.0, name: str = "a.csv") -> Path:
    folder.mkdir(exist_ok=True)
    lines = detectors.csv_lines(detectors.rows(count, seed=8, moved=moved))
    (folder / name).write_text(detectors.HEADER + "".join(lines))
    return folder


def passed(book: Path, files: Path) -> Scored:
    made = detectors.detector()
    with Book.held(book) as held:
        return held.score(made, "name", scoring.files_of(made, [str(files)], book))


def test_all_rows_into_one_file(tmp_path: Path) -> None:
    model, files, said = detectors.saved(tmp_path / "detector"), inbox(tmp_path / "inbox", 300), []
    tally = scores.to_file(model, [str(files)], tmp_path / "out" / "scores.arrow", tmp_path, said.append)
    table = pa.ipc.open_file(str(tmp_path / "out" / "scores.arrow")).read_all()
    assert table.schema == scoring.SCHEMA
    assert table.num_rows == tally.rows == 300
    assert said and "300 rows" in said[-1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.arrow"]


def test_a_failing_run_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("disk")

    model, files = detectors.saved(tmp_path / "detector"), inbox(tmp_path / "inbox", 3)
    monkeypatch.setattr(scoring, "score_file", broken)
    with pytest.raises(OSError, match="disk"):
        scores.to_file(model, [str(files)], tmp_path / "out" / "scores.arrow", tmp_path, print)
    assert list((tmp_path / "out").iterdir()) == []


def test_usual_rows_are_no_news_and_moved_ones_are(tmp_path: Path) -> None:
    made, book = detectors.detector(), tmp_path / "book"
    usual = scores.account(made, "name", passed(book, inbox(tmp_path / "inbox", 400)), 0.25, 100)
    assert not usual["drifted"] and usual["drift"]["a"]["psi"] < 0.1
    moved = scores.account(made, "name", passed(book, inbox(tmp_path / "inbox", 300, 2.0, "b.csv")), 0.25, 100)
    assert moved["drifted"] and moved["drift"]["a"]["psi"] > 0.25 and moved["drift"]["a"]["ks"] > 0.3
    assert any("alarms in 300 new rows" in line for line in moved["news"])
    assert any("drifted: PSI" in line for line in moved["news"])
    few = scores.account(made, "name", passed(book, inbox(tmp_path / "inbox", 20, 2.0, "c.csv")), 0.25, 100)
    assert not few["drifted"], "a few rows say little"
    nothing = scores.account(made, "name", Scored([], ["inbox/a.csv"]), 0.25, 100)
    assert nothing["news"] == ["inbox/a.csv changed after being scored, and is left alone"]


def test_the_hook_is_told_and_may_fail(tmp_path: Path) -> None:
    script = tmp_path / "hook.py"
    script.write_text(f"import sys; open({str(tmp_path / 'told.json')!r}, 'w').write(sys.stdin.read())")
    assert scores.call_hook(f"{sys.executable} {script}", {"alarms": 3}) == "ended with 0"
    assert json.loads((tmp_path / "told.json").read_text()) == {"alarms": 3}
    assert scores.call_hook(f"{sys.executable} -c 'raise SystemExit(3)'", {}) == "ended with 3"
    assert scores.call_hook("/no/such/program", {}).startswith("did not run")


def test_which_detector_is_meant(tmp_path: Path) -> None:
    home, folder = Home(tmp_path / "home"), detectors.saved(tmp_path / "job" / "detector")
    assert scores.detector_of(str(folder), home) == scores.detector_of(str(tmp_path / "job"), home) == folder
    home.detectors.mkdir(parents=True)
    note = {"folder": str(folder), "name": "n", "why": "w"}
    (home.detectors / "anomaly.json").write_text(json.dumps(note))
    assert scores.detector_of("anomaly", home) == folder
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no detector"):
        scores.detector_of(str(tmp_path / "empty"), home)
    with pytest.raises(UserError):
        scores.detector_of("nothing-of-this-name", home)
