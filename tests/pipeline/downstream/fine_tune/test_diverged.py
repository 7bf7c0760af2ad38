"""Networks that diverge, and rows that no metric is defined for: what becomes of their job."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from data_prep.errors import UserError
from data_prep.labelled.files import Example, Labelled
from data_prep.shards.rows import Ragged
from pipeline.downstream.fine_tune import trials
from pipeline.downstream.fine_tune.heads import Encoded, Shape
from pipeline.stage import Context
from tests.pipeline.downstream.fine_tune.topics import JOB, NOTHING, topics


@pytest.fixture
def job(tmp_path: Path) -> trials.Trials:
    return topics(tmp_path)


def diverging(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch, at: Callable[[str, float, int], bool]
) -> list[tuple[str, float, int]]:
    """Let trials diverge by model, learning rate and seed; the higher rates are the better ones. What is tried."""
    asked: list[tuple[str, float, int]] = []

    def trial(model: str, labels: int, seed: int, lr: float, split: str) -> trials.Trial:
        asked.append((model, lr, seed))
        return trials.Trial({} if at(model, lr, seed) else {"accuracy": lr}, NOTHING)

    monkeypatch.setattr(job, "_trial", trial)
    job.job = JOB.model_copy(update={"labels": [20], "scratch_lrs": [1e-3, 1e-2]})
    return asked


def test_rates_at_which_a_network_diverges_are_not_chosen_and_are_named(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(job, monkeypatch, lambda model, lr, seed: lr == 1e-2 and (model == "pretrained" or seed == 1))
    pretrained, scratch = job.run()
    assert (pretrained["lr"], pretrained["tried"]) == (1e-3, {"0.001": 1e-3, "0.01": None})
    assert (scratch["lr"], scratch["scores"], scratch["tried"]) == (1e-3, [1e-3] * 3, {"0.001": 1e-3, "0.01": 1e-2})
    assert job.remarks() == [
        "pretrained from 20 labels diverged at the learning rate 0.01 in 1 of 1 seed",
        "scratch from 20 labels diverged at the learning rate 0.01 in 1 of 4 seeds",
    ]


def test_a_network_to_compare_with_that_diverges_at_every_rate_has_no_score(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(job, monkeypatch, lambda model, lr, seed: model == "scratch")
    (cell,) = job.run()
    assert cell["model"] == "pretrained" and ("scratch", 20) not in job.predicted
    assert job.remarks() == [
        f"scratch from 20 labels diverged at the learning rate {lr} in 1 of 1 seed; it has no score with 20 labels: "
        "set lower rates in scratch_lrs"
        for lr in (0.001, 0.01)
    ]


@pytest.mark.parametrize(("models", "setting"), [(["pretrained", "scratch"], "lrs"), (["scratch"], "scratch_lrs")])
def test_a_job_without_a_network_that_learns_ends(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch, models: list[str], setting: str
) -> None:
    diverging(job, monkeypatch, lambda model, lr, seed: True)
    job.job = job.job.model_copy(update={"models": models})
    with pytest.raises(
        UserError,
        match=rf"^downstream topics: {models[0]} from 20 labels diverged at every learning rate \(0.001, 0.01\), so "
        rf"that its weights or scores are no numbers; set lower ones in {setting}\.$",
    ):
        job.run()


@pytest.mark.parametrize("where", ["weights", "scores"])
@pytest.mark.parametrize("head", ["class", "score", "answer"])
def test_a_network_has_diverged_whose_weights_or_scores_are_no_numbers(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch, head: str, where: str
) -> None:
    """Whatever would be made of them: of classes an answer, of scores an error, of answers no score."""
    network, scores = nn.Linear(2, 2), np.zeros((12, 2), np.float32)
    odd = network.weight.data.numpy() if where == "weights" else scores
    odd[1, 1] = np.nan if head == "class" else np.inf

    def encode(shape: Shape, examples: Any, tokenizer: Any, layout: Any) -> Encoded:
        return Encoded({"input": Ragged.from_rows([[0]] * len(examples))}, examples)

    of_head = SimpleNamespace(encode=encode, predicted=lambda *_: pytest.fail("there is nothing to make answers of"))
    monkeypatch.setattr(job, "head", of_head)
    monkeypatch.setattr(trials, "tokenizer_of", lambda *_, **__: None)
    monkeypatch.setattr(job, "_train", lambda *_: (1, 1, None))
    monkeypatch.setattr(trials, "scores_of", lambda scorer, rows: Ragged.from_lengths(scores, [1] * 12))
    objective: Any = SimpleNamespace(network=network, scores=None)
    monkeypatch.setattr(trials, "learner_of", lambda *_, **__: objective)
    monkeypatch.setattr(job, "_encoder", lambda source: None)
    trial = job.trial("scratch", 20, trials.SELECTION, 0.25, "validation")
    assert trial.diverged and trial.scores == {} and job._score(objective, job.shape, Encoded({}, [])) == -math.inf


def test_samples_that_cannot_be_scored_are_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {
        split: [Example(text=f"{split} {n}", score=float(n)) for n in range(6)]
        for split in ("train", "validation", "test")
    }
    scored = Labelled("regression", [], splits, "made up", "CC0-1.0", "none")
    pretrained: Any = SimpleNamespace(path=tmp_path)
    asked = JOB.model_copy(update={"task": "regression", "labels": [4], "validation_rows": 1})
    built = trials.Trials(asked, {"seed": 5, "precision": "fp32"}, scored, pretrained, Context())
    monkeypatch.setattr(built, "_cell", lambda *_: pytest.fail("it is trained"))
    with pytest.raises(
        UserError, match=r"topics: the 1 rows of validation \(validation_rows\) cannot be scored: the only row"
    ):
        built.run()
