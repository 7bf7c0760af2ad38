"""Sequence to sequence: the loss of `transformers`, padding counts for nothing, and networks open elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.corruptions import build as build_corruption
from data_prep.corruptions import config_of
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials, ragged, take
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training.objectives.test_packed import losses_and_gradients
from training.config import NetworkConfig, ObjectiveConfig
from training.models.text.folder import open_config, open_pretrained
from training.objectives import build

PAD, EOS = range(2)
SPECIALS = Specials(64, pad=PAD, eos=EOS, decoder_start=PAD, sentinels=range(63, 53, -1))
FACTS = DataFacts("text", ("input",), specials=SPECIALS)
SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}


def objective(facts: DataFacts = FACTS, **config: Any) -> Any:
    network = NetworkConfig(architecture="t5", config=SHAPE | config)
    torch.manual_seed(1)
    return build(ObjectiveConfig(name="t5"), {"model": network}, facts, "cpu")


def rows(*lengths: int) -> Rows:
    random = np.random.default_rng(0)
    texts: Rows = {"input": Ragged.from_rows([random.integers(2, 50, length) for length in lengths], np.uint16)}
    return build_corruption(config_of({"kind": "spans"}), SPECIALS)(texts, Draws(3, 0, np.arange(len(lengths))))


@pytest.mark.parametrize("config", [{}, {"feed_forward_proj": "gated-gelu"}, {"num_decoder_layers": 1}], ids=str)
def test_the_loss_is_that_of_transformers(config: dict[str, Any]) -> None:
    built, row = objective(**config), rows(45)
    seen, targets = (torch.from_numpy(ragged(row, name).values.astype(np.int64))[None] for name in row)
    with torch.no_grad():
        wanted = built.network.model(input_ids=seen, labels=targets).loss.item()
    means, weights, _ = losses_and_gradients(built, row)
    assert weights == {"lm": targets.numel()} and targets.numel() == 7 + 2 + 1
    assert means["lm"] == pytest.approx(wanted, abs=1e-5)


def test_padding_is_neither_seen_nor_predicted() -> None:
    built, several = objective(), rows(45, 9, 60)
    means, weights, _ = losses_and_gradients(built, several)
    single = [losses_and_gradients(built, take(several, [row])) for row in range(3)]
    counts = [weight["lm"] for _, weight, _ in single]
    assert weights["lm"] == sum(counts)
    wanted = sum(mean["lm"] * count for (mean, _, _), count in zip(single, counts, strict=True)) / sum(counts)
    assert means["lm"] == pytest.approx(wanted, abs=1e-5)


def test_a_small_batch_is_pinned() -> None:
    batch_rows: Rows = {
        "seen": Ragged.from_rows([[5, 63, 7, EOS], [5, 6, 63, EOS]], np.uint16),
        "target_tokens": Ragged.from_rows([[63, 6, 8, EOS], [63, 7, EOS]], np.uint16),
    }
    batch = objective().collate(batch_rows)
    assert batch["input_ids"].tolist() == [[5, 63, 7, 1, 0, 0, 0, 0], [5, 6, 63, 1, 0, 0, 0, 0]]
    assert batch["decoder_input_ids"].tolist() == [[0, 63, 6, 8, 1, 0, 0, 0], [0, 63, 7, 1, 0, 0, 0, 0]]
    assert batch["target_positions"].tolist() == [0, 1, 2, 3, 8, 9, 10]
    assert batch["target_ids"].tolist() == [63, 6, 8, 1, 63, 7, 1]


def test_the_work_is_counted() -> None:
    built, several = objective(), rows(45, 45)
    batch = built.collate(several)
    seen, targets = ragged(several, "seen").lengths, ragged(several, "target_tokens").lengths
    inner, layers, d, ff = 16, 2, 32, 64
    attention, forward = 4 * d * inner, 2 * d * ff
    encoder = layers * (attention + forward) * seen.sum()
    decoder = layers * ((attention + forward + 2 * d * inner) * targets.sum() + 2 * d * inner * seen.sum())
    pairs = layers * 2 * inner * (seen**2 + targets**2 / 2 + seen * targets).sum()
    head = d * 64 * targets.sum()
    assert built.flops(batch) == pytest.approx(3 * 2 * (encoder + decoder + pairs + head))
    assert built.num_units(batch) == seen.sum()
    example = built.collate(built.example(2))
    assert example["input_ids"].shape == (2, 128) and built.flops(example) > 0


def test_the_terms_by_row_are_the_loss() -> None:
    built, several = objective(), rows(45, 20)
    batch = built.collate(several)
    batch["source"] = torch.zeros(2, dtype=torch.long)
    loss = built.turns("train", 0)[0].loss({"model": built.network}, batch)
    sums, counts = loss.by_row["lm"]
    assert counts.tolist() == ragged(several, "target_tokens").lengths.tolist()
    assert sums.sum().item() == pytest.approx(loss.sums["lm"].item(), rel=1e-5)


def test_an_export_opens_elsewhere(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    wanted = TokenizerConfig(kind="byte-bpe", vocabulary=300, roles=["pad", "eos", "decoder_start"], sentinels=10)
    train(wanted, ["the cat sat on a mat"], tokenizer)
    special_ids = specials(tokenizer)
    built = objective(replace(FACTS, specials=special_ids, preprocessor=tokenizer))
    built.network.eval()
    built.export(tmp_path / "out", [])
    assert built.architecture.auto_class == "AutoModelForSeq2SeqLM"
    config, model = open_config(tmp_path / "out"), open_pretrained(tmp_path / "out", "AutoModelForSeq2SeqLM")
    for ids in (config, model.generation_config):
        assert (ids.pad_token_id, ids.eos_token_id, ids.decoder_start_token_id) == (
            special_ids.pad,
            special_ids.eos,
            special_ids.pad,
        )
    tokens = torch.tensor([[7, special_ids.sentinels[0], 9, special_ids.eos]])
    start = torch.tensor([[special_ids.decoder_start, special_ids.sentinels[0]]])
    with torch.no_grad():
        opened, own = (
            network(input_ids=tokens, decoder_input_ids=start).logits for network in (model, built.network.model)
        )
    torch.testing.assert_close(opened, own)
