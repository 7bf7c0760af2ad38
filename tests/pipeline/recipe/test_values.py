"""Where the values of a recipe come from: the file, a scale, --set."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.recipe.load import load
from tests.pipeline.recipe.conftest import JOB, MINIMAL


def test_file_then_scale_then_set(mine):
    text = MINIMAL + "scales: {small: {train: {lr: 1, steps: 5}, seed: 3}, big: {train: {steps: 7}}}\n"
    assert (mine(text).scale, mine(text).train.steps, mine(text).train.lr) == ("small", 5, 1.0)
    assert (mine(text, "big").train.steps, mine(text, "big").train.lr) == (7, 1e-4)
    recipe = mine(text, "small", ["train.steps=9", "seed=4", "train.steps=10"])
    assert (recipe.train.steps, recipe.train.lr, recipe.seed) == (10, 1.0, 4)
    assert mine(text + "default_scale: big\n").scale == "big"


def test_sections_merge_and_lists_are_replaced_unless_indexed(mine):
    text = MINIMAL + JOB + "scales: {s: {network: {config: {hidden_size: 128}}, downstream.0: {labels: [1, 2]}}}\n"
    recipe = mine(text)
    assert recipe.network.config["hidden_size"] == 128
    assert recipe.network.config["num_attention_heads"] == 4
    assert recipe.downstream[0].labels == [1, 2]
    assert recipe.downstream[0].lrs == [1e-3]
    recipe = mine(text, overrides=["downstream.0.labels.1=5", "downstream.0.seeds=3", "downstream.0.models=[scratch]"])
    assert recipe.downstream[0].labels == [1, 5]
    assert recipe.downstream[0].seeds == 3
    assert recipe.downstream[0].models == ["scratch"]


def test_what_an_alias_repeats_is_changed_apart(mine):
    text = MINIMAL + JOB + "  - {<<: *job, name: two, steps: 2}\n"
    recipe = mine(text, overrides=["downstream.0.data.seed=5"])
    assert [(job.name, job.steps, job.data.seed) for job in recipe.downstream] == [("one", 1, 5), ("two", 2, 0)]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("train.lr=1e-4", 0.0001),
        ("train.lr=1", 1.0),
        ("train.steps=1_000_000", 1_000_000),
        ("train.schedule=cosine", "cosine"),
        ("train.betas=[0.8, 0.99]", (0.8, 0.99)),
        ("placement.zero=null", None),
        ("placement.zero=2", 2),
        ("placement.compile=true", True),
        ("placement.resources_per_worker={CPU: 2, GPU: 0.5}", {"CPU": 2.0, "GPU": 0.5}),
        ("network.config.hidden_act=relu", "relu"),
        ("network.config.layer_norm_eps=1e-12", 1e-12),
        ("title='1e-4'", "1e-4"),
        ("title=no", "no"),
        ("title=a=b", "a=b"),
    ],
)
def test_set(mine, setting, value):
    value_found = mine(overrides=[setting])
    for name in setting.partition("=")[0].split("."):
        value_found = value_found[name] if isinstance(value_found, dict) else getattr(value_found, name)
    assert value_found == value
    assert type(value_found) is type(value)


def test_a_path_may_start_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(tmp_path / "mine.yaml").write_text(MINIMAL)
    assert load("~/mine.yaml").name == "mine"
