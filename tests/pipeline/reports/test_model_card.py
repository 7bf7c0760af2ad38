"""Model cards tell what a network does, and their lines run, whatever the architecture."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from data_prep.tokens.tokenizers import TokenizerConfig
from pipeline.recipe.load import load_pretraining
from pipeline.reports.model_card import model_card
from tests.pipeline import packaged
from tests.training.inference.test_elsewhere import FAMILIES, exported
from tests.training.objectives import test_electra, test_elmo
from training.inference.encoding import open_encoder
from training.models.text.architectures import ARCHITECTURES

BIG_BIRD: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "block_size": 4,
    "num_random_blocks": 1, "max_position_embeddings": 64,
}  # fmt: skip
PIECES = TokenizerConfig(vocabulary=300)
WORDS = TokenizerConfig(kind="word", vocabulary=60, min_count=1, roles=["pad", "unk"])
OTHERS = {
    "discriminator": ("electra", ("electra", test_electra.SHAPE, PIECES)),
    "big_bird": ("big_bird", ("masked-lm", BIG_BIRD, PIECES)),
    "elmo": ("elmo", ("elmo", test_elmo.SHAPE, PIECES)),
    "word-vectors": ("word-vectors", ("word2vec", {"size": 8}, WORDS)),
}
FEATURES = {"discriminator", "elmo", "word-vectors"}
CASES = {**{name: (name, family) for name, family in FAMILIES.items()}, **OTHERS}


def card_of(folder: Path, architecture: str, objective: str) -> tuple[dict[str, Any], str, str]:
    """Metadata, code and all of a card."""
    config: dict[str, Any] = {
        "name": "a name", "network": {"architecture": architecture},
        "objective": {"name": objective}, "train": {"global_batch": 2, "steps": 3, "lr": 1e-3},
    }  # fmt: skip
    shards = {"train": {"corpus_tokens": 9000, "documents": 40, "rows": 70}}
    source = SimpleNamespace(key="shards-1", summary=shards, manifest={"provenance": {"licences": ["CC0-1.0"]}})
    text = model_card(config, {"shards": source}, {"train/loss": 1.5}, folder)  # type: ignore[dict-item]
    _, metadata, _ = text.split("---\n", 2)
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    return yaml.safe_load(metadata), code, text


def ran(code: str, folder: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code.replace("this/folder", str(folder)), names)
    return names


@pytest.mark.parametrize("name", CASES)
def test_the_lines_of_a_card_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    architecture, family = CASES[name]
    folder = exported(tmp_path / "model", architecture, family)
    metadata, code, text = card_of(folder, architecture, family[0])
    names, line = ran(code, folder), ARCHITECTURES.get(architecture)
    if line and (line.causal or line.encoder_decoder):
        assert metadata["pipeline_tag"] == ("text-generation" if line.causal else "text2text-generation")
        assert capsys.readouterr().out.strip()
        return
    assert metadata["pipeline_tag"] == ("feature-extraction" if name in FEATURES else "fill-mask")
    assert torch.as_tensor(names["features"]).isfinite().all() and names["features"].ndim == 3
    if metadata["pipeline_tag"] == "fill-mask":
        assert names["logits"].shape[-1] == names["model"].config.vocab_size
    assert ("fills no gaps" in text) == (name == "discriminator") == ("is_replaced" in names)
    length = re.search(r"cuts texts to ([\d,]+) tokens", text)
    assert (length is None) == (metadata["library_name"] == "sesame")
    if length is not None:
        batch = names["tokenizer"]("x " * 999, truncation=True)
        assert len(batch["input_ids"]) == int(length[1].replace(",", ""))


def test_every_network_of_text_that_a_recipe_trains_has_a_case() -> None:
    trained_here = [load_pretraining(name) for name in packaged.pretraining()]
    texts = [recipe for recipe in trained_here if recipe.data.kind == "text"]
    trained = {(recipe.network.architecture, recipe.objective.name) for recipe in texts}
    shown = {(architecture, family[0]) for architecture, family in CASES.values()}
    assert {architecture for architecture, _ in trained} <= {architecture for architecture, _ in shown}
    assert ("electra", "electra") in trained & shown


def test_a_card_says_what_others_compute_otherwise(tmp_path: Path) -> None:
    """In `transformers` the random blocks are the first block, and short texts meet in full attention."""
    architecture, family = CASES["big_bird"]
    folder = exported(tmp_path / "model", architecture, family)
    _, code, text = card_of(folder, architecture, family[0])
    assert "of the 1 random blocks of 4 tokens" in text and "at most 28 tokens switch the network" in text
    theirs, ids = ran(code, folder)["model"].base_model, torch.arange(5, 53)[None]
    with torch.no_grad():
        states = theirs(input_ids=ids).last_hidden_state
    ours = torch.from_numpy(open_encoder(folder).encode({"input": _row(ids[0].tolist())}).values)
    assert (ours - states).abs().max() > 1e-3
    with torch.no_grad():
        theirs(input_ids=ids[:, :28])
    assert theirs.attention_type == "original_full"
    _, _, other = card_of(exported(tmp_path / "bert", "bert", FAMILIES["bert"]), "bert", "masked-lm")
    assert "random blocks" not in other


def test_a_card_says_that_experts_have_room_for_all(tmp_path: Path) -> None:
    for architecture in ("t5", "switch_transformers"):
        folder = exported(tmp_path / architecture, architecture, FAMILIES[architecture])
        _, _, text = card_of(folder, architecture, "t5")
        assert ("Here none is dropped" in text) == (architecture != "t5")
    assert "room for 1.25 even shares of the tokens of 1 rows" in text


def _row(ids: list[int]) -> Any:
    from data_prep.shards.rows import Ragged

    return Ragged.from_rows([ids])
