"""Writes a network of `transformers` and its tokenizer into a folder that opens elsewhere, and tries the result.

The tokenizer's file is the one that was trained with, byte for byte. Its settings and the network's are written in
keys that `transformers` 4 and 5 both know; `model_max_length` is the number of the network's positions.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import UserError
from data_prep.tokens.roles import SETTINGS, settings_of
from data_prep.tokens.tokenizers import load
from training.models.text.architectures import architecture_of, longest
from training.models.text.folder import open_tokenizer

TOKENIZER = "tokenizer.json"
PROBE = "It's e\u0301 x, 12345  times:\n\n(A1) über 漢字!"


def export(model: Any, inputs: list[str], tokenizer: Path, length: int, path: Path) -> None:
    """Write a model, whose forward was given `inputs` besides `input_ids`, and the tokenizer of a folder to `path`.

    length: tokens of a row, where the network has no most.
    """
    model.save_pretrained(path)
    config = json.loads((path / "config.json").read_bytes())
    (path / "config.json").write_text(_json(config | _rope(config)))
    _write_tokenizer(tokenizer, path, _columns(model, inputs), longest(model.config) or length)


def _write_tokenizer(tokenizer: Path, path: Path, columns: list[str], most: int) -> None:
    """columns: what it must return besides ids. most: tokens of a text."""
    shutil.copyfile(tokenizer / TOKENIZER, path / TOKENIZER)
    settings = settings_of(tokenizer)
    ending = settings.get("eos_token") or settings.get("sep_token")
    if "pad_token" not in settings and ending:
        settings["pad_token"] = ending  # batches are padded with something; nothing attends to it
    (path / SETTINGS).write_text(
        _json(
            {
                **settings,
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_input_names": ["input_ids", *columns],
                "model_max_length": most,
            }
        )
    )


def check_tokenizer(config: Any, tokenizer: Path) -> None:
    """UserError where `transformers` would not read an export's tokenizer as it stands: for some model types it makes
    one of its own class from the same pieces."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config.save_pretrained(folder)
        _write_tokenizer(tokenizer, folder, [], len(PROBE))
        theirs, ours = open_tokenizer(folder), load(folder)
        if theirs(PROBE, verbose=False)["input_ids"] != ours.encode(PROBE).ids:
            raise UserError(
                f"network.architecture: transformers opens a network of {config.model_type!r} with a tokenizer of the "
                f"class {type(theirs).__name__}, which gives other ids than the tokenizer here; choose another "
                "architecture."
            )


def check_use(folder: Path, model: Any) -> None:
    """Use an export as others will: a batch of a long and a short text, cut and padded. RuntimeError if that fails.

    model: that of the folder, in evaluation mode.
    """
    tokenizer, ours = open_tokenizer(folder), load(folder)
    most = tokenizer.model_max_length
    texts = ["x " * (most + 8), "e\u0301 x"]
    batch = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    wanted = [ours.encode(text).ids for text in texts]
    ids = tokenizer(texts, verbose=False)["input_ids"]
    if ids != wanted:
        raise RuntimeError(f"{folder}: the exported tokenizer gives other ids than the one that was trained with")
    if batch["input_ids"].shape != (2, most):
        shape = tuple(batch["input_ids"].shape)
        raise RuntimeError(f"{folder}: a batch cut to {most} tokens has the shape {shape}")
    if architecture_of(model.config.model_type).encoder_decoder:
        batch["decoder_input_ids"] = torch.full((2, 1), model.config.decoder_start_token_id)
    with torch.inference_mode():
        states = model.base_model(**batch)[0]
    if not states.isfinite().all():
        raise RuntimeError(f"{folder}: the exported network gives features that are not finite")


def _columns(model: Any, inputs: list[str]) -> list[str]:
    """What the tokenizer must return besides ids: the other inputs of the network."""
    types = getattr(model.config, "type_vocab_size", 2)
    return [name for name in ("token_type_ids", "attention_mask") if name in inputs and (name[0] == "a" or types > 1)]


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """The setting of rotary positions under the name of `transformers` 4."""
    rope = config.get("rope_parameters") or {}
    return {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
