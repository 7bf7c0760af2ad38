"""Recipes that pretrain nothing: what they have, what is refused, the stages, and their numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from data_prep.errors import UserError
from pipeline import dag
from pipeline.artifact import MODEL
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Evaluation
from pipeline.reports.report import Report, Table, write
from pipeline.stage import Context
from pipeline.stages import init, report
from training.inference.sentence_folder import declared


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("network")
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    BertModel(BertConfig(vocab_size=8, max_position_embeddings=24, **sizes)).save_pretrained(folder)
    vocabulary = {name: number for number, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d"])}
    inner = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def recipe(folder: Path, start: dict[str, Any], **changes: Any) -> Path:
    job = {
        "name": "marks", "task": "tagging", "data": {"name": "brown-pos"}, "labels": [4], "steps": 2, "batch": 2,
        "length": 16, "lrs": [1e-3], "validation_rows": 4, "test_rows": 4,
    }  # fmt: skip
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "init": start, "downstream": [{**job, **changes}]}))
    return path


def test_the_network_of_a_folder_is_what_jobs_read(tmp_path: Path, network: Path) -> None:
    loaded = load(recipe(tmp_path, {"folder": str(network)}))
    assert isinstance(loaded, Evaluation) and loaded.network is not None
    assert (loaded.kind, loaded.network.architecture, loaded.network.config["hidden_size"]) == ("text", "bert", 16)
    again = tmp_path / "again.yaml"
    again.write_text(loaded.to_yaml())
    assert load(again) == loaded and list(yaml.safe_load(again.read_text()))[:5] == [
        *("name", "title", "reproduces", "scale", "init"),
    ]
    nodes = {node.name: node for node in dag.nodes(loaded, tmp_path)}
    assert list(nodes) == ["init", "marks", "report"]
    assert nodes["marks"].inputs == {"pretrained": "init"}


def test_other_networks_are_read_by_the_jobs_that_name_them(tmp_path: Path, network: Path) -> None:
    def several(models: list[str], **networks: Any) -> dict[str, dag.Node]:
        path = recipe(tmp_path, {"folder": str(network)}, models=models)
        path.write_text(f"{path.read_text()}networks: {json.dumps(networks)}\n")
        return {node.name: node for node in dag.nodes(load(path), tmp_path)}

    one = {"folder": str(network), "title": "One", "pretrained_on": "English"}
    nodes = several(["pretrained", "one"], one=one)
    assert list(nodes) == ["init", "init-one", "marks", "report"]
    assert nodes["marks"].inputs == {"pretrained": "init", "networks.one": "init-one"}
    assert nodes["init"].config == nodes["init-one"].config and "one" not in nodes["marks"].config["contents"]
    with pytest.raises(UserError, match=r"networks.two: no job reads it"):
        several(["pretrained", "one"], one=one, two=one)
    with pytest.raises(UserError, match=r"networks.scratch: 'scratch' is what jobs call models of init"):
        several(["scratch"], scratch=one)
    with pytest.raises(UserError, match=r"networks.one: takes one of folder, model and recipe; found none"):
        several(["one"], one={"title": "One"})
    with pytest.raises(UserError, match=r"networks.one: 'settings' belongs to 'recipe'"):
        several(["one"], one={"model": "minilm", "settings": {"train.steps": 3}})


def test_a_network_that_has_no_folder_yet_is_looked_for_later(tmp_path: Path) -> None:
    loaded = load(recipe(tmp_path, {"model": "minilm"}, length=10_000))
    assert isinstance(loaded, Evaluation) and loaded.network is None
    with pytest.raises(UserError, match="init: the network of minilm is found by `sesame run`"):
        dag.nodes(loaded, tmp_path)


@pytest.mark.parametrize(
    ("start", "changes", "message"),
    [
        ({}, {}, "init: takes one of folder, model and recipe; found none; set the others to null"),
        ({"model": "a", "recipe": "bert"}, {}, "found model and recipe"),
        ({"model": "a", "scale": "tiny"}, {}, "'scale' belongs to 'recipe'"),
        ({"model": "a"}, {"name": "init"}, "'init' is the name of a stage"),
        ({"folder": "NETWORK"}, {"length": 25}, "25 exceeds network.config.max_position_embeddings 24"),
        ({"model": "a"}, {"task": "predictions"}, "predictions reads preprocessor and shards, which only a recipe"),
    ],
)
def test_what_cannot_be_is_said(
    tmp_path: Path, network: Path, start: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    start = {name: value.replace("NETWORK", str(network)) for name, value in start.items()}
    path = recipe(tmp_path, start, **changes)
    if changes.get("task") == "predictions":
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "downstream": [{"name": "x", **changes}]}))
    with pytest.raises(UserError, match=message):
        load(path)


def test_sections_of_pretraining_and_no_jobs_are_refused(tmp_path: Path) -> None:
    path = recipe(tmp_path, {"model": "minilm"})
    with pytest.raises(UserError, match=r"mine.yaml: train: unknown key"):
        path.write_text(f"{path.read_text()}train: {{steps: 3}}\n")
        load(path)
    with pytest.raises(UserError, match="downstream: has no job, and nothing is pretrained"):
        load(recipe(tmp_path, {"model": "minilm"}), None, ["downstream=[]"])
    starts = tmp_path / "starts.yaml"
    values = yaml.safe_load(load("adapt").to_yaml())
    starts.write_text(yaml.safe_dump({**values, "train": {**values["train"], "start": {"recipe": str(path)}}}))
    with pytest.raises(UserError, match=r"train.start.recipe: .*mine.yaml trains no network"):
        load(starts)


def test_its_folder_becomes_an_artifact_without_pickles(tmp_path: Path, network: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(network, folder)
    (folder / "optimizer.pt").write_bytes(b"pickled")
    loaded = load(recipe(tmp_path, {"folder": str(folder)}))
    assert isinstance(loaded, Evaluation)
    config, out = init.config(loaded), tmp_path / "out"
    context = Context(downloads=tmp_path, progress=lambda *_: None, files=init.files(loaded))
    summary = init.run(config, {}, out, context)
    assert summary["architecture"] == "bert" and summary["vocabulary"] == 8 and summary["parameters"] > 16 * 8
    assert {path.name for path in (out / MODEL).iterdir()} == {path.name for path in network.iterdir()}
    (folder / "model.safetensors").unlink()
    shutil.copy(network / "model.safetensors", folder / "model.safetensors")
    assert init.config(loaded) == config, "the same network again is the same artifact"
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**written, "layer_norm_eps": 1e-3}))
    with pytest.raises(UserError, match="has changed since this run began"):
        init.run(config, {}, tmp_path / "other", context)


def test_what_a_folder_of_sentence_transformers_declares_stays_with_it(tmp_path: Path, network: Path) -> None:
    folder, out = tmp_path / "folder", tmp_path / "out"
    shutil.copytree(network, folder)
    loaded = load(recipe(tmp_path, {"folder": str(folder)}))
    assert isinstance(loaded, Evaluation)
    assert set(init.config(loaded)) == {"network"}
    (folder / "modules.json").write_text('[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    config = init.config(loaded)
    context = Context(downloads=tmp_path, progress=lambda *_: None, files=init.files(loaded))
    init.run(config, {}, out, context)
    assert declared(out / MODEL).pooling == "cls"
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    assert init.config(loaded) != config, "another pooling is another artifact"
    with pytest.raises(UserError, match="has changed since this run began"):
        init.run(config, {}, tmp_path / "other", context)


def test_the_report_tells_of_the_network_and_the_jobs(tmp_path: Path, network: Path) -> None:
    job = Report("marks", "How well.", [Table("Scores", ["model"], [["pretrained"]])], [], "It is good.", {"f1": 0.5})
    (tmp_path / "job").mkdir()
    write(job, tmp_path / "job")
    summary = {"architecture": "bert", "parameters": 1234, "vocabulary": 8}
    inputs: dict[str, Any] = {
        "init": SimpleNamespace(key="init-1", path=tmp_path, stage="init", summary=summary),
        "marks": SimpleNamespace(key="job-1", path=tmp_path / "job", stage="job", summary={}),
    }
    out = tmp_path / "out"
    out.mkdir()
    config = report.config(load(recipe(tmp_path, {"folder": str(network)})))
    assert report.run(config, inputs, out, Context(tmp_path)) == {"downstream": ["marks"]}
    page = (out / "report.md").read_text()
    assert "A network that existed: bert, 1,234 parameters, 8 tokens." in page and "It is good." in page
    assert json.loads((out / "report.json").read_text())["network"] == summary
