"""Tiny networks that write, of random weights, in folders as training exports them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from training.config import NetworkConfig
from training.models.text.architectures import text_config
from training.models.text.causal_lm import causal_lm
from training.models.text.export import export
from training.models.text.sequence_to_sequence import sequence_to_sequence
from training.objectives.text import set_special_ids

TEXT = ["the cat sat on a mat and the dog sat on a log", "a dog and a cat, and what they said: é à 中", "on and on"]
POSITIONS = 64
DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS},
    "llama": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 64, "max_position_embeddings": POSITIONS,
    },
}  # fmt: skip
T5: dict[str, Any] = {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64, "d_kv": 16}
EXPERTS = {"num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 4}
PAIRS: dict[str, dict[str, Any]] = {"t5": T5, "switch_transformers": {**T5, **EXPERTS}}


def write(folder: Path, architecture: str, vocabulary: int = 290, spread: float = 0.35) -> Path:
    """A network of random weights, large enough that what it writes varies and sometimes ends."""
    two_stacks = architecture in PAIRS
    roles: Any = ["pad", "bos", "eos", *(["decoder_start"] if two_stacks else [])]
    sentinels = 4 if two_stacks else 0
    config = TokenizerConfig(kind="byte-bpe", vocabulary=vocabulary, roles=roles, sentinels=sentinels)
    train(config, TEXT, folder / "tokenizer")
    special = specials(folder / "tokenizer")
    network = NetworkConfig(architecture=architecture, config=(PAIRS if two_stacks else DECODERS)[architecture])
    settings = text_config(network, special)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model: Any = sequence_to_sequence(settings) if two_stacks else causal_lm(settings)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=spread)
    set_special_ids(model, special)
    export(model, ["attention_mask"], folder / "tokenizer", POSITIONS, folder / "model")
    return folder / "model"


@cache
def opened(folder: Path) -> Any:
    """The language model of a folder, opened once."""
    from training.inference.language_model import open_language_model

    return open_language_model(folder)
