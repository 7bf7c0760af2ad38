"""Comparisons and sweeps: their reports on made-up runs, and true ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from data_prep.errors import UserError
from flows import compare
from flows.compare import combinations, sweep_of
from pipeline.home import Home
from pipeline.recipe.comparison import Compared, Trial, find
from pipeline.reports import comparison as reports
from pipeline.reports import data
from pipeline.reports.report import read
from pipeline.runs import Run, StageRecord
from pipeline.tracking import mlflow_server
from tests.flows.end_to_end.test_quickstart import sesame
from tests.pipeline import tiny
from tests.pipeline.recipe.test_comparison import written


def test_every_combination() -> None:
    trials = combinations(["train.lr=1e-3, 1e-2", "seed=0,1"])
    assert trials == [
        {"train.lr": "1e-3", "seed": "0"},
        {"train.lr": "1e-3", "seed": "1"},
        {"train.lr": "1e-2", "seed": "0"},
        {"train.lr": "1e-2", "seed": "1"},
    ]


@pytest.mark.parametrize("over", ["train.lr", "train.lr=", "=1,2", "train.lr=1,,2", "train.lr=1,1", "seed=0,one"])
def test_what_is_no_list_of_values_is_refused(over: str) -> None:
    with pytest.raises(UserError, match="--over"):
        sweep_of("bert", "tiny", [], [over])


def test_a_sweep_is_a_comparison_of_all_combinations() -> None:
    swept = sweep_of("bert", "tiny", ["train.steps=9", "seed=4"], ["train.lr=1e-3,2e-3", "train.clip=0.5,1.0"])
    assert swept.comparison.seeds == [4] and len(swept.trials) == 4
    assert list(swept.comparison.arms)[:2] == ["lr 1e-3, clip 0.5", "lr 1e-3, clip 1.0"]
    recipe: Any = swept.recipe(Trial("lr 2e-3, clip 0.5", 4))
    assert (recipe.train.lr, recipe.train.clip, recipe.train.steps, recipe.seed) == (2e-3, 0.5, 9, 4)
    assert recipe.downstream == [], "pretraining alone"


def test_a_sweep_over_seeds_is_one_arm_with_a_spread() -> None:
    swept = sweep_of("bert", "tiny", [], ["seed=0,1"])
    assert swept.trials == [Trial("bert", 0), Trial("bert", 1)]
    swept = sweep_of("bert", "tiny", [], ["seed=3,5", "train.lr=1e-3,2e-3"])
    assert swept.trials[:2] == [Trial("lr 1e-3", 3), Trial("lr 2e-3", 3)]


LOSS = {"name": "loss", "number": "validation/loss", "better": "lower"}
LOSSES = {("slow", 0): 4.7, ("slow", 1): 4.9, ("fast", 0): 4.2, ("fast", 1): 4.41}


def made_up(folder: Path, values: dict[tuple[str, int], float]) -> Callable[[Trial], Run]:
    """Makes runs with these held-out losses; UserError for others."""

    def make(trial: Trial) -> Run:
        if trial not in values:
            raise UserError("the loss is not finite")
        loss, artifact = values[trial], folder / f"{trial.arm}-{trial.seed}"
        artifact.mkdir()
        records = [{"step": step, "train/loss": 5.0, "validation/loss": loss + 1 / step} for step in (1, 2)]
        (artifact / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        run = Run(f"run-{trial.arm}-{trial.seed}", "tiny", None)
        run.stages["pretrain"] = StageRecord(f"pretrain-{trial.arm}-{trial.seed}", str(artifact), False, 1.0)
        run.metrics |= {"pretrain.validation/loss": loss, "pretrain.workers/images_per_second": 1000.0}
        return run

    return make


@pytest.fixture
def untracked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would go to MLflow; nothing does."""
    tracked: list[Any] = []
    monkeypatch.setattr(compare, "_track", lambda *given: tracked.append(given))
    return tracked


def compared_by(
    tmp_path: Path, values: dict[tuple[str, int], float], compared: Compared | None = None
) -> tuple[Path, list[reports.Result]]:
    compared = compared or find(written(tmp_path))
    make, home = made_up(tmp_path, values), Home(tmp_path / "home")
    folder, _, results = compare.compare(home, compared, make, Console(quiet=True))
    return folder, results


def test_a_report_says_which_orders_hold(tmp_path: Path, untracked: list[Any]) -> None:
    folder, results = compared_by(tmp_path, LOSSES)
    report, page = read(folder), (folder / "report.md").read_text()
    assert report.verdict == (
        "By loss (seeds make 0.064): fast before slow (+0.495) holds. In all, 1 of 1 orders hold, 0 are reversed and 0 "
        "cannot be told from 2 seeds."
    )
    assert report.tables[0].rows == [["slow", "4.800 ± 0.141"], ["**fast**", "4.305 ± 0.148"]]
    assert report.numbers == {
        "loss/slow": pytest.approx(4.8),
        "loss/fast": pytest.approx(4.305),
        **{"orders/hold": 1.0, "orders/reversed": 0.0, "orders/open": 0.0},
    }
    assert "| fast before slow | loss | +0.4950 | 0.0635 | holds |" in page
    assert "| fast | 1 | 4.410 | 1,000 images/s | run-fast-1 | pretrain-fast-1 |" in page
    assert {path.name for path in (folder / "figures").iterdir()} == {"scores.png", "curves.png"}
    assert [result.seed for result in results] == [0, 0, 1, 1] and len(untracked) == 1


def test_one_that_fails_is_named_and_does_not_end_the_others(tmp_path: Path, untracked: list[Any]) -> None:
    folder, results = compared_by(tmp_path, {trial: loss for trial, loss in LOSSES.items() if trial != ("fast", 0)})
    report = read(folder)
    assert [bool(result.error) for result in results] == [False, True, False, False]
    assert "1 of 4 runs failed" in report.about and report.verdict.endswith("Runs of fast failed.")
    assert "fast before slow (+0.490) cannot be told" in report.verdict, "one seed has both"
    assert any("failed: the loss is not finite" in row for row in report.tables[-1].rows)


def test_nothing_but_failures_is_a_report_too(tmp_path: Path, untracked: list[Any]) -> None:
    folder, _ = compared_by(tmp_path, {})
    assert (
        read(folder).verdict
        == "By loss nothing can be compared: no seed has it for all arms. Runs of slow, fast failed."
    )


def test_an_interrupt_ends_all_of_it_and_the_next_time_it_goes_on(tmp_path: Path, untracked: list[Any]) -> None:
    """What was made then is found by `making.made`, so nothing but the order of runs has to be kept."""
    made: list[Trial] = []

    def make(trial: Trial) -> Run:
        made.append(trial)
        if len(made) == 3:
            raise SystemExit(130)  # as `making.carry_out` ends after Ctrl-C
        return made_up(tmp_path, LOSSES)(trial)

    compared, home = find(written(tmp_path)), Home(tmp_path / "home")
    with pytest.raises(SystemExit):
        compare.compare(home, compared, make, Console(quiet=True))
    assert made == compared.trials[:3] and not untracked and not home.comparisons.exists()


def test_a_run_without_a_score_is_told(tmp_path: Path, untracked: list[Any]) -> None:
    scores = [{"name": "accuracy", "number": "validation/mlm_accuracy"}]
    _, results = compared_by(tmp_path, LOSSES, find(written(tmp_path, scores=scores)))
    assert results[0].error == (
        "pretrain of the run made no 'validation/mlm_accuracy'; it made validation/loss, workers/images_per_second."
    )


def test_without_an_order_the_best_is_named(tmp_path: Path, untracked: list[Any]) -> None:
    folder, _ = compared_by(tmp_path, LOSSES, find(written(tmp_path, expected=[])))
    assert read(folder).verdict == "Lowest loss: fast, beyond the spread of seeds from slow."


def test_one_seed_names_the_best_and_tells_no_order(tmp_path: Path, untracked: list[Any]) -> None:
    folder, _ = compared_by(tmp_path, LOSSES, find(written(tmp_path, expected=[], seeds=[0])))
    assert read(folder).verdict == "Lowest loss: fast (one seed, so no order can be told)."


def test_papers_stand_beside_ours(tmp_path: Path, untracked: list[Any]) -> None:
    papers = [
        {"source": "One 2019, table 8", "scores": {"MNLI": {"slow": 84.0}}},
        {"source": "Two 2020, table 1", "scores": {"MNLI": {"fast": 90.0, "slow": 80.5}}},
    ]
    folder, _ = compared_by(tmp_path, LOSSES, find(written(tmp_path, papers=papers)))
    report = read(folder)
    assert report.tables[0].columns == ["arm", "loss (↓)", "MNLI [1]", "MNLI [2]"]
    assert [row[2:] for row in report.tables[0].rows] == [["84.0", "80.5"], ["–", "90.0"]]
    assert "[1] One 2019, table 8." in report.about and "[2] Two 2020, table 1." in report.about


def test_scores_are_drawn_against_each_other(
    tmp_path: Path, untracked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(data, "against", lambda *given: drawn.append(given))
    arms = {name: {"train.lr": rate} for name, rate in (("slow", 1e-4), ("fast", 1e-2), ("middle", 1e-3))}
    speed = {"name": "speed", "number": "workers/images_per_second", "judged": False}
    sections = {"arms": arms, "scores": [LOSS, speed], "against": ["loss", "speed"]}
    values = {**LOSSES, ("middle", 0): 4.5, ("middle", 1): 4.6}
    folder, _ = compared_by(tmp_path, values, find(written(tmp_path, **sections)))
    (((x, y), points, _),) = drawn
    assert (x, y) == ("loss", "speed") and points["slow"] == [(4.7, 1000.0), (4.9, 1000.0)]
    assert "ρ" not in read(folder).verdict, "speeds are all alike"


@pytest.mark.slow
def test_the_whole_and_its_runs_are_in_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    values = {trial: loss for trial, loss in LOSSES.items() if trial != ("fast", 1)}
    folder, _ = compared_by(tmp_path, values)
    server = mlflow_server.Server(tmp_path / "home", None)
    tracked = server.client.search_runs([server.experiment("compare-rates")])
    (whole,) = [run for run in tracked if run.data.tags.get("stage") == "comparison"]
    runs = {run.info.run_name: run for run in tracked if run.data.tags.get("mlflow.parentRunId") == whole.info.run_id}
    assert whole.info.run_name == folder.name and "cannot be told" in whole.data.tags["mlflow.note.content"]
    assert whole.data.metrics["loss/slow"] == pytest.approx(4.8)
    assert set(runs) == {"slow, seed 0", "slow, seed 1", "fast, seed 0", "fast, seed 1"}
    assert runs["fast, seed 0"].data.tags["run"] == "run-fast-0"
    assert runs["fast, seed 0"].data.params["train.lr"] == "0.01" and runs["fast, seed 0"].data.metrics == {"loss": 4.2}
    assert runs["fast, seed 1"].info.status == "FAILED"
    files = {file.path for file in server.client.list_artifacts(whole.info.run_id)}
    assert {"comparison.yaml", "report.md", "figures", "tables"} <= files


@pytest.mark.slow
def test_a_true_comparison_shares_its_data_and_is_made_once(tmp_path: Path) -> None:
    verbs = {"name": "F1", "stage": "verbs", "number": "F1/pretrained_24"}
    path = written(tmp_path, seeds=[0], scores=[LOSS, verbs], settings={"train.steps": 4, "downstream.0.steps": 2})
    outcome = json.loads(sesame(tmp_path, "run", str(path), "--json").stdout.strip().splitlines()[-1])
    slow, fast = outcome["trials"]
    assert slow["scores"]["loss"] != fast["scores"]["loss"] and set(slow["scores"]) == {"loss", "F1"}
    assert "cannot be told" in outcome["verdict"] and (Path(outcome["folder"]) / "report.md").is_file()
    store = tmp_path / "home" / "store"
    assert len(list(store.glob("shards-*"))) == 1
    made = {path.parent.name for path in store.glob("pretrain-*/manifest.json")}
    assert made == {slow["artifact"], fast["artifact"]}
    again = sesame(tmp_path, "run", str(path))
    assert "fast before slow" in again.stdout
    assert made == {path.parent.name for path in store.glob("pretrain-*/manifest.json")}
    planned = sesame(tmp_path, "plan", str(path)).stdout
    assert planned.count("nothing, all of it is stored") == 2


@pytest.mark.slow
def test_a_true_sweep_makes_the_data_once(tmp_path: Path) -> None:
    recipe = tiny.recipe(tmp_path)
    done = sesame(tmp_path, "sweep", str(recipe), "--over", "train.lr=1e-4,1e-2", "--json")
    outcome = json.loads(done.stdout.strip().splitlines()[-1])
    scores = [trial["scores"]["held-out loss"] for trial in outcome["trials"]]
    assert len(set(scores)) == 2 and outcome["verdict"].startswith("Lowest held-out loss: lr 1e-")
    store = tmp_path / "home" / "store"
    assert len(list(store.glob("shards-*"))) == 1
    assert len(list(store.glob("pretrain-*/manifest.json"))) == 2
