"""Auto-encoders of any shape; kept and opened again to the bit; a linear one spans the principal subspace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.linalg import subspace_angles

from data_prep.errors import UserError
from tests.training import tiny_arrays as tiny
from training.config import NetworkConfig
from training.inference.networks.arrays import open_model
from training.models.autoencoders.autoencoder import Autoencoder, Encoder, save_model, sides
from training.models.autoencoders.config import AutoencoderConfig
from training.models.autoencoders.rbm import dense_layers
from training.models.autoencoders.vae import VariationalAutoencoder
from training.models.autoencoders.vq import DiscreteAutoencoder
from training.objectives.arrays.autoencoder import AutoencoderOptions
from training.objectives.arrays.discrete import DiscreteOptions
from training.objectives.arrays.vae import VaeOptions

PICTURES = [(1, 8, 8), (1, 28, 28), (3, 62, 47), (1, 1, 1), (3, 5, 16), (4, 33, 2)]
KINDS = [
    (Autoencoder, AutoencoderOptions()),
    (VariationalAutoencoder, VaeOptions()),
    (DiscreteAutoencoder, DiscreteOptions(codes="binary")),
    (DiscreteAutoencoder, DiscreteOptions(codes="one-hot", size=5)),
    (DiscreteAutoencoder, DiscreteOptions(codes="vq", size=16, dimension=4)),
]


def config(architecture: str, **values: object) -> AutoencoderConfig:
    usual = {"hidden": [6, 5] if architecture == "conv" else [9], "bottleneck": 3}
    return AutoencoderConfig.model_validate({"architecture": architecture, **usual, **values})


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("latent", ["vector", "grid"])
@pytest.mark.parametrize("shape", PICTURES)
def test_images_of_any_shape_come_back_in_it(shape, latent, kind, options) -> None:
    model = kind(config("conv", latent=latent), shape, options).eval()
    x = torch.rand(2, *shape)
    places = sides(shape, 2)[-1] if latent == "grid" else ()
    code = model.encode(x)
    assert code.shape == (2, model.widths()[1], *places)
    assert model(x).shape == model.decode(code).shape == x.shape
    assert model.forward_flops() > 0


def test_an_encoder_alone_opens_alike(tmp_path) -> None:
    model = Encoder(config("conv"), (1, 8, 8)).eval()
    save_model(tmp_path, model)
    again, x = open_model(tmp_path), torch.rand(3, 1, 8, 8)
    assert torch.equal(again(x), model.encode(x)) and again(x).shape == (3, 3)
    assert again.decoder is None and again.forward_flops() > 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.lists(st.integers(1, 6), max_size=3), st.integers(1, 4))
def test_dense_layers_take_any_shape(shape, hidden, bottleneck) -> None:
    model = Autoencoder(config("mlp", hidden=hidden, bottleneck=bottleneck), tuple(shape), AutoencoderOptions())
    x = torch.rand(3, *shape)
    assert model.encode(x).shape == (3, bottleneck)
    assert model(x).shape == x.shape


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 62, 47)])
def test_every_pixel_that_is_seen_counts_and_every_pixel_is_rebuilt(shape) -> None:
    torch.manual_seed(0)
    model = Autoencoder(config("conv", activation="tanh"), shape, AutoencoderOptions())
    x = torch.rand(1, *shape, requires_grad=True)
    code = model.encode(x)
    (seen,) = torch.autograd.grad(code.sum(), x, retain_graph=True)
    assert (seen != 0).all()
    rebuilt = model.decode(code)
    assert rebuilt.flatten().unique().numel() > 0.9 * rebuilt.numel()
    assert not torch.equal(model.decode(code + 1), rebuilt)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_model_is_opened_as_it_was_kept(kind, options, tmp_path: Path) -> None:
    transform = tmp_path / "fitted.json"
    transform.write_text('{"columns": []}')
    model = kind(config("conv", latent="grid"), (1, 9, 7), options).eval()
    save_model(tmp_path / "model", model, transform)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors", "transform.json"}
    assert (tmp_path / "model" / "transform.json").read_text() == transform.read_text()
    before = torch.get_rng_state()
    again = open_model(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)
    assert type(again) is kind and not again.training and again.options == options
    assert not any(p.requires_grad for p in again.parameters())
    x = torch.rand(3, 1, 9, 7)
    assert torch.equal(again.encode(x), model.encode(x))
    assert torch.equal(again(x), model(x))


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = Autoencoder(config("conv"), (1, 9, 7), AutoencoderOptions())
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model of an auto-encoder"):
        open_model(tmp_path)
    model = tmp_path / "model"
    save_model(model, Autoencoder(config("mlp"), (4,), AutoencoderOptions()))

    def damaged(name: str, content: bytes) -> Path:
        folder = tmp_path / f"damaged-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(model, folder)
        (folder / name).write_bytes(content)
        return folder

    with pytest.raises(UserError, match="not what describes an auto-encoder"):
        open_model(damaged("config.json", b'{"model_type": "bert"}'))
    with pytest.raises(UserError, match=r"config\.json: network\.bottleneck: found 0"):
        description = json.loads((model / "config.json").read_text())
        description["network"]["bottleneck"] = 0
        open_model(damaged("config.json", json.dumps(description).encode()))
    with pytest.raises(UserError, match=r"not the weights"):
        open_model(damaged("model.safetensors", (model / "model.safetensors").read_bytes()[:100]))
    other = load_file(model / "model.safetensors")
    del other["encoder.0.weight"]
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"not the weights"):
        open_model(damaged("model.safetensors", (tmp_path / "other.safetensors").read_bytes()))


def test_tied_layers_share_one_matrix() -> None:
    model = Autoencoder(config("mlp", tied=True), (7,), AutoencoderOptions())
    assert set(model.state_dict()) == {
        "encoder.0.weight", "encoder.0.bias", "encoder.2.weight", "encoder.2.bias",
        "decoder.net.0.bias", "decoder.net.2.bias",
    }  # fmt: skip
    x = torch.rand(5, 7)
    first, second = dense_layers(model.encoder)
    back = torch.relu(second(torch.relu(first(x))) @ second.weight)  # the decoder's biases begin at 0
    torch.testing.assert_close(model(x), back @ first.weight)


@pytest.mark.parametrize("tied", [False, True])
def test_a_linear_autoencoder_spans_the_principal_subspace(tied: bool) -> None:
    """Baldi & Hornik 1989: its optimum projects onto the first principal components."""
    random = np.random.default_rng(3)
    spread = np.array([2.0, 1.5, 1.2, 0.5, 0.3, 0.2, 0.1, 0.1])
    turned, _ = np.linalg.qr(random.normal(size=(8, 8)))
    rows = (random.normal(size=(600, 8)) * spread @ turned).astype(np.float32)
    rows -= rows.mean(0)
    network = NetworkConfig(architecture="mlp", config={"bottleneck": 3, "tied": tied})
    training = tiny.training(
        "autoencoder", network=network, rows=rows, global_batch=600, steps=1000, lr=2e-2, clip=0.0, log_every=1000
    )
    training.run()
    model = training.objective.model  # type: ignore[attr-defined]
    with torch.no_grad():
        rebuilt = model(torch.from_numpy(rows)).numpy()
        jacobian = torch.autograd.functional.jacobian(model, torch.zeros(1, 8))[0, :, 0].numpy()  # type: ignore[index]
    _, _, components = np.linalg.svd(rows, full_matrices=False)
    principal = components[:3].T
    angles = np.degrees(subspace_angles(np.linalg.svd(jacobian)[0][:, :3], principal))
    assert angles.max() < 2
    error = np.square(rows - rebuilt).sum()
    assert error == pytest.approx(np.square(rows - rows @ principal @ principal.T).sum(), rel=5e-3)
