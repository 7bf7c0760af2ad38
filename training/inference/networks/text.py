"""Networks of text, in folders of `transformers`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows, num_rows, take
from data_prep.tokens import pretrained
from data_prep.tokens.roles import settings_of, specials_of
from data_prep.tokens.tokenizers import specials
from training.inference.encoding import BATCH, Features, in_batches
from training.inference.generation.decoding import Decoding
from training.inference.generation.generate import Generator
from training.inference.language_model import LanguageModel, open_language_model
from training.inference.networks import Usage, copy_others
from training.models.fine_tuning import layers_of
from training.models.text.architectures import Architecture, architecture_of, attention_of, longest
from training.models.text.block_sparse import with_block_sparse
from training.models.text.export import check_use
from training.models.text.folder import open_config, open_features, open_pretrained
from training.models.text.network import accepted
from training.objectives.text import padded_tokens, padding_id, seen_tokens

__all__ = ["TextEncoder", "check_use", "describes", "open_encoder", "open_network", "open_writer", "usage"]

_WRITES = """batch = tokenizer("A text", return_tensors="pt")
print(tokenizer.decode(model.generate(**batch, max_new_tokens=20)[0]))"""
_BATCH = 'batch = tokenizer(["A text.", "Another."], truncation=True, padding=True, return_tensors="pt")'
_FEATURES = "features = model.base_model(**batch).last_hidden_state  # [texts, tokens, width]"
_HEADS = {
    "text-generation": ("AutoModelForCausalLM", _WRITES),
    "text2text-generation": ("AutoModelForSeq2SeqLM", _WRITES),
    "fill-mask": ("AutoModelForMaskedLM", f"{_BATCH}\nlogits = model(**batch).logits\n{_FEATURES}"),
    "replaced": ("AutoModelForPreTraining", f"{_BATCH}\nis_replaced = model(**batch).logits > 0\n{_FEATURES}"),
    "feature-extraction": ("AutoModel", f"{_BATCH}\n{_FEATURES}"),
}
"""By what a network does: the class that opens it, and lines that use it."""


def describes(config: Mapping[str, Any]) -> bool:
    return "model_type" in config


def usage(folder: Path) -> Usage:
    config, settings = open_config(folder), settings_of(folder)
    line, exported = architecture_of(config.model_type), (config.architectures or [""])[0]
    task = line.task(exported)
    is_discriminator = line.discriminator and exported.endswith("ForPreTraining")
    name, code = _HEADS["replaced" if is_discriminator else task]
    opening = f"""from transformers import {name}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this/folder")
model = {name}.from_pretrained("this/folder")"""
    remarks = [f"With `truncation=True` the tokenizer cuts texts to {settings['model_max_length']:,} tokens."]
    if is_discriminator:
        remarks.append("It is the discriminator, which tells replaced tokens from others; it fills no gaps.")
    if shape := line.block_sparse and line.block_sparse.shape(config.to_dict()):
        remarks.append(_otherwise(*shape))
    return Usage("transformers", task, f"{opening}\n{code}", tuple(remarks))


def _otherwise(size: int, random: int) -> str:
    """What `transformers` computes otherwise for block-sparse attention (`training.models.text.block_sparse`)."""
    return (
        "As above, `transformers` computes something else than what was trained: of the "
        f"{random} random blocks of {size} tokens that each block sees besides, all are the first block in "
        f"evaluation, and texts of at most {(5 + 2 * random) * size:,} tokens switch the network to full attention for "
        'good. What was trained is computed by `training.inference.encoding.open_encoder("this/folder")` and '
        "wherever else Sesame opens this folder."
    )


def open_network(folder: Path) -> Any:
    named = open_config(folder).architectures
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise UserError(f"{folder}: config.json names no architecture; name another folder, or pretrain one.")
    return open_pretrained(folder, named[0])


def open_encoder(folder: Path, device: torch.device) -> TextEncoder:
    attention = attention_of(open_config(folder).model_type)
    model = open_features(folder, dtype=torch.float32, attn_implementation=attention)
    return TextEncoder(model.to(device).requires_grad_(False), specials(folder).pad, device)


def open_trainable(folder: Path) -> TrainableText:
    tokenizer, settings = pretrained.read(folder)
    pad = padding_id(specials_of(tokenizer, settings))
    return TrainableText(open_pretrained(folder, attn_implementation="eager"), pad, folder)


@dataclass(frozen=True)
class TrainableText:
    """A network of `transformers` as tasks train it. Rows hold one sequence of token ids each."""

    network: Any
    pad: int
    folder: Path
    """Where it and its tokenizer were opened."""

    @property
    def width(self) -> int:
        return int(self.network.config.hidden_size)

    @property
    def layers(self) -> list[nn.Module]:
        return layers_of(self.network)

    def inputs(self, rows: Rows) -> dict[str, np.ndarray]:
        return padded_tokens(rows, self.pad, types="token_type_ids" in _inputs(self.network))

    def copied(self) -> TrainableText:
        return replace(self, network=copy.deepcopy(self.network))

    def from_random_weights(self) -> TrainableText:
        from transformers import AutoModel

        return replace(self, network=with_block_sparse(AutoModel.from_config(self.network.config)))

    def save(self, folder: Path) -> None:
        copy_others(self.folder, folder)
        self.network.save_pretrained(folder)


def open_writer(folder: Path) -> TrainableWriter:
    return TrainableWriter(open_language_model(folder, trained=True), folder)


@dataclass(frozen=True)
class TrainableWriter:
    """A language model as it is fine-tuned, with its head on the vocabulary."""

    model: LanguageModel
    folder: Path
    """Where it and its tokenizer were opened."""

    @property
    def network(self) -> Any:
        return self.model.network

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    @property
    def length(self) -> int | None:
        return self.model.length

    @property
    def pad(self) -> int:
        return self.model.pad

    @property
    def start(self) -> int:
        return self.model.start

    def write(self, given: Ragged, most: int) -> Ragged:
        generator = Generator(self.model, Decoding(max_new_tokens=most), batch=BATCH)
        written: list[list[int]] = [[] for _ in range(len(given))]
        for completion in generator.write([given.row(row).tolist() for row in range(len(given))]):
            written[completion.prompt] = completion.ids
        return Ragged.from_rows(written, np.uint32, ())

    def copied(self) -> TrainableWriter:
        return replace(self, model=replace(self.model, network=copy.deepcopy(self.model.network)))

    def from_random_weights(self) -> TrainableWriter:
        return replace(self, model=self.model.from_random_weights())

    def save(self, folder: Path) -> None:
        copy_others(self.folder, folder)
        self.model.network.save_pretrained(folder)


@dataclass(frozen=True)
class TextEncoder:
    """Hidden states of a network of `transformers`, [R, L, D]; of an encoder–decoder, its encoder's.

    Rows hold one sequence of token ids each.
    """

    model: Any
    pad: int
    device: torch.device
    layer: int | None = None
    """Whose outputs they are: 0 is the embeddings, 1 the first layer; None: what the network gives in the end."""
    takes: ClassVar[None] = None

    @property
    def longest(self) -> int | None:
        return longest(self.model.config)

    def at_layer(self, layer: int) -> TextEncoder:
        """The encoder that gives the outputs of another layer. UserError where there is none of that number."""
        most = self.model.config.num_hidden_layers
        if not 0 <= layer <= most:
            raise UserError(f"layer {layer}: the network has 0, its embeddings, to {most}; name one of these.")
        return replace(self, layer=layer)

    def layers(self, rows: Rows) -> list[Tensor]:
        """Layers 0, the embeddings, to the last one of a batch, each [B, L, D]; of two stacks, those of the encoder."""
        stack = self.model.get_encoder() if self.model.config.is_encoder_decoder else self.model
        batch = padded_tokens(rows, self.pad, most=self.longest)
        names = _inputs(stack)
        tensors = {name: torch.from_numpy(batch[name]).to(self.device) for name in names}
        return list(stack(**tensors, output_hidden_states=True).hidden_states)

    def from_random_weights(self) -> TextEncoder:
        """The same shape, drawn by torch's generator."""
        from transformers import AutoModel

        model = with_block_sparse(AutoModel.from_config(self.model.config)).eval()
        return replace(self, model=model.to(self.device).requires_grad_(False))

    def encode(self, rows: Rows) -> Features:
        if "sequence" in rows:
            raise ValueError("rows of several sequences have no features of their own; encode the sequences")
        lengths = seen_tokens(rows).lengths
        order = np.argsort(lengths, kind="stable")  # rows of like lengths together: less padding
        inputs = _inputs(self.model)
        values = np.zeros((num_rows(rows), int(lengths.max()), self.model.config.hidden_size), np.float32)

        def states(index: np.ndarray) -> Tensor:
            if self.layer is not None:
                return self.layers(take(rows, index))[self.layer]
            batch = padded_tokens(take(rows, index), self.pad, most=longest(self.model.config))
            return self.model(
                **{name: torch.from_numpy(batch[name]).to(self.device) for name in inputs}
            ).last_hidden_state

        starts = range(0, len(order), BATCH)
        for start, states_of_batch in zip(starts, in_batches(order, states), strict=True):
            width = min(states_of_batch.shape[1], values.shape[1])
            values[order[start : start + BATCH], :width] = states_of_batch[:, :width]
        mask = np.arange(values.shape[1]) < lengths[:, None]
        return Features(values * mask[..., None], mask)


def _inputs(stack: Any) -> list[str]:
    """What an encoder is given of `padded_tokens`: no types where GPT-2 would take them for words, and add those."""
    types = () if architecture_of(stack.config.model_type).causal else ("token_type_ids",)
    return ["input_ids", *accepted(stack, "attention_mask", *types)]
