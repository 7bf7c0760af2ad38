"""Packaged recipes at every scale, and what recipes promise."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from data_prep.errors import UserError
from data_prep.kinds import kind_of
from pipeline.fingerprint import canonical
from pipeline.flatten import flatten
from pipeline.recipe.errors import known_paths
from pipeline.recipe.load import load, load_pretraining, recipes
from pipeline.recipe.recipe import Recipe
from tests.pipeline.suite_files import settings_of


def packaged():
    return [(entry.name, scale) for entry in recipes() for scale in entry.scales or [None]]


@pytest.mark.parametrize(("name", "scale"), packaged())
def test_a_packaged_recipe_loads_at_every_scale(name, scale, tmp_path):
    recipe = load(name, scale, settings_of(name, tmp_path))
    assert (recipe.name, recipe.scale) == (name, scale)
    assert recipe.title
    assert recipe.reproduces
    canonical(recipe.science())


@pytest.mark.parametrize(("name", "scale"), packaged())
def test_a_resolved_recipe_is_read_back_as_it_was(name, scale, tmp_path):
    recipe = load(name, scale, ["placement.threads=2", "seed=7", *settings_of(name, tmp_path / "files")])
    path = tmp_path / "resolved.yaml"
    path.write_text(recipe.to_yaml())
    assert load(path) == recipe
    assert load(path, scale) == recipe, "the scale it has may be named again"
    assert load(path).resolved() == recipe.resolved()


def test_the_table_of_recipes():
    table = {entry.name: entry for entry in recipes()}
    assert list(table) == sorted(table)
    assert {"bert", "quickstart"} <= set(table)
    assert table["bert"].scales == ["tiny", "small", "base", "large"]
    assert table["bert"].data == "sotu"


def test_bert_at_base_and_large_is_the_papers():
    base, large = load_pretraining("bert", "base"), load_pretraining("bert", "large")
    assert [base.network.config[key] for key in ("num_hidden_layers", "hidden_size", "num_attention_heads")] == [
        12,
        768,
        12,
    ]
    assert [large.network.config[key] for key in ("num_hidden_layers", "hidden_size", "num_attention_heads")] == [
        24,
        1024,
        16,
    ]
    for recipe in (base, large):
        train = recipe.train
        assert (train.global_batch, train.steps, train.lr, train.warmup_length) == (256, 10**6, 1e-4, 10**4)
        assert (train.betas, train.weight_decay, train.schedule) == ((0.9, 0.999), 0.01, "linear")
        assert recipe.compose.kind == recipe.objective.options.sentence == "nsp"
        assert (recipe.corruption.rate, recipe.corruption.mask, recipe.corruption.random) == (0.15, 0.8, 0.1)
    assert large.placement.zero == 3
    assert large.placement.workers > 1


PUBLISHED = {  # recipe, scale: rows and steps, and what its authors name besides; sources are in the recipes
    ("adapt", "base"): (2048, 12_500, {"train.lr": 5e-4, "train.warmup": 0.06}),
    ("albert", "base"): (4096, 125_000, {"train.warmup_length": 3125, "network.config.hidden_dropout_prob": 0.1}),
    ("bart", "large"): (
        8000,
        500_000,
        {"corruption.rate": 0.3, "corruption.permute": 1.0, "corruption.mean_length": 3.0},
    ),
    ("bert-chinese", "large"): (512, 2_000_000, {"train.lr": 5e-5, "compose.length": 512, "corruption.unit": "word"}),
    ("bigbird", "base"): (256, 500_000, {"train.lr": 1e-4, "train.warmup_length": 10_000}),
    ("bigbird", "large"): (2048, 500_000, {"train.lr": 1e-4, "train.warmup_length": 10_000}),
    ("electra", "large"): (2048, 1_750_000, {"corruption.rate": 0.25, "corruption.max_predictions": int(0.255 * 512)}),
    ("ernie", "base"): (8 * 8192 // 512, 1_000_000, {"train.lr": 1e-4, "compose.length": 512}),
    ("mass", "large"): (4096, 125_000, {"train.lr": 5e-4, "train.warmup_length": 10_000, "corruption.rate": 0.5}),
    ("multilingual", "base"): (256, 1_000_000, {"order.temperature": 0.7, "tokenizer.vocabulary": 119_547}),
    ("multilingual", "large"): (8192, 1_500_000, {"order.temperature": 0.3, "network.config.num_hidden_layers": 24}),
    ("roberta", "large"): (8192, 500_000, {"train.lr": 4e-4, "train.warmup_length": 30_000}),
    ("spanbert", "large"): (
        32 * 4096 // 512,
        2_400_000,
        {"train.lr": 1e-4, "corruption.p": 0.2, "corruption.longest": 10},
    ),
    ("switch", "base"): (2**20 // 512, 550_000, {"network.config.router_aux_loss_coef": 0.01}),
    ("switch", "large"): (2**20 // 512, 550_000, {"network.config.router_jitter_noise": 0.01}),
    ("t5", "base"): (128, 2**19, {"compose.length": 512, "train.optimizer": "adafactor", "train.lr": 0.01}),
}


@pytest.mark.parametrize(("name", "scale"), PUBLISHED)
def test_published_settings_are_those_of_their_papers(name, scale):
    rows, steps, others = PUBLISHED[name, scale]
    recipe = load_pretraining(name, scale)
    assert (recipe.train.global_batch, recipe.train.steps) == (rows, steps)
    for path, value in others.items():
        setting = recipe
        for part in path.split("."):
            setting = setting[part] if isinstance(setting, dict) else getattr(setting, part)
        assert setting == value, path


def test_t5_reads_568_tokens_for_512():
    """What the encoder sees is `compose.length` long, so rows are longer."""
    recipe = load_pretraining("t5", "base")
    assert recipe.compose.length == 512
    settings = kind_of("text").shards_settings(recipe)
    assert settings["compose"]["length"] == 568 and "corruption" not in settings
    with pytest.raises(UserError, match=r"corruption\.kind spans needs 28 in rows of 512, found 20"):
        load("t5", "base", ["tokenizer.sentinels=20"])
    with pytest.raises(UserError, match=r"tokenizer\.roles: objective\.name t5 needs decoder_start"):
        load("t5", "base", ["tokenizer.roles=[pad, unk, eos]"])


def test_placement_and_names_are_not_science(mine):
    plain = mine()
    other = mine(overrides=["placement.workers=4", "placement.zero=2", "title=other", "name=other"])
    assert other.science() == plain.science()
    for setting in ("seed=1", "train.lr=1", "data.split.test=0.1", "network.config.hidden_size=128"):
        assert mine(overrides=[setting]).science() != plain.science()


def test_every_key_has_a_description():
    """Of the sections that are defined beside recipes; others document theirs where they live."""

    from data_prep.corruptions.masking import MaskingConfig
    from data_prep.settings import described_fields
    from data_prep.text.kind import TextData as DataConfig
    from data_prep.tokens.compose import ComposeConfig
    from pipeline.downstream import JOBS, module_of
    from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig, TrainConfig

    for model in (
        Recipe,
        DataConfig,
        ComposeConfig,
        MaskingConfig,
        *{module_of(task).Config for task in JOBS},
        NetworkConfig,
        ObjectiveConfig,
        OrderConfig,
        PlacementConfig,
        TrainConfig,
    ):
        for name, field in described_fields(model).items():
            assert field.description, f"{model.__name__}.{name}"


def test_known_paths_reach_into_lists():
    known = known_paths(Recipe)
    assert {"train.lr", "data.sources.0.package", "downstream.0.data.name", "placement.zero"} <= set(known)


def test_flatten():
    nested = {"a": {"b": 1, "c": {}}, "d": [1, 2], "e": [{"f": 1}, {"f": [], "g": None}], "h": []}
    assert flatten(nested) == {"a.b": 1, "a.c": {}, "d": [1, 2], "e.0.f": 1, "e.1.f": [], "e.1.g": None, "h": []}
    recipe = load_pretraining("bert", "tiny")
    flat = flatten(recipe.resolved())
    assert flat["train.lr"] == recipe.train.lr
    assert flat["downstream.0.seeds"] == recipe.downstream[0].seeds


def test_reading_recipes_needs_no_framework(tmp_path):
    code = """
import json, sys
from pipeline.recipe.load import load
for name, settings in json.loads(sys.argv[1]).items():
    load(name, None, settings)
    needed = {"torch", "ray", "mlflow", "deepspeed", "prefect", "transformers"} & set(sys.modules)
    assert not needed, (name, needed)
"""
    settings = {entry.name: settings_of(entry.name, tmp_path) for entry in recipes()}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(settings)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
