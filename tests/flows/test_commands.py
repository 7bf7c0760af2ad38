"""What a command does, beside what it calls."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.corpus import unit_cache
from data_prep.errors import UserError
from flows import artifacts, commands, compare, making
from flows import submit as submission
from flows.machine.signals import terminated
from pipeline import dag, runs
from pipeline.home import Home
from pipeline.recipe.load import load, namesake
from tests.pipeline import tiny_arrays


@pytest.mark.parametrize("ended", [runs.DONE, runs.FAILED, runs.INTERRUPTED])
def test_a_rerun_has_nothing_to_do_only_after_a_run_that_ended_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    """All stages are stored, and what comes after them failed: it is not passed over."""
    home, recipe = Home(tmp_path / "home"), load(tiny_arrays.recipe(tmp_path))
    artifact = SimpleNamespace(key="ingest-1", path=tmp_path, summary={})
    stored = [SimpleNamespace(node=SimpleNamespace(name="ingest"), artifact=artifact)]
    monkeypatch.setattr(dag, "plan", lambda *_: stored)
    assert making.stored_run(home, recipe) is None, "no run of it is known"
    with runs.begin(home.runs, recipe) as record:
        record.reuse("ingest", artifact)  # type: ignore[arg-type]
        record.status = ended
        runs.save(home.runs, record)
    again = making.stored_run(home, recipe)
    assert (again is not None) == (ended == runs.DONE)
    assert making.stored_run(home, recipe.model_copy(update={"name": "another"})) is None
    artifact.key = "ingest-2"
    assert making.stored_run(home, recipe) is None, "what was made then is not what is stored now"


def test_a_copy_under_a_packaged_name_is_told_so(tmp_path: Path) -> None:
    path = tiny_arrays.recipe(tmp_path)
    assert list(namesake(load(path))) == [] == list(namesake(load("anomaly")))
    [finding] = namesake(load("anomaly", overrides=[f"data.sources=[{{path: {tmp_path / 'rows.csv'}}}]"]))
    assert (
        finding.text.startswith("anomaly is the name of a packaged recipe, which reads other data")
        and not finding.refused
    )


# -- what is refused before anything is done --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (commands.show, ("no-such-recipe", None, [])),
        (commands.show, ("bert", "no-such-scale", [])),
        (commands.run, ("bert", None, ["train.stepz=5"], None, False, None, False)),
        (commands.plan, ("gpt3-175b", None, ["train.steps=5"], None, None, "H100")),
        (commands.plan, ("bert", None, [], None, 8, "H100")),
        (commands.plan, ("bert", None, [], None, None, "no such GPU")),
        (commands.sweep, ("bert", ["train.lr"], None, [], None, False)),
        (commands.resume, ("no such run", False)),
        (commands.report, ("no such run",)),
        (commands.score, ("model", ["a.csv"], None, None, None, False)),
        (commands.score, ("model", ["a.csv"], "out.arrow", "ledger", None, False)),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    command: Any, arguments: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESAME_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError) as refused:
        command(*arguments)
    assert refused.value.exit_code == 2  # type: ignore[attr-defined]


def test_a_run_starts_at_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError, match="--extend and --from both say where to start") as refused:
        commands.run("bert", None, [], None, True, "100", False)
    assert refused.value.exit_code == 2  # type: ignore[attr-defined]


def test_every_arm_is_read_before_the_first_one_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setenv("SESAME_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(compare, "run", lambda *given: made.append(given))
    with pytest.raises(UserError, match=r"train\.lr") as refused:
        commands.sweep("bert", ["train.lr=1e-4,fast"], None, [], None, False)
    assert refused.value.exit_code == 2  # type: ignore[attr-defined]
    assert not made


def test_a_comparison_is_run_as_a_recipe_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(compare, "run", lambda compared, as_json: ran.append((compared, as_json)))
    commands.run("compare-masks", "tiny", ["seeds=[1]"], 2, False, None, True)
    ((compared, as_json),) = ran
    assert as_json and [trial.seed for trial in compared.trials] == [1, 1, 1]
    assert compared.recipe(compared.trials[0]).placement.workers == 2
    with pytest.raises(UserError, match="takes neither --extend nor --from"):
        commands.run("compare-masks", "tiny", [], None, True, None, False)


def test_the_number_of_workers_given_by_itself_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the last setting, as two say it."""
    ran: list[Any] = []
    monkeypatch.setattr(commands, "_run", lambda recipe, asked, as_json: ran.append((recipe, asked)))
    commands.run("bert", "tiny", ["placement.workers=7"], 3, False, None, False)
    ((recipe, (name, scale, settings)),) = ran
    assert recipe.placement.workers == 3 and (name, scale) == ("bert", "tiny")
    assert list(settings) == ["placement.workers=7", "placement.workers=3"]


@pytest.mark.parametrize(("was_terminated", "code"), [(False, 130), (True, 143)])
def test_an_interrupt_before_a_job_is_sent_says_how_by_its_exit_code(
    was_terminated: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(address: str) -> Any:
        if was_terminated:
            terminated.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(submission, "connect", interrupted)
    terminated.clear()
    try:
        with pytest.raises(SystemExit) as ended:
            commands.submit("bert", "http://head", "tiny", [], None, False, None, None)
    finally:
        terminated.clear()
    assert ended.value.code == code


# -- what is thrown away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "dry_run", "stays"), [(3.0, False, True), (1.0, True, True), (1.0, False, False)])
def test_age_is_in_days_and_a_dry_run_removes_nothing(
    days: float, dry_run: bool, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    monkeypatch.setattr(artifacts.Home, "find", lambda: home)
    unit = home.downloads / unit_cache.FOLDER / "unit"
    attempt = home.path / "store" / "ingest-0123456789abcdef" / "20200101T000000000000-00000000"
    two_days_ago = time.time() - 2 * 86_400
    for folder in (unit, attempt):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(9))
        for path in (folder / "file", folder):
            os.utime(path, (two_days_ago, two_days_ago))
    artifacts.gc(dry_run, days)
    assert unit.exists() == attempt.exists() == stays
