"""The protocol between the training loop and what is being learned.

An objective owns the networks and computes the loss of a batch; the loop owns everything else. A loss is a set
of additive terms. Each is a *sum* over its targets, and the number of targets follows from the batch alone, so the loop
can divide by their number over all ranks and micro-batches before anything is differentiated:

    loss = Σ_terms  Σ_ranks Σ_micro-batches sum(term) / Σ_ranks Σ_micro-batches weight(term)

That is the same mean on any number of workers, whatever each of them happened to draw. A loss that compares the
examples of a step with each other is not such a sum; see `WholeBatchTurn`.

    rows ─► drawn (keyed) ─► collate ─► prepare (once a step, no gradients) ─► turns: each a player's loss ─► after_step

This module, and every module of objectives, is imported without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor, nn

    from data_prep.rng import Draws
    from data_prep.shards.rows import Rows
    from training.distributed import Worker

Batch: TypeAlias = "dict[str, Tensor]"
Networks = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Loss:
    """A player's loss on a micro-batch.

    `sums`: differentiable scalars by term, each summed over its targets (any coefficient included).
    `metrics`: values to report, as (sum, weight), never differentiated. Of a `Turn`, sum and weight are the
    micro-batch's; of a `WholeBatchTurn`, the whole step's.
    `by_row`: of a batch with `source` (a mixture), the terms again by row: sums and weights, [2, B] each, from which
    the loss of every source is reported; an objective may leave them out. Other names are metrics by source.
    """

    sums: dict[str, Tensor]
    metrics: dict[str, tuple[Tensor, float]] = field(default_factory=dict)
    by_row: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """One player steps on one loss.

    `weights(batch)` gives the number of targets of every term from the batch alone, before the networks run. `extra` is
    added once to their number in a step, over all workers and micro-batches. With `adds`, the update is that of the
    terms' sums, as if each target made its own: their means are only reported. `penalties` are terms that only keep
    training in shape, such as the balance of experts: the held-out loss is the sum of the others.
    `loss(networks, batch)` runs them; `networks` are the engines' callables under the names of `networks()`. Under
    bf16 their outputs are bf16: losses are computed from `.float()`.
    """

    player: str
    weights: Callable[[Batch], dict[str, float]]
    loss: Callable[[Networks, Batch], Loss]
    extra: Mapping[str, float] = field(default_factory=dict)
    adds: bool = False
    penalties: Collection[str] = ()


@dataclass(frozen=True)
class WholeBatchTurn:
    """One player steps on a loss of the step's whole batch: InfoNCE, batch statistics, decorrelation.

    `features(networks, batch)` gives tensors [b, …] by name, one line for each row of a micro-batch.
    `loss(features)` is the loss of the features of all rows of the step, [B, …] in the order of their samples. Its
    sums are divided by nothing: they are means already, and its metrics' weights are those of the whole batch.

    The loop takes features without gradients first, on every worker and micro-batch, and brings them together; every
    worker computes the same loss and its gradient with respect to the features; then every micro-batch runs again and
    passes its share of that gradient on (GradCache, Gao et al. 2021, arXiv:2101.06983). So the update is that of one
    worker with the whole batch in memory. `features` draws the same random numbers both times.
    """

    player: str
    features: Callable[[Networks, Batch], dict[str, Tensor]]
    loss: Callable[[dict[str, Tensor]], Loss]


AnyTurn = Turn | WholeBatchTurn


def loss_of(turn: AnyTurn, networks: Networks, batch: Batch) -> Loss:
    """The loss of a turn for a batch that is all in one process."""
    if isinstance(turn, WholeBatchTurn):
        return turn.loss(turn.features(networks, batch))
    return turn.loss(networks, batch)


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own share of the steps; most objectives have a single one."""

    name: str
    steps: int


def phase_at(phases: Sequence[Phase], step: int) -> str:
    """The phase that step `step`, counted from 0, belongs to; the last one from its first step on."""
    end = 0
    for phase in phases:
        end += phase.steps
        if step < end:
            return phase.name
    return phases[-1].name


class Objective(Protocol):
    """What the training loop needs of an objective. `BaseObjective` has the common implementations."""

    unit: str
    """The unit of its input, in which speeds are reported: tokens, rows, images."""

    shown: Sequence[str]
    """Terms and metrics that are shown to people, the most important one first."""

    export_rows: int
    """Number of training rows that `export` takes."""

    group_rows: int
    """Consecutive rows that are learned from together: no worker or micro-batch has a part of such a group."""

    def networks(self) -> dict[str, nn.Module]:
        """Named networks. One that has parameters to train is a player: it gets an engine of its own, and optimizer
        settings by its name in `train.players`. Frozen parameters stay frozen."""
        ...

    def join(self, worker: Worker) -> None:
        """Called once before training with this worker, over whose group `after_step` sums."""
        ...

    def drawn(self, rows: Rows, draws: Draws) -> Rows:
        """Rows changed by keyed draws (views, masks of patches, noise), in training and evaluation alike."""
        ...

    def collate(self, rows: Rows) -> Batch:
        """Rows of a micro-batch as tensors on the CPU."""
        ...

    def prepare(self, networks: Networks, batch: Batch, draws: Draws) -> Batch:
        """What all turns of a step share, computed once without gradients: the batch, with more tensors in it."""
        ...

    def turns(self, phase: str, step: int) -> Sequence[AnyTurn]:
        """The turns of a step, in order. The call has no effect: evaluation makes it, too."""
        ...

    def phases(self, steps: int) -> Sequence[Phase]:
        """How `steps` divide into phases."""
        ...

    def num_units(self, batch: Batch) -> int:
        """Units of input that the batch holds without padding."""
        ...

    def num_positions(self, batch: Batch) -> int:
        """The same with padding."""
        ...

    def num_targets(self, batch: Batch) -> int:
        """How many targets of the batch are projected on a vocabulary, if there is one."""
        ...

    def flops(self, batch: Batch) -> float:
        """Floating-point operations that forward and backward need for this batch (0: not known)."""
        ...

    def after_step(self, step: int, steps: int) -> None:
        """Update state that has no gradient, after step `step` (counted from 0) of `steps`.

        Must come out identical on every rank. Not called where a step's update was skipped.
        """
        ...

    def before_step(self, step: int, steps: int) -> None:
        """Called when step `step` begins; discards whatever a skipped step left for `after_step`."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """The state that `after_step` updates, for the checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        ...

    def refuses(self, zero: int | None) -> str | None:
        """A sentence if this objective cannot run at that ZeRO stage, else None."""
        ...

    def example(self, n: int) -> Rows:
        """n made-up rows, as large as real ones may be, on which cost estimates, trials and doctor run an objective."""
        ...

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        """Write files that others open; on rank 0 only, with all parameters and batches of `export_rows` rows."""
        ...

    def exported(self) -> nn.Module | None:
        """The network whose weights `export` writes, to compare with the reopened one; None if there is none."""
        ...


class BaseObjective:
    """The implementations that most objectives share."""

    worker: Worker
    unit = "rows"
    shown: Sequence[str] = ()
    export_rows = 0
    group_rows = 1

    def join(self, worker: Worker) -> None:
        self.worker = worker

    def drawn(self, rows: Rows, draws: Draws) -> Rows:
        return rows

    def prepare(self, networks: Networks, batch: Batch, draws: Draws) -> Batch:
        return batch

    def phases(self, steps: int) -> Sequence[Phase]:
        return [Phase("train", steps)]

    def num_units(self, batch: Batch) -> int:
        mask = batch.get("attention_mask")
        return self.num_positions(batch) if mask is None else int(mask.sum())

    def num_positions(self, batch: Batch) -> int:
        mask = batch.get("attention_mask")
        return len(next(iter(batch.values()))) if mask is None else mask.numel()

    def num_targets(self, batch: Batch) -> int:
        return len(batch.get("target_ids", ()))

    def flops(self, batch: Batch) -> float:
        return 0.0

    def after_step(self, step: int, steps: int) -> None:
        """Nothing without a gradient to update."""

    def before_step(self, step: int, steps: int) -> None:
        """Nothing is kept from one pass to the next."""

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""

    def refuses(self, zero: int | None) -> str | None:
        return None

    def example(self, n: int) -> Rows:
        raise TypeError(f"{type(self).__name__} has no example to price it by")

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        raise TypeError(f"{type(self).__name__} has nothing to export")

    def exported(self) -> nn.Module | None:
        return None
