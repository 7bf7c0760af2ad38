"""The README's example is a system: its blocks, as they stand, make an objective that learns, resumes and is priced."""

from __future__ import annotations

import importlib
import io
import json
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch
import yaml
from pydantic import create_model
from rich.console import Console

import training.objectives
from data_prep.corruptions import build as build_corruption
from data_prep.corruptions import config_of
from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.shards.rows import Rows
from flows.show.inspect import Reading, inspect
from pipeline.recipe import load
from pipeline.recipe import recipe as recipe_module
from pipeline.recipe.recipe import Recipe
from tests.pipeline import tiny_arrays as tiny
from training import objective as protocol
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig, TrainConfig
from training.cost.counted import price
from training.data import Corpus, MemoryTable, Stream
from training.inference.encoding import open_encoder
from training.loop import Training
from training.objectives import OBJECTIVES, ObjectiveEntry, build, config_union, problems

README = Path(training.objectives.__file__).parent / "README.md"
NAME, MODULE = "masked-values", "masked_values"
SEED = 7
NUM_HELD_OUT = 100
MEASUREMENTS = Path(sklearn.datasets.__file__).parent / "data" / "breast_cancer.csv"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.S | re.M)


OBJECTIVE, LINE, TWINS = blocks("python")
(RECIPE,) = blocks("yaml")


@cache
def measurements() -> np.ndarray:
    """[569, 30] float32 of the tumours that the recipe learns from, standardised."""
    values = np.loadtxt(MEASUREMENTS, delimiter=",", skiprows=1)[:, :-1]
    return ((values - values.mean(0)) / values.std(0)).astype(np.float32)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example's module where objectives are, and its line in the table, until the test is over."""
    folder = tmp_path / "objectives"
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text(OBJECTIVE)
    monkeypatch.setattr(training.objectives, "__path__", [*training.objectives.__path__, str(folder)])
    ((name, line),) = eval(f"{{{LINE}}}", {"ObjectiveEntry": ObjectiveEntry}).items()
    assert name == NAME and line.module == f"training.objectives.{MODULE}"
    monkeypatch.setitem(OBJECTIVES, name, line)
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, line.module, raising=False)
    imported = importlib.import_module(line.module)
    monkeypatch.setitem(sys.modules, line.module, imported)  # forgotten afterwards
    return imported


def facts() -> DataFacts:
    return DataFacts("table", ("input", "label", "row"), measurements().shape[1:])


def objective_of(recipe: dict[str, Any]) -> Any:
    torch.manual_seed(SEED)
    return build(ObjectiveConfig(**recipe["objective"]), {"model": NetworkConfig(**recipe["network"])}, facts(), "cpu")


def training_of(objective: Any = None, **options: Any) -> Training:
    """The recipe's training on 469 of the rows, ready to run; the other 100 are held out."""
    recipe = yaml.safe_load(RECIPE)
    settings = {**recipe["train"], "lr": float(recipe["train"]["lr"]), "precision": "fp32", "log_every": 1}
    corruption = build_corruption(config_of(recipe["corruption"]))
    tables = [measurements()[NUM_HELD_OUT:], measurements()[:NUM_HELD_OUT]]
    order = OrderConfig(block=8, window=4)
    stream, held_out = (
        Stream([Corpus(name, MemoryTable({"input": rows}, len(rows)))], SEED, order, corruption, name)
        for name, rows in zip(("train", "held-out"), tables, strict=True)
    )
    return Training(
        objective=objective or objective_of(recipe),
        stream=stream,
        config=TrainConfig(**{**settings, **{name: options.pop(name) for name in ("steps",) if name in options}}),
        seed=SEED,
        held_out=held_out,
        held_out_rows=NUM_HELD_OUT,
        identity={"recipe": NAME},
        **options,
    )


def losses(records: list[dict[str, Any]]) -> list[float]:
    return [record["train/loss"] for record in records if "train/loss" in record]


def test_it_is_no_longer_than_it_says() -> None:
    lines = [line for line in OBJECTIVE.splitlines() if line.strip()]
    assert len(lines) <= 50
    assert len(LINE.splitlines()) == 1


def test_every_link_leads_somewhere() -> None:
    prose = re.sub(r"^```.*?^```$", "", README.read_text(), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (README.parent / target).exists(), target


def test_every_method_of_the_protocol_is_in_its_table() -> None:
    text = README.read_text()
    methods = {name for name, value in vars(protocol.Objective).items() if callable(value) and name[0] != "_"}
    assert not {name for name in methods if not re.search(rf"`{name}\b", text)}


def test_it_learns_and_what_it_exports_opens(module: ModuleType, tmp_path: Path) -> None:
    trainer = training_of(steps=200)
    objective: Any = trainer.objective
    before = {name: p.detach().clone() for name, p in objective.network.named_parameters()}
    start, summary = trainer.evaluate(), trainer.run()
    after = trainer.evaluate()
    assert 0.9 < start["validation/squared-error"] < 1.5  # measurements are standardised
    assert after["validation/squared-error"] < 0.35 * start["validation/squared-error"]
    assert summary["shown"] == ["squared-error"] and summary["step"] == 200
    for name, parameter in objective.network.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    trainer.export(tmp_path / "model")
    rows: Rows = {"input": measurements()[:5]}
    with torch.no_grad():
        wanted = objective.encoder(torch.from_numpy(measurements()[:5]))
    np.testing.assert_allclose(open_encoder(tmp_path / "model").encode(rows).values, wanted.numpy(), atol=1e-5)


def test_the_loss_is_the_mean_over_what_is_hidden(module: ModuleType) -> None:
    trainer = training_of(steps=1)
    objective: Any = trainer.objective
    rows = trainer.stream.read(np.arange(64))
    seen, clean = (torch.from_numpy(np.asarray(rows[name])) for name in ("seen", "input"))
    with torch.no_grad():
        predicted = objective.network(seen)
    assert (seen != clean).sum(1).tolist() == [9] * 64  # 30 % of 30
    by_hand = (predicted - clean)[seen != clean].square().mean()
    records: list[dict[str, Any]] = []
    trainer.log = records.append
    trainer.run()
    assert losses(records) == pytest.approx([float(by_hand)], rel=1e-5)


@pytest.mark.parametrize("kind", ["MaskedValues", "Twins"])
def test_a_resumed_run_is_the_whole_run(kind: str, module: ModuleType, tmp_path: Path) -> None:
    twins(module)
    placement = PlacementConfig(checkpoint_every=2, micro_batch=24)

    def trained(checkpoints: Path | None, stops_after: int | None = None) -> tuple[list[float], dict[str, Any]]:
        records: list[dict[str, Any]] = []
        run = training_of(
            learner(module, kind), steps=6, placement=placement, checkpoints=checkpoints, log=records.append
        )
        if stops_after is not None:
            run.stop = lambda: len(losses(records)) >= stops_after
        assert run.run()["stopped"] == (stops_after is not None)
        return losses(records), run.objective.networks()["model"].state_dict()

    whole, weights = trained(None)
    first, _ = trained(tmp_path / "checkpoints", stops_after=3)
    rest, resumed = trained(tmp_path / "checkpoints")
    assert 0 < len(rest) < 6 and first + rest == whole
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_it_is_priced_by_its_example(module: ModuleType) -> None:
    recipe = yaml.safe_load(RECIPE)
    section, network = ObjectiveConfig(**recipe["objective"]), NetworkConfig(**recipe["network"])
    assert list(problems(section, {"model": network})) == []
    assert [path for path, _ in problems(section, {"model": NetworkConfig()})] == ["network.architecture"]
    cost = price(section, {"model": network}, facts(), config_of(recipe["corruption"]), 64, "fp32")
    weights = 30 * 128 + 128 * 32 + 32 * 30
    assert cost.parameters == weights + 128 + 32 + 30
    assert cost.unit == "rows" and cost.row_units == 1
    assert 4 * weights < cost.row_flops <= 6 * weights  # the input has no gradient
    assert cost.activations > 64 * 4 * (128 + 32 + 30)


def twins(module: ModuleType) -> type[Any]:
    """The section on losses of the whole batch, in the example's module."""
    vars(module)["WholeBatchTurn"] = protocol.WholeBatchTurn
    exec(TWINS, vars(module))
    return module.Twins


def learner(module: ModuleType, kind: str) -> Any:
    recipe = yaml.safe_load(RECIPE)
    torch.manual_seed(SEED)
    return getattr(module, kind)(module.Options(), {"model": NetworkConfig(**recipe["network"])}, facts(), "cpu")


def test_the_loss_of_the_whole_batch_learns_and_does_not_depend_on_how_it_is_cut(module: ModuleType) -> None:
    twins(module)
    trainer = training_of(learner(module, "Twins"), steps=100)
    start = trainer.evaluate()
    trainer.run()
    after = trainer.evaluate()
    assert after["validation/on-diagonal"] < 0.2 * start["validation/on-diagonal"]
    assert after["validation/loss"] < 0.5 * start["validation/loss"]

    def at(micro_batch: int | None) -> list[float]:
        records: list[dict[str, Any]] = []
        placement = PlacementConfig(micro_batch=micro_batch)
        training_of(learner(module, "Twins"), steps=3, placement=placement, log=records.append).run()
        return losses(records)

    assert at(10) == pytest.approx(at(None), rel=1e-4)


def test_the_recipe_runs_from_its_rows_to_its_report(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The type of a recipe was made of the table before the example had a line in it.
    sections: Any = config_union.__wrapped__()
    monkeypatch.setattr(recipe_module, "Recipe", create_model("Recipe", __base__=Recipe, objective=(sections, ...)))
    path = tmp_path / f"{NAME}.yaml"
    path.write_text(RECIPE)
    loaded: Any = load.load(path)
    assert loaded.objective.name == NAME
    with pytest.raises(UserError, match=r"objective\.options\.width: unknown key"):
        load.load(path, overrides=["objective.options.width=3"])
    with pytest.raises(UserError, match=r"corruption\.kind: .*'masked-values' learns from clean ones"):
        load.load(path, overrides=["corruption={kind: masked-frames}"])
    rows = tmp_path / "rows.csv"  # the package's, which would have to be fetched
    columns = ",".join(f"c{number}" for number in range(measurements().shape[1]))
    np.savetxt(rows, measurements(), fmt="%.5f", delimiter=",", header=columns, comments="")
    source = f"data.sources=[{{path: {rows}}}]"
    artifacts = tiny.make(path, tmp_path / "home", source, "train.steps=40", "train.evaluate_every=20")
    assert {"ingest", "shards", "pretrain", "report"} <= set(artifacts)
    pretraining = json.loads((artifacts["report"].path / "report.json").read_text())["pretraining"]
    assert pretraining["shown"] == ["squared-error"] and pretraining["validation/squared-error"] < 1
    assert "| squared-error |" in (artifacts["report"].path / "report.md").read_text()
    assert open_encoder(artifacts["pretrain"].path / "model").encode({"input": measurements()[:2]}).values.shape == (
        2,
        32,
    )
    console = Console(width=200, record=True, file=io.StringIO())
    reading, transform = Reading.of_config(artifacts["pretrain"].config), artifacts["transform"].path
    inspect(artifacts["shards"], 2, console, reading=reading, preprocessor=transform)
    assert "x′" in console.export_text()
