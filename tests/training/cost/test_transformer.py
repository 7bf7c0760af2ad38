"""Formulas against what networks have, and against what their backward passes keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from data_prep.facts import DataFacts
from data_prep.shards.rows import Specials
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.cost.memory import RESERVED, Batch, Memory, memory
from training.cost.transformer import Transformer, layer_activations, shape_of
from training.models.cpu_kernels import speed_up
from training.models.text.architectures import text_config
from training.models.text.masked_lm import masked_lm
from training.models.wrappers import autocast_forward
from training.objectives import build

BASE = Transformer(12, 768, 12, 3072, 30_522, positions=512, types=2, masked_lm=True)
BATCH = Batch(rows=16, length=128, targets=16 * 19)


def specials(vocabulary: int) -> Specials:
    return Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=vocabulary)


def masked_lm_of(network: NetworkConfig, specials: Specials) -> Any:
    return build(
        ObjectiveConfig(name="masked-lm"), {"model": network}, DataFacts("text", ("input",), specials=specials), "cpu"
    )


def held(batch: Batch = BATCH, precision: str = "bf16", **placement: Any) -> Memory:
    return memory(BASE, BASE.parameters(), batch, PlacementConfig(**placement), precision)


# -- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers, hidden", [(4, 256), (12, 768), (24, 1024)])
def test_bert_is_counted_to_the_last_parameter(layers: int, hidden: int) -> None:
    network = NetworkConfig(
        config={
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": hidden // 64,
            "intermediate_size": 4 * hidden,
        }
    )
    config = text_config(network, specials(30_522))
    with torch.device("meta"):
        model = masked_lm(config, sentence=True)
    assert shape_of(config).parameters() == sum(p.numel() for p in model.parameters())


def test_gpt2_is_counted_to_the_last_parameter() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=48, n_embd=1600, n_head=25)
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    shape = Transformer(48, 1600, 25, 6400, config.vocab_size, positions=1024)
    assert shape.parameters() == sum(p.numel() for p in model.parameters())


def test_t5_is_counted_but_for_its_relative_positions() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(num_layers=24, num_heads=128, d_ff=65_536, d_kv=128, d_model=1024, vocab_size=32_128)
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)
    shape = Transformer(24, 1024, 128, 65_536, 32_128, head_size=128, decoder_layers=24, biases=False)
    relative = 2 * config.relative_attention_num_buckets * config.num_heads
    assert shape.parameters() + relative == sum(p.numel() for p in model.parameters())


# -- operations -------------------------------------------------------------------------------------------------------


def test_operations_are_those_that_the_objective_counts() -> None:
    network = NetworkConfig(
        config={"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256}
    )
    objective = masked_lm_of(network, specials(500))
    batch = {"attention_mask": torch.ones(4, 32, dtype=torch.long), "target_ids": torch.zeros(4 * 8, dtype=torch.long)}
    shape = shape_of(text_config(network, specials(500)))
    ours = 3 * 4 * 32 * shape.forward_flops(32, 8 / 32)
    assert ours == pytest.approx(objective.flops(batch), rel=0.02)  # the pooler, one token a row


# -- activations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["bert", "electra", "roberta"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_layer_keeps_what_the_formula_says(architecture: str, precision: str) -> None:
    """By autograd's own account, of networks of one layer and of two."""
    rows, length, hidden = 4, 48, 64
    kept = [_kept_by_autograd(architecture, precision, layers, rows, length, hidden) for layers in (1, 2)]
    shape = Transformer(2, hidden, 2, 4 * hidden, 500)
    weights = shape.layer_matrices * 2 if precision == "bf16" else 0  # autocast's copies
    ours = layer_activations(shape, rows, length, precision, "cpu") + weights
    assert kept[1] - kept[0] == pytest.approx(ours, rel=0.02)


def _kept_by_autograd(architecture: str, precision: str, layers: int, rows: int, length: int, hidden: int) -> int:
    config = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": 2}
    network = NetworkConfig(architecture=architecture, config={**config, "intermediate_size": 4 * hidden})
    module = masked_lm_of(network, Specials(cls=2, sep=3, pad=1, mask=4, unk=0, vocabulary=500)).network
    autocast_forward(module, torch.device("cpu"), precision)
    speed_up(module, precision)
    module.train()
    weights = {parameter.data_ptr() for parameter in module.parameters()}
    seen: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            seen.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(
            input_ids=torch.full((rows, length), 7),
            attention_mask=torch.ones(rows, length, dtype=torch.long),
            token_type_ids=torch.zeros(rows, length, dtype=torch.long),
            target_positions=torch.arange(8),
            target_ids=torch.arange(8),
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())


# -- memory -----------------------------------------------------------------------------------------------------------


def test_states_are_divided_as_zero_says() -> None:
    size = BASE.parameters() * 4

    def states(zero: int | None) -> tuple[float, float, float]:
        held_memory = held(workers=4, zero=zero)
        parts = (held_memory.weights, held_memory.gradients, held_memory.moments)
        return tuple(pytest.approx(part / RESERVED / size) for part in parts)  # type: ignore[return-value]

    assert states(None) == states(0) == (1, 1, 2)
    assert states(1) == (1, 1, 0.5)
    assert states(2) == (1, 0.25, 0.5)
    assert states(3) == (0.25, 0.25, 0.5)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_more_workers_never_need_more_each(zero: int) -> None:
    sizes = [held(workers=workers, zero=zero).total for workers in (2, 4, 8, 64)]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]


def test_recomputing_and_16_bits_need_less() -> None:
    assert held(activation_checkpointing=True).total < held().total
    assert held().activations < held(precision="fp32").activations


def test_activations_follow_the_rows() -> None:
    double = held(batch=Batch(32, 128, 32 * 19))
    assert 1.7 < double.activations / held().activations <= 2  # autocast's copies stay as they are
    assert double.weights == held().weights and double.moments == held().moments


def test_offload_moves_state_from_a_gpu_to_its_host() -> None:
    stay = held(workers=8, zero=3)
    optimizer = held(workers=8, zero=3, offload_optimizer="cpu")
    most = held(workers=8, zero=3, offload_optimizer="cpu", offload_parameters="cpu")
    assert stay.total > optimizer.total > most.total
    assert stay.host == 0 < optimizer.host < most.host
    assert optimizer.moments == 0 and most.weights == 0
