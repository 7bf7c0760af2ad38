"""Which examples are learned from, which choose a learning rate, and which are reported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_prep.labelled.files import Example, Labelled
from pipeline.downstream.fine_tune import baselines, metrics, trials
from pipeline.downstream.fine_tune.examples import drawn, some
from pipeline.downstream.fine_tune.job import Config
from pipeline.stage import Context

DATA = Labelled(
    "classification",
    ["a", "b"],
    {
        split: [Example(text=f"{split} {number}", label=number % 2) for number in range(count)]
        for split, count in (("train", 60), ("validation", 30), ("test", 50))
    },
    "made up", "CC0-1.0", "none",
)  # fmt: skip
JOB = Config.model_validate(
    {
        "name": "topics", "task": "classification", "data": {"path": "rows.jsonl"}, "labels": [4, 20], "seeds": 3,
        "steps": 20, "batch": 8, "length": 32, "lrs": [1e-3, 1e-2], "scratch_lrs": [3e-3, 1e-1, 5e-3],
        "validation_rows": 12, "test_rows": 25, "baselines": ["majority"],
    }
)  # fmt: skip


@pytest.fixture
def job(tmp_path: Path) -> trials.Trials:
    settings = {"seed": 5, "precision": "fp32"}
    pretrained: Any = SimpleNamespace(path=tmp_path)
    return trials.Trials(JOB, settings, DATA, pretrained, Context(downloads=tmp_path, placement={"threads": 1}))


def test_rates_are_chosen_by_validation_rows_and_examples_of_no_reported_seed(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, int, float, str]] = []

    def trial(model: str, labels: int, seed: int, lr: float, split: str) -> float:
        asked.append((model, labels, seed, lr, split))
        return lr if split == "validation" else -lr  # test rows would choose the lowest

    monkeypatch.setattr(job, "_trial", trial)
    cells = job.run()
    tried = [call for call in asked if call[4] == "validation"]
    reported = [call for call in asked if call[4] == "test"]
    rates = {"pretrained": [1e-3, 1e-2], "scratch": [3e-3, 1e-1, 5e-3]}
    assert [call[:4] for call in tried] == [
        (model, labels, -1, lr) for labels in (4, 20) for model, lrs in rates.items() for lr in lrs
    ]
    assert [call[:4] for call in reported] == [
        (model, labels, seed, max(lrs)) for labels in (4, 20) for model, lrs in rates.items() for seed in (0, 1, 2)
    ]
    assert len(asked) == len(tried) + len(reported) == job.total
    assert [cell["lr"] for cell in cells] == [1e-2, 1e-1] * 2
    assert [cell["scores"] for cell in cells] == [[-1e-2] * 3, [-1e-1] * 3] * 2


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_trial_learns_from_training_examples_alone(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    read: list[list[str]] = []
    trained: list[dict[str, Any]] = []

    def encode(data: Labelled, examples: Any, folder: Path, length: int, framed: bool) -> Any:
        read.append([example.text for example in examples])
        rows: Any = {"label": np.array([example.label for example in examples])}
        return trials.Encoded(rows, rows["label"], np.ones(len(examples), bool), 0)

    class Training:
        def __init__(self, objective: Any, stream: Any, config: Any, **options: Any) -> None:
            trained.append({"stream": stream, "config": config, **options})

        def run(self) -> None:
            """Nothing is trained."""

    monkeypatch.setattr(trials, "encode", encode)
    monkeypatch.setattr(trials, "Training", Training)
    monkeypatch.setattr(trials, "FineTuning", lambda *_, **__: SimpleNamespace(predict=None))
    monkeypatch.setattr(trials, "stream_of", lambda table, batch, seed, window: (table.columns["label"], batch, seed))
    monkeypatch.setattr(trials, "predict", lambda predictor, rows: rows.truth)
    monkeypatch.setattr(trials.Encoded, "__len__", lambda encoded: len(encoded.truth))
    monkeypatch.setattr(job, "_encoder", lambda source: None)
    assert job._trial("pretrained", 20, 1, 0.25, split) == 1.0
    learned, judged = read
    assert learned == [f"train {number}" for number in drawn(60, 20, 5, 1)]
    count = {"validation": 12, "test": 25}[split]
    assert judged == [example.text for example in some(DATA.splits[split], count, 5)] and len(judged) == count
    (first,) = trained
    assert (first["config"].lr, first["config"].steps, first["config"].global_batch) == (0.25, 20, 8)
    assert first["stream"][1:] == (8, first["seed"]) and "held_out" not in first
    job._trial("scratch", 20, 2, 0.25, split)
    assert len(read) == 3, "held-out examples are read once"
    assert trained[1]["seed"] != first["seed"], "another seed, another order"


def test_a_trial_is_found_again_by_all_that_it_depends_on(job: trials.Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(trials, "once", lambda context, identity, *_: (asked.append(identity), 0.5)[1])
    job.run()
    assert len({tuple(identity.values()) for identity in asked}) == len(asked) == job.total
    assert {"model", "labels", "seed", "lr", "split"} <= asked[0].keys()


def test_every_trial_has_an_encoder_of_its_own(job: trials.Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretrained weights are as they were before another trial; from scratch there are none of them."""
    opened: list[Path] = []
    stored = SimpleNamespace(config="its shape", weights=[1.0])
    networks = SimpleNamespace(
        open_trainable=lambda folder: (opened.append(folder), stored)[1],
        from_random_weights=lambda model: SimpleNamespace(config=model.config, weights=["random"]),
    )
    monkeypatch.setattr(trials, "module_of", lambda folder: networks)
    first, second, fresh = (job._encoder(job.sources[name]) for name in ("pretrained", "pretrained", "scratch"))
    first.weights[0] = 2.0
    assert (second.weights, stored.weights) == ([1.0], [1.0]), "trained in one trial alone"
    assert (fresh.config, fresh.weights) == ("its shape", ["random"]) and len(opened) == 2


def test_words_that_do_not_fit_count_as_wrong() -> None:
    truth = np.array([0, 1, 1, 0])
    rows: Any = trials.Encoded({}, truth, np.array([True, True, False, False]), 0)
    assert metrics.score(DATA, rows, np.array([0, 1])) == 0.5


def test_baselines_learn_from_the_same_examples_and_are_tested_on_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], list[str]]] = []

    def score(name: str, data: Labelled, train: Any, test: Any) -> float:
        seen.append(([example.text for example in train], [example.text for example in test]))
        return 0.5

    monkeypatch.setattr(baselines, "score", score)
    cells = baselines.cells(JOB, 5, DATA)
    assert [cell["labels"] for cell in cells] == [4, 20] and all(cell["scores"] == [0.5] * 3 for cell in cells)
    test = [example.text for example in some(DATA.splits["test"], 25, 5)]
    assert seen == [
        ([f"train {number}" for number in drawn(60, labels, 5, seed)], test) for labels in (4, 20) for seed in range(3)
    ]
