"""What is shown of answers: the wrong ones, the surest first, and figures of their counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.labelled.examples import Answer, Example, Labelled
from pipeline.downstream.fine_tune import answered
from pipeline.downstream.fine_tune.heads import Predicted

SPLITS: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
CASES: dict[str, tuple[list[Example], list[Any], list[list[str]]]] = {
    "classification": (
        [Example(text="a", label=0), Example(text="b", text_pair="c", label=1), Example(text="d", label=1)],
        [0, 0, 0],
        [["d", "X", "O", "90%"], ["b | c", "X", "O", "60%"]],
    ),
    "regression": (
        [Example(text="a", score=1.0), Example(text="b", score=2.0)],
        [1.5, 5.0],
        [["b", "2", "5", "–"], ["a", "1", "1.5", "–"]],
    ),
    "tagging": (
        [Example(words=("a", "b", "c"), tags=(0, 1, 1)), Example(words=("d",), tags=(0,))],
        [[0, 0, 0], [0]],
        [["a [b] c", "X", "O", "80%"]],
    ),
    "choice": ([Example(text="a", choices=("u", "v"), label=1)], [0], [["a", "v", "u", "80%"]]),
    "question-answering": (
        [
            Example(text="a b", text_pair="q", answers=(Answer("b", 2),)),
            Example(text="a b", text_pair="r"),
            Example(text="a b", text_pair="s"),
            Example(text="at the end.", text_pair="t", answers=(Answer("the end", 3),)),
        ],
        ["a", "", "b", "End."],
        [["s", "no answer", "b", "90%"], ["q", "b", "a", "80%"]],
    ),
    "text-to-text": (
        [Example(text="a", target="b "), Example(text="c", target="d")],
        ["b", "e"],
        [["c", "d", "e", "60%"]],
    ),
}


@pytest.mark.parametrize("task", CASES)
def test_wrong_answers_are_shown_the_surest_first(task: Any, tmp_path: Path) -> None:
    examples, answers, wanted = CASES[task]
    sure = [None] * len(answers) if task == "regression" else [0.8, 0.6, 0.9, 0.95][: len(answers)]
    data = Labelled(task, ["O", "X"], SPLITS, "made up", "CC0-1.0", "none")
    tables, figures = answered.shown(data, examples, Predicted(answers, [*sure]), tmp_path)
    assert tables[0].examples and list(tables[0].rows) == wanted
    drawn = {figure.file for figure in figures}
    assert drawn == {path.name for path in tmp_path.iterdir()}
    assert (answered.CONFUSION in drawn) == (task == "classification")
    assert (answered.CALIBRATION in drawn) == (task in ("classification", "choice"))


def test_where_nothing_is_wrong_nothing_is_listed_and_figures_have_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        answered.figures, "confusion", lambda labels, truth, said, path: given.update(pairs=(truth, said))
    )
    monkeypatch.setattr(answered.figures, "reliability", lambda bins, error, path: given.update(bins=bins, error=error))
    data = Labelled("classification", ["O", "X"], SPLITS, "made up", "CC0-1.0", "none")
    examples = [Example(text="a", label=0), Example(text="b", label=1)]
    tables, _ = answered.shown(data, examples, Predicted([0, 1], [0.75, 0.75]), tmp_path)
    assert tables == [] and given["pairs"] == ([0, 1], [0, 1])
    assert given["bins"] == [(0.75, 1.0, 2)] and given["error"] == pytest.approx(25.0)


def test_a_matrix_counts_rows_of_each_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.reports import data as figures

    axes: list[Any] = []
    monkeypatch.setattr(figures, "save", lambda figure, path: (axes.append(figure.axes[0]), path)[1])
    figures.confusion(["a", "b"], [0, 0, 0, 1], [0, 1, 1, 1], tmp_path / "x.png")
    (image,) = axes[0].images
    assert np.allclose(image.get_array(), [[1 / 3, 2 / 3], [0, 1]])
    assert sorted(text.get_text() for text in axes[0].texts) == ["1", "1", "2"]
