"""Block-sparse attention: full attention under the published mask, linear in length, the network of transformers."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, ragged
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training import tiny
from tests.training.group import in_group
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig, TrainConfig
from training.data import Corpus, Stream
from training.distributed import Worker
from training.inference.encoding import open_encoder
from training.inference.opening import check_export
from training.loop import Training
from training.models.text.architectures import position_problems
from training.models.text.block_sparse import NO_BLOCK, block_sparse_attention, seen_blocks, with_block_sparse
from training.objectives import build

BLOCK, RANDOM, BLOCKS = 4, 2, 12
LENGTH = BLOCK * BLOCKS
CONFIG: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 64, "block_size": BLOCK, "num_random_blocks": RANDOM,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
NETWORK = NetworkConfig(architecture="big_bird", config=CONFIG)


def published(random: np.ndarray) -> np.ndarray:
    """[A, L, L] bool, which tokens see which, by the rules of the paper alone; random: [A, n, r] blocks, or −1."""
    seen = np.zeros((len(random), BLOCKS, BLOCKS), bool)
    seen[:, [0, -1], :] = seen[:, :, [0, -1]] = True
    for block in range(1, BLOCKS - 1):
        seen[:, block, block - 1 : block + 2] = True
        for head in range(len(random)):
            seen[head, block, random[head, block - 1]] = True
    return seen.repeat(BLOCK, 1).repeat(BLOCK, 2)


def columns(rows: int = 2, heads: int = 3, size: int = 8) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(rows, heads, LENGTH, size, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def test_it_is_full_attention_under_the_published_mask() -> None:
    query, keys, values = columns()
    is_token = torch.ones(2, LENGTH, dtype=torch.bool)
    is_token[1, LENGTH - 7 :] = False  # padding: a part of one block, and the whole last one
    table = seen_blocks(5, 3, BLOCKS, RANDOM)
    sparse = block_sparse_attention(query, keys, values, is_token, torch.from_numpy(table))
    mask = torch.from_numpy(published(table[:, :, -RANDOM:]))[None] & is_token[:, None, None]
    dense = F.scaled_dot_product_attention(query, keys, values, mask).transpose(1, 2) * is_token[:, :, None, None]
    torch.testing.assert_close(sparse, dense)
    weights = torch.randn_like(dense)
    ours, theirs = (torch.autograd.grad((out * weights).sum(), (query, keys, values)) for out in (sparse, dense))
    for gradient, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, wanted)
    full = F.scaled_dot_product_attention(query, keys, values, is_token[:, None, None])
    assert (sparse - full.transpose(1, 2))[0].abs().max() > 0.1


def test_a_block_sees_each_of_its_blocks_once() -> None:
    table = seen_blocks(0, 8, 40, 3)
    assert table.shape == (8, 38, 8) and table.max() == 39
    for head in range(8):
        for block in range(1, 39):
            seen = [number for number in table[head, block - 1] if number != NO_BLOCK]
            fixed = {0, block - 1, block, block + 1, 39}
            assert len(set(seen)) == len(seen) == len(fixed) + 3 and fixed < set(seen)


def test_random_blocks_differ_by_head_and_layer_and_are_uniform() -> None:
    tables = np.stack([seen_blocks(layer, 12, 40, 3)[..., 5:] for layer in range(12)])
    assert len({tables[layer, head].tobytes() for layer in range(12) for head in range(12)}) == 144
    counts = np.bincount(tables[:, :, 19].ravel(), minlength=40)  # of the middle block: 34 others may be drawn
    allowed = [number for number in range(1, 39) if abs(number - 20) > 1]
    assert counts.sum() == counts[allowed].sum() == 432
    chi2 = ((counts[allowed] - 432 / len(allowed)) ** 2 / (432 / len(allowed))).sum()
    assert chi2 < 66  # of 34 degrees of freedom, one in a thousand is more
    assert tables[0, 0, 0].tolist() == GOLDEN


GOLDEN = [30, 15, 37]


def test_it_is_the_network_of_transformers() -> None:
    """In evaluation their random blocks are all block 0: with that table, the same hidden states."""
    from transformers import BigBirdConfig, BigBirdModel

    torch.manual_seed(2)
    theirs: Any = BigBirdModel(BigBirdConfig(vocab_size=48, **CONFIG)).eval()
    ours: Any = with_block_sparse(copy.deepcopy(theirs))
    ids, mask = torch.randint(5, 48, (2, 44)), torch.ones(2, 44, dtype=torch.long)
    mask[1, 30:] = 0
    with torch.no_grad():
        wanted = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        proper = ours(input_ids=ids, attention_mask=mask).last_hidden_state
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("training.models.text.block_sparse._on_device", zeros)
            answered = ours(input_ids=ids, attention_mask=mask).last_hidden_state
    tokens = mask.bool()
    torch.testing.assert_close(answered[tokens], wanted[tokens], atol=1e-5, rtol=1e-5)
    assert (proper - wanted)[tokens].abs().max() > 0.01


def zeros(layer: int, heads: int, num_blocks: int, num_random: int, device: Any) -> torch.Tensor:
    table = seen_blocks(layer, heads, num_blocks, num_random).copy()
    table[..., 5:] = 0
    return torch.from_numpy(table)


def test_a_short_row_does_not_change_what_others_get() -> None:
    """The network of transformers would attend fully ever after."""
    from transformers import BigBirdConfig, BigBirdModel

    torch.manual_seed(2)
    model: Any = with_block_sparse(BigBirdModel(BigBirdConfig(vocab_size=48, **CONFIG)).eval())
    ids, mask = torch.randint(5, 48, (2, LENGTH)), torch.ones(2, LENGTH, dtype=torch.long)
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask).last_hidden_state
        short = model(input_ids=ids[:, :9]).last_hidden_state
        padded = model(input_ids=F.pad(ids[:, :9], (0, 31)), attention_mask=F.pad(mask[:, :9], (0, 31)))
        assert short.shape == (2, 9, 32) and model.attention_type == "block_sparse"
        torch.testing.assert_close(short, padded.last_hidden_state[:, :9])
        assert torch.equal(model(input_ids=ids, attention_mask=mask).last_hidden_state, before)


def test_training_and_evaluation_see_the_same_blocks() -> None:
    from transformers import BigBirdConfig, BigBirdModel

    model: Any = with_block_sparse(BigBirdModel(BigBirdConfig(vocab_size=48, **CONFIG)))
    ids = torch.randint(5, 48, (1, LENGTH))
    with torch.no_grad():
        training, evaluating = (model.train(mode)(input_ids=ids).last_hidden_state for mode in (True, False))
        copied = copy.deepcopy(model)(input_ids=ids).last_hidden_state
    assert torch.equal(training, evaluating) and torch.equal(copied, evaluating)


def test_memory_is_linear_in_length() -> None:
    """Bytes that the forward pass keeps for the backward pass, counted: twice as long takes twice as much."""

    def kept(length: int) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        query = torch.randn(1, 2, length, 8, requires_grad=True)
        table = torch.from_numpy(seen_blocks(0, 2, length // 16, 3))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            block_sparse_attention(query, query * 1, query * 2, torch.ones(1, length, dtype=torch.bool), table).sum()
        return sum(sizes.values())

    assert kept(2048) / kept(1024) == pytest.approx(2, rel=0.05)
    assert kept(4096) / kept(512) == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize(
    ("config", "length", "path", "text"),
    [
        ({}, 512, "compose.length", "512 tokens are fewer than the 768 that blocks of 64 with 3 random ones take"),
        ({"block_size": 16}, 136, "compose.length", "fewer than the 192"),
        ({"block_size": 16}, 200, "compose.length", r"no multiple of network\.config\.block_size 16.*set it to 192"),
        ({"block_size": 16}, 192, None, ""),
        ({"attention_type": "original_full"}, 100, None, ""),
    ],
)
def test_rows_that_blocks_do_not_fit_are_refused(config: Any, length: int, path: str | None, text: str) -> None:
    import re

    network = NetworkConfig(architecture="big_bird", config={**config, "max_position_embeddings": 4096})
    problems = list(position_problems(network, {"compose.length": length}))
    assert [where for where, _ in problems] == ([path] if path else [])
    assert all(re.search(text, said) for _, said in problems)


def rows_of(count: int, vocabulary: int) -> Rows:
    random = np.random.default_rng(0)
    return {"input": Ragged.from_rows(random.integers(5, vocabulary, (count, LENGTH)), np.uint16)}


def test_what_is_exported_is_what_was_trained(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    train(TokenizerConfig(kind="wordpiece", vocabulary=120, lowercase=True), ["the cat sat on a mat"], tokenizer)
    facts = replace(tiny.FACTS, specials=specials(tokenizer), preprocessor=tokenizer)
    torch.manual_seed(0)
    built: Any = build(ObjectiveConfig(name="masked-lm"), {"model": NETWORK}, facts, "cpu")
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    built.network.eval()
    out = tmp_path / "out"
    built.export(out, [])
    check_export(out, built.exported())
    rows = rows_of(3, specials(tokenizer).vocabulary)
    with torch.no_grad():
        ids = torch.from_numpy(np.stack([ragged(rows, "input").row(number).astype(np.int64) for number in range(3)]))
        wanted = built.network.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    features = open_encoder(out).encode(rows)
    np.testing.assert_allclose(features.values, wanted, atol=1e-5)
    alone = open_encoder(out).encode({"input": rows["input"].take([1])})
    np.testing.assert_allclose(alone.values[0], features.values[1], atol=1e-5)


def test_it_learns() -> None:
    torch.manual_seed(0)
    built: Any = build(ObjectiveConfig(name="masked-lm"), {"model": NETWORK}, tiny.FACTS, "cpu")
    table = tiny.table(64, "none")
    rows = tiny.masked(table.columns, Draws(1, 0, np.arange(64)))
    batch, before = built.collate(rows), {n: p.detach().clone() for n, p in built.network.named_parameters()}
    optimizer, losses = torch.optim.Adam(built.network.parameters(), 3e-3), []
    for _ in range(12):
        optimizer.zero_grad()
        loss = built._loss(built.networks(), batch).sums["mlm"] / len(batch["target_ids"])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    unmoved = [name for name, p in built.network.named_parameters() if torch.equal(p, before[name])]
    assert unmoved == ["model.bert.pooler.weight", "model.bert.pooler.bias"]  # nothing asks for it


def test_it_is_built_for_a_gpu_too() -> None:
    """Transformers has no fused kernel for it."""
    with torch.device("meta"):
        built: Any = build(ObjectiveConfig(name="masked-lm"), {"model": NETWORK}, tiny.FACTS, "cuda")
    assert built.network.encoder.config._attn_implementation == "eager"


def losses(
    worker: Worker | None = None, checkpoints: Path | None = None, stop: int = 0, **placement: Any
) -> list[float]:
    """Of a few steps on the tiny language, whose rows are shorter than blocks need, and padded."""
    torch.manual_seed(tiny.SEED)
    records: list[dict[str, Any]] = []
    settings = {"global_batch": 12, "steps": 4, "lr": 3e-3, "warmup_steps": 2, "log_every": 1}
    order = OrderConfig(block=8, window=4)
    training = Training(
        objective=build(ObjectiveConfig(name="masked-lm"), {"model": NETWORK}, tiny.FACTS, "cpu"),
        stream=Stream([Corpus("tiny", tiny.table(100, "none"))], tiny.SEED, order, tiny.masked),
        config=TrainConfig(precision="fp32", **settings), placement=PlacementConfig(**placement),
        worker=worker or Worker(), seed=tiny.SEED, checkpoints=checkpoints, identity={"recipe": "tiny"},
        log=records.append, stop=lambda: 0 < stop <= len(records),
    )  # fmt: skip
    training.run()
    return [record["train/loss"] for record in records if "train/loss" in record]


def _two(worker: Worker) -> list[float]:
    return losses(worker, workers=worker.world, micro_batch=5)


@pytest.mark.slow
def test_it_trains_alike_however_it_is_placed(tmp_path: Path) -> None:
    whole = losses()
    assert in_group(2, _two)[0] == pytest.approx(whole, abs=1e-4)
    assert losses(zero=2) == pytest.approx(whole, abs=1e-4)
    assert losses(activation_checkpointing=True) == pytest.approx(whole, abs=1e-5)
    losses(checkpoints=tmp_path, stop=2, checkpoint_every=1)
    rest = losses(checkpoints=tmp_path)
    assert 0 < len(rest) < 4 and rest == whole[-len(rest) :]
