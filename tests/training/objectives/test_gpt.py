"""Next-token prediction: the loss of `transformers`, within documents alone, and networks that open elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.facts import DataFacts
from data_prep.shards.rows import Ragged, Rows, Specials, ragged
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training.objectives.test_packed import losses_and_gradients
from training.config import NetworkConfig, ObjectiveConfig
from training.models import cpu_kernels
from training.models.text.architectures import ARCHITECTURES
from training.models.text.folder import open_config, open_pretrained, open_tokenizer
from training.objectives import build
from training.objectives.gpt import next_tokens

PAD, BOS, EOS = range(3)
FACTS = DataFacts("text", ("input",), specials=Specials(48, pad=PAD, bos=BOS, eos=EOS))
NETWORKS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    },
    "llama": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 64, "max_position_embeddings": 64,
    },
}  # fmt: skip
each = pytest.mark.parametrize("architecture", NETWORKS)


def objective(architecture: str, facts: DataFacts = FACTS, kernel: str = "eager") -> Any:
    network = NetworkConfig(architecture=architecture, config=NETWORKS[architecture])
    torch.manual_seed(1)
    built: Any = build(ObjectiveConfig(name="gpt"), {"model": network}, facts, "cpu")
    built.network.encoder.config._attn_implementation = kernel
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return built


def documents(lengths: list[int]) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [[BOS, *random.integers(3, 48, length - 2), EOS] for length in lengths]


def apart(texts: list[list[int]]) -> Rows:
    return {"input": Ragged.from_rows(texts, np.uint16)}


def together(*rows: list[list[int]]) -> Rows:
    """Several documents in each row, as a stream has them."""
    tokens = [[token for text in texts for token in text] for texts in rows]
    sequence = [[number for number, text in enumerate(texts) for _ in text] for texts in rows]
    return {"input": Ragged.from_rows(tokens, np.uint16), "sequence": Ragged.from_rows(sequence, np.uint16)}


@each
def test_the_loss_is_that_of_transformers(architecture: str) -> None:
    built, [text] = objective(architecture), documents([21])
    ids = torch.tensor([text])
    with torch.no_grad():
        wanted = built.network.model(input_ids=ids, labels=ids).loss.item()
    means, weights, _ = losses_and_gradients(built, apart([text]))
    assert weights == {"lm": 20.0}
    assert means["lm"] == pytest.approx(wanted, abs=1e-5)


@each
def test_padding_is_neither_seen_nor_predicted(architecture: str) -> None:
    built, texts = objective(architecture), documents([21, 5, 13])
    means, weights, _ = losses_and_gradients(built, apart(texts))
    sums = [losses_and_gradients(built, apart([text]))[0]["lm"] * (len(text) - 1) for text in texts]
    assert weights["lm"] == 20 + 4 + 12
    assert means["lm"] == pytest.approx(sum(sums) / 36, abs=1e-5)


@each
def test_accuracy_is_of_the_tokens_that_are_predicted(architecture: str) -> None:
    built, texts = objective(architecture), documents([21, 5, 13])
    with torch.no_grad():
        guesses = [built.network.model(input_ids=torch.tensor([text])).logits[0, :-1].argmax(-1) for text in texts]
        texts[0][1:] = guesses[0].tolist()  # right at least where it is asked about the first token
        predicted = [built.network.model(input_ids=torch.tensor([text])).logits[0, :-1].argmax(-1) for text in texts]
        correct = sum(int((row == torch.tensor(text[1:])).sum()) for row, text in zip(predicted, texts, strict=True))
        loss = built._loss(built.networks(), built.collate(apart(texts)))
    assert 0 < correct < 36 and loss.metrics["lm_accuracy"] == (correct, 36)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@each
def test_documents_of_a_row_are_worth_rows_of_their_own(architecture: str, kernel: str) -> None:
    built, texts = objective(architecture, kernel=kernel), documents([21, 5, 13, 2, 17])
    rows = apart(texts), together(texts[:3], texts[3:])
    (means, weights, gradients), (packed, packed_weights, packed_gradients) = (
        losses_and_gradients(built, batch_rows) for batch_rows in rows
    )
    assert packed_weights == weights and packed == pytest.approx(means, abs=1e-5)
    assert packed_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)
    alone, joined = (built.collate(batch_rows) for batch_rows in rows)
    assert built.flops(joined) == built.flops(alone) > 0
    blind = {"input": rows[1]["input"]}  # without `sequence`, a document sees those before it
    assert losses_and_gradients(built, blind)[0]["lm"] != pytest.approx(means["lm"], abs=1e-3)


@each
def test_faster_passes_on_cpu_cores_compute_the_same(architecture: str) -> None:
    plain, fast = objective(architecture), objective(architecture)
    cpu_kernels.speed_up(fast.network, "fp32")
    assert fast.network.head is not None
    faster_attention = fast.network.encoder.config._attn_implementation == cpu_kernels.ATTENTION
    assert faster_attention is ARCHITECTURES[architecture].registered_attention
    texts = documents([21, 5, 13, 2, 17])
    for rows in (apart(texts), together(texts[:3], texts[3:])):
        (means, _, gradients), (fast_means, _, found_gradients) = (
            losses_and_gradients(built, rows) for built in (plain, fast)
        )
        assert fast_means == pytest.approx(means, abs=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(found_gradients[name], gradient, atol=2e-6, rtol=1e-4, msg=name)


def test_what_is_predicted_is_pinned() -> None:
    rows: Rows = {
        "input": Ragged.from_rows([[7, 2, 1, 8, 9, 2, 1], [5, 6]], np.uint16),
        "sequence": Ragged.from_rows([[0, 0, 1, 1, 1, 1, 2], [0, 0]], np.uint16),
    }
    positions, ids = next_tokens(rows)
    assert [positions.row(row).tolist() for row in (0, 1)] == [[0, 2, 3, 4], [0]]
    assert [ids.row(row).tolist() for row in (0, 1)] == [[2, 8, 9, 2], [6]]
    positions, ids = next_tokens({"input": rows["input"]})
    assert ids.values.tolist() == [2, 1, 8, 9, 2, 1, 6]
    positions, ids = next_tokens({"input": Ragged.from_rows([[4], []], np.uint16)})
    assert len(ids.values) == 0 and ids.lengths.tolist() == [0, 0]


@each
def test_the_work_is_counted(architecture: str) -> None:
    built = objective(architecture)
    batch, length = built.collate(apart(documents([20, 20]))), 20
    matrices = sum(
        parameter.numel()
        for name, parameter in built.network.encoder.named_parameters()
        if parameter.ndim == 2 and not any(table in name for table in ("wte", "wpe", "embed"))
    )
    tokens, pairs = 2 * length, 2 * length**2 / 2
    head = 32 * 48 * 2 * (length - 1)
    assert built.flops(batch) == 3 * (2 * matrices * tokens + 4 * 2 * 32 * pairs + 2 * head)
    assert built.num_units(batch) == 40
    assert built.collate(built.example(2))["target_ids"].numel() == 2 * 127


@each
def test_the_terms_by_row_are_the_loss(architecture: str) -> None:
    built = objective(architecture)
    batch = built.collate(together(documents([9, 7]), documents([8])))
    batch["source"] = torch.zeros(2, dtype=torch.long)
    loss = built.turns("train", 0)[0].loss({"model": built.network}, batch)
    sums, counts = loss.by_row["lm"]
    assert counts.tolist() == [14, 7]
    assert sums.sum().item() == pytest.approx(loss.sums["lm"].item(), rel=1e-5)


@pytest.mark.parametrize("roles", [["pad", "bos", "eos"], ["eos"]])
@each
def test_an_export_opens_elsewhere(architecture: str, roles: list[Any], tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    train(TokenizerConfig(kind="byte-bpe", vocabulary=300, roles=roles), ["the cat sat on a mat"], tokenizer)
    special_ids = specials(tokenizer)
    built = objective(architecture, replace(FACTS, specials=special_ids, preprocessor=tokenizer))
    built.network.eval()
    built.export(tmp_path / "out", [])
    assert built.architecture.auto_class == "AutoModelForCausalLM"
    config, model = open_config(tmp_path / "out"), open_pretrained(tmp_path / "out", "AutoModelForCausalLM")
    for ids in (config, model.generation_config):
        assert (ids.pad_token_id, ids.bos_token_id, ids.eos_token_id) == tuple(
            map(special_ids.get, ("pad", "bos", "eos"))
        )
    assert open_tokenizer(tmp_path / "out").eos_token_id == special_ids.eos
    tokens = torch.tensor([[special_ids.eos, 7, 8, 9]])
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=tokens).logits, built.network.model(input_ids=tokens).logits)
    batch = built.collate({"input": Ragged.from_rows([[7, 8, 9], [7] * 12], np.uint16)})
    assert batch["attention_mask"].sum().item() == 15 and len(batch["target_ids"]) == 2 + 11
    assert ragged(built.example(1), "input").values.max() < special_ids.vocabulary
