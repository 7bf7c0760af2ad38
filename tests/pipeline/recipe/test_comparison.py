"""Comparisons: the packaged ones, how settings are laid over each other, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.errors import UserError
from pipeline.recipe import comparison
from pipeline.recipe.comparison import Compared, Trial, comparisons, find
from pipeline.recipe.load import load
from tests.pipeline import tiny


def written(folder: Path, **sections: Any) -> Path:
    """A comparison of learning rates of the recipe of tests, with other sections as given."""
    path = folder / "compare-rates.yaml"
    values = {
        "name": "compare-rates",
        "base": {"recipe": str(tiny.recipe(folder))},
        "settings": {"train.steps": 4},
        "arms": {"slow": {"train.lr": 1e-4}, "fast": {"train.lr": 1e-2}},
        "seeds": [0, 1],
        "scores": [{"name": "loss", "number": "validation/loss", "better": "lower"}],
        "expected": [["fast", "slow"]],
    }
    path.write_text(yaml.safe_dump({**values, **sections}, sort_keys=False))
    return path


PACKAGED = [(listing.name, scale) for listing in comparisons() for scale in listing.scales]


@pytest.mark.parametrize(("name", "scale"), PACKAGED)
def test_a_packaged_comparison_is_one_at_every_scale(name: str, scale: str) -> None:
    compared = find(name, scale)
    assert (compared.comparison.name, compared.comparison.scale) == (name, scale)
    assert compared.comparison.title and any(score.judged for score in compared.comparison.scores)
    assert len(compared.comparison.seeds) >= 3, "fewer tell little"
    trials: list[Any] = [compared.recipe(Trial(arm, 5)) for arm in compared.comparison.arms]
    first, *others = trials
    assert first.seed == 5 and first.scale == scale
    assert all(source.package for source in first.data.sources), "nothing but packages is needed"
    assert all(recipe.science() != first.science() for recipe in others)


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, scale in PACKAGED if scale == "tiny"])
def test_a_resolved_comparison_is_read_back_as_it_was(name: str, scale: str, tmp_path: Path) -> None:
    compared = find(name, scale, ["train.log_every=7", "seeds=[3]"])
    path = tmp_path / "resolved.yaml"
    path.write_text(compared.to_yaml())
    again = find(path)
    assert again.trials == compared.trials and again.overrides == []
    assert [again.recipe(trial) for trial in again.trials] == [compared.recipe(trial) for trial in compared.trials]


def test_packaged_names_are_not_those_of_recipes() -> None:
    assert [listing.name for listing in comparisons()] == sorted(listing.name for listing in comparisons())
    for listing in comparisons():
        with pytest.raises(UserError, match="run, show and plan take it"):
            load(listing.name)


def test_settings_are_laid_over_each_other(tmp_path: Path) -> None:
    """Base, settings, arm, seed, and last what the user gave; a scale changes a part of the settings."""
    path = written(
        tmp_path,
        settings={"train": {"steps": 4, "lr": 3e-3}, "downstream.0.seeds": 1},
        arms={"as it is": {}, "fast": {"train.lr": 1e-2}},
        expected=[],
        default_scale="more",
        scales={"more": {"settings.train.steps": 6, "arms.fast.train.clip": 0.5}},
    )
    compared = find(path, None, ["train.log_every=1", "seeds=[7]"])
    assert compared.trials == [Trial("as it is", 7), Trial("fast", 7)]
    arms: list[Any] = [compared.recipe(trial) for trial in compared.trials]
    slow, fast = arms
    assert [(recipe.train.lr, recipe.train.clip) for recipe in (slow, fast)] == [(3e-3, 1.0), (1e-2, 0.5)]
    for recipe in (slow, fast):
        assert (recipe.train.steps, recipe.train.log_every, recipe.seed, recipe.name) == (6, 1, 7, "tiny")
        assert recipe.downstream[0].seeds == 1 and recipe.downstream[0].steps == 10


def test_an_arm_is_the_run_that_its_settings_make(tmp_path: Path) -> None:
    compared = find(written(tmp_path), None, ["train.log_every=1"])
    for trial in compared.trials:
        alone = load(compared.comparison.base.recipe, None, compared.settings(trial))
        assert alone == compared.recipe(trial), "so it is found in the store, however it was asked for"


def test_seeds_come_one_after_another(tmp_path: Path) -> None:
    """A comparison that is cut short has compared all arms with its first seeds."""
    trials = find(written(tmp_path)).trials
    assert trials == [Trial("slow", 0), Trial("fast", 0), Trial("slow", 1), Trial("fast", 1)]


SCORE = {"name": "loss", "number": "validation/loss", "better": "lower"}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"arms": {"a": {"train.lrr": 1}, "b": {}}, "expected": []},
            r"arms\.a\.train\.lrr: unknown key; did you mean train\.lr",
        ),
        ({"arms": {"slow": {}, "fast": {"train.lr": -1}}}, r"arms\.fast\.train\.lr: found -1"),
        ({"settings": {"train.steps": "many"}}, r"settings\.train\.steps: found 'many'"),
        ({"arms": {"slow": {}, "fast": {"train.steps": 4}}}, "fast: the same recipe as 'slow'"),
        ({"arms": {"slow": {}, "fast": {"seed": 3}}}, r"arms\.fast\.seed: the seeds .* are given by seeds"),
        ({"seeds": [1, 1]}, r"seeds: found \[1, 1\]; give different whole numbers"),
        ({"expected": [["fast", "faster"]]}, r"expected\.0: 'faster' is no arm; the arms are slow, fast"),
        ({"expected": [["fast"]]}, r"expected\.0: .* an order has two arms or more"),
        (
            {"papers": [{"source": "A paper, table 1", "scores": {"MNLI": {"slow": 84.0, "medium": 83.0}}}]},
            r"papers\.0\.scores\.MNLI: 'medium' is no arm",
        ),
        ({"scores": [SCORE, SCORE]}, r"scores\.1\.name: 'loss' is the name of an earlier score"),
        ({"scores": [{**SCORE, "stage": "verb"}]}, r"scores\.0\.stage: found 'verb'; the arm has pretrain, verbs"),
        ({"scores": [{**SCORE, "number": "loss"}]}, r"scores\.0\.number: found 'loss'; pretrain makes validation/\*"),
        (
            {"scores": [{**SCORE, "stage": "verbs", "number": "F1/pretrained_100"}]},
            r"scores\.0\.number: found 'F1/pretrained_100'; verbs makes F1/pretrained_8",
        ),
        ({"against": ["loss", "F1"]}, r"against\.1: found 'F1'; the scores are loss"),
        ({"arm": {}}, r"arm: unknown key; did you mean arms"),
        ({"base": {"recipe": "no-such-recipe"}}, "no recipe is called 'no-such-recipe'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    sections: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, **sections)
    with pytest.raises(UserError, match=message) as refused:
        find(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr=1e-3", "--set train.lr=1e-3: the arms differ in it"),
        ("train={lr: 1}", "the arms differ in it"),
        ("seed=4", "--set seed=4: seeds says it"),
        ("scale=tiny", "choose a scale with --scale"),
        ("train.stepz=4", r"--set train\.stepz: unknown key; did you mean train\.steps"),
        ("seeds=[]", r"--set seeds: found an empty list; allowed: at least 1"),
    ],
)
def test_what_cannot_be_set_is_refused(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        find(written(tmp_path), None, [override])


def test_a_file_sends_nobodys_credentials_anywhere(tmp_path: Path) -> None:
    """An address in a comparison is a stranger's word, as it is in a recipe; by --set it is the user's."""
    settings = {"placement.ray_address": "ray://elsewhere:10001"}
    with pytest.raises(UserError, match=r"settings\.placement\.ray_address: .* a recipe alone does not choose it"):
        find(written(tmp_path, settings=settings))
    compared = find(written(tmp_path), None, ["placement.ray_address=ray://elsewhere:10001"])
    assert compared.recipe(compared.trials[0]).placement.ray_address == "ray://elsewhere:10001"


def test_a_job_that_says_nothing_of_its_numbers_is_asked_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison.downstream, "numbers_of", lambda job: None)
    score = {"name": "score", "stage": "verbs", "number": "whatever it is"}
    assert isinstance(find(written(tmp_path, scores=[score])), Compared)
