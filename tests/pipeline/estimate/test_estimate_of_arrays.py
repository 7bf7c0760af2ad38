"""What `sesame plan` says of tables and images."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.facts import DataFacts
from pipeline import dag
from pipeline.estimate import calibration
from pipeline.estimate.estimate import Estimate, _benchmark, _phases, estimate
from pipeline.recipe.load import load, load_pretraining
from pipeline.recipe.recipe import Recipe
from tests.pipeline import tiny_arrays
from training.cost.memory import PROCESS
from training.cost.step_benchmark import StepBenchmark, StepMeasurement

STEP, UPDATE = 0.5, 0.1  # seconds


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[StepBenchmark]:
    """What would have been timed."""
    seen: list[StepBenchmark] = []

    def answer(*benchmarks: StepBenchmark) -> list[StepMeasurement]:
        seen.extend(benchmarks)
        return [
            StepMeasurement(
                step_seconds=9.0,
                mean_seconds=STEP,
                update_seconds=UPDATE,
                process_bytes=300,
                peak_bytes=10**6,
            )
            for _ in benchmarks
        ]

    monkeypatch.setattr(calibration, "measure", answer)
    monkeypatch.setattr(calibration, "busy", lambda: False)
    return seen


def estimated(path: Path, home: Path, *settings: str) -> Estimate | None:
    recipe = load(path, overrides=settings)
    assert isinstance(recipe, Recipe)
    planned = dag.plan(dag.nodes(recipe, home / "downloads"), tiny_arrays.store_of(home))
    return estimate(recipe, planned, home, 1e12)


def test_a_recipe_on_cores(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    path = tiny_arrays.recipe(tmp_path, "images", downstream="[]")
    assert estimated(path, tmp_path) is None and not asked, "nobody knows yet how large an image is"
    artifacts = tiny_arrays.make(path, tmp_path)
    settings = ("train.steps=31", "train.evaluate_every=10")
    needs = estimated(path, tmp_path, *settings)
    assert needs is not None and needs.fresh and needs.measured
    model = 64 * 32 + 32 + 32 * 4 + 4 + 4 * 32 + 32 + 32 * 64 + 64
    assert (needs.parameters, needs.units) == (model, 31 * 16)
    held_out = artifacts["shards"].summary["validation"]["rows"]
    forward = (STEP - UPDATE) / 3 * held_out / 16
    assert needs.seconds[0] == pytest.approx(31 * STEP + 4 * forward)
    assert needs.passes == pytest.approx(31 * 16 / artifacts["shards"].summary["train"]["rows"])
    assert needs.memory.process == 300 + PROCESS["flow"] and needs.memory.moments == 8 * model
    assert asked[0].facts.shape == [1, 8, 8] and asked[0].batch == 16
    assert asked[0].rows == artifacts["shards"].summary["train"]["rows"]
    again = estimated(path, tmp_path, *settings, "train.steps=99", "placement.checkpoint_every=7")
    assert again is not None and not again.fresh and len(asked) == calibration.ROUNDS


def test_micro_batches_and_noise_are_another_measurement(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    path = tiny_arrays.recipe(tmp_path, "images", downstream="[]")
    sized = "data.images={channels: 1, size: 12}"
    evaluation = (STEP - UPDATE) / 3 * 2048 / 4  # of as many rows as are asked for
    needs = estimated(path, tmp_path, sized, "placement.micro_batch=4", "corruption={kind: masking, level: 0.5}")
    assert needs is not None and needs.seconds[0] == pytest.approx(30 * (4 * (STEP - UPDATE) + UPDATE) + evaluation)
    assert (asked[0].facts.shape, asked[0].batch, asked[0].corruption.model_dump()["level"]) == ([1, 12, 12], 4, 0.5)
    more = estimated(path, tmp_path, sized, "placement.micro_batch=4")
    assert more is not None and more.fresh and len(asked) == 2 * calibration.ROUNDS


def test_a_recipe_on_gpus_needs_no_steps(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    path = tiny_arrays.recipe(tmp_path, "images", downstream="[]")
    needs = estimated(path, tmp_path, "data.images={channels: 1, size: 12}", "placement.device=cuda")
    assert needs is not None and not asked and not needs.measured and needs.memory.process == 0
    assert needs.seconds[1] == pytest.approx(needs.seconds[0] * 5 / 3)


def test_what_trains_is_measured(tmp_path: Path) -> None:
    recipe = load_pretraining(
        tiny_arrays.recipe(tmp_path, "images"), overrides=["corruption={kind: gaussian, level: 0.1}"]
    )
    [part] = _phases(recipe, DataFacts("images", ("input",), (1, 8, 8)))
    benchmark = _benchmark(recipe, part, 16, 100, "fp32").model_copy(update={"steps": 6})
    [measured] = calibration.measure(benchmark)
    assert 0 < measured.update_seconds < measured.mean_seconds < 1
    assert measured.peak_bytes > 100e6
