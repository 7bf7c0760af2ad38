"""Files for test servers: names, columns and labels are those that GLUE and SQuAD ask for."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.labelled.loading import load_files
from data_prep.labelled.suite import open_suite, read_suite
from data_prep.labelled.task import TaskFile, task_of
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream.fine_tune.exported import open_fine_tuned
from pipeline.downstream.fine_tune.job import Config, needs
from pipeline.downstream.fine_tune.reports import report
from pipeline.downstream.fine_tune.submission import write
from pipeline.downstream.fine_tune.trials import Trials
from pipeline.downstream.labelled_scores import named_as
from pipeline.reports.report import read
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.pipeline.downstream.fine_tune.answering import network_of
from tests.pipeline.downstream.fine_tune.topics import DATA, JOB
from tests.training.inference import writers

HEADER = "index\tprediction\n"
PAIRS = "index\tsentence1\tsentence2"


def of_glue(folder: Path, task: str, files: dict[str, str]) -> tuple[TaskFile, list[Example]]:
    """A task of GLUE, with rows to predict as they lie in the official folders."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    suite = open_suite("glue", folder)
    return suite.task(task), suite.load(task).splits["predict"]


def written(folder: Path, task: TaskFile, examples: list[Example], answers: list[Any], **more: Any) -> dict[str, str]:
    files = write("name", task, examples, answers, folder / "out", **more)
    assert sorted(files) == sorted(path.name for path in (folder / "out").iterdir())
    return {name: (folder / "out" / name).read_text() for name in files}


def test_rte_has_its_own_index_and_labels_by_name(tmp_path: Path) -> None:
    rows = f"{PAIRS}\tlabel\n0\ta\tb\tentailment\n1\tc\td\tnot_entailment\n"
    hidden = f"{PAIRS}\n7\ta\tx\n8\tb\ty\n"
    files = {"RTE/train.tsv": rows, "RTE/dev.tsv": rows.replace("a\tb", "e\tf"), "RTE/test.tsv": hidden}
    answers = ["not_entailment", "entailment"]
    assert written(tmp_path, *of_glue(tmp_path, "rte", files), answers) == {
        "RTE.tsv": f"{HEADER}7\tnot_entailment\n8\tentailment\n"
    }


def test_cola_is_numbered_by_its_lines_and_has_labels_as_its_files_do(tmp_path: Path) -> None:
    rows = "gj04\t1\t\tFine.\ngj04\t0\t*\tNot fine is.\n"
    hidden = "index\tsentence\n0\tOne.\n1\tTwo.\n2\tThree.\n"
    files = {"CoLA/train.tsv": rows, "CoLA/dev.tsv": rows, "CoLA/test.tsv": hidden}
    answers = ["acceptable", "unacceptable", "acceptable"]
    assert written(tmp_path, *of_glue(tmp_path, "cola", files), answers) == {"CoLA.tsv": f"{HEADER}0\t1\n1\t0\n2\t1\n"}


def test_scores_stay_within_those_of_training(tmp_path: Path) -> None:
    rows = f"{PAIRS}\tscore\n0\ta\tb\t0.0\n1\tc\td\t5.0\n"
    files = {"STS-B/train.tsv": rows, "STS-B/dev.tsv": rows, "STS-B/test.tsv": f"{PAIRS}\n0\ta\tx\n1\tb\ty\n2\tb\tz\n"}
    answers = [5.3, 2.34567, -0.1]
    assert written(tmp_path, *of_glue(tmp_path, "stsb", files), answers, bounds=(0.0, 5.0)) == {
        "STS-B.tsv": f"{HEADER}0\t5.000\n1\t2.346\n2\t0.000\n"
    }


def test_mnli_has_a_file_for_each_of_its_sets(tmp_path: Path) -> None:
    rows = f"{PAIRS}\tgold_label\n0\ta\tb\tneutral\n1\tc\td\tentailment\n"
    hidden = f"{PAIRS}\n0\ta\tx\n1\tb\ty\n"
    files = {f"MNLI/{name}.tsv": rows for name in ("train", "dev_matched", "dev_mismatched")}
    files |= {f"MNLI/test_{name}.tsv": hidden for name in ("matched", "mismatched")}
    files["diagnostic/diagnostic.tsv"] = hidden
    task, examples = of_glue(tmp_path, "mnli", files)
    texts = written(
        tmp_path, task, examples, ["neutral", "contradiction", "entailment", "neutral", "neutral", "neutral"]
    )
    assert texts == {
        "MNLI-m.tsv": f"{HEADER}0\tneutral\n1\tcontradiction\n",
        "MNLI-mm.tsv": f"{HEADER}0\tentailment\n1\tneutral\n",
        "AX.tsv": f"{HEADER}0\tneutral\n1\tneutral\n",
    }


@pytest.mark.parametrize("no_answer", [None, [0.1, 0.75]])
def test_questions_are_answered_by_id(tmp_path: Path, no_answer: list[float] | None) -> None:
    task = task_of({"layout": "squad", "predict": "hidden.json"}, "task")
    examples = [Example(text="Où ?", text_pair="q", id="56ddde6b"), Example(text="c", text_pair="r", id="5ad3")]
    texts = written(tmp_path, task, examples, ["Où", ""], no_answer=no_answer)
    assert texts.pop("name.json") == '{"56ddde6b": "Où", "5ad3": ""}\n'
    assert {name: json.loads(text) for name, text in texts.items()} == (
        {"na-prob-name.json": {"56ddde6b": 0.1, "5ad3": 0.75}} if no_answer else {}
    )


def test_languages_have_files_of_their_own(tmp_path: Path) -> None:
    task = task_of({"predict": {"path": "{language}.tsv", "language": ["de", "en"]}, "labels": ["0", "1"]}, "task")
    examples = [Example(text="a", language=language) for language in ("de", "en", "de")]
    assert written(tmp_path, task, examples, ["0", "1", "1"]) == {
        "name-de.tsv": f"{HEADER}0\t0\n1\t1\n",
        "name-en.tsv": f"{HEADER}0\t1\n",
    }


def loaded(folder: Path, files: Mapping[str, list[dict[str, str]]], **settings: Any) -> tuple[TaskFile, list[Example]]:
    """A task file with JSON lines, and its rows to predict."""
    for name, rows in files.items():
        (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task = task_of(settings, "task")
    return task, load_files(task, folder, "task").splits["predict"]


def test_every_part_has_the_file_that_it_asks_for(tmp_path: Path) -> None:
    """Rows of other parts and languages are not among them."""
    files = {f"{name}.jsonl": [{"text": f"{name} one"}, {"text": f"{name} two"}] for name in ("de", "en")}
    rows = {"labels": ["0", "1"], "inputs": ["text"]}
    parts: Any = [{"path": "de.jsonl", "submit": "A.tsv"}, {"path": "en.jsonl", "submit": "B.tsv"}]
    assert written(tmp_path, *loaded(tmp_path, files, predict=parts, **rows), ["0", "1", "1", "1"]) == {
        "A.tsv": f"{HEADER}0\t0\n1\t1\n",
        "B.tsv": f"{HEADER}0\t1\n1\t1\n",
    }
    shutil.rmtree(tmp_path / "out")
    several = {"path": "{language}.jsonl", "language": ["de", "en"], "submit": "X-{language}.tsv"}
    assert written(tmp_path, *loaded(tmp_path, files, predict=several, **rows), ["0", "1", "1", "1"]) == {
        "X-de.tsv": f"{HEADER}0\t0\n1\t1\n",
        "X-en.tsv": f"{HEADER}0\t1\n1\t1\n",
    }


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        ([{"path": "a", "submit": "X.tsv"}, {"path": "b", "submit": "X.tsv"}], "two parts have the submit 'X.tsv'"),
        ({"path": "{language}.tsv", "language": ["de"], "submit": "X.tsv"}, "goes with {language} in the name"),
        ({"path": "a", "submit": "X.csv"}, "is written as .tsv or .json or .jsonl"),
    ],
)
def test_files_that_would_be_one_or_of_no_form_are_refused_before_training(predict: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        task_of({"labels": ["0", "1"], "predict": predict}, "task")


def test_two_files_with_one_name_and_two_rows_with_one_id_leave_nothing(tmp_path: Path) -> None:
    task = task_of({"labels": ["0", "1"], "predict": ["a.tsv", {"path": "b.tsv", "submit": "name.tsv"}]}, "task")
    with pytest.raises(UserError, match=r"would be called name\.tsv"):
        write("name", task, [Example(text="a"), Example(text="b", submit="name.tsv")], ["0", "1"], tmp_path / "out")
    questions = [Example(text="c", text_pair="q", id="7", language=language) for language in ("de", "de")]
    with pytest.raises(UserError, match=r"two rows of name\.json would have the id '7'"):
        write("name", task_of({"layout": "squad", "predict": "x.json"}, "t"), questions, ["", ""], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def of_suite(name: str, task: str) -> TaskFile:
    given = read_suite(name)
    return task_of({**given.common, **given.tasks[task]}, name)


def test_clue_takes_a_row_a_line(tmp_path: Path) -> None:
    """The examples of submissions that CLUE and FewCLUE give."""
    clue, submit = of_suite("clue", "tnews"), "tnews11_predict.json"
    examples = [
        Example(text="a", id=f"tnews/test.json:{n}", place=f"tnews/test.json:{n}", submit=submit) for n in (1, 2)
    ]
    assert written(tmp_path, clue, examples, ["news_culture", "news_car"]) == {
        submit: '{"id": 0, "label": "101"}\n{"id": 1, "label": "107"}\n'
    }
    shutil.rmtree(tmp_path / "out")
    chid = [Example(text="a", id="3002", submit="chidf_predict.json")]
    assert written(tmp_path, of_suite("fewclue", "chid"), chid, ["2"]) == {
        "chidf_predict.json": '{"id": 3002, "answer": 2}\n'
    }


def test_the_job_writes_what_its_network_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    monkeypatch.setattr(report.figures, "learning_curve", lambda *_: None)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(tmp_path / "artifact" / "model")
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    network = BertModel(BertConfig(vocab_size=12, max_position_embeddings=16, **sizes))
    network.save_pretrained(tmp_path / "artifact" / "model")
    rows = "".join(f"{n}\t{word} e\t{word}\t{'not_' * (n % 2)}entailment\n" for n, word in enumerate("abcdefgh"))
    files = {
        "RTE/train.tsv": f"{PAIRS}\tlabel\n{rows}",
        "RTE/dev.tsv": f"{PAIRS}\tlabel\n0\ta c\tb\tentailment\n1\tb d\tb\tnot_entailment\n",
        "RTE/test.tsv": f"{PAIRS}\n0\ta g\tx\n1\tb h\ty\n2\tc f g h a b c d e f g h\td\n",
    }
    _, examples = of_glue(tmp_path / "glue", "rte", files)
    job = {
        "name": "rte", "task": "classification", "labels": [8],
        "data": {"suite": "glue", "of": "rte", "folder": str(tmp_path / "glue")},
        "steps": 2, "batch": 4, "length": 12, "lrs": [1e-2], "validation_rows": 2, "test_rows": 2,
        "models": ["pretrained"], "submission": True,
    }  # fmt: skip
    config = {"version": 1, "job": job, "seed": 0, "precision": "fp32", "cleaning": asdict(Cleaning())}
    out = tmp_path / "out"
    out.mkdir()
    job_stage.run(config, {"pretrained": SimpleNamespace(path=tmp_path / "artifact")}, out, Context(tmp_path))  # type: ignore[dict-item]
    assert read(out).notes["submission"] == ["submission/RTE.tsv"] and "submission/RTE.tsv" in read(out).about
    assert "Of the rows without labels, 1 of 3 rows have over 12 tokens and are cut." in read(out).about
    lines = (out / "submission" / "RTE.tsv").read_text().splitlines()
    model = open_fine_tuned(out / "fine-tuned")
    said = [named_as(model.shape, answer) for answer in model.predict(examples).answers]
    assert lines == ["index\tprediction", *(f"{number}\t{label}" for number, label in enumerate(said))]


def test_rows_that_a_network_cannot_read_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder whose tokenizer frames no texts has nothing of an empty one; an encoder has [CLS] and [SEP]."""
    asked = [Example(text=text, id=str(n)) for n, text in enumerate(("the cat", "", " ", "a"))]
    data = replace(DATA, splits={**DATA.splits, "predict": asked})
    job = JOB.model_copy(update={"submission": True, "pooling": "mean"})
    writers.write(tmp_path / "decoder", "gpt2")
    network_of(tmp_path / "encoder" / "model")

    def checked(folder: str, of: Config) -> None:
        pretrained: Any = SimpleNamespace(path=tmp_path / folder)
        Trials(of, {"seed": 5, "precision": "fp32"}, data, pretrained, Context(tmp_path))._check_submitted()

    checked("encoder", job)
    checked("decoder", job.model_copy(update={"submission": False}))
    checked("decoder", job.model_copy(update={"pooling": "last"}))
    with pytest.raises(
        UserError, match=r"topics: . of 4 rows of predict are empty \(id 1(, 2)?\), the network's tokenizer"
    ):
        checked("decoder", job)


def test_a_job_that_writes_none_has_the_settings_that_it_had() -> None:
    values = {
        "name": "rte", "task": "classification", "data": {"name": "sotu-era"}, "labels": [8], "steps": 2, "batch": 4,
        "length": 12, "lrs": [1e-2], "validation_rows": 2, "test_rows": 2,
    }  # fmt: skip
    assert "submission" not in Config.model_validate(values).model_dump()
    asked = Config.model_validate({**values, "submission": True, "models": ["scratch"]})
    assert asked.model_dump()["submission"] is True
    recipe = SimpleNamespace(kind="text", network=None)
    assert list(needs(recipe, asked)) == [(".submission", "is of the network pretrained, which models leaves out")]
