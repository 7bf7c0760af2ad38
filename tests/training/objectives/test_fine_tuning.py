"""A row's answer is its own: what it is pooled from is neither padding nor another row. Every head learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, BertConfig, BertModel

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.shards.rows import Ragged, Rows, ragged, take
from tests.training.objectives.test_masked_frames import NETWORK as FRAMES
from training import objectives
from training.config import ObjectiveConfig, OrderConfig, TrainConfig
from training.data import Corpus, MemoryTable, Stream
from training.distributed import Worker
from training.inference.networks.frames import open_trainable
from training.inference.networks.text import TrainableText
from training.loop import Training
from training.models.fine_tuning import TaskEncoder
from training.objectives.fine_tuning import FineTuning

LENGTHS = [4, 19, 9]
BANDS = 6


def encoder() -> TrainableText:
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return TrainableText(BertModel(config), 0, Path())


def objective(pooling: Any) -> FineTuning:
    torch.manual_seed(0)
    if pooling == "words":
        return FineTuning(encoder(), "tags", 3)
    return FineTuning(encoder(), "class", 3, pooling)


def rows() -> Rows:
    random = np.random.default_rng(0)
    tokens = [random.integers(5, 40, length) for length in LENGTHS]
    first = [[1, 2], [1, 5, 17], [3]]  # pieces of words
    return {
        "input": Ragged.from_rows(tokens, np.uint32),
        "segment": Ragged.from_rows([np.zeros(length) for length in LENGTHS], np.uint8),
        "label": np.array([0, 1, 2]),
        "target_positions": Ragged.from_rows(first, np.int64),
        "target_ids": Ragged.from_rows([[0, 1], [2, 0, 1], [2]], np.int64),
    }


def pooled(built: FineTuning, chosen: Rows) -> tuple[np.ndarray, np.ndarray]:
    """What is classified [M, H], and the encoder's output [B, L, H]."""
    kept: list[torch.Tensor] = []
    network: Any = built.network.eval()
    handles = [
        network.encoder.register_forward_hook(lambda _, inputs, output: kept.append(output.last_hidden_state)),
        network.classifier.register_forward_hook(lambda _, inputs, output: kept.append(inputs[0])),
    ]
    built.scores(chosen)
    for handle in handles:
        handle.remove()
    hidden, features = kept
    return features.numpy(), hidden.numpy()


@pytest.mark.parametrize("pooling", ["cls", "mean", "words", "last"])
def test_a_row_is_read_alone_as_beside_longer_ones(pooling: str) -> None:
    built, everything = objective(pooling), rows()
    together, hidden = pooled(built, everything)
    assert hidden.shape[:2] == (3, 24)
    alone = [pooled(built, take(everything, np.array([number])))[0] for number in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)
    wanted = {
        "cls": [hidden[number, 0] for number in range(3)],
        "last": [hidden[number, length - 1] for number, length in enumerate(LENGTHS)],
        "mean": [hidden[number, :length].mean(0) for number, length in enumerate(LENGTHS)],
        "words": [hidden[0, 1], hidden[0, 2], hidden[1, 1], hidden[1, 5], hidden[1, 17], hidden[2, 3]],
    }
    np.testing.assert_allclose(together, np.stack(wanted[pooling]), atol=1e-6)


def test_dropout_is_for_training_alone() -> None:
    built = objective("mean")
    built.network.train()
    assert np.array_equal(pooled(built, rows())[0], pooled(built, rows())[0])
    assert len({loss_of(built, rows(), training=True) for _ in range(3)}) == 3


def loss_of(built: FineTuning, chosen: Rows, training: bool = False) -> float:
    """The mean loss of a batch."""
    batch = built.collate(chosen)
    (turn,) = built.turns("train", 0)
    built.network.train(training)
    return turn.loss({"model": built.network}, batch).sums["label"].item() / turn.weights(batch)["label"]


def choices() -> Rows:
    """Three rows of 2, 3 and 1 choices, one after another."""
    lengths = [[4, 5], [3, 6, 7], [5]]
    random = np.random.default_rng(1)
    return {
        "input": Ragged.from_rows([random.integers(5, 40, sum(of_row)) for of_row in lengths], np.uint32),
        "segment": Ragged.from_rows([np.zeros(sum(of_row)) for of_row in lengths], np.uint8),
        "choice": Ragged.from_rows(lengths, np.int64),
        "label": np.array([1, 2, 0]),
    }


def test_choices_are_scored_as_rows_of_their_own_and_compared_within_their_row() -> None:
    built, everything = FineTuning(encoder(), "choice"), choices()
    scores = built.scores(everything)
    assert scores.lengths.tolist() == [2, 3, 1]
    alone = FineTuning.__new__(FineTuning)
    alone.__dict__.update(built.__dict__, head="score")
    second: Rows = {"input": Ragged.from_rows([everything["input"].row(0)[4:]], np.uint32)}  # type: ignore[union-attr]
    np.testing.assert_allclose(alone.scores(second).values[0], scores.row(0)[1], atol=1e-6)
    truth = [torch.from_numpy(scores.row(row)[:, 0]).log_softmax(0)[label] for row, label in enumerate([1, 2, 0])]
    assert loss_of(built, everything) == pytest.approx(-float(sum(truth)) / 3, rel=1e-5)


def test_answers_are_looked_for_in_the_row_alone() -> None:
    built = FineTuning(encoder(), "answer")
    everything = {**rows(), "start": np.array([1, 17, 0]), "end": np.array([3, 18, 0])}
    scores = built.scores(everything)
    assert scores.lengths.tolist() == LENGTHS and scores.item == (2,)
    wanted = 0.0
    for row in range(3):
        logs = torch.from_numpy(scores.row(row)).log_softmax(0)
        wanted -= 0.5 * float(logs[everything["start"][row], 0] + logs[everything["end"][row], 1])  # type: ignore[index]
    assert loss_of(built, everything) == pytest.approx(wanted / 3, rel=1e-5)


def test_scores_are_numbers_and_weights_of_labels_count() -> None:
    built = FineTuning(encoder(), "score")
    values = np.array([0.5, -1.0, 2.0])
    predicted = built.scores(rows()).values[:, 0]
    assert loss_of(built, {**rows(), "value": values}) == pytest.approx(np.mean((predicted - values) ** 2), rel=1e-5)
    torch.manual_seed(0)
    weighted = FineTuning(encoder(), "class", 3, weights=np.array([1.0, 4.0, 0.0]))
    torch.manual_seed(0)
    plain = FineTuning(encoder(), "class", 3)
    scores = torch.from_numpy(plain.scores(rows()).values)
    weight = torch.tensor([1.0, 4.0, 0.0])
    assert loss_of(weighted, rows()) == pytest.approx(float(F.cross_entropy(scores, torch.arange(3), weight)), rel=1e-5)
    assert loss_of(plain, rows()) == pytest.approx(float(F.cross_entropy(scores, torch.arange(3))), rel=1e-5)


def learned(built: FineTuning, everything: Rows, steps: int = 60) -> tuple[float, float]:
    """Losses before and after training on rows that are the whole data set."""
    before = loss_of(built, everything)
    stream = Stream([Corpus("rows", MemoryTable(everything, 3))], 0, OrderConfig(block=1))
    config = TrainConfig(global_batch=3, steps=steps, lr=1e-2, precision="fp32", log_every=steps)
    Training(built, stream, config, worker=Worker(device=torch.device("cpu")), seed=0).run()
    return before, loss_of(built, everything)


@pytest.mark.parametrize("head", ["class", "score", "tags", "choice", "answer"])
def test_every_head_learns_and_so_does_its_encoder(head: Any) -> None:
    torch.manual_seed(0)
    built = FineTuning(encoder(), head, 3, dropout=0.0)
    embeddings = built.network.encoder.get_input_embeddings().weight.detach().clone()  # type: ignore[operator]
    everything = choices() if head == "choice" else rows()
    everything |= {"value": np.array([0.5, -1.0, 2.0]), "start": np.array([1, 17, 0]), "end": np.array([3, 18, 0])}
    before, after = learned(built, everything)
    assert math.isfinite(before) and after < 0.2 * before
    assert not torch.equal(built.network.encoder.get_input_embeddings().weight, embeddings)  # type: ignore[operator]


def test_under_a_frozen_encoder_the_linear_layer_learns_alone() -> None:
    torch.manual_seed(0)
    built = FineTuning(encoder(), "class", 3, dropout=0.0, frozen=True)
    before = {name: tensor.clone() for name, tensor in built.network.state_dict().items()}
    first, last = learned(built, rows())
    assert last < 0.8 * first
    moved = {name for name, tensor in built.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"classifier.weight", "classifier.bias"}
    built.network.train()
    assert built.network.dropout.training and not built.network.encoder.training


SMALL = {
    "vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 24, "num_key_value_heads": 2, "embedding_size": 4,
}  # fmt: skip


def encoder_of(model_type: str) -> TrainableText:
    names = {"gpt2": GPT2_NAMES, "distilbert": DISTILBERT_NAMES}.get(model_type, {})
    config = AutoConfig.for_model(model_type, **{names.get(name, name): value for name, value in SMALL.items()})
    return TrainableText(AutoModel.from_config(config), 0, Path())


GPT2_NAMES = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
DISTILBERT_NAMES = {
    "hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
}  # fmt: skip


@pytest.mark.parametrize(("model_type", "has_types"), [("bert", True), ("gpt2", False), ("distilbert", False)])
def test_types_of_tokens_go_where_they_are_no_words(model_type: str, has_types: bool) -> None:
    rows: Rows = {"input": Ragged.from_rows([[5, 6, 7], [8, 9]], np.uint16)}
    assert ("token_type_ids" in encoder_of(model_type).inputs(rows)) is has_types


@pytest.mark.parametrize(
    ("model_type", "lowest", "layer", "highest"),
    [
        ("bert", "embeddings.word_embeddings.weight", "encoder.layer.{}.output.dense.weight", "pooler.dense.weight"),
        ("electra", "embeddings_project.weight", "encoder.layer.{}.output.dense.weight", None),
        ("distilbert", "embeddings.word_embeddings.weight", "transformer.layer.{}.ffn.lin1.weight", None),
        ("gpt2", "wpe.weight", "h.{}.mlp.c_fc.weight", "ln_f.weight"),
        ("llama", "embed_tokens.weight", "layers.{}.mlp.up_proj.weight", "norm.weight"),
    ],
)
def test_lower_layers_learn_more_slowly(model_type: str, lowest: str, layer: str, highest: str | None) -> None:
    network = FineTuning(encoder_of(model_type), "class", 2, layer_decay=0.5).network
    shares = {name: network.rate_shares.get(name, 1.0) for name, _ in network.named_parameters()}
    expected = {lowest: 0.0625, **{layer.format(place): share for place, share in enumerate((0.125, 0.25, 0.5))}}
    expected |= {highest: 1.0} if highest else {}
    assert {name: shares[f"encoder.{name}"] for name in expected} == expected
    assert shares["classifier.weight"] == shares["classifier.bias"] == 1.0
    assert {shares[name] for name in shares if name.startswith(f"encoder.{layer.partition('{')[0]}0.")} == {0.125}
    assert FineTuning(encoder_of(model_type), "class", 2).network.rate_shares == {}


def test_networks_without_layers_of_their_own_have_no_decay() -> None:
    with pytest.raises(
        UserError, match=r"layer_decay: AlbertModel is no stack of layers with weights of their own; set"
    ):
        FineTuning(encoder_of("albert"), "class", 2, layer_decay=0.9)


def test_steps_of_lower_layers_are_smaller() -> None:
    torch.manual_seed(0)
    built = FineTuning(encoder_of("bert"), "class", 3, dropout=0.0, layer_decay=0.1)
    before = {name: tensor.clone() for name, tensor in built.network.state_dict().items()}
    learned(built, rows(), steps=1)  # of AdamW's first step, all elements move by their rate
    moved = {name: float((tensor - before[name]).abs().max()) for name, tensor in built.network.state_dict().items()}
    sizes = [moved[f"encoder.encoder.layer.{layer}.output.dense.weight"] for layer in range(3)]
    assert sizes[0] / sizes[1] == pytest.approx(0.1, rel=0.05) and sizes[1] / sizes[2] == pytest.approx(0.1, rel=0.05)
    assert sizes[2] / moved["classifier.weight"] == pytest.approx(0.1, rel=0.05)
    assert moved["encoder.embeddings.word_embeddings.weight"] / sizes[0] == pytest.approx(0.1, rel=0.05)


@pytest.fixture(scope="module")
def of_frames(tmp_path_factory: pytest.TempPathFactory) -> TaskEncoder:
    """An encoder of frames, as it is opened from what its training wrote."""
    facts, folder = DataFacts("sound", ("input",), (BANDS,), 50), tmp_path_factory.mktemp("frames")
    objective: Any = objectives.build(ObjectiveConfig(name="masked-frames"), {"model": FRAMES}, facts, "cpu")
    objective.export(folder, [])
    return open_trainable(folder)


def frames() -> Rows:
    """Three rows of frames with the truth of every head but choice."""
    random = np.random.default_rng(0)
    return {
        "input": Ragged.from_rows([random.normal(size=(length, BANDS)) for length in (5, 9, 3)], np.float32),
        "label": np.array([0, 1, 1]),
        "value": np.array([0.5, -1.0, 2.0]),
        "target_positions": Ragged.from_rows([[1, 2], [1, 5, 8], [2]], np.int64),
        "target_ids": Ragged.from_rows([[0, 1], [1, 0, 1], [1]], np.int64),
        "start": np.array([1, 7, 0]),
        "end": np.array([3, 8, 0]),
    }


def choices_of_frames() -> Rows:
    """The choices of `choices`, of frames."""
    columns, random = choices(), np.random.default_rng(0)
    length = len(ragged(columns, "input").values)
    values = random.normal(size=(length, BANDS)).astype(np.float32)
    return {
        "input": Ragged(values, ragged(columns, "input").offsets),
        "choice": columns["choice"],
        "label": columns["label"],
    }


@pytest.mark.parametrize(
    ("head", "pooling", "lengths", "outputs"),
    [
        ("class", "cls", [1, 1, 1], 2), ("class", "mean", [1, 1, 1], 2), ("score", "last", [1, 1, 1], 1),
        ("tags", "cls", [2, 3, 1], 2), ("choice", "mean", [2, 3, 1], 1), ("answer", "cls", [5, 9, 3], 2),
    ],
)  # fmt: skip
def test_every_head_learns_from_frames_of_sound(
    of_frames: TaskEncoder, head: Any, pooling: Any, lengths: list[int], outputs: int
) -> None:
    torch.manual_seed(0)
    everything = choices_of_frames() if head == "choice" else frames()
    built = FineTuning(of_frames.copied(), head, 2, pooling, dropout=0.0)
    together = built.scores(everything)
    assert together.lengths.tolist() == lengths and together.item == (outputs,) and np.ptp(together.values) > 0
    alone = [built.scores(take(everything, np.array([row]))).values for row in range(3)]
    np.testing.assert_allclose(together.values, np.concatenate(alone), atol=1e-5)
    weights = {name: tensor.clone() for name, tensor in built.network.state_dict().items()}
    before, after = learned(built, everything, 40)
    assert math.isfinite(before) and after < 0.5 * before
    for name in ("classifier.weight", "encoder.network.project.weight"):
        assert not torch.equal(built.network.state_dict()[name], weights[name]), name


def parts_of_frames(numbers: list[int]) -> Rows:
    """Three rows of so many parts each, of 3 to 6 frames."""
    random = np.random.default_rng(0)
    lengths = [random.integers(3, 7, number) for number in numbers]
    values = random.normal(size=(sum(map(sum, lengths)), BANDS)).astype(np.float32)
    return {
        "input": Ragged.from_lengths(values, [sum(each) for each in lengths]),
        "part": Ragged.from_rows(lengths, np.int64),
        "label": np.array([1, 0, 1]),
        "value": np.array([0.5, -1.0, 2.0]),
    }


@pytest.mark.parametrize(("head", "numbers"), [("class", [2, 2, 2]), ("score", [2, 2, 2]), ("choice", [3, 4, 3])])
def test_parts_that_are_read_one_by_one_are_compared(of_frames: TaskEncoder, head: Any, numbers: list[int]) -> None:
    torch.manual_seed(0)
    everything = parts_of_frames(numbers)
    built = FineTuning(of_frames.copied(), head, 2, "mean", dropout=0.0, paired=True)
    made = built.scores(everything)
    assert made.lengths.tolist() == ([1, 1, 1] if head != "choice" else [2, 3, 2])
    frames, lengths = ragged(everything, "input"), ragged(everything, "part")
    by_hand = []
    for row in range(3):
        parts = Ragged.from_lengths(frames.row(row), lengths.row(row))
        vectors = [_mean_vector(built, parts.row(number)) for number in range(len(parts))]
        pairs = [torch.cat([vectors[0], v, (vectors[0] - v).abs(), vectors[0] * v]) for v in vectors[1:]]
        by_hand += [built.network.classifier(pair).detach().numpy() for pair in pairs]
    np.testing.assert_allclose(made.values, np.stack(by_hand), atol=1e-5)
    before, after = learned(built, everything, 60)
    assert math.isfinite(before) and after < 0.5 * before


def _mean_vector(built: FineTuning, frames: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        inputs = {"frames": torch.from_numpy(frames)[None], "attention_mask": torch.ones(1, len(frames)).long()}
        return built.network.encoder(**inputs).last_hidden_state[0].mean(0)


def test_an_encoder_of_frames_has_layers_and_a_shape_to_draw(of_frames: TaskEncoder) -> None:
    shares = FineTuning(of_frames.copied(), "class", 2, layer_decay=0.5).network.rate_shares
    assert shares["encoder.network.project.weight"] < 1
    fresh = of_frames.from_random_weights()
    assert not torch.equal(next(fresh.network.parameters()), next(of_frames.network.parameters()))
