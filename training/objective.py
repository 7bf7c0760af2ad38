"""The protocol between the training loop and what is being learned.

An objective owns the networks and says, for a batch, what the loss is; the loop owns everything else. A loss is a set
of additive terms. Each is a *sum* over its targets, and the batch alone tells how many targets there are, so the loop
can divide by their number over all ranks and micro-batches before anything is differentiated:

    loss = Σ_terms  Σ_ranks Σ_micro-batches sum(term) / Σ_ranks Σ_micro-batches weight(term)

That is the same mean on any number of workers, whatever each of them happened to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from data_prep.shards.rows import Rows
from training.distributed import Worker

Batch = dict[str, Tensor]
Networks = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Loss:
    """What a player pays for a micro-batch.

    `sums`: differentiable scalars by term, each summed over its targets (any coefficient included).
    `metrics`: things to watch, as (sum, weight): they are averaged over everything and never differentiated.
    `by_row`: of a batch with `source` (a mixture), the terms again by row: sums and weights, [2, B] each. From them
    the loss of every source is told; an objective may leave them out.
    """

    sums: dict[str, Tensor]
    metrics: dict[str, tuple[Tensor, float]] = field(default_factory=dict)
    by_row: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """One player steps on one loss.

    `weights(batch)` gives the number of targets of every term from the batch alone, before the networks run.
    `loss(networks, batch)` runs them; `networks` are the engines' callables under the names of `networks()`.
    """

    player: str
    weights: Callable[[Batch], dict[str, float]]
    loss: Callable[[Networks, Batch], Loss]


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own share of the steps; most objectives have a single one."""

    name: str
    steps: int


class Objective(Protocol):
    """What an objective answers. `training.objectives.Base` has the common answers."""

    unit: str
    """What its input is counted in, as speeds are told: tokens, rows, pictures."""

    def networks(self) -> dict[str, nn.Module]:
        """Named networks; each that a turn names as its player gets an engine of its own."""
        ...

    def join(self, worker: Worker) -> None:
        """Which worker this is, told once before training: what `after_step` adds up over all of them."""
        ...

    def collate(self, rows: Rows) -> Batch:
        """Rows of a micro-batch as tensors on the CPU."""
        ...

    def turns(self, phase: str) -> Sequence[Turn]:
        """Who steps on what, in order. Asked as a step of this phase begins, and in evaluation."""
        ...

    def phases(self, steps: int) -> Sequence[Phase]:
        """How `steps` divide into phases."""
        ...

    def tokens(self, batch: Batch) -> int:
        """Units of input that the batch holds without padding."""
        ...

    def positions(self, batch: Batch) -> int:
        """The same with padding."""
        ...

    def flops(self, batch: Batch) -> float:
        """Floating-point operations that forward and backward need for this batch (0: not known)."""
        ...

    def after_step(self) -> None:
        """Update state that has no gradient; must come out identical on every rank."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """That state, for the checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take it back."""
        ...

    def refuses(self, zero: int | None) -> str | None:
        """A sentence if this objective cannot run at that ZeRO stage, else None."""
        ...

    export_rows: int
    """How many training rows `export` asks for."""

    def export(self, path: Path, seen: Iterable[Batch]) -> None:
        """Write what others load; called on rank 0 with whole parameters at hand, and so many training rows."""
        ...
