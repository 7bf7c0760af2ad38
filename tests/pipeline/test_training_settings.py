"""What of a recipe is in the key of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import UserError
from pipeline.recipe.load import load, load_pretraining
from pipeline.training_settings import training_settings
from tests.pipeline import tiny_arrays
from training.objectives.arrays import autoencoder


def test_sections_of_defaults_are_left_out(tmp_path: Path) -> None:
    settings = training_settings(load(tiny_arrays.recipe(tmp_path, "images")))
    assert "augment" not in settings and "order" not in settings
    assert settings["objective"] == {"name": "autoencoder"}


def test_another_version_of_objective_or_corruption_is_another_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_pretraining(tiny_arrays.recipe(tmp_path))
    before = training_settings(recipe)
    monkeypatch.setattr(autoencoder, "VERSION", 2)
    assert training_settings(recipe) == {**before, "objective_version": 2}
    monkeypatch.setattr(type(recipe.corruption), "VERSION", 3)
    assert training_settings(recipe) == {**before, "objective_version": 2, "corruption_version": 3}


def test_an_objective_may_have_several_networks_and_gets_them_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, critic = tiny_arrays.recipe(tmp_path), "networks.critic={architecture: mlp, config: {bottleneck: 3}}"
    before = training_settings(load(path))
    with pytest.raises(UserError, match=r"networks\.critic: objective 'autoencoder' has no other network .* has model"):
        load(path, overrides=[critic])
    monkeypatch.setattr(autoencoder, "NETWORKS", ("model", "critic"), raising=False)
    with pytest.raises(UserError, match=r"networks\.critic: missing; objective 'autoencoder' needs it"):
        load(path)
    recipe = load(path, overrides=[critic])
    section = {"critic": {"architecture": "mlp", "config": {"bottleneck": 3}}}
    assert training_settings(recipe) == {**before, "networks": section}

    built: list[dict[str, Any]] = []
    build = autoencoder.build

    def building(options: Any, networks: Any, *facts: Any) -> Any:
        built.append({name: network.config for name, network in networks.items()})
        return build(options, networks, *facts)

    monkeypatch.setattr(autoencoder, "build", building)
    tiny_arrays.make(path, tmp_path, critic, "downstream=[]", "train.steps=2")
    assert built == [{"model": {"hidden": [16], "bottleneck": 2}, "critic": {"bottleneck": 3}}]
