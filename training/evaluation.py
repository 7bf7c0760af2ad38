"""Means over held-out rows: the same on any number of workers, whenever they are taken.

What an objective or a network samples is keyed by (seed, rank, batch). A loss of the whole batch is that of as many
held-out rows as a step of training takes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_prep.rng import Draws, key
from data_prep.shards.rows import Rows
from training.data import BatchSplit, Stream
from training.distributed import Worker, seed_torch
from training.monitor.names import HELD_OUT_LOSS, VALIDATION
from training.monitor.watchdog import Watchdog
from training.objective import Batch, Loss, Networks, Objective, WholeBatchTurn

DRAWN_HELD_OUT = "objective held-out"  # the stream of what objectives draw here


@dataclass(frozen=True)
class Evaluation:
    """Evaluates an objective on the first `num_rows` rows of `held_out`.

    `forwards` are the networks as they run in their turn, `modules` the networks as `Objective.prepare` takes them.
    All of them are in evaluation mode when `means` is called.
    """

    objective: Objective
    forwards: Networks
    modules: Networks
    held_out: Stream
    num_rows: int
    split: BatchSplit
    worker: Worker
    watchdog: Watchdog
    seed: int
    sources: Sequence[str] = ()
    """Of a mixture, as `source` in rows counts them: the loss is also reported for each."""

    def means(self, phase: str, step: int) -> dict[str, float]:
        """The mean of every term and metric of the turns of `phase` and `step`, and the held-out loss.

        That loss is the sum of the terms that are no penalties. All are independent of the number of workers as far as
        networks sample nothing. Training's own random numbers are left as they are.
        """
        totals = _Totals(len(self.sources))
        devices = [self.worker.device] if self.worker.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            for number in range(-(-self.num_rows // self.split.global_batch)):
                self._add_batch(number, phase, step, totals)
        names = sorted(totals.sums)
        terms = sorted(totals.terms)
        by_row = [*terms, *sorted(set(totals.by_source) - set(terms))]  # the terms, then metrics
        by_source = np.stack([totals.by_source[name] for name in by_row])  # [by_row, 2, sources]
        local = [totals.sums[n] for n in names] + [totals.weights[n] for n in names]
        summed = np.array(self.worker.sum([*local, *by_source.ravel().tolist()]))
        means = dict(zip(names, np.divide(*np.split(summed[: len(local)], 2)).tolist(), strict=True))
        loss = sum(means[name] for name in terms)
        sums, weights = summed[len(local) :].reshape(by_source.shape).swapaxes(0, 1)
        for number in np.flatnonzero((weights > 0).all(0)).tolist():
            of_source = dict(zip(by_row, (sums[:, number] / weights[:, number]).tolist(), strict=True))
            means[f"loss/{self.sources[number]}"] = sum(of_source[name] for name in terms)
            means |= {f"{name}/{self.sources[number]}": of_source[name] for name in by_row[len(terms) :]}
        return {HELD_OUT_LOSS: loss, **{f"{VALIDATION}{name}": value for name, value in means.items()}}

    def _add_batch(self, number: int, phase: str, step: int, totals: _Totals) -> None:
        """Add the losses of held-out batch `number`, which has as many rows as a step of training."""
        batches, counts = self._batches(number)
        for turn in self.objective.turns(phase, step):
            if isinstance(turn, WholeBatchTurn):
                features = [turn.features(self.forwards, batch) for batch in batches]
                counted = [
                    {name: value[:count] for name, value in of_part.items()}
                    for of_part, count in zip(features, counts, strict=True)
                ]
                gathered = self.split.gathered(counted, self.split.counts(number, self.num_rows))
                loss = turn.loss(gathered)
                # Batches weigh by their rows. Every worker has the same loss: one of them counts.
                num_rows = len(next(iter(gathered.values())))
                by_rows = Loss({name: value * num_rows for name, value in loss.sums.items()}, loss.metrics)
                totals.add(by_rows, dict.fromkeys(loss.sums, float(num_rows)), float(self.worker.leads))
            else:
                for batch, count in zip(batches, counts, strict=True):
                    share = float(count > 0)
                    loss = turn.loss(self.forwards, batch)
                    totals.add(loss, turn.weights(batch), share, turn.penalties)
                    totals.add_by_source(loss, batch.get("source"), share)

    def _batches(self, number: int) -> tuple[list[Batch], list[int]]:
        """This worker's micro-batches of held-out batch `number`, and how many rows of each count."""
        batches, counts = [], []
        for part, samples in enumerate(self.split.samples(number)):
            self.watchdog.at("evaluating")
            seed_torch(key(self.seed, f"evaluation {number}", f"rank {self.worker.rank} part {part}") >> 1)
            counted = samples[samples < self.num_rows]
            # Under ZeRO-3 workers need each other in every pass: who has no row takes one that does not count.
            read = counted if len(counted) else np.zeros(1, np.int64)
            draws = Draws(key(self.seed, DRAWN_HELD_OUT), 0, read)
            rows = self.objective.drawn(self.held_out.read(read), draws)
            batch = to_device(collated(self.objective, rows), self.worker.device)
            batches.append(self.objective.prepare(self.modules, batch, draws))
            counts.append(len(counted))
        return batches, counts


class _Totals:
    """Sums and weights of terms and metrics over all batches of a worker."""

    def __init__(self, num_sources: int) -> None:
        self.by_source: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, num_sources)))
        self.sums: dict[str, float] = defaultdict(float)
        self.weights: dict[str, float] = defaultdict(float)
        self.terms: set[str] = set()  # without penalties

    def add(self, loss: Loss, weights: Mapping[str, float], share: float, penalties: Collection[str] = ()) -> None:
        """Add a loss, of whose terms `weights` are the numbers of targets, times `share` (0: it does not count)."""
        self.terms.update(set(loss.sums) - set(penalties))
        summed = {name: (value, weights[name]) for name, value in loss.sums.items()} | loss.metrics
        for name, (value, weight) in summed.items():
            self.sums[name] += float(value) * share
            self.weights[name] += weight * share

    def add_by_source(self, loss: Loss, source: Tensor | None, share: float) -> None:
        """Add sums and weights of the rows of each source, where rows have sources and the loss has sums by row."""
        if source is None:
            return
        for name, by_row in loss.by_row.items():
            into = torch.zeros(self.by_source[name].shape, dtype=torch.float64, device=source.device)
            self.by_source[name] += share * into.index_add_(1, source, by_row.detach().double()).cpu().numpy()


def collated(objective: Objective, rows: Rows) -> Batch:
    """A batch of rows on the CPU, with the source of each, in a mixture."""
    batch = objective.collate(rows)
    if "source" in rows:
        batch["source"] = torch.from_numpy(np.asarray(rows["source"]).astype(np.int64))
    return batch


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device, copied while the device does other work."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
