"""Word vectors: predictions and updates as word2vec.c has them, whatever the batch, the workers, the interruptions."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials, ragged, take
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train
from data_prep.tokens.vocabulary.word import COUNTS, read_counts
from tests.training import tiny
from tests.training.group import in_group
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.cost.counted import cost_of
from training.data import MemoryTable
from training.distributed import Worker
from training.inference.encoding import open_encoder
from training.inference.layers import means, open_layers
from training.inference.opening import check_export
from training.loop import Training
from training.models.text.word_vectors.network import BINARY, TEXT
from training.objectives import build
from training.objectives.word2vec import Word2VecOptions, kept_probability, reach

VOCABULARY, SIZE = 42, 8
FACTS = DataFacts("text", ("input",), specials=Specials(VOCABULARY, pad=0, unk=1), length=60)
NETWORK = NetworkConfig(architecture="word-vectors", config={"size": SIZE})
MODELS = ("skip-gram", "cbow")


def objective(model: str = "skip-gram", facts: DataFacts = FACTS, **options: Any) -> Any:
    torch.manual_seed(3)
    section = ObjectiveConfig(name="word2vec", options={"model": model, **options})
    return build(section, {"model": NETWORK}, facts, "cpu")


def table(rows: int = 64, seed: int = 0) -> MemoryTable:
    """Words of two topics: 2 … 21 and 22 … 41; each text is of one. 1 is unknown."""
    random = np.random.default_rng(seed)
    texts = [2 + 20 * (row % 2) + random.integers(0, 20, random.integers(20, 60)) for row in range(rows)]
    return MemoryTable({"input": Ragged.from_rows(texts, np.uint16)}, rows)


def predictions(built: Any, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """How often each word predicts each other, and how much each word of noise counts against each: [V, V]."""
    batch = {name: tensor.numpy() for name, tensor in built.collate(rows).items()}
    pairs, against = np.zeros((VOCABULARY, VOCABULARY)), np.zeros((VOCABULARY, VOCABULARY))
    for mean in range(len(batch["member_offsets"]) - 1):
        members = batch["members"][slice(*batch["member_offsets"][mean : mean + 2])]
        for number in range(*batch["target_offsets"][mean : mean + 2]):
            matrix = pairs if batch["is_positive"][number] else against
            np.add.at(matrix, (members, batch["targets"][number]), batch["weights"][number])
    return pairs, against


# -- what is predicted ------------------------------------------------------------------------------------------------


def test_frequent_words_are_left_out_as_word2vec_c_does() -> None:
    counts = np.array([0, 900_000, 99_000, 1000])
    kept = kept_probability(counts, 1e-3)
    for number in (1, 2):
        ratio = 1e-3 / (counts[number] / 1e6)
        assert kept[number] == pytest.approx(ratio**0.5 + ratio)
    assert kept[0] == 0 and kept[3] == 1 and (kept_probability(counts, 0.0) == [0, 1, 1, 1]).all()


def test_defaults_and_first_vectors_are_word2vec_c_s() -> None:
    options = Word2VecOptions()
    assert (options.window, options.negatives, options.subsample, options.noise_power) == (5, 5, 1e-3, 0.75)
    vectors = objective().network.input.weight.detach()
    assert vectors.abs().max() <= 0.5 / SIZE and vectors.std().item() == pytest.approx(1 / SIZE / 12**0.5, rel=0.1)
    assert not objective().network.output.weight.any()


def test_every_half_of_a_window_is_as_likely_as_any() -> None:
    rows: Rows = {"input": Ragged.from_rows([[2, 3, 4] * 20] * 100, np.uint16)}
    drawn = objective(subsample=0.0).drawn(rows, Draws(2, 0, np.arange(100)))
    numbers = np.bincount(ragged(drawn, "half").values)
    assert len(numbers) == 6 and numbers[0] == 0 and numbers.sum() == 6000
    assert ((numbers[1:] - 1200) ** 2 / 1200).sum() < 18.5  # chi², 4 df, p = 0.001


@pytest.mark.parametrize("shared", [1, 4])
def test_windows_are_laid_over_the_words_that_are_kept(shared: int) -> None:
    built = objective(window=3, subsample=0.0, shared=shared)
    text = np.random.default_rng(0).integers(2, VOCABULARY, 75).tolist()
    rows = {"input": Ragged.from_rows([[*text[:40], 1, *text[40:]], [5, 6], [7]], np.uint16)}
    drawn = built.drawn(rows, Draws(9, 0, np.arange(3)))
    assert ragged(drawn, "kept").row(0).tolist() == text and drawn["words"].tolist() == [75, 2, 1]
    expected = np.zeros((VOCABULARY, VOCABULARY))
    for row in range(3):
        words, half = ragged(drawn, "kept").row(row), ragged(drawn, "half").row(row)
        assert half.min() >= 1 and half.max() <= 3
        for i, word in enumerate(words):
            for j in range(max(0, i - half[i]), min(len(words), i + half[i] + 1)):
                expected[words[j], word] += j != i
    assert set(ragged(drawn, "half").row(0).tolist()) == {1, 2, 3}
    pairs, against = predictions(built, drawn)
    assert (pairs == expected).all()
    assert built._weights(built.collate(drawn)) == {"negative-sampling": expected.sum()}
    noise = ragged(drawn, "noise")
    sizes = np.add(*reach(ragged(drawn, "half")))
    assert noise.lengths.tolist() == [5 * -(-sizes[:75].sum() // shared), 5 * -(-2 // shared), 0]
    # Each prediction stands against its five words of noise, but for the word that it predicts.
    assert 4.5 * expected.sum() < against.sum() < 5 * expected.sum()


def test_it_is_priced() -> None:
    built = objective()
    cost = cost_of(built, FACTS.specials, None, 8, "fp32")
    assert cost.parameters == 2 * VOCABULARY * SIZE and cost.activations > 0
    assert cost.unit == "words" and cost.row_units == 60


def test_noise_that_is_the_word_predicted_does_not_count() -> None:
    built = objective(window=1, subsample=0.0, shared=3, negatives=2)
    drawn = {
        "kept": Ragged.from_rows([[5, 6, 5, 7]]), "half": Ragged.from_rows([[1, 1, 1, 1]]),
        "noise": Ragged.from_rows([[5, 9, 6, 8]]), "words": np.array([4]),
    }  # fmt: skip
    _, against = predictions(built, drawn)  # 6→5, 5→6, 5→6 share the first two; 6→5, 7→5, 5→7 the others
    assert against[6].nonzero()[0].tolist() == [6, 8, 9] and against[5, [5, 9, 6, 8]].tolist() == [2, 2, 1, 1]
    cbow = objective("cbow", window=1, subsample=0.0, shared=3, negatives=2).collate(drawn)
    assert cbow["weights"].reshape(4, 3).tolist() == [[1, 0, 1], [1, 1, 1], [1, 0, 1], [1, 1, 1]]


def test_noise_is_drawn_by_the_power_of_counts(tmp_path: Path) -> None:
    text = ["aa " * 160 + "bb " * 10 + "cc " * 30 + "dd"]
    train(TokenizerConfig(kind="word", vocabulary=20, roles=["pad", "unk"], min_count=2), text, tmp_path)
    built = objective(facts=DataFacts("text", ("input",), specials=specials(tmp_path), preprocessor=tmp_path))
    texts = Ragged.from_rows([[2, 3, 4] * 10] * 400, np.uint16)
    drawn = ragged(built.drawn({"input": texts}, Draws(1, 0, np.arange(400))), "noise").values
    wanted = np.array([0, 0, 160, 30, 10]) ** 0.75
    share = np.bincount(drawn, minlength=5) / len(drawn)
    assert share == pytest.approx(wanted / wanted.sum(), abs=0.015) and len(drawn) > 4000


def test_draws_are_those_of_the_row_in_any_batch() -> None:
    built, rows = objective(subsample=1e-3), table(12).columns
    whole = built.drawn(rows, Draws(5, 0, np.arange(12)))
    order = np.array([7, 2, 11])
    part = built.drawn(take(rows, order), Draws(5, 0, order))
    for name, column in take(whole, order).items():
        ours, theirs = (c.values if isinstance(c, Ragged) else c for c in (column, part[name]))
        assert np.array_equal(ours, theirs), name
    other = built.drawn(rows, Draws(5, 0, np.arange(12) + 12))
    assert not np.array_equal(ragged(other, "kept").values, ragged(whole, "kept").values)


# -- the update -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_update_is_word2vec_c_s(model: str) -> None:
    """Each prediction adds α·(label − σ)·vector to both sides; CBOW's context words get all of the mean's gradient."""
    built, alpha = objective(model, subsample=0.0, window=2, shared=1), 0.025
    with torch.no_grad():
        built.network.input.weight.normal_()
        built.network.output.weight.normal_()
    before = {name: p.detach().double().numpy().copy() for name, p in built.network.named_parameters()}
    wanted = {name: value.copy() for name, value in before.items()}
    drawn = built.drawn(table(3).columns, Draws(5, 0, np.arange(3)))
    total = 0.0
    for row in range(3):
        words, half, noise = (ragged(drawn, name).row(row) for name in ("kept", "half", "noise"))
        noise_words = iter(noise.reshape(-1, 5))
        for i, word in enumerate(words):
            context = [j for j in range(max(0, i - half[i]), min(len(words), i + half[i] + 1)) if j != i]
            for group in [context] if model == "cbow" else [[j] for j in context]:
                given = np.mean([before["input.weight"][words[j]] for j in group], 0)
                for target, label in [(word, 1.0), *((n, 0.0) for n in next(noise_words) if n != word)]:
                    output = before["output.weight"][target]
                    sigma = 1 / (1 + np.exp(-given @ output))
                    total -= np.log(sigma if label else 1 - sigma)
                    wanted["output.weight"][target] += alpha * (label - sigma) * given
                    for j in group:
                        wanted["input.weight"][words[j]] += alpha * (label - sigma) * output
    (turn,) = built.turns("train", 0)
    loss = turn.loss(built.networks(), built.collate(drawn))
    assert loss.sums["negative-sampling"].item() == pytest.approx(total, rel=1e-5) and turn.adds
    loss.sums["negative-sampling"].backward()
    torch.optim.SGD(built.network.parameters(), lr=alpha).step()
    for name, parameter in built.network.named_parameters():
        assert parameter.detach().numpy() == pytest.approx(wanted[name], abs=1e-4), name


@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_those_of_the_loss(model: str) -> None:
    """By finite differences, in random directions; CBOW of one context word, whose mean has its whole gradient."""
    for loss in ("negative-sampling", "hierarchical-softmax"):
        built = objective(model, subsample=0.0, window=1, loss=loss)
        network = built.network.double()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
        batch = built.collate(
            built.drawn({"input": Ragged.from_rows([[2, 3], [3, 4], [5, 2]])}, Draws(5, 0, np.arange(3)))
        )
        batch = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
        value = built._loss(built.networks(), batch).sums[loss]
        value.backward()
        for parameter in network.parameters():
            direction = torch.randn_like(parameter) * 1e-5
            slope = (parameter.grad.to_dense() * direction).sum()
            with torch.no_grad():
                parameter += direction
                after = built._loss(built.networks(), batch).sums[loss]
                parameter -= direction
            assert (after - value).item() == pytest.approx(slope.item(), rel=1e-3)


def test_hierarchical_softmax_leaves_out_what_is_certain() -> None:
    built = objective("cbow", subsample=0.0, window=1, loss="hierarchical-softmax")
    batch = built.collate(built.drawn({"input": Ragged.from_rows([[2, 3]])}, Draws(5, 0, np.arange(1))))
    nodes = batch["targets"]
    assert batch["predictions"] == 2
    assert nodes.tolist() == [*built.paths.row(2), *built.paths.row(3)]  # 3 predicts 2, and 2 predicts 3
    with torch.no_grad():
        built.network.input.weight.fill_(1.0)
        built.network.output.weight.fill_(6.1 / SIZE)
        built.network.output.weight[nodes[0]] = -0.5 / SIZE
    value = built._loss(built.networks(), batch).sums["hierarchical-softmax"]
    sign = 1.0 - 2.0 * built.branches.row(3)[0], 1.0 - 2.0 * built.branches.row(2)[0]
    assert value.item() == pytest.approx(sum(np.log1p(np.exp(0.5 * s)) for s in sign), rel=1e-5)
    value.backward()
    changed = built.network.output.weight.grad.to_dense().abs().sum(1).nonzero().flatten()
    assert changed.tolist() == [int(nodes[0])]  # the root


# -- training ---------------------------------------------------------------------------------------------------------


def training(model: str = "skip-gram", **options: Any) -> Training:
    settings = {"global_batch": 8, "steps": 6, "optimizer": "sgd", "lr": 0.1, "weight_decay": 0.0, "clip": 5.0}
    return tiny.learning(partial(objective, model), (table(), table(20, 1)), settings, **options)


losses = partial(tiny.losses_of, training)


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_which_words_belong_together(model: str) -> None:
    learning = training(model=model, steps=150)
    before, summary = learning.evaluate(), learning.run()
    assert before["validation/loss"] == pytest.approx(6 * np.log(2), rel=0.05)  # outputs are 0: σ = ½
    assert summary["validation/loss"] < before["validation/loss"] - 0.3
    network: Any = learning.objective.networks()["model"]
    vectors = F.normalize(network.input.weight.detach()[2:])
    topic = torch.arange(40) // 20
    alike = (vectors @ vectors.T).fill_diagonal_(-1)
    assert (topic[alike.argmax(1)] == topic).all()


def test_words_that_are_not_met_keep_their_vectors() -> None:
    learning = training(steps=2)
    network: Any = learning.objective.networks()["model"]
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    learning.run()
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter[:2], before[name][:2]), name  # special tokens
        assert not torch.equal(parameter[2:], before[name][2:]), name


def test_no_vector_moves_further_than_clip_allows() -> None:
    learning = training(steps=1, clip=1e-3, lr=0.5)
    network: Any = learning.objective.networks()["model"]
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    learning.run()
    assert torch.equal(network.input.weight.detach(), before["input.weight"])  # outputs are 0 in the first step
    moved = (network.output.weight.detach() - before["output.weight"]).norm(dim=1)
    has_moved = moved > 0
    assert has_moved.sum() > 30 and not has_moved[:2].any()
    assert moved[has_moved].tolist() == pytest.approx([0.5e-3] * int(has_moved.sum()), rel=1e-3)


def test_the_sum_over_many_targets_is_exact() -> None:
    built = objective()
    batch = built.collate(table(256).columns)
    (turn,) = built.turns("train", 0)
    wanted = np.log(2) * batch["weights"].double().sum().item()  # outputs are 0: σ = ½
    assert len(batch["targets"]) > 50_000
    assert turn.loss(built.networks(), batch).sums["negative-sampling"].item() == pytest.approx(wanted, rel=1e-6)


def _two(worker: Worker) -> list[float]:
    return losses(worker, placement=PlacementConfig(workers=worker.world, micro_batch=3))


def test_two_workers_train_alike() -> None:
    assert in_group(2, _two)[0] == pytest.approx(losses(), abs=1e-5)


def test_a_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    whole, records = losses(), []
    stopping = training(log=records.append, checkpoints=tmp_path, placement=PlacementConfig(checkpoint_every=2))
    stopping.stop = lambda: len(records) >= 3
    stopping.run()
    rest = losses(checkpoints=tmp_path)
    assert 0 < len(rest) < 6 and rest == whole[-len(rest) :]


def test_an_optimizer_that_changes_all_rows_is_refused() -> None:
    unfit: list[dict[str, Any]] = [{"optimizer": "adamw"}, {"weight_decay": 0.1}]
    for settings in unfit:
        with pytest.raises(UserError, match=r"train\.optimizer: .* set it to sgd and weight_decay to 0"):
            training(**settings)


# -- what is exported -------------------------------------------------------------------------------------------------


def parsed(folder: Path) -> list[tuple[list[str], np.ndarray]]:
    """The two formats of word2vec.c, read as its description says."""
    lines = (folder / TEXT).read_text().splitlines()
    assert lines[0] == f"{len(lines) - 1} {SIZE}"
    fields = [line.split(" ") for line in lines[1:]]
    text = [field[0] for field in fields], np.array([[float(v) for v in field[1:]] for field in fields], np.float32)
    data = (folder / BINARY).read_bytes()
    header, _, rest = data.partition(b"\n")
    words, vectors = [], []
    for _ in range(int(header.split()[0])):
        word, _, rest = rest.partition(b" ")
        words.append(word.lstrip(b"\n").decode())
        vectors.append(struct.unpack(f"<{SIZE}f", rest[: 4 * SIZE]))
        rest = rest[4 * SIZE :]
    assert rest == b"\n"
    return [text, (words, np.array(vectors, np.float32))]


def test_an_export_opens_and_is_what_others_read(tmp_path: Path) -> None:
    tokenizer, out = tmp_path / "tokenizer", tmp_path / "out"
    config = TokenizerConfig(kind="word", vocabulary=50, lowercase=True, roles=["pad", "unk"], min_count=2)
    train(config, ["The cat sat, the cat slept.", "A café; a café sat"], tokenizer)
    assert read_counts(tokenizer).tolist() == [0, 0, 2, 2, 2, 2, 2]
    assert load(tokenizer).encode("the dog sat").tokens == ["the", "[UNK]", "sat"]
    built = objective(facts=DataFacts("text", ("input",), specials=specials(tokenizer), preprocessor=tokenizer))
    built.export(out, [])
    check_export(out, built.exported())
    vectors = built.network.input.weight.detach().numpy()
    for words, values in parsed(out):
        assert words == ["a", "cafe", "cat", "sat", "the"] and np.array_equal(values, vectors[2:])
    ids = load(out).encode("the cat").ids
    features = open_encoder(out).encode({"input": Ragged.from_rows([ids, [4]])})
    assert np.array_equal(features.values[0], vectors[ids]) and features.mask is not None
    assert features.mask.tolist() == [[True, True], [True, False]]
    rows = {"input": Ragged.from_rows([ids, [4]], np.uint32)}
    (mean,), (random,) = means(open_layers(out), rows), means(open_layers(out, random=1), rows)
    assert np.allclose(mean[0], vectors[ids].mean(0), atol=1e-6) and random.std() > 0 and not np.allclose(mean, random)
    (out / "config.json").write_text('{"kind": "word-vectors", "format": 9}')
    with pytest.raises(UserError, match="describes word vectors of format 9"):
        open_encoder(out)


def test_a_vocabulary_without_counts_or_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.min_count: no word occurs 5 times"):
        train(TokenizerConfig(kind="word", vocabulary=50), ["a b c"], tmp_path)
    train(TokenizerConfig(kind="wordpiece", vocabulary=50), ["a b c"], tmp_path)
    with pytest.raises(UserError, match="does not say how often its words occur"):
        objective(facts=DataFacts("text", ("input",), specials=specials(tmp_path), preprocessor=tmp_path))
    for text in ("[]", '{"counts": [[1]]}', '{"counts": [-1]}', '{"counts": ["a"]}'):
        (tmp_path / COUNTS).write_text(text)
        with pytest.raises(UserError, match="does not say how often"):
            read_counts(tmp_path)
    with pytest.raises(ValueError, match="'min_count' belongs to kind 'word'"):
        TokenizerConfig(kind="wordpiece", min_count=3)
