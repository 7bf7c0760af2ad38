"""Answers as texts: what a network is given and is to write, and what is made of what it wrote."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_prep.errors import UserError
from data_prep.labelled.examples import Answer, Example, Labelled
from data_prep.labelled.task import task_of
from data_prep.labelled.text_to_text import in_one_text, prompt_of
from data_prep.shards.rows import Ragged, ragged
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Shape, module_of, shape_of, texts, tokenizer_of
from tests.training.inference import writers

LAYOUT = Layout(20, 5, max_answer=8)


@pytest.fixture(scope="module", params=["gpt2", "t5"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return writers.write(tmp_path_factory.mktemp(request.param), request.param)


CASES: list[tuple[Shape, Example, str, str, Any]] = [
    (Shape("class", ("a cat", "a dog"), written=True), Example(text="it sat", label=1), "it sat", "a dog", 1),
    (Shape("score", written=True), Example(text="a", text_pair="b", score=2.45), "a b", "2.4", 2.4),
    (
        Shape("answer", written=True),
        Example(text="the cat sat", text_pair="who?", answers=(Answer("cat", 4), Answer("the cat", 0))),
        "question: who ? context: the cat sat", "cat", "cat",
    ),
    (
        Shape("answer", written=True), Example(text="the cat", text_pair="why?"),
        "question: why ? context: the cat", "", "",
    ),
    (Shape("text", written=True), Example(text="on a mat", target="on a log"), "on a mat", "on a log", "on a log"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(CASES)))
def test_what_is_to_be_written_is_read_as_the_answer(folder: Path, case: int) -> None:
    shape, example, source, target, answer = CASES[case]
    spelled = tokenizer_of(shape, folder, framed=False)
    assert (texts.source_of(shape, example), texts.target_of(shape, example)) == (source, target)
    encoded = module_of(shape).encode(shape, [example], spelled, Layout(64, 5))
    ids = encoded.rows["target_tokens"].row(0).tolist()
    assert ids[-1] == spelled.end and not encoded.remarks
    predicted = module_of(shape).predicted(shape, encoded, Ragged.from_rows([ids[:-1]], np.uint32))
    assert predicted.answers == [answer] and predicted.scores == [None] and predicted.invalid == 0


def test_questions_are_asked_by_their_prompt_and_answers_stand_as_in_the_context(folder: Path) -> None:
    asked = Example(text="the cat-dog sat.", text_pair="who?", answers=(Answer("cat-dog", 4),))
    plain = Shape("answer", written=True)
    prompted = Shape("answer", written=True, prompt="{context} / {question}")
    assert (texts.source_of(plain, asked), texts.target_of(plain, asked)) == (
        "question: who ? context: the cat - dog sat .", "cat - dog",
    )  # fmt: skip
    given = texts.source_of(prompted, asked), texts.target_of(prompted, asked)
    assert given == ("the cat-dog sat. / who?", "cat-dog")
    spelled = SimpleNamespace(texts=lambda ids: ["cat - dog", "a dog"])
    encoded = Encoded({}, [asked, asked], more={"spelling": spelled})
    scores = Ragged.from_rows([[0], [0]], np.uint32)
    assert texts.predicted(plain, encoded, scores).answers == ["cat-dog", "a dog"]
    assert texts.predicted(prompted, encoded, scores).answers == ["cat - dog", "a dog"]


@pytest.mark.parametrize(
    ("scores", "step", "written", "unreadable"),
    [
        ([0.0, 0.3, 2.45, 5.0], 0.2, ["0.0", "0.4", "2.4", "5.0"], -1.0),  # STS-B, as T5 has it
        ([1.0, 2.0, 5.0], 0.2, ["1.0", "2.0", "5.0"], 0.0),
        ([0.0, 0.01, 0.33, 1.0], 0.05, ["0.00", "0.00", "0.35", "1.00"], -0.25),
        ([0.0, 0.012, 0.1], 0.005, ["0.000", "0.010", "0.100"], -0.025),
        ([-1.0, 0.26, 1.0], 0.1, ["-1.0", "0.3", "1.0"], -1.5),
        ([-0.001, 100.0, 13.0], 5.0, ["0.0", "100.0", "15.0"], -25.0),
        ([2e-7, 5e-6], 2e-7, ["0.0000002", "0.0000050"], -8e-7),
        ([3.0, 3.0], 0.2, ["3.0", "3.0"], 2.0),
    ],
)
def test_scores_are_written_in_steps_of_their_range(
    scores: list[float], step: float, written: list[str], unreadable: float
) -> None:
    train = [Example(text="a", score=score) for score in scores]
    data = Labelled("regression", [], {"train": train}, "made up", "CC0-1.0", "none")
    shape = shape_of(data, written=True, learned=train[:2])
    assert shape.step == step and [texts.target_of(shape, example) for example in train] == written
    encoded = Encoded({}, train, more={"spelling": SimpleNamespace(texts=lambda ids: [*written[1:], "none"])})
    predicted = texts.predicted(shape, encoded, Ragged.from_rows([[0]] * len(train), np.uint32))
    assert predicted.answers[:-1] == [float(text) for text in written[1:]] and predicted.invalid == 1
    assert predicted.answers[-1] == pytest.approx(unreadable) and predicted.answers[-1] < min(scores)


def test_a_task_says_in_which_step_its_scores_are_written() -> None:
    data = Labelled("regression", [], {"train": [Example(score=0.0), Example(score=5.0)]}, "made up", "CC0-1.0", "none")
    shape = shape_of(data, written=True, step=0.25)
    assert texts.target_of(shape, Example(score=1.3)) == "1.25" and shape.unreadable == -1.25
    assert shape_of(data) == Shape("score", scale=(2.5, 2.5)), "nothing is written"
    assert task_of({"test": "a.tsv", "head": "score", "step": 0.25}, "task").step == 0.25
    with pytest.raises(UserError, match="step is of written scores, and the head is class; leave it out"):
        task_of({"test": "a.tsv", "step": 0.25}, "task")


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "three"])
def test_a_text_that_is_no_number_is_no_answer(text: str) -> None:
    shape = Shape("score", written=True)
    encoded = Encoded({}, [Example(text="a")], more={"spelling": SimpleNamespace(texts=lambda ids: [text])})
    predicted = texts.predicted(shape, encoded, Ragged.from_rows([[0]], np.uint32))
    assert (predicted.answers, predicted.invalid) == ([-1.0], 1)


def test_sources_are_given_as_prompts_are(folder: Path) -> None:
    """So what is learned is what the network does when it is asked to write."""
    shape, model = Shape("text", written=True), writers.opened(folder)
    encoded = texts.encode(shape, [Example(text="the cat")], tokenizer_of(shape, folder, framed=False), LAYOUT)
    assert ragged(encoded.rows, "input").row(0).tolist() == model.prompt_ids("the cat")
    target = ragged(encoded.rows, "target_tokens").row(0).tolist()
    assert target == [model.eos], "nothing is to be written"


def test_texts_that_are_no_answer_are_counted_and_wrong(folder: Path) -> None:
    for shape, wanted in (
        (Shape("class", ("yes", "no"), written=True), None),
        (Shape("score", written=True), -1.0),
    ):
        spelled = tokenizer_of(shape, folder, framed=False)
        encoded = texts.encode(shape, [Example(text="a", label=0, score=1.0)], spelled, LAYOUT)
        (ids,) = spelled.targets(["yes and no"], 99)[0]
        predicted = texts.predicted(shape, encoded, Ragged.from_rows([ids[:-1]], np.uint32))
        assert predicted.answers == [wanted] and predicted.invalid == 1


def test_what_is_cut_is_counted(folder: Path) -> None:
    shape = Shape("text", written=True)
    examples = [Example(text="the cat sat on a mat " * 4, target="a dog " * 9), Example(text="on", target="on")]
    encoded = texts.encode(shape, examples, tokenizer_of(shape, folder, framed=False), LAYOUT)
    assert encoded.remarks == [
        "1 of 2 rows have over 20 tokens and are cut",
        "1 of 2 texts to write have over 8 tokens and are cut",
    ]
    assert ragged(encoded.rows, "input").lengths.max() == 20
    assert ragged(encoded.rows, "target_tokens").lengths.max() == 8


def test_labels_that_are_written_alike_are_refused(folder: Path) -> None:
    shape = Shape("class", ("a cat", "a cat "), written=True)
    encoded = texts.encode(shape, [Example(text="a", label=0)], tokenizer_of(shape, folder, framed=False), LAYOUT)
    with pytest.raises(UserError, match="writes two labels as 'a cat'; give them other names"):
        texts.predicted(shape, encoded, Ragged.from_rows([[5]], np.uint32))


@pytest.mark.parametrize(
    ("values", "inputs"),
    [
        ({"inputs": ["sentence2", "sentence1"]}, ["rte sentence1: {sentence1} sentence2: {sentence2}"]),
        ({"inputs": ["sentence"], "prompt": "Review: {sentence}"}, ["Review: {sentence}"]),
        ({"inputs": ["{a}: {b}"]}, ["rte {a}: {b}"]),
        ({"layout": "squad"}, []),
    ],
)
def test_inputs_are_one_text_by_the_prompt_or_as_t5_has_them(values: dict[str, Any], inputs: list[str]) -> None:
    task = task_of({"test": ["dev.tsv"], "head": "answer" if "layout" in values else "class", **values}, "task")
    assert in_one_text(task, "rte").inputs == inputs


def test_a_prompt_of_questions_names_their_columns_alone() -> None:
    values = {"test": ["dev.jsonl"], "head": "answer", "inputs": ["body", "asked"], "prompt": "{{Q}} {asked}: {body}"}
    assert prompt_of(in_one_text(task_of(values, "task"), "qa")) == "{{Q}} {question}: {context}"
    with pytest.raises(UserError, match="prompt: names 'title', and written answers are asked of body and asked alone"):
        in_one_text(task_of({**values, "prompt": "{title} {asked}"}, "task"), "qa")


def test_files_with_inputs_of_their_own_are_one_text_too() -> None:
    part = {"path": "other.tsv", "inputs": ["b", "a"]}
    task = task_of({"train": ["train.tsv"], "test": [part], "inputs": ["text"], "head": "class"}, "task")
    written = in_one_text(task, "rte")
    assert (written.test[0].inputs, written.train[0].inputs) == (["rte a: {a} b: {b}"], None)
    assert task.test[0].inputs == ["b", "a"]
