"""T5 with experts: the forward of `transformers`, a router in fp32, the terms of the loss, what is exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import SwitchTransformersForConditionalGeneration

from data_prep.errors import UserError
from data_prep.shards.rows import Rows, take
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training.objectives.test_sequence_to_sequence import FACTS, rows
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.cost.counted import price
from training.cost.memory import RESERVED, Batch, Trial, memory, watched_memory
from training.inference.opening import check_export
from training.models.experts.config import UNLIMITED
from training.models.text.folder import open_pretrained
from training.models.wrappers import autocast_forward
from training.objectives import build

SHAPE: dict[str, Any] = {
    **{"d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 2, "dropout_rate": 0.0, "router_jitter_noise": 0.0},
    **{"num_layers": 4, "num_decoder_layers": 2, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 1},
    **{"num_experts": 4, "router_aux_loss_coef": 0.01, "router_z_loss_coef": 0.001},
}
LAYERS = ["encoder-1", "encoder-3", "decoder-1"]


def objective(facts: Any = FACTS, routing: dict[str, Any] | None = None, **config: Any) -> Any:
    network = NetworkConfig(architecture="switch_transformers", config=SHAPE | config)
    torch.manual_seed(1)
    section = ObjectiveConfig(name="t5", options={"routing": {"capacity": 0.0, **(routing or {})}})
    return build(section, {"model": network}, facts, "cpu")


def of_transformers(built: Any, capacity: int = UNLIMITED) -> Any:
    """The library's own network with the same weights."""
    config = built.network.model.config.__class__.from_dict(built.network.model.config.to_dict())
    config.expert_capacity = capacity
    model: Any = SwitchTransformersForConditionalGeneration(config)
    model.load_state_dict(built.network.model.state_dict())
    return model.eval()


def logits(model: Any, batch: Any) -> torch.Tensor:
    with torch.no_grad():
        names = ("input_ids", "attention_mask", "decoder_input_ids")
        return model(**{name: batch[name] for name in names}).logits.flatten(0, 1)[batch["target_positions"]]


def loss(built: Any, several: Rows, training: bool = True) -> tuple[Any, dict[str, float]]:
    batch = built.collate(several)
    built.network.train(training)
    (turn,) = built.turns("train", 0)
    return turn.loss({"model": built.network}, batch), turn.weights(batch)


def test_the_loss_is_that_of_transformers_where_nothing_is_dropped() -> None:
    built, several = objective(), rows(45, 9, 60)
    batch = built.collate(several)
    wanted = torch.nn.functional.cross_entropy(logits(of_transformers(built), batch), batch["target_ids"])
    of_batch, weights = loss(built, several)
    assert of_batch.sums["lm"].item() / weights["lm"] == pytest.approx(wanted.item(), abs=1e-5)
    assert of_batch.metrics["experts/dropped"][0] == 0


def test_tokens_are_dropped_as_in_transformers_where_every_row_has_the_same_room() -> None:
    """Its room is a number, and a row's; so compare one row, whose encoder and decoder have the same room: 4."""
    built, row = objective(routing={"capacity": 0.01}), rows(45)
    batch = built.collate(row)
    wanted = torch.nn.functional.cross_entropy(logits(of_transformers(built, 4), batch), batch["target_ids"])
    of_batch, weights = loss(built, row)
    assert of_batch.metrics["experts/dropped"][0] > 10
    assert of_batch.sums["lm"].item() / weights["lm"] == pytest.approx(wanted.item(), abs=1e-5)


def test_terms_and_metrics_are_those_of_the_routers_logits() -> None:
    built, several = objective(), rows(45, 9, 60)
    model, batch = of_transformers(built), built.collate(several)
    of_batch, weights = loss(built, several)
    with torch.no_grad():
        out = model(
            **{n: batch[n] for n in ("input_ids", "attention_mask", "decoder_input_ids")}, output_router_logits=True
        )
    masks = {
        "encoder": batch["attention_mask"].bool(),
        "decoder": torch.arange(batch["decoder_input_ids"].shape[1]) < batch["target_lengths"][:, None],
    }
    balance, z, entropy = 0.0, {}, 0.0
    for stack, recorded in (("encoder", out.encoder_router_logits), ("decoder", out.decoder_router_logits)):
        z[stack] = sum(layer[masks[stack]].logsumexp(-1).square().sum().item() for layer in recorded)
        for layer in recorded:
            for row, mask in zip(layer, masks[stack], strict=True):
                p = row[mask].softmax(-1)
                f = torch.bincount(p.argmax(-1), minlength=4) / len(p)
                balance += 4 * (f * p.mean(0)).sum().item()
                entropy -= (p * p.log()).sum().item()
    units = {"encoder": float(masks["encoder"].sum()), "decoder": float(masks["decoder"].sum())}
    assert weights == {
        "lm": units["decoder"], "balance": 3.0, "z_encoder": units["encoder"], "z_decoder": units["decoder"]
    }  # fmt: skip
    assert of_batch.sums["balance"].item() == pytest.approx(0.01 * balance, rel=1e-4)
    for stack in z:
        assert of_batch.sums[f"z_{stack}"].item() == pytest.approx(0.001 * z[stack], rel=1e-4)
    of_metrics = {name: float(value) / weight for name, (value, weight) in of_batch.metrics.items()}
    routed = 2 * units["encoder"] + units["decoder"]
    assert of_metrics["experts/balance"] == pytest.approx(balance / 9, rel=1e-4)
    assert of_metrics["experts/entropy"] == pytest.approx(entropy / routed, rel=1e-4)
    assert of_metrics["experts/z"] == pytest.approx(sum(z.values()) / routed, rel=1e-4)


def test_use_by_expert_is_told_of_held_out_rows() -> None:
    built, several = objective(), rows(45, 60)
    assert not any(name.startswith("use/") for name in loss(built, several)[0].metrics)
    metrics = loss(built, several, training=False)[0].metrics
    use = {name: float(value) / weight for name, (value, weight) in metrics.items() if name.startswith("use/")}
    assert sorted(use) == sorted(f"use/{layer}/{number:03}" for layer in LAYERS for number in range(4))
    assert sum(use.values()) == pytest.approx(3.0)


def test_terms_without_a_coefficient_are_none() -> None:
    of_batch, weights = loss(objective(router_aux_loss_coef=0.0, router_z_loss_coef=0.0), rows(45))
    assert list(weights) == list(of_batch.sums) == ["lm"]
    assert "experts/balance" in of_batch.metrics


def test_groups_of_rows_share_the_room_of_experts_and_no_group_is_cut() -> None:
    several = rows(45, 45, 45)
    alone, together = (loss(objective(routing={"capacity": 1.0, "group": n}), several)[0] for n in (1, 3))
    assert alone.metrics["experts/balance"][1] == 9 and together.metrics["experts/balance"][1] == 3
    assert alone.metrics["experts/dropped"][0] != together.metrics["experts/dropped"][0]
    assert objective(routing={"group": 3}).group_rows == 3


def test_padding_changes_nothing() -> None:
    built, several = objective(routing={"capacity": 1.0}), rows(45, 9)
    of_batch, _ = loss(built, several)
    single = [loss(built, take(several, [row]))[0] for row in range(2)]
    for name, value in of_batch.sums.items():
        assert value.item() == pytest.approx(sum(each.sums[name].item() for each in single), rel=1e-5), name


def test_the_router_is_in_fp32_under_autocast() -> None:
    built, batch = objective(), objective().collate(rows(45))
    autocast_forward(built.network, torch.device("cpu"), "bf16")
    seen: dict[str, torch.dtype] = {}
    layer = built.mixture.layers[0]
    layer.router.classifier.register_forward_hook(
        lambda _, given, made: seen.update(given=given[0].dtype, made=made.dtype)
    )
    layer.experts["expert_0"].wi.register_forward_hook(lambda _, given, made: seen.update(expert=made.dtype))
    built.network(**batch)
    assert seen == {"given": torch.float32, "made": torch.float32, "expert": torch.bfloat16}
    assert layer.passage.routes["encoder-1"].gate.dtype == torch.float32


def test_noise_reaches_routers_alone_and_in_training_alone() -> None:
    built, several = objective(router_jitter_noise=0.3), rows(45)
    noisy = [loss(built, several)[0].sums["lm"].item() for _ in range(2)]
    quiet = [loss(built, several, training=False)[0].sums["lm"].item() for _ in range(2)]
    assert noisy[0] != noisy[1] and quiet[0] == quiet[1]
    layer = built.mixture.layers[0].train()
    given: list[torch.Tensor] = []
    layer.router.classifier.register_forward_hook(lambda _, inputs, made: given.append(inputs[0]))
    layer.experts["expert_0"].register_forward_hook(lambda _, inputs, made: given.append(inputs[0]))
    hidden = torch.ones(1, 6, 32)
    built.mixture.passage.groups = {}
    layer(hidden)
    assert given[0].unique().numel() > 100 and 0.7 <= given[0].min() < given[0].max() <= 1.3
    tokens = given[1][given[1].any(1)]  # the others are there for their number
    assert 0 < len(tokens) <= 6 and (tokens == 1).all()


def test_a_step_learns_with_every_expert_and_routers_learn_by_the_gate() -> None:
    built = objective(router_aux_loss_coef=0.0, router_z_loss_coef=0.0)
    loss(built, rows(45, 60))[0].sums["lm"].backward()
    gradients = {name: p.grad for name, p in built.network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []  # experts without tokens, too
    assert all(gradients[n].abs().sum() > 0 for n in gradients if "router" in n)


def test_first_weights_are_small() -> None:
    layer = objective(d_model=128).mixture.layers[0]
    for weight, inputs in ((layer.router.classifier.weight, 128), (layer.experts["expert_1"].wo.weight, 64)):
        deviation = (0.1 / inputs) ** 0.5
        assert weight.abs().max() <= 2 * deviation
        assert weight.std().item() == pytest.approx(0.88 * deviation, rel=0.1)  # cut at two deviations


def test_recomputed_activations_make_the_same_gradients() -> None:
    several, gradients = rows(45, 60), []
    for again in (False, True):
        built = objective(routing={"capacity": 1.0})
        if again:
            built.network.model.gradient_checkpointing_enable({"use_reentrant": False})
        of_batch, _ = loss(built, several)
        torch.stack(list(of_batch.sums.values())).sum().backward()
        gradients.append([p.grad for p in built.network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_a_network_in_use_forgets_the_batch_that_it_was_trained_on() -> None:
    built, several = objective(routing={"capacity": 0.01}), rows(45, 9)
    assert loss(built, rows(60, 60, 60))[0].metrics["experts/dropped"][0] > 0
    built.network.eval()
    batch = built.collate(several)
    torch.testing.assert_close(logits(built.network.model, batch), logits(of_transformers(built), batch))


def test_the_work_is_that_of_one_expert() -> None:
    batch = objective().collate(rows(45, 60))
    few, many = objective(num_experts=2), objective(num_experts=8)
    routers = 3 * 2 * sum(32 * 6 * n for n in (batch["attention_mask"].sum() * 2, batch["target_ids"].numel()))
    assert many.flops(batch) - few.flops(batch) == pytest.approx(float(routers))
    assert many.network.idle_parameters() == 3 * 7 * 2 * 32 * 64
    assert many.network.expert_parameters() == 3 * 8 * 2 * 32 * 64


def test_what_it_costs_is_told_by_all_weights_and_those_that_a_token_meets() -> None:
    network = {"model": NetworkConfig(architecture="switch_transformers", config=SHAPE)}
    cost = price(ObjectiveConfig(name="t5"), network, replace(FACTS, length=40), None, 8, "fp32")
    built, of_expert = objective(), 2 * 32 * 64
    assert cost.parameters == sum(p.numel() for p in built.network.parameters())
    assert (cost.experts, cost.idle) == (3 * 4 * of_expert, 3 * 3 * of_expert)
    assert cost.shape is not None and (cost.shape.experts, cost.shape.sparse_depth) == (4, 3)
    batch = Batch(rows=4, length=40, targets=40)

    def held(**placement: Any) -> Any:
        settings = PlacementConfig(workers=2, zero=2, **placement)
        return memory(cost.shape, cost.parameters, batch, settings, "fp32", experts=cost.experts)  # type: ignore[arg-type]

    whole, divided = held(), held(expert_parallel=2)
    assert whole.weights == pytest.approx(RESERVED * 4 * cost.parameters)
    assert divided.weights == pytest.approx(RESERVED * 4 * (cost.parameters - cost.experts / 2))  # half of the experts
    assert (divided.gradients, divided.moments) == (whole.gradients, whole.moments)  # which ZeRO divides anyway
    trial = Trial(1e8, 1e9, PlacementConfig(workers=2, zero=1))
    placed = PlacementConfig(workers=2, zero=1, expert_parallel=2)
    watched = watched_memory(cost, placed, "adamw", False, "worker", trial)
    assert watched.weights == watched.gradients == 4 * (cost.parameters - cost.experts / 2)


def test_an_export_opens_elsewhere_with_the_same_logits(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    wanted = TokenizerConfig(kind="byte-bpe", vocabulary=300, roles=["pad", "eos", "decoder_start"], sentinels=10)
    train(wanted, ["the cat sat on a mat"], tokenizer)
    facts = replace(FACTS, specials=specials(tokenizer), preprocessor=tokenizer)
    built = objective(facts, routing={"capacity": 1.0})
    built.network.eval()
    built.export(tmp_path / "out", [])
    check_export(tmp_path / "out", built.exported())
    model = open_pretrained(tmp_path / "out", "AutoModelForSeq2SeqLM")
    assert isinstance(model, SwitchTransformersForConditionalGeneration)
    batch = built.collate(rows(45, 9, 60))
    torch.testing.assert_close(logits(model, batch), logits(built.network.model, batch), rtol=0, atol=1e-5)
    assert built.network.model.config.expert_capacity == UNLIMITED


def test_zero_3_is_refused_in_a_sentence() -> None:
    built = objective()
    refusal = built.refuses(3)
    assert refusal.startswith("placement.zero: 3") and refusal.count(".") == refusal.rstrip(".").count(".") + 1
    assert all(built.refuses(zero) is None for zero in (None, 0, 1, 2))


def test_what_the_library_would_not_do_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective\.options\.routing\.capacity"):
        objective(expert_capacity=64)


def test_a_network_without_a_fused_attention_is_built_for_a_gpu_too() -> None:
    network = {"model": NetworkConfig(architecture="switch_transformers", config=SHAPE)}
    built: Any = build(ObjectiveConfig(name="t5"), network, FACTS, "cuda")
    assert built.config._attn_implementation == "eager"


def test_experts_are_for_networks_that_have_them() -> None:
    network = NetworkConfig(architecture="t5", config={"d_model": 32})
    with pytest.raises(UserError, match="no experts"):
        build(ObjectiveConfig(name="t5", options={"routing": {"group": 4}}), {"model": network}, FACTS, "cpu")
    assert PlacementConfig().expert_parallel == 1
