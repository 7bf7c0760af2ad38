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
from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials, ragged, take
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training.objectives.test_packed import losses_and_gradients
from training.config import NetworkConfig, ObjectiveConfig
from training.inference.opening import check_export
from training.models import cpu_kernels
from training.models.text.folder import open_config, open_pretrained, open_tokenizer
from training.models.wrappers import autocast_forward
from training.objectives import build

PAD, EOS, MASK, BOS = range(4)
SPECIALS = Specials(64, pad=PAD, eos=EOS, decoder_start=PAD, sentinels=range(63, 53, -1))
FACTS = DataFacts("text", ("input",), specials=SPECIALS)
SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}


def objective(facts: DataFacts = FACTS, **config: Any) -> Any:
    network = NetworkConfig(architecture="t5", config=SHAPE | config)
    torch.manual_seed(1)
    return build(ObjectiveConfig(name="t5"), {"model": network}, facts, "cpu")


BART_SPECIALS = Specials(64, pad=PAD, eos=EOS, mask=MASK, bos=BOS)
BART_FACTS = DataFacts("text", ("input",), specials=BART_SPECIALS)
BART: dict[str, Any] = {
    **{"d_model": 32, "max_position_embeddings": 64, "dropout": 0.0},
    **{f"{stack}_layers": layers for stack, layers in (("encoder", 1), ("decoder", 2))},
    **{f"{stack}_attention_heads": 2 for stack in ("encoder", "decoder")},
    **{f"{stack}_ffn_dim": 64 for stack in ("encoder", "decoder")},
}


def bart(architecture: str = "bart", facts: DataFacts = BART_FACTS, **config: Any) -> Any:
    torch.manual_seed(1)
    network = NetworkConfig(architecture=architecture, config=BART | config)
    built: Any = build(ObjectiveConfig(name="sequence-to-sequence"), {"model": network}, facts, "cpu")
    with torch.no_grad():  # positions of a new network are too small to be told apart
        for module in built.network.modules():
            if "PositionalEmbedding" in type(module).__name__:
                module.weight.mul_(50)
    return built


def noised(kind: str, *lengths: int) -> Rows:
    """Rows of [BOS] text [EOS] after BART's masking or MASS."""
    random = np.random.default_rng(0)
    texts = [[BOS, *random.integers(4, 64, length - 2), EOS] for length in lengths]
    options = {"permute": 0, "unit": "token"} if kind == "bart" else {}
    corruption = build_corruption(config_of({"kind": kind, **options}), BART_SPECIALS)
    return corruption({"input": Ragged.from_rows(texts, np.uint16)}, Draws(3, 0, np.arange(len(lengths))))


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


def test_a_loss_fused_with_the_head_is_the_same() -> None:
    plain, fast = objective(), objective()
    cpu_kernels.speed_up(fast.network, "fp32")
    assert fast.network.head is not None
    row = rows(45, 20)
    (means, weights, gradients), (fast_means, fast_weights, fast_gradients) = (
        losses_and_gradients(built, row) for built in (plain, fast)
    )
    assert fast_means == pytest.approx(means, abs=1e-5) and fast_weights == weights
    for name, gradient in gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, atol=2e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", ["bart", "mass"])
@pytest.mark.parametrize("architecture", ["bart", "mbart"])
def test_barts_loss_fused_with_its_head_is_the_same(architecture: str, kind: str) -> None:
    plain, fast, row = bart(architecture), bart(architecture), noised(kind, 45, 20)
    for built in (plain, fast):
        built.network.model.final_logits_bias.copy_(torch.linspace(-1, 1, 64))
    cpu_kernels.speed_up(fast.network, "fp32")
    assert fast.network.head is not None
    assert fast.network.model.config._attn_implementation == cpu_kernels.ATTENTION
    (means, weights, gradients), (fast_means, fast_weights, fast_gradients) = (
        losses_and_gradients(built, row) for built in (plain, fast)
    )
    assert fast_means == pytest.approx(means, abs=1e-5) and fast_weights == weights
    for name, gradient in gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, atol=2e-6, rtol=1e-4, msg=name)
    states = (built.network.state_dict() for built in (plain, fast))
    torch.testing.assert_close(*states, atol=0, rtol=0)  # the head's bias is where it was


def test_places_that_see_nothing_are_numbers_in_bf16() -> None:
    """MASS hides from its decoder what stands before the fragment, so places there see no place at all."""
    plain, fast, row = bart(), bart(), noised("mass", 45, 20)
    cpu_kernels.speed_up(fast.network, "bf16")
    for built in (plain, fast):
        autocast_forward(built.network, torch.device("cpu"), "bf16")
    (means, _, gradients), (fast_means, _, fast_gradients) = (
        losses_and_gradients(built, row) for built in (plain, fast)
    )
    assert fast_means["lm"] == pytest.approx(means["lm"], abs=0.02)
    for name, gradient in gradients.items():
        if gradient.norm() > 1e-3:
            assert torch.cosine_similarity(fast_gradients[name].flatten(), gradient.flatten(), 0) > 0.98, name


@pytest.mark.parametrize("architecture", ["bart", "mbart"])
def test_barts_loss_is_that_of_transformers(architecture: str) -> None:
    built, row = bart(architecture), noised("bart", 45)
    seen, targets = (torch.from_numpy(ragged(row, name).values.astype(np.int64))[None] for name in row)
    start = torch.tensor([[EOS]])
    assert targets[0, 0] == BOS and targets[0, -1] == EOS
    with torch.no_grad():
        logits = built.network.model(input_ids=seen, decoder_input_ids=torch.cat([start, targets[:, :-1]], 1)).logits
    wanted = torch.nn.functional.cross_entropy(logits[0], targets[0]).item()
    means, weights, _ = losses_and_gradients(built, row)
    assert weights == {"lm": 45}
    assert means["lm"] == pytest.approx(wanted, abs=1e-5)


def fragment(built: Any, row: Rows) -> torch.Tensor:
    """−log p of a hidden fragment, from a decoder that is given nothing but it: the embeddings of its own positions."""
    columns = [ragged(row, name).values.astype(np.int64) for name in ("seen", "target_ids", "target_positions")]
    seen, ids, positions = map(torch.from_numpy, columns)
    decoder = built.network.model.get_decoder()
    given = torch.cat([torch.tensor([EOS]), ids[:-1]])
    table = decoder.embed_positions.weight[decoder.embed_positions.offset :]
    moved = decoder.embed_tokens(given) + table[positions] - table[: len(ids)]  # the decoder adds those of 0, 1, 2, …
    logits = built.network.model(input_ids=seen[None], decoder_inputs_embeds=moved[None]).logits
    return torch.nn.functional.cross_entropy(logits[0], ids, reduction="none")


def test_a_fragment_is_predicted_at_its_positions_from_itself_alone() -> None:
    built, several = bart(), noised("mass", 41, 12, 30)
    batch, positions = built.collate(several), ragged(several, "target_positions")
    first = positions.values[positions.offsets[:-1]]
    assert batch["decoder_attention_mask"].sum(1).tolist() == [round(0.5 * size) for size in (39, 10, 28)]
    assert [batch["decoder_input_ids"][row, place].item() for row, place in enumerate(first)] == [EOS] * 3
    moved = built.collate({**several, "target_positions": Ragged(positions.values + 1, positions.offsets)})
    inside = batch["decoder_attention_mask"] == 1
    outside = {**batch, "decoder_input_ids": torch.where(inside, batch["decoder_input_ids"], 9)}
    with torch.no_grad():
        losses = built.network(**batch)["losses"]
        wanted = torch.cat([fragment(built, take(several, [row])) for row in range(3)])
        torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(built.network(**outside)["losses"], losses)
        assert not torch.allclose(built.network(**moved)["losses"], losses, atol=1e-2)


def test_rows_are_padded_to_no_more_than_there_are_positions() -> None:
    built, rows_of_44 = bart(max_position_embeddings=44), noised("bart", 44, 44, 20)
    batch = built.collate(rows_of_44)
    assert batch["decoder_input_ids"].shape == (3, 44)
    means, _, _ = losses_and_gradients(built, rows_of_44)
    assert 0 < means["lm"] < 20
    assert built.collate(noised("mass", 44, 44))["input_ids"].shape == (2, 44)


def test_gaps_are_skipped_as_what_was_hidden_before_them_is_given() -> None:
    row: Rows = {
        "seen": Ragged.from_rows([[BOS, MASK, 7, MASK, MASK, EOS]], np.uint16),
        "target_positions": Ragged.from_rows([[1, 3, 4]], np.uint16),
        "target_ids": Ragged.from_rows([[20, 30, 40]], np.uint16),
    }
    batch = bart().collate(row)
    assert batch["decoder_attention_mask"].tolist() == [[0, 1, 0, 1, 1, 0, 0, 0]]
    assert [batch["decoder_input_ids"][0, place].item() for place in (1, 3, 4)] == [EOS, 20, 30]
    assert batch["target_positions"].tolist() == [1, 3, 4] and batch["target_ids"].tolist() == [20, 30, 40]


def test_work_of_two_stacks_of_unequal_depth_is_counted() -> None:
    built, several = bart(), noised("bart", 40, 40)
    seen, targets, d, ff = ragged(several, "seen").lengths, ragged(several, "target_tokens").lengths, 32, 64
    encoder = (4 * d * d + 2 * d * ff) * seen.sum()
    decoder = 2 * ((4 * d * d + 2 * d * ff + 2 * d * d) * targets.sum() + 2 * d * d * seen.sum())
    pairs = 2 * d * (seen**2 + 2 * (targets**2 / 2 + seen * targets)).sum()
    head = d * 64 * targets.sum()
    assert built.flops(built.collate(several)) == pytest.approx(3 * 2 * (encoder + decoder + pairs + head))


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


def test_barts_export_generates_as_it_was_taught(tmp_path: Path) -> None:
    """Ids of the tokenizer, not those of BART's own: it begins with the end, and nothing is forced."""
    tokenizer = tmp_path / "tokenizer"
    wanted = TokenizerConfig(kind="byte-bpe", vocabulary=300, roles=["pad", "cls", "sep", "mask"])
    train(wanted, ["the cat sat on a mat"], tokenizer)
    ids = specials(tokenizer)
    built = bart(facts=replace(BART_FACTS, specials=ids, preprocessor=tokenizer))
    built.network.eval()
    built.export(tmp_path / "out", [])
    check_export(tmp_path / "out", built.exported())
    model: Any = open_pretrained(tmp_path / "out", "AutoModelForSeq2SeqLM")
    assert type(model).__name__ == "BartForConditionalGeneration"
    generation = model.generation_config
    assert (generation.decoder_start_token_id, generation.bos_token_id, generation.eos_token_id) == (
        ids.sep,
        ids.cls,
        ids.sep,
    )
    assert (generation.forced_bos_token_id, generation.forced_eos_token_id, generation.max_length) == (None, None, 64)
    assert (model.config.forced_eos_token_id, model.config.decoder_start_token_id) == (None, ids.sep)
    encoded = open_tokenizer(tmp_path / "out")("the cat", return_tensors="pt")
    assert encoded["input_ids"][0, 0] == ids.cls and encoded["input_ids"][0, -1] == ids.sep
    with torch.no_grad():
        made = model.generate(encoded["input_ids"], do_sample=False)
        own = built.network.model.eval()(input_ids=encoded["input_ids"], decoder_input_ids=made[:, :-1]).logits
    assert made[0, 0] == ids.sep and made.shape[1] <= 64
    assert own.argmax(-1)[0].tolist() == made[0, 1:].tolist()


def test_a_tokenizer_without_an_end_is_told() -> None:
    facts = DataFacts("text", ("input",), specials=Specials(64, pad=PAD, mask=MASK))
    with pytest.raises(UserError, match="needs a special token for eos"):
        bart(facts=facts)
