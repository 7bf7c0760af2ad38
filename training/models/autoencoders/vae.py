"""The variational auto-encoder (Kingma & Welling 2014): x ──► q(z|x) ──► z ──► p(x|z), with p(z) = N(0, 1).

    −ELBO = −E_q log p(x|z) + β · Σ_j KL(q(z_j|x) ‖ p(z_j)),      q(z|x) = N(μ(x), diag σ²(x))
    KL    = ½ Σ_j (μ² + σ² − 1 − log σ²), in closed form (their appendix B)

p(x|z) is a Gaussian around what is decoded, its variance fixed or learned (one for every column of a table, one for all
of an image), or a Bernoulli distribution per value. Values between 0 and 1 then count as probabilities, which is no
density, or (`binarise`) as those with which each is drawn as 0 or 1 whenever it is seen (Salakhutdinov & Murray 2008).
All sums are in nats per example.

Noise: training draws ε from torch's seeded generator. In evaluation it is drawn by the row's own values
(`training.models.autoencoders.row_noise`), so that a bound depends only on the row, whatever its batch or
worker.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.autoencoders.autoencoder import Autoencoder
from training.models.autoencoders.config import AutoencoderConfig, Shape
from training.models.autoencoders.row_noise import normals, uniforms

if TYPE_CHECKING:
    from training.objectives.arrays.vae import VaeOptions

LOG_2PI = math.log(2 * math.pi)
LEAST_VARIANCE = 1e-4  # of a learned one: a constant column would drive it to 0
RATE = 10.0  # at which it learns relative to weights: from 1 to 10⁻³ is far in Adam's steps of a learning rate each
LARGEST_LOG_VARIANCE = 20.0  # of q, either way: an input far from all others must not overflow
BINARISING = 2  # purpose of row words
CHUNK = 1 << 13  # codes decoded at once by `importance_bound`


class VariationalAutoencoder(Autoencoder):
    """See the module's docstring. `encode` gives μ(x)."""

    kind = "vae"
    options: VaeOptions

    def __init__(self, config: AutoencoderConfig, shape: Shape, options: VaeOptions) -> None:
        super().__init__(config, shape, options)
        self.variance = Variance(self.values if len(self.shape) == 1 else 1, options)

    def widths(self) -> tuple[int, int]:
        return 2 * self.config.bottleneck, self.config.bottleneck

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(*self.drawn(x))[0]

    def drawn(self, *examples: Tensor) -> list[Tensor]:
        """Examples [B, *shape] as the network is given them; those that were alike are drawn alike."""
        if not self.options.binarise:
            return list(examples)
        last = examples[-1]
        noise = torch.rand_like(last) if self.training else uniforms(last, last[0].numel(), BINARISING).view_as(last)
        return [(noise < values).to(values.dtype) for values in examples]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ² of q(z|x), each [B, bottleneck] (a grid: [B, bottleneck, h, w])."""
        mean, log_variance = self.encoder(x).float().chunk(2, 1)
        return mean, log_variance.clamp(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)

    def log_likelihood(self, logits: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) [B] in nats, from what the decoder's `logits` gives for z."""
        logits, x = logits.float().flatten(1), x.flatten(1)
        if self.options.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        variance = self.variance(logits)
        squared = (self.decoder.activated(logits) - x).square()
        return -0.5 * (squared / variance + variance.log() + LOG_2PI).sum(1)

    def losses(self, seen: Tensor, target: Tensor) -> dict[str, Tensor]:
        seen, target = self.drawn(seen, target)
        mean, log_variance = self.posterior(seen)
        code = mean + torch.exp(0.5 * log_variance) * self.noise(seen, mean)
        logits = self.decoder.logits(code)
        likelihood = self.log_likelihood(logits, target)
        divergences = divergence(mean, log_variance).flatten(1)
        paid = divergences.clamp(min=self.options.free_bits) if self.options.free_bits else divergences
        output = self.decoder.activated(logits.float())
        return {
            "reconstruction": -likelihood,
            "divergence": self.options.beta * paid.sum(1),
            "elbo": (likelihood - divergences.sum(1)).detach(),
            "squared-error": (output - target).flatten(1).square().sum(1).detach(),
        }

    def noise(self, x: Tensor, like: Tensor) -> Tensor:
        """ε in the shape of `like` [B, …]."""
        if self.training:
            return torch.randn_like(like)
        return normals(x, like[0].numel()).view_as(like)

    def elbo(self, x: Tensor) -> Tensor:
        """The evidence lower bound [B] in nats, with one keyed draw of z for each row; β and free bits play no part."""
        return self.importance_bound(x, 1, closed_form=True)

    def importance_bound(self, x: Tensor, k: int = 50, chunk: int = CHUNK, closed_form: bool = False) -> Tensor:
        """The importance-weighted bound [B] in nats (Burda et al. 2016): log 1/k Σ_i p(x, z_i)/q(z_i|x), z_i ~ q(z|x).

        It is at most log p(x), and rises to it with k in expectation. `chunk`: most codes decoded at once.
        `closed_form` (for k = 1): the divergence exactly, not by the draw.
        """
        if len(x) > chunk:
            return torch.cat([self.importance_bound(rows, k, chunk, closed_form) for rows in x.split(chunk)])
        [x] = self.drawn(x)
        mean, log_variance = self.posterior(x)
        mean, log_variance = mean[:, None], log_variance[:, None]  # [B, 1, …]
        size = mean[0].numel()
        weights = []
        step = max(1, chunk // max(1, len(x)))
        for first in range(0, k, step):
            count = min(step, k - first)
            noise = normals(x, count * size, first * size).view(len(x), count, *mean.shape[2:])
            code = mean + torch.exp(0.5 * log_variance) * noise
            logits = self.decoder.logits(code.flatten(0, 1))
            likelihood = self.log_likelihood(logits, x.repeat_interleave(count, 0)).view(len(x), count)
            if closed_form:
                prior = -divergence(mean, log_variance).flatten(2).sum(2)
            else:  # log p(z) − log q(z|x); the constants are the same
                prior = 0.5 * (noise.square() + log_variance - code.square()).flatten(2).sum(2)
            weights.append(likelihood + prior)
        return torch.logsumexp(torch.cat(weights, 1), 1) - math.log(k)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """[count, *shape]: what is decoded of codes drawn from the prior by `generator`."""
        return self.decode(self.codes(count, generator).to(next(self.parameters()).device))

    def codes(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """[count, bottleneck] (a grid: [count, bottleneck, h, w]) drawn from the prior, on the CPU."""
        return torch.randn(count, *(self.config.bottleneck, *self.places), generator=generator)


class Variance(nn.Module):
    """Calling it gives the variance of p(x|z), Gaussian: [size], one for every value or one for all."""

    def __init__(self, size: int, options: VaeOptions) -> None:
        super().__init__()
        self.fixed = None if options.variance == "learned" else options.variance
        if options.likelihood == "gaussian" and self.fixed is None:
            self.log_variance = nn.Parameter(torch.zeros(size))  # divided by RATE

    def forward(self, like: Tensor) -> Tensor:
        if self.fixed is not None:
            return like.new_full((1,), self.fixed)
        return torch.exp(RATE * self.log_variance) + LEAST_VARIANCE


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) in nats, elementwise."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
