"""What was exported opens elsewhere, with its special tokens, and gives the same features and samples."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows, take
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from tests.training import tiny, tiny_arrays
from tests.training.objectives.test_packed import OWN, SHAPE
from training.config import NetworkConfig, ObjectiveConfig
from training.inference.encoding import Features, open_encoder
from training.inference.networks import NETWORKS
from training.inference.opening import check_export
from training.inference.sampling import open_sampler
from training.models.autoencoders.autoencoder import WEIGHTS
from training.models.text.folder import open_config, open_pretrained, open_tokenizer
from training.objectives import build

WORDS = ["the cat sat on a mat", "a dog ran to the house", "birds sing in the old tree"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train(TokenizerConfig(kind="character", vocabulary=64), WORDS, folder)
    return folder


def exported(architecture: str, tokenizer: Path, out: Path, sentence: str = "none") -> Any:
    facts = replace(tiny.FACTS, specials=specials(tokenizer), preprocessor=tokenizer)
    network = NetworkConfig(architecture=architecture, config=OWN.get(architecture, SHAPE))
    torch.manual_seed(0)
    objective: Any = build(
        ObjectiveConfig(name="masked-lm", options={"sentence": sentence}), {"model": network}, facts, "cpu"
    )
    objective.network.eval()
    objective.export(out, [])
    return objective


@pytest.mark.parametrize("architecture", ["bert", "albert", "distilbert", "electra", "mpnet", "roberta"])
def test_an_export_has_every_special_id_and_opens_alike(architecture: str, tokenizer: Path, tmp_path: Path) -> None:
    objective = exported(architecture, tokenizer, tmp_path)
    check_export(tmp_path, objective.exported())
    special_ids, config = specials(tokenizer), open_config(tmp_path)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (
        special_ids.pad,
        special_ids.cls,
        special_ids.sep,
    )
    assert (config.cls_token_id, config.sep_token_id, config.mask_token_id) == (
        special_ids.cls,
        special_ids.sep,
        special_ids.mask,
    )
    assert open_tokenizer(tmp_path).mask_token_id == special_ids.mask
    if (tmp_path / "generation_config.json").exists():
        generation = json.loads((tmp_path / "generation_config.json").read_text())
        assert generation["bos_token_id"] == special_ids.cls and generation["eos_token_id"] == special_ids.sep
    model = open_pretrained(tmp_path, "AutoModelForMaskedLM")
    assert type(model) is type(objective.network.model)
    ids = torch.tensor([[special_ids.cls, 7, 8, 9, special_ids.sep]])
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, objective.network.model(input_ids=ids).logits)


def text_rows(lengths: list[int]) -> Rows:
    return {"seen": Ragged.from_rows([[2, *range(5, 3 + length), 3] for length in lengths], np.uint16)}


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_features_of_text(architecture: str, tokenizer: Path, tmp_path: Path) -> None:
    objective = exported(architecture, tokenizer, tmp_path)
    rows = text_rows([9, 4, 17] * 30)
    encoder = open_encoder(tmp_path)
    features = encoder.encode(rows)
    assert features.values.shape == (90, 17, 32) and features.mask is not None
    assert features.mask.sum(1).tolist() == [9, 4, 17] * 30 and not features.values[~features.mask].any()
    alone = encoder.encode(take(rows, [1]))
    np.testing.assert_allclose(features.values[1, :4], alone.values[0], atol=1e-5)
    np.testing.assert_allclose(features.mean()[1], alone.values[0].mean(0), atol=1e-5)
    batch = objective.padded(take(rows, [1]))[0]
    inputs = ("input_ids", *objective.network.inputs)
    with torch.no_grad():
        wanted = objective.network.encoder(**{name: torch.from_numpy(batch[name]) for name in inputs})
    np.testing.assert_allclose(alone.values[0], wanted.last_hidden_state[0, :4].numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="several sequences"):
        encoder.encode({**rows, "sequence": rows["seen"]})


@pytest.mark.parametrize(("case", "shape"), [("vae", (3,)), ("conv", (4,)), ("vq-gradient", (6, 4))])
def test_features_of_arrays(case: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    training = tiny_arrays.training(case)
    training.export(tmp_path)
    rows = training.objective.example(70)
    features = open_encoder(tmp_path).encode(rows)
    assert features.values.shape == (70, *shape) and features.values.dtype == np.float32
    assert np.isfinite(features.mean()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: next(iter(weights.values())).add_(1), "opens with other values of"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "not the weights that config.json asks for"),
    ],
)
def test_an_export_of_another_network_is_not_kept(
    change: Callable[[dict[str, Tensor]], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = tiny_arrays.training("autoencoder")
    write = training.objective.export

    def spoiled(path: Path, batches: Any) -> None:
        write(path, batches)
        weights = load_file(path / WEIGHTS)
        change(weights)
        save_file(weights, path / WEIGHTS)

    monkeypatch.setattr(training.objective, "export", spoiled)
    with pytest.raises((RuntimeError, UserError), match=message):
        training.export(tmp_path)


def test_samples_of_a_vae(tmp_path: Path) -> None:
    training = tiny_arrays.training("vae")
    training.export(tmp_path)
    sampler = open_sampler(tmp_path)
    samples = [np.asarray(sampler.sample(300, torch.Generator().manual_seed(seed))["input"]) for seed in (1, 1, 2)]
    assert samples[0].shape == (300, tiny_arrays.WIDTH)
    assert np.array_equal(samples[0], samples[1]) and not np.array_equal(samples[0], samples[2])
    with torch.no_grad():
        model: Any = training.objective.model  # type: ignore[attr-defined]
        wanted = model.sample(300, torch.Generator().manual_seed(1))
    np.testing.assert_allclose(np.asarray(samples[0]), wanted.numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="takes no rows to continue from"):
        sampler.sample(1, torch.Generator(), given={})


def test_what_cannot_be_opened_is_said(tmp_path: Path, tokenizer: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json: holds no network"):
        open_encoder(tmp_path)
    tiny_arrays.training("autoencoder").export(tmp_path / "plain")
    with pytest.raises(UserError, match="kind autoencoder has no distribution of codes"):
        open_sampler(tmp_path / "plain")
    exported("bert", tokenizer, tmp_path / "text")
    with pytest.raises(UserError, match="networks of kind text give no samples; those of kind array do"):
        open_sampler(tmp_path / "text")
    weights = tmp_path / "text" / "model.safetensors"
    torch.save({}, weights.with_name("pytorch_model.bin"))  # whose pickles are never read
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is not there"):
        open_encoder(tmp_path / "text")


class Sum(torch.nn.Module):
    """A network of a kind of its own, for the test below."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))


class SumEncoder:
    def encode(self, rows: Rows) -> Features:
        return Features(np.asarray(rows["input"]).sum(1, keepdims=True))


def test_a_new_kind_of_network_is_a_module_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("sums")
    module.describes = lambda config: config.get("sum") is True
    module.open_network = lambda folder: Sum()
    module.open_encoder = lambda folder, device: SumEncoder()
    monkeypatch.setitem(sys.modules, "sums", module)
    monkeypatch.setitem(NETWORKS, "sum", "sums")
    (tmp_path / "config.json").write_text('{"sum": true}')
    assert open_encoder(tmp_path).encode({"input": np.ones((3, 4))}).values.tolist() == [[4], [4], [4]]
    check_export(tmp_path, Sum())
    with pytest.raises(UserError, match="networks of kind sum give no samples"):
        open_sampler(tmp_path)
    (tmp_path / "config.json").write_text('{"kind": ["array"]}')
    with pytest.raises(UserError, match="describes no network"):
        open_encoder(tmp_path)
