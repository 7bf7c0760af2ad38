"""Everything reported is found in MLflow, once."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.tracking import tracking
from pipeline.tracking.metric_name import metric_name
from pipeline.tracking.tracking import Tracker, flatten, follow
from tests.pipeline.tracked import DEAD, check, history, report, runs_of, start, stored, table

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_importing_costs_no_mlflow() -> None:
    code = "import sys, pipeline.tracking.tracking, pipeline.tracking.registry; sys.exit('mlflow' in sys.modules)"
    assert start(code).wait() == 0


def test_processes_may_begin_on_a_fresh_home_at_once(
    begun_at_once: tuple[Path, list[tuple[int, str]]], client: Any
) -> None:
    home, ends = begun_at_once
    assert ends == [(0, "")] * 2, "all was sent, and MLflow said nothing"
    experiment = client.get_experiment_by_name("at once")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["sesame.id"] for run in runs) == ["flow-0", "flow-1"]
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    assert experiment.artifact_location == (home / "mlflow" / "artifacts" / "at-once").as_uri()


def test_all_that_is_reported_arrives(tmp_path: Path, uri: str, client: Any, figure: Path) -> None:
    import mlflow

    tracker = Tracker(tmp_path, uri, "everything", "flow-1")
    before = {path.name for path in Path.cwd().iterdir()}
    _, stage = report(tracker, figure)
    assert tracker.close() == 0
    check(client, "everything", "flow-1")
    assert tracker.url(stage) == "sesame ui"
    assert mlflow.active_run() is None
    assert {path.name for path in Path.cwd().iterdir()} - before <= {"tracking", "mlflow"}
    for name in ("mlruns", "mlflow.db"):
        assert not Path(name).exists()


def test_values_that_mlflow_would_not_keep(tmp_path: Path, uri: str, client: Any) -> None:
    tracker = Tracker(tmp_path, uri, "odd values", "odd")
    run = tracker.run("odd", params={"long": "x" * 6001, "fits": "y" * 6000, "a": {"b": [1, None], "c": {}}, "d": ""})
    run.metrics({"loss": math.nan, "peak": math.inf, "f32": np.float32(0.5), "n": np.int64(3), "phase": "warm"}, 1)
    run.metrics({"loss": -math.inf, "on": True, "huge": 10**400, "weird (name)/../é%": 2}, 2)
    run.tags({"long": "z" * 9000})
    run.end()
    assert tracker.close() == 0
    (mlflow_run,) = runs_of(client, "odd values").values()
    assert mlflow_run.data.metrics == {"f32": 0.5, "n": 3.0, "weird _name_/é_": 2.0}
    assert (mlflow_run.data.tags["sesame.nonfinite"], mlflow_run.data.tags["sesame.nonnumeric"]) == ("4", "2")
    assert len(mlflow_run.data.tags["long"]) == tracking.LONGEST_TAG
    note = "(6001 characters, in params-long.json)"
    assert mlflow_run.data.params == {"long": note, "fits": "y" * 6000, "a.b": "[1, null]", "a.c": "{}", "d": ""}
    stored = client.download_artifacts(mlflow_run.info.run_id, "params-long.json", str(tmp_path))
    assert json.loads(Path(stored).read_text()) == {"long": "x" * 6001}


def test_a_table_is_what_mlflow_would_log_itself(tmp_path: Path, uri: str, client: Any) -> None:
    columns, texts = ["source", "rows", "share", "flag"], ["a", "山 é", ""]
    rows = [[text, number, number / 4, number > 1] for number, text in enumerate(texts)]
    tracker = Tracker(tmp_path, uri, "tables", "tables")
    with tracker.run("ours") as run:
        run.table(columns, [[text, np.int64(n), np.float64(share), flag] for text, n, share, flag in rows], "a/b.json")
        run.table(columns, rows[:1], "c.json")
        run.table(columns, rows, "c.json")  # takes the place of the first
    tracker.run("theirs").end()
    assert tracker.close() == 0
    files = ("a/b.json", "c.json")
    for file in files:
        data = dict(zip(columns, zip(*rows, strict=True), strict=True))
        client.log_table(runs_of(client, "tables")["theirs"].info.run_id, data, file)
    runs = runs_of(client, "tables")
    ours, theirs = runs["ours"], runs["theirs"]
    assert ours.data.tags["mlflow.loggedArtifacts"] == theirs.data.tags["mlflow.loggedArtifacts"]
    for file in files:
        assert stored(client, ours, file) == stored(client, theirs, file)
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        assert table(client, ours, file) == table(client, theirs, file) == records


def test_cells_that_json_does_not_have(tmp_path: Path, uri: str, client: Any) -> None:
    tracker = Tracker(tmp_path, uri, "odd cells", "odd-cells")
    with tracker.run("odd") as run:
        run.table(["a", "b", "c"], [[math.nan, -math.inf, None], [10**400, Path("x"), "\ud800"]], "odd.json")
        run.table(["a"], [], "none.json")
    assert tracker.close() == 0
    (mlflow_run,) = runs_of(client, "odd cells").values()
    rows = [[None, None, None], [10**400, "x", "\ud800"]]
    assert stored(client, mlflow_run, "odd.json") == {"columns": ["a", "b", "c"], "data": rows}
    assert (
        stored(client, mlflow_run, "none.json") == {"columns": ["a"], "data": []}
        and table(client, mlflow_run, "none.json") == []
    )


@pytest.mark.parametrize(
    ("columns", "data", "file", "message"),
    [
        (["a"], [[1]], "a.csv", "a table's file ends in .json, not as 'a.csv' does"),
        (["a", "a"], [[1, 2]], "a.json", "two columns have one name among a, a"),
        (["a", "b"], [[1, 2], [3]], "a.json", "a row has 1 cells, not one for each of 2 columns"),
    ],
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, columns: list[str], data: list[list[int]], file: str, message: str
) -> None:
    run = Tracker(tmp_path, DEAD, "no tables", "no-tables").run("flow")
    with pytest.raises(ValueError, match=message):
        run.table(columns, data, file)


def test_many_params_and_metrics(tmp_path: Path, uri: str, client: Any) -> None:
    tracker = Tracker(tmp_path, uri, "many", "many")
    run = tracker.run("many", params={f"p{number}": number for number in range(250)})
    run.metrics({f"m{number}": number for number in range(1500)}, 0)
    for step in range(300):
        run.metrics({f"k{number}": step for number in range(7)}, step)
    run.end()
    assert tracker.close() == 0
    (mlflow_run,) = runs_of(client, "many").values()
    assert (len(mlflow_run.data.params), len(mlflow_run.data.metrics)) == (250, 1507)
    assert history(client, mlflow_run, "k6") == [(step, float(step)) for step in range(300)]


def test_a_context_ends_its_run(tmp_path: Path, uri: str, client: Any) -> None:
    tracker = Tracker(tmp_path, uri, "contexts", "contexts")
    with tracker.run("fine"):
        pass
    with pytest.raises(ZeroDivisionError), tracker.run("broken"):
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), tracker.run("stopped"):
        raise KeyboardInterrupt
    run = tracker.run("twice")
    run.end("FAILED")
    run.end("FINISHED")
    with pytest.raises(ValueError, match="none of FINISHED, FAILED, KILLED"):
        run.end("DONE")
    assert tracker.close() == 0
    status = {name: run.info.status for name, run in runs_of(client, "contexts").items()}
    assert status == {"fine": "FINISHED", "broken": "FAILED", "stopped": "KILLED", "twice": "FAILED"}


def test_a_flow_that_is_run_again_goes_on_with_its_parent(tmp_path: Path, uri: str, client: Any) -> None:
    for attempt in range(2):
        tracker = Tracker(tmp_path, uri, "again", "the-flow")
        flow = tracker.run("flow", params={"seed": 1})
        tracker.run(f"stage {attempt}", flow).end()
        flow.end("FAILED" if attempt == 0 else "FINISHED")
        assert tracker.close() == 0
    runs = runs_of(client, "again")
    assert set(runs) == {"flow", "stage 0", "stage 1"}
    assert runs["flow"].info.status == "FINISHED"
    assert {runs[f"stage {n}"].data.tags["mlflow.parentRunId"] for n in range(2)} == {runs["flow"].info.run_id}


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    for name in ("../up", "", "a b", ".hidden", "x" * 201):
        with pytest.raises(ValueError, match="cannot name a flow run"):
            Tracker(tmp_path, DEAD, "names", name)


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_a_call_costs_one_line_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(tmp_path, DEAD, "cost", "cost")
    run = tracker.run("busy")
    calls: list[tuple[str, str]] = []
    with monkeypatch.context() as patch:
        for name in ("write", "open", "fsync", "replace"):
            original = getattr(os, name)

            def noted(*arguments: Any, name: str = name, original: Any = original) -> Any:
                calls.append((threading.current_thread().name, name))
                return original(*arguments)

            patch.setattr(os, name, noted)
        for step in range(50):
            run.metrics({f"m{number}": 0.5 for number in range(8)}, step)
    assert [call for thread, call in calls if thread == "MainThread"] == ["write"] * 50
    tracker.close(timeout=0)


def test_pages_of_a_server_have_addresses_without_passwords(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, "http://me:secret@127.0.0.1:1/base/", "pages", "pages")
    run = tracker.run("flow")
    assert tracker.url(run) == "http://127.0.0.1:1/base/"
    tracker._server._experiments["pages"] = "12"
    tracker._sender.progress.runs[run.id] = "abc"
    assert tracker.url(run) == "http://127.0.0.1:1/base/#/experiments/12/runs/abc?workflowType=machine_learning"
    tracker.close(timeout=0)


def test_flatten() -> None:
    nested = {"a": {"b": {"c": 1.5}, "d": "text"}, "e": [1, {"f": None}], "g": {}, "h": None, "i": True}
    expected = {"a.b.c": "1.5", "a.d": "text", "e": '[1, {"f": null}]', "g": "{}", "h": "null", "i": "true"}
    assert flatten(nested) == expected


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("loss", "loss"), ("a/b c:d.e-f", "a/b c:d.e-f"), ("/x//../y/", "x/y"), ("..", "_"), ("", "_"), ("a%b", "a_b")],
)
def test_names_that_mlflow_allows(name: str, allowed: str) -> None:
    assert metric_name(name) == allowed


def test_follow_reads_what_is_there_and_what_comes(tmp_path: Path) -> None:
    path, stop = tmp_path / "metrics.jsonl", threading.Event()
    seen: list[int] = []
    thread = threading.Thread(target=follow, args=(path, lambda record: seen.append(record["step"]), stop, 0.01))
    thread.start()
    _wait_for(seen, [])
    path.write_text('{"step": 1}\n{"step": 2}\nnot json\n{"other": 3}\n{"ste')
    _wait_for(seen, [1, 2])
    with path.open("a") as file:
        file.write('p": 3, "loss": NaN}\n')
    _wait_for(seen, [1, 2, 3])
    for _ in range(200):  # gone for a moment, as when training begins anew
        path.unlink()
        path.write_text("")
    assert thread.is_alive()
    path.write_text('{"step": 7}\n')
    _wait_for(seen, [1, 2, 3, 7])
    with path.open("a") as file:
        file.write('{"step": 8}\n{"step": 9}')
    stop.set()
    thread.join()
    assert seen == [1, 2, 3, 7, 8]


def _wait_for(seen: list[int], expected: list[int]) -> None:
    limit = time.monotonic() + 10
    while seen != expected:
        assert time.monotonic() < limit, f"{seen} instead of {expected}"
        time.sleep(0.01)


def test_a_record_of_training_becomes_metrics(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, DEAD, "records", "records")
    run = tracker.run("pretrain")
    run.record({"step": 3, "samples": 96, "time": 12.5, "loss": 4.0})
    tracker.close(timeout=0)
    operation = [operation for operation, _ in tracker._spool.read(0)][-1]
    assert operation == {
        "op": "metrics", "id": run.id, "values": {"samples": 96.0, "loss": 4.0}, "step": 3, "time": 12500,
    }  # fmt: skip
