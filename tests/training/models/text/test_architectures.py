"""What the lines of the table say is what the networks of `transformers` do."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.shards.rows import Ragged, Specials
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training import tiny
from tests.training.objectives.test_packed import OWN, SHAPE
from training.config import NetworkConfig, ObjectiveConfig
from training.models.text.architectures import (
    ARCHITECTURES,
    architecture_of,
    decoder_problems,
    position_problems,
    text_config,
)
from training.models.text.causal_lm import causal_lm
from training.models.text.export import check_tokenizer
from training.models.text.masked_lm import masked_lm
from training.objectives import build

ENCODERS = [name for name, line in ARCHITECTURES.items() if not line.causal]


def network(name: str, **config: Any) -> NetworkConfig:
    return NetworkConfig(architecture=name, config={**OWN.get(name, SHAPE), **config})


@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize("name", [name for name in ENCODERS if ARCHITECTURES[name].packable])
def test_positions_begin_where_the_table_says(name: str, pad: int) -> None:
    specials = Specials(cls=2, sep=5, pad=pad, mask=4, unk=1, vocabulary=48)
    model = masked_lm(text_config(network(name), specials), sentence=False)
    first = 0
    for part, module in model.named_modules():
        if part.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            first = module.padding_idx + 1
    assert architecture_of(name).first(pad) == first


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_settings_have_the_names_of_the_config_class(name: str) -> None:
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[name]()
    positions = [] if hasattr(config, "relative_attention_num_buckets") else ["max_position_embeddings"]
    for setting in ("hidden_size", "num_hidden_layers", "num_attention_heads", *positions):
        own = architecture_of(name).setting(setting)
        assert hasattr(config, own), own
        assert config.attribute_map.get(setting, setting) == own


def test_roberta_needs_positions_beyond_the_length() -> None:
    facts = DataFacts("text", ("input",), length=80, specials=tiny.SPECIALS)
    message = r"network\.config\.max_position_embeddings: 80 positions are fewer than compose\.length 80 needs"
    with pytest.raises(UserError, match=message + r".*counts them from 1 on; set it to 81\."):
        build(ObjectiveConfig(name="masked-lm"), {"model": network("roberta")}, facts, "cpu")
    roberta: Any = build(
        ObjectiveConfig(name="masked-lm"), {"model": network("roberta", max_position_embeddings=81)}, facts, "cpu"
    )
    batch = roberta.collate({**roberta.example(2)})
    assert batch["input_ids"].shape == (2, 80)
    assert roberta.turns("train", 0)[0].loss(roberta.networks(), batch).sums["mlm"].isfinite()
    assert list(position_problems(network("bert"), {"compose.length": 80})) == []
    [(path, _)] = position_problems(network("distilbert"), {"compose.length": 81})
    assert path == "network.config.max_position_embeddings"


@pytest.mark.parametrize("name", ["bert", "distilbert", "mpnet", "roberta"])
def test_token_types_go_to_those_that_have_them(name: str) -> None:
    built: Any = build(ObjectiveConfig(name="masked-lm"), {"model": network(name)}, tiny.FACTS, "cpu")
    rows = {
        "seen": Ragged.from_rows([[2, 4, 6, 3, 7, 3]]),
        "segment": Ragged.from_rows([[0, 0, 0, 0, 1, 1]]),
        "target_positions": Ragged.from_rows([[1]]),
        "target_ids": Ragged.from_rows([[9]]),
    }
    batch = built.collate(rows)
    assert ("token_type_ids" in batch) == (name in ("bert", "roberta"))
    assert torch.isfinite(built.turns("train", 0)[0].loss(built.networks(), batch).sums["mlm"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_size": "64"}, r"network\.config: BertConfig refuses it \(.*'hidden_size' expected int"),
        ({"hidden_dropout_prob": "x"}, r"network\.config: BertConfig refuses it"),
        ({"hidden_size": -64}, r"network\.config\.hidden_size: found -64; allowed: at least 1"),
        ({"num_attention_heads": 0}, r"network\.config\.num_attention_heads: found 0"),
        ({"max_position_embeddings": 0}, r"network\.config\.max_position_embeddings: found 0; allowed: at least 1"),
        ({"hidden_act": "os.system"}, r"network\.config\.hidden_act: found 'os\.system'; allowed: .*gelu"),
    ],
)
def test_values_that_no_network_can_be_made_from_are_one_sentence(settings: dict[str, Any], said: str) -> None:
    specials = Specials(cls=2, sep=5, pad=0, mask=4, unk=1, vocabulary=48)
    with pytest.raises(UserError, match=said):
        text_config(NetworkConfig(architecture="bert", config=settings), specials)
    dropped = text_config(NetworkConfig(architecture="bert", config={"hidden_dropout_prob": 2.0}), specials)
    with pytest.raises(UserError, match=r"network\.config: no bert can be made of it \(dropout probability has to be"):
        masked_lm(dropped, sentence=False)
    with pytest.raises(UserError, match=r"network\.architecture: transformers has no causal head for 't5'"):
        causal_lm(text_config(NetworkConfig(architecture="t5"), specials))


SIZES = {
    "mistral": {**SHAPE, "num_key_value_heads": 1},
    "gpt_neox": SHAPE,
    "opt": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64, "word_embed_proj_dim": 32,
        "max_position_embeddings": 80, "dropout": 0.0,
    },
    "modernbert-decoder": {**SHAPE, "max_position_embeddings": 80},
    "mvp": {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 80,
    },
}  # fmt: skip
"""Of types that have no line."""
TOKENS = Specials(48, pad=0, bos=1, eos=2, cls=1, sep=2, unk=3, mask=4, decoder_start=2)


def without_line(name: str, objective: str) -> Any:
    known = inspect.signature(transformers.CONFIG_MAPPING[name]).parameters
    config = {setting: value for setting, value in SIZES[name].items() if setting in known}
    facts = DataFacts("text", ("input",), length=16, specials=TOKENS)
    torch.manual_seed(0)
    section = ObjectiveConfig(name=objective)
    return build(section, {"model": NetworkConfig(architecture=name, config=config)}, facts, "cpu")


@pytest.mark.parametrize("name", [name for name in SIZES if name != "mvp"])
def test_a_decoder_without_a_line_learns_from_every_token(name: str) -> None:
    assert name not in ARCHITECTURES and architecture_of(name).causal
    built = without_line(name, "gpt")
    built.network.eval()
    rows = np.random.default_rng(0).integers(8, 48, (3, 16))
    batch = built.collate({"input": Ragged.from_rows(rows, np.uint16)})
    (turn,) = built.turns("", 0)
    loss = turn.loss({"model": built.network}, batch).sums["lm"]
    with torch.no_grad():
        logits = built.network.model(input_ids=torch.tensor(rows)).logits
    wanted = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), torch.tensor(rows)[:, 1:].flatten(), reduction="sum"
    )
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_two_stacks_without_a_line_are_told_from_an_encoder() -> None:
    assert "mvp" not in ARCHITECTURES and architecture_of("mvp").encoder_decoder and not architecture_of("mvp").causal
    assert without_line("mvp", "sequence-to-sequence").network.encoder is not None
    encoder = architecture_of("modernbert")
    assert not (encoder.causal or encoder.encoder_decoder)
    ((_, problem),) = decoder_problems(NetworkConfig(architecture="modernbert"))
    assert "'modernbert' does not predict a token from those before it alone" in problem


def test_a_head_that_is_not_given_the_last_states_alone_is_refused() -> None:
    built = without_line("mistral", "gpt")
    built.network.encoder._forward_hooks.clear()  # as if another module ran
    batch = built.collate({"input": Ragged.from_rows(np.full((2, 16), 9), np.uint16)})
    with pytest.raises(UserError, match=r"the head of 'mistral' is not given the last hidden states alone"):
        built.turns("", 0)[0].loss({"model": built.network}, batch)


def test_a_type_that_transformers_opens_with_another_tokenizer_is_refused_before_training(tmp_path: Path) -> None:
    train(TokenizerConfig(kind="byte-bpe", vocabulary=300), ["the cat sat on a mat"], tmp_path)
    own, other = (text_config(NetworkConfig(architecture=name), specials(tmp_path)) for name in ("mistral", "qwen2"))
    check_tokenizer(own, tmp_path)
    with pytest.raises(UserError, match=r"a network of 'qwen2' with a tokenizer of the class Qwen2Tokenizer, which"):
        check_tokenizer(other, tmp_path)
