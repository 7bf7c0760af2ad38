"""Networks of `transformers` that write: each token from those before it, and from a text where there is an encoder.

A folder's model type says which of the two it is (`training.models.text.architectures`), or for types without a line
there the class that its config.json names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.opening.pretrained import using_tokenizer
from data_prep.shards.rows import Specials
from data_prep.tokens import pretrained
from data_prep.tokens.roles import ends_of, specials_of
from training.distributed import seed_torch
from training.models.cpu_kernels import gelu_in_one_pass
from training.models.text.architectures import Architecture, architecture_in, longest
from training.models.text.causal_lm import causal_lm
from training.models.text.folder import open_config, open_pretrained
from training.models.text.sequence_to_sequence import sequence_to_sequence


@dataclass(frozen=True)
class LanguageModel:
    """A network with its head on the vocabulary, in evaluation mode, and its tokenizer.

    length: the most tokens that it has positions for, what it is given and what it writes together (of two stacks, each
    of them); None: there is no most. bos: what texts begin with, None where the network is given texts as they are.
    eos: what ends a text, None if nothing does.
    """

    network: Any
    tokenizer: Tokenizer
    specials: Specials
    architecture: Architecture
    length: int | None
    bos: int | None
    eos: int | None
    device: torch.device

    @property
    def pad(self) -> int:
        """What fills rows; no token attends to it."""
        pad = self.specials.get("pad")
        return pad if pad is not None else (self.eos or 0)

    @property
    def start(self) -> int:
        """The token that a decoder beside an encoder begins with."""
        settings = self.network.generation_config.decoder_start_token_id
        return int(self.network.config.decoder_start_token_id if settings is None else settings)

    def from_random_weights(self) -> LanguageModel:
        """The same shape, drawn by torch's generator."""
        return replace(self, network=_of_shape(self.network.config, self.architecture).to(self.device))

    def plain_ids(self, text: str) -> list[int]:
        """The ids of a text without special tokens around it; "[MASK]" in it is ordinary text."""
        self.tokenizer.encode_special_tokens = True
        with using_tokenizer():
            return self.tokenizer.encode(text, add_special_tokens=False).ids

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids of a prompt, encoded as texts were in training. Special tokens that are spelt in it count as such.

        A decoder's begin with `bos`; what an encoder reads is framed as its tokenizer frames texts.
        """
        self.tokenizer.encode_special_tokens = False
        with using_tokenizer():
            ids = self.tokenizer.encode(prompt, add_special_tokens=self.architecture.encoder_decoder).ids
        if self.architecture.encoder_decoder or self.bos is None or ids[:1] == [self.bos]:
            return ids
        return [self.bos, *ids]

    def text_after(self, given: list[int], written: list[int]) -> str:
        """The text that `written` adds to that of `given`, special tokens left out.

        Sentinels stay: they say which of the gaps in `given` the text after them fills.
        """
        if self.architecture.encoder_decoder:
            return self._text(written)
        before, whole = self._text(given), self._text([*given, *written])
        return whole[len(before) :] if whole.startswith(before) else self._text(written)

    def _text(self, ids: list[int]) -> str:
        if not self.specials.sentinels:
            return self.tokenizer.decode(ids)
        left_out = self.specials.all - set(self.specials.sentinels)
        return self.tokenizer.decode([each for each in ids if each not in left_out], skip_special_tokens=False)


def open_language_model(
    folder: Path, device: str = "cpu", random: int | None = None, trained: bool = False
) -> LanguageModel:
    """The language model of a folder, in fp32 on CPU cores and as stored elsewhere.

    random: instead, a network of its shape with weights of that seed. trained: whether its weights are to be trained.

    UserError where the folder holds no network that writes.
    """
    where = _device(device)
    config = open_config(folder)
    line = architecture_in(config.to_dict())
    if not (line.causal or line.encoder_decoder):
        raise UserError(
            f"{folder}: {config.model_type!r} fills gaps and does not write; name a decoder, or an encoder with one."
        )
    dtype = torch.float32 if where.type == "cpu" else "auto"
    options = {"dtype": dtype, "config": config}
    config._attn_implementation = "sdpa" if line.fused_attention else "eager"
    network = open_pretrained(folder, line.auto_class, **options) if random is None else _random(config, line, random)
    gelu_in_one_pass(network)
    tokenizer, settings = pretrained.read(folder)
    special = specials_of(tokenizer, settings)
    bos, eos = ends_of(special)
    return LanguageModel(
        network.to(where).requires_grad_(trained), tokenizer, special, line, longest(network.config), bos, eos,
        where,
    )  # fmt: skip


def _random(config: Any, line: Architecture, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed)
        return _of_shape(config, line).eval()


def _of_shape(config: Any, line: Architecture) -> Any:
    return (causal_lm if line.causal else sequence_to_sequence)(config)


def _device(name: str) -> torch.device:
    """The device of a name. UserError if there is none."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device: {name!r} cannot be used here ({str(error).splitlines()[0]}); try cpu.") from None
    return device
