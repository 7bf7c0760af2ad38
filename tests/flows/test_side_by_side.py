"""Jobs of a run overlap in time where the placement asks for it, and the run is as it is otherwise."""

from __future__ import annotations

from pathlib import Path

from flows import pretrain
from pipeline import dag
from pipeline.recipe.load import load
from tests.flows.runner import Runner, client_of
from tests.pipeline.test_side_by_side import node


def test_two_jobs_of_a_run_meet(runner: Runner, tmp_path: Path) -> None:
    """Each ends once the other has begun, in a process of its own; Prefect and the run's record have both."""
    folder = tmp_path / "met"
    folder.mkdir()
    jobs = [node(name, folder=str(folder), group=2) for name in ("first", "second")]
    runner.patch.setattr(dag, "nodes", lambda recipe, downloads: jobs)
    recipe = load(runner.recipe, None, ("placement.jobs=2",))
    with client_of(runner.server):
        run = pretrain.run(runner.home, recipe, (runner.recipe, None, ()))
    assert run.status == "done" and set(run.stages) == {"first", "second"}
    pids = {run.metrics[f"{name}.pid"] for name in ("first", "second")}
    assert len(pids) == 2 and {run.metrics[f"{name}.threads"] for name in ("first", "second")} == {1.0}
    assert {name for name, _ in runner.stages()} == {"first", "second"}
