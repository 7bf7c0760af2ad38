"""Exports of masked language models: `transformers` opens them by its auto classes, with the logits of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from data_prep.kinds import kind_of
from data_prep.shards.rows import Ragged
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from pipeline.recipe.load import load_pretraining
from tests.training import tiny
from tests.training.objectives.test_packed import EMBEDDED, SHAPE
from training.config import NetworkConfig, ObjectiveConfig
from training.cost.counted import num_parameters
from training.models.text.network import encoder_flops, matrix_parameters
from training.objectives import build

WORDS = ["the cat sat on a mat", "a dog ran to the house", "birds sing in the old tree"] * 3
ALBERT = SHAPE | EMBEDDED | {"classifier_dropout_prob": 0.0}
CASES: dict[str, tuple[dict[str, Any], str, TokenizerConfig]] = {
    "roberta": ({**SHAPE, "type_vocab_size": 1}, "none", TokenizerConfig(kind="byte-bpe", vocabulary=300)),
    "albert": (ALBERT, "sop", TokenizerConfig(vocabulary=300)),
    "ernie": (SHAPE, "sop", TokenizerConfig(vocabulary=300)),
}


@pytest.mark.parametrize("architecture", CASES)
def test_an_export_opens_elsewhere(architecture: str, tmp_path: Path) -> None:
    network, sentence, config = CASES[architecture]
    train(config, WORDS, tmp_path / "tokenizer")
    special = specials(tmp_path / "tokenizer")
    facts = replace(tiny.FACTS, specials=special, preprocessor=tmp_path / "tokenizer")
    section = ObjectiveConfig(name="masked-lm", options={"sentence": sentence})
    built: Any = build(section, {"model": NetworkConfig(architecture=architecture, config=network)}, facts, "cpu")
    with torch.no_grad():
        for number, parameter in enumerate(built.network.parameters()):
            parameter.add_(torch.sin(torch.arange(parameter.numel()) + number).view_as(parameter), alpha=0.05)
    built.network.eval()
    built.export(tmp_path / "out", [])
    texts = [[special.cls, 9, special.mask, 11, 12, special.sep], [special.cls, special.mask, special.sep]]
    batch = built.padded({"seen": Ragged.from_rows(texts, np.uint16)})[0]
    inputs = {name: torch.from_numpy(batch[name]) for name in ("input_ids", "attention_mask")}
    auto = transformers.AutoModelForMaskedLM if sentence == "none" else transformers.AutoModelForPreTraining
    opened, masked = (
        kind.from_pretrained(tmp_path / "out").eval() for kind in (auto, transformers.AutoModelForMaskedLM)
    )
    assert type(opened) is type(built.exported())
    with torch.no_grad():
        wanted, outputs = built.exported()(**inputs), opened(**inputs)
        for name, value in wanted.items():
            torch.testing.assert_close(outputs[name], value, atol=1e-5, rtol=0)
        logits = wanted["logits" if sentence == "none" else "prediction_logits"]
        torch.testing.assert_close(masked(**inputs).logits, logits, atol=1e-5, rtol=0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(WORDS[0])["input_ids"][0] == special.cls and tokenizer.mask_token_id == special.mask


@pytest.mark.parametrize("groups", [1, 2])
def test_layers_that_share_weights_work_as_often_as_they_are_run(groups: int) -> None:
    shared: dict[str, Any] = {**ALBERT, "num_hidden_layers": 4, "num_hidden_groups": groups}
    unshared: dict[str, Any] = {**SHAPE, "num_hidden_layers": 4}
    albert = transformers.AlbertModel(transformers.AlbertConfig(vocab_size=48, **shared), add_pooling_layer=False)
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=48, **unshared), add_pooling_layer=False)
    mapping = 16 * 32
    assert encoder_flops(albert)[0] == encoder_flops(bert)[0] + mapping
    assert matrix_parameters(albert) == mapping + groups * (encoder_flops(bert)[0] // 4)


PUBLISHED = [("roberta", "base", 125), ("roberta", "large", 355), ("albert", "base", 12), ("albert", "large", 18)]


@pytest.mark.parametrize(("recipe", "scale", "millions"), PUBLISHED)
def test_recipes_have_the_published_sizes(recipe: str, scale: str, millions: int) -> None:
    """RoBERTa's table 9 and its code's README; ALBERT's table 1."""
    loaded = load_pretraining(recipe, scale)
    facts = kind_of(loaded.data.kind).expected(loaded)
    assert facts is not None
    with torch.device("meta"):
        built = build(loaded.objective, {"model": loaded.network}, facts, "cpu")
    assert round(num_parameters(built) / 1e6) == millions
