"""Exports open elsewhere as they should: with the texts, batches and lengths that others have, by versions they have.

`SESAME_OTHER_PYTHON` names an interpreter with another version of `transformers` (4.57, say) and torch, in which the
same is tried: `SESAME_OTHER_PYTHON=~/other/bin/python pytest tests/training/inference/test_elsewhere.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train
from tests.training import tiny
from tests.training.inference.elsewhere import TEXTS, used
from tests.training.inference.elsewhere import __file__ as SCRIPT
from tests.training.objectives.test_packed import OWN, SHAPE
from training.config import NetworkConfig, ObjectiveConfig
from training.inference.opening import check_export, open_network
from training.models.text.export import check_use
from training.objectives import build

WORDS = ["the cat sat on a mat caf\u00e9", "a dog ran to the house", "birds sing in the old tree"] * 3
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 80}
LLAMA = {name: SHAPE[name] for name in SHAPE if "prob" not in name}
T5: dict[str, Any] = {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64, "d_kv": 16}
BART_ROLES: list[Any] = ["pad", "cls", "sep", "mask"]
BART_STACK = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}
BERT_LIKE = ["albert", "bert", "distilbert", "electra", "ernie", "mpnet", "roberta"]
BART: dict[str, Any] = {
    **{"d_model": 32, "max_position_embeddings": 80},
    **{f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in BART_STACK.items()},
}
FAMILIES: dict[str, tuple[str, dict[str, Any], TokenizerConfig]] = {
    **{name: ("masked-lm", OWN.get(name, SHAPE), TokenizerConfig(vocabulary=300)) for name in BERT_LIKE},
    "gpt2": ("gpt", GPT2, TokenizerConfig(kind="byte-bpe", vocabulary=300, roles=["eos"])),
    "llama": ("gpt", LLAMA, TokenizerConfig(kind="byte-bpe", vocabulary=300, roles=["bos", "eos"])),
    "bart": ("sequence-to-sequence", BART, TokenizerConfig(kind="byte-bpe", vocabulary=300, roles=BART_ROLES)),
    "t5": ("t5", T5, TokenizerConfig(vocabulary=300, roles=["pad", "unk", "eos", "decoder_start"], sentinels=5)),
    "switch_transformers": (
        "t5",
        {
            **T5,
            "num_decoder_layers": 2,
            "num_experts": 2,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
        },
        TokenizerConfig(vocabulary=300, roles=["pad", "unk", "eos", "decoder_start"], sentinels=5),
    ),
}
POSITIONS = {"roberta": 79, "mpnet": 78, "t5": 128, "switch_transformers": 128}


def exported(folder: Path, architecture: str, family: tuple[str, dict[str, Any], TokenizerConfig]) -> Path:
    """An export of a family, with weights that show whether they arrive."""
    objective, network, config = family
    tokenizer = folder.with_name(f"tokenizer of {folder.name}")
    train(config, WORDS, tokenizer, Cleaning())
    facts = replace(tiny.FACTS, specials=specials(tokenizer), preprocessor=tokenizer, length=64)
    settings = NetworkConfig(architecture=architecture, config=network)
    built: Any = build(ObjectiveConfig(name=objective), {"model": settings}, facts, "cpu")
    with torch.no_grad():
        for number, parameter in enumerate(built.network.parameters()):
            parameter.add_(torch.sin(torch.arange(parameter.numel()) + number).view_as(parameter), alpha=0.05)
    built.network.eval()
    built.export(folder, [])
    check_export(folder, built.exported())
    return folder


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An export of each architecture."""
    folder = tmp_path_factory.mktemp("exports")
    return {name: exported(folder / name, name, family) for name, family in FAMILIES.items()}


@pytest.fixture(scope="module")
def here(exports: dict[str, Path]) -> dict[str, Any]:
    return {name: used(str(folder)) for name, folder in exports.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_long_texts_and_batches_fit_the_network(exports: dict[str, Path], here: dict[str, Any], name: str) -> None:
    positions, outputs = POSITIONS.get(name, 80), here[name]
    assert outputs["model_max_length"] == positions and outputs["shape"] == [len(TEXTS), positions]
    assert outputs["missing"] == [] and all(0 < state < 1e6 for state in outputs["states"])
    assert outputs["ids"] == [load(exports[name]).encode(text).ids for text in TEXTS]
    assert outputs["ids"][0] == outputs["ids"][1], "texts that look alike"
    takes_types = name in ("albert", "bert", "electra", "ernie", "roberta")
    assert ("token_type_ids" in outputs["columns"]) == takes_types


@pytest.mark.parametrize("name", FAMILIES)
def test_files_name_what_every_version_knows(exports: dict[str, Path], name: str) -> None:
    settings = json.loads((exports[name] / "tokenizer_config.json").read_bytes())
    config = json.loads((exports[name] / "config.json").read_bytes())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    own = exports[name].with_name(f"tokenizer of {name}")
    assert (exports[name] / "tokenizer.json").read_bytes() == (own / "tokenizer.json").read_bytes()
    assert ("rope_theta" in config) == (name == "llama")


def test_without_positions_it_takes_what_it_has_learned_from(exports: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = exports["t5"].with_name("tokenizer of t5")
    facts = replace(tiny.FACTS, specials=specials(tokenizer), preprocessor=tokenizer)
    built: Any = build(ObjectiveConfig(name="t5"), {"model": NetworkConfig(architecture="t5", config=T5)}, facts, "cpu")
    assert built.export_rows > 0
    built.export(tmp_path, [{"input_ids": torch.zeros(2, width)} for width in (16, 40, 24)])
    assert json.loads((tmp_path / "tokenizer_config.json").read_bytes())["model_max_length"] == 40


def _longer_than_it_can(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 99}))


def _not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.LayerNorm.bias"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [(_longer_than_it_can, "must match the size"), (_not_finite, "features that are not finite")],
)
def test_an_export_that_cannot_be_used_is_not_kept(
    exports: dict[str, Path], tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(exports["bert"], folder)
    check_use(folder, open_network(folder))
    damage(folder)
    with pytest.raises((RuntimeError, IndexError), match=message):
        check_use(folder, open_network(folder))


@pytest.mark.skipif("SESAME_OTHER_PYTHON" not in os.environ, reason="SESAME_OTHER_PYTHON names no interpreter")
def test_another_version_finds_the_same(exports: dict[str, Path], here: dict[str, Any]) -> None:
    command = [str(Path(os.environ["SESAME_OTHER_PYTHON"]).expanduser()), SCRIPT, *map(str, exports.values())]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    there = {Path(folder).name: outputs for folder, outputs in json.loads(printed).items()}
    for name, outputs in there.items():
        assert outputs["transformers"] != here[name]["transformers"]
        for key in ("model_max_length", "columns", "ids", "pair", "shape", "missing", "config"):
            assert outputs[key] == here[name][key], (name, key)
        assert outputs["states"] == pytest.approx(here[name]["states"], rel=1e-4), name
