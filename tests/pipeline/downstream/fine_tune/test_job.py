"""The few-label job: draws are paired, scores are what they say, learning happens, baselines are honest."""

from __future__ import annotations

import copy
import json
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from data_prep.labelled.files import Example, Labelled, LabelledConfig, load
from data_prep.shards.rows import Ragged, Rows, ragged
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.tokenizers import TokenizerConfig, train
from data_prep.tokens.tokenizers import load as load_tokenizer
from pipeline.downstream import labelled_scores, predictions_file
from pipeline.downstream.fine_tune import baselines, checks, metrics
from pipeline.downstream.fine_tune.checks import BASELINES
from pipeline.downstream.fine_tune.examples import drawn, some, stream_of
from pipeline.downstream.fine_tune.exported import open_fine_tuned
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, module_of, shape_of, tokenizer_of
from pipeline.downstream.fine_tune.job import Config, needs, settings
from pipeline.downstream.fine_tune.reports import report
from pipeline.downstream.fine_tune.scoring import TEST_BATCH, scores_of
from pipeline.downstream.fine_tune.trials import SELECTION
from pipeline.recipe.load import load as load_recipe
from pipeline.reports.report import page, read
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.pipeline import tiny
from tests.training.inference import writers
from training.data import MemoryTable
from training.inference.networks.text import open_trainable
from training.models import adapters
from training.objectives.fine_tuning import FineTuning

SPLITS: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
TAGGED = Labelled("tagging", ["O", "X", "Y"], SPLITS, "made up", "CC0-1.0", "none")
TAGS = Labelled("tagging", ["O", "VERB"], SPLITS, "made up", "CC0-1.0", "none")
NAMED = Labelled("classification", ["a", "b"], SPLITS, "made up", "CC0-1.0", "none")


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


def encode(data: Labelled, examples: list[Example], folder: Path, length: int, framed: bool = False) -> Encoded:
    return module_of(shape_of(data)).encode(
        shape_of(data), examples, tokenizer_of(shape_of(data), folder, framed), Layout(length, length // 3)
    )


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
    assert {task: tuple(methods) for task, methods in baselines.METHODS.items()} == BASELINES
    recipe = load_recipe(str(tiny.recipe(tmp_path)))
    job = _job(tmp_path / "labelled.jsonl", baselines=["unigram", "oracle"])
    assert list(needs(recipe, job)) == [
        (".baselines.1", "'oracle' is no baseline for tagging; allowed: majority, unigram, window")
    ]


def test_paired_differences_and_verdict(tmp_path: Path) -> None:
    cells = [
        {"model": "pretrained", "kind": "network", "labels": 10, "scores": [0.9, 0.8, 0.85], "lr": 1e-3},
        {"model": "scratch", "kind": "network", "labels": 10, "scores": [0.5, 0.45, 0.4], "lr": 1e-3},
    ]
    job = _job(Path("x"), labels=[10], seeds=3)
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
    job = _job(Path("x"), labels=[10], models=["scratch"])
    data = Labelled("tagging", ["O", "X"], SPLITS, "d", "l", "p")
    built = report.build(job, data, cells, "fp32", {}, tmp_path)
    assert built.candidates == [] and built.verdict == "With 10 labels scratch is best: F1 0.550."


def _job(path: Path, **changes: Any) -> Config:
    values = {
        "name": "verbs", "task": "tagging", "data": {"path": str(path)}, "labels": [4, 40], "seeds": 2, "steps": 30,
        "batch": 8, "length": 32, "lrs": [5e-3, 1e-2], "validation_rows": 16, "test_rows": 32,
        "baselines": ["unigram"], **changes,
    }  # fmt: skip
    return Config.model_validate(values)


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
            "job": _job(tiny.labelled(tmp_path / "rows.jsonl"), length_window=length_window).model_dump(mode="json"),
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
    assert [text.partition(" in train")[0] for text in read(out).notes["remarks"]] == [
        "downstream verbs: 5 of 40 rows of validation are", "downstream verbs: 2 of 40 rows of test are"
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


# ------------------------------------------------------------------ found before anything is trained


def rows_of(path: Path, **splits: list[tuple[str, str]]) -> Path:
    """Labelled texts, by split."""
    rows = [{"text": t, "label": label, "split": split} for split, pairs in splits.items() for t, label in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(split: str, count: int, labels: str = "ab") -> list[tuple[str, str]]:
    return [(f"{split} {number}", labels[number % len(labels)]) for number in range(count)]


GOOD = {"train": texts("train", 40), "validation": texts("validation", 20), "test": texts("test", 20)}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_recipe(str(tiny.recipe(tmp_path_factory.mktemp("recipe"))))


def checked(recipe: Any, path: Path, **changes: Any) -> None:
    values = {"task": "classification", "baselines": [], **changes}
    settings(recipe, _job(path, **values), path.parent)


@pytest.mark.parametrize(
    ("splits", "changes", "message"),
    [
        ({}, {"labels": [4, 41]}, "labels asks for 41 rows, and train has 40"),
        ({}, {"task": "tagging"}, "has a label for each text, and task tagging needs a tag for each word"),
        ({"train": texts("train", 40, "a")}, {}, "all 40 rows of train have the label 'a'; at least two"),
        (
            {"test": [*texts("test", 18), ("new", "c"), ("newer", "d")]},
            {},
            r"2 of 20 rows of test have labels that train lacks \('c', 'd'\); put rows of all labels into train",
        ),
        ({"test": texts("train", 20)}, {}, "20 of 20 rows of test are in train, too; hold out others"),
        ({"validation": texts("train", 20)}, {}, "20 of 20 rows of validation are in train, too"),
        ({"test": []}, {}, "leaves no rows for test"),
        ({"train": [("half \ud83d", "a")]}, {}, "line 1: 'text' is .*, with half of a surrogate pair"),
    ],
)
def test_labels_that_cannot_serve_are_found_before_training(
    recipe: Any, tmp_path: Path, splits: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    path = rows_of(tmp_path / "rows.jsonl", **{**GOOD, **splits})
    with pytest.raises(UserError, match=message):
        checked(recipe, path, **changes)


def test_weights_of_labels_that_there_are_not_are_refused(recipe: Any, tmp_path: Path) -> None:
    path = rows_of(tmp_path / "rows.jsonl", **GOOD)
    checked(recipe, path, class_weights={"a": 2.0})
    with pytest.raises(UserError, match=r"class_weights: .* has no label 'aa'; allowed: a, b; did you mean a"):
        checked(recipe, path, class_weights={"aa": 2.0})
    job = _job(path, task="regression", class_weights="balanced", baselines=[])
    assert (".class_weights", "are of classification and tagging, and task is regression; leave them out") in list(
        needs(recipe, job)
    )


def test_baselines_with_weights_of_labels_have_keys_of_their_own(recipe: Any, tmp_path: Path) -> None:
    path = rows_of(tmp_path / "rows.jsonl", **GOOD)
    asked = {"task": "classification", "class_weights": "balanced"}
    both, one = ("majority", "tfidf"), ("majority",)
    weighted = [settings(recipe, _job(path, **asked, baselines=list(names)), tmp_path) for names in (both, one)]
    assert weighted[0]["weighted"] == ["tfidf"] and "weighted" not in weighted[1]
    assert "weighted" not in settings(recipe, _job(path, task="classification", baselines=list(both)), tmp_path)


def test_adapters_that_cannot_be_made_are_found_before_training(
    recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rows_of(tmp_path / "rows.jsonl", **GOOD)
    monkeypatch.setattr(adapters, "missing", lambda: "need peft; install it")
    with pytest.raises(UserError, match=r"downstream \S+: adapters: need peft; install it\."):
        checked(recipe, path, adapters={"rank": 4})
    job = _job(path, adapters={"rank": 4}, models=["scratch", "frozen"], task="classification", baselines=[])
    assert [where for where, _ in needs(recipe, job)] == [".adapters"]


def test_files_that_are_not_there_are_found_before_training(recipe: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows.jsonl does not exist; correct data.path or models"):
        checked(recipe, tmp_path / "rows.jsonl")
    (tmp_path / "rows.tsv").write_text("text\ttopic\na\tb\n")
    with pytest.raises(UserError, match=r"rows.tsv line 2 has the field 'topic'; expected label, split, text"):
        checked(recipe, tmp_path / "rows.tsv")


def test_what_is_odd_about_labels_is_said_with_numbers(recipe: Any, tmp_path: Path) -> None:
    test = [*texts("test", 17), ("train 0", "a"), ("train 1", "a"), ("new", "c")]
    path = rows_of(tmp_path / "rows.jsonl", **{**GOOD, "test": test})
    checked(recipe, path)
    job = _job(path, task="classification", labels=[30, 50, 90], models=["scratch"])
    known = checks.read(job, Cleaning())
    assert checks.remarks(job, known) == [
        "downstream verbs: 1 of 20 rows of test have labels that train lacks ('c'), and count as wrong",
        "downstream verbs: 2 of 20 rows of test are in train, too",
        "downstream verbs: 2 of 80 rows are labelled differently in another row of the same text",
        "downstream verbs: labels asks for 90 rows, and train has 40",
    ]
    assert checks.fitted(job, known).labels == [30, 40]
    everything = _job(path, task="classification", labels=[30, None, 40], test_rows=None)
    assert checks.fitted(everything, known).labels == [30, 40], "null is all rows"
    assert checks.remarks(everything, known) == checks.remarks(job, known)[:3]
    data = load(job.data, tmp_path)
    said = report.build(job, data, [_cell(number) for number in (30, 50, 90)], "fp32", {}, tmp_path, ["two are odd"])
    assert "Two are odd." in page(said) and said.notes["remarks"] == ["two are odd"]


def _cell(labels: int) -> dict[str, Any]:
    return {"model": "scratch", "kind": "network", "labels": labels, "scores": [0.5], "lr": 1e-3}


def test_files_are_read_once_however_many_tasks_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [_job(rows_of(tmp_path / f"rows{n}.jsonl", **GOOD), task="classification", labels=[4]) for n in range(12)]
    loaded: list[Any] = []
    monkeypatch.setattr(checks, "load", lambda config, *rest: (loaded.append(config.path), load(config, *rest))[1])
    for _ in range(3):
        for job in jobs:
            checks.read(job, Cleaning())
    assert len(loaded) == len(jobs)
    rows_of(tmp_path / "rows0.jsonl", **{**GOOD, "train": texts("train", 30)})
    assert checks.read(jobs[0], Cleaning()).rows["train"] == 30 and len(loaded) == len(jobs) + 1


def test_networks_of_others_are_looked_at_before_training(recipe: Any, tmp_path: Path) -> None:
    path, model = rows_of(tmp_path / "rows.jsonl", **GOOD), tmp_path / "theirs"
    model.mkdir()
    wanted = [("", "config.json cannot be read"), ("{}", "config.json names no model_type")]
    wanted.append(('{"model_type": "bert"}', "holds neither tokenizer.json nor vocab.txt|transformers cannot read"))
    for config, message in wanted:
        (model / "config.json").write_text(config)
        with pytest.raises(UserError, match=message):
            checked(recipe, path, models=[str(model)])
    (model / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n")
    (model / "config.json").write_text('{"model_type": "roberta", "max_position_embeddings": 32}')
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(UserError, match="length 32 exceeds its 31 positions"):
        checked(recipe, path, models=[str(model)])
    checked(recipe, path, models=[str(model)], length=31)


def test_positions_are_counted_as_the_architecture_counts_them(recipe: Any, tmp_path: Path) -> None:
    def problems(architecture: str, length: int, **config: Any) -> list[str]:
        network = recipe.network.model_copy(update={"architecture": architecture, "config": config})
        changed = recipe.model_copy(update={"network": network})
        return [text for _, text in needs(changed, _job(tmp_path, length=length))]

    assert problems("gpt2", 65, n_positions=64) == ["65 exceeds network.config.n_positions 64"]
    assert problems("roberta", 64, max_position_embeddings=64) == [
        "64 exceeds network.config.max_position_embeddings 64, counted from 1 on"
    ]
    assert problems("bert", 513) == ["513 exceeds network.config.max_position_embeddings 512"]
    assert problems("bert", 512) == problems("t5", 9999) == problems("gpt2", 1024) == []


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


def test_layers_that_share_weights_have_no_rates_of_their_own(recipe: Any, tmp_path: Path) -> None:
    def problems(architecture: str) -> list[tuple[str, str]]:
        network = recipe.network.model_copy(update={"architecture": architecture})
        job = _job(tmp_path, pooling="mean", layer_decay=0.9)
        return list(needs(recipe.model_copy(update={"network": network}), job))

    assert problems("albert") == [(".layer_decay", "of 'albert' the layers share their weights; set it to 1.0")]
    assert problems("bart") == [(".layer_decay", "of 'bart' the layers are two stacks; set it to 1.0")]
    assert problems("bert") == []


def test_a_decoder_is_not_asked_at_its_first_token(recipe: Any, tmp_path: Path) -> None:
    config = {"n_embd": 32, "n_head": 2, "n_layer": 1}
    network = recipe.network.model_copy(update={"architecture": "gpt2", "config": config})
    changed = recipe.model_copy(update={"network": network})
    job = _job(tmp_path, task="classification", pooling="cls", baselines=[])
    [(path, text)] = needs(changed, job)
    assert path == ".pooling" and "of 'gpt2' a row's first token sees nothing" in text and "last" in text
    for pooling in ("last", "mean"):
        assert not list(needs(changed, job.model_copy(update={"pooling": pooling})))
    folder = writers.write(tmp_path, "gpt2")
    with pytest.raises(UserError, match="pooling: of 'gpt2' a row's first token sees nothing"):
        checks.check(job.model_copy(update={"length": 16}), [folder], Cleaning())


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
