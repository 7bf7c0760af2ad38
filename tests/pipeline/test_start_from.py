"""Going on from a checkpoint of another experiment."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.errors import UserError
from pipeline import dag, start_from
from pipeline.artifact import Artifact
from pipeline.recipe.load import load, load_pretraining
from pipeline.records import read_records
from pipeline.stage import Context
from pipeline.store.store import Store
from tests.pipeline import tiny
from training.job import METRICS

CONSTANT = [
    "train.schedule=constant",
    "train.warmup_steps=0",
    "placement.checkpoint_every=3",
    "placement.keep_checkpoints=9",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("branch")


@pytest.fixture(scope="module")
def path(folder: Path) -> Path:
    return tiny.recipe(folder)


def made(folder: Path, path: Path, *settings: str) -> Artifact:
    """The pretrained artifact of the tiny recipe with these settings."""
    recipe, store, artifacts = load_pretraining(path, None, settings), Store(folder / "store"), dict[str, Artifact]()
    context = Context(downloads=folder / "downloads", placement=recipe.placement.model_dump(mode="json"))
    for node in dag.nodes(recipe, folder / "downloads")[:4]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    return artifacts["pretrain"]


def losses(artifact: Artifact) -> dict[int, float]:
    records = read_records(artifact.path / METRICS)
    return {record["step"]: record["train/loss"] for record in records if "train/loss" in record}


@pytest.fixture(scope="module")
def short(folder: Path, path: Path) -> Artifact:
    return made(folder, path, *CONSTANT, "train.steps=6", "train.log_every=1")


def branched(folder: Path, path: Path, settings: list[str], asked: str | None = None) -> list[str]:
    recipe, store = load_pretraining(path, None, settings), Store(folder / "store")
    more = (
        start_from.start_settings(recipe, store, folder / "downloads", asked)
        if asked
        else start_from.extension_settings(recipe, store, folder / "downloads")
    )
    return [*settings, *more]


def test_a_prolonged_run_is_the_run_that_was_long_from_the_start(folder: Path, path: Path, short: Artifact) -> None:
    longer = [*CONSTANT, "train.steps=9", "train.log_every=1"]
    long = made(folder, path, *longer)
    settings = branched(folder, path, longer)
    assert f"train.start.experiment={short.key}" in settings
    prolonged = made(folder, path, *settings)
    assert prolonged.key != long.key
    assert prolonged.summary["resumed_from"] == 6
    assert losses(prolonged) == {step: loss for step, loss in losses(long).items() if step > 6}
    weights = {"model/model.safetensors"}
    assert {n: prolonged.manifest["files"][n]["digest"] for n in weights} == {
        n: long.manifest["files"][n]["digest"] for n in weights
    }


def test_annealing_from_the_middle_lowers_the_rate(folder: Path, path: Path, short: Artifact) -> None:
    other = ["train.schedule=warmup-stable-decay", "train.decay_steps=4", "train.steps=8", "train.log_every=1"]
    settings = branched(folder, path, [*other, "train.warmup_steps=0"], "3")
    assert settings[-1] == "train.start.step=3"
    annealed = made(folder, path, *settings)
    rates = [record["train/lr"] for record in read_records(annealed.path / METRICS) if "train/lr" in record]
    assert len(rates) == 5 and rates[-1] == pytest.approx(rates[0] / 5)
    assert losses(annealed)[4] == losses(short)[4]  # the first step is taken at full rate still


def test_by_key_and_step(folder: Path, path: Path, short: Artifact) -> None:
    prefix = short.key[: len("pretrain-") + 8]
    settings = branched(folder, path, [*CONSTANT, "train.steps=7"], f"{prefix}@6")
    assert settings[-2:] == [f"train.start.experiment={short.key}", "train.start.step=6"]


@pytest.mark.parametrize(
    ("settings", "asked", "says"),
    [
        ([*CONSTANT, "train.steps=5", "train.log_every=1"], None, "fewer train.steps"),
        ([*CONSTANT, "train.steps=9", "seed=5"], None, "no stored"),
        ([*CONSTANT, "train.steps=9"], "4", "there are 3, 6"),
        ([*CONSTANT, "train.steps=9"], "pretrain-nothing@3", "0 experiments"),
        ([*CONSTANT, "train.steps=9"], "soon", "give a step"),
    ],
)
def test_what_cannot_be_gone_on_with(
    folder: Path, path: Path, short: Artifact, settings: list[str], asked: str | None, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        branched(folder, path, settings, asked)


def test_another_batch_size_is_refused(folder: Path, path: Path, short: Artifact) -> None:
    settings = branched(folder, path, [*CONSTANT, "train.steps=9", "train.global_batch=24"], "6")
    with pytest.raises(UserError, match="rows a step; keep that number"):
        made(folder, path, *settings)


def stored(key: str, data: str = "d", stage: str = "pretrain", attempt: str = "1", seed: int = 0, **train: Any) -> Any:
    """An artifact as a store lists it."""
    manifest = {"inputs": {"shards": {"key": "s", "digest": data}}, "attempt": attempt}
    config = {"seed": seed, "train": {"steps": 10, "lr": 0.1, **train}}
    return SimpleNamespace(key=key, stage=stage, config=config, manifest=manifest)


def chosen(monkeypatch: pytest.MonkeyPatch, artifacts: list[Any], steps: int, asked: str | None = None) -> list[str]:
    """What a recipe of so many steps, on the data d, goes on from; checkpoints are kept of steps 4 and the last."""
    recipe: Any = SimpleNamespace(name="tiny", train=SimpleNamespace(steps=steps))
    store: Any = SimpleNamespace(list=lambda: artifacts)
    config = {"seed": 0, "train": {"steps": steps, "lr": 0.1}}
    last = {artifact.key: artifact.config["train"]["steps"] for artifact in artifacts}
    monkeypatch.setattr(start_from, "_pretraining", lambda *_: (config, {"shards": "d"}))
    monkeypatch.setattr(start_from, "steps_of", lambda store, key: sorted({4, last[key]}))
    if asked is not None:
        return start_from.start_settings(recipe, store, Path(), asked)
    return start_from.extension_settings(recipe, store, Path())


def test_a_run_is_prolonged_from_the_longest_of_its_own_data(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        stored("b", steps=20),
        stored("a", steps=15),
        stored("c", steps=25, data="other"),
        stored("d", steps=26, seed=1),
        stored("e", steps=27, lr=0.2),
        stored("f", steps=28, stage="probe"),
        stored("g", steps=40),
        stored("h", steps=30),
    ]
    assert chosen(monkeypatch, others, 30) == ["train.start.experiment=b", "train.start.step=20"]
    with pytest.raises(UserError, match=r"--extend: no finished run of 'tiny' differs from this one by fewer"):
        chosen(monkeypatch, others[2:], 30)


def test_a_step_is_that_of_the_newest_run_on_the_same_data(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        stored("a", steps=15, attempt="20260101"),
        stored("b", steps=15, attempt="20260303", lr=0.5),
        stored("c", steps=15, attempt="20260202"),
        stored("d", steps=15, attempt="20260404", data="other"),
        stored("e", steps=15, attempt="20260505", seed=1),
        stored("f", steps=12, attempt="20260606"),
    ]
    assert chosen(monkeypatch, others, 30, "15") == ["train.start.experiment=b", "train.start.step=15"]
    with pytest.raises(UserError, match="there are 4, 12, 15"):
        chosen(monkeypatch, others, 30, "9")


def test_a_start_after_the_end_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match="leaves nothing to train"):
        load(path, None, ["train.steps=9", "train.start.experiment=pretrain-0", "train.start.step=9"])
