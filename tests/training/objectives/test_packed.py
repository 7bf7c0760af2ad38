"""Several sequences in a row: a network computes for each what it computes where the sequence has the row to itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data_prep.corruptions.masking import MaskingConfig, corrupt
from data_prep.errors import UserError
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, num_rows, ragged, take
from data_prep.tokens.packing import best_fit, pack
from tests.training import tiny
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig
from training.data import Corpus, MemoryTable, Stream
from training.loop import Training
from training.models.text.architectures import ARCHITECTURES, packed_attention, packing_problems, text_config
from training.models.text.network import within_sequences
from training.objectives import build
from training.objectives.masked_lm import MaskedLM
from training.objectives.text import token_pairs

LENGTH = 64
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 80, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
DISTILLED = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "dropout": 0.0, "attention_dropout": 0.0}
EMBEDDED = {"embedding_size": 16}
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {**DISTILLED, "max_position_embeddings": 80},
    "albert": SHAPE | EMBEDDED | {"classifier_dropout_prob": 0.0},
    "electra": SHAPE | EMBEDDED,
}


def objective(architecture: str, sentence: str = "none", kernel: str = "eager") -> MaskedLM:
    network = NetworkConfig(architecture=architecture, config=OWN.get(architecture, SHAPE))
    torch.manual_seed(1)
    section = ObjectiveConfig(name="masked-lm", options={"sentence": sentence})
    built: Any = build(section, {"model": network}, tiny.FACTS, "cpu")
    built.packed_attention = kernel
    built.network.encoder.config._attn_implementation = kernel
    with torch.no_grad():  # zeros would hide a bias that is added twice or not at all
        for parameter in built.network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return built


def corrupted(count: int = 24) -> Rows:
    """Sequences of 4 to about 24 tokens, some of them as long as a row, corrupted; x′ is their `input`."""
    rows = tiny.table(count).columns
    tokens, segment = ragged(rows, "input"), ragged(rows, "segment")
    lengths = np.random.default_rng(3).integers(4, tokens.lengths + 1)
    columns: Rows = {
        "input": Ragged.from_rows([tokens.row(i)[:n] for i, n in enumerate(lengths)]),
        "segment": Ragged.from_rows([segment.row(i)[:n] for i, n in enumerate(lengths)]),
        "label": rows["label"],
    }
    seen = corrupt(columns, MaskingConfig(kind="masked-lm", rate=0.3), tiny.SPECIALS, Draws(1, 0, np.arange(count)))
    return {"input" if name == "seen" else name: column for name, column in seen.items()}


def packed(rows: Rows, length: int = LENGTH) -> Rows:
    """The same sequences and targets, several in a row."""
    clean = {name: column for name, column in rows.items() if not name.startswith("target")}
    joined = pack(clean, length)
    row = best_fit(ragged(rows, "input").lengths, length)
    order = np.argsort(row, kind="stable")
    sequences = take(rows, order)
    lengths = ragged(sequences, "input").lengths
    begins = np.cumsum(lengths) - lengths
    begins -= ragged(joined, "input").offsets[row[order]]
    bounds = np.cumsum([0, *np.bincount(row)])
    positions, ids = ragged(sequences, "target_positions"), ragged(sequences, "target_ids")
    places = positions.values + np.repeat(begins, positions.lengths)
    joined["target_positions"] = Ragged(places, positions.offsets[bounds])
    joined["target_ids"] = Ragged(ids.values, ids.offsets[bounds])
    return joined


def losses_and_gradients(
    built: MaskedLM, rows: Rows, device: str = "cpu"
) -> tuple[dict[str, float], dict[str, float], dict[str, Tensor]]:
    built.network.to(device)
    batch = {name: column.to(device) for name, column in built.collate(rows).items()}
    turn = built.turns("train", 0)[0]
    built.network.train()
    built.network.zero_grad()
    loss, weights = turn.loss({"model": built.network}, batch), turn.weights(batch)
    torch.stack([value / weights[name] for name, value in loss.sums.items()]).sum().backward()
    means = {name: value.item() / weights[name] for name, value in loss.sums.items()}
    means |= {name: float(value) / weight for name, (value, weight) in loss.metrics.items()}
    gradients = {n: p.grad.cpu() for n, p in built.network.named_parameters() if p.grad is not None}
    return means, weights, gradients


PACKABLE = [name for name, line in ARCHITECTURES.items() if line.packable and not line.causal]  # see test_gpt.py
CASES = [(name, "none", "eager") for name in PACKABLE]
CASES += [(name, "sop", "eager") for name in PACKABLE if ARCHITECTURES[name].sentence_head]
CASES += [("bert", "sop", "sdpa"), ("roberta", "none", "sdpa")]


@pytest.mark.parametrize(("architecture", "sentence", "kernel"), CASES)
def test_a_packed_row_is_worth_its_sequences(architecture: str, sentence: str, kernel: str) -> None:
    built, rows = objective(architecture, sentence, kernel), corrupted()
    together = packed(rows)
    assert num_rows(together) < num_rows(rows) / 2
    means, weights, gradients = losses_and_gradients(built, rows)
    packed_means, packed_weights, packed_gradients = losses_and_gradients(built, together)
    assert packed_weights == weights and weights["mlm"] > 40
    assert packed_means == pytest.approx(means, abs=1e-5)
    assert packed_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize(("architecture", "sentence", "kernel"), CASES)
def test_every_token_of_a_packed_row_is_seen_alike(architecture: str, sentence: str, kernel: str) -> None:
    built, rows = objective(architecture, sentence, kernel), corrupted()
    together = packed(rows)
    order = np.argsort(best_fit(ragged(rows, "input").lengths, LENGTH), kind="stable")
    states = hidden(built, together)
    torch.testing.assert_close(states, hidden(built, take(rows, order)), atol=1e-5, rtol=1e-5)
    del together["sequence"]  # without it, neighbours would show
    together["label"] = np.zeros(num_rows(together), np.uint8)
    assert (hidden(built, together) - states).abs().max() > 0.01


def hidden(built: MaskedLM, rows: Rows) -> Tensor:
    """Last hidden states [N, H] of all tokens, in order."""
    kept: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        kept.append(output.last_hidden_state)

    handle = built.network.encoder.register_forward_hook(keep, prepend=True)
    batch = built.collate(rows)
    with torch.no_grad():
        built.network.eval()(**batch)
    handle.remove()
    return kept[0][batch["attention_mask"].bool()]


def test_the_same_work_is_counted() -> None:
    built, rows = objective("bert", "sop"), corrupted()
    apart, together = built.collate(rows), built.collate(packed(rows))
    assert built.num_units(together) == built.num_units(apart) == len(ragged(rows, "input").values)
    assert built.flops(together) == built.flops(apart)
    pairs = (ragged(rows, "input").lengths ** 2).sum()
    assert token_pairs(together) == pairs
    assert together["input_ids"].shape[1] <= LENGTH


def test_a_small_packed_batch_is_pinned() -> None:
    rows: Rows = {
        "input": Ragged.from_rows([[2, 5, 3, 2, 6, 7, 3], [2, 8, 8, 8, 8, 8, 8, 8, 3]], np.uint16),
        "sequence": Ragged.from_rows([[0, 0, 0, 1, 1, 1, 1], [0] * 9], np.uint8),
        "label": Ragged.from_rows([[1, 0], [1]], np.uint8),
        "target_positions": Ragged.from_rows([[1, 5], [8]], np.uint16),
        "target_ids": Ragged.from_rows([[9, 10], [11]], np.uint16),
    }
    batch = objective("bert", "sop").collate(rows)
    assert batch["sequence"].tolist() == [[0] * 3 + [1] * 4 + [-1] * 9, [0] * 9 + [-1] * 7]
    assert batch["position"].tolist() == [[0, 1, 2, 0, 1, 2, 3] + [0] * 9, [*range(9)] + [0] * 7]
    assert batch["starts"].tolist() == [0, 3, 16]
    assert batch["label"].tolist() == [1, 0, 1]
    assert batch["target_positions"].tolist() == [1, 5, 24]


def test_masks_as_the_kernels_take_them() -> None:
    sequence = torch.tensor([[0, 0, 1, -1]])
    together = within_sequences(sequence, "sdpa")
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert together.dtype == torch.bool and together.int().tolist() == [[expected]]
    added = within_sequences(sequence, "eager")
    assert added.dtype == torch.float32 and torch.equal(added == 0, together) and added.min() < -1e38
    with torch.autocast("cpu", torch.bfloat16):
        assert within_sequences(sequence, "eager").dtype == torch.bfloat16
    blocks = within_sequences(sequence, "flex_attention")
    assert blocks.shape == (1, 1, 4, 4)
    dense = [[int(blocks.mask_mod(torch.tensor(0), torch.tensor(0), q, k)) for k in range(4)] for q in torch.arange(4)]
    assert dense == expected
    causal = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert within_sequences(sequence, "sdpa", causal=True).int().tolist() == [[causal]]
    mask = within_sequences(sequence, "flex_attention", causal=True).mask_mod
    assert [[int(mask(torch.tensor(0), 0, q, k)) for k in range(4)] for q in torch.arange(4)] == causal


@pytest.mark.parametrize(
    ("device", "changes", "kernel"),
    [
        ("cpu", {}, "eager"),
        ("cuda", {}, "flex_attention"),
        ("cuda", {"attention_probs_dropout_prob": 0.1}, "sdpa"),
        ("cuda", {"hidden_size": 48}, "sdpa"),  # heads of 24
        ("cuda", {"num_attention_heads": 4}, "sdpa"),  # heads of 8
    ],
)
def test_the_kernel_for_packed_rows(device: str, changes: dict[str, Any], kernel: str) -> None:
    network = NetworkConfig(architecture="bert", config=SHAPE | changes)
    config = text_config(network, tiny.SPECIALS, device)
    assert packed_attention(config, device) == kernel


@pytest.mark.parametrize("architecture", ["mobilebert", "deberta-v2", "convbert", "modernbert", "big_bird"])
def test_an_architecture_that_mixes_sequences_is_refused(architecture: str) -> None:
    network = NetworkConfig(architecture=architecture)
    [(path, text)] = packing_problems(network)
    assert path == "network.architecture" and text.startswith(f"'{architecture}' cannot keep apart")
    built = objective("bert", "sop")
    built.settings = network
    with pytest.raises(UserError, match=r"set compose\.pack to false or use one of albert, bert"):
        built.collate(packed(corrupted()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kernel", ["sdpa", "flex_attention"])
def test_the_kernels_of_a_gpu_compute_what_a_cpu_does(kernel: str) -> None:
    rows = corrupted()
    means, _, gradients = losses_and_gradients(objective("bert", "sop"), rows)
    on_gpu, _, found_gradients = losses_and_gradients(objective("bert", "sop", kernel), packed(rows), "cuda")
    assert on_gpu == pytest.approx(means, abs=1e-3)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, atol=1e-3, rtol=1e-2, msg=name)


def training(**options: Any) -> Training:
    """The tiny language in packed rows: the loop, its stream and its corruption take them as they are."""
    training = tiny.training(dropout=0.0, **options)
    table, held_out = pack(tiny.table(400).columns, LENGTH), pack(tiny.table(70, seed=1).columns, LENGTH)
    order = OrderConfig(block=8, window=4)
    rows, held = MemoryTable(table, num_rows(table)), MemoryTable(held_out, num_rows(held_out))
    training.stream = Stream([Corpus("tiny", rows)], tiny.SEED, order, tiny.masked)
    training.held_out = Stream([Corpus("held-out", held)], tiny.SEED, order, tiny.masked, "held-out")
    training.held_out_rows = held.rows
    return training


def test_training_on_packed_rows_learns() -> None:
    learning = training(steps=60, lr=1e-2)
    before = learning.evaluate()
    summary = learning.run()
    assert summary["validation/mlm"] < before["validation/mlm"] - 0.1
    assert summary["train/sop"] > 0


@pytest.mark.parametrize(
    "placement", [{"micro_batch": 7}, {"activation_checkpointing": True}, {"zero": 2}, {"zero": 3}], ids=str
)
def test_packed_rows_train_alike_however_they_are_placed(placement: dict[str, Any]) -> None:
    plain, placed = losses(), losses(placement=PlacementConfig(**placement))
    assert placed == pytest.approx(plain, abs=2e-5)


def losses(**options: Any) -> list[float]:
    records: list[dict[str, Any]] = []
    training(steps=3, log=records.append, **options).run()
    return [record["train/loss"] for record in records if "train/loss" in record]


def test_losses_by_row_are_those_of_its_sequences() -> None:
    built, rows = objective("bert", "sop"), corrupted()
    together = packed(rows)
    order = best_fit(ragged(rows, "input").lengths, LENGTH)
    apart, joined = ({**built.collate(each), "source": torch.zeros(num_rows(each))} for each in (rows, together))
    turn = built.turns("train", 0)[0]
    built.network.eval()
    with torch.no_grad():
        alone, by_row = (turn.loss({"model": built.network}, batch).by_row for batch in (apart, joined))
    assert alone["sop"].shape == (2, 24) and (alone["sop"][1] == 1).all()
    for name in ("mlm", "sop"):
        wanted = torch.zeros_like(by_row[name]).index_add_(1, torch.from_numpy(order), alone[name])
        torch.testing.assert_close(by_row[name], wanted, atol=1e-4, rtol=1e-4)
    assert len(by_row["sop"][1]) == num_rows(together) and (by_row["sop"][1] >= 1).all()
