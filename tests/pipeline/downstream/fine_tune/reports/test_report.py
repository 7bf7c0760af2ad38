"""What the report of fine-tuning says of differences, and what it proposes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_prep.labelled.files import Labelled
from pipeline.downstream.fine_tune.job import Config
from pipeline.downstream.fine_tune.reports import protocol, report
from pipeline.downstream.metrics import METRICS
from pipeline.reports.report import Report
from tests.pipeline.job_checks import assert_announced
from training.models.adapters import AdaptersConfig

DATA = Labelled("tagging", ["O", "X"], {"train": [], "validation": [], "test": []}, "d", "l", "p")


def built(folder: Path, monkeypatch: pytest.MonkeyPatch, **scores: dict[int, list[float]]) -> Report:
    """Of these scores by model and number of labels."""
    monkeypatch.setattr(report.figures, "learning_curve", lambda *_: None)
    labels = list(next(iter(scores.values())))
    values = {
        "name": "verbs", "task": "tagging", "data": {"path": "rows"}, "labels": labels, "models": list(scores),
        "steps": 1, "batch": 8, "length": 32, "lrs": [1e-3], "validation_rows": 1, "test_rows": 1,
    }  # fmt: skip
    cells: list[dict[str, Any]] = [
        {"model": model, "kind": "network", "labels": number, "scores": of_model[number], "lr": 1e-3}
        for number in labels
        for model, of_model in scores.items()
        if number in of_model
    ]
    config = Config.model_validate(values)
    made = report.build(config, DATA, cells, "fp32", {"seed": 0}, folder)
    assert_announced(config, made.numbers)
    return made


@pytest.mark.parametrize(
    ("pretrained", "wins", "clear", "said"),
    [
        ([0.5, 0.7, 0.6], 1, False, "0.067 ± 0.115 better than random weights (1 of 3 seeds; not more"),  # two ties
        ([0.4, 0.3, 0.5], 0, True, "0.133 ± 0.058 worse than random weights (0 of 3 seeds; more"),
        ([0.7, 0.5, 0.3], 1, False, "0.033 ± 0.252 worse than random weights (1 of 3 seeds; not more"),
    ],
)
def test_a_difference_is_clear_beyond_its_spread_and_a_tie_is_no_win(
    pretrained: list[float], wins: int, clear: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built(tmp_path, monkeypatch, pretrained={8: pretrained}, scratch={8: [0.5, 0.5, 0.6]})
    (pair,) = made.notes["paired"]
    assert (pair["wins"], pair["seeds"], pair["clear"]) == (wins, 3, clear) and said in made.verdict
    mean = sum(pretrained) / 3 - 1.6 / 3
    assert made.numbers["difference/pretrained_minus_scratch_8"] == pytest.approx(mean)


def test_what_is_to_be_known_of_a_metric_stands_beside_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "DATA", replace(DATA, metrics=("accuracy",)))
    assert "Ties count." not in built(tmp_path, monkeypatch, pretrained={8: [0.5]}).about
    monkeypatch.setitem(METRICS, "accuracy", replace(METRICS["accuracy"], note="Ties count."))
    assert "\n\nTies count." in built(tmp_path, monkeypatch, pretrained={8: [0.5]}).about


def test_how_long_networks_were_trained_is_said_by_model_and_number_of_labels(tmp_path: Path) -> None:
    values = {
        "name": "verbs", "task": "tagging", "data": {"path": "rows"}, "labels": [8, 40], "models": ["pretrained"],
        "epochs": 3, "batch": 8, "length": 32, "lrs": [1e-3], "validation_rows": 1, "test_rows": None,
        "evaluate_every": 10, "early_stopping": 2, "class_weights": "balanced",
    }  # fmt: skip
    cells: list[dict[str, Any]] = [
        {"model": "pretrained", "kind": "network", "labels": number, "scores": [0.5, 0.6], "lr": 1e-3,
         "steps": [number, number + 2], "best_steps": [4, 4]}
        for number in (8, 1040)
    ]  # fmt: skip
    config = Config.model_validate(values)
    (table,) = protocol.tables(cells, config)
    assert (table.title, table.rows) == ("Steps taken", [["pretrained", "8–10; kept: 4", "1,040–1,042; kept: 4"]])
    assert protocol.description(config) == (
        "3 epochs for every network, scored on validation rows every 10 steps, of which the best state is kept, "
        "ended by 2 evaluations without a better score; labels weighted by how rare they are"
    )
    adapted = config.model_copy(update={"adapters": AdaptersConfig(rank=4), "layer_decay": 0.5})
    cells[0]["weights"] = cells[1]["weights"] = [1234, 56789]
    assert protocol.tables(cells, adapted)[0].rows == [["pretrained", "1,234", "56,789"]]
    assert "adapters of rank 4 (LoRA)" in protocol.description(adapted)
    assert "0.5 times the rate of the one above" in protocol.description(adapted)
    plain = config.model_copy(update=dict.fromkeys(("epochs", "evaluate_every", "early_stopping"), None) | {"steps": 7})
    assert protocol.tables(cells, plain) == []
    named = plain.model_copy(update={"class_weights": {"X": 2.0}})
    assert protocol.description(named) == "7 steps for every network; labels weighted: X 2"
    beside = named.model_copy(update={"baselines": ["majority", "unigram", "window"]})
    assert protocol.description(beside).endswith("X 2 (without effect on majority and unigram)")
    assert protocol.padding(cells) == ""
    cells[0]["padding"], cells[1]["padding"] = 0.124, 0.076
    assert protocol.padding(cells) == "Of all positions in training, 8–12 % are padding."
    assert protocol.padding(cells[:1]) == "Of all positions in training, 12 % are padding."


def test_one_seed_has_no_spread_and_is_never_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = built(tmp_path, monkeypatch, pretrained={8: [0.9]}, scratch={8: [0.1]})
    (pair,) = made.notes["paired"]
    assert (pair["std"], pair["clear"]) == (None, False) and made.candidates[0].spread is None
    assert made.verdict == (
        "With 8 labels pretraining is 0.800 better than random weights (one seed, whose spread is not known)."
    )
    assert "of one seed (examples, weights and order), whose spread is not known; " in made.about
    frozen = built(tmp_path, monkeypatch, pretrained={8: [0.9]}, frozen={8: [0.1]})
    assert "0.800 better than the frozen network (one seed, whose spread is not known)" in frozen.verdict


def test_a_model_that_diverged_has_no_score_and_nothing_is_said_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built(
        tmp_path, monkeypatch, pretrained={8: [0.9, 0.8], 40: [0.9, 0.8]}, scratch={8: [0.1, 0.2]}, frozen={}
    )  # fmt: skip
    tables = {table.title: table.rows for table in made.tables}
    assert tables["Scores"] == [
        ["**pretrained**", "0.850 ± 0.071", "0.850 ± 0.071"], ["scratch", "0.150 ± 0.071", "–"], ["frozen", "–", "–"],
    ]  # fmt: skip
    assert tables["Learning rates chosen"] == [
        ["pretrained", "0.001", "0.001"], ["scratch", "0.001", "–"], ["frozen", "–", "–"],
    ]  # fmt: skip
    assert "With 8 labels" in made.verdict and "With 40 labels" not in made.verdict
    assert "frozen" not in made.verdict and len(made.notes["paired"]) == 1


def test_the_encoder_is_proposed_by_its_score_with_the_most_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = built(
        tmp_path, monkeypatch,
        scratch={40: [0.1, 0.1], 10: [0.1, 0.1]}, pretrained={40: [0.8, 0.6], 10: [0.9, 0.9]},
    )  # fmt: skip
    candidate = made.candidates[0]
    assert candidate.score == pytest.approx(0.7) and candidate.measure == "F1/pretrained_40"
    assert candidate.spread == pytest.approx(0.1414, abs=1e-4)
