"""Time from trials on few layers, once per machine; memory and time of GPUs without any."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.dag import Planned, nodes
from pipeline.estimate import calibration, tokens
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Recipe
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.cost.memory import PROCESS
from training.cost.step_benchmark import Measured, Trial, measure

PER_LAYER, REST, UPDATE = 0.2, 0.05, 0.01  # seconds


def trial(**placement: object) -> Trial:
    config = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    return Trial(
        network=NetworkConfig(config={**config, "max_position_embeddings": 16}),
        objective=ObjectiveConfig(options={"sentence": "sop"}),
        vocabulary=64,
        length=16,
        rate=0.15,
        max_predictions=4,
        batch=8,
        steps=4,
        precision="fp32",
        placement=PlacementConfig.model_validate(placement),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """Trials that would have run, on a machine whose layers and updates cost the same wherever they stand."""
    seen: list[Trial] = []

    def answer(*trials: Trial) -> list[Measured]:
        seen.extend(trials)
        layers = [int(one.network.config["num_hidden_layers"]) for one in trials]  # type: ignore[arg-type]
        slower = [3.0, 1.0, 1.0, 5.0]  # something else ran beside half of them
        return [
            Measured(step_seconds=by * (REST + n * (PER_LAYER + UPDATE)), update_seconds=by * n * UPDATE, peak_bytes=0)
            for n, by in zip(layers, slower, strict=True)
        ]

    monkeypatch.setattr(calibration, "measure", answer)
    monkeypatch.setattr(calibration, "busy", lambda: False)
    return seen


def planned(recipe: Recipe, folder: Path) -> list[Planned]:
    return [Planned(node, None, "never made") for node in nodes(recipe, folder)]


def test_a_trial_measures_what_trains() -> None:
    [one] = measure(trial())
    assert 0 < one.update_seconds < one.step_seconds < 5
    assert one.peak_bytes > 100e6


def test_a_whole_network_follows_from_few_layers(tmp_path: Path, asked: list[Trial]) -> None:
    found = calibration.rhythm(tmp_path, trial(), 12)
    assert found.step(1) == pytest.approx(REST + 12 * (PER_LAYER + UPDATE))
    assert found.step(3) == pytest.approx(3 * (REST + 12 * PER_LAYER) + 12 * UPDATE)
    assert [one.network.config["num_hidden_layers"] for one in asked] == [1, 3, 1, 3]


def test_a_machine_is_measured_once(tmp_path: Path, asked: list[Trial]) -> None:
    assert calibration.rhythm(tmp_path, trial(), 2).fresh
    assert not calibration.rhythm(tmp_path, trial(), 24).fresh  # other depths follow from the same layers
    assert not calibration.rhythm(tmp_path, trial(checkpoint_every=5), 2).fresh
    assert len(asked) == 4
    assert calibration.rhythm(tmp_path, trial(activation_checkpointing=True), 2).fresh
    (tmp_path / calibration.FILE).write_text("{torn")
    assert calibration.rhythm(tmp_path, trial(), 2).fresh
    assert len(json.loads((tmp_path / calibration.FILE).read_text())) == 1


def test_what_is_measured_beside_other_work_is_not_kept(
    tmp_path: Path, asked: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "busy", lambda: True)
    assert calibration.rhythm(tmp_path, trial(), 2).busy
    assert not (tmp_path / calibration.FILE).exists()
    monkeypatch.setattr(calibration, "busy", lambda: False)
    again = calibration.rhythm(tmp_path, trial(), 2)
    assert again.fresh and not again.busy


def test_more_workers_than_cores_take_turns(tmp_path: Path, asked: list[Trial]) -> None:
    cores = calibration.cores()
    alone = calibration.rhythm(tmp_path, trial(workers=cores), 2)
    crowd = trial(workers=3 * cores).model_copy(update={"batch": 24})
    crowded = calibration.rhythm(tmp_path, crowd, 2)
    assert {one.placement.workers for one in asked} == {cores}
    rows = {workers: max(1, batch // workers) for workers, batch in ((cores, 8), (3 * cores, 24))}
    assert rows[cores] == rows[3 * cores]
    assert crowded.step(1) == pytest.approx(3 * alone.step(1))


def test_large_batches_are_tried_on_fewer_rows(tmp_path: Path, asked: list[Trial]) -> None:
    large = trial().model_copy(update={"batch": 4096})
    found = calibration.rhythm(tmp_path, large, 1)
    tried = calibration.TOKENS // 16
    assert asked[0].batch == tried
    assert found.compute == pytest.approx((REST + PER_LAYER) * 4096 / tried)


def test_micro_batches_of_a_step() -> None:
    def rows(**placement: object) -> tuple[int, int]:
        return tokens.worker_rows(100, PlacementConfig.model_validate(placement))

    assert rows() == (1, 100)
    assert rows(workers=3) == (1, 34)
    assert rows(micro_batch=16) == (7, 15)
    assert rows(workers=2, micro_batch=16) == (4, 13)


def test_a_recipe_on_cores(tmp_path: Path, asked: list[Trial]) -> None:
    recipe = load("bert", "small", ["placement.micro_batch=64", "train.precision=fp32", "placement.device=cpu"])
    found = tokens.estimate(recipe, planned(recipe, tmp_path), tmp_path, 1e15)
    step = 2 * (REST + 4 * PER_LAYER) + 4 * UPDATE
    evaluations = (recipe.train.steps // recipe.train.evaluate_every + 1) * recipe.train.evaluate_rows / 64
    expected = recipe.train.steps * step + evaluations * (REST + 4 * PER_LAYER) / 3
    assert found.measured and found.fresh
    assert found.seconds == pytest.approx((expected, expected), rel=1e-6)
    assert found.memory.process == PROCESS["flow"] and found.memory.gradients == 4 * found.parameters


def test_a_recipe_on_gpus_needs_no_trial(tmp_path: Path, asked: list[Trial]) -> None:
    recipe = load("bert", "base", ["placement.device=cuda"])
    found = tokens.estimate(recipe, planned(recipe, tmp_path), tmp_path, 1e15)
    assert not asked and not found.measured
    slow, fast = max(found.seconds), min(found.seconds)
    assert fast == pytest.approx(found.flops / (recipe.placement.workers * 1e15 * 0.5))
    assert slow == pytest.approx(fast * 5 / 3)
    train, longer = recipe.train, recipe.train.longer
    assert longer is not None
    short = train.longer_from * recipe.compose.length
    assert found.tokens == train.global_batch * (short + (train.steps - train.longer_from) * longer.length)
