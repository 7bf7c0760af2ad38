"""Another branch of a section drops what was of the old one."""

from __future__ import annotations

import pytest

from data_prep.errors import UserError
from pipeline.recipe.load import load, load_pretraining


def test_another_task_keeps_the_name_and_drops_the_rest() -> None:
    job = load("bert", overrides=["downstream.0.task=document-anomaly"]).downstream[0]
    assert (job.task, job.name, job.words) == ("document-anomaly", "punctuation", 100)
    other = load("bert", overrides=["downstream.0.task=document-anomaly", "downstream.0.words=50"]).downstream[0]
    assert other.words == 50


def test_the_order_of_settings_does_not_matter() -> None:
    first = ["downstream.0.words=50", "downstream.0.task=document-anomaly"]
    assert load("bert", overrides=first).downstream[0].words == 50


def test_what_neither_branch_knows_is_said() -> None:
    with pytest.raises(UserError, match=r"downstream\.0\.wrds: unknown key; did you mean downstream\.0\.words\?"):
        load("bert", overrides=["downstream.0.task=document-anomaly", "downstream.0.wrds=50"])


def test_a_key_of_the_new_branch_alone_is_known() -> None:
    with pytest.raises(UserError) as caught:
        load("bert", overrides=["downstream.0.task=document-anomaly", "downstream.0.xyz=50"])
    assert "documents" in str(caught.value) and "scratch_lrs" not in str(caught.value)


def test_options_are_those_of_the_objective_that_is_named() -> None:
    recipe = load_pretraining(
        "autoencoder", overrides=["objective.name=vae", "network.config.output=sigmoid", "downstream=[]"]
    )
    assert type(recipe.objective.options).__name__ == "VaeOptions"
    with pytest.raises(UserError, match=r"objective\.options\.sentnce: unknown key; did you mean"):
        load("bert", overrides=["objective.options.sentnce=sop"])
    with pytest.raises(UserError, match="did you mean autoencoder"):
        load("anomaly", overrides=["objective.name=autoencodr"])


def test_levels_of_noise_stay_between_sorts_of_noise() -> None:
    recipe = load_pretraining("anomaly", overrides=["corruption.kind=masking"])
    assert (recipe.corruption.kind, recipe.corruption.level) == ("masking", 0.5)
    assert load_pretraining("anomaly", overrides=["corruption.kind=none"]).corruption.kind == "none"


def test_another_kind_of_data_keeps_sources_and_split() -> None:
    settings = [
        "data.kind=images",
        "data.train_on=all",
        "data.sources=[{path: x}]",
        "downstream=[]",
        "train.evaluate_every=0",
    ]
    recipe = load_pretraining("anomaly", overrides=settings)
    assert recipe.data.kind == "images" and recipe.data.split.validation == 0.15
