"""Held-out documents are predicted as whole texts; bits per byte are those of their bytes."""

from __future__ import annotations

import lzma
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.corpus.documents import CorpusDocument
from data_prep.errors import UserError
from pipeline.artifact import Artifact
from pipeline.downstream import perplexity
from pipeline.downstream.perplexity import Config, check_inputs, documents, needs, numbers, run
from pipeline.recipe.load import load
from pipeline.reports.report import write
from pipeline.stage import Context
from tests.pipeline.job_checks import table, whole_report
from tests.training.inference import writers
from training.inference.likelihood import Likelihood

DOCUMENTS = [
    CorpusDocument("a", ["The cat sat.", "On a mat."], [0, 0], "", {}),
    CorpusDocument("b", ["Who?", "They said: é à 中.", "On and on."], [0, 1, 1], "", {}),
    CorpusDocument("c", ["The dog sat on a log."] * 9, list(range(9)), "", {}),
]
TEXTS = [
    "The cat sat. On a mat.",
    "Who?\n\nThey said: é à 中. On and on.",
    "\n\n".join(["The dog sat on a log."] * 9),
]
JOB = {"task": "perplexity", "name": "held-out"}


def test_documents_are_taken_until_there_is_enough() -> None:
    corpus: Any = DOCUMENTS
    everything = documents(corpus, 10**6, 0)
    assert sorted(everything) == sorted(TEXTS)
    assert documents(corpus, 1, 0) == everything[:1]
    assert len({documents(corpus, 1, seed)[0] for seed in range(9)}) > 1
    assert documents([], 9, 0) == []  # type: ignore[arg-type]


def test_the_report_says_what_the_documents_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = writers.write(tmp_path / "network", "gpt2")
    monkeypatch.setattr(perplexity, "Corpus", lambda path, split: DOCUMENTS)
    pretrained: Any = {"files": {}}
    inputs: Any = {
        "pretrained": Artifact("pretrain-1", folder.parent, pretrained),
        "corpus": SimpleNamespace(path=tmp_path),
    }
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    report = run(Config.model_validate(JOB), {"seed": 0, "contents": {}, "keep_lines": False}, inputs, out, Context())
    write(report, out)
    manifest: Any = {"summary": report.summary, "config": {"job": JOB}}
    whole_report(Artifact("job-1", out, manifest))
    nats = -sum(likelihood.log_likelihood for likelihood in Likelihood(writers.opened(folder)).texts(TEXTS))
    wanted = nats / math.log(2) / sum(len(text.encode()) for text in TEXTS)
    assert set(report.numbers) == set(numbers(Config.model_validate(JOB)))
    assert report.numbers["bits_per_byte/pretrained"] == pytest.approx(wanted)
    assert report.numbers["bits_per_byte/scratch"] != pytest.approx(wanted, rel=1e-3)
    raw = "\n".join(documents(DOCUMENTS, 10**6, 0)).encode()  # type: ignore[arg-type]
    assert report.numbers["bits_per_byte/xz"] == pytest.approx(8 * len(lzma.compress(raw)) / len(raw))
    assert [row[0] for row in table(report, "Held-out text").rows] == [
        "**pretrained**",
        "scratch",
        "xz",
        "all bytes alike",
    ]
    assert "xz's" in report.verdict
    monkeypatch.setattr(perplexity, "Corpus", lambda path, split: [])
    with pytest.raises(UserError, match="no document is in validation"):
        check_inputs(Config.model_validate(JOB), {}, inputs)


def test_what_the_recipe_must_be() -> None:
    job = Config.model_validate(JOB)
    assert not list(needs(load("gpt", None, []), job))
    assert [path for path, _ in needs(load("bert", None, []), job)] == ["network.architecture"]
    of_test = Config.model_validate({**JOB, "split": "test"})
    [(path, _)] = needs(load("gpt", None, ["data.split.test=0"]), of_test)
    assert path == "data.split.test"
