"""Folders of language models are opened by what they can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertForMaskedLM, MistralConfig, MistralForCausalLM

from data_prep.errors import UserError
from tests.training.inference import writers
from training.inference.generation.decoding import Decoding
from training.inference.generation.generate import Generator
from training.inference.language_model import open_language_model
from training.models.text.folder import open_pretrained

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 290,
}


def test_a_type_without_a_line_is_opened_by_its_class(tmp_path: Path) -> None:
    folder = writers.write(tmp_path, "gpt2")
    MistralForCausalLM(MistralConfig(**SMALL, num_key_value_heads=1, sliding_window=8)).save_pretrained(folder)
    model = open_language_model(folder)
    assert model.architecture.causal and not model.architecture.packable
    generator = Generator(model, Decoding(max_new_tokens=30))
    [text] = generator.complete(["the cat sat on a mat"])  # a window of 8: its cache is that of transformers
    row = model.prompt_ids("the cat sat on a mat")
    import torch

    ids = model.network.generate(torch.tensor([row]), max_new_tokens=30, do_sample=False, pad_token_id=0)[0].tolist()
    wanted = ids[len(row) :]
    assert text.ids == (wanted[: wanted.index(model.eos)] if model.eos in wanted else wanted)


def test_a_network_computes_what_that_of_transformers_does_in_fewer_passes(tmp_path: Path) -> None:
    import torch

    folder = writers.write(tmp_path, "gpt2")
    model, plain = open_language_model(folder), open_pretrained(folder, "AutoModelForCausalLM")
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(4)
    model.network.load_state_dict(plain.state_dict())
    ids = torch.tensor([model.prompt_ids("the cat sat on a mat")])
    ours, theirs = model.network(ids).logits, plain(ids).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    num_calls = [
        sum(event.count for event in profile.key_averages() if event.key == "aten::tanh")
        for profile in (_profiled(network, ids) for network in (model.network, plain))
    ]
    assert num_calls == [0, plain.config.n_layer]


def _profiled(network: Any, ids: Any) -> Any:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        network(ids)
    return profiled


def test_a_network_that_fills_gaps_is_refused(tmp_path: Path) -> None:
    folder = writers.write(tmp_path, "gpt2")
    BertForMaskedLM(BertConfig(**SMALL)).save_pretrained(folder)
    with pytest.raises(UserError, match="'bert' fills gaps and does not write"):
        open_language_model(folder)


def test_a_tokenizer_whose_beginning_is_its_end_begins_nothing(tmp_path: Path) -> None:
    folder = writers.write(tmp_path, "gpt2")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": "[EOS]"}))
    model = open_language_model(folder)
    assert model.bos is None and model.prompt_ids("the cat") == model.plain_ids("the cat")
