"""`sesame score`: all rows into a file, or new ones into a ledger; alarms, drift and hooks are told."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from rich.console import Console

from data_prep.errors import UserError
from flows import commands
from flows import score as scores
from flows.show.scores import MOST_ROWS, show_alarms
from pipeline.home import Home
from pipeline.scoring import score_files
from pipeline.scoring.ledger import Ledger, ScoringPass
from tests.pipeline import detectors


def inbox(folder: Path, count: int, moved: float = 0.0, name: str = "a.csv") -> Path:
    folder.mkdir(exist_ok=True)
    lines = detectors.csv_lines(detectors.rows(count, seed=(ord(name[0]) - 89) % 100, moved=moved))
    (folder / name).write_text(detectors.HEADER + "".join(lines))
    return folder


def passed(ledger: Path, files: Path) -> ScoringPass:
    detector = detectors.detector()
    with Ledger.held(ledger) as held:
        return held.score(detector, "name", score_files.files_of(detector, [str(files)], ledger))


def test_all_rows_into_one_file(tmp_path: Path) -> None:
    model, files, messages = detectors.saved(tmp_path / "detector"), inbox(tmp_path / "inbox", 300), []
    tally = scores.to_file(model, [str(files)], tmp_path / "out" / "scores.arrow", tmp_path, messages.append)
    table = pa.ipc.open_file(str(tmp_path / "out" / "scores.arrow")).read_all()
    assert table.schema == score_files.SCHEMA
    assert table.num_rows == tally.rows == 300
    assert messages and "300 rows" in messages[-1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.arrow"]


def test_the_rows_are_not_written_over(tmp_path: Path) -> None:
    model, files = detectors.saved(tmp_path / "detector"), inbox(tmp_path / "inbox", 30)
    before = (files / "a.csv").read_bytes()
    with pytest.raises(UserError, match="is one of the files that are read"):
        scores.to_file(model, [str(files)], files / "a.csv", tmp_path, print)
    assert (files / "a.csv").read_bytes() == before


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_scored_of_all_that_was_given_is_a_failure(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESAME_HOME", str(tmp_path / "home"))
    model = detectors.saved(tmp_path / "detector")
    (tmp_path / "a.csv").write_text("another,header\n1,2\n3,4\n")
    with pytest.raises(SystemExit) as ended:
        commands.score(str(model), [str(tmp_path / "a.csv")], str(tmp_path / "out.arrow"), None, None, as_json)
    assert ended.value.code == 1
    output = capsys.readouterr().out
    assert json.loads(output)["rejected"] == 2 if as_json else "2 rows that could not be read" in output
    commands.score(str(model), [str(inbox(tmp_path / "in", 3))], str(tmp_path / "out.arrow"), None, None, as_json)


def test_the_most_unusual_rows_are_shown_with_their_reasons(tmp_path: Path) -> None:
    model, files = detectors.saved(tmp_path / "detector"), inbox(tmp_path / "inbox", 40, moved=8.0)
    out = tmp_path / "scores.arrow"
    tally = scores.to_file(model, [str(files)], out, tmp_path, print)
    console = Console(file=io.StringIO(), width=200)
    show_alarms(out, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 1 + MOST_ROWS + 1 and lines[-1] == f"… {tally.alarms - MOST_ROWS} more"
    highest = pa.ipc.open_file(str(out)).read_all().sort_by([("score", "descending")]).slice(0, 1).to_pylist()[0]
    assert f" {highest['position']} " in lines[1] and f"{highest['reasons'][0]['column']} " in lines[1]
    assert f"{highest['reasons'][0]['column']} {highest['reasons'][0]['why']}" in lines[1] and " beyond " in lines[1]


def test_a_failing_run_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("disk")

    model, files = detectors.saved(tmp_path / "detector"), inbox(tmp_path / "inbox", 3)
    monkeypatch.setattr(score_files, "score_file", broken)
    with pytest.raises(OSError, match="disk"):
        scores.to_file(model, [str(files)], tmp_path / "out" / "scores.arrow", tmp_path, print)
    assert list((tmp_path / "out").iterdir()) == []


def test_usual_rows_are_no_news_and_moved_ones_are(tmp_path: Path) -> None:
    detector, ledger = detectors.detector(), tmp_path / "ledger"
    usual = scores.account(detector, "name", passed(ledger, inbox(tmp_path / "inbox", 400)), 0.25, 100)
    assert not usual["drifted"] and usual["drift"]["a"]["psi"] < 0.1
    moved = scores.account(detector, "name", passed(ledger, inbox(tmp_path / "inbox", 300, 2.0, "b.csv")), 0.25, 100)
    assert moved["drifted"] and moved["drift"]["a"]["psi"] > 0.25 and moved["drift"]["a"]["ks"] > 0.3
    assert any("alarms in 300 new rows" in line for line in moved["news"])
    (drift,) = (line for line in moved["news"] if "drifted: PSI" in line)
    worst = max(moved["drift"], key=lambda column: moved["drift"][column]["psi"])
    assert drift.startswith(f"{worst} drifted: PSI {moved['drift'][worst]['psi']:.2f} of 300 rows")
    assert len(moved["drift"]) > 2 and min(values["psi"] for values in moved["drift"].values()) < 0.25
    few = scores.account(detector, "name", passed(ledger, inbox(tmp_path / "inbox", 20, 2.0, "c.csv")), 0.25, 100)
    assert not few["drifted"], "a few rows say little"
    nothing = scores.account(detector, "name", ScoringPass([], ["inbox/a.csv"], {}, {"b.csv": 7}), 0.25, 100)
    assert (nothing["news"], nothing["replaced"], nothing["known"]) == ([], ["inbox/a.csv"], {"b.csv": 7})


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
    note["folder"] = str(tmp_path / "removed")
    (home.detectors / "anomaly.json").write_text(json.dumps(note))
    with pytest.raises(UserError, match=r"the detector in use of anomaly, .*removed, is gone; run its recipe again"):
        scores.detector_of("anomaly", home)
    with pytest.raises(UserError):
        scores.detector_of("nothing-of-this-name", home)


# -- the flow ----------------------------------------------------------------------------------------------------------


class KilledError(BaseException):
    """The end of the process, as far as the flow can tell."""


class Passes:
    """Passes of the flow in this process, without Prefect and MLflow; what its hook heard, call by call."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("SESAME_HOME", str(folder / "home"))
        patch.setattr(scores, "score_new", scores.score_new.fn)
        patch.setattr(scores, "_track", lambda *_: None)
        self.files, self.ledger, self.heard = folder / "inbox", folder / "ledger", folder / "heard.txt"
        self.model = detectors.saved(folder / "detector")
        self.files.mkdir()
        script = folder / "hook.py"
        script.write_text(f"import sys; open({str(self.heard)!r}, 'a').write(sys.stdin.read() + chr(10))")
        self.hook = f"{sys.executable} {script}"

    def run(self, **settings: Any) -> dict[str, Any]:
        self.heard.write_text("")
        return scores.score.fn(str(self.model), [str(self.files)], str(self.ledger), self.hook, **settings)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.heard.read_text().splitlines()]


@pytest.fixture
def passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Passes:
    return Passes(tmp_path, monkeypatch)


def test_an_inbox_may_be_empty(passes: Passes) -> None:
    outcome = passes.run()
    assert (outcome["rows"], outcome["files"], outcome["news"], passes.calls) == (0, [], [], [])
    (passes.files / "notes.md").write_text("no rows")
    assert passes.run()["rows"] == 0
    inbox(passes.files, 7)
    assert passes.run()["rows"] == 7
    with pytest.raises(UserError, match="does not exist"):
        scores.score.fn(str(passes.model), [str(passes.files / "typo")], str(passes.ledger))
    with pytest.raises(UserError, match="not a file that can be read"):
        scores.score.fn(str(passes.model), [str(passes.files / "notes.md")], str(passes.ledger))
    (empty := passes.ledger.parent / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file"):
        scores.to_file(passes.model, [str(empty)], passes.ledger / "out.arrow", passes.ledger, print)


@pytest.mark.parametrize("where", ["_track", "call_hook", "mark_told"])
def test_a_pass_that_was_killed_is_told_by_the_next(
    passes: Passes, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise KilledError

    inbox(passes.files, 30, moved=2.0)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(scores, where, kill)
        passes.run()
    outcome = passes.run()
    assert outcome["rows"] == 30 and outcome["alarms"] > 5
    assert [call["alarms"] for call in passes.calls] == [outcome["alarms"]]
    outcome = passes.run()
    assert (outcome["rows"], outcome["alarms"], passes.calls) == (0, 0, []), "it was told"


def test_a_hook_that_fails_is_not_tried_again(passes: Passes) -> None:
    inbox(passes.files, 30, moved=2.0)
    passes.hook = f"{sys.executable} -c 'raise SystemExit(3)'"
    assert passes.run()["hook"] == "ended with 3"
    assert "hook" not in passes.run()


def test_drift_adds_up_over_passes_and_is_told_once(passes: Passes) -> None:
    drifted = []
    for number in range(5):
        inbox(passes.files, 60, 2.0, f"{number}.csv")
        outcome = passes.run(least_rows=100)
        drifted.append((outcome["drifted"], outcome["rows"], outcome["drift_rows"]))
        assert any("drifted: PSI" in line for line in outcome["news"]) == outcome["drifted"]
    assert drifted == [(False, 60, 60), (True, 60, 120), (False, 60, 60), (True, 60, 120), (False, 60, 60)]
    outcome = passes.run(least_rows=10)
    assert not outcome["drifted"] and outcome["drift"] == {}, "nothing is new"


def test_chance_is_no_drift(passes: Passes) -> None:
    inbox(passes.files, 12)
    outcome = passes.run(least_rows=10)
    assert outcome["drift"]["a"]["chance"] > outcome["drift"]["a"]["psi"] > 0.25 and not outcome["drifted"]
    assert set(outcome["drift"]["a"]) == {"psi", "ks", "chance"}


def test_a_row_that_is_being_written_is_said_and_no_alarm(passes: Passes) -> None:
    path = inbox(passes.files, 7) / "a.csv"
    path.write_text(path.read_text()[:-1])
    outcome = passes.run()
    (wait,) = outcome["news"]
    assert outcome["rows"] == 6 and wait.endswith("bytes of inbox/a.csv wait for a line end")
    assert outcome["waiting"]["inbox/a.csv"] == int(wait.split()[0]) and passes.calls == []
    outcome = passes.run(settled_seconds=0)
    assert (outcome["rows"], outcome["news"]) == (1, [])


def test_alarms_are_told_before_retraining_and_its_failure_after(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, heard = True, []

    def retrained(*_: object) -> str:
        heard.append(len(passes.calls))
        if failing:
            raise RuntimeError("no GPU is free\nat all")
        return "retrained, the new champion: why"

    monkeypatch.setattr(scores, "retrained", retrained)
    inbox(passes.files, 150, moved=2.0)
    with pytest.raises(RuntimeError, match="no GPU"):
        passes.run(retrain="mine")
    first, second = passes.calls
    assert heard == [1] and first["alarms"] > 20 and any("drifted: PSI" in line for line in first["news"])
    assert second["news"] == ["retraining failed: no GPU is free"]

    assert passes.run(retrain="mine")["rows"] == 0 and passes.calls == [], "nothing is new"
    failing = False
    inbox(passes.files, 3, 2.0, "b.csv")
    assert "retrained" not in passes.run(retrain="mine"), "three rows are no drift, and the others were told"
    inbox(passes.files, 97, 2.0, "c.csv")
    outcome = passes.run(retrain="mine")
    assert (outcome["rows"], outcome["drift_rows"], outcome["retrained"]) == (
        97,
        100,
        "retrained, the new champion: why",
    )
    assert passes.calls[-1]["news"] == [outcome["news"][-1]] == ["retrained, the new champion: why"]


def test_two_passes_at_once_report_and_retrain_once(passes: Passes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second fails while the first reports, and only reports while it trains."""
    inbox(passes.files, 150, moved=2.0)
    model, files, ledger = str(passes.model), [str(passes.files)], str(passes.ledger)

    def track(*_: object) -> None:
        monkeypatch.setattr(scores, "_track", lambda *_: None)
        with pytest.raises(UserError, match="another run is scoring into it"):
            scores.score.fn(model, files, ledger, passes.hook)

    trained, outcomes = [], []

    def retrained(*_: object) -> str:
        trained.append(len(passes.calls))
        inbox(passes.files, 150, moved=2.0, name="b.csv").joinpath("b.csv").write_text(
            detectors.HEADER + "".join(detectors.csv_lines(detectors.rows(150, seed=4, moved=2.0)))
        )
        outcomes.append(scores.score.fn(model, files, ledger, passes.hook, retrain="mine"))
        return "retrained, the champion stays: why"

    monkeypatch.setattr(scores, "_track", track)
    monkeypatch.setattr(scores, "retrained", retrained)
    first = passes.run(retrain="mine")
    assert trained == [1] and first["rows"] == 150 and first["retrained"] == "retrained, the champion stays: why"
    [second] = outcomes
    assert (second["rows"], second["drifted"], "retrained" in second) == (150, True, False)
    assert second["news"][-1] == "mine is being retrained already"
    assert passes.run(retrain="mine")["rows"] == 0, "all was told"


def test_the_deployment_runs_one_pass_at_a_time() -> None:
    deployments = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())["deployments"]
    [scoring] = [each for each in deployments if each["entrypoint"] == "flows/score.py:score"]
    assert scoring["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
