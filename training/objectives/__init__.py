"""Objectives by name. Adding one touches its own file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path

from torch import Tensor

from data_prep.errors import UserError
from training.distributed import Worker
from training.objective import Batch, Objective, Phase

OBJECTIVES = {
    "masked-lm": "training.objectives.masked_lm",
    "autoencoder": "training.objectives.autoencoder",
    "vae": "training.objectives.vae",
    "discrete": "training.objectives.discrete",
    "rbm": "training.objectives.rbm",
    "compression": "training.objectives.compression",
}


class Base:
    """The answers most objectives share."""

    worker = Worker()
    unit = "tokens"
    export_rows = 0

    def join(self, worker: Worker) -> None:
        self.worker = worker

    def phases(self, steps: int) -> Sequence[Phase]:
        return [Phase("train", steps)]

    def tokens(self, batch: Batch) -> int:
        return int(batch["attention_mask"].sum())

    def positions(self, batch: Batch) -> int:
        return batch["attention_mask"].numel()

    def flops(self, batch: Batch) -> float:
        return 0.0

    def after_step(self) -> None:
        """Nothing without a gradient to update."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to take back."""

    def refuses(self, zero: int | None) -> str | None:
        return None

    def export(self, path: Path, seen: Iterable[Batch]) -> None:
        raise TypeError(f"{type(self).__name__} has nothing to export")


def builder(name: str) -> Callable[..., Objective]:
    """The `build` function of the named objective's module."""
    if name not in OBJECTIVES:
        raise UserError(f"objective.name: {name!r} is not an objective; choose one of {', '.join(OBJECTIVES)}.")
    return import_module(OBJECTIVES[name]).build
