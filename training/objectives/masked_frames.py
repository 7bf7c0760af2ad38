"""Masked acoustic modelling (Mockingjay: Liu et al. 2020, arXiv:1910.12638): hidden frames are rebuilt from both sides.

The loss is the mean absolute difference per value of the frames at `target_positions`.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.kinds import kind_of
from data_prep.settings import Settings
from data_prep.shards.rows import Ragged, Rows, ragged
from training.config import NetworkConfig
from training.lazy import torch
from training.models.text.architectures import architecture_of, encoder_problems, position_problems
from training.objective import BaseObjective, Batch, Loss, Networks, Turn
from training.objectives.text import flat_positions

if TYPE_CHECKING:
    from torch import nn

VERSION = 1
_BLOCK = 8  # widths of batches are multiples of it
_EXAMPLE_LENGTH = 100


class MaskedFramesOptions(Settings):
    """`objective.options` of `masked-frames`: none."""


Options = MaskedFramesOptions


def check(options: MaskedFramesOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    yield from encoder_problems(networks["model"])
    if architecture_of(networks["model"].architecture).settings:
        yield "network.architecture", "takes no frames; use bert or roberta"


class MaskedFrames(BaseObjective):
    """See the module's docstring."""

    unit = "frames"
    shown = ("l1",)

    def __init__(
        self, options: MaskedFramesOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
    ) -> None:
        from transformers import AutoConfig

        from training.models.frame_network import FrameNetwork
        from training.models.text.network import encoder_flops

        if len(data.shape) != 1:
            raise UserError(f"objective.name: masked-frames learns from runs of frames, not of items {data.shape}.")
        settings, length = networks["model"], math.ceil((data.length or _EXAMPLE_LENGTH) / _BLOCK) * _BLOCK
        self.data = data
        self.length, (self.bands,) = data.length or _EXAMPLE_LENGTH, data.shape
        config = AutoConfig.for_model(settings.architecture, **{**settings.config, "vocab_size": 2, "pad_token_id": 0})
        positions = getattr(config, "max_position_embeddings", None)
        for path, text in position_problems(settings, {"data.frames.length": length}, 0, positions):
            raise UserError(f"{path}: {text}.")
        self.network = FrameNetwork(config, self.bands)
        self.matrices, self.width = encoder_flops(self.network.encoder)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def collate(self, rows: Rows) -> Batch:
        clean, seen, targets = (ragged(rows, name) for name in ("input", "seen", "target_positions"))
        width = math.ceil(int(clean.lengths.max()) / _BLOCK) * _BLOCK
        batch = {
            "frames": seen.pad(width, 0),
            "attention_mask": (np.arange(width) < seen.lengths[:, None]).astype(np.int64),
            "target_positions": flat_positions(targets, width),
            "target": clean.values[np.repeat(clean.offsets[:-1], targets.lengths) + targets.values],
        }
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        return {"l1": float(batch["target"].numel())}

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        rebuilt = nets["model"](batch["frames"], batch["attention_mask"], batch["target_positions"])
        return Loss({"l1": (rebuilt.float() - batch["target"]).abs().sum()})

    def flops(self, batch: Batch) -> float:
        pairs = int(batch["attention_mask"].sum(1).square().sum())
        return 3.0 * (2 * self.matrices * self.num_units(batch) + 4 * self.width * pairs)

    def example(self, n: int) -> Rows:
        values = np.random.default_rng(0).normal(size=(n * self.length, self.bands)).astype(np.float32)
        frames = Ragged.from_lengths(values, np.full(n, self.length))
        num_targets = max(1, round(0.15 * self.length))
        places = np.tile(np.arange(num_targets, dtype=np.uint16), n)
        return {
            "input": frames,
            "seen": frames,
            "target_positions": Ragged.from_lengths(places, np.full(n, num_targets)),
        }

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        """A folder that `open_encoder` opens; it also says how recordings become frames (`Kind.file_reader`)."""
        from training.models.frame_network import save_network

        save_network(path, self.network)
        if self.data.preprocessor is not None:
            for name in kind_of(self.data.kind).reader_files:
                shutil.copyfile(self.data.preprocessor / name, path / name)

    def exported(self) -> nn.Module:
        return self.network


build = MaskedFrames
