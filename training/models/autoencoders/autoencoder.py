"""Auto-encoders of vectors [D] and images [C, H, W]: their settings, their two halves, and their files.

    x [B, *shape] ──► encoder ──► code [B, bottleneck] or [B, bottleneck, h, w] ──► decoder ──► x̂ [B, *shape]

    mlp    dense layers; images are flattened
    conv   3×3 convolutions of stride 2, a stage per entry of `hidden`: any side n becomes ⌈n/2⌉; the decoder's
           transposed ones (4×4, stride 2) double it again and are cut to the side the encoder saw

An `Encoder` is only the first half. A folder that `save_model` wrote holds `config.json` (what to build),
`model.safetensors` (weights) and, for tables, `transform.json` (how raw rows become input); nothing in it is code.
`training.inference.networks.arrays` reads it back.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from data_prep.errors import UserError
from data_prep.settings import Settings
from training.models.autoencoders.config import AutoencoderConfig, Shape

CONFIG, WEIGHTS, TRANSFORM = "config.json", "model.safetensors", "transform.json"
FORMAT = 1
KINDS = {  # of models, each named as the objective whose options it has; an encoder has none
    "autoencoder": "training.models.autoencoders.autoencoder:Autoencoder",
    "vae": "training.models.autoencoders.vae:VariationalAutoencoder",
    "discrete": "training.models.autoencoders.vq:DiscreteAutoencoder",
    "compression": "training.models.autoencoders.compression:CompressiveAutoencoder",
    "encoder": "training.models.autoencoders.autoencoder:Encoder",
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Autoencoder(nn.Module):
    """The plain auto-encoder, and the base of the others.

    `encoder` and `decoder` are plain modules. Weights are initialised by torch's generator: seed it before.
    """

    kind = "autoencoder"

    def __init__(self, config: AutoencoderConfig, shape: Shape, options: Any) -> None:
        super().__init__()
        self.config, self.shape, self.options = config, tuple(shape), options
        self.encoder, self.decoder = self.halves()

    def halves(self) -> tuple[nn.Module, Any]:
        """The encoder, and the decoder (a `Decoder`, if `losses` is to be this class's)."""
        outputs, inputs = self.widths()
        encoder = _encoder(self.config, self.shape, outputs)
        return encoder, Decoder(self.config, self.shape, inputs, encoder)

    def widths(self) -> tuple[int, int]:
        """Channels of the encoder's output and of the decoder's input, per place."""
        return self.config.bottleneck, self.config.bottleneck

    def encode(self, x: Tensor) -> Tensor:
        """The code [B, bottleneck] (a grid: [B, bottleneck, h, w]) of examples x [B, *shape]."""
        return self.encoder(x)

    def decode(self, code: Tensor) -> Tensor:
        """Examples [B, *shape] from what `encode` gave."""
        return self.decoder(code)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of x, [B, *shape]; in evaluation, each depends only on its row."""
        return self.decode(self.encode(x))

    def losses(self, seen: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms and metrics of each row, [B] each, for rebuilding `target` from `seen`, both [B, *shape]."""
        return self.rebuilt(self.decoder.logits(self.encode(seen)), target)

    def rebuilt(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The reconstruction errors of each row, [B] each, summed over its values."""
        logits, target = logits.float().flatten(1), target.flatten(1)
        output = self.decoder.activated(logits)
        errors = {"squared-error": (output - target).square().sum(1)}
        if self.options.loss == "cross-entropy":
            losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            errors["cross-entropy"] = losses.sum(1)
        return errors

    @property
    def values(self) -> int:
        """Values of an example."""
        return math.prod(self.shape)

    @property
    def places(self) -> tuple[int, ...]:
        """Where an example has codes: (h, w) in a grid, else ()."""
        return sides(self.shape, len(self.config.hidden))[-1] if self.config.latent == "grid" else ()

    @torch.no_grad()
    def forward_flops(self) -> float:
        """Floating-point operations of a forward pass of one example."""
        training = self.training
        self.eval()
        with FlopCounterMode(display=False) as counter:
            self(torch.zeros(1, *self.shape, device=next(self.parameters()).device))
        self.train(training)
        return float(counter.get_total_flops())


class Encoder(Autoencoder):
    """Only the first half, for learning features without a decoder; calling it gives the code."""

    kind = "encoder"

    def __init__(self, config: AutoencoderConfig, shape: Shape, options: Settings | None = None) -> None:
        super().__init__(config, shape, options or Settings())

    def halves(self) -> tuple[nn.Module, None]:
        return _encoder(self.config, self.shape, self.config.bottleneck), None

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(x)


class AutoencoderPlayer(nn.Module):
    """A model as a player of the training loop: a call gives the terms and metrics of each row."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, seen: Tensor, target: Tensor) -> dict[str, Tensor]:
        return self.model.losses(seen, target)


class Decoder(nn.Module):
    """The second half; calling it gives examples, `logits` the values before its output function."""

    def __init__(self, config: AutoencoderConfig, shape: Shape, inputs: int, encoder: nn.Module) -> None:
        super().__init__()
        self.sigmoid = config.output == "sigmoid"
        if config.architecture == "conv":
            self.net = _conv_decoder(config, shape, inputs)
        else:
            self.net = _mlp_decoder(config, shape, inputs, encoder)

    def forward(self, code: Tensor) -> Tensor:
        return self.activated(self.net(code))

    def logits(self, code: Tensor) -> Tensor:
        return self.net(code)

    def activated(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits) if self.sigmoid else logits


class TiedLinear(nn.Module):
    """A dense layer whose matrix is another's, transposed; only its bias is its own."""

    def __init__(self, other: nn.Linear) -> None:
        super().__init__()
        self.other = [other]  # in a list: the matrix is the other's in state and optimizer
        self.bias = nn.Parameter(torch.zeros(other.in_features))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.other[0].weight.t(), self.bias)


class Crop(nn.Module):
    """The upper left part of an image."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : self.height, : self.width]


def sides(shape: Shape, stages: int) -> list[tuple[int, int]]:
    """Height and width of an image [C, H, W] before the first stage and after each."""
    sizes = [(shape[1], shape[2])]
    for _ in range(stages):
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def _encoder(config: AutoencoderConfig, shape: Shape, outputs: int) -> nn.Sequential:
    activation = ACTIVATIONS[config.activation]
    layers: list[nn.Module] = []
    if config.architecture == "mlp":
        if len(shape) > 1:
            layers.append(nn.Flatten())
        before = math.prod(shape)
        for size in config.hidden:
            layers += [nn.Linear(before, size), activation()]
            before = size
        return nn.Sequential(*layers, nn.Linear(before, outputs))
    before = shape[0]
    for channels in config.hidden:
        layers += [nn.Conv2d(before, channels, 3, stride=2, padding=1), activation()]
        before = channels
    if config.latent == "grid":
        return nn.Sequential(*layers, nn.Conv2d(before, outputs, 1))
    height, width = sides(shape, len(config.hidden))[-1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * height * width, outputs))


def _mlp_decoder(config: AutoencoderConfig, shape: Shape, inputs: int, encoder: nn.Module) -> nn.Sequential:
    activation = ACTIVATIONS[config.activation]
    linears = [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)]
    if config.tied and linears[-1].out_features != inputs:
        raise UserError("network.config.tied: only plain auto-encoders can be tied; set it to false.")
    layers: list[nn.Module] = []
    before = inputs
    for layer in reversed(linears):
        layers += [TiedLinear(layer) if config.tied else nn.Linear(before, layer.in_features), activation()]
        before = layer.in_features
    layers.pop()
    if len(shape) > 1:
        layers.append(nn.Unflatten(1, shape))
    return nn.Sequential(*layers)


def _conv_decoder(config: AutoencoderConfig, shape: Shape, inputs: int) -> nn.Sequential:
    activation = ACTIVATIONS[config.activation]
    *before, (height, width) = sides(shape, len(config.hidden))
    deepest = config.hidden[-1]
    layers: list[nn.Module]
    if config.latent == "grid":
        layers = [nn.Conv2d(inputs, deepest, 1), activation()]
    else:
        layers = [nn.Linear(inputs, deepest * height * width), activation(), nn.Unflatten(1, (deepest, height, width))]
    channels = [shape[0], *config.hidden]
    for stage in reversed(range(len(config.hidden))):
        layers.append(nn.ConvTranspose2d(channels[stage + 1], channels[stage], 4, stride=2, padding=1))
        layers += [Crop(*before[stage]), activation()]
    layers.pop()
    return nn.Sequential(*layers)


def save_model(folder: Path, model: Autoencoder, transform: Path | None = None) -> None:
    """Write what `training.inference.networks.arrays.open_model` reads; `transform` is copied with it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": FORMAT,
        "kind": model.kind,
        "shape": list(model.shape),
        "network": model.config.model_dump(),
        "options": model.options.model_dump(),
    }
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    if transform is not None:
        shutil.copyfile(transform, folder / TRANSFORM)
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
