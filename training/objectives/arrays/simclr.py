"""SimCLR (Chen et al. 2020, arXiv:2002.05709): views of one image are distinguished from all others of the batch.

    x ──► two views ──► encoder ──► h ──► MLP ──► z, of length 1

    NT-Xent = mean over the 2N views of  −log( exp(z_i·z_j / τ) / Σ_{k≠i} exp(z_i·z_k / τ) ),   j the other view of i

The loss is the paper's equation 1, a mean over all 2N views of a step, on any number of workers and in any
micro-batches; in the code published with the paper it is twice that. `contrastive-accuracy` is how often a view's other
one is the nearest. `embedding-std` is the standard deviation of z's dimensions over the batch, on average: about 1/√d
where z is spread over all directions, 0 where all images became one (collapse). Held-out rows are compared in batches
of `train.global_batch`, and fewer rows are an easier task: compare losses of equal batches.

The paper normalises by batch statistics over all workers. Here neither the encoder nor the head does: each worker and
micro-batch sees a part of the batch, so what is learned would depend on how it is cut, and a batch's statistics tell a
network which views came together. Both are plain layers, which at these depths need none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from data_prep.corruptions.views import unchanged
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.settings import Settings
from data_prep.shards.rows import Rows
from training.config import NetworkConfig
from training.lazy import F, torch
from training.models.autoencoders.config import network_config, network_problems
from training.objective import BaseObjective, Batch, Loss, Networks, WholeBatchTurn
from training.objectives.arrays.views import parameters, rendered

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.models.autoencoders.autoencoder import Encoder

VERSION = 1


class SimclrOptions(Settings):
    """`objective.options` of `simclr`."""

    temperature: float = Field(default=0.1, gt=0)
    """τ, by which similarities are divided (the paper: 0.1 for ImageNet, 0.5 for CIFAR-10)."""
    projection: int = Field(default=128, ge=1)
    """Size of z, in which views are compared."""
    projection_layers: int = Field(default=2, ge=1)
    """Dense layers from h to z; all but the last are as wide as h (SimCLR v2: 3)."""


Options = SimclrOptions


def check(options: SimclrOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the encoder."""
    yield from network_problems(networks["model"])
    if networks["model"].config.get("latent") == "grid":
        yield "network.config.latent", "simclr compares whole images; set it to vector"


class Simclr(BaseObjective):
    """See the module's docstring. Only the encoder is exported; the head is for training."""

    unit = "images"
    shown = ("nt-xent", "contrastive-accuracy", "embedding-std")

    def __init__(self, encoder: Encoder, options: SimclrOptions) -> None:
        from torch import nn

        self.encoder, self.options = encoder, options
        width = encoder.config.bottleneck
        hidden = [layer for _ in range(options.projection_layers - 1) for layer in (nn.Linear(width, width), nn.ReLU())]
        head = nn.Sequential(*hidden, nn.Linear(width, options.projection))
        self.network = nn.Sequential(encoder, head)
        dense = sum(layer.weight.numel() for layer in head if isinstance(layer, nn.Linear))
        forward = encoder.forward_flops() + 2 * dense
        self.flops_by_row = 2 * 3 * forward  # of two views; backward is two forwards

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def collate(self, rows: Rows) -> Batch:
        return {"input": torch.from_numpy(np.ascontiguousarray(np.asarray(rows["input"]))), **parameters(rows)}

    def prepare(self, networks: Networks, batch: Batch, draws: Draws) -> Batch:
        return {"input": batch["input"], "views": rendered(batch)}

    def turns(self, phase: str, step: int) -> list[WholeBatchTurn]:
        return [WholeBatchTurn("model", self._features, self._whole)]

    def _features(self, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """z of both views of every row, [b, 2, projection]."""
        projected = networks["model"](batch["views"].flatten(0, 1)).float()
        return {"projection": F.normalize(projected, dim=1).unflatten(0, (-1, 2))}

    def _whole(self, features: dict[str, Tensor]) -> Loss:
        projection = features["projection"]
        rows = float(len(projection))
        loss, accuracy = nt_xent(projection, self.options.temperature)
        spread = projection.detach().flatten(0, 1).std(0, correction=0).mean()
        watched = {"contrastive-accuracy": (accuracy * rows, rows), "embedding-std": (spread * rows, rows)}
        return Loss({"nt-xent": loss}, watched)

    def flops(self, batch: Batch) -> float:
        return self.flops_by_row * len(batch["input"])

    def example(self, n: int) -> Rows:
        return {"input": np.full((n, *self.encoder.shape), 127, np.uint8), **unchanged(n)}

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        from training.models.autoencoders.autoencoder import save_model

        save_model(path, self.encoder)

    def exported(self) -> nn.Module:
        return self.encoder


def nt_xent(projection: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The loss of views [N, 2, D], each of length 1, and the share of views whose other view is the nearest."""
    num_rows = len(projection)
    z = projection.transpose(0, 1).flatten(0, 1)  # all first views, then all second ones
    own = torch.eye(2 * num_rows, dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(own, -torch.inf)
    other = torch.arange(2 * num_rows, device=z.device).roll(num_rows)
    return F.cross_entropy(logits, other), (logits.argmax(1) == other).float().mean()


def build(options: SimclrOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str) -> Simclr:
    """The objective for images of the data's shape."""
    from training.models.autoencoders.autoencoder import Encoder

    return Simclr(Encoder(network_config(networks["model"], data.shape), data.shape), options)
