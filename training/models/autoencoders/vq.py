"""Auto-encoders with discrete codes: every example becomes P whole numbers in 0 … K − 1.

    x ──► encoder ──► P vectors ──► quantise ──► P codes ──► decoder ──► x̂

    binary   a bit is 1 where sigmoid(u) ≥ ½ (K = 2); the decoder sees 0 or 1
    one-hot  the largest of K logits; the decoder sees its one-hot vector. In training Gumbel noise is added and the
             gradient is that of softmax(·/temperature) (Jang et al. 2017)
    vq       the nearest of K vectors of one codebook (van den Oord et al. 2017), `vector_quantize_pytorch`'s

Backwards, the step of quantising is the identity (straight-through, Bengio et al. 2013). `bottleneck` is the number of
codes in all, or per place in a grid. In evaluation the likeliest code is taken, so codes are a function of the row.

A codebook either follows the vectors that chose it, by exponential averages (EMA; their appendix A.1), or a gradient.
Averages are updated once a step from the sums of all workers and micro-batches (`Usage`, `update`), so every worker has
the same codebook. A code whose running use fell below `revive` of the mean is dead; it restarts as a vector of the
present batch, drawn by the rows' own values and the step: the same one on any number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from training.distributed import Worker
from training.models.autoencoders.autoencoder import Autoencoder
from training.models.autoencoders.row_noise import digests, words

if TYPE_CHECKING:
    from training.objectives.arrays.discrete import DiscreteOptions

REVIVAL = 1  # purpose of row words


@dataclass
class Usage:
    """The codes that a worker's rows were given in a step, and their vectors."""

    indices: list[Tensor] = field(default_factory=list)  # [B, P] by micro-batch
    vectors: list[Tensor] = field(default_factory=list)  # [B, P, W]
    rows: list[Tensor] = field(default_factory=list)  # [B, …], what was seen


class DiscreteAutoencoder(Autoencoder):
    """See the module's docstring. `encode` gives what the decoder sees, `indices` the whole numbers."""

    kind = "discrete"
    options: DiscreteOptions
    usage: Tensor  # [books, K]: running counts a step
    steps: Tensor

    def __init__(self, config: Any, shape: tuple[int, ...], options: DiscreteOptions) -> None:
        super().__init__(config, shape, options)
        self.quantizer = _codebook(options) if options.codes == "vq" else None
        books = 1 if options.codes == "vq" else math.prod(self.code_shape())
        self.register_buffer("usage", torch.zeros(books, self.size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def size(self) -> int:
        """K: values a code can take."""
        return 2 if self.options.codes == "binary" else self.options.size

    @property
    def width(self) -> int:
        """W: length of the vector of one code."""
        return {"binary": 1, "one-hot": self.options.size, "vq": self.options.dimension}[self.options.codes]

    def widths(self) -> tuple[int, int]:
        size = self.config.bottleneck * self.width
        return size, size

    def code_shape(self) -> tuple[int, ...]:
        """Of one example's codes: (bottleneck,), or (h, w, bottleneck) in a grid."""
        return (*self.places, self.config.bottleneck)

    def encode(self, x: Tensor) -> Tensor:
        return self._joined(self.quantise(self.vectors(x))[0], x)

    def indices(self, x: Tensor) -> Tensor:
        """The codes of examples x [B, *shape]: [B, *code_shape] int64."""
        vectors = self.vectors(x)
        return self.quantise(vectors)[1].view(len(x), *self.code_shape())

    def from_indices(self, indices: Tensor) -> Tensor:
        """What `encode` gave where `indices` gave these; `decode` takes it."""
        flat = indices.flatten(1)
        if self.quantizer is not None:
            codes = self.quantizer.get_codes_from_indices(flat)
        elif self.options.codes == "one-hot":
            codes = F.one_hot(flat, self.size).float()
        else:
            codes = flat[..., None].float()
        return self._joined(codes, indices)

    def vectors(self, x: Tensor) -> Tensor:
        """The vectors that are quantised, [B, P, W] float32."""
        features = self.encoder(x).float()
        return features.flatten(1).view(*features.shape[:2], -1).transpose(1, 2).reshape(len(x), -1, self.width)

    def _joined(self, codes: Tensor, batch: Tensor) -> Tensor:
        """Codes [B, P, W] in the shape that the decoder takes."""
        *places, count = self.code_shape()
        joined = codes.reshape(len(batch), -1, count * self.width).transpose(1, 2)
        return joined.reshape(len(batch), count * self.width, *places)

    def quantise(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [B, P, W], through which gradients pass, and their numbers [B, P]."""
        if self.quantizer is not None:
            codes, indices, _ = self.quantizer(vectors)
            return codes, indices
        drawn = self.training and self.options.sample
        if self.options.codes == "binary":
            soft = torch.sigmoid(vectors)
            hard = (soft > torch.rand_like(soft) if drawn else soft >= 0.5).to(soft.dtype)
            return straight_through(soft, hard), hard.squeeze(-1).long()
        if drawn:
            vectors = vectors - torch.empty_like(vectors).exponential_().log()
        indices = vectors.argmax(-1)
        soft = torch.softmax(vectors / self.options.temperature, -1)
        return straight_through(soft, F.one_hot(indices, self.size).to(soft.dtype)), indices

    def losses(self, seen: Tensor, target: Tensor) -> dict[str, Tensor]:
        """As the base class, and for `Usage` the indices [B, P] and vectors [B, P, W] of the rows."""
        vectors = self.vectors(seen)
        with torch.autocast(vectors.device.type, enabled=False):
            codes, indices = self.quantise(vectors)
        by_row = self.rebuilt(self.decoder.logits(self._joined(codes, seen)), target)
        if self.quantizer is not None:
            nearest = self.quantizer.get_codes_from_indices(indices)
            distance = (vectors - nearest.detach()).square().flatten(1).sum(1)
            by_row["commitment"] = self.options.commitment * distance
            if self.options.codebook == "gradient":
                by_row["codebook"] = (vectors.detach() - nearest).square().flatten(1).sum(1)
        elif self.options.uniform:
            by_row["uniform"] = self.options.uniform * self._from_uniform(vectors).flatten(1).sum(1)
        return {**by_row, "indices": indices, "vectors": vectors.detach()}

    def _from_uniform(self, vectors: Tensor) -> Tensor:
        """KL(q ‖ uniform) in nats of every code's distribution q, [B, P]."""
        if self.options.codes == "binary":
            vectors = torch.cat([vectors, torch.zeros_like(vectors)], -1)
        logs = F.log_softmax(vectors, -1)
        return (logs.exp() * logs).sum(-1) + math.log(self.size)

    @torch.no_grad()
    def update(self, usage: Usage, worker: Worker) -> None:
        """Update counts and codebook from the usage of all workers in a step; the result is the same on each."""
        indices, vectors = torch.cat(usage.indices), torch.cat(usage.vectors)
        counts = self._counts(indices)
        codebook: Any = self.quantizer and self.quantizer._codebook
        averaged: Any = codebook if self.options.codebook == "ema" else None
        sums = torch.zeros(0, device=counts.device)
        if averaged is not None:
            sums = torch.zeros_like(averaged.embed[0]).index_add_(0, indices.flatten(), vectors.flatten(0, 1))
        totals = worker.add(torch.cat([counts.flatten(), sums.flatten()]))
        counts, sums = totals[: counts.numel()].view_as(counts), totals[counts.numel() :].view_as(sums)
        decay = self.options.decay
        self.usage.mul_(decay).add_(counts, alpha=1 - decay)
        if averaged is not None:
            averaged.cluster_size.mul_(decay).add_(counts, alpha=1 - decay)
            averaged.embed_avg[0].mul_(decay).add_(sums, alpha=1 - decay)
            averaged.update_ema()
        if codebook is not None and self.options.revive:
            self._revive(codebook, vectors, usage.rows, worker)
        self.steps += 1

    def _counts(self, indices: Tensor) -> Tensor:
        """[books, K] float32: how often each code was used."""
        books = len(self.usage)
        place = torch.arange(books, device=indices.device) if books > 1 else 0
        counts = torch.bincount((indices + place * self.size).flatten(), minlength=books * self.size)
        return counts.view(books, self.size).float()

    def _revive(self, codebook: Any, vectors: Tensor, rows: list[Tensor], worker: Worker) -> None:
        """Dead codes become vectors of this step: in the first one all of them, as far as the vectors go."""
        step = int(self.steps)
        is_dead = self.usage[0] < self.options.revive * self.usage.mean()
        dead = torch.nonzero(is_dead | (step == 0)).flatten()
        if len(dead) == 0:
            return
        places = torch.arange(vectors.shape[1], device=vectors.device) + step * vectors.shape[1]
        digest = torch.cat([digests(batch) for batch in rows])
        priority = words(digest, places, REVIVAL).flatten()
        best = priority.topk(min(len(dead), len(priority)))
        offered = worker.gather((best.values.cpu(), vectors.flatten(0, 1)[best.indices].cpu()))
        priorities, candidates = (torch.cat(column) for column in zip(*offered, strict=True))
        chosen = candidates[priorities.argsort(descending=True, stable=True)[: len(dead)]].to(vectors.device)
        dead = dead[: len(chosen)]
        self.usage[0, dead] = self.usage.mean()
        size = codebook.cluster_size.mean()
        codebook.embed.data[0, dead] = chosen
        codebook.cluster_size[0, dead] = size
        codebook.embed_avg[0, dead] = chosen * size

    def watched(self) -> dict[str, Tensor]:
        """From the running counts: the perplexity of codes (mean over books), and the share of codes in use.

        A code counts as in use if it was chosen once in the last 1/(1 − decay) steps.
        """
        threshold = (1 - self.options.decay) / math.e
        return {"perplexity": perplexity(self.usage).mean(), "codes_used": (self.usage > threshold).float().mean()}


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return gradients[0], None


straight_through: Callable[[Tensor, Tensor], Tensor] = _StraightThrough.apply  # type: ignore[assignment]
"""`hard` to the bit, with the gradient of `soft`."""


def perplexity(counts: Tensor) -> Tensor:
    """exp(−Σ p log p) of counts [..., K]: how many equally frequent codes would be as varied, 1 … K."""
    shares = counts / counts.sum(-1, keepdim=True).clamp(min=1e-30)
    return torch.exp(torch.special.entr(shares).sum(-1))


def _codebook(options: DiscreteOptions) -> Any:
    from vector_quantize_pytorch import VectorQuantize  # slow to import

    return VectorQuantize(
        options.dimension,
        options.size,
        decay=options.decay,
        learnable_codebook=options.codebook == "gradient",
        ema_update=False,  # see `DiscreteAutoencoder.update`
        commitment_weight=0.0,  # see `losses`
        rotation_trick=False,
        sync_codebook=False,
    )
