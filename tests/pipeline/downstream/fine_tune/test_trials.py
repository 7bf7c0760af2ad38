"""Which examples are learned from, which choose a learning rate, and which are reported."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from data_prep.errors import UserError
from data_prep.labelled.examples import Answer
from data_prep.labelled.files import Example, Labelled
from data_prep.shards.rows import Ragged
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune import baselines, trials
from pipeline.downstream.fine_tune.examples import drawn, label_weights, some, steps_of
from pipeline.downstream.fine_tune.heads import Encoded, Predicted, Shape, Span, shape_of
from pipeline.downstream.fine_tune.job import Config
from pipeline.stage import Context
from tests.pipeline.downstream.fine_tune.topics import DATA, FOUND, JOB, NOTHING, topics


@pytest.fixture
def job(tmp_path: Path) -> trials.Trials:
    return topics(tmp_path)


def test_rates_are_chosen_by_validation_rows_and_examples_of_no_reported_seed(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, int, float, str]] = []

    def trial(model: str, labels: int, seed: int, lr: float, split: str) -> trials.Trial:
        asked.append((model, labels, seed, lr, split))
        return trials.Trial({"accuracy": lr if split == "validation" else -lr}, NOTHING)  # test would choose the lowest

    monkeypatch.setattr(job, "trial", trial)
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

    def encode(shape: Shape, examples: Any, tokenizer: Any, layout: Any) -> Encoded:
        read.append([example.text for example in examples])
        return Encoded({"input": Ragged.from_rows([[0]] * len(examples))}, examples)

    def predicted(shape: Shape, rows: Encoded, scores: Ragged) -> Predicted:
        return Predicted([example.label for example in rows.examples], [None] * len(rows))

    class Training:
        def __init__(self, objective: Any, stream: Any, config: Any, **options: Any) -> None:
            trained.append({"stream": stream, "config": config, **options})

        def run(self) -> dict[str, int]:
            """Nothing is trained."""
            return {"step": trained[-1]["config"].steps}

    monkeypatch.setattr(job, "head", SimpleNamespace(encode=encode, predicted=predicted, outputs=lambda shape: 2))
    monkeypatch.setattr(trials, "tokenizer_of", lambda shape, folder, framed: None)
    monkeypatch.setattr(trials, "Training", Training)
    objective = SimpleNamespace(network=nn.Linear(2, 3), unit="tokens", scores=lambda rows: rows["input"])
    monkeypatch.setattr(trials, "learner_of", lambda *_, **__: objective)
    monkeypatch.setattr(trials, "stream_of", lambda table, batch, seed, window: (table.columns["input"], batch, seed))
    monkeypatch.setattr(job, "_encoder", lambda source: None)
    seed = -1 if split == "validation" else 1
    trial = job.trial("pretrained", 20, seed, 0.25, split)
    assert (trial.scores, trial.steps, trial.best_step, trial.weights) == ({"accuracy": 1.0}, 20, 20, (9, 9))
    learned, judged = read
    assert learned == [f"train {number}" for number in drawn(60, 20, 5, seed)]
    count = {"validation": 12, "test": 25}[split]
    assert judged == [example.text for example in some(DATA.splits[split], count, 5)] and len(judged) == count
    (first,) = trained
    assert (first["config"].lr, first["config"].steps, first["config"].global_batch) == (0.25, 20, 8)
    assert first["stream"][1:] == (8, first["seed"]) and "held_out" not in first and first["goes_on"] is None
    job.trial("scratch", 20, seed if split == "validation" else 2, 0.25, split)
    assert len(read) == 3, "held-out examples are read once"
    assert (trained[1]["seed"] != first["seed"]) == (split == "test"), "another seed, another order"


def test_the_state_that_answers_validation_rows_best_is_judged_on_the_others(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.job = JOB.model_copy(update={"steps": None, "epochs": 4.0, "evaluate_every": 2, "early_stopping": 2})
    read: list[str] = []
    weight = torch.nn.Parameter(torch.zeros(()))
    network = torch.nn.Module()
    network.register_parameter("weight", weight)
    rights = {0: 3, 2: 5, 4: 9, 6: 2, 8: 9, 10: 12}  # rows of validation that are right after so many steps

    def encode(shape: Shape, examples: Any, tokenizer: Any, layout: Any) -> Encoded:
        read.append(examples[0].text.partition(" ")[0])
        return Encoded({"input": Ragged.from_rows([[0]] * len(examples))}, examples)

    def predicted(shape: Shape, rows: Encoded, scores: Ragged) -> Predicted:
        right = rights[int(weight)]
        answers = [e.label if place < right else 1 - e.label for place, e in enumerate(rows.examples)]
        return Predicted(answers, [None] * len(rows))

    class Training:
        def __init__(self, objective: Any, stream: Any, config: Any, goes_on: Any, **_: Any) -> None:
            self.steps, self.goes_on = config.steps, goes_on
            assert (config.steps, config.warmup_steps, config.evaluate_every) == (10, 1, 2)

        def run(self) -> dict[str, int]:
            for step in range(2, self.steps + 1, 2):
                weight.data.fill_(step)
                if not self.goes_on(step):
                    break
            return {"step": step}

    monkeypatch.setattr(job, "head", SimpleNamespace(encode=encode, predicted=predicted, outputs=lambda shape: 2))
    monkeypatch.setattr(trials, "tokenizer_of", lambda shape, folder, framed: None)
    monkeypatch.setattr(trials, "Training", Training)
    objective = SimpleNamespace(network=network, unit="tokens", scores=lambda rows: rows["input"])
    monkeypatch.setattr(trials, "learner_of", lambda *_, **__: objective)
    monkeypatch.setattr(trials, "stream_of", lambda *_: None)
    monkeypatch.setattr(job, "_encoder", lambda source: None)
    trial = job.trial("pretrained", 20, 0, 0.25, "test")
    assert (trial.steps, trial.best_step, trial.scores) == (8, 4, {"accuracy": 9 / 25})
    assert read == ["train", "validation", "test"]


def test_a_trial_is_found_again_by_all_that_it_depends_on(job: trials.Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(trials, "once", lambda context, identity, *_: (asked.append(identity), FOUND)[1])
    job.run()
    assert len({tuple(identity.values()) for identity in asked}) == len(asked) == job.total
    assert {"model", "labels", "seed", "lr", "split"} <= asked[0].keys()


def test_every_trial_has_an_encoder_of_its_own(job: trials.Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretrained weights are as they were before another trial; from scratch there are none of them."""
    opened: list[Path] = []

    class Stored:
        def __init__(self, weights: list[float]) -> None:
            self.weights = weights

        def copied(self) -> Stored:
            return Stored([*self.weights])

        def from_random_weights(self) -> Stored:
            return Stored([0.5])

    stored = Stored([1.0])
    monkeypatch.setattr(trials, "open_source", lambda folder, shape: (opened.append(folder), stored)[1])
    encoders: Any = [job._encoder(job.sources[name]) for name in ("pretrained", "pretrained", "scratch")]
    first, second, fresh = encoders
    first.weights[0] = 2.0
    assert (second.weights, stored.weights) == ([1.0], [1.0]), "trained in one trial alone"
    assert fresh.weights == [0.5] and len(opened) == 2


def test_a_single_rate_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single = JOB.model_copy(update={"lrs": [1e-3], "models": ["pretrained"]})
    settings = {"seed": 5, "precision": "fp32"}
    pretrained: Any = SimpleNamespace(path=tmp_path)
    built = trials.Trials(single, settings, DATA, pretrained, Context(downloads=tmp_path))
    asked: list[int] = []
    monkeypatch.setattr(built, "trial", lambda model, labels, seed, lr, split: (asked.append(seed), FOUND)[1])
    assert [cell["lr"] for cell in built.run()] == [1e-3, 1e-3]
    assert asked == [0, 1, 2, 0, 1, 2] and built.total == len(asked)


def test_baselines_learn_from_the_same_examples_and_are_tested_on_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], list[str]]] = []

    def majority(data: Labelled, train: Any, test: Any) -> list[Any]:
        seen.append(([example.text for example in train], [example.text for example in test]))
        return [example.label if place % 2 else 1 - example.label for place, example in enumerate(test[:24])] + [None]

    monkeypatch.setitem(baselines.METHODS["classification"], "majority", majority)
    cells = baselines.cells(JOB, 5, DATA)
    assert [cell["labels"] for cell in cells] == [4, 20] and all(cell["scores"] == [0.48] * 3 for cell in cells)
    test = [example.text for example in some(DATA.splits["test"], 25, 5)]
    assert seen == [
        ([f"train {number}" for number in drawn(60, labels, 5, seed)], test) for labels in (4, 20) for seed in range(3)
    ]


def test_baselines_that_learn_by_a_loss_weigh_labels_as_networks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of words that say nothing, the rarer label is as likely as the other once labels weigh alike."""
    train = [Example(text="same words", label=int(place == 0)) for place in range(10)]
    assert baselines.tfidf(DATA, train, train[:1]) == [0]
    assert baselines.tfidf(DATA, train, train[:1], np.array([1.0, 20.0])) == [1]
    tagged = [Example(text="", words=("same",), tags=(example.label,)) for example in train]
    assert baselines.window(DATA, tagged, tagged[:1]) == [[0]]
    assert baselines.window(DATA, tagged, tagged[:1], np.array([1.0, 20.0])) == [[1]]
    given: dict[str, Any] = {}

    def method(name: str) -> Any:
        return lambda data, train, test, **options: given.update({name: options}) or [0] * len(test)

    for name in ("majority", "tfidf"):
        monkeypatch.setitem(baselines.METHODS["classification"], name, method(name))
    asked = {"baselines": ["majority", "tfidf"], "class_weights": {"b": 3.0}, "labels": [20]}
    baselines.cells(JOB.model_copy(update=asked), 5, DATA)
    assert given["majority"] == {} and given["tfidf"]["weights"].tolist() == [1.0, 3.0]


def test_a_job_that_goes_on_takes_up_the_trials_that_are_finished(
    job: trials.Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learned of how many weights, and the share of padding, as the first attempt had them."""
    predicted = Predicted([1, 0], [0.75, None], 1, [], [[Span("a", 3, 0.75)], [Span("", None, 1.0)]], [-1.5, math.inf])
    counted = {"train": [Counted(3, 20, "rows are cut")], "test": [Counted(0, 25, "rows are cut")]}
    made = trials.Trial({"accuracy": 0.5, "f1": 0.25}, predicted, 20, 10, (7, 9), 0.125, -2.5, counted)
    job.context = Context(work=tmp_path)
    monkeypatch.setattr(job, "_trial", lambda *_: made)
    assert job.trial("pretrained", 20, 1, 0.25, "test") == made
    monkeypatch.setattr(job, "_trial", lambda *_: pytest.fail("it is finished"))
    job.counted.clear()
    assert job.trial("pretrained", 20, 1, 0.25, "test") == made
    assert job.remarks() == [f"train by {tmp_path / 'model'}, 20 labels: 3 of 20 rows are cut"]


def test_what_is_cut_of_training_rows_is_said_of_the_worst_seed(
    job: trials.Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(model: str, labels: int, seed: int, lr: float, split: str) -> trials.Trial:
        counted = {"train": [Counted(max(seed, 0), labels, "rows are cut")], split: [Counted(7, 25, "rows are cut")]}
        return trials.Trial({"accuracy": 0.5}, NOTHING, counted=counted)

    monkeypatch.setattr(job, "_trial", trial)
    job.run()
    folder = job.sources["pretrained"].folder
    assert job.remarks() == [
        f"train by {folder}, 4 labels: 2 of 4 rows are cut, in the seed with most",
        f"validation by {folder}: 7 of 25 rows are cut",
        f"test by {folder}: 7 of 25 rows are cut",
        f"train by {folder}, 20 labels: 2 of 20 rows are cut, in the seed with most",
    ]


QUESTIONS = Labelled(
    "question-answering",
    [],
    {
        split: [Example(text="a b", text_pair=f"{split} {n}", answers=(Answer("b", 2),) * (n % 2)) for n in range(6)]
        for split in ("train", "validation", "test")
    },
    "made up", "CC0-1.0", "none",
)  # fmt: skip


@pytest.mark.parametrize("reported", ["test", "validation"])
def test_a_threshold_is_chosen_by_validation_rows_and_never_by_those_that_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reported: str
) -> None:
    splits = QUESTIONS.splits if reported == "test" else {**QUESTIONS.splits, "test": []}
    asked = JOB.model_copy(update={"task": "question-answering"})
    pretrained: Any = SimpleNamespace(path=tmp_path)
    built = trials.Trials(
        asked, {"seed": 5, "precision": "fp32"}, replace(QUESTIONS, splits=splits), pretrained, Context()
    )
    calls: list[tuple[str, str, float]] = []

    def encode(shape: Shape, examples: Any, tokenizer: Any, layout: Any) -> Encoded:
        return Encoded({"input": Ragged.from_rows([[0]] * len(examples))}, examples)

    def called(name: str, rows: Encoded, shape: Shape) -> None:
        calls.append((name, str(rows.examples[0].text_pair).partition(" ")[0], shape.threshold))

    def fitted(shape: Shape, rows: Encoded, scores: Ragged) -> Shape:
        called("fitted", rows, shape)
        return replace(shape, threshold=1.5)

    def predicted(shape: Shape, rows: Encoded, scores: Ragged) -> Predicted:
        called("predicted", rows, shape)
        return Predicted(["b"] * len(rows), [None] * len(rows))

    monkeypatch.setattr(built, "head", SimpleNamespace(encode=encode, predicted=predicted, fitted=fitted))
    monkeypatch.setattr(trials, "tokenizer_of", lambda *_, **__: None)
    monkeypatch.setattr(built, "_train", lambda *_: (1, 1, None))
    objective = SimpleNamespace(network=nn.Linear(2, 3), scores=lambda rows: rows["input"])
    monkeypatch.setattr(trials, "learner_of", lambda *_, **__: objective)
    monkeypatch.setattr(built, "_encoder", lambda source: None)
    trial = built.trial("scratch", 6, 0, 0.25, reported)
    if reported == "test":
        assert calls == [("fitted", "validation", 0.0), ("predicted", "test", 1.5)] and trial.threshold == 1.5
        assert set(trial.counted) == {"train", "validation", "test"}
        (about,) = built.remarks()
        assert about.startswith("best-exact and best-f1 are those with the threshold")
    else:
        assert calls == [("predicted", "validation", 0.0)] and trial.threshold is None
        assert "no threshold is chosen" in built.remarks()[0]


def test_what_answers_can_be_is_known_from_the_examples_that_are_learned_from() -> None:
    train = [Example(text=str(score), score=score) for score in (1.0, 3.0, 100.0)]
    scored = Labelled("regression", [], {"train": train}, "made up", "CC0-1.0", "none")
    assert shape_of(scored, learned=train[:2]).scale == (2.0, 1.0)
    answered = [example for example in QUESTIONS.splits["train"] if example.answers]
    assert shape_of(QUESTIONS).unanswerable and not shape_of(QUESTIONS, learned=answered).unanswerable


def test_rows_that_teach_nothing_are_not_trained_on(job: trials.Trials) -> None:
    rows, odd = {"input": Ragged.from_rows([[0]])}, [Counted(1, 1, "odd")]
    nothing = Encoded(rows, [Example()], odd, teaches=np.zeros(1, bool))  # type: ignore[arg-type]
    any_objective: Any = None
    with pytest.raises(UserError, match=r"downstream topics: no row of train can be learned \(1 of 1 odd\); mend"):
        job._train(any_objective, job.shape, nothing, job.sources["pretrained"], 0.1, 1)


def test_epochs_are_passes_over_the_rows() -> None:
    def steps(epochs: float, rows: int) -> int:
        return steps_of(JOB.model_copy(update={"steps": None, "epochs": epochs}), rows)

    assert steps_of(JOB, 1000) == 20
    assert [steps(1.0, 80), steps(1.0, 81), steps(2.5, 80), steps(0.01, 80)] == [10, 11, 25, 1]
    assert steps(3.0, 5) == 3, "a batch of fewer rows is all of them"


def test_rare_labels_weigh_more() -> None:
    labels = [0, 0, 0, 2, 2, 0]
    data = Labelled("classification", ["a", "b", "c"], DATA.splits, "made up", "CC0-1.0", "none")
    examples = [Example(text=str(place), label=label) for place, label in enumerate(labels)]
    balanced = label_weights("balanced", data, examples)
    assert balanced is not None and balanced.tolist() == [6 / (2 * 4), 1.0, 6 / (2 * 2)]
    assert balanced[[0, 2]].tolist() == compute_class_weight("balanced", classes=np.array([0, 2]), y=labels).tolist()
    tags = Labelled("tagging", ["O", "X"], {}, "made up", "CC0-1.0", "none")
    words = [Example(words=("a", "b", "c"), tags=(0, 0, 1)), Example(words=("d",), tags=(0,))]
    of_words = label_weights("balanced", tags, words)
    assert of_words is not None and of_words.tolist() == [4 / (2 * 3), 4 / (2 * 1)]
    named = label_weights({"c": 2.5}, data, examples)
    assert named is not None and named.tolist() == [1.0, 1.0, 2.5]
    assert label_weights(None, data, examples) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2}, "takes one of steps and epochs, found both"),
        ({"steps": None}, "takes one of steps and epochs, found neither"),
        ({"early_stopping": 2}, "'early_stopping' counts evaluations; set 'evaluate_every', too"),
        (
            {"task": "question-answering", "length": 7},
            "a length of 7 with a window_overlap of 2 leaves windows no room",
        ),
        ({"task": "tagging", "window_overlap": 30}, "a length of 32 with a window_overlap of 30 leaves windows no"),
        ({"class_weights": {"a": 0.0}}, "class_weights: 'a' has the weight 0; weights are positive"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config.model_validate({**JOB.model_dump(mode="json"), **changes})


def test_an_overlap_is_of_tasks_with_windows() -> None:
    assert Config.model_validate({**JOB.model_dump(mode="json"), "length": 32, "window_overlap": 128}).length == 32


def test_settings_that_are_not_set_are_in_no_key() -> None:
    values = JOB.model_dump(mode="json")
    added = {"epochs": 2.0, "evaluate_every": 5, "early_stopping": 2, "layer_decay": 0.9, "class_weights": "balanced"}
    added["max_question"] = 100
    added["adapters"] = {"rank": 4, "alpha": 16.0, "dropout": 0.0, "modules": None}
    assert not {"submission", *added} & values.keys()
    asked = {**values, "steps": None, **added}
    assert Config.model_validate(asked).model_dump(mode="json") == asked
