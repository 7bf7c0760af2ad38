"""What a step on tables or images needs, counted, against what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.corruptions import CorruptionConfig
from data_prep.corruptions.mass import MassConfig
from data_prep.corruptions.none import NoneConfig
from data_prep.corruptions.spans import SpansConfig
from data_prep.corruptions.warp import AugmentConfig
from data_prep.facts import DataFacts
from data_prep.shards.rows import Rows, Specials
from tests.training.tiny_arrays import CONV, MLP, WIDTH
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig
from training.cost.counted import Cost, _LiveBytes, cost_of, num_parameters, price
from training.cost.memory import PROCESS, Memory, Trial, counted_memory, watched_memory
from training.cost.step_benchmark import PlainFacts, StepBenchmark, measure
from training.objective import BaseObjective, Batch, Loss, Turn

PLAIN = ObjectiveConfig(name="autoencoder")
WIDE = NetworkConfig(
    architecture="conv", config={"hidden": [64, 64], "bottleneck": 32, "latent": "grid", "output": "sigmoid"}
)


def priced(
    objective: ObjectiveConfig, network: NetworkConfig, shape: tuple[int, ...], rows: int, precision: str
) -> Cost:
    data = DataFacts("images" if len(shape) == 3 else "table", ("input",), shape)
    return price(objective, {"model": network}, data, None, rows, precision)


def test_tensors_are_counted_while_they_live() -> None:
    before = torch.ones(1000)
    with _LiveBytes() as live:
        first = before + 1
        second = first.exp()
        assert live.peak == 8000
        del first
        second.mul_(2)
        second.view(10, 100)
        third = second + 1
        assert live.peak == 8000, "of those that live at once, neither views nor what is done in place"
        fourth = third + before
    assert live.peak == 12_000 and len(fourth) == 1000


def test_every_parameter_is_counted() -> None:
    cost = priced(PLAIN, MLP, (WIDTH,), 8, "fp32")
    sizes = [(WIDTH, 24), (24, 3), (3, 24), (24, WIDTH)]
    assert cost.parameters == sum(a * b + b for a, b in sizes)
    assert cost.row_flops == 3 * 2 * sum(a * b for a, b in sizes)


@pytest.mark.parametrize("name", ["autoencoder", "vae", "discrete", "compression"])
def test_activations_grow_with_the_rows(name: str) -> None:
    network, shape = (CONV, (1, 9, 7)) if name != "compression" else (WIDE, (3, 16, 16))
    objective = ObjectiveConfig(name=name, options={"codes": "binary"} if name == "discrete" else {})
    if name == "compression":
        network = NetworkConfig(architecture="conv", config={"hidden": [8, 16], "bottleneck": 16, "latent": "grid"})
    costs = [priced(objective, network, shape, rows, "fp32") for rows in (256, 512)]
    assert 1.7 < costs[1].activations / costs[0].activations < 2.2
    assert costs[0].activations > 256 * 4 * shape[1] * shape[2]


def test_many_rows_are_counted_on_fewer() -> None:
    counted = priced(PLAIN, MLP, (WIDTH,), 1 << 16, "fp32").activations
    more = priced(PLAIN, MLP, (WIDTH,), 1 << 18, "fp32").activations
    assert more == pytest.approx(4 * counted, rel=0.05)


class NextToken(BaseObjective):
    """A model of `transformers` as it is, by its own loss, on rows of L tokens (and as many that it must give)."""

    unit = "tokens"

    def __init__(self, model: Any, columns: Sequence[str]) -> None:
        self.model, self.columns = model, columns

    def networks(self) -> dict[str, torch.nn.Module]:
        return {"model": self.model}

    def example(self, n: int) -> Rows:
        return {name: np.ones((n, L), np.int64) for name in self.columns}

    def collate(self, rows: Rows) -> Batch:
        return {name: torch.from_numpy(np.asarray(column)) for name, column in rows.items()}

    def num_positions(self, batch: Batch) -> int:
        return batch["input_ids"].numel()

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [
            Turn("model", lambda batch: {"nll": 1.0}, lambda nets, batch: Loss({"nll": nets["model"](**batch).loss}))
        ]


L = 16
T5 = {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "vocab_size": 80}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 80, "n_positions": L}


def made(model_type: str, **settings: Any) -> Any:
    """A language model on the meta device, from its config alone."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config: Any = CONFIG_MAPPING[model_type](**{**settings, "pad_token_id": 0, "decoder_start_token_id": 0})
    config._attn_implementation = "eager"
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config)


def test_a_decoder_is_priced_by_its_network_alone() -> None:
    model = made("gpt2", **GPT)
    cost = cost_of(NextToken(model, ["input_ids", "attention_mask", "labels"]), None, None, 64, "fp32")
    hidden, layers, vocabulary = 32, 2, 80
    layer = 12 * hidden**2 + 13 * hidden
    assert cost.parameters == layers * layer + (vocabulary + L) * hidden + 2 * hidden  # the head is the embedding
    forward = L * 2 * (layers * 12 * hidden**2 + vocabulary * hidden) + layers * 4 * L * L * hidden
    assert cost.row_flops == 3 * forward
    assert (cost.unit, cost.row_units) == ("tokens", L)
    assert cost.activations > 64 * L * hidden * 4 * layers


@pytest.mark.parametrize("gated", [False, True])
def test_an_encoder_and_decoder_is_priced_by_its_network_alone(gated: bool) -> None:
    model = made("t5", **T5, feed_forward_proj="gated-gelu" if gated else "relu", tie_word_embeddings=True)
    cost = cost_of(NextToken(model, ["input_ids", "attention_mask", "labels"]), None, None, 64, "fp32")
    hidden, inner, wide = 32, 32, 48
    attention, feed_forward = 4 * hidden * inner, (3 if gated else 2) * hidden * wide
    matrices = 2 * (attention + feed_forward) + 3 * (2 * attention + feed_forward)
    norms = (2 * 2 + 1 + 3 * 3 + 1) * hidden
    buckets = 2 * 32 * 4  # of relative positions, by head
    assert cost.parameters == matrices + norms + buckets + 80 * hidden
    forward = L * 2 * (matrices + 80 * hidden) + (2 + 2 * 3) * 4 * L * L * inner
    assert cost.row_flops == pytest.approx(3 * forward, rel=0.01)


@pytest.mark.parametrize(
    ("corruption", "targets"),
    [(SpansConfig(kind="spans"), 114), (MassConfig(kind="mass"), 256)],
)
def test_made_up_rows_are_as_long_as_real_ones(corruption: CorruptionConfig, targets: int) -> None:
    """Of T5's 568 tokens 512 and 114 are left (as in the code published with it); MASS hides half of 512."""
    specials = Specials(400, pad=0, eos=1, mask=2, bos=3, sentinels=range(399, 299, -1))
    data = DataFacts("text", ("input",), length=512, specials=specials)
    network = NetworkConfig(architecture="t5", config={**T5, "vocab_size": 400})
    settings = ObjectiveConfig(name="sequence-to-sequence"), {"model": network}, data
    cost = price(*settings, corruption, 8, "fp32")
    assert (cost.row_units, cost.row_targets) == (512, targets)


def test_all_experts_are_counted_and_a_token_meets_one() -> None:
    settings = {**T5, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    few, many = (made("switch_transformers", **settings, num_experts=number) for number in (2, 4))
    numbers = [num_parameters(NextToken(model, ["input_ids", "labels"])) for model in (few, many)]
    assert numbers[1] == sum(p.numel() for p in many.parameters()) > numbers[0]


def test_frozen_networks_are_no_players() -> None:
    objective = NextToken(made("gpt2", **GPT), ["input_ids", "labels"])
    teacher = torch.nn.Linear(4, 4).requires_grad_(False)
    objective.networks = lambda: {"model": objective.model, "teacher": teacher}  # type: ignore[method-assign]
    assert num_parameters(objective) == sum(p.numel() for p in objective.model.parameters())


def test_states_are_divided_and_gradient_descent_has_no_moments() -> None:
    cost = Cost(1_000_000, "rows", row_units=1, row_targets=0, row_flops=0.0, activations=5e6, shape=None)

    def of(optimizer: str = "adamw", accumulated: bool = False, **placement: object) -> Memory:
        trial = Trial(process=1e8, working=30e6, placement=PlacementConfig(), share=0.5)
        return watched_memory(cost, PlacementConfig.model_validate(placement), optimizer, accumulated, "flow", trial)

    assert of().process == 1e8 + PROCESS["flow"]
    assert (of().weights, of().gradients, of().moments, of().buffers) == (4e6, 4e6, 8e6, 0)
    assert of().activations == 2 * (30e6 - 16e6), "tried on half of the rows"
    assert of("adafactor").moments == 0
    assert of("sgd").moments == 0 and of("sgd").activations == 2 * (30e6 - 8e6)
    assert of(accumulated=True).buffers == 4e6, "gradients while activations are at their most"
    assert of(workers=2, zero=1).moments == 4e6 and of(workers=2, zero=2).gradients == 2e6
    gpu = counted_memory(cost, PlacementConfig(), "adamw", False)
    assert gpu.process == 0 and gpu.activations == pytest.approx(1.1 * 5e6) and gpu.weights == pytest.approx(1.1 * 4e6)
    cost = replace(cost, parameters=100_000_000)  # where the host is the device, offload frees nothing
    assert of(workers=2, zero=2, offload_optimizer="cpu").total >= of(workers=2, zero=2).total


def test_what_was_watched_is_told_whole() -> None:
    """Where all rows were tried as they are placed, the sum is what was seen."""
    cost = Cost(1_000_000, "rows", row_units=1, row_targets=0, row_flops=0.0, activations=0.0, shape=None)
    for settings in ({}, {"zero": 1}, {"zero": 2, "offload_optimizer": "cpu"}, {"zero": 3, "offload_optimizer": "cpu"}):
        placement = PlacementConfig.model_validate({"workers": 2, **settings})
        memory = watched_memory(cost, placement, "adamw", False, "worker", Trial(1e8, 3e8, placement))
        assert memory.total == pytest.approx(4e8)


@pytest.mark.slow
def test_more_rows_need_as_much_more_memory() -> None:
    """A trial of some rows tells what four times as many need. Peaks of one work differ by a fifth: medians."""

    def tried(rows: int) -> Trial:
        trials = sorted((once(rows) for _ in range(5)), key=lambda trial: trial.working)
        return replace(trials[2], share=rows / 256)

    def once(rows: int) -> Trial:
        measured = measure(
            StepBenchmark(
                network=WIDE,
                objective=PLAIN,
                facts=PlainFacts(kind="images", shape=[3, 64, 64]),
                rows=256,
                order=OrderConfig(),
                augment=AugmentConfig(),
                corruption=NoneConfig(kind="none"),
                optimizer="adamw",
                log_every=10,
                batch=rows,
                steps=5,
                precision="fp32",
                placement=PlacementConfig(threads=1),
            )
        )[0]
        return Trial(measured.process_bytes, measured.peak_bytes - measured.process_bytes, PlacementConfig())

    cost = priced(PLAIN, WIDE, (3, 64, 64), 256, "fp32")
    few, all_rows = (
        watched_memory(cost, PlacementConfig(), "adamw", False, "worker", tried(rows)).total for rows in (64, 256)
    )
    assert few == pytest.approx(all_rows, rel=0.2)
