"""Masked LM with the span boundary objective: which tokens it predicts from where, its loss, and what is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from data_prep.corruptions import build as build_corruption
from data_prep.corruptions import config_of
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials, num_rows, ragged, take
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training import tiny
from tests.training.group import in_group
from tests.training.objectives.test_packed import losses_and_gradients
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.distributed import Worker
from training.models import cpu_kernels
from training.models.text.folder import open_pretrained
from training.objectives import build
from training.objectives.masked_lm import MaskedLM
from training.objectives.span_boundary import ends_of_text, span_columns

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIALS = Specials(48, pad=PAD, unk=UNK, cls=CLS, sep=SEP, mask=MASK)
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 64, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
SECTION = ObjectiveConfig(name="span-boundary", options={"place_size": 12})
SPANS = build_corruption(config_of({"kind": "masked-spans", "rate": 0.3}), SPECIALS)


def objective(architecture: str = "bert", facts: DataFacts | None = None, **options: Any) -> Any:
    own = {"embedding_size": 16, "classifier_dropout_prob": 0.0} if architecture == "albert" else {}
    torch.manual_seed(1)
    built: Any = build(
        ObjectiveConfig(name="span-boundary", options={"place_size": 12, **options}),
        {"model": NetworkConfig(architecture=architecture, config=SHAPE | own)},
        facts or DataFacts("text", ("input",), specials=SPECIALS),
        "cpu",
    )
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return built


def corrupt(rows: Rows, draws: Draws) -> Rows:
    tokens = ragged(rows, "input")
    return SPANS(rows | {"word_start": Ragged(np.ones(len(tokens.values), np.uint8), tokens.offsets)}, draws)


def texts(*lengths: int) -> Rows:
    random = np.random.default_rng(0)
    rows = [[CLS, *random.integers(5, 48, length - 2), SEP] for length in lengths]
    return corrupt({"input": Ragged.from_rows(rows, np.uint16)}, Draws(3, 0, np.arange(len(lengths))))


def hidden_at(places: list[list[int]], seen: list[list[int]], **columns: Any) -> Rows:
    """Rows whose targets have the ids 100, 101, …"""
    count = sum(map(len, places))
    return {
        "seen": Ragged.from_rows(seen, np.uint16),
        "target_positions": Ragged.from_rows(places, np.uint16),
        "target_ids": Ragged.from_lengths(np.arange(100, 100 + count, dtype=np.uint16), [len(row) for row in places]),
        **columns,
    }


def test_what_is_predicted_from_boundaries_is_pinned() -> None:
    first = [CLS, 10, MASK, MASK, 11, MASK, UNK, MASK, SEP]
    second = [CLS, MASK, 12, 13, MASK, 14, SEP]
    rows = hidden_at([[2, 3, 5, 7], [1, 4]], [first, second])
    columns = span_columns(rows, 16, 15, ends_of_text(SPECIALS))
    # The spans at 7 and at 1 touch an end of their texts; an unknown word is a word.
    assert columns["span_before"].tolist() == [1, 1, 4, 16 + 3]
    assert columns["span_behind"].tolist() == [4, 4, 6, 16 + 5]
    assert columns["span_place"].tolist() == [0, 1, 0, 0]
    assert columns["span_ids"].tolist() == [100, 101, 102, 105]


def test_tokens_far_inside_a_span_are_left_to_the_masked_lm() -> None:
    rows = hidden_at([list(range(2, 8))], [[CLS, 10, *[MASK] * 6, 11, SEP]])
    columns = span_columns(rows, 16, 4, ends_of_text(SPECIALS))
    assert columns["span_place"].tolist() == [0, 1, 2, 3] and columns["span_behind"].tolist() == [8] * 4
    assert objective().options.longest == 15


def test_spans_end_with_their_sequence() -> None:
    seen = [[10, MASK, MASK, 11, MASK, MASK, 12, 13]]
    sequence = Ragged.from_rows([[0, 0, 0, 0, 0, 1, 1, 1]], np.uint8)
    rows = hidden_at([[1, 2, 4, 5]], seen, sequence=sequence)
    columns = span_columns(rows, 8, 15, ends_of_text(SPECIALS))
    assert columns["span_ids"].tolist() == [100, 101]  # those at 4 and 5 touch the border
    assert span_columns(hidden_at([[]], [[10, 11]]), 8, 15, ends_of_text(SPECIALS))["span_ids"].tolist() == []


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert"])
def test_the_loss_is_the_papers(architecture: str) -> None:
    """Two means; the second divides by one more than the number of its targets."""
    built, rows = objective(architecture), texts(40)
    batch = built.collate(rows)
    [turn] = built.turns("train", 0)
    loss, weights = turn.loss({"model": built.network.eval()}, batch), turn.weights(batch)
    model, head = built.network.model, built.network.boundary
    with torch.no_grad():
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        logits = model(**inputs).logits[0]
        states = model.base_model(**inputs).last_hidden_state[0]
        mlm = nn.functional.cross_entropy(logits[batch["target_positions"]], batch["target_ids"])
        place = nn.functional.embedding(batch["span_place"], head.places.weight)
        x = torch.cat([states[batch["span_before"]], states[batch["span_behind"]], place], -1)
        linear_1, _, norm_1, linear_2, _, norm_2 = head.layers
        x = norm_2(nn.functional.gelu(linear_2(norm_1(nn.functional.gelu(linear_1(x))))))
        scores = x @ model.get_input_embeddings().weight.T + head.projection.bias
        sbo = nn.functional.cross_entropy(scores, batch["span_ids"], reduction="sum")
    assert loss.sums["mlm"].item() / weights["mlm"] == pytest.approx(mlm.item(), abs=1e-5)
    assert loss.sums["sbo"].item() == pytest.approx(sbo.item(), abs=1e-4)
    assert weights["sbo"] == len(batch["span_ids"]) > 3 and turn.extra == {"sbo": 1.0}
    right, count = loss.metrics["sbo_accuracy"]
    assert float(right) == (scores.argmax(-1) == batch["span_ids"]).sum() and count == weights["sbo"]


def test_the_projection_is_the_input_embedding_with_a_bias_of_its_own() -> None:
    network = objective().network
    assert network.boundary.projection.weight is network.model.get_input_embeddings().weight
    assert network.boundary.projection.bias is not network.model.get_output_embeddings().bias
    trained = dict(network.named_parameters())
    assert sum(name.startswith("boundary.") for name in trained) == 10


def test_rows_do_not_depend_on_their_neighbours_and_terms_by_row_are_the_loss() -> None:
    built, rows = objective(), texts(40, 21, 60)
    whole = losses_and_gradients(built, rows)
    single = [losses_and_gradients(built, take(rows, [row])) for row in range(3)]
    for name in ("mlm", "sbo"):
        total = sum(means[name] * weights[name] for means, weights, _ in single)
        assert whole[0][name] * whole[1][name] == pytest.approx(total, abs=1e-3)
    batch = built.collate(rows) | {"source": torch.zeros(3, dtype=torch.long)}
    loss = built.turns("train", 0)[0].loss({"model": built.network}, batch)
    sums, counts = loss.by_row["sbo"]
    assert sums.sum().item() == pytest.approx(loss.sums["sbo"].item(), rel=1e-5)
    assert counts.sum().item() == len(batch["span_ids"])


def test_faster_passes_on_cpu_cores_compute_the_same() -> None:
    rows = texts(40, 21)
    plain = losses_and_gradients(objective(), rows)
    built = objective()
    cpu_kernels.speed_up(built.network, "fp32")
    fast = losses_and_gradients(built, rows)
    assert fast[0] == pytest.approx(plain[0], abs=1e-5)
    for name, gradient in plain[2].items():
        torch.testing.assert_close(fast[2][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_the_work_is_counted() -> None:
    built = objective()
    batch = built.collate(texts(40, 40))
    head = (2 * 32 + 12) * 32 + 32 * 32 + 32 * 48
    alone = MaskedLM.flops(built, batch)
    assert built.flops(batch) == alone + 6 * head * len(batch["span_ids"])
    assert built.num_targets(batch) == len(batch["target_ids"]) + len(batch["span_ids"])


def test_it_learns_and_goes_on_bit_by_bit(tmp_path: Path) -> None:
    options = {"sentence": "none", "section": SECTION, "corrupt": corrupt, "lr": 1e-2}
    training = tiny.training(steps=60, **options)
    before, start = training.evaluate(), {n: p.clone() for n, p in training.modules["model"].named_parameters()}
    summary = training.run()
    for name in ("mlm", "sbo"):
        assert summary[f"validation/{name}"] < before[f"validation/{name}"] - 0.2
    assert 0 < summary["validation/sbo_accuracy"] < 1
    still = [name for name, p in training.modules["model"].named_parameters() if torch.equal(p, start[name])]
    assert still == []
    whole = curve(steps=8, checkpoints=tmp_path / "a", **options)
    stopped = curve(steps=8, checkpoints=tmp_path / "b", stop_at=5, **options)
    rest = curve(steps=8, checkpoints=tmp_path / "b", **options)
    assert stopped + rest == whole and len(rest) == 3


@pytest.mark.parametrize("micro_batch", [None, 7])
def test_a_step_divides_by_one_more_than_the_targets(micro_batch: int | None) -> None:
    """Once in a step, however many micro-batches it has."""
    options = {"sentence": "none", "section": SECTION, "corrupt": corrupt, "steps": 1, "dropout": 0.0}
    training, paid = tiny.training(placement=PlacementConfig(micro_batch=micro_batch), **options), []
    training.monitor.add = lambda loss, terms, source: paid.append(float(loss.detach()))  # type: ignore[method-assign]
    batch = training._read(np.arange(24))[0]
    turn: Any = training.objective.turns("train", 0)[0]
    loss, weights = turn.loss({"model": training.modules["model"]}, batch), turn.weights(batch)
    wanted = loss.sums["mlm"] / weights["mlm"] + loss.sums["sbo"] / (weights["sbo"] + 1)
    training._take_turn(turn, [training._read(part)[0] for part in training.split.samples(0)], 0)
    assert sum(paid) == pytest.approx(float(wanted), abs=1e-4)


def curve(stop_at: int = 0, worker: Worker | None = None, **options: Any) -> list[float]:
    records: list[dict[str, Any]] = []
    training = tiny.training(worker, log=records.append, **options)
    if stop_at:
        training.stop = lambda: sum("train/loss" in record for record in records) >= stop_at - 1
    training.run()
    return [record["train/loss"] for record in records if "train/loss" in record]


def on_a_worker(worker: Worker, zero: Literal[0, 1, 2, 3] | None) -> list[float]:
    return placed(worker, PlacementConfig(zero=zero))


def placed(worker: Worker | None = None, placement: PlacementConfig | None = None) -> list[float]:
    options = {"sentence": "none", "section": SECTION, "corrupt": corrupt, "dropout": 0.0, "steps": 4}
    return curve(worker=worker, placement=placement, **options)


@pytest.mark.parametrize("placement", [{"micro_batch": 7}, {"activation_checkpointing": True}, {"zero": 2}], ids=str)
def test_it_trains_alike_however_it_is_placed(placement: dict[str, Any]) -> None:
    assert placed(placement=PlacementConfig(**placement)) == pytest.approx(placed(), abs=2e-5)


@pytest.mark.parametrize("zero", [None, *(pytest.param(stage, marks=pytest.mark.slow) for stage in (2, 3))])
def test_two_workers_are_one(zero: int | None) -> None:
    by_rank = in_group(2, on_a_worker, zero)
    assert by_rank[0] == pytest.approx(placed(), abs=2e-5)  # the first one logs


def test_an_export_opens_elsewhere_without_the_head(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    train(TokenizerConfig(kind="wordpiece", vocabulary=60), ["the cat sat on a mat"], tokenizer)
    special_ids = specials(tokenizer)
    built = objective(facts=DataFacts("text", ("input",), specials=special_ids, preprocessor=tokenizer))
    built.network.eval()
    built.export(tmp_path / "out", [])
    model = open_pretrained(tmp_path / "out", "AutoModelForMaskedLM")
    tokens = torch.tensor([[special_ids.cls, 7, special_ids.mask, 9, special_ids.sep]])
    with torch.no_grad():
        opened, own = model(input_ids=tokens).logits, built.exported()(input_ids=tokens).logits
    torch.testing.assert_close(opened, own, atol=1e-5, rtol=0)
    assert not any("boundary" in name for name, _ in model.named_parameters())


def test_rows_of_made_up_tokens_have_boundaries() -> None:
    """`sesame plan` prices the second term, too."""
    built = objective()
    tokens = ragged(built.example(4), "seen")
    rows = corrupt({"input": tokens}, Draws(0, 0, np.arange(4)))
    assert num_rows(rows) == 4 and len(built.collate(rows)["span_ids"]) > 20
