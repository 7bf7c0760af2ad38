"""`sesame predict`: rows of files are answered as they were in the evaluation, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from data_prep.errors import UserError
from flows import checkpoint
from flows.inference import predict
from pipeline.downstream.fine_tune import exported
from pipeline.downstream.fine_tune.heads import Shape
from pipeline.home import Home
from tests.pipeline.downstream.fine_tune.answering import made, network_of


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network_of(tmp_path_factory.mktemp("network"))


def kept(network: Path, folder: Path, shape: Shape, **reads: Any) -> exported.FineTuned:
    """A fine-tuned network of random weights, in `folder`/fine-tuned, as a job leaves one."""
    model = made(network, shape, **{"inputs": ["text"], **reads})
    exported.save(folder / "fine-tuned", model)
    return model


def asked(model: Path | str, files: list[Path], out: Path, **options: Any) -> None:
    values = {"inputs": [], "layout": None, "columns": None, "device": "cpu", "as_json": False, **options}
    predict.predict(str(model), list(map(str, files)), str(out), **values)


@pytest.mark.parametrize("suffix", [".jsonl", ".arrow"])
def test_rows_are_answered_in_their_order(
    network: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict, "AT_ONCE", 2)
    model = kept(network, tmp_path, Shape("class", ("no", "yes")))
    rows, out = tmp_path / "rows.tsv", tmp_path / f"out{suffix}"
    rows.write_text("text\tother\n" + "".join(f"{text}\t1\n" for text in ("a", "b c", "d d d", "a b", "c")))
    asked(tmp_path, [rows], out)
    if suffix == ".jsonl":
        lines = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        with pa.OSFile(str(out)) as file:
            lines = pa.ipc.open_file(file).read_all().to_pylist()
        lines = [{**line, "predicted": line["predicted"][0]} for line in lines]
    examples: Any = [SimpleNamespace(text=text, text_pair=None, label=-1) for text in ("a", "b c", "d d d", "a b", "c")]
    wanted = model.predict(examples)
    assert [line["id"] for line in lines] == [f"rows.tsv:{number}" for number in range(2, 7)]
    assert [line["predicted"] for line in lines] == [("no", "yes")[answer] for answer in wanted.answers]
    assert [line["score"] for line in lines] == pytest.approx(wanted.scores, abs=1e-6)
    assert "5 rows" in capsys.readouterr().out and not list(tmp_path.glob(".out*"))


def test_a_row_that_cannot_be_read_leaves_no_file_and_the_old_one(network: Path, tmp_path: Path) -> None:
    kept(network, tmp_path, Shape("class", ("no", "yes")))
    rows, out = tmp_path / "rows.tsv", tmp_path / "out.jsonl"
    rows.write_text("text\tx\na\t1\n\t2\n")
    out.write_text("older\n")
    with pytest.raises(UserError, match=r"rows.tsv line 3"):
        asked(tmp_path, [rows], out)
    assert out.read_text() == "older\n" and not list(tmp_path.glob(".out*"))
    with pytest.raises(UserError, match=r"has no 'text'.*it has sentence"):
        rows.write_text("sentence\na\n")
        asked(tmp_path, [rows], out)
    (tmp_path / "null.jsonl").write_text('{"text": null}\n')
    with pytest.raises(UserError, match=r"null.jsonl line 1: 'text', which predict names, has no value"):
        asked(tmp_path, [tmp_path / "null.jsonl"], out)
    asked(tmp_path, [rows], out, inputs=["sentence"])
    assert len(out.read_text().splitlines()) == 1
    with pytest.raises(UserError, match=r"ends in .csv; name a file that ends in .jsonl or .arrow"):
        asked(tmp_path, [rows], tmp_path / "out.csv")


def test_words_have_labels_each_and_questions_answers(network: Path, tmp_path: Path) -> None:
    kept(network, tmp_path / "tags", Shape("tags", ("O", "X")), inputs=["words"])
    (tmp_path / "rows.jsonl").write_text('{"words": ["a", "b", "c"]}\n')
    asked(tmp_path / "tags", [tmp_path / "rows.jsonl"], tmp_path / "out.jsonl")
    (line,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert len(line["predicted"]) == 3 and set(line["predicted"]) <= {"O", "X"}


@pytest.mark.parametrize(("threshold", "has_answer"), [(1e9, True), (-1e9, False)])
def test_questions_are_answered_by_the_threshold_of_their_network_and_say_where_answers_stand(
    network: Path, tmp_path: Path, threshold: float, has_answer: bool
) -> None:
    shape = Shape("answer", unanswerable=True, threshold=threshold)
    kept(network, tmp_path, shape, inputs=["context", "question"])
    rows, context = tmp_path / "rows.jsonl", "a b c d a b"
    rows.write_text(json.dumps({"context": context, "question": "c"}) + "\n")
    asked(tmp_path, [rows], tmp_path / "out.jsonl")
    (line,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert bool(line["predicted"]) == has_answer and (line["start"] is not None) == has_answer
    assert line["predicted"] == (context[line["start"] :][: len(line["predicted"])] if has_answer else "")
    best = line["n_best"]
    assert len(best) > 2 and sum(span["score"] for span in best) == pytest.approx(1)
    assert [span for span in best if span["start"] is None] == [span for span in best if not span["text"]] != []
    assert {"text": line["predicted"], "start": line["start"], "score": line["score"]} in best
    asked(tmp_path, [rows], tmp_path / "out.arrow")
    with pa.OSFile(str(tmp_path / "out.arrow")) as file:
        assert pa.ipc.open_file(file).read_all().to_pylist() == [{**line, "predicted": [line["predicted"]]}]


def test_what_is_cut_is_counted_over_all_rows_and_choices_are_answered_by_their_texts(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predict, "AT_ONCE", 2)
    model = made(network, Shape("choice"), length=8, inputs=["text"], choices="of", id="n", label="right")
    exported.save(tmp_path / "fine-tuned", model)
    rows = [{"text": text, "of": ["c", "d d"]} for text in ("a", "a b c d a b c d", "b")]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    asked(tmp_path, [tmp_path / "rows.jsonl"], tmp_path / "out.jsonl", as_json=True)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"rows.jsonl:{number}" for number in (1, 2, 3)]
    assert {line["predicted"] for line in lines} <= {"c", "d d"}
    assert json.loads(capsys.readouterr().out)["remarks"] == [
        "rows without 'n', named by file and line: 3 (rows.jsonl:1, rows.jsonl:2, rows.jsonl:3)",
        "1 of 3 rows have choices of over 8 tokens, which are cut",
    ]


def test_files_without_a_header_may_lack_the_answers(network: Path, tmp_path: Path) -> None:
    reads: dict[str, Any] = {"columns": ["kind", "text"], "label": "kind", "separator": " ", "quotes": False}
    kept(network, tmp_path, Shape("class", ("no", "yes")), **reads)
    rows, out = tmp_path / "rows.txt", tmp_path / "out.jsonl"
    rows.write_text("a b c\nd d\n")
    with pytest.raises(UserError, match="name its columns: --columns text, or --columns kind,text"):
        asked(tmp_path, [rows], out)
    asked(tmp_path, [rows], out, columns="text")
    assert len(out.read_text().splitlines()) == 2


def test_networks_are_found_by_run_and_job(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_HOME", str(tmp_path / "home"))
    stages = {name: SimpleNamespace(path=str(tmp_path / name), artifact=name) for name in ("one", "two", "report")}
    for name in stages:
        (tmp_path / name).mkdir()
    kept(network, tmp_path / "one", Shape("class", ("no", "yes")))
    monkeypatch.setattr(checkpoint.runs, "find", lambda runs, name: SimpleNamespace(stages=stages))
    assert Home.find().path == tmp_path / "home"
    found = checkpoint.fine_tuned_folder
    assert found("last") == found("last/one") == tmp_path / "one" / "fine-tuned"
    with pytest.raises(UserError, match="last/two: holds no fine-tuned network"):
        found("last/two")
    kept(network, tmp_path / "two", Shape("class", ("no", "yes")))
    with pytest.raises(UserError, match="last: name one of its jobs: last/one, last/two"):
        found("last")
    (tmp_path / "two" / "fine-tuned" / "task.json").write_text("{}")
    with pytest.raises(UserError, match="holds no fine-tuned network"):
        exported.open_fine_tuned(tmp_path / "two" / "fine-tuned")


def test_a_row_without_an_answer_has_no_text() -> None:
    assert (
        predict._texts(None) == [] and predict._texts("None") == ["None"] and predict._texts(["O", "X"]) == ["O", "X"]
    )
