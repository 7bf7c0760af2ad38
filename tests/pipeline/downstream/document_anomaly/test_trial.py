"""Which documents thresholds come from, which baselines learn from, and which are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.text.passages import Passage
from pipeline.downstream.document_anomaly import trial
from pipeline.downstream.document_anomaly.job import NORMAL, REPLACED, SHUFFLED, Config
from pipeline.downstream.document_anomaly.report import SURPRISAL
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
    for normal, odd in job._draws(pools, train):
        assert list(odd) == [SHUFFLED, REPLACED]
        drawn = {passage.document for passage in normal}
        assert len(drawn) == 20 and not drawn & seen
        assert all({passage.document for passage in documents} == drawn for documents in odd.values())
        new = {word for passage in odd[REPLACED] for word in passage.text.rstrip(".").split()}
        assert "zebra" in new and not {word for word in new if word.startswith("train")}
        seen |= drawn
    assert len(seen) == 60


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
