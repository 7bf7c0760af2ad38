"""Time from steps with few layers, once per machine; memory and time of GPUs without any; text as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.compute.cores import available
from data_prep.corruptions.masking import MaskingConfig
from data_prep.facts import DataFacts
from data_prep.shards.rows import Specials
from pipeline.dag import PlannedNode, nodes
from pipeline.estimate import calibration
from pipeline.estimate.estimate import Estimate, estimate, worker_rows
from pipeline.recipe.load import load_pretraining
from pipeline.recipe.recipe import Recipe
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.cost.memory import PROCESS
from training.cost.step_benchmark import PlainFacts, StepBenchmark, StepMeasurement, measure

PER_LAYER, REST, UPDATE = 0.2, 0.05, 0.01  # seconds
PROCESS_BYTES, HEAD_BYTES, LAYER_BYTES = 300_000_000, 200_000_000, 40_000_000


def benchmark(**placement: object) -> StepBenchmark:
    config = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    specials = Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=64)
    return StepBenchmark(
        network=NetworkConfig(config={**config, "max_position_embeddings": 16}),
        objective=ObjectiveConfig(name="masked-lm", options={"sentence": "sop"}),
        facts=PlainFacts.of(DataFacts("text", ("input",), length=16, specials=specials)),
        corruption=MaskingConfig.model_validate({"kind": "masked-lm", "max_predictions": 4}),
        batch=8,
        steps=4,
        precision="fp32",
        placement=PlacementConfig.model_validate(placement),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[StepBenchmark]:
    """What would have been timed, on a machine whose layers and updates cost the same wherever they stand."""
    seen: list[StepBenchmark] = []

    def answer(*benchmarks: StepBenchmark) -> list[StepMeasurement]:
        seen.extend(benchmarks)
        layers = [int(each_benchmark.network.config["num_hidden_layers"]) for each_benchmark in benchmarks]  # type: ignore[arg-type]
        slower = [3.0, 1.0, 1.0, 5.0]  # something else ran beside half of them
        return [
            StepMeasurement(
                step_seconds=by * (REST + n * (PER_LAYER + UPDATE)),
                update_seconds=by * n * UPDATE,
                process_bytes=PROCESS_BYTES + 7 * number,  # later ones find what the first has left
                peak_bytes=PROCESS_BYTES + HEAD_BYTES + n * LAYER_BYTES,
            )
            for number, (n, by) in enumerate(zip(layers, slower, strict=True))
        ]

    monkeypatch.setattr(calibration, "measure", answer)
    monkeypatch.setattr(calibration, "busy", lambda: False)
    return seen


def planned(recipe: Recipe, folder: Path) -> list[PlannedNode]:
    return [PlannedNode(node, None, "never made") for node in nodes(recipe, folder)]


def estimated(recipe: Recipe, home: Path) -> Estimate:
    result = estimate(recipe, planned(recipe, home), home, 1e15)
    assert result is not None
    return result


def test_what_trains_is_measured() -> None:
    [measured] = measure(benchmark())
    assert 0 < measured.update_seconds < measured.step_seconds < 5
    assert measured.peak_bytes > 100e6


def test_a_whole_network_follows_from_few_layers(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    step_time = calibration.layered_step_time(tmp_path, benchmark(), 12)
    assert step_time.step(1) == pytest.approx(REST + 12 * (PER_LAYER + UPDATE))
    assert step_time.step(3) == pytest.approx(3 * (REST + 12 * PER_LAYER) + 12 * UPDATE)
    assert [timed.network.config["num_hidden_layers"] for timed in asked] == [1, 3, 1, 3]


def test_memory_follows_from_few_layers_too(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    large = benchmark(workers=1).model_copy(update={"batch": 4 * calibration.TOKENS // 16})
    trial = calibration.layered_step_time(tmp_path, large, 12).trial
    assert trial is not None and (trial.process, trial.share) == (PROCESS_BYTES, 0.25)
    assert trial.working == pytest.approx(HEAD_BYTES + 12 * LAYER_BYTES)


def test_the_total_is_what_was_watched(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    needs = estimated(load_pretraining("bert", "tiny", ["placement.device=cpu"]), tmp_path)
    assert needs.memory.total == pytest.approx(PROCESS_BYTES + PROCESS["flow"] + HEAD_BYTES + 2 * LAYER_BYTES, rel=0.2)


def test_what_changes_neither_time_nor_memory_is_not_measured_again(
    tmp_path: Path, asked: list[StepBenchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(measured: calibration.Measured, *settings: str) -> int:
        before, recipe = len(asked), load_pretraining("roberta", "tiny", ["placement.device=cpu", *settings])
        assert estimate(recipe, planned(recipe, tmp_path), tmp_path, 1e15, measured) is not None
        return len(asked) - before

    monkeypatch.setattr(calibration, "busy", lambda: True)  # so that nothing is kept in the home
    plan: calibration.Measured = {}
    assert of(plan) == 4
    assert of(plan, "corruption.mask=1.0", "corruption.random=0.0", "corruption.keep=0.0", "seed=3") == 0
    assert of(plan, "corruption.rate=0.1") == 4, "fewer tokens meet the vocabulary"
    assert of({}) == 4


def test_a_machine_is_measured_once(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    assert calibration.layered_step_time(tmp_path, benchmark(), 2).fresh
    assert not calibration.layered_step_time(
        tmp_path, benchmark(), 24
    ).fresh  # other depths follow from the same layers
    assert not calibration.layered_step_time(tmp_path, benchmark(checkpoint_every=5), 2).fresh
    assert len(asked) == 4
    assert calibration.layered_step_time(tmp_path, benchmark(activation_checkpointing=True), 2).fresh
    (tmp_path / calibration.FILE).write_text("{torn")
    assert calibration.layered_step_time(tmp_path, benchmark(), 2).fresh
    assert len(json.loads((tmp_path / calibration.FILE).read_text())) == 1


def test_what_is_measured_beside_other_work_is_not_kept(
    tmp_path: Path, asked: list[StepBenchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "busy", lambda: True)
    assert calibration.layered_step_time(tmp_path, benchmark(), 2).busy
    assert not (tmp_path / calibration.FILE).exists()
    monkeypatch.setattr(calibration, "busy", lambda: False)
    again = calibration.layered_step_time(tmp_path, benchmark(), 2)
    assert again.fresh and not again.busy


def test_more_workers_than_cores_take_turns(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    cores = available()
    alone = calibration.layered_step_time(tmp_path, benchmark(workers=cores), 2)
    crowd = benchmark(workers=3 * cores).model_copy(update={"batch": 24})
    crowded = calibration.layered_step_time(tmp_path, crowd, 2)
    assert {timed.placement.workers for timed in asked} == {cores}
    rows = {workers: max(1, batch // workers) for workers, batch in ((cores, 8), (3 * cores, 24))}
    assert rows[cores] == rows[3 * cores]
    assert crowded.step(1) == pytest.approx(3 * alone.step(1))


def test_large_batches_are_tried_on_fewer_rows(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    large = benchmark().model_copy(update={"batch": 4096})
    step_time = calibration.layered_step_time(tmp_path, large, 1)
    tried = calibration.TOKENS // 16
    assert asked[0].batch == tried
    assert step_time.compute == pytest.approx((REST + PER_LAYER) * 4096 / tried)


def test_micro_batches_of_a_step() -> None:
    def rows(**placement: object) -> tuple[int, int]:
        return worker_rows(100, PlacementConfig.model_validate(placement))

    assert rows() == (1, 100)
    assert rows(workers=3) == (1, 34)
    assert rows(micro_batch=16) == (7, 15)
    assert rows(workers=2, micro_batch=16) == (4, 13)


def test_a_recipe_on_cores(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    recipe = load_pretraining(
        "bert", "small", ["placement.micro_batch=64", "train.precision=fp32", "placement.device=cpu"]
    )
    needs = estimated(recipe, tmp_path)
    step = 2 * (REST + 4 * PER_LAYER) + 4 * UPDATE
    evaluations = (recipe.train.steps // recipe.train.evaluate_every + 1) * recipe.train.evaluate_rows / 64
    expected = recipe.train.steps * step + evaluations * (REST + 4 * PER_LAYER) / 3
    assert needs.measured and needs.fresh
    assert needs.seconds == pytest.approx((expected, expected), rel=1e-6)
    assert needs.memory.process == PROCESS_BYTES + PROCESS["flow"] and needs.memory.gradients == 4 * needs.parameters


def test_a_recipe_on_gpus_needs_no_benchmark(tmp_path: Path, asked: list[StepBenchmark]) -> None:
    recipe = load_pretraining("bert", "base", ["placement.device=cuda"])
    needs = estimated(recipe, tmp_path)
    assert not asked and not needs.measured
    slow, fast = max(needs.seconds), min(needs.seconds)
    assert fast == pytest.approx(needs.flops / (recipe.placement.workers * 1e15 * 0.5))
    assert slow == pytest.approx(fast * 5 / 3)
    train, longer = recipe.train, recipe.train.longer
    assert longer is not None
    short = train.longer_from * recipe.compose.length
    assert needs.units == train.global_batch * (short + (train.steps - train.longer_from) * longer.length)


@pytest.mark.parametrize(
    "scale, parameters, memory",
    [
        ("base", 110_106_428, 57_958_399_417),
        ("large", 336_226_108, 7_705_409_965),
    ],
)
def test_bert_needs_what_it_always_did(
    tmp_path: Path, asked: list[StepBenchmark], scale: str, parameters: int, memory: int
) -> None:
    recipe = load_pretraining("bert", scale, ["train.precision=bf16"])
    needed = estimated(recipe, tmp_path)
    assert (needed.parameters, int(needed.memory.total), needed.unit) == (parameters, memory, "tokens")
