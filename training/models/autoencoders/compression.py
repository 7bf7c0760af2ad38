"""Compression of images to whole numbers that take few bits (Ballé et al. 2017, 2018: the factorised prior).

    x ──► pad ──► analysis ──► y [B, C, h, w] ──► round ──► ŷ ──► synthesis ──► cut ──► x̂
                                                   │
                                                   ▼
                            −Σ log₂ P_c(ŷ) bits, P_c a distribution of each channel's own

    loss = bits per pixel + λ · 255² · mean squared error          (x in 0 … 1, so that is the error of bytes)

Both halves are convolutions (5×5, stride 2, a stage per entry of `hidden`, then 1×1) with divisive normalisation in
between, so an image may have any size: its edges are repeated up to a multiple of 2^stages, and what was added is cut
off again. They begin near a linear transform and its inverse, Haar's wavelet packets of brightness and colours of which
the lowest frequencies are kept: from there it is not far to a good codec, from random weights it is. The step of
rounding begins as theory has it for fine steps Δ, which make an error of Δ²/12 a value: where the slope of the rate is
−λ, at Δ² = 6 · C / (λ · ln 2) for C channels.

Training adds noise, uniform in (−½, ½), where evaluation rounds: the noisy density at whole numbers is their
probability. `training.inference.codec` makes bytes of ŷ, and of fewer bits: what P_c is at busy places and at quiet
ones is counted after training (`training.codec.contexts`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.autoencoders.autoencoder import Autoencoder

if TYPE_CHECKING:
    from training.objectives.arrays.compression import CompressionOptions

LARGEST = (1 << 15) - 1  # of |ŷ|, so that any can be written in 16 bits
BYTE = 255
SPREAD = 0.25  # about the standard deviation of what photographs hold; both halves work in units of it
COMPONENTS = 3
RATE = 10.0  # at which the distributions learn relative to weights, as they have far to go; see `variational.RATE`
LARGEST_LOG_SCALE = 8.0  # either way


class CompressiveAutoencoder(Autoencoder):
    """See the module's docstring. `encode` gives ŷ."""

    kind = "compression"
    options: CompressionOptions

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.prior = LogisticMixtures(self.config.bottleneck)
        step = math.sqrt(6 * self.shape[0] / (self.options.distortion_weight * math.log(2)))
        self.gain = SPREAD * BYTE / step

    def halves(self) -> tuple[nn.Module, nn.Module]:
        channels = [self.shape[0], *self.config.hidden]
        down = [nn.Conv2d(before, after, 5, stride=2, padding=2) for before, after in pairwise(channels)]
        up = [
            nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1)
            for before, after in pairwise(reversed(channels))
        ]
        last = nn.Conv2d(channels[-1], self.config.bottleneck, 1)
        first = nn.Conv2d(self.config.bottleneck, channels[-1], 1)
        begin_with_wavelets([*down, last], [first, *up])
        analysis = [
            layer for stage in down for layer in (stage, DivisiveNormalisation(stage.out_channels, inverse=False))
        ]
        synthesis = [layer for stage in up for layer in (DivisiveNormalisation(stage.in_channels, inverse=True), stage)]
        return nn.Sequential(*analysis, last), nn.Sequential(first, *synthesis)

    @property
    def stride(self) -> int:
        """Pixels of a side for one place of the grid."""
        return 1 << len(self.config.hidden)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """h and w of the latents of an image."""
        return -(-height // self.stride), -(-width // self.stride)

    def latents(self, x: Tensor) -> Tensor:
        """y [B, bottleneck, h, w] float32 of images [B, C, H, W] of any size."""
        height, width = x.shape[2:]
        h, w = self.grid(height, width)
        padded = F.pad(x, (0, w * self.stride - width, 0, h * self.stride - height), mode="replicate")
        return self.gain * self.encoder((padded - 0.5) / SPREAD).float()

    def quantise(self, y: Tensor) -> Tensor:
        """ŷ: noisy in training, else whole numbers."""
        return y + self.noise(y) if self.training else y.round().clamp(-LARGEST, LARGEST)

    def noise(self, y: Tensor) -> Tensor:
        """Uniform in (−½, ½), of torch's generator."""
        return torch.rand_like(y) - 0.5

    def encode(self, x: Tensor) -> Tensor:
        return self.quantise(self.latents(x))

    def decode(self, code: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Images of ŷ, cut to `size` (height, width), or to that of the images it was trained on."""
        height, width = size or self.shape[1:]
        return (0.5 + SPREAD * self.decoder(code / self.gain))[:, :, :height, :width]

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x), (x.shape[2], x.shape[3]))

    def bits(self, code: Tensor) -> Tensor:
        """Bits of ŷ by the distributions, [B]."""
        with torch.autocast(code.device.type, enabled=False):
            return self.prior(code).flatten(1).sum(1)

    def losses(self, seen: Tensor, target: Tensor) -> dict[str, Tensor]:
        code = self.encode(seen)
        reconstruction = self.decode(code, (target.shape[2], target.shape[3])).float()
        error = (reconstruction - target).square().flatten(1).sum(1)
        paid = self.options.distortion_weight * BYTE**2 * error
        return {"rate": self.bits(code), "distortion": paid, "squared-error": error.detach()}

    @property
    def places(self) -> tuple[int, ...]:
        return self.grid(self.shape[1], self.shape[2])


class LogisticMixtures(nn.Module):
    """For each channel a mixture of logistic distributions, seen through bins of width 1.

    The probability of the bin around y is Σ_k w_k (σ(a) − σ(b)) with a, b = (y ± ½ − m_k) / s_k, and
    σ(a) − σ(b) = σ(a) · σ(−b) · (1 − exp(b − a)), which loses no digits however far y is out.
    """

    def __init__(self, channels: int, components: int = COMPONENTS) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(channels, components))
        self.means = nn.Parameter(torch.linspace(-1, 1, components).repeat(channels, 1) / RATE)
        self.log_scales = nn.Parameter(torch.zeros(channels, components))

    def forward(self, y: Tensor) -> Tensor:
        """−log₂ of the probability of the bin around each y; both [B, channels, …]."""
        shape = (len(self.weights), *[1] * (y.dim() - 2), self.weights.shape[1])
        scale = torch.exp((RATE * self.log_scales).clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)).view(shape)
        middle = (y[..., None] - (RATE * self.means).view(shape)) / scale
        half = 0.5 / scale
        bins = F.logsigmoid(middle + half) + F.logsigmoid(half - middle) + torch.log(-torch.expm1(-2 * half))
        weights = F.log_softmax(RATE * self.weights, 1).view(shape)
        return torch.logsumexp(weights + bins, -1) / -math.log(2)


class DivisiveNormalisation(nn.Module):
    """Divisive normalisation: y_c = x_c / (β_c + Σ_d γ_cd |x_d|); inverse: times it.

    GDN of Ballé et al. 2016 in the form of Johnston et al. 2019, which needs neither squares nor roots. β and γ are
    squares of what is learned, so they stay positive.
    """

    LEAST = 1e-6

    def __init__(self, channels: int, inverse: bool) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.full((channels, channels), 0.03) + 0.1 * torch.eye(channels))

    def forward(self, x: Tensor) -> Tensor:
        norm = F.conv2d(x.abs(), self.gamma.square()[:, :, None, None], self.beta.square() + self.LEAST)
        return x * norm if self.inverse else x / norm


Convolution = nn.Conv2d | nn.ConvTranspose2d
COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))  # of red, green, blue: brightness, and two differences
COLOUR = 0.1  # frequency beside which a colour's mean counts as much
BESIDE = 0.1  # of the usual random weights, where a wavelet begins


@torch.no_grad()
def begin_with_wavelets(down: Sequence[Convolution], up: Sequence[Convolution]) -> None:
    """Set the weights of an encoder and a decoder (1×1 convolutions at the code) near a transform and its inverse.

    A unit that has a wavelet takes it from non-overlapping 2×2 blocks of the units below; others stay random.
    """
    channels = down[0].in_channels
    mixing = torch.tensor(COLOURS) if channels == len(COLOURS) else torch.eye(channels)
    mixing = mixing / mixing.norm(dim=1, keepdim=True)
    # Of each unit: its colour's, and those across and along.
    frequencies = [(COLOUR * (number > 0), 0.0, 0.0) for number in range(channels)]
    high = 0.5
    for stage, back in zip(down[:-1], reversed(up[1:]), strict=True):
        candidates = [
            (colour, x + high * across, y + high * along, unit, across, along)
            for unit, (colour, x, y) in enumerate(frequencies)
            for along in (0, 1)
            for across in (0, 1)
        ]
        candidates = sorted(candidates, key=lambda candidate: sum(candidate[:3]))[: stage.out_channels]
        for weight in (stage.weight, back.weight):
            weight[: len(candidates)] *= BESIDE
            for out, (*_, unit, across, along) in enumerate(candidates):
                signs = torch.outer(torch.tensor([1.0, 1 - 2 * along]), torch.tensor([1.0, 1 - 2 * across]))
                weight[out, : len(frequencies), 2:4, 2:4] += mixing[unit][:, None, None] * signs / 2
        frequencies = [candidate[:3] for candidate in candidates]
        mixing, high = torch.eye(len(frequencies)), high / 2
    for layer in (down[-1], up[0]):
        layer.weight *= BESIDE
        layer.weight += torch.eye(layer.out_channels, layer.in_channels)[:, :, None, None]
    for layer in (*down, *up):
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
