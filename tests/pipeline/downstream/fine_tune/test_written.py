"""A network that writes is fine-tuned on labels as on texts; what is kept of it answers as it did in the job."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.errors import UserError
from data_prep.labelled.files import load
from pipeline.downstream import labelled_scores, predictions_file
from pipeline.downstream.fine_tune.exported import open_fine_tuned
from pipeline.downstream.fine_tune.job import Config, settings
from pipeline.downstream.fine_tune.trials import Trials
from pipeline.recipe.load import load as load_recipe
from pipeline.reports.report import page, read
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.pipeline import tiny
from tests.training.inference import writers

ROWS = [(f"on {first} {place % 7}", second) for place in range(30) for first, second in (("a", "cat"), ("the", "dog"))]


def task_file(folder: Path, head: str) -> Path:
    folder.mkdir(exist_ok=True)
    for split, rows in (("train", ROWS[:40]), ("dev", ROWS[40:50]), ("test", ROWS[50:])):
        lines = [f"{number}\t{text}\t{label}" for number, (text, label) in enumerate(rows)]
        (folder / f"{split}.tsv").write_text("\n".join(["id\ttext\tlabel", *lines]) + "\n")
    (folder / "task.yaml").write_text(
        f"train: train.tsv\nvalidation: dev.tsv\ntest: test.tsv\ninputs: [text]\nhead: {head}\nid: id\n"
        f"metrics: [{'accuracy' if head == 'class' else 'exact-match'}]\nprompt: '{{text}}:'\n"
    )
    return folder / "task.yaml"


def job(path: Path, **changes: Any) -> Config:
    values = {
        "name": "pets", "task": "text-to-text", "data": {"task": str(path)}, "labels": [40], "seeds": 2, "steps": 60,
        "batch": 8, "length": 24, "max_answer": 6, "lrs": [1e-2], "validation_rows": 10, "test_rows": 10,
        "models": ["pretrained"], **changes,
    }  # fmt: skip
    return Config.model_validate(values)


@pytest.mark.parametrize(("head", "baseline"), [("class", "tfidf"), ("text", "nearest")])
def test_labels_and_texts_are_written(tmp_path: Path, head: str, baseline: str) -> None:
    writers.write(tmp_path / "artifact", "t5", spread=0.02)
    asked = job(task_file(tmp_path / "data", head), baselines=[baseline])
    out = tmp_path / "out"
    out.mkdir()
    config = {
        "version": 1, "job": asked.model_dump(mode="json"), "seed": 0, "precision": "fp32",
        "cleaning": {"normalisation": "nfc", "keep_lines": False},
    }  # fmt: skip
    inputs: Any = {"pretrained": SimpleNamespace(path=tmp_path / "artifact")}
    job_stage.run(config, inputs, out, Context(downloads=tmp_path))
    report = read(out)
    cells = {cell["model"]: cell for cell in report.notes["cells"]}
    assert set(cells) == {"pretrained", baseline} and cells["pretrained"]["mean"] > 0.5
    assert "With 40 labels" in page(report)
    predictions = predictions_file.read(out / report.predictions)  # type: ignore[operator]
    data = load(asked.data, tmp_path, written=True)
    assert data.splits["test"][0].text.endswith(":")
    model = open_fine_tuned(out / "fine-tuned")
    answers = model.predict(data.splits["test"]).answers
    assert [labelled_scores.named_as(data, answer) for answer in answers] == list(predictions.parts[0].predicted)
    assert model.reads["inputs"] == ["{text}:"]


@pytest.mark.parametrize("steps", [1, 3])
def test_a_network_has_diverged_that_writes_ids_of_no_probability(tmp_path: Path, steps: int) -> None:
    writers.write(tmp_path / "artifact", "gpt2", spread=0.02)
    asked = job(task_file(tmp_path / "data", "class"), steps=steps, lrs=[1e30], seeds=1)
    data, pretrained = load(asked.data, tmp_path, written=True), SimpleNamespace(path=tmp_path / "artifact")
    context = Context(downloads=tmp_path, placement={"threads": 1})
    made = Trials(asked, {"seed": 0, "precision": "fp32"}, data, pretrained, context)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"pretrained from 40 labels diverged at every learning rate \(1e\+30\), so"):
        made.run()


@pytest.mark.parametrize(
    ("step", "said"), [("", "0.05: of 40 different ones of train 21"), ("step: 0.5", "0.5: of 40")]
)
def test_how_many_different_scores_are_written_is_said(tmp_path: Path, step: str, said: str) -> None:
    path = task_file(tmp_path, "score")
    path.write_text(path.read_text().replace("exact-match", "pearson") + step)
    lines = [f"{number}\ta {number}\t{number / 39}" for number in range(40)]
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("\n".join(["id\ttext\tlabel", *lines]))
    asked = job(path, labels=[4])
    pretrained: Any = SimpleNamespace(path=tmp_path)
    data = load(asked.data, tmp_path, written=True)
    made = Trials(asked, {"seed": 0, "precision": "fp32"}, data, pretrained, Context(tmp_path))
    (remark,) = made.remarks()
    assert remark.startswith(f"scores are written in steps of {said}") and "remain (step of the task file)" in remark


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ("class", {"baselines": ["nearest"]}, "has a label for each row, for which there is no baseline 'nearest'"),
        ("class", {"models": ["{folder}"]}, "'bert' does not write; name a decoder, or an encoder with one"),
        ("tags", {}, "has tags of words or segments, and task text-to-text needs texts to write"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, head: str, changes: dict[str, Any], message: str) -> None:
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text('{"model_type": "bert", "max_position_embeddings": 64}')
    changes = {name: [str(bert)] if value == ["{folder}"] else value for name, value in changes.items()}
    path = task_file(tmp_path / "data", head)
    if head == "tags":
        path.write_text(path.read_text().replace("metrics: [exact-match]\n", ""))
        for split in ("train", "dev", "test"):
            (tmp_path / "data" / f"{split}.tsv").write_text("id\ttext\tlabel\n1\ta b\tX O\n2\tc d\tO X\n")
    with pytest.raises(UserError, match=message):
        settings(load_recipe(str(tiny.recipe(tmp_path / "recipe"))), job(path, **changes), tmp_path)
