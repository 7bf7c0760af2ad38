"""What the objectives of auto-encoders share: batches of arrays, losses that are sums over rows, and the export.

A batch holds `seen`, the network's input, and `input`, which it must reconstruct, both float32 [B, …]; images are
scaled from bytes to 0 … 1. A label, if there is one, is carried along and takes no part in any loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.corruptions.noise import scaled
from data_prep.facts import DataFacts
from data_prep.shards.rows import Rows
from training.config import NetworkConfig
from training.lazy import torch
from training.models.autoencoders.config import network_problems
from training.objective import BaseObjective, Batch, Loss, Networks, Turn

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.models.autoencoders.autoencoder import Autoencoder

TRANSFORM = "transform.json"  # in the folder of a table's preprocessor


class ArrayObjective(BaseObjective):
    """An auto-encoder whose loss has `terms` and which reports `metrics`, both by name, with the weight of one row.

    A term's mean is its sum over rows divided by rows × that weight: by the number of values it is an error per value,
    by 1 nats per example.
    """

    def __init__(
        self,
        model: Autoencoder,
        terms: dict[str, float],
        metrics: dict[str, float],
        transform: Path | None = None,
    ) -> None:
        from training.models.autoencoders.autoencoder import AutoencoderPlayer

        self.model, self.terms, self.metrics, self.transform = model, terms, metrics, transform
        self.player = AutoencoderPlayer(model)
        self.flops_by_row = 3 * model.forward_flops()  # backward is two forwards
        self.unit = unit_of(model.shape)
        self.shown = [*terms, *metrics]

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.player}

    def collate(self, rows: Rows) -> Batch:
        target = _tensor(rows["input"])
        batch = {"input": target, "seen": _tensor(rows["seen"]) if "seen" in rows else target}
        if "label" in rows:
            batch["label"] = torch.from_numpy(np.asarray(rows["label"]).astype(np.int64))
        return batch

    def flops(self, batch: Batch) -> float:
        return self.flops_by_row * len(batch["input"])

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        return {name: weight * len(batch["input"]) for name, weight in self.terms.items()}

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        return self.summed(nets["model"](batch["seen"], batch["input"]), batch)

    def summed(self, by_row: dict[str, Tensor], batch: Batch) -> Loss:
        """The loss of a batch from the terms and metrics of each row, [B] each."""
        rows = len(batch["input"])
        sums = {name: by_row[name].sum() for name in self.terms}
        metrics = {name: (by_row[name].sum(), weight * rows) for name, weight in self.metrics.items()}
        row_losses = {}
        if "source" in batch:
            weights = {name: torch.full_like(by_row[name], weight) for name, weight in self.terms.items()}
            row_losses = {name: torch.stack([by_row[name], weights[name]]) for name in self.terms}
        return Loss(sums, metrics, row_losses)

    def refuses(self, zero: int | None) -> str | None:
        if zero == 3 and self.model.config.tied:
            return "network.config.tied: tied layers are not whole under ZeRO 3; set placement.zero to 2 or less."
        return None

    def example(self, n: int) -> Rows:
        shape = (n, *self.model.shape)
        images = len(self.model.shape) == 3  # which are bytes in shards
        values = np.full(shape, 128, np.uint8) if images else np.full(shape, 0.5, np.float32)
        return {"input": values, "label": np.full(n, -1)}

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        from training.models.autoencoders.autoencoder import save_model

        save_model(path, self.model, self.transform)

    def exported(self) -> nn.Module:
        return self.model


def transform_of(data: DataFacts) -> Path | None:
    """The transform file of a table's rows; None for images and for tables without one."""
    return data.preprocessor / TRANSFORM if data.preprocessor is not None and len(data.shape) == 1 else None


def encoder_settings(networks: Mapping[str, NetworkConfig]) -> Mapping[str, Any]:
    """The settings of the network as they are written, for checks of options against them."""
    return networks["model"].config


def loss_problems(loss: str, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with a network, or with a loss of values for it."""
    yield from network_problems(networks["model"])
    if loss == "cross-entropy" and encoder_settings(networks).get("output") != "sigmoid":
        yield "objective.options.loss", "cross-entropy needs network.config.output: sigmoid"


def unit_of(shape: Sequence[int]) -> str:
    """The unit in which examples of this shape are counted."""
    return "images" if len(shape) == 3 else "rows"


def rebuilding(loss: str, values: int) -> tuple[dict[str, float], dict[str, float]]:
    """Terms and metrics of rebuilding examples of so many values, each per value."""
    metrics = {} if loss == "squared-error" else {"squared-error": float(values)}
    return {loss: float(values)}, metrics


def _tensor(column: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(scaled(np.asarray(column))))
