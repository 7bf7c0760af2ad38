"""A registered encoder serves itself, is registered once, and becomes the champion only by a fair comparison."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_prep.errors import UserError
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.tokenizers import TokenizerConfig, train
from pipeline.gate import ENCODER, Candidate, Score
from pipeline.tracking import registry, sender
from pipeline.tracking.registry import EXAMPLE, Registration, Registry, register, requirements
from pipeline.tracking.tracking import Tracker, send_pending
from tests.pipeline.tracked import senders
from tests.unprivileged import unprivileged

HIDDEN = 16
TEXTS = ["the cat sat on the mat", "a dog", "it saw " * 100]
EVALUATION = {"data": "d" * 32, "protocol": "linear probe", "seeds": [0, 1, 2]}
ANOTHER = {**EVALUATION, "data": "e" * 32}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained network as an artifact holds it: with heads, a tokenizer, and bfloat16 weights."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    folder = tmp_path_factory.mktemp("an export")
    train(TokenizerConfig(kind="wordpiece", vocabulary=120, lowercase=True), iter(TEXTS * 3), folder)
    config = BertConfig(
        vocab_size=120,
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = BertForPreTraining(config)
        torch.nn.Module.to(network, torch.bfloat16)
        network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a home")


@pytest.fixture(scope="module")
def reader(home: Path) -> Registry:
    return Registry(home)


@pytest.fixture(scope="module")
def client(reader: Registry) -> Any:
    return reader._server.client


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own idea of the server is not used, and nothing is left in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")


_flows = iter(range(1000))
METRICS = {"accuracy": 0.5, "accuracy/hard / _": 0.5, "seconds": 1.5}


def proposed(score: float | None, evaluation: dict[str, Any] = EVALUATION, **more: Any) -> Candidate:
    return Candidate(ENCODER, "pretrained", "model", "accuracy", evaluation, score, **more)


def registered(
    home: Path, export: Path, name: str, score: float, evaluation: dict[str, Any] = EVALUATION
) -> tuple[Registration, str]:
    """Register in a flow of its own; returns what was decided."""
    with Tracker(home, None, "registry", f"flow-{next(_flows)}") as tracker, tracker.run("register") as run:
        metrics = {"accuracy": score, "accuracy/hard / ?": score, "seconds": 1.5}
        asked = register(run, export, name, proposed(score, evaluation), metrics, "pretrain-0123456789abcdef")
        assert tracker.outcome(asked.id) is None or asked.decision()
    tracker.close(timeout=120)
    return asked, asked.decision() or ""


def versions(client: Any, name: str) -> list[Any]:
    return sorted(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))


@pytest.fixture(scope="module")
def first(home: Path, export: Path) -> tuple[Registration, str]:
    return registered(home, export, "bert tiny", 0.5)


# -- what is registered -----------------------------------------------------------------------------------------------


def test_a_version_says_what_it_is(first: tuple[Registration, str], client: Any, reader: Registry) -> None:
    asked, decision = first
    assert decision == "version 1 of bert tiny is the champion with 0.5: there was none"
    (version,) = versions(client, "bert tiny")
    digest = registry.digest(EVALUATION)
    assert version.tags == {
        "sesame.id": asked.id,
        "sesame.artifact": "pretrain-0123456789abcdef",
        "sesame.score": "0.5",
        "sesame.score.name": "accuracy",
        "sesame.score.direction": "higher",
        "sesame.score.spread": "",
        "sesame.evaluation": digest,
        "sesame.evaluation.text": registry.canonical(EVALUATION),
        "sesame.decision": decision,
    }
    champion = reader.champion("bert tiny")
    assert champion is not None
    assert (champion.version, champion.score) == ("1", Score(0.5, digest))
    assert champion == reader.version("bert tiny", "1")
    run = client.get_run(champion.run)
    assert run.data.metrics == METRICS
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert str(model.status) == "READY"
    assert {metric.key: metric.value for metric in model.metrics} == METRICS


def test_its_files_have_a_signature_an_example_and_no_pickle(
    first: tuple[Registration, str], reader: Registry, export: Path
) -> None:
    champion = reader.champion("bert tiny")
    assert champion is not None
    folder = reader.fetch(champion)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "requirements.txt", "served_encoder.py", "input_example.json"} <= names
    assert f"artifacts/{export.name}/model.safetensors" in names
    assert not [name for name in names if name.endswith((".pkl", ".bin", ".pt", ".pyc"))]
    pins = (folder / "requirements.txt").read_text().split()
    assert pins == requirements()
    assert f"transformers=={metadata.version('transformers')}" in pins
    assert not [pin for pin in pins if "+" in pin]
    from mlflow.models import Model

    model = Model.load(str(folder))
    assert model.signature is not None
    assert json.loads(model.signature.to_dict()["inputs"]) == [{"type": "string", "required": True}]
    outputs = [{"type": "array", "items": {"type": "double"}, "required": True}]
    assert json.loads(model.signature.to_dict()["outputs"]) == outputs
    assert model.load_input_example(str(folder)) == EXAMPLE


def test_the_champion_embeds_texts(first: tuple[Registration, str], reader: Registry, export: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    model = reader.load("bert tiny")
    vectors = np.array(model.predict(TEXTS))
    assert vectors.shape == (3, HIDDEN)
    tokenizer, network = AutoTokenizer.from_pretrained(export), AutoModel.from_pretrained(export, dtype=torch.float32)
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = tokenizer(text, truncation=True, max_length=24, return_tensors="pt").input_ids
        with torch.inference_mode():
            alone = network.eval()(input_ids=ids).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(vector, alone.numpy(), atol=1e-5)
    assert model.predict([]) == []
    many = np.array(model.predict(TEXTS * 15))  # more than one batch
    np.testing.assert_allclose(many, np.tile(vectors, (15, 1)), atol=1e-5)


def test_mlflow_loads_it_by_its_public_name(
    first: tuple[Registration, str], reader: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd
    from mlflow.pyfunc import load_model

    monkeypatch.setenv("MLFLOW_TRACKING_URI", reader._server.uri)
    model = load_model("models:/bert tiny@champion")
    assert np.array(model.predict(pd.DataFrame({"text": TEXTS}))).shape == (3, HIDDEN)


def test_a_network_whose_tokenizer_has_no_padding(tmp_path: Path, export: Path) -> None:
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2Model, PreTrainedTokenizerFast

    inner = AutoTokenizer.from_pretrained(export).backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="[SEP]").save_pretrained(tmp_path / "gpt")
    with torch.random.fork_rng():
        GPT2Model(GPT2Config(vocab_size=120, n_embd=8, n_layer=1, n_head=2, n_positions=16)).save_pretrained(
            tmp_path / "gpt"
        )
    registry.save(tmp_path / "gpt", tmp_path / "saved")
    from mlflow.pyfunc import load_model

    model = load_model(str(tmp_path / "saved"))
    together, alone = model.predict(TEXTS), [model.predict([text])[0] for text in TEXTS]
    assert np.array(together).shape == (3, 8)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def of_sentence_transformers(folder: Path, export: Path) -> None:
    shutil.copytree(export, folder)
    modules = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in modules.items()]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')


def decoder(folder: Path, export: Path) -> None:
    """It has no special tokens around texts of its own, and ends them nevertheless."""
    import torch
    from tokenizers import processors
    from transformers import AutoTokenizer, GPT2Config, GPT2Model, PreTrainedTokenizerFast

    inner = AutoTokenizer.from_pretrained(export).backend_tokenizer
    inner.post_processor = processors.Sequence([])
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="[SEP]", unk_token="[UNK]").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = GPT2Model(GPT2Config(vocab_size=120, n_embd=8, n_layer=1, n_head=2, n_positions=16))
        network.save_pretrained(folder)


@pytest.mark.parametrize(("made", "pooling"), [(of_sentence_transformers, "cls"), (decoder, "last")])
def test_a_served_encoder_gives_the_vectors_of_embed(tmp_path: Path, export: Path, made: Any, pooling: str) -> None:
    from flows.inference.embedder import open_network, options_of
    from pipeline.tracking.served_encoder import ServedEncoder

    made(tmp_path / "network", export)
    settings = registry.embedding_settings(tmp_path / "network")
    assert (settings["pooling"], len(settings["end"])) == (pooling, int(pooling == "last"))
    served = ServedEncoder()
    served.load_context(SimpleNamespace(artifacts={"encoder": str(tmp_path / "network")}, model_config=settings))
    embed = open_network(str(tmp_path / "network"), options_of(pooling=None, precision="fp32")).embedder
    texts = [*TEXTS, "a [SEP] dog"]
    np.testing.assert_allclose(served.predict(None, texts), embed(texts).vectors, atol=1e-5)


def test_texts_that_look_alike_have_the_same_embedding_and_half_characters_are_refused(
    tmp_path: Path, export: Path
) -> None:
    from mlflow.exceptions import MlflowException

    from pipeline.tracking.served_encoder import ServedEncoder

    folder = shutil.copytree(export, tmp_path / "export")
    train(TokenizerConfig(vocabulary=120), ["the caf\u00e9 \u304c"] * 9, folder, Cleaning())
    encoder = ServedEncoder()
    settings = registry.embedding_settings(folder)
    encoder.load_context(SimpleNamespace(artifacts={"encoder": str(folder)}, model_config=settings))
    composed, decomposed = encoder.predict(None, ["caf\u00e9 \u304c", "cafe\u0301\u00a0 \u304b\u3099\u00ad"])
    assert composed == decomposed
    with pytest.raises(MlflowException, match="text 2 holds half of a surrogate pair, which is no character"):
        encoder.predict(None, ["a", "b\ud83d"])


# -- the gate ---------------------------------------------------------------------------------------------------------


def test_who_becomes_the_champion(home: Path, export: Path, reader: Registry) -> None:
    def champion() -> str:
        version = reader.champion("gate")
        assert version is not None
        return version.version

    assert registered(home, export, "gate", 0.5)[1].endswith("there was none")
    decision = registered(home, export, "gate", 0.4)[1]
    assert decision == "version 2 of gate stays a challenger: 0.4 is lower than the 0.5 of version 1, the champion"
    assert champion() == "1"
    decision = registered(home, export, "gate", 0.5)[1]
    assert (
        decision == "version 3 of gate is the champion: 0.5 is not lower than the 0.5 of version 1, the champion so far"
    )
    assert champion() == "3"
    decision = registered(home, export, "gate", 0.9, ANOTHER)[1]
    assert "version 4 of gate stays a challenger: version 3, the champion, was not scored by the same" in decision
    assert champion() == "3"
    other = registry.digest(ANOTHER)
    assert reader.promote("gate", "3", Score(0.8, other)) == "version 3 of gate is the champion already"
    assert reader.promote("gate", "4", Score(0.9, other)).startswith(
        "version 4 of gate is the champion: 0.9 is not lower"
    )
    assert champion() == "4"


def test_the_newest_of_the_others_is_the_challenger(home: Path, export: Path, client: Any, reader: Registry) -> None:
    """Of losses less is better; spreads are told; whoever becomes the champion is a challenger no more."""

    def alias(name: str) -> str:
        return str(client.get_model_version_by_alias("losses", name).version)

    def made(loss: float, spread: float) -> str:
        with Tracker(home, None, "registry", f"flow-{next(_flows)}") as tracker, tracker.run("register") as run:
            candidate = proposed(loss, direction="lower", spread=spread)
            asked = register(run, export, "losses", candidate, {"loss": loss})
        tracker.close(timeout=120)
        return asked.decision() or ""

    assert made(1.0, 0.1) == "version 1 of losses is the champion with 1 ± 0.1: there was none"
    sentence = "version 2 of losses stays a challenger: 1.5 ± 0.2 is higher than the 1 ± 0.1 of version 1, the champion"
    assert made(1.5, 0.2) == sentence
    assert (alias("champion"), alias("challenger")) == ("1", "2")
    evaluation = registry.digest(EVALUATION)
    assert "is the champion" in reader.promote("losses", "2", Score(0.5, evaluation, "lower"))
    assert alias("champion") == "2" and reader.version("losses", "2").score == Score(0.5, evaluation, "lower")
    with pytest.raises(Exception, match="challenger"):
        alias("challenger")


def test_a_name_without_a_champion(reader: Registry) -> None:
    assert reader.champion("nobody") is None
    with pytest.raises(UserError, match="nobody has no champion"):
        reader.load("nobody")


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_what_cannot_be_registered_is_refused_at_once(tmp_path: Path, export: Path) -> None:
    tracker = Tracker(tmp_path, "http://127.0.0.1:1", "x", "x")
    run = tracker.run("x")
    with pytest.raises(ValueError, match="must be a finite number, found None"):
        register(run, export, "m", proposed(None), {"f1": 1.0})
    with pytest.raises(ValueError, match="must be a finite number, found nan"):
        register(run, export, "m", proposed(float("nan")), {"accuracy": float("nan")})
    with pytest.raises(ValueError, match="cannot name a model"):
        register(run, export, "a/b", proposed(1.0), {"accuracy": 1.0})
    with pytest.raises(TypeError, match="data: pathlib"):
        register(run, export, "m", proposed(1.0, {"data": tmp_path}), {"accuracy": 1.0})
    assert register(run, export, "m", proposed(1.0), {"accuracy": 1.0}).decision() is None


def test_registering_twice_is_registering_once(home: Path, export: Path, client: Any, reader: Registry) -> None:
    asked, _ = registered(home, export, "once", 0.5)
    registered(home, export, "once", 0.5)
    asked.run.tracker._spool._sent.unlink()  # as if its process had died before it noted anything
    assert send_pending(home) == 0
    assert [version.version for version in versions(client, "once")] == [1, 2]
    champion = reader.champion("once")
    assert champion is not None
    assert champion.version == "2", "an old decision is not taken again"


def test_what_was_half_done_is_finished(home: Path, export: Path, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure, calls = registry._ensure_name, []

    def fail_once(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise ConnectionError("cut off")
        ensure(*arguments)

    monkeypatch.setattr(registry, "_ensure_name", fail_once)
    monkeypatch.setattr(sender, "FIRST_WAIT_SECONDS", 0.01)
    asked, decision = registered(home, export, "half", 0.5)
    assert decision.startswith("version 1 of half is the champion")
    assert len(calls) == 2
    experiment = client.get_experiment_by_name("registry").experiment_id
    assert len(client.search_logged_models([experiment], f"tags.`sesame.id` = '{asked.id}'")) == 1


def test_a_model_that_does_not_serve_is_not_registered(
    home: Path, export: Path, tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(sender, "TRIES", 2)
    broken = tmp_path / "broken"
    shutil.copytree(export, broken)
    (broken / "model.safetensors").unlink()
    assert registered(home, broken, "broken", 0.5)[1].startswith("not done: ")
    assert registered(home, tmp_path / "gone", "broken", 0.5)[1].startswith("not done: RefusedError: ")
    assert versions(client, "broken") == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An MLflow server that keeps the files itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    arguments += ["--artifacts-destination", str(tmp_path / "kept")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    environment.pop("MLFLOW_TRACKING_URI")
    with (tmp_path / "server.log").open("w") as log:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        limit = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < limit, (tmp_path / "server.log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait()


@pytest.mark.slow
def test_with_a_server(tmp_path: Path, export: Path, server: str, first: tuple[Registration, str]) -> None:
    tracker = Tracker(tmp_path, server, "remote", "remote")
    with tracker.run("flow", params={"seed": 1}) as run:
        run.dataset("shards", "d" * 32, "/data/shards", "training", {"rows": 10})
        run.metrics({"loss": 1.0}, 1)
        run.text("# Report", "report.md")
        asked = register(run, export, "remote", proposed(0.5), {"accuracy": 0.5})
    assert tracker.close(timeout=120) == 0
    assert asked.decision() == "version 1 of remote is the champion with 0.5: there was none"
    assert (tracker.url(run) or "").startswith(f"{server}/#/experiments/1/runs/")
    reader = Registry(tmp_path, server)
    assert np.array(reader.load("remote").predict(TEXTS)).shape == (3, HIDDEN)
    champion = reader.champion("remote")
    assert champion is not None
    assert reader._server.client.get_run(champion.run).info.status == "FINISHED"
    tracker._spool._sent.unlink()
    assert send_pending(tmp_path, server) == 0
    assert len(versions(reader._server.client, "remote")) == 1
    assert not (tmp_path / "mlflow" / "artifacts").exists()


def test_registering_is_queued(tmp_path: Path, export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of a file: neither a server nor the weights are looked at."""
    tries = senders(monkeypatch)
    tracker = Tracker(tmp_path, "http://127.0.0.1:1", "quick", "quick")
    run = tracker.run("register")
    weights = export / "model.safetensors"
    assert weights.is_file()
    weights.chmod(0)
    try:
        with unprivileged():
            asked = register(run, export, "m", proposed(1.0), {"accuracy": 1.0})
    finally:
        weights.chmod(0o644)
    assert asked.decision() is None and "MainThread" not in tries
    lines = [json.loads(line) for line in tracker._spool.path.read_text().splitlines()]
    assert lines[0]["op"] == "run" and len(lines) == 2
    tracker.close(timeout=0)
