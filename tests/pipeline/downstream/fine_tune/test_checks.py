"""What is wrong or odd about a job of few labels is found before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import UserError
from data_prep.labelled.files import load
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream.fine_tune import checks
from pipeline.downstream.fine_tune.job import needs, settings
from pipeline.downstream.fine_tune.reports import report
from pipeline.recipe.load import load as load_recipe
from pipeline.reports.report import page
from tests.pipeline import tiny
from tests.pipeline.downstream.fine_tune.few_labels import job_of
from tests.training.inference import writers
from training.models import adapters


def rows_of(path: Path, **splits: list[tuple[str, str]]) -> Path:
    """Labelled texts, by split."""
    rows = [{"text": t, "label": label, "split": split} for split, pairs in splits.items() for t, label in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(split: str, count: int, labels: str = "ab") -> list[tuple[str, str]]:
    return [(f"{split} {number}", labels[number % len(labels)]) for number in range(count)]


GOOD = {"train": texts("train", 40), "validation": texts("validation", 20), "test": texts("test", 20)}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_recipe(str(tiny.recipe(tmp_path_factory.mktemp("recipe"))))


def checked(recipe: Any, path: Path, **changes: Any) -> None:
    values = {"task": "classification", "baselines": [], **changes}
    settings(recipe, job_of(path, **values), path.parent)


@pytest.mark.parametrize(
    ("splits", "changes", "message"),
    [
        ({}, {"labels": [4, 41]}, "labels asks for 41 rows, and train has 40"),
        ({}, {"task": "tagging"}, "has a label for each row, and task tagging needs tags of words or segments"),
        ({"train": texts("train", 40, "a")}, {}, "all 40 rows of train have the label 'a'; at least two"),
        (
            {"test": [*texts("test", 18), ("new", "c"), ("newer", "d")]},
            {},
            r"2 of 20 rows of test have labels that train lacks \('c', 'd'\); put rows of all labels into train",
        ),
        ({"test": texts("train", 20)}, {}, "20 of 20 rows of test are in train, too; hold out others"),
        ({"validation": texts("train", 20)}, {}, "20 of 20 rows of validation are in train, too"),
        ({"test": []}, {}, "leaves no rows for test"),
        ({"train": [("half \ud83d", "a")]}, {}, "line 1: 'text' is .*, with half of a surrogate pair"),
    ],
)
def test_labels_that_cannot_serve_are_found_before_training(
    recipe: Any, tmp_path: Path, splits: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    path = rows_of(tmp_path / "rows.jsonl", **{**GOOD, **splits})
    with pytest.raises(UserError, match=message):
        checked(recipe, path, **changes)


def task_of(folder: Path, head: str, metric: str, labels: dict[str, list[Any]]) -> Path:
    """A task file with a row for each of a split's labels."""
    for split, of_split in labels.items():
        words = {"words": ["A", "dog"]} if head == "tags" else {}
        texts = ({"text": f"{split} {place}", **words, "label": label} for place, label in enumerate(of_split))
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in texts))
    inputs = "words" if head == "tags" else "text"
    lines = [f"head: {head}", f"inputs: [{inputs}]", f"metrics: [{metric}]", *(f"{s}: {s}.jsonl" for s in labels)]
    (folder / "task.yaml").write_text("\n".join(lines))
    return folder / "task.yaml"


THREE, POS = ["a", "b", "c"], [["DET", "NOUN"], ["NOUN", "NOUN"]]


@pytest.mark.parametrize(
    ("head", "metric", "labels", "message"),
    [
        (
            "class",
            "f1",
            (THREE, THREE, THREE),
            "rows of test cannot be scored: f1 needs two labels, found 3; use macro",
        ),
        ("tags", "entity-f1", (POS, POS, POS), "rows of test cannot be scored: 'DET' is not a tag of an entity"),
        (
            "score",
            "pearson",
            ([1, 2, 3], [1, 2], [3, 3]),
            "rows of test cannot be scored: all 2 rows have the score 3;",
        ),
        ("score", "pearson", ([1, 2, 3], [2, 2], [1, 3]), "rows of validation cannot be scored: all 2 rows have the"),
    ],
)
def test_metrics_that_do_not_fit_the_rows_are_found_before_training(
    recipe: Any, tmp_path: Path, head: str, metric: str, labels: Any, message: str
) -> None:
    path = task_of(tmp_path, head, metric, dict(zip(("train", "validation", "test"), labels, strict=True)))
    task = {"class": "classification", "tags": "tagging", "score": "regression"}[head]
    with pytest.raises(UserError, match=message):
        checked(recipe, path, data={"task": str(path)}, task=task, labels=[None])
    if "validation" in message:  # which chooses nothing where there is one rate
        checked(recipe, path, data={"task": str(path)}, task=task, labels=[None], lrs=[1e-3])


def test_weights_of_labels_that_there_are_not_are_refused(recipe: Any, tmp_path: Path) -> None:
    path = rows_of(tmp_path / "rows.jsonl", **GOOD)
    checked(recipe, path, class_weights={"a": 2.0})
    with pytest.raises(UserError, match=r"class_weights: .* has no label 'aa'; allowed: a, b; did you mean a"):
        checked(recipe, path, class_weights={"aa": 2.0})
    job = job_of(path, task="regression", class_weights="balanced", baselines=[])
    assert (".class_weights", "are of classification and tagging, and task is regression; leave them out") in list(
        needs(recipe, job)
    )


def test_baselines_with_weights_of_labels_have_keys_of_their_own(recipe: Any, tmp_path: Path) -> None:
    path = rows_of(tmp_path / "rows.jsonl", **GOOD)
    asked = {"task": "classification", "class_weights": "balanced"}
    both, one = ("majority", "tfidf"), ("majority",)
    weighted = [settings(recipe, job_of(path, **asked, baselines=list(names)), tmp_path) for names in (both, one)]
    assert weighted[0]["weighted"] == ["tfidf"] and "weighted" not in weighted[1]
    assert "weighted" not in settings(recipe, job_of(path, task="classification", baselines=list(both)), tmp_path)


def test_adapters_that_cannot_be_made_are_found_before_training(
    recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rows_of(tmp_path / "rows.jsonl", **GOOD)
    monkeypatch.setattr(adapters, "missing", lambda: "need peft; install it")
    with pytest.raises(UserError, match=r"downstream \S+: adapters: need peft; install it\."):
        checked(recipe, path, adapters={"rank": 4})
    job = job_of(path, adapters={"rank": 4}, models=["scratch", "frozen"], task="classification", baselines=[])
    assert [where for where, _ in needs(recipe, job)] == [".adapters"]


def test_files_that_are_not_there_are_found_before_training(recipe: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows.jsonl does not exist; correct data.path or models"):
        checked(recipe, tmp_path / "rows.jsonl")
    (tmp_path / "rows.tsv").write_text("text\ttopic\na\tb\n")
    with pytest.raises(UserError, match=r"rows.tsv line 2 has the field 'topic'; expected label, split, text"):
        checked(recipe, tmp_path / "rows.tsv")


def test_what_is_odd_about_labels_is_said_with_numbers(recipe: Any, tmp_path: Path) -> None:
    test = [*texts("test", 17), ("train 0", "a"), ("train 1", "a"), ("new", "c")]
    path = rows_of(tmp_path / "rows.jsonl", **{**GOOD, "test": test})
    checked(recipe, path)
    job = job_of(path, task="classification", labels=[30, 50, 90], models=["scratch"])
    known = checks.read(job, Cleaning())
    assert checks.remarks(job, known) == [
        "downstream verbs: 1 of 20 rows of test have labels that train lacks ('c'), and count as wrong",
        "downstream verbs: 2 of 20 rows of test are in train, too",
        "downstream verbs: 2 of 80 rows are labelled differently in another row of the same text",
        "downstream verbs: labels asks for 90 rows, and train has 40",
    ]
    assert checks.fitted(job, known).labels == [30, 40]
    everything = job_of(path, task="classification", labels=[30, None, 40], test_rows=None)
    assert checks.fitted(everything, known).labels == [30, 40], "null is all rows"
    assert checks.remarks(everything, known) == checks.remarks(job, known)[:3]
    data = load(job.data, tmp_path)
    said = report.build(job, data, [_cell(number) for number in (30, 50, 90)], "fp32", {}, tmp_path, ["two are odd"])
    assert "Two are odd." in page(said) and said.notes["remarks"] == ["two are odd"]


def _cell(labels: int) -> dict[str, Any]:
    return {"model": "scratch", "kind": "network", "labels": labels, "scores": [0.5], "lr": 1e-3}


def test_files_are_read_once_however_many_tasks_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job_of(rows_of(tmp_path / f"rows{n}.jsonl", **GOOD), task="classification", labels=[4]) for n in range(12)]
    loaded: list[Any] = []
    monkeypatch.setattr(checks, "load", lambda config, *rest: (loaded.append(config.path), load(config, *rest))[1])
    for _ in range(3):
        for job in jobs:
            checks.read(job, Cleaning())
    assert len(loaded) == len(jobs)
    rows_of(tmp_path / "rows0.jsonl", **{**GOOD, "train": texts("train", 30)})
    assert checks.read(jobs[0], Cleaning()).rows["train"] == 30 and len(loaded) == len(jobs) + 1


def test_networks_of_others_are_looked_at_before_training(recipe: Any, tmp_path: Path) -> None:
    path, model = rows_of(tmp_path / "rows.jsonl", **GOOD), tmp_path / "theirs"
    model.mkdir()
    wanted = [("", "config.json cannot be read"), ("{}", "config.json names no model_type")]
    wanted.append(('{"model_type": "bert"}', "holds neither tokenizer.json nor vocab.txt|transformers cannot read"))
    for config, message in wanted:
        (model / "config.json").write_text(config)
        with pytest.raises(UserError, match=message):
            checked(recipe, path, models=[str(model)])
    (model / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n")
    (model / "config.json").write_text('{"model_type": "roberta", "max_position_embeddings": 32}')
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(UserError, match="length 32 exceeds its 31 positions"):
        checked(recipe, path, models=[str(model)])
    checked(recipe, path, models=[str(model)], length=31)


def test_positions_are_counted_as_the_architecture_counts_them(recipe: Any, tmp_path: Path) -> None:
    def problems(architecture: str, length: int, **config: Any) -> list[str]:
        network = recipe.network.model_copy(update={"architecture": architecture, "config": config})
        changed = recipe.model_copy(update={"network": network})
        return [text for _, text in needs(changed, job_of(tmp_path, length=length))]

    assert problems("gpt2", 65, n_positions=64) == ["65 exceeds network.config.n_positions 64"]
    assert problems("roberta", 64, max_position_embeddings=64) == [
        "64 exceeds network.config.max_position_embeddings 64, counted from 1 on"
    ]
    assert problems("bert", 513) == ["513 exceeds network.config.max_position_embeddings 512"]
    assert problems("bert", 512) == problems("t5", 9999) == problems("gpt2", 1024) == []


def test_layers_that_share_weights_have_no_rates_of_their_own(recipe: Any, tmp_path: Path) -> None:
    def problems(architecture: str) -> list[tuple[str, str]]:
        network = recipe.network.model_copy(update={"architecture": architecture})
        job = job_of(tmp_path, pooling="mean", layer_decay=0.9)
        return list(needs(recipe.model_copy(update={"network": network}), job))

    assert problems("albert") == [(".layer_decay", "of 'albert' the layers share their weights; set it to 1.0")]
    assert problems("bart") == [(".layer_decay", "of 'bart' the layers are two stacks; set it to 1.0")]
    assert problems("bert") == []


def test_a_decoder_is_not_asked_at_its_first_token(recipe: Any, tmp_path: Path) -> None:
    config = {"n_embd": 32, "n_head": 2, "n_layer": 1}
    network = recipe.network.model_copy(update={"architecture": "gpt2", "config": config})
    changed = recipe.model_copy(update={"network": network})
    job = job_of(tmp_path, task="classification", pooling="cls", baselines=[])
    [(path, text)] = needs(changed, job)
    assert path == ".pooling" and "of 'gpt2' a row's first token sees nothing" in text and "last" in text
    for pooling in ("last", "mean"):
        assert not list(needs(changed, job.model_copy(update={"pooling": pooling})))
    folder = writers.write(tmp_path, "gpt2")
    with pytest.raises(UserError, match="pooling: of 'gpt2' a row's first token sees nothing"):
        checks.check(job.model_copy(update={"length": 16}), [folder], Cleaning())
