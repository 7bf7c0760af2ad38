"""What the lines of the table say is what the networks of `transformers` do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.shards.rows import Ragged, Specials
from tests.training import tiny
from tests.training.objectives.test_packed import OWN, SHAPE
from training.config import NetworkConfig, ObjectiveConfig
from training.models.text.architectures import ARCHITECTURES, architecture_of, position_problems, text_config
from training.models.text.causal_lm import causal_lm
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
