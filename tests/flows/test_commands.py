"""What a command does, beside what it calls."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import commands
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
    assert commands._nothing_to_do(home, recipe) is None, "no run of it is known"
    with runs.begin(home.runs, recipe) as record:
        record.reuse("ingest", artifact)  # type: ignore[arg-type]
        record.status = ended
        runs.save(home.runs, record)
    again = commands._nothing_to_do(home, recipe)
    assert (again is not None) == (ended == runs.DONE)
    assert commands._nothing_to_do(home, recipe.model_copy(update={"name": "another"})) is None


def test_a_copy_under_a_packaged_name_is_told_so(tmp_path: Path) -> None:
    path = tiny_arrays.recipe(tmp_path)
    assert list(namesake(load(path))) == [] == list(namesake(load("anomaly")))
    [found] = namesake(load("anomaly", overrides=[f"data.sources=[{{path: {tmp_path / 'rows.csv'}}}]"]))
    assert (
        found.text.startswith("anomaly is the name of a packaged recipe, which reads other data") and not found.refused
    )
