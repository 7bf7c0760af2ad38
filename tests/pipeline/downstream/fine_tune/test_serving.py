"""A fine-tuned network served by MLflow answers as it was evaluated, whatever its head."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream.fine_tune import exported
from pipeline.downstream.fine_tune.heads import Layout, Shape
from pipeline.downstream.fine_tune.serving import answers, example_of
from pipeline.downstream.labelled_scores import named_as
from pipeline.gate import FINE_TUNED
from tests.pipeline.downstream.fine_tune.answering import made, network_of
from tests.training.inference import writers
from training.inference.networks.text import open_writer
from training.objectives.writing import Writing


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network_of(tmp_path_factory.mktemp("network"))


@pytest.mark.parametrize(
    ("shape", "reads", "row", "example"),
    [
        (Shape("class", ("no", "yes")), {"inputs": ["s"], "id": "n", "language": "l"}, {"s": "a b"}, {"text": "a b"}),
        (Shape("class", ("no", "yes")), {"inputs": ["{s}: {t}"]}, {"s": "a", "t": "b"}, {"text": "a: b"}),
        (Shape("score"), {"inputs": ["s", "t"]}, {"s": "a", "t": "b c"}, {"text": "a", "text_pair": "b c"}),
        (Shape("score"), {"inputs": ["s", "t"], "optional": ["t"]}, {"s": "a", "t": None}, {"text": "a"}),
        (Shape("tags", ("O", "X")), {"layout": "tokens"}, {"words": ["a", "b"]}, {"words": ("a", "b")}),
        (
            Shape("choice"),
            {"inputs": ["s"], "choices": "of"},
            {"s": "a", "of": ["b", "c d"]},
            {"text": "a", "choices": ("b", "c d")},
        ),
    ],
)
def test_rows_are_answered_as_examples_of_files(
    network: Path, shape: Shape, reads: dict[str, Any], row: dict[str, Any], example: dict[str, Any]
) -> None:
    model = made(network, shape, **reads)
    (answer,) = answers(model, [row])
    wanted = model.predict([Example(**{"text": "", **example})])
    assert answer.get("score") == wanted.scores[0]
    named = {
        "class": lambda a: shape.labels[a],
        "tags": lambda a: [shape.labels[tag] for tag in a],
        "choice": lambda a: row["of"][a],
    }
    assert answer["predicted"] == named.get(shape.head, float)(wanted.answers[0])
    assert set(example_of(model)[0]) == set(row) and len(answers(model, example_of(model))) == 2


def test_a_row_without_the_columns_of_the_task_is_named(network: Path) -> None:
    model = made(network, Shape("class", ("no", "yes")), inputs=["s"])
    with pytest.raises(UserError, match="row 2: has no 's', which the task names; it has x"):
        answers(model, [{"s": "a"}, {"x": "a"}])


def test_a_row_without_a_value_is_named_and_what_is_cut_is_counted(
    network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import pandas as pd

    model = made(network, Shape("class", ("no", "yes")), length=4, inputs=["s"])
    records = pd.DataFrame([{"s": "a"}, {"typo": "b"}]).to_dict("records")
    for missing in (records[1]["s"], pd.NA, pd.NaT, None):
        with pytest.raises(UserError, match="row 2: 's', which the task names, has no value"):
            answers(model, [{"s": "a"}, {"s": missing}])
    assert len(answers(model, [{"s": "a"}, {"s": "a b c d"}])) == 2
    assert [record.getMessage() for record in caplog.records] == ["1 of 2 rows have over 4 tokens and are cut"]


def test_mlflow_answers_as_the_evaluation(network: Path, tmp_path: Path) -> None:
    import pandas as pd
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model
    from mlflow.pyfunc import load_model

    from pipeline.tracking import registry

    model = made(network, Shape("class", ("no", "yes")), inputs=["s"])
    exported.save(tmp_path / "fine-tuned", model)
    registry.save(tmp_path / "fine-tuned", tmp_path / "saved", kind=FINE_TUNED)
    names = {path.name for path in (tmp_path / "saved").rglob("*")}
    assert "served_fine_tuned.py" in names and not [n for n in names if n.endswith((".pkl", ".pyc", ".bin"))]
    signature: Any = Model.load(str(tmp_path / "saved")).signature
    assert [each["name"] for each in json.loads(signature.to_dict()["inputs"])] == ["s"]
    served = load_model(str(tmp_path / "saved"))
    texts = ["a", "b c d", "d d d d a b", "a b"]
    table = served.predict(pd.DataFrame({"s": texts}))
    wanted = model.predict([Example(text=text) for text in texts])
    assert list(table["predicted"]) == [("no", "yes")[answer] for answer in wanted.answers]
    assert list(table["score"]) == pytest.approx(wanted.scores, abs=1e-6)
    with pytest.raises(MlflowException, match="row 1: 's' is"):
        served.predict(pd.DataFrame({"s": [" "]}))


def writing(folder: Path, shape: Shape, **reads: Any) -> exported.FineTuned:
    """A network that writes, not trained."""
    source = writers.write(folder, "t5")
    settings = {"head": shape.head, **reads}
    layout = Layout(16, 5, max_answer=6)
    objective = Writing(open_writer(source), layout.max_answer)
    return exported.FineTuned(objective, shape, layout, source, "cls", False, Cleaning(), "fp32", settings)


@pytest.mark.parametrize(
    ("shape", "reads", "rows", "examples"),
    [
        (
            Shape("answer", unanswerable=True),
            {"layout": "squad"},
            [{"context": "a b c d", "question": "b"}, {"context": "d d a", "question": "c"}],
            [Example(text="a b c d", text_pair="b"), Example(text="d d a", text_pair="c")],
        ),
        (
            Shape("tags", ("O", "X")),
            {"layout": "tokens"},
            [{"words": ["a", "b", "d"]}, {"words": ["c"]}],
            [Example(text="", words=("a", "b", "d")), Example(text="", words=("c",))],
        ),
        (
            Shape("text", written=True),
            {"inputs": ["s"]},
            [{"s": "the cat"}, {"s": "a dog and a log"}],
            [Example(text="the cat"), Example(text="a dog and a log")],
        ),
        (
            Shape("class", ("cat", "dog"), written=True),
            {"inputs": ["s"]},
            [{"s": "the cat"}, {"s": "a dog"}],
            [Example(text="the cat"), Example(text="a dog")],
        ),
    ],
)
def test_mlflow_answers_of_every_form(
    network: Path, tmp_path: Path, shape: Shape, reads: dict[str, Any], rows: list[Any], examples: list[Example]
) -> None:
    import pandas as pd
    from mlflow.pyfunc import load_model

    from pipeline.tracking import registry

    model = writing(tmp_path / "t5", shape, **reads) if shape.written else made(network, shape, **reads)
    exported.save(tmp_path / "fine-tuned", model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        registry.save(tmp_path / "fine-tuned", tmp_path / "saved", kind=FINE_TUNED)
        served = load_model(str(tmp_path / "saved")).predict(pd.DataFrame(rows)).to_dict("records")
    assert not [each for each in said if "type hint" in str(each.message).lower()]
    wanted = model.predict(examples)
    assert [each["predicted"] for each in served] == [named_as(shape, answer) for answer in wanted.answers]
    if shape.head == "answer":
        assert [each["n_best"] for each in served] == [[span._asdict() for span in of] for of in wanted.n_best]
    if shape.written:
        assert [each["score"] for each in served] == [None, None]
    else:
        assert [each["score"] for each in served] == pytest.approx(wanted.scores, abs=1e-6)


@pytest.mark.slow
def test_a_server_answers_json_as_the_evaluation(network: Path, tmp_path: Path) -> None:
    from pipeline.tracking import registry

    model = made(network, Shape("class", ("no", "yes")), inputs=["s"])
    exported.save(tmp_path / "fine-tuned", model)
    registry.save(tmp_path / "fine-tuned", tmp_path / "saved", kind=FINE_TUNED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = Path(sys.executable).parent
    command = [own / "mlflow", "models", "serve", "-m", tmp_path / "saved", "--env-manager", "local", "-p", str(port)]
    environment = {**os.environ, "PATH": f"{own}:{os.environ['PATH']}"}
    server = subprocess.Popen([*map(str, command), "-h", "127.0.0.1"], env=environment, start_new_session=True)
    body = json.dumps({"dataframe_records": [{"s": "a b"}, {"s": "d"}]}).encode()
    request = Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    try:
        answer: Any = None
        until = time.monotonic() + 120
        while answer is None:
            try:
                answer = json.loads(urlopen(request, timeout=30).read())
            except OSError:
                assert time.monotonic() < until and server.poll() is None, "the server does not answer"
                time.sleep(1)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    wanted = model.predict([Example(text="a b"), Example(text="d")])
    assert [each["predicted"] for each in answer["predictions"]] == [("no", "yes")[one] for one in wanted.answers]
    assert [each["score"] for each in answer["predictions"]] == pytest.approx(wanted.scores, abs=1e-6)
