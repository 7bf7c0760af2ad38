"""Which documents thresholds come from, which baselines learn from, and which are reported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_prep.text.passages import Passage
from pipeline.downstream.document_anomaly import trial
from pipeline.downstream.document_anomaly.job import NORMAL, REPLACED, SHUFFLED, Config
from pipeline.downstream.document_anomaly.report import EXCESS, OVER_UNIGRAM, SURPRISAL
from pipeline.scoring import thresholds
from pipeline.stage import Context

JOB = Config.model_validate(
    {
        "task": "document-anomaly", "name": "unusual", "length": 32, "rounds": 4, "documents": 20, "draws": 3,
        "threshold_documents": 40, "train_documents": 60, "words": 10,
    }
)  # fmt: skip


class Detector:
    threshold = 5.0

    def save(self, folder: Path) -> None:
        """Nothing is kept."""


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    made: Any = object.__new__(trial.Trial)
    vars(made).update(
        job=JOB, seed=0, corpus=tmp_path, context=Context(downloads=tmp_path), length=32, rounds=4, texts=None
    )

    def of_split(corpus: Path, split: str, words: int | None, limit: int, seed: int) -> list[Passage]:
        assert (corpus, words, seed) == (tmp_path, 10, 0)
        return [Passage(f"{split} {number}", 0, [f"{split} word{number} goes on."]) for number in range(limit)]

    monkeypatch.setattr(trial.passages, "of_split", of_split)
    return made


def names(documents: Any) -> set[str]:
    return {passage.document.split()[0] for passage in documents}


def test_every_step_has_its_own_documents(job: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fitted, drawn_by, scored, kept = [], [], [], []

    def scores(documents: Any, baselines: Any) -> Any:
        scored.append((names(documents), len(documents), baselines))
        return trial.ScoredDocuments(None, None, {SURPRISAL: np.arange(float(len(documents)))})  # type: ignore[arg-type]

    def by_tail(normal: np.ndarray, share: float) -> thresholds.Threshold:
        drawn_by.append(len(normal))
        return thresholds.Threshold(7.0, None)

    monkeypatch.setattr(job, "_baselines", lambda train: (fitted.append((names(train), len(train))), {"one": None})[1])
    monkeypatch.setattr(job, "_scored", scores)
    monkeypatch.setattr(
        job, "_detector", lambda held_out: (drawn_by.append(len(held_out.scores[SURPRISAL])), Detector())[1]
    )
    monkeypatch.setattr(trial.thresholds, "by_tail", by_tail)
    monkeypatch.setattr(trial, "_shown", lambda *arguments: arguments)
    monkeypatch.setattr(trial, "_measure", lambda *_: None)
    monkeypatch.setattr(trial, "build", lambda *arguments: arguments)
    monkeypatch.setattr(trial, "Corpus", lambda folder, split: split)
    monkeypatch.setattr(trial.training_rows, "of_documents", lambda split: np.array([len(split)], np.uint64))
    monkeypatch.setattr(trial.training_rows, "save", lambda folder, digests: kept.extend(digests.tolist()))
    _, _, shown, read, _, _ = job.run(tmp_path)
    assert fitted == [({"train"}, 60)]
    assert scored[0] == ({"validation"}, 40, {}) and drawn_by == [40, 40]
    assert [(split, count) for split, count, _ in scored[1:]] == [({"test"}, 20)] * 9, "normal, shuffled, replaced"
    assert shown[5] == {"by quantile": 5.0, "by tail": 7.0}
    assert {name: names(documents) for name, documents in read.items()} == {
        "training": {"train"},
        "validation": {"validation"},
    }
    assert kept == [len("train"), len("validation")], "what a comparison of detectors leaves out"


def test_draws_are_of_different_test_documents_and_words_of_training_ones(job: Any) -> None:
    pools, _ = job._pools()
    assert {name: names(documents) for name, documents in pools.items()} == {NORMAL: {"test"}}
    train = [Passage("train", 0, ["zebra zebra."])]
    seen: set[str] = set()
    orders: list[str] = []
    for normal, odd in job._draws(pools, train):
        assert list(odd) == [SHUFFLED, REPLACED]
        drawn = {passage.document for passage in normal}
        assert len(drawn) == 20 and not drawn & seen
        assert all({passage.document for passage in documents} == drawn for documents in odd.values())
        orders.append("".join(word[0] for word in odd[SHUFFLED][0].text.split()))
        new = {word for passage in odd[REPLACED] for word in passage.text.rstrip(".").split()}
        assert "zebra" in new and not {word for word in new if word.startswith("train")}
        seen |= drawn
    assert len(seen) == 60
    assert len(set(orders)) > 1 and {"".join(sorted(order)) for order in orders} == {"gotw"}, "each in its own way"


def test_surprisal_over_unigram_is_their_difference_and_baselines_score_the_same_documents(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, ours = SimpleNamespace(tokens="tokens"), np.array([4.0, 9.0])
    surprisals = SimpleNamespace(mean=lambda: ours, excess=lambda: ours / 2)
    vars(job).update(
        network=SimpleNamespace(surprisals=lambda tokens: surprisals), unigram=lambda documents: ours - 1.5
    )
    monkeypatch.setattr(job, "_read", lambda documents: read)
    scores = job._scored([], {"length": lambda documents: np.full(2, documents is read)}).scores
    assert {name: values.tolist() for name, values in scores.items()} == {
        SURPRISAL: [4, 9], EXCESS: [2, 4.5], OVER_UNIGRAM: [1.5, 1.5], "length": [1, 1]
    }  # fmt: skip


@pytest.mark.parametrize("asked", [True, False])
def test_a_network_of_random_weights_has_the_seed_of_the_recipe(
    asked: bool, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(job, "_network", lambda random=None: (opened.append(random), f"random {random}")[1])
    monkeypatch.setattr(job, "_read", lambda documents: SimpleNamespace(tokens=documents))
    monkeypatch.setattr(trial, "Unigram", lambda tokens, vocabulary: tokens)
    monkeypatch.setattr(trial.document_baselines, "fit", lambda *given: given)
    methods = ["length", *(["random-network"] if asked else [])]
    vars(job).update(
        seed=11, network=SimpleNamespace(specials=SimpleNamespace(vocabulary=50)),
        job=JOB.model_copy(update={"baselines": methods}),
    )  # fmt: skip
    train: Any = ["train"]
    *_, vocabulary, random, seed = job._baselines(train)
    assert (vocabulary, seed, job.unigram) == (50, 11, train)
    assert (opened, random) == (([11], "random 11") if asked else ([], None))


def test_the_threshold_is_of_the_validation_documents(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(trial, "DocumentDetector", lambda *arguments: arguments)
    monkeypatch.setattr(trial, "by_document", lambda tokens: type("Lengths", (), {"lengths": tokens}))
    monkeypatch.setattr(trial.Baseline, "of", lambda columns: given.update(columns))
    vars(job).update(network="network", model=Path("model"), text_field="text")
    scores = np.arange(50.0)
    held_out = trial.ScoredDocuments(np.arange(50), None, {SURPRISAL: scores, "excess": -scores})  # type: ignore[arg-type]
    threshold = job._detector(held_out)[3]
    assert threshold == thresholds.by_quantile(scores, JOB.false_alarms).value
    assert np.array_equal(given["score"], scores) and np.array_equal(given["tokens"], np.arange(50))
