"""A whole job of questions, some without an answer: what is chosen, kept and reported."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.labelled.files import load
from pipeline.downstream import predictions_file
from pipeline.downstream.fine_tune.exported import open_fine_tuned
from pipeline.reports.report import page, read
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.pipeline.downstream.fine_tune.answering import network_of
from tests.pipeline.downstream.fine_tune.few_labels import job_of


def task_file(folder: Path) -> Path:
    """Questions for a letter of a row of letters; a third of the rows do not have it."""
    draw, rows = random.Random(0), []
    for number in range(120):
        asked = draw.choice("bcd")  # a is an article, of which SQuAD's metrics make nothing
        words = [draw.choice("abcd".replace(asked, "")) for _ in range(12)]
        if number % 3:
            words[draw.randrange(12)] = asked
        context = " ".join(words)
        places = [{"text": asked, "answer_start": context.index(asked)}] if number % 3 else []
        rows.append({"context": context, "question": f"{asked} {number % 2 and 'a'}", "answers": places, "id": number})
    rows[1]["answers"] = [{"text": "z", "answer_start": 0}]
    for split, of in (("train", rows[:60]), ("dev", rows[60:90]), ("test", rows[90:])):
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in of))
    (folder / "task.yaml").write_text(
        "train: train.jsonl\nvalidation: dev.jsonl\ntest: test.jsonl\nhead: answer\ninputs: [context, question]\n"
        "label: answers\nid: id\n"
    )
    return folder / "task.yaml"


def test_a_job_of_questions_keeps_the_threshold_that_its_validation_rows_choose(tmp_path: Path) -> None:
    network_of(tmp_path / "artifact" / "model")
    asked = job_of(
        Path(), task="question-answering", data={"task": str(task_file(tmp_path))}, labels=[60], seeds=1, length=16,
        models=["pretrained"], lrs=[1e-2], baselines=["no-answer", "nearby"],
    )  # fmt: skip
    config = {
        "version": 1, "job": asked.model_dump(mode="json"), "seed": 0, "precision": "fp32",
        "cleaning": {"normalisation": "nfc", "keep_lines": False},
    }  # fmt: skip
    inputs: Any = {"pretrained": SimpleNamespace(path=tmp_path / "artifact")}
    (tmp_path / "out").mkdir()
    job_stage.run(config, inputs, tmp_path / "out", Context(downloads=tmp_path))
    report = read(tmp_path / "out")
    cells = {cell["model"]: cell for cell in report.notes["cells"]}
    (threshold,), (scores,) = cells["pretrained"]["thresholds"], cells["pretrained"]["all"]
    assert f"| {threshold:+.2f} |" in page(report) and scores["best-f1"] >= scores["f1"]
    assert cells["no-answer"]["mean"] == pytest.approx(1 / 3)
    assert "1 of 60 questions have answers that are not in their context" in " ".join(report.notes["remarks"])
    kept, data = open_fine_tuned(tmp_path / "out" / "fine-tuned"), load(asked.data, tmp_path)
    assert kept.shape.threshold == threshold and kept.shape.unanswerable
    predicted = kept.predict(data.splits["test"])
    (part,) = predictions_file.read(tmp_path / "out" / predictions_file.FILE).parts
    assert list(part.predicted) == predicted.answers
    assert part.n_best == [[tuple(span) for span in spans] for spans in predicted.n_best]
    for example, spans in zip(data.splits["test"], part.n_best or (), strict=True):
        assert all(text == example.text[start:][: len(text)] for text, start, _ in spans if start is not None)
