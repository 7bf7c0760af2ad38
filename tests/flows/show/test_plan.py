"""What `sesame plan` shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from flows.exit_codes import USAGE
from pipeline.estimate import calibration
from pipeline.estimate.published_systems import SYSTEMS
from tests.pipeline import tiny_arrays
from tests.said import said
from training.cost.step_benchmark import StepBenchmark, StepMeasurement


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_HOME", str(tmp_path))

    def answer(*benchmarks: StepBenchmark) -> list[StepMeasurement]:
        return [
            StepMeasurement(
                step_seconds=0.5, mean_seconds=0.5, update_seconds=0.1, process_bytes=300_000_000, peak_bytes=10**9
            )
            for _ in benchmarks
        ]

    monkeypatch.setattr(calibration, "measure", answer)
    monkeypatch.setattr(calibration, "busy", lambda: False)


def shown(*words: str) -> str:
    done = CliRunner().invoke(app, ["plan", *words], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_a_recipe_says_what_and_why_and_what_training_needs() -> None:
    text = shown("quickstart")
    assert "to do: never made" in text
    assert "parameters" in text and said("2 workers, ZeRO-2", text)
    assert "a worker  process" in text and "timed just now on these cores" in text
    assert re.search(r"time     \d+(\.\d)? min, ", text)
    assert "timed before on these cores" in shown("quickstart")


def test_pictures_are_told_as_pictures_and_tables_once_it_is_known_what_a_row_is(tmp_path: Path) -> None:
    text = shown("compression")
    assert said("1,316,483 parameters; 1,200 steps of 8 rows", text) and "tokens" not in text
    assert "time     12.8 min, 12 images/s" in text and "a worker  process" in text
    text = shown(str(tiny_arrays.recipe(tmp_path)))
    assert said("30 steps of 16 rows", text) and "known when the shards are made" in text


def test_files_that_are_not_read_are_counted_by_suffix(tmp_path: Path) -> None:
    recipe = tiny_arrays.recipe(tmp_path)
    assert "left out" not in shown(str(recipe))
    folder = tmp_path / "in"
    folder.mkdir()
    (source := Path(yaml.safe_load(recipe.read_text())["data"]["sources"][0]["path"])).rename(folder / source.name)
    for name in ("b.XLSX", "c.xlsx", "d.heic", "e.docx.gz"):
        (folder / name).write_bytes(b"")
    recipe.write_text(recipe.read_text().replace(str(source), str(folder)))
    assert said("4 files left out: .xlsx 2, .docx.gz 1, .heic 1", shown(str(recipe)))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_published_system_says_cluster_days_shards_and_sources(name: str) -> None:
    text = shown(name)
    assert " × H100, " in text and "days" in text and "shards" in text and "arXiv:1910.02054" in text
    system = SYSTEMS[name]
    assert (f"sesame run {system.recipe}" in text) == bool(system.recipe)
    assert ("not in this version" in text) == bool(system.lacks)


def test_a_cluster_of_ones_own() -> None:
    text = shown("gpt3-175b", "--gpus", "1024", "--gpu", "A100")
    assert "1,024 × A100, ZeRO-3, activations recomputed" in text


@pytest.mark.parametrize(
    "words, says",
    [
        (["gpt3-175b", "--gpus", "4"], "does not fit on 4 × H100"),
        (["gpt3-175b", "--scale", "tiny"], "takes --gpus and --gpu alone"),
        (["quickstart", "--gpus", "4"], "--gpus is for published systems"),
        (["gpt3-175b", "--gpu", "B1000"], "--gpu B1000: not a known kind"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["plan", *words])
    assert says in str(done.exception)
    assert getattr(done.exception, "exit_code", None) == USAGE


def test_what_is_odd_is_said_and_what_cannot_be_meant_is_refused() -> None:
    text = shown("quickstart", "--set", "corruption.max_predictions=12")
    assert "warning: corruption.max_predictions 12 leaves 12 of 40 tokens to predict, 30.0%" in text
    assert "warning" not in shown("quickstart")
    done = CliRunner().invoke(app, ["plan", "quickstart", "--set", "corruption.max_predictions=5"])
    assert "nothing is trained: corruption.max_predictions 5" in str(done.exception)
