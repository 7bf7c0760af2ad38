"""ELMo: words by their bytes, two directions that see nothing of what they predict, layers that a task mixes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.shards.rows import Ragged, Rows, Specials
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train
from tests.training import tiny
from tests.training.group import in_group
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.distributed import Worker
from training.inference.encoding import open_encoder
from training.inference.layers import means as layer_means
from training.inference.layers import open_layers
from training.inference.networks.elmo import ElmoEncoder, open_trainable
from training.inference.opening import check_export, is_served
from training.loop import Training
from training.models import cpu_kernels
from training.models.text.elmo.config import ElmoConfig
from training.models.text.elmo.network import Elmo, Highway, ProjectedLSTM, ScalarMix, WordReader, reversal
from training.models.text.elmo.spelling import BEGIN, END, PADDING, WORD, WORD_END, Spelling
from training.objectives import build, problems

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##happy", "cats", "é", "##s", "extraordinary"]
SPECIALS = Specials(len(PIECES), pad=0, unk=1, cls=2, sep=3)
SHAPE: dict[str, Any] = {"word_length": 12, "filters": [4, 6], "projection": 16, "cells": 24, "dropout": 0.0}
NETWORK = NetworkConfig(architecture="elmo", config=SHAPE)
CONFIG = ElmoConfig(**SHAPE)


def objective(facts: DataFacts = tiny.FACTS) -> Any:
    torch.manual_seed(1)
    return build(ObjectiveConfig(name="elmo"), {"model": NETWORK}, facts, "cpu")


# -- words ------------------------------------------------------------------------------------------------------------


def test_words_are_spelt_by_the_bytes_of_their_pieces() -> None:
    words = Spelling(PIECES, SPECIALS, 12).words(Ragged.from_rows([[2, 4, 5, 6, 3], [7, 8, 9, 1]], np.uint16))
    assert [words.ids.row(row).tolist() for row in (0, 1)] == [[2, 1, 6, 3], [1, 9, 1]]
    assert [words.of_piece.row(row).tolist() for row in (0, 1)] == [[0, 1, 1, 2, 3], [0, 0, 1, 2]]

    def slots(*symbols: int) -> list[int]:
        return [WORD, *symbols, WORD_END, *[PADDING] * (10 - len(symbols))]

    assert words.slots.tolist() == [
        slots(BEGIN), slots(*b"unhappy"), slots(*b"cats"), slots(END),
        slots(*"és".encode()), [WORD, *b"extraordin", WORD_END], slots(*b"[UNK]"),
    ]  # fmt: skip
    assert (BEGIN, END, WORD, WORD_END, PADDING) == (256, 257, 258, 259, 260)


def test_a_row_begins_a_word_wherever_it_was_cut() -> None:
    words = Spelling(PIECES, SPECIALS, 12).words(Ragged.from_rows([[8, 6], [2, 5]], np.uint16))
    assert [words.ids.row(row).tolist() for row in (0, 1)] == [[8, 6], [2, 5]]


def test_a_tokenizer_that_has_no_words_is_refused(tmp_path: Path) -> None:
    train(TokenizerConfig(kind="byte-bpe", vocabulary=300, roles=["pad", "unk", "bos", "eos"]), ["a cat"], tmp_path)
    with pytest.raises(UserError, match=r"tokenizer\.kind: ELMo reads words.*found BPE; set it to wordpiece"):
        objective(DataFacts("text", ("input",), specials=specials(tmp_path), preprocessor=tmp_path))


# -- the definition ---------------------------------------------------------------------------------------------------


def test_reading_a_word_is_the_published_formula() -> None:
    torch.manual_seed(0)
    reader: Any = WordReader(CONFIG)
    slots = torch.randint(0, 261, (5, 12))
    features = []
    for width, layer in enumerate(reader.convolutions, 1):
        symbols = reader.symbols.weight[slots]  # [N, S, 16]
        windows = torch.stack([symbols[:, i : i + width].transpose(1, 2).flatten(1) for i in range(13 - width)], 1)
        features.append((windows @ layer.weight.flatten(1).T + layer.bias).amax(1).clamp(min=0))
    x = torch.cat(features, 1)
    for highway in reader.highways:
        gate = torch.sigmoid(highway.gate(x))
        x = gate * F.relu(highway.change(x)) + (1 - gate) * x
    torch.testing.assert_close(reader(slots), reader.project(x))
    assert len(reader.highways) == 2 and (Highway(8).gate.bias == -2).all()


@pytest.mark.parametrize("clip", [1e9, 0.05])
def test_the_lstm_is_torchs_but_for_clips_and_the_forget_gate(clip: float) -> None:
    torch.manual_seed(0)
    ours, x = ProjectedLSTM(CONFIG.model_copy(update={"clip": clip})), torch.randn(3, 7, 16)
    theirs: Any = nn.LSTM(16, 24, proj_size=16, batch_first=True)
    order = torch.cat([torch.arange(24) + 24 * gate for gate in (0, 2, 1, 3)])  # input, forget, new, output
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.given.weight[order])
        theirs.weight_hh_l0.copy_(ours.recurrent.weight[order])
        theirs.bias_ih_l0.zero_()
        theirs.bias_hh_l0.zero_()
        theirs.bias_ih_l0[24:48] = 1.0  # of TensorFlow's LSTMCell
        theirs.weight_hr_l0.copy_(ours.project.weight)
        wanted, states = theirs(x)[0], ours(x)
    if clip > 1:
        torch.testing.assert_close(states, wanted)
    else:
        assert states.abs().max() <= clip < wanted.abs().max()


def test_published_sizes() -> None:
    """93.6 million parameters (allennlp.org/elmo), with the table of 262 symbols and without the softmax."""
    with torch.device("meta"):
        network = Elmo(ElmoConfig(), 10)
    count = sum(parameter.numel() for parameter in network.parameters()) - sum(
        parameter.numel() for parameter in network.softmax.parameters()
    )
    assert count / 1e6 == pytest.approx(93.6, abs=0.05)


def rows_of(*texts: list[int]) -> Rows:
    return {"input": Ragged.from_rows(list(texts), np.uint16)}


def states(built: Any, rows: Rows) -> list[Tensor]:
    batch = built.collate(rows)
    with torch.no_grad():
        return built.network.eval().layers(batch["slots"], batch["word"], batch["lengths"])


def test_no_direction_sees_what_it_predicts() -> None:
    built = objective()
    base, changed = rows_of([2, 7, 8, 9, 10, 11, 3]), rows_of([2, 7, 8, 30, 10, 11, 3])
    before, after = (states(built, rows)[-1][0].chunk(2, 1) for rows in (base, changed))
    ahead, behind = ((a - b).abs().sum(1) > 1e-6 for a, b in zip(before, after, strict=True))
    assert ahead.tolist() == [False] * 3 + [True] * 4
    assert behind.tolist() == [True] * 4 + [False] * 3


def test_padding_changes_nothing() -> None:
    built, short, long = objective(), [2, 7, 8, 3], [2, *range(7, 20), 3]
    alone, beside = states(built, rows_of(short)), states(built, rows_of(short, long))
    assert len(alone) == 3  # layer 0 and two of LSTMs
    for of_one, of_both in zip(alone, beside, strict=True):
        torch.testing.assert_close(of_both[0, :4], of_one[0], atol=1e-6, rtol=1e-5)
    assert torch.equal(alone[0][0, :, :16], alone[0][0, :, 16:])
    assert reversal(torch.tensor([3, 4]), 4).tolist() == [[2, 1, 0, 3], [3, 2, 1, 0]]


def test_the_second_layer_is_added_to_its_input() -> None:
    built = objective()
    with torch.no_grad():
        for direction in (built.network.onward, built.network.backward_):
            direction.lstms[1].project.weight.zero_()
    _, first, second = states(built, rows_of([2, 7, 8, 3]))
    assert torch.equal(first, second) and first.abs().sum() > 0


def test_the_loss_is_half_of_both_directions() -> None:
    built, texts = objective(), ([2, 7, 8, 9, 3], [2, 10, 3])
    forward, backward = [], []
    for text in texts:
        ahead, behind = states(built, rows_of(text))[-1][0].chunk(2, 1)
        with torch.no_grad():
            onward, back = (torch.log_softmax(built.network.softmax(x), 1) for x in (ahead, behind))
        forward += [-onward[i, text[i + 1]].item() for i in range(len(text) - 1)]
        backward += [-back[i + 1, text[i]].item() for i in range(len(text) - 1)]
    batch = built.collate(rows_of(*texts))
    loss, weights = built._loss(built.networks(), batch), built._weights(batch)
    assert weights == {"forward": 6, "backward": 6}
    assert loss.sums["forward"].item() == pytest.approx(sum(forward) / 2, rel=1e-5)
    assert loss.sums["backward"].item() == pytest.approx(sum(backward) / 2, rel=1e-5)
    assert loss.metrics["lm"][0].item() == pytest.approx((sum(forward) + sum(backward)) / 2, rel=1e-5)
    batch["source"] = torch.zeros(2)
    for name, by_row in built._loss(built.networks(), batch).by_row.items():
        assert by_row.sum(1).tolist() == pytest.approx([loss.sums[name].item(), 6])


def test_a_fused_softmax_computes_the_same() -> None:
    plain, fast = objective(), objective()
    cpu_kernels.speed_up(fast.network, "fp32")
    assert fast.network.head is not None
    batch = plain.collate(rows_of([2, 7, 8, 9, 3], [2, 10, 3]))
    for built in (plain, fast):
        torch.stack([*built._loss(built.networks(), batch).sums.values()]).sum().backward()
    for (name, parameter), (_, other) in zip(
        plain.network.named_parameters(), fast.network.named_parameters(), strict=True
    ):
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_a_mix_begins_as_the_mean_of_the_layers() -> None:
    layers = [torch.randn(2, 3, 4) for _ in range(3)]
    mix = ScalarMix(3)
    torch.testing.assert_close(mix(layers), torch.stack(layers).mean(0))
    with torch.no_grad():
        mix.weights.copy_(torch.tensor([0.0, 50.0, 0.0]))
        mix.gamma.fill_(2.0)
    torch.testing.assert_close(mix(layers), 2 * layers[1])


@pytest.mark.parametrize(
    ("architecture", "config", "path"),
    [
        ("bert", {}, "network.architecture"),
        ("elmo", {"cell": 3}, "network.config.cell"),
        ("elmo", {"filters": [4, 0]}, "network.config.filters"),
        ("elmo", {"filters": [4] * 9, "word_length": 8}, "network.config.filters"),
    ],
)
def test_what_does_not_fit_is_said(architecture: str, config: Any, path: str) -> None:
    network = NetworkConfig(architecture=architecture, config=config)
    assert [where for where, _ in problems(ObjectiveConfig(name="elmo"), {"model": network})] == [path]


# -- training ---------------------------------------------------------------------------------------------------------


def training(**options: Any) -> Training:
    settings = {"global_batch": 24, "steps": 6, "lr": 1e-2, "warmup_steps": 2}
    tables = tiny.table(300, "none"), tiny.table(70, "none", seed=1)
    new = partial(build, ObjectiveConfig(name="elmo"), {"model": NETWORK}, tiny.FACTS, "cpu")
    return tiny.learning(new, tables, settings, **options)


losses = partial(tiny.losses_of, training)


def test_it_learns_and_all_weights_move() -> None:
    learning = training(steps=40)
    weights = {name: p.detach().clone() for name, p in learning.objective.networks()["model"].named_parameters()}
    before, summary = learning.evaluate(), learning.run()
    assert summary["validation/lm"] < before["validation/lm"] - 0.5
    assert summary["validation/lm"] == pytest.approx(summary["validation/loss"])
    for name, parameter in learning.objective.networks()["model"].named_parameters():
        assert not torch.equal(parameter, weights[name]), name


def _two(worker: Worker) -> list[float]:
    return losses(worker, placement=PlacementConfig(workers=worker.world, micro_batch=5))


@pytest.mark.slow
def test_two_workers_train_alike() -> None:
    assert in_group(2, _two)[0] == pytest.approx(losses(), abs=1e-4)


def test_it_trains_alike_under_zero_2() -> None:
    assert losses(placement=PlacementConfig(zero=2), steps=3) == pytest.approx(losses(steps=3), abs=1e-4)


def test_a_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    whole, records = losses(), []
    stopping = training(log=records.append, checkpoints=tmp_path, placement=PlacementConfig(checkpoint_every=2))
    stopping.stop = lambda: len(records) >= 3
    stopping.run()
    rest = losses(checkpoints=tmp_path)
    assert 0 < len(rest) < 6 and rest == whole[-len(rest) :]


# -- what is exported -------------------------------------------------------------------------------------------------


def test_an_export_opens_and_its_words_have_features(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    text = "the cat sat on a mat and the cats sat on mats"
    train(TokenizerConfig(kind="wordpiece", vocabulary=60, lowercase=True), [text], tokenizer)
    built = objective(replace(tiny.FACTS, specials=specials(tokenizer), preprocessor=tokenizer))
    built.network.eval()
    out = tmp_path / "out"
    built.export(out, [])
    check_export(out, built.exported())
    ids = [load(out).encode(words).ids for words in ("the cat sat", "a matted cat")]
    encoder: Any = open_encoder(out)
    assert isinstance(encoder, ElmoEncoder)
    rows = rows_of(*ids)
    features = encoder.encode(rows)
    assert features.values.shape == (2, max(map(len, ids)), 32)
    layers = encoder.layers(rows_of(ids[1]))
    torch.testing.assert_close(torch.from_numpy(features.values[1, : len(ids[1])]), torch.stack(layers).mean(0)[0])
    means = layer_means(encoder, rows)
    assert len(means) == len(layers) and np.allclose(np.mean(means, 0), features.mean(), atol=1e-6)
    assert not np.allclose(layer_means(open_layers(out, random=7), rows)[-1], means[-1], atol=1e-2)
    words = built.spelling.words(Ragged.from_rows([ids[1]], np.uint16)).of_piece.values
    pieces = np.flatnonzero(words == 2)  # "matted", which is no piece
    assert len(pieces) > 1 and (features.values[1, pieces] == features.values[1, pieces[0]]).all()
    assert not is_served(out)  # by a registry, without this project
    encoder = open_trainable(out)
    trainable: Any = encoder.network
    ids_of_row = torch.tensor([ids[1] + [0]])
    hidden = trainable(ids_of_row, (ids_of_row != 0).long()).last_hidden_state
    torch.testing.assert_close(hidden[0, :-1].detach(), torch.from_numpy(features.values[1, : len(ids[1])]))
    hidden.square().sum().backward()
    learning = [name for name, parameter in trainable.named_parameters() if parameter.grad is not None]
    assert learning == ["mix.weights", "mix.gamma"] and trainable.mix.weights.grad.abs().min() > 0
    fresh = encoder.from_random_weights()
    assert fresh.width == encoder.width == 32
    assert not torch.equal(fresh.network.network.reader.project.weight, built.network.reader.project.weight)
    (out / "config.json").write_text('{"kind": "elmo", "format": 2, "vocabulary": 60}')
    with pytest.raises(UserError, match="describes an ELMo of format 1"):
        open_encoder(out)
