"""The table of objectives: read without torch, each line true of its module, each section typed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import UserError
from data_prep.rng import Draws
from data_prep.settings import Settings, described_fields
from tests.training import tiny_arrays
from training import objectives
from training.config import NetworkConfig, ObjectiveConfig
from training.objective import loss_of
from training.objectives import OBJECTIVES, config_union, module_of, options_of, section_of


def test_nothing_of_the_table_needs_a_framework() -> None:
    code = """
import sys
from training import objectives
objectives.config_union()
for name in objectives.OBJECTIVES:
    section = objectives.section_of(name)(name=name)
    list(objectives.problems(section, {"model": objectives.NetworkConfig(architecture="bert")}))
import training.objectives.fine_tuning, training.objectives.arrays.code_prior
print([m for m in ("torch", "transformers", "ray", "deepspeed") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_line_is_true_of_its_module(name: str) -> None:
    module, line = module_of(name), OBJECTIVES[name]
    assert issubclass(module.Options, Settings) and isinstance(module.VERSION, int)
    assert list(inspect.signature(module.build).parameters) == ["options", "networks", "data", "device"]
    assert line.kinds and line.targets
    assert all(field.description for field in described_fields(module.Options).values())


def test_sections_are_told_apart_by_name_and_typed() -> None:
    union: Any = TypeAdapter(config_union())
    section = union.validate_python({"name": "vae", "options": {"beta": 2.0}})
    assert isinstance(section, section_of("vae")) and section.options.beta == 2.0
    assert isinstance(section, ObjectiveConfig) and options_of(section) is section.options
    assert union.validate_json(section.model_dump_json()) == section
    for wrong in ({"name": "vae", "options": {"gamma": 1}}, {"name": "gan"}, {"name": "vae", "beta": 1}):
        with pytest.raises(ValidationError):
            union.validate_python(wrong)


def test_plain_options_are_checked_by_name() -> None:
    assert options_of(ObjectiveConfig(name="masked-lm", options={"sentence": "sop"})).sentence == "sop"
    with pytest.raises(UserError, match=r"objective\.options\.beta: found 'high'"):
        options_of(ObjectiveConfig(name="vae", options={"beta": "high"}))
    with pytest.raises(UserError, match=r"objective\.name: 'gan' is not an objective; .*`sesame settings objective`"):
        module_of("gan")


@pytest.mark.parametrize(
    ("name", "options", "network", "path"),
    [
        ("masked-lm", {}, NetworkConfig(architecture="gpt2"), "network.architecture"),
        ("gpt", {}, NetworkConfig(architecture="bert"), "network.architecture"),
        ("t5", {}, NetworkConfig(architecture="gpt2"), "network.architecture"),
        ("masked-lm", {}, NetworkConfig(architecture="t5"), "network.architecture"),
        ("masked-lm", {"sentence": "nsp"}, NetworkConfig(architecture="roberta"), "network.architecture"),
        ("autoencoder", {}, NetworkConfig(architecture="bert"), "network.architecture"),
        ("autoencoder", {"loss": "cross-entropy"}, tiny_arrays.MLP, "objective.options.loss"),
        ("vae", {"likelihood": "bernoulli"}, tiny_arrays.MLP, "objective.options.likelihood"),
        ("vae", {"variance": -1.0}, tiny_arrays.MLP, "objective.options.variance"),
        ("discrete", {"loss": "cross-entropy"}, tiny_arrays.MLP, "objective.options.loss"),
        ("rbm", {}, tiny_arrays.MLP, "network.config.activation"),
        ("rbm", {}, tiny_arrays.CONV, "network.architecture"),
        ("compression", {}, tiny_arrays.CONV, "network.config.latent"),
        ("autoencoder", {}, NetworkConfig(architecture="mlp", config={"bottleneck": 0}), "network.config.bottleneck"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(
    name: str, options: dict[str, Any], network: NetworkConfig, path: str
) -> None:
    problems = list(objectives.problems(ObjectiveConfig(name=name, options=options), {"model": network}))
    assert path in [where for where, _ in problems]
    assert all(text and not text.endswith(".") for _, text in problems)


@pytest.mark.parametrize("case", [*tiny_arrays.CASES, *tiny_arrays.FEATURES])
def test_an_example_of_nothing_prices_an_objective(case: str) -> None:
    objective = tiny_arrays.training(case).objective
    batch = objective.collate(objective.example(3))
    assert objective.num_units(batch) == 3
    batch = objective.prepare(objective.networks(), batch, Draws(0, 0, np.arange(3)))
    phase = objective.phases(100)[0].name
    for turn in objective.turns(phase, 0):
        loss = loss_of(turn, objective.networks(), batch)
        assert all(value.isfinite() for value in loss.sums.values())


@pytest.mark.parametrize("case", [*tiny_arrays.CASES, *tiny_arrays.FEATURES])
def test_what_is_shown_is_told(case: str) -> None:
    training = tiny_arrays.training(case)
    evaluation = training.evaluate()
    assert training.objective.shown
    assert all(any(name.endswith(shown) for name in evaluation) for shown in training.objective.shown)
