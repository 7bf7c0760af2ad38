"""A run starts from the network of another recipe, made first if it is not stored, or from one that is named."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.errors import UserError
from data_prep.sources import networks
from flows import commands, pretrain, starting
from pipeline import dag
from pipeline.artifact import MODEL
from pipeline.home import Home
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Evaluation
from pipeline.stage import Context
from pipeline.stages import init
from tests.data_prep.sound.recordings import written
from tests.pipeline import tiny_predictions
from tests.pipeline.downstream.fine_tune import listening

SHORT = "downstream.0.length=16"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SESAME_HOME", str(tmp_path / "home"))
    return Home.find()


def goes_on(folder: Path, other: Path) -> Path:
    path = folder / "goes-on.yaml"
    sections = {name: text for name, text in tiny_predictions.SECTIONS["masked"].items() if name != "network"}
    given = {
        "name": "goes-on",
        "data": f"{{kind: text, sources: [{{path: {folder / 'texts'}}}], split: {{validation: 0.2, test: 0.1}}}}",
        **sections,
        "tokenizer": "{kind: pretrained, add: 3}",
        "train": f"{{global_batch: 16, steps: 2, start: {{recipe: {other}}}}}",
        "downstream": "[{name: told, task: adaptation}]",
        "placement": "{threads: 1}",
    }
    path.write_text("\n".join(f"{name}: {value}" for name, value in given.items()) + "\n")
    return path


def pretrained(home: Home, recipe: Any) -> Any:
    """The artifact of a recipe's network, with all that it is made from."""
    store, artifacts = home.store(), {}
    for node in dag.nodes(recipe, home.downloads)[:4]:
        context = Context(downloads=home.downloads, placement=recipe.placement.model_dump(mode="json"))
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    return artifacts["pretrain"]


def test_the_other_recipe_is_made_first_and_found_from_then_on(home: Home, tmp_path: Path) -> None:
    other = tiny_predictions.recipe(tmp_path, "masked", steps=6)
    path = goes_on(tmp_path, other)
    recipe: Any = load(path)
    other_recipe: Any = load(other)
    assert recipe.network == other_recipe.network and recipe.tokenizer.path is None
    assert starting.stored_settings(recipe, (), home) == []
    assert [earlier.name for earlier in starting.to_train(recipe, (), home)] == ["tiny-masked"]
    asked: list[Any] = []

    def make(earlier: Any, name: str) -> Any:
        asked.append((earlier.name, name, earlier.downstream))
        return SimpleNamespace(stages={"pretrain": SimpleNamespace(path=str(pretrained(home, earlier).path))})

    settings = starting.made_settings(recipe, ("placement.threads=1",), home, make)
    assert asked == [("tiny-masked", str(other), [])]
    assert starting.made_settings(recipe, (), home, make) == settings and len(asked) == 1
    assert starting.to_train(recipe, (), home) == []
    resolved: Any = load(path, None, settings)
    start = resolved.train.start
    assert start is not None and start.recipe is None and start.folder is not None
    assert (Path(start.folder).name, resolved.tokenizer.path) == (MODEL, start.folder)
    config = json.loads((Path(start.folder) / "config.json").read_text())
    assert resolved.network.config["hidden_size"] == config["hidden_size"] == 48
    assert load_of_resolved(resolved, tmp_path) == resolved, "a run is resumed from what was resolved"

    named = starting.asked_settings(str(path), start.folder)
    renamed: Any = load(path, None, named)
    assert renamed.train.start == start
    assert (
        starting.asked_settings(str(path), "100")
        == starting.asked_settings(str(path), "pretrain-abc@100")
        == []
        == starting.asked_settings(str(path), None)
    )
    with pytest.raises(UserError, match=r"names no network.*; packages: minilm, multilingual-e5"):
        starting.asked_settings(str(path), "nothing-of-that-name")
    evaluated = load("finetune", None, [*starting.asked_settings("finetune", start.folder), SHORT])
    assert isinstance(evaluated, Evaluation) and evaluated.init.folder == start.folder and evaluated.init.model is None


def test_a_deployment_trains_it_first(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried_out: list[Any] = []

    def carry_out_all(session: Any) -> dict[str, Any]:
        carried_out.append(session.recipe)
        if session.recipe.name == "tiny-masked":
            pretrained(home, session.recipe)
        return {"recipe": session.recipe.name}

    monkeypatch.setattr(pretrain, "prepare", lambda _: None)
    monkeypatch.setattr(pretrain, "_carry_out_all", carry_out_all)
    path = goes_on(tmp_path, tiny_predictions.recipe(tmp_path, "masked", steps=6))
    assert pretrain.pretrain.fn(str(path)) == {"recipe": "goes-on"}
    assert [recipe.name for recipe in carried_out] == ["tiny-masked", "goes-on"]
    assert carried_out[0].downstream == [] and Path(carried_out[1].train.start.folder).name == MODEL


def test_a_plan_begins_with_what_is_trained_first(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "prepare", lambda _: None)
    path = goes_on(tmp_path, tiny_predictions.recipe(tmp_path, "masked", steps=6))
    commands.plan(str(path), None, [], None, None, "H100")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny-masked" and lines[1].startswith("├── ● ingest  to do")
    assert " ".join(lines[-2:]).startswith("goes-on starts from what is trained above")


def test_an_evaluation_takes_the_network_of_a_recipe_or_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    recipe = load("finetune", None, ["init.model=null", "init.recipe=bert", "init.scale=small"])
    (named,) = starting.named_networks(recipe)
    earlier = starting.first(named, ["placement.threads=1", "seed=3"])
    assert earlier is not None
    assert (earlier.name, earlier.scale, earlier.downstream, earlier.placement.threads) == ("bert", "small", [], 1)
    monkeypatch.setattr(networks, "network", lambda name, downloads: downloads / name)
    monkeypatch.setenv("SESAME_HOME", str(home.path))
    settings = starting.stored_settings(load("finetune"), [], home)
    assert settings[-1] == f'init.folder="{home.downloads / "minilm"}"'

    others = ["downstream.0.models=[pretrained, large, early]", "networks.large.model=multilingual-e5"]
    others += ["networks.early={recipe: multilingual, scale: tiny, settings: {train.steps: 300, seed: 2}}"]
    several = load("finetune", None, others)
    settings = starting.stored_settings(several, [], home)
    assert [text for text in settings if ".folder=" in text] == [
        f'init.folder="{home.downloads / "minilm"}"',
        f'networks.large.folder="{home.downloads / "multilingual-e5"}"',
    ], "what is not trained yet is left to be made"
    early = starting.named_networks(several)[-1]
    trained = starting.first(early, [])
    assert trained is not None and (trained.name, trained.train.steps, trained.seed) == ("multilingual", 300, 2)
    run = SimpleNamespace(stages={"pretrain": SimpleNamespace(path=str(tmp_path / "made"))})
    made = starting.made_settings(several, [], home, lambda *_: run)  # type: ignore[arg-type,return-value]
    assert made[: len(settings)] == settings and made[-2:] == [
        "networks.early.settings={}",
        f'networks.early.folder="{tmp_path / "made" / MODEL}"',
    ]


def load_of_resolved(recipe: Any, folder: Path) -> Any:
    path = folder / "resolved.yaml"
    path.write_text(recipe.to_yaml())
    return load(path)


def test_a_recipe_that_starts_elsewhere_itself_is_refused(tmp_path: Path) -> None:
    other = tiny_predictions.recipe(tmp_path, "masked", steps=6)
    first = goes_on(tmp_path, other)
    second = tmp_path / "second.yaml"
    second.write_text(first.read_text().replace(str(other), str(first)))
    with pytest.raises(UserError, match="starts from another network itself; name one that does not"):
        load(second)


def test_jobs_are_told_what_the_network_of_a_recipe_reads_before_it_is_trained(tmp_path: Path) -> None:
    changed = ["init.model=null", "init.recipe=masked-frames"]
    with pytest.raises(UserError, match=r"downstream.0.data: of kind sound rows are told by a task file; set it to"):
        load("finetune", None, changed)
    with pytest.raises(UserError, match=r"init.kind: text, and the network of masked-frames reads sound; leave it out"):
        load("finetune", None, [*changed, "init.kind=text"])
    with pytest.raises(UserError, match=r"init.kind: sound, and the network reads text; leave it out"):
        load("finetune", None, ["init.kind=sound"])
    with pytest.raises(UserError, match=r"networks.heard: reads sound, and init reads text; name a network of text"):
        load("finetune", None, ["downstream.0.models=[heard]", "networks.heard={recipe: masked-frames}"])
    itself = tmp_path / "itself.yaml"
    itself.write_text(f"name: itself\ninit: {{recipe: {itself}}}\ndownstream: []\n")
    with pytest.raises(UserError, match=r"init.recipe: .*itself.yaml trains no network; name a recipe that does"):
        load(itself)


@pytest.mark.parametrize("recipe", ["word2vec", "elmo", "autoencoder"])
def test_a_network_that_only_its_own_jobs_open_is_refused_before_it_is_trained(recipe: str) -> None:
    with pytest.raises(UserError, match=rf"init.recipe: the network of {recipe}, '[\w-]+', is none of transformers"):
        load("finetune", None, ["init.model=null", f"init.recipe={recipe}"])


def test_texts_are_not_learned_by_a_network_of_sound() -> None:
    with pytest.raises(UserError, match=r"train.start.recipe: masked-frames reads sound, and data.kind is text"):
        load("adapt", None, ["train.start={recipe: masked-frames}"])


def test_jobs_on_recordings_take_the_network_of_a_recipe_or_a_folder(tmp_path: Path) -> None:
    """Nothing in the recipe says that it is of sound."""
    task, network = tmp_path / "clips.yaml", listening.network_of(tmp_path / "network")
    for number in range(8):
        written(tmp_path / ("low", "high")[number % 2] / f"{number}.wav", (300, 900)[number % 2], seed=number)
    task.write_text("{kind: sound, layout: files, train: '*/*.wav', split: {validation: 0.25, test: 0.25}}")
    job = {
        "name": "clips", "task": "classification", "data": {"task": str(task)}, "labels": [None], "steps": 2,
        "batch": 2, "length": 24, "pooling": "mean", "lrs": [1e-3], "validation_rows": 2, "test_rows": 2,
        "baselines": ["statistics"],
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({"name": "mine", "init": {"recipe": "masked-frames"}, "downstream": [job]}))
    earlier = starting.to_train(load(path), [], Home(tmp_path / "home"))
    assert [(each.name, each.kind, each.downstream) for each in earlier] == [("masked-frames", "sound", [])]
    settings = starting.asked_settings(str(path), str(network))
    recipe: Any = load(path, None, settings)
    assert (recipe.kind, recipe.init.kind, recipe.network.config["hidden_size"]) == ("sound", None, 16)
    nodes = {node.name: node for node in dag.nodes(recipe, tmp_path)}
    assert nodes["clips"].inputs == {"pretrained": "init"} and nodes["clips"].config["examples"]
    context = Context(downloads=tmp_path, progress=lambda *_: None, files=nodes["init"].files)
    (tmp_path / "out").mkdir()
    summary = init.run(nodes["init"].config, {}, tmp_path / "out", context)
    assert (summary["architecture"], summary["bands"]) == ("bert", 8)
    names = {file.name for file in (tmp_path / "out" / MODEL).iterdir()}
    assert names == {"config.json", "model.safetensors", "scale.json"}
    (network / "scale.json").write_text((network / "scale.json").read_text() + " ")
    renewed = {node.name: node for node in dag.nodes(load(path, None, settings), tmp_path)}
    assert renewed["init"].config != nodes["init"].config, "how frames are made is part of a network"
    with pytest.raises(UserError, match=r"downstream.0.length: 33 exceeds network.config.max_position_embeddings 32"):
        load(path, None, [*settings, "downstream.0.length=33"])
    (network / "scale.json").unlink()
    with pytest.raises(UserError, match=r"network: nothing in it says how frames are made of files; copy the whole"):
        load(path, None, settings)
