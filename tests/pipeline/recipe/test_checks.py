"""Sections of a recipe that must agree."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from typing import ClassVar

import pytest
from pydantic import Field

from data_prep.errors import UserError
from data_prep.settings import Belongs, Settings, without_effect
from pipeline.recipe.load import load
from training.objectives import OBJECTIVES


@pytest.mark.parametrize("name", ["vae", "simclr"])
def test_an_objective_of_tables_and_pictures_is_refused_for_text(name: str) -> None:
    with pytest.raises(UserError, match=rf"objective\.name: '{name}' does not learn from text data"):
        load("bert", overrides=[f"objective.name={name}"])


@pytest.mark.parametrize(
    ("recipe", "objective", "columns", "message"),
    [
        ("vae", "vae", ("seen",), "corruption.kind: 'none' leaves no seen, and 'vae' needs it; choose 'gaussian', "),
        ("denoising", "autoencoder", ("seen",), None),
        ("vae", "vae", ("label", "row"), None),
        (
            "gpt",
            "gpt",
            ("sentence",),
            "objective.name: 'gpt' needs rows with sentence, and they have input, word_start, document, sequence; add ",
        ),
        ("bert", "masked-lm", ("segment", "label"), None),
    ],
)
def test_an_objective_s_columns_are_there_or_the_recipe_is_refused(
    recipe: str, objective: str, columns: tuple[str, ...], message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, objective, replace(OBJECTIVES[objective], columns=columns))
    with nullcontext() if message is None else pytest.raises(UserError, match=re.escape(message)):
        load(recipe)


@pytest.mark.parametrize(
    ("recipe", "setting", "message"),
    [
        ("t5", "compose.frame=eos", "compose.frame: eos: corruption.kind spans takes all tokens of a row for text"),
        ("mass", "compose.kind=sop", "compose.kind: sop: corruption.kind mass is of rows of one text"),
        ("bart", "compose.kind=nsp", "compose.kind: nsp: corruption.kind bart is of rows of one text"),
    ],
)
def test_special_tokens_that_a_corruption_would_take_for_text_are_refused(
    recipe: str, setting: str, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load(recipe, overrides=[setting])


@pytest.mark.parametrize(
    ("recipe", "given", "sentence"),
    [
        ("albert", ["corruption.p=0.5"], "corruption.p: 0.5 has no effect, as it belongs to lengths geometric"),
        ("bart", ["corruption.unit=word", "corruption.mean_length=4.0"], "mean_length: 4.0 has no effect"),
        ("bart", ["corruption.rate=0", "corruption.replace=masks"], "replace: masks has no effect"),
        ("word2vec", ["objective.options.loss=hierarchical-softmax", "objective.options.negatives=9"],
         "objective.options.negatives: 9 has no effect, as it belongs to loss negative-sampling"),
        ("t5", ["train.betas=[0.5, 0.9]"], "train.betas: [0.5, 0.9] has no effect, as it belongs to optimizer adamw"),
        ("t5", ["train.schedule=constant", "train.lr_end=0.1"], "train.lr_end: 0.1 has no effect"),
        ("gpt", ["compose.short_probability=0.5"], "short_probability: 0.5 has no effect"),
        ("bert", ["compose.whole_sentences=false"], "whole_sentences: false has no effect, as it"),
        ("bert", ["order.temperature=0.5"], "order.temperature: 0.5 has no effect, as it belongs to several corpora"),
        ("bigbird", ["network.config.attention_probs_dropout_prob=0.1"], "prob: 0.1 has no effect, as it belongs to "),
        ("finetune", ["placement.workers=4"], "placement.workers: 4 has no effect on jobs"),
    ],
)  # fmt: skip
def test_a_setting_without_effect_is_told(recipe: str, given: list[str], sentence: str) -> None:
    remarks = [text for text in load(recipe, overrides=given).remarks() if "has no effect" in text]
    assert len(remarks) == 1 and sentence in remarks[0]
    remarks = [text for text in load(recipe).remarks() if "has no effect" in text]
    assert remarks == []


def test_settings_in_lists_and_tables_are_looked_at() -> None:
    class Inner(Settings):
        belongs: ClassVar = {"rate": Belongs("on", lambda inner: inner.on)}
        rate: float = 1.0
        on: bool = False

    class Outer(Settings):
        several: tuple[Inner, ...] = ()
        named: dict[str, Inner] = Field(default_factory=dict)

    given = Outer(several=(Inner(rate=2.0, on=True), Inner(rate=2.0)), named={"a": Inner(rate=3.0), "b": Inner()})
    assert list(without_effect(given)) == [
        "several.1.rate: 2.0 has no effect, as it belongs to on", "named.a.rate: 3.0 has no effect, as it belongs to on"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "sources"),
    [
        ("compression", "downstream.0.images"),
        ("text-anomaly", "downstream.0.others"),
        ("quickstart", "data.clean.rules.decontamination.evaluation"),
    ],
)
def test_a_split_of_a_source_that_has_none_is_refused(recipe: str, sources: str) -> None:
    with pytest.raises(UserError, match=rf"{re.escape(sources)}\.0\.split: .*leave split out"):
        load(recipe, overrides=[f"{sources}=[{{path: /data, split: names}}]"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tokenizer.kind=wordpiece", "tokenizer.kind: 'wordpiece' does not say how often a token occurs"),
        ("train.optimizer=adamw", "train.optimizer: found adamw with weight_decay 0; 'word2vec' changes a few rows"),
        ("train.weight_decay=0.1", "train.optimizer: found sgd with weight_decay 0.1; 'word2vec' changes a few rows"),
        ("placement.zero=2", "train.optimizer: sgd has no state for ZeRO to divide"),
        ("network.architecture=bert", "network.architecture: found 'bert'; this objective trains word-vectors"),
    ],
)
def test_what_word_vectors_need_is_there_or_the_recipe_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load("word2vec", overrides=[override])


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("switch", "placement.zero=1", r"adafactor keeps factors of whole matrices"),
        ("switch", "train.optimizer=adamw; placement.zero=3", r"zero: 3 divides every weight among all workers"),
        ("switch", "placement.expert_parallel=2", r"placement\.expert_parallel: needs placement\.zero 1 or 2"),
        ("switch", "network.config.expert_capacity=64", r"network\.config\.expert_capacity: .*routing\.capacity"),
        ("mass", "placement={workers: 2, zero: 2, expert_parallel: 2}", r"'bart' has no experts to divide"),
        ("t5", "objective.options.routing.capacity=2.0", r"objective\.options\.routing: 't5' has no experts"),
    ],
)
def test_experts_are_used_as_they_can_be(recipe: str, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(recipe, overrides=override.split("; "))
