"""ELECTRA: its loss in plain code, what the two networks share, what is drawn, and networks that open elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_prep.corruptions.slots import Slots, SlotsConfig
from data_prep.errors import UserError
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, num_rows, ragged, take
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training import tiny
from tests.training.group import in_group
from tests.training.objectives.test_packed import LENGTH, losses_and_gradients, packed
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.cost.counted import price
from training.cost.memory import Batch as MemoryBatch
from training.cost.memory import memory
from training.distributed import Worker
from training.inference.encoding import open_encoder
from training.inference.opening import check_export
from training.loop import Training
from training.models import cpu_kernels
from training.models.text.folder import open_pretrained
from training.models.text.replaced_tokens import generator_config, put, sampled
from training.objectives import build, problems

SHAPE: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
    "embedding_size": 24, "max_position_embeddings": 80, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
NETWORK = NetworkConfig(architecture="electra", config=SHAPE)
ONE_ENCODER: dict[str, Any] = {"generator_width": 1.0, "shared": "all"}
alone_or_shared = pytest.mark.parametrize("options", [{}, ONE_ENCODER], ids=["embeddings", "all"])


def objective(facts: Any = tiny.FACTS, **options: Any) -> Any:
    torch.manual_seed(1)
    built: Any = build(ObjectiveConfig(name="electra", options=options), {"model": NETWORK}, facts, "cpu")
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return built


def slotted(rows: Rows, draws: Draws) -> Rows:
    return Slots(SlotsConfig(kind="masked-slots", rate=0.3), tiny.SPECIALS)(rows, draws)


def corrupted(built: Any, count: int = 24) -> Rows:
    draws = Draws(1, 0, np.arange(count))
    columns = {name: column for name, column in tiny.table(count).columns.items() if name != "label"}
    return built.drawn(slotted(columns, draws), draws)


# -- the definition ---------------------------------------------------------------------------------------------------


@alone_or_shared
def test_the_loss_is_the_definition(options: dict[str, Any]) -> None:
    """Row by row with the networks of transformers: no shared code but their forward passes."""
    built = objective(**options)
    rows = corrupted(built)
    built.network.eval()
    generator, discriminator = built.network.generator.model, built.network.model
    fill, detect, fakes, right = [], [], 0, 0
    for number in range(num_rows(rows)):
        seen = torch.tensor(ragged(rows, "seen").row(number).astype(int))[None]
        slots = ragged(rows, "target_positions").row(number)
        true, draws = ragged(rows, "target_ids").row(number).astype(int), ragged(rows, "draw").row(number)
        types = torch.tensor(ragged(rows, "segment").row(number).astype(int))[None]
        original = seen.clone()
        original[0, slots.astype(int)] = torch.tensor(true)
        with torch.no_grad():
            logits = generator(input_ids=seen, token_type_ids=types).logits[0]
            shown = original.clone()
            for slot, token, draw in zip(slots.astype(int), true, draws, strict=True):
                probabilities = torch.softmax(logits[slot].double(), -1)
                fill.append(-probabilities[token].log().item())
                shown[0, slot] = int((probabilities.cumsum(0) <= draw).sum())
            scores = discriminator(input_ids=shown, token_type_ids=types).logits[0]
        label = (shown != original)[0].double()
        detect += F.binary_cross_entropy_with_logits(scores.double(), label, reduction="none").tolist()
        fakes, right = fakes + int(label.sum()), right + int(((scores > 0) & (label == 1)).sum())
    batch = built.collate(rows)
    with torch.no_grad():
        loss, weights = built._loss(built.networks(), batch), built._weights(batch)
    assert weights == {"mlm": len(fill), "rtd_weighted": len(detect)} and len(detect) == len(
        ragged(rows, "seen").values
    )
    assert loss.sums["mlm"].item() == pytest.approx(sum(fill), rel=1e-5)
    assert loss.sums["rtd_weighted"].item() == pytest.approx(50 * sum(detect), rel=1e-5)
    assert loss.metrics["rtd_recall"] == (right, fakes) and 0 < fakes < len(fill)


def test_a_generator_that_hits_the_truth_replaces_nothing() -> None:
    built = objective()
    batch = built.collate(corrupted(built))
    with torch.no_grad():  # all of its probability on one token
        built.network.generator.model.generator_lm_head.bias[9] += 1e4
    shown = built.network(**batch)["shown_ids"]
    true = put(batch["input_ids"], batch["target_positions"], batch["target_ids"])
    replaced = torch.zeros_like(true).flatten().index_fill_(0, batch["target_positions"], 1).view_as(true)
    assert torch.equal(shown != true, replaced.bool() & (true != 9))
    assert (shown[replaced.bool()] == 9).all() and (true[replaced.bool()] == 9).any()


def test_the_shares_of_the_networks_are_the_published_ones() -> None:
    """Generators of ELECTRA-small, -base and -large: 64 wide with 1 head, 256 with 4, 256 with 4."""
    from transformers import ElectraConfig

    for hidden, layers, width, expected in (
        (256, 12, 0.25, (64, 1)),
        (768, 12, 1 / 3, (256, 4)),
        (1024, 24, 0.25, (256, 4)),
    ):
        config = ElectraConfig(hidden_size=hidden, num_hidden_layers=layers, embedding_size=128)
        made = generator_config(config, width, 1.0)
        assert (made.hidden_size, made.num_attention_heads) == expected
        assert (made.intermediate_size, made.num_hidden_layers) == (4 * expected[0], layers)
        assert made.embedding_size == 128 and config.hidden_size == hidden


# -- what is shared ---------------------------------------------------------------------------------------------------


def test_the_networks_share_their_embeddings_and_nothing_else() -> None:
    """All three tables: a port that tied the words alone was wrong (transformers, pull request 4656)."""
    network = objective().network
    ours = {id(p): name for name, p in network.model.named_parameters()}
    shared = {ours[id(p)] for p in network.generator.model.parameters() if id(p) in ours}
    tables = ("word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight")
    assert shared == {f"electra.embeddings.{name}" for name in (*tables, "LayerNorm.weight", "LayerNorm.bias")}
    assert network.generator.model.generator_lm_head.weight is network.model.electra.embeddings.word_embeddings.weight
    assert network.model.electra.embeddings.position_embeddings.weight.shape == (80, 24)


def test_networks_of_one_size_may_share_all_but_their_heads() -> None:
    network = objective(**ONE_ENCODER).network
    ours = {id(p): name for name, p in network.model.named_parameters()}
    alone = {name for name, p in network.generator.model.named_parameters() if id(p) not in ours}
    assert all(name.startswith(("generator_predictions.", "generator_lm_head.bias")) for name in alone) and alone
    shared = {ours[id(p)] for p in network.generator.model.parameters() if id(p) in ours}
    assert ours.keys() - {id(p) for p in network.model.discriminator_predictions.parameters()} == {
        id(p) for p in network.model.electra.parameters()
    }
    assert shared == {name for name in ours.values() if name.startswith("electra.")}


def test_both_losses_train_what_is_shared_and_each_its_own_network() -> None:
    built = objective()
    rows = corrupted(built)
    batch = built.collate(rows)

    def gradients(term: str) -> dict[str, float]:
        built.network.zero_grad()
        built._loss(built.networks(), batch).sums[term].backward()
        return {n: float(p.grad.abs().sum()) for n, p in built.network.named_parameters() if p.grad is not None}

    fill, detect = gradients("mlm"), gradients("rtd_weighted")
    assert {name for name in fill if "embeddings." in name} <= fill.keys() & detect.keys()
    assert all(not name.startswith("generator.") for name in detect)  # what is drawn has no gradient
    assert all(name.startswith("generator.") or "embeddings." in name for name in fill)
    assert min(*fill.values(), *detect.values()) > 0


# -- what is drawn ----------------------------------------------------------------------------------------------------


def test_tokens_are_drawn_from_the_softmax() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -1e9]).expand(40_000, 5)
    draw = torch.from_numpy(Draws(3, 0, [0]).uniform(0, np.arange(40_000), 0).astype(np.float32))
    counts = torch.bincount(sampled(logits, draw), minlength=5) / 40_000
    torch.testing.assert_close(counts, torch.softmax(logits[0], 0), atol=0.008, rtol=0)
    assert counts[4] == 0
    assert sampled(logits[:2], torch.tensor([0.0, 1.0])).tolist() == [0, 3]  # 1.0: what rounding to fp32 may give


def test_draws_do_not_depend_on_the_batch() -> None:
    built = objective()
    rows = corrupted(built)
    whole = built.network(**built.collate(rows))["shown_ids"]
    draws = Draws(1, 0, np.arange(24))
    part = built.drawn(slotted(take(tiny.table(24).columns, [5, 3]), draws.take([5, 3])), draws.take([5, 3]))
    shown = built.network(**built.collate(part))["shown_ids"]
    for place, number in enumerate((5, 3)):
        length = int(ragged(rows, "seen").lengths[number])
        assert torch.equal(shown[place, :length], whole[number, :length])
    slots = ragged(rows, "target_positions")
    flat = slots.row_index() * 100 + slots.values
    same = np.flatnonzero(np.diff(flat) == 0)
    numbers = ragged(rows, "draw").values
    assert len(same) > 3 and np.array_equal(numbers[same], numbers[same + 1])  # two slots of a token draw one token


# -- as all objectives of text ----------------------------------------------------------------------------------------


def test_sequences_of_a_packed_row_are_worth_rows_of_their_own() -> None:
    built = objective()
    rows = corrupted(built)
    rows = {("input" if name == "seen" else name): column for name, column in rows.items()}
    together = packed({name: column for name, column in rows.items() if name != "draw"}, LENGTH)
    for each in (rows, together):  # one draw for all slots: packed, a slot has another position
        each["draw"] = Ragged(
            np.full(len(ragged(each, "target_ids").values), 0.3, np.float32), ragged(each, "target_ids").offsets
        )
    (means, weights, gradients), (means_packed, weights_packed, gradients_packed) = (
        losses_and_gradients(built, each) for each in (rows, together)
    )
    assert num_rows(together) < num_rows(rows) and weights_packed == weights
    assert means_packed == pytest.approx(means, abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_packed[name], gradient, atol=1e-4, rtol=1e-4, msg=name)
    assert built.flops(built.collate(together)) == built.flops(built.collate(rows)) > 0


@alone_or_shared
def test_faster_passes_on_cpu_cores_compute_the_same(options: dict[str, Any]) -> None:
    plain, fast = objective(**options), objective(**options)
    cpu_kernels.speed_up(fast.network, "fp32")
    for encoder in (fast.network.encoder, fast.network.generator.encoder):
        assert encoder.config._attn_implementation == cpu_kernels.ATTENTION
    rows = corrupted(plain)
    (means, _, gradients), (means_fast, _, gradients_fast) = (losses_and_gradients(o, rows) for o in (plain, fast))
    assert means_fast == pytest.approx(means, abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_fast[name], gradient, atol=1e-4, rtol=1e-4)


def test_the_terms_by_row_are_the_loss() -> None:
    built = objective()
    batch = built.collate(corrupted(built)) | {"source": torch.zeros(24, dtype=torch.long)}
    loss, weights = built._loss(built.networks(), batch), built._weights(batch)
    for name, by_row in loss.by_row.items():
        assert by_row.sum(1).tolist() == pytest.approx([loss.sums[name].item(), weights[name]], rel=1e-5)
    assert loss.by_row.keys() == loss.sums.keys()


@pytest.mark.parametrize(
    ("architecture", "config", "options", "path"),
    [
        ("bert", {}, {}, "network.architecture"),
        ("electra", {"hidden_size": 8}, {"generator_width": 0.01}, "objective.options.generator_width"),
        ("electra", {"hidden_size": 387}, {"generator_width": 1 / 3}, "objective.options.generator_width"),
        ("electra", {"num_hidden_layers": 2}, {"generator_layers": 0.1}, "objective.options.generator_layers"),
        ("electra", {}, {"shared": "all"}, "objective.options.generator_width"),
        ("electra", {}, {**ONE_ENCODER, "generator_layers": 0.5}, "objective.options.generator_layers"),
    ],
)
def test_what_does_not_fit_is_said(architecture: str, config: Any, options: Any, path: str) -> None:
    section = ObjectiveConfig(name="electra", options=options)
    network = NetworkConfig(architecture=architecture, config=config)
    assert [where for where, _ in problems(section, {"model": network})] == [path]
    with pytest.raises(UserError, match=path):
        build(section, {"model": network}, tiny.FACTS, "cpu")


# -- training ---------------------------------------------------------------------------------------------------------


def training(objective_options: Any = None, **options: Any) -> Training:
    settings = {"global_batch": 24, "steps": 8, "lr": 3e-3, "warmup_steps": 2}
    tables = tiny.table(300, "none"), tiny.table(70, "none", seed=1)
    new = partial(
        build, ObjectiveConfig(name="electra", options=objective_options or {}), {"model": NETWORK}, tiny.FACTS, "cpu"
    )
    return tiny.learning(new, tables, settings, slotted, **options)


losses = partial(tiny.losses_of, training)


def test_it_learns_and_all_weights_move() -> None:
    learning = training(steps=80, lr=1e-2)
    weights = {name: p.detach().clone() for name, p in learning.objective.networks()["model"].named_parameters()}
    before, summary = learning.evaluate(), learning.run()
    assert summary["validation/mlm"] < before["validation/mlm"] - 0.1
    assert summary["validation/rtd"] < before["validation/rtd"] - 0.1
    assert learning.evaluate() == {n: v for n, v in summary.items() if n.startswith("validation/")}  # keyed draws
    assert summary["validation/loss"] == pytest.approx(summary["validation/mlm"] + 50 * summary["validation/rtd"])
    for name, parameter in learning.objective.networks()["model"].named_parameters():
        assert not torch.equal(parameter, weights[name]), name


def _two(worker: Worker) -> list[float]:
    return losses(worker, placement=PlacementConfig(workers=worker.world, micro_batch=5))


@pytest.mark.slow
def test_two_workers_and_micro_batches_train_alike() -> None:
    assert in_group(2, _two)[0] == pytest.approx(losses(), abs=1e-4)


@pytest.mark.parametrize("placement", [{"activation_checkpointing": True}, {"zero": 2}, {"zero": 3}], ids=str)
def test_it_trains_alike_however_it_is_placed(placement: dict[str, Any]) -> None:
    assert losses(placement=PlacementConfig(**placement), steps=3) == pytest.approx(losses(steps=3), abs=1e-4)


def test_one_encoder_trains_alike_at_zero_2() -> None:
    at_zero = losses(placement=PlacementConfig(zero=2), steps=3, objective_options=ONE_ENCODER)
    assert at_zero == pytest.approx(losses(steps=3, objective_options=ONE_ENCODER), abs=1e-4)


def test_a_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    whole, records = losses(), []
    stopping = training(log=records.append, checkpoints=tmp_path, placement=PlacementConfig(checkpoint_every=3))
    stopping.stop = lambda: len(records) >= 4
    stopping.run()
    rest = losses(checkpoints=tmp_path)
    assert 0 < len(rest) < 8 and rest == whole[-len(rest) :]


# -- what is exported -------------------------------------------------------------------------------------------------


@alone_or_shared
def test_both_networks_open_elsewhere(options: dict[str, Any], tmp_path: Path) -> None:
    from transformers import ElectraForMaskedLM, ElectraForPreTraining

    tokenizer = tmp_path / "tokenizer"
    train(TokenizerConfig(kind="wordpiece", vocabulary=120, lowercase=True), ["the cat sat on a mat"], tokenizer)
    built = objective(replace(tiny.FACTS, specials=specials(tokenizer), preprocessor=tokenizer), **options)
    built.network.eval()
    out = tmp_path / "out"
    built.export(out, [])
    check_export(out, built.exported())
    check_export(out / "generator", built.network.generator.model)
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    for folder, kind, ours in (
        (out, ElectraForPreTraining, built.network.model),
        (out / "generator", ElectraForMaskedLM, built.network.generator.model),
    ):
        opened: Any = kind.from_pretrained(folder).eval()
        with torch.no_grad():
            torch.testing.assert_close(opened(input_ids=ids).logits, ours(input_ids=ids).logits, atol=1e-5, rtol=0)
        assert opened.config.pad_token_id == built.specials.pad
        assert type(open_pretrained(folder, kind.__name__)) is kind
    features = open_encoder(out).encode({"input": Ragged.from_rows([[2, 7, 8, 3], [2, 3]], np.uint16)})
    assert features.values.shape == (2, 4, 64) and features.values.std() > 0


def test_both_networks_are_priced() -> None:
    data = replace(tiny.FACTS, length=64)
    section = ObjectiveConfig(name="electra")
    cost = price(section, {"model": NETWORK}, data, SlotsConfig(kind="masked-slots"), 8, "fp32")
    built = objective(data)
    assert cost.parameters == sum(parameter.numel() for parameter in built.network.parameters())
    assert cost.shape is not None and cost.shape.hidden == 64 and [other.hidden for other in cost.beside] == [16]
    batch = MemoryBatch(8, 64, 80)
    without, both = (
        memory(cost.shape, cost.parameters, batch, PlacementConfig(), "fp32", beside=beside).activations
        for beside in ((), cost.beside)
    )
    assert 1.2 * without < both < 2 * without
