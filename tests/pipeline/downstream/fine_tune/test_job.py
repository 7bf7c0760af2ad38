"""The few-label job: draws are paired, scores are what they say, learning happens, baselines are honest."""

from __future__ import annotations

import copy
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from data_prep.labelled.files import Example, Labelled, LabelledConfig, load
from data_prep.shards.rows import Ragged, Rows, ragged
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.tokenizers import TokenizerConfig, train
from data_prep.tokens.tokenizers import load as load_tokenizer
from pipeline.downstream import labelled_scores, predictions_file
from pipeline.downstream.fine_tune import baselines, metrics
from pipeline.downstream.fine_tune.checks import BASELINES
from pipeline.downstream.fine_tune.examples import drawn, some, stream_of
from pipeline.downstream.fine_tune.exported import open_fine_tuned
from pipeline.downstream.fine_tune.heads import Encoded, Predicted
from pipeline.downstream.fine_tune.job import needs
from pipeline.downstream.fine_tune.reports import report
from pipeline.downstream.fine_tune.scoring import TEST_BATCH, scores_of
from pipeline.downstream.fine_tune.trials import SELECTION
from pipeline.recipe.load import load as load_recipe
from pipeline.reports.report import page, read
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.pipeline import tiny
from tests.pipeline.downstream.fine_tune.few_labels import NAMED, SPLITS, encode, job_of
from tests.training.inference import writers
from training.data import MemoryTable
from training.inference.networks.text import open_trainable
from training.objectives.fine_tuning import FineTuning

TAGGED = Labelled("tagging", ["O", "X", "Y"], SPLITS, "made up", "CC0-1.0", "none")
TAGS = Labelled("tagging", ["O", "VERB"], SPLITS, "made up", "CC0-1.0", "none")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    sentences = [path.read_text() for path in tiny.corpus(folder / "texts").glob("*.txt")]
    train(TokenizerConfig(kind="wordpiece", vocabulary=256, lowercase=True), sentences, folder)
    return folder


def test_larger_draws_contain_smaller_ones_and_seeds_differ() -> None:
    small, large = drawn(1000, 50, 0, 1), drawn(1000, 200, 0, 1)
    assert small.tolist() == large[:50].tolist()
    assert len(set(large.tolist())) == 200
    assert set(small.tolist()) != set(drawn(1000, 50, 0, 2).tolist())
    assert set(small.tolist()) != set(drawn(1000, 50, 0, SELECTION).tolist())
    assert len(drawn(30, 50, 0, 1)) == 30


def tagged(*tags: int) -> list[Example]:
    return [Example(words=("w",) * len(tags), tags=tags)]


def said(*labels: int) -> Predicted:
    return Predicted([list(labels)], [None])


def test_tags_are_scored_by_micro_f1_without_the_outside_class() -> None:
    truth = tagged(0, 0, 1, 1, 2, 2)
    assert metrics.main_metric(TAGGED) == "F1"
    # X: 1 right of 3 said and 2 true; Y: 1 right of 1 said and 2 true. Micro: 2 right of 4 said and 4 true.
    assert metrics.scores(TAGGED, truth, said(0, 1, 1, 0, 2, 1)) == {"F1": pytest.approx(0.5)}
    assert metrics.scores(TAGGED, truth, said(0, 0, 0, 0, 0, 0)) == {"F1": 0.0}
    assert metrics.scores(TAGGED, truth, said(0, 0, 1, 1, 2, 2)) == {"F1": 1.0}


def test_labels_without_an_outside_class_are_scored_by_accuracy() -> None:
    assert metrics.main_metric(NAMED) == "accuracy"
    examples = [Example(text="t", label=label) for label in (0, 1, 1, 0)]
    assert metrics.scores(NAMED, examples, Predicted([0, 1, 0, None], [None] * 4)) == {"accuracy": 0.5}


def test_baselines(tmp_path: Path) -> None:
    rows = [Example(words=("a", "b", "c"), tags=(1, 0, 0)), Example(words=("a", "d", "c"), tags=(1, 0, 2))]
    test = [Example(words=("a", "c", "new"), tags=(1, 0, 0))]
    assert baselines.majority(TAGGED, rows, test) == [[0, 0, 0]]
    assert baselines.unigram(TAGGED, rows, test) == [[1, 0, 0]]
    assert baselines.window(TAGGED, rows * 20, test)[0][0] == 1
    texts = [Example(text="good fine", label=0), Example(text="bad poor", label=1)]
    assert baselines.tfidf(NAMED, texts * 5, texts) == [0, 1]
    assert baselines.tfidf(NAMED, texts[1:], texts) == [1, 1], "a draw of one label"
    unspaced = [Example(text="好好好", label=0), Example(text="坏坏坏", label=1)]
    assert baselines.tfidf(NAMED, unspaced * 5, unspaced) == [0, 1]
    scored = Labelled("regression", [], SPLITS, "made up", "CC0-1.0", "none")
    pairs = [
        Example(text="a cat sat", text_pair="a cat sat", score=5.0),
        Example(text="a cat", text_pair="no", score=0.0),
    ]
    assert baselines.mean(scored, pairs, pairs) == [2.5, 2.5]
    assert baselines.similarity(scored, pairs, pairs) == pytest.approx([5.0, 0.0])
    asked = Labelled("choice", [], SPLITS, "made up", "CC0-1.0", "none")
    which = [Example(text="the cat sat down", choices=("a dog", "the cat"), label=1)]
    assert baselines.overlap(asked, which, which) == baselines.majority(asked, which, which) == [1]
    context = "It rained. The café was opened in 1998 by O'Neill. The city has sold it in 2001."
    others = [Example(text=f"In the city {year} was by it.") for year in "abc"]
    asked_of = [Example(text=context, text_pair=f"When was the café {verb}?") for verb in ("opened", "sold")]
    answered = Labelled("question-answering", [], SPLITS, "made up", "CC0-1.0", "none")
    assert baselines.nearby(answered, others, asked_of) == ["1998", "has"]
    assert baselines.nearby(answered, others, [Example(text="In the city", text_pair="Why?")]) == [""]
    assert baselines.no_answer(answered, others, asked_of) == ["", ""]
    assert {task: tuple(methods) for task, methods in baselines.METHODS.items()} == BASELINES
    recipe = load_recipe(str(tiny.recipe(tmp_path)))
    job = job_of(tmp_path / "labelled.jsonl", baselines=["unigram", "oracle"])
    assert list(needs(recipe, job)) == [
        (".baselines.1", "'oracle' is no baseline for tagging; allowed: majority, unigram, window")
    ]


def test_a_regression_on_coordinates_of_rows_says_what_one_on_all_features_does() -> None:
    draws = np.random.default_rng(0)
    words = sparse.random(60, 500, 0.05, format="csr", rng=draws)
    words = sparse.vstack([words, words[:3]])  # rows that are there twice span nothing
    labels = np.r_[draws.integers(0, 4, 60), [1, 2, 3]]
    in_space, tested = baselines._in_row_space(words[:50], words[50:])
    assert in_space.shape == (50, 50) and tested.shape == (13, 50)
    of_all = LogisticRegression(C=10.0, tol=1e-8, max_iter=2000).fit(words[:50], labels[:50])
    of_rows = LogisticRegression(C=10.0, tol=1e-8, max_iter=2000).fit(in_space, labels[:50])
    np.testing.assert_allclose(of_rows.predict_proba(tested), of_all.predict_proba(words[50:]), atol=1e-4)
    assert baselines._in_row_space(sparse.vstack([words[:3], words[:3]]), words)[0].shape == (6, 3)


def test_paired_differences_and_verdict(tmp_path: Path) -> None:
    cells = [
        {"model": "pretrained", "kind": "network", "labels": 10, "scores": [0.9, 0.8, 0.85], "lr": 1e-3},
        {"model": "scratch", "kind": "network", "labels": 10, "scores": [0.5, 0.45, 0.4], "lr": 1e-3},
    ]
    job = job_of(Path("x"), labels=[10], seeds=3)
    data = Labelled("tagging", ["O", "X"], SPLITS, "d", "l", "p")
    built = report.build(job, data, cells, "fp32", {"seed": 0}, tmp_path)
    pair = built.notes["paired"][0]
    assert pair["mean"] == pytest.approx(0.4) and pair["wins"] == 3 and pair["clear"]
    assert "0.400 ± 0.050 better" in built.verdict
    assert "| **pretrained** | 0.850 ± 0.050 |" in page(built) and "| pretrained | 0.001 |" in page(built)
    candidate, own = built.candidates
    assert (own.kind, own.role, own.path, own.name) == ("fine-tuned", "", "fine-tuned", job.name)
    assert (own.score, own.spread) == (candidate.score, candidate.spread)
    longer = report.build(job.model_copy(update={"batch": 99}), data, cells, "fp32", {"seed": 0}, tmp_path).candidates
    assert longer[1].evaluation == own.evaluation, "networks are compared however they were trained"
    assert (candidate.role, candidate.measure, candidate.spread) == (
        "pretrained",
        "F1/pretrained_10",
        pytest.approx(0.05),
    )
    assert candidate.score == pytest.approx(0.85) and candidate.evaluation == {"seed": 0}


def test_only_the_pretrained_encoder_is_proposed(tmp_path: Path) -> None:
    cells = [{"model": "scratch", "kind": "network", "labels": 10, "scores": [0.5, 0.6], "lr": 1e-3}]
    job = job_of(Path("x"), labels=[10], models=["scratch"])
    data = Labelled("tagging", ["O", "X"], SPLITS, "d", "l", "p")
    built = report.build(job, data, cells, "fp32", {}, tmp_path)
    assert built.candidates == [] and built.verdict == "With 10 labels scratch is best: F1 0.550."


@pytest.mark.parametrize("length_window", [None, 3])
def test_the_job_learns_and_reports(
    tmp_path: Path, tokenizer: Path, length_window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve: list[dict[str, Any]] = []
    monkeypatch.setattr(report.figures, "learning_curve", lambda title, metric, given, path: curve.extend(given))
    from transformers import AutoTokenizer, BertConfig, BertModel

    model = tmp_path / "artifact" / "model"
    config = BertConfig(
        vocab_size=256, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(model)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(model)
    out = tmp_path / "out"
    out.mkdir()
    messages: list[tuple[str, float]] = []
    summary = job_stage.run(
        {
            "version": 1,
            "job": job_of(tiny.labelled(tmp_path / "rows.jsonl"), length_window=length_window).model_dump(mode="json"),
            "seed": 0,
            "precision": "fp32",
            "cleaning": {"normalisation": "nfc", "keep_lines": False},
        },
        {"pretrained": SimpleNamespace(path=tmp_path / "artifact")},  # type: ignore[dict-item]
        out,
        Context(downloads=tmp_path, progress=lambda message, done=None: messages.append((message, done or 0))),
    )
    cells = {(cell["model"], cell["labels"]): cell for cell in read(out).notes["cells"]}
    assert set(cells) == {(m, n) for m in ("pretrained", "scratch", "unigram") for n in (4, 40)}
    assert cells["scratch", 40]["mean"] > 0.9  # verbs are few and always third
    assert cells["scratch", 4]["scores"] != cells["scratch", 40]["scores"]
    assert set(cells["scratch", 4]["tried"]) == {"0.005", "0.01"}
    assert summary["F1/scratch_40"] == cells["scratch", 40]["mean"]
    assert [message for message, _ in messages[:2]] == [
        "reading labelled examples",
        "fine-tuning pretrained from 4 labels",
    ]
    assert [text.partition(" in ")[0] for text in read(out).notes["remarks"]] == [
        f"downstream verbs: {shared} are" for shared in
        ("5 of 40 rows of validation", "2 of 40 rows of test", "4 of 40 rows of test")
    ]  # fmt: skip
    assert messages[-1][1] == 1.0 and len(messages) == 2 + 2 * 2 * (2 + 2)
    predictions = predictions_file.read(out / read(out).predictions)  # type: ignore[operator]
    assert [(part.seed, len(part.ids)) for part in predictions.parts] == [(0, 32), (1, 32)]
    part, task = predictions.parts[0], predictions.tasks["verbs"]
    config = LabelledConfig(path=str(tmp_path / "rows.jsonl"))
    examples = some(load(config, tmp_path).splits["test"], 32, 0)
    again = open_fine_tuned(out / "fine-tuned").predict(examples)
    assert [labelled_scores.named_as(TAGS, answer) for answer in again.answers] == list(
        part.predicted
    ) and again.scores == pytest.approx(part.scores, abs=1e-6)
    assert task.head == "tags" and list(part.truth[0]) == ["O", "O", "VERB", "O", "O"] and 0 < part.scores[0] <= 1  # type: ignore[index,operator]
    drawn = {(cell["model"], cell["labels"]): cell["mean"] for cell in curve}
    assert drawn == {name: cell["mean"] for name, cell in cells.items()}


def test_rows_of_like_length_are_learnt_from_together() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 200)
    table = MemoryTable({"input": Ragged.from_rows([np.full(n, i) for i, n in enumerate(lengths)])}, 200)

    def read(window: int | None) -> tuple[float, list[int]]:
        stream, batch = stream_of(table, 16, 7, window), np.arange(16)
        batches = [ragged(stream.read(step * 16 + batch), "input") for step in range(25)]
        padded = sum(16 * rows.lengths.max() for rows in batches)
        return 1 - sum(len(rows.values) for rows in batches) / padded, [
            int(f.row(i)[0]) for f in batches for i in batch
        ]

    plain, grouped = read(None), read(6)
    for _, rows in (plain, grouped):
        assert sorted(rows[:200]) == sorted(rows[200:]) == list(range(200))
    assert grouped[0] < plain[0] / 2 and grouped[1] != plain[1]


@pytest.mark.parametrize("task", ["tagging", "classification"])
def test_scores_come_in_the_order_of_the_rows_and_rows_of_like_length_go_together(task: str) -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 40, 3 * TEST_BATCH + 5)
    answers = Ragged.from_rows([random.integers(0, 9, length - 2 if task == "tagging" else 1) for length in lengths])
    rows: Rows = {"input": Ragged.from_rows([np.zeros(length) for length in lengths]), "target_ids": answers}
    padding = []

    def known(batch: Rows) -> Ragged:
        lengths = ragged(batch, "input").lengths
        padding.append((lengths.max() - lengths).sum())
        return ragged(batch, "target_ids")

    scores = scores_of(known, Encoded(rows, []))
    assert scores.values.tolist() == answers.values.tolist() and scores.lengths.tolist() == answers.lengths.tolist()
    assert len(padding) == 4 and sum(padding) < 0.3 * lengths.sum()


def test_rows_that_are_cut_are_counted(tokenizer: Path) -> None:
    examples = [Example(text="the river " * number, label=0) for number in (1, 9, 20)]
    assert encode(NAMED, examples, tokenizer, 16).remarks == ["2 of 3 rows have over 16 tokens and are cut"]


@pytest.mark.parametrize(
    ("roles", "single", "pair"),
    [
        (["pad", "bos", "eos"], "[BOS] {a} [EOS]", "[BOS] {a} [EOS] {b} [EOS]"),
        (["eos"], "{a} [EOS]", "{a} [EOS] {b} [EOS]"),  # nothing pads but what nobody attends to
        (["pad", "unk", "cls", "sep"], "[CLS] {a} [SEP]", "[CLS] {a} [SEP] {b} [SEP]"),  # framed by itself
    ],
)
def test_rows_for_a_last_token_end_with_one(roles: Any, single: str, pair: str, tmp_path: Path) -> None:
    train(TokenizerConfig(kind="byte-bpe", vocabulary=270, roles=roles), ["on a log"], tmp_path)
    opened = load_tokenizer(tmp_path, specials_in_text=True)
    texts = {name: " ".join(opened.encode(name, add_special_tokens=False).tokens) for name in "ab"}
    examples = [Example(text="a", label=0), Example(text="a", text_pair="b", label=0)]
    rows = encode(NAMED, examples, tmp_path, 16, framed=True).rows["input"]
    texts_of_rows = [" ".join(map(opened.id_to_token, rows.row(number).tolist())) for number in (0, 1)]  # type: ignore[union-attr]
    assert texts_of_rows == [single.format(**texts), pair.format(**texts)]
    cut = encode(NAMED, [Example(text="on a log " * 9, label=0)], tmp_path, 8, framed=True)
    assert cut.remarks and cut.rows["input"].row(0)[-1] == rows.row(0)[-1]  # type: ignore[union-attr]


def test_a_decoder_learns_labels_at_its_last_token(tmp_path: Path) -> None:
    """Of what stands first in a row, which its last token alone can have seen."""
    folder = writers.write(tmp_path, "gpt2", spread=0.05)
    encoder = open_trainable(folder)
    examples = [Example(text=f"{('cat', 'dog')[label]} on a log and {word}", label=label)
                for label in (0, 1) for word in ("on", "a mat", "the mat", "they", "the log", "sat")]  # fmt: skip
    rows = encode(NAMED, examples, folder, 24, framed=True)
    losses = {}
    for pooling in ("last", "cls"):
        torch.manual_seed(0)
        objective = FineTuning(encoder.copied(), "class", 2, pooling, dropout=0.0)  # type: ignore[arg-type]
        before = copy.deepcopy(objective.network.encoder.state_dict())
        optimizer = torch.optim.AdamW(objective.network.parameters(), lr=3e-3)
        batch = objective.collate(rows.rows)
        for _ in range(40):
            loss = objective._loss({"model": objective.network}, batch).sums["label"] / len(examples)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[pooling] = loss.item()
        moved = {
            name for name, value in objective.network.encoder.state_dict().items() if not value.equal(before[name])
        }
        assert any("attn" in name for name in moved)
    assert losses["last"] < 0.1 < 0.6 < losses["cls"]  # [BOS] is the same in all rows: ln 2


def test_rows_of_any_normal_form_have_the_same_ids(tmp_path: Path) -> None:
    train(TokenizerConfig(vocabulary=80), ["café が नमस्ते"] * 9, tmp_path, Cleaning())
    texts = ["café", "が नमस्ते", "Å é\u00ad"]
    ids = [
        encode(NAMED, [Example(text=unicodedata.normalize(form, text)) for text in texts], tmp_path, 16).rows["input"]
        for form in ("NFC", "NFD")
    ]
    assert ids[0].values.tolist() == ids[1].values.tolist()  # type: ignore[union-attr]
