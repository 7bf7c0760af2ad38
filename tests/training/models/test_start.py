"""Weights of a folder in a network that training starts with: by name, with rows for new pieces, all or a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from data_prep.errors import UserError
from data_prep.shards.rows import Specials
from data_prep.tokens.vocabulary.extension import Added
from training.config import NetworkConfig
from training.models.text.start.settings import built_problems, network_of
from training.models.text.start.weights import start, vocabulary_axes

OLD = 40
ADDED = Added(OLD, ["ab", "abc"], [[7, 8], [7, 8, 9]])
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40}
SIZES: dict[str, dict[str, Any]] = {
    "BertForMaskedLM": BERT,
    "BertForPreTraining": BERT,
    "RobertaForMaskedLM": BERT,
    "GPT2LMHeadModel": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32},
    "T5ForConditionalGeneration": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2},
    "BartForConditionalGeneration": {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32,
    },
}  # fmt: skip


def model_of(name: str, vocabulary: int, seed: int, **more: Any) -> Any:
    torch.manual_seed(seed)
    kind: Any = getattr(transformers, name)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}
    if "T5" not in name and "Bart" not in name:
        ids.pop("decoder_start_token_id")
    model = kind(kind.config_class(vocab_size=vocabulary, **ids, **SIZES[name], **more)).eval()
    for parameter in model.parameters():  # biases are 0 in the beginning
        torch.nn.init.normal_(parameter, std=0.2)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            torch.nn.init.normal_(buffer)
    return model


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
    with torch.no_grad():
        output = model(**inputs)
    return output.logits if "logits" in output else output.prediction_logits


# T5's are always tied.
@pytest.mark.parametrize(
    ("name", "tied"), [(name, tied) for name in SIZES for tied in (True, False)[: 2 - ("T5" in name)]]
)
def test_old_tokens_are_as_they_were_and_new_ones_the_mean_of_their_parts(
    name: str, tied: bool, tmp_path: Path
) -> None:
    theirs = model_of(name, OLD, 1, tie_word_embeddings=tied)
    ours = model_of(name, OLD + 2, 2, tie_word_embeddings=tied)
    before = ours.get_input_embeddings().weight.detach().clone()
    started = start(ours, saved(theirs, tmp_path), ADDED)
    assert started.drawn == started.unused == [] and started.rows_left_out == 0
    assert not torch.equal(ours.get_input_embeddings().weight[:OLD], before[:OLD])
    ids = torch.tensor([[3, 7, 8, 9, 4, 30]])
    theirs_say, ours_say = logits(theirs, ids), logits(ours, ids)
    assert torch.allclose(ours_say[..., :OLD], theirs_say, atol=1e-5)
    # A linear output: the mean of vectors and biases gives the mean of logits.
    assert torch.allclose(ours_say[..., OLD], theirs_say[..., [7, 8]].mean(-1), atol=1e-5)
    assert torch.allclose(ours_say[..., OLD + 1], theirs_say[..., [7, 8, 9]].mean(-1), atol=1e-5)
    old, new = (model.get_input_embeddings().weight for model in (theirs, ours))
    assert torch.allclose(new[OLD], (old[7] + old[8]) / 2) and torch.allclose(new[OLD + 1], old[7:10].mean(0))


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "BertForMaskedLM"])
def test_a_folder_says_nothing_of_tokens_that_its_tokenizer_has(name: str, tmp_path: Path) -> None:
    of_folder = network_of(saved(model_of(name, OLD, 1), tmp_path))
    network = NetworkConfig(architecture=of_folder.architecture, config=of_folder.config)
    specials = Specials(OLD + 2, pad=0, bos=1, eos=2, cls=1, sep=2, mask=3, unk=4)
    assert not {"cls_token_id", "mask_token_id"} & set(of_folder.says)
    assert built_problems(network, of_folder, specials) == []


def test_tables_of_the_vocabulary_are_found_by_what_changes_with_it() -> None:
    model = model_of("BertForMaskedLM", OLD, 1)  # its inner layers are as wide as its vocabulary
    assert model.config.intermediate_size == OLD
    axes = vocabulary_axes(model)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in axes} <= {
        "word_embeddings",
        "decoder",
        "predictions",
    }
    assert set(axes.values()) == {0}
    assert vocabulary_axes(model_of("BartForConditionalGeneration", OLD, 1))["final_logits_bias"] == 1


def test_rows_of_no_token_are_left_out_and_told(tmp_path: Path) -> None:
    """T5 has 32,128 rows for 32,100 tokens; the ids of new pieces are those of the first of these rows."""
    theirs, ours = (
        model_of("T5ForConditionalGeneration", OLD + 2, 1),
        model_of("T5ForConditionalGeneration", OLD + 2, 2),
    )
    started = start(ours, saved(theirs, tmp_path), ADDED)
    old, new = (model.get_input_embeddings().weight for model in (theirs, ours))
    assert torch.allclose(new[OLD], (old[7] + old[8]) / 2)
    assert "2 rows of the folder's embeddings, of no token, are left out" in started.remarks


def test_a_head_that_is_not_there_is_drawn_anew_and_told(tmp_path: Path) -> None:
    theirs = model_of("BertForMaskedLM", OLD, 1)
    saved(theirs.bert, tmp_path / "encoder")
    ours = model_of("BertForMaskedLM", OLD, 2)
    bias = ours.cls.predictions.bias.detach().clone()
    started = start(ours, tmp_path / "encoder", None)
    assert started.drawn and all(name.startswith("cls.") for name in started.drawn)
    assert torch.equal(ours.cls.predictions.bias, bias)
    assert torch.equal(ours.bert.embeddings.word_embeddings.weight, theirs.bert.embeddings.word_embeddings.weight)
    assert "are drawn at random" in started.remarks[0]
    saved(model_of("BertForPreTraining", OLD, 3), tmp_path / "with-sentences")
    remark = start(ours, tmp_path / "with-sentences", None).remarks[0]
    assert "this objective has no use for" in remark and "pooler" in remark + "cls.seq_relationship"


def test_weights_that_are_lacking_or_of_other_shapes_are_refused_in_one_sentence(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved(model_of("BertForMaskedLM", OLD, 1), tmp_path / "a")
    with pytest.raises(UserError, match=r"has embeddings of 40 tokens, and its tokenizer has 45; mend one of them"):
        start(model_of("BertForMaskedLM", 45, 2), tmp_path / "a", None)
    weights = load_file(tmp_path / "a" / "model.safetensors")
    lacking = weights.pop("bert.encoder.layer.0.attention.self.query.weight")
    save_file(weights, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    assert lacking.shape == (16, 16)
    with pytest.raises(UserError, match=r"has no weights of bert\.encoder\.layer\.0.*name another"):
        start(model_of("BertForMaskedLM", OLD, 2), tmp_path / "a", None)
