"""A tiny masked language model of random weights, in a folder as training exports it, and texts in two languages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from training.config import NetworkConfig
from training.models.text.architectures import text_config
from training.models.text.export import export

ENGLISH = ("the cat sat", "a dog", "on the mat", "they said it", "a cat and a dog", "the mat")
GREEK = ("η γατα καθισε", "ενα σκυλι", "στο χαλι", "το ειπαν", "γατα και σκυλι", "το χαλι")
SHAPE = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 32, "initializer_range": 0.5,
}  # fmt: skip


def write(folder: Path, architecture: str = "bert") -> Path:
    """An artifact's folder, with the network in `model/`. Its pieces are characters and a few words."""
    from transformers import AutoModelForMaskedLM

    train(TokenizerConfig(kind="wordpiece", vocabulary=96), [*ENGLISH, *GREEK] * 4, folder / "tokenizer")
    config = text_config(NetworkConfig(architecture=architecture, config=SHAPE), specials(folder / "tokenizer"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForMaskedLM.from_config(config)
    export(model, ["attention_mask", "token_type_ids"], folder / "tokenizer", 32, folder / "model")
    return folder


@pytest.fixture(scope="package")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six sentences, and a row that lacks one."""
    path = tmp_path / "pairs.tsv"
    lines = ["en\tel", *(f"{en}\t{el}" for en, el in zip(ENGLISH, GREEK, strict=True)), "alone\t"]
    path.write_text("\n".join(lines) + "\n")
    return path
