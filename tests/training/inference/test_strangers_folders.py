"""Folders from strangers: whatever they hold, one sentence and no memory; a kind of folder and a kind of harm each."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_prep.errors import UserError
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training import tiny_arrays
from tests.training.inference.test_opening import WORDS, exported
from training.inference.codec import Codec
from training.inference.encoding import open_encoder
from training.inference.opening import open_network
from training.inference.sampling import open_sampler
from training.models.autoencoders.code_prior import CodePrior, PriorConfig, save_prior
from training.models.frame_network import FrameNetwork, save_network

SECONDS, KILOBYTES = 20, 1 << 20  # most time and memory for an answer; machines may be slow
DEEP = b"[" * 200_000 + b"]" * 200_000
CONFIG, WEIGHTS = "config.json", "model.safetensors"
Harm = Callable[[Path], object]


def _text(out: Path) -> None:
    train(TokenizerConfig(kind="character", vocabulary=64), WORDS, out / "tokenizer")
    exported("bert", out / "tokenizer", out)
    shutil.rmtree(out / "tokenizer")


def _frames(out: Path) -> None:
    from transformers import AutoConfig

    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    save_network(out, FrameNetwork(AutoConfig.for_model("bert", vocab_size=2, **settings), 5))


def _sampler(out: Path) -> None:
    tiny_arrays.training("vq").export(out)
    save_prior(out, CodePrior(PriorConfig(size=32, places=3, hidden=4)))


FOLDERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "text": (_text, open_encoder),
    "frames": (_frames, open_encoder),
    "sampler": (_sampler, open_sampler),
    "codec": (lambda out: tiny_arrays.training("compression").export(out), Codec.open),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A good folder of a kind."""

    @cache
    def of(kind: str) -> Path:
        make, opener = FOLDERS[kind]
        folder = tmp_path_factory.mktemp(kind)
        make(folder)
        opener(folder)
        return folder

    return of


def wrote(name: str, data: bytes) -> Harm:
    return lambda folder: [(folder / name).unlink(), (folder / name).write_bytes(data)]


def cut(name: str) -> Harm:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-7])


def header(change: Callable[[dict[str, Any]], Any], keep: bool = True) -> Harm:
    """The header of the weights, changed; with their bytes, or without."""

    def do(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        value = json.loads(data[8 : 8 + size])
        change(value)
        text = json.dumps(value).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + (data[8 + size :] if keep else b""))

    return do


def _first(value: dict[str, Any]) -> dict[str, Any]:
    return next(entry for name, entry in value.items() if name != "__metadata__")


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Harm:
    def do(folder: Path) -> None:
        values = load_file(folder / WEIGHTS)
        values = {name: value.clone() for name, value in values.items()}
        change(values)
        save_file(values, folder / WEIGHTS, {"format": "pt"})

    return do


def _reshape(values: dict[str, torch.Tensor], change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    name = max(values, key=lambda name: values[name].numel())
    values[name] = change(values[name]).contiguous()


def config(value: Any, *at: str) -> Harm:
    """A number anywhere in the settings that makes something of that size, set to `value`."""

    def do(folder: Path) -> None:
        settings = json.loads((folder / CONFIG).read_bytes())
        places = {"vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "bottleneck", "bands"}
        changed = 0
        for part in (settings, settings.get("network", {})):
            for name in places & set(part):
                part[name] = value
                changed += 1
        assert changed
        (folder / CONFIG).write_text(json.dumps(settings))

    return do


def linked(target: str) -> Harm:
    return lambda folder: [(folder / WEIGHTS).unlink(), (folder / WEIGHTS).symlink_to(target)]


def piped(name: str) -> Harm:
    return lambda folder: [(folder / name).unlink(), os.mkfifo(folder / name)]


def twice(folder: Path) -> None:
    text = (folder / CONFIG).read_text().rstrip().removesuffix("}")
    first = next(iter(json.loads((folder / CONFIG).read_bytes())))
    (folder / CONFIG).write_text(text + f', "{first}": 1}}')


HARMS: dict[str, Harm] = {
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "pickle for weights": lambda folder: torch.save((folder / WEIGHTS).unlink(), folder / "pytorch_model.bin"),
    "empty config": wrote(CONFIG, b""),
    "deep config": wrote(CONFIG, DEEP),
    "deep object": wrote(CONFIG, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "config of no object": wrote(CONFIG, b"[1]"),
    "config not UTF-8": wrote(CONFIG, b'{"a": "\xff"}'),
    "a key twice": twice,
    "empty weights": wrote(WEIGHTS, b""),
    "weights cut short": cut(WEIGHTS),
    "header longer than the file": wrote(WEIGHTS, struct.pack("<Q", 1 << 62)),
    "header that is no JSON": wrote(WEIGHTS, struct.pack("<Q", 8) + b"no JSON!"),
    "deep header": wrote(WEIGHTS, struct.pack("<Q", len(DEEP)) + DEEP),
    "64 GiB claimed": header(lambda value: _first(value).update(shape=[1 << 34])),
    "negative size": header(lambda value: _first(value).update(shape=[-1])),
    "size that overflows": header(lambda value: _first(value).update(shape=[1 << 40, 1 << 40])),
    "offsets beyond the file": header(lambda value: _first(value).update(data_offsets=[0, 1 << 40])),
    "offsets that overlap": header(lambda value: [entry.update(data_offsets=[0, 4]) for entry in value.values()]),
    "unknown type": header(lambda value: _first(value).update(dtype="Q7")),
    "values left out": header(lambda value: None, keep=False),
    "a weight too few": weights(lambda values: values.pop(max(values, key=lambda name: values[name].numel()))),
    "another shape": weights(lambda values: _reshape(values, lambda value: value.flatten()[:-1])),
    "transposed": weights(lambda values: _reshape(values, lambda value: value.flatten()[None])),
    "whole numbers": weights(lambda values: _reshape(values, lambda value: value.to(torch.int32))),
    "a network of 1e12": config(10**12),
    "a network of 1e5": config(10**5),
    "a network of 2e9": config(2 * 10**9),
    "negative settings": config(-5),
    "no number": config(float("nan")),
    "infinite": config(float("inf")),
    "settings of another type": config([1, 2]),
    "settings that are text": config("large"),
    "settings that are null": config(None),
    "link to a device": linked("/dev/zero"),
    "link out of the folder": linked("/etc/hostname"),
    "link to itself": linked(WEIGHTS),
    "link to nothing": linked("nothing"),
    "a pipe for weights": piped(WEIGHTS),
    "a pipe for the config": piped(CONFIG),
    "a folder for weights": lambda folder: [(folder / WEIGHTS).unlink(), (folder / WEIGHTS).mkdir()],
    "an unknown pipe": lambda folder: os.mkfifo(folder / "readme"),
}


def refusal(open_it: Callable[[], Any]) -> str:
    """The sentence that comes of it, soon and without memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        open_it()
    assert time.monotonic() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KILOBYTES
    sentence = str(caught.value)
    assert "\n" not in sentence and "Traceback" not in sentence and len(sentence) < 1200
    return sentence


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("harm", HARMS)
def test_a_folder_is_refused(harm: str, kind: str, good: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(good(kind), folder)
    HARMS[harm](folder)
    assert str(folder) in refusal(lambda: FOLDERS[kind][1](folder))


@pytest.mark.parametrize("opener", [open_encoder, open_sampler, open_network, Codec.open])
@pytest.mark.parametrize("name", ["bert-base-uncased", "someone/model", "../../etc", "/nowhere"])
def test_a_name_is_looked_up_nowhere(name: str, opener: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no such folder" in refusal(lambda: opener(Path(name)))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("prior.json", {"size": 10**12}),
        ("prior.json", {"places": 10**9}),
        ("prior.json", {"hidden": -1}),
        ("prior.json", {"across": 10**12}),
        ("prior.json", {"size": "32"}),
        ("config.json", {"shape": [3, 1 << 20, 1 << 20]}),
        ("config.json", {"shape": [0]}),
        ("config.json", {"shape": 12}),
        ("config.json", {"options": {"codes": "vq", "size": 1 << 40, "dimension": 4}}),
        ("config.json", {"options": {"codes": "vq", "size": 16, "dimension": 4}}),
        ("config.json", {"options": []}),
    ],
)
def test_a_sampler_is_as_its_weights_are(
    file: str, change: dict[str, Any], good: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(good("sampler"), tmp_path, dirs_exist_ok=True)
    path = tmp_path / file
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    assert file in refusal(lambda: open_sampler(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(format="2"),
        lambda value: value.update(channels=[]),
        lambda value: value.update(channels={"a": 1}),
        lambda value: value["channels"][0].update(lowest=10**12),
        lambda value: value["channels"][0].update(lowest=-(10**30)),
        lambda value: value["channels"][0].update(counts=[[65535, 1.0]]),
        lambda value: value["channels"][0].update(counts=[[2 * 65536, -65536]]),
        lambda value: value["channels"][0].update(counts=[]),
        lambda value: value["channels"][0].update(contexts=None),
        lambda value: value["channels"][0]["contexts"].update(own=[10**9]),
    ],
)
def test_tables_of_a_codec(change: Callable[[Any], Any], good: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(good("codec"), tmp_path, dirs_exist_ok=True)
    value = json.loads((tmp_path / "codec.json").read_bytes())
    change(value)
    (tmp_path / "codec.json").write_text(json.dumps(value))
    assert "codec.json" in refusal(lambda: Codec.open(tmp_path))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tokenizer.json", b""),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", DEEP),
        ("tokenizer.json", b'{"version": "1.0", "model": {"type": "WordPiece", "vocab": {"a": -1}}}'),
        ("tokenizer.json", b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["b", "c"]]}}'),
        ("tokenizer_config.json", DEEP),
        ("tokenizer_config.json", b"[]"),
        ("tokenizer_config.json", b'{"pad_token": {"content": [1]}}'),
    ],
)
def test_tokenizers(name: str, data: bytes, good: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(good("text"), tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(data)
    if b"pad_token" in data:  # no token of that name: the usual one
        assert specials(tmp_path).pad is not None
    else:
        assert name in refusal(lambda: specials(tmp_path))


def test_code_beside_a_model_is_not_run(good: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(good("text"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    value = json.loads((tmp_path / CONFIG).read_bytes())
    remote = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoTokenizer"), "evil.Evil")
    (tmp_path / CONFIG).write_text(json.dumps({**value, "auto_map": remote}))
    open_encoder(tmp_path)  # as the library's own class
    (tmp_path / CONFIG).write_text(json.dumps({**value, "model_type": "evil", "auto_map": remote}))
    refusal(lambda: open_encoder(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"architectures": []},
        {"architectures": ["os"]},
        {"architectures": ["AutoTokenizer"]},
        {"architectures": "BertForMaskedLM"},
        {"architectures": ["GPT2LMHeadModel"]},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        {"_attn_implementation": "someone/kernel"},
        {"dtype": "int8"},
        {"model_type": ["bert"]},
        {"num_attention_heads": 0},
        {"num_hidden_layers": 0},
        {"num_labels": 10**9},
        {"max_position_embeddings": 1},
        {"hidden_act": "evil"},
        {"id2label": {"a": "b"}},
        {"pad_token_id": 10**6},
    ],
)
def test_settings_of_transformers(settings: dict[str, Any], good: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(good("text"), tmp_path, dirs_exist_ok=True)
    value = json.loads((tmp_path / CONFIG).read_bytes())
    (tmp_path / CONFIG).write_text(json.dumps({**value, **settings}))
    assert str(tmp_path) in refusal(lambda: open_network(tmp_path))
