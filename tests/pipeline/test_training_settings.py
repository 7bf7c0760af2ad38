"""What of a recipe is in the key of its training."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.recipe.load import load
from pipeline.training_settings import training_settings
from tests.pipeline import tiny_arrays
from training.objectives import autoencoder


def test_sections_of_defaults_are_left_out(tmp_path: Path) -> None:
    settings = training_settings(load(tiny_arrays.recipe(tmp_path, "images")))
    assert "augment" not in settings and "order" not in settings
    assert settings["objective"] == {"name": "autoencoder"}


def test_another_version_of_the_objective_is_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(tiny_arrays.recipe(tmp_path))
    before = training_settings(recipe)
    monkeypatch.setattr(autoencoder, "VERSION", 2)
    assert training_settings(recipe) == {**before, "objective_version": 2}
