"""The training loop: one for every objective, engine and number of workers.

    for each step:  take the global batch ─► micro-batches of this rank ─► each player's turn: losses, backward, step
                    ─► after_step ─► now and then: log, evaluate, checkpoint, or stop because somebody asked

Everything random is keyed: the rows by their sample numbers, dropout by (seed, rank, step). So a run that stops and
goes on is the run that never stopped, bit for bit on the same number of CPU workers.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_prep.errors import UserError
from data_prep.rng import key
from data_prep.shards.rows import Rows
from training.config import PlacementConfig, TrainConfig
from training.data import Samples, Stream, ahead, micro_batches, worker_samples
from training.distributed import Worker
from training.engines import checkpoint as checkpoints
from training.engines.checkpoint import Position
from training.engines.deepspeed import DeepSpeedEngine
from training.engines.plain import Engine, PlainEngine
from training.hardware import resolve_precision
from training.models.cpu_kernels import speed_up
from training.models.transformers import autocast_forward, checkpoint_activations
from training.monitor.metrics import PASSING, STATE, Watch, Work
from training.monitor.peak_flops import peak_flops
from training.monitor.watchdog import Watchdog
from training.objective import Batch, Objective, Turn
from training.schedule import learning_rate

Log = Callable[[dict[str, Any]], None]
EXPORT_BATCH = 64  # rows


@dataclass
class Training:
    """One run of the loop on one worker."""

    objective: Objective
    stream: Samples
    config: TrainConfig
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    worker: Worker = field(default_factory=Worker)
    seed: int = 0
    held_out: Stream | None = None
    held_out_rows: int = 0
    checkpoints: Path | None = None  # where they go; None: none are kept
    start: tuple[Path, int] | None = None  # folder and step of another experiment's checkpoint, to begin with
    identity: dict[str, Any] = field(default_factory=dict)  # what a checkpoint must match
    log: Log = lambda record: None  # logs, and never changes state
    sources: Sequence[str] = ()  # of a mixture, as `source` in its rows counts them
    stop: Callable[[], bool] = lambda: False  # asked in every step; one worker that is to stop stops all of them
    stacks: Path | None = None  # where stacks go if a worker keeps the others waiting; None: they wait for ever

    def __post_init__(self) -> None:
        self.precision = resolve_precision(self.config.precision, self.worker.device.type)
        self.parts = micro_batches(self.config.global_batch, self.worker.world, self.placement.micro_batch)
        if self.config.global_batch // self.parts < self.worker.world:
            raise UserError(
                f"train.global_batch: {self.config.global_batch} rows in {self.parts} micro-batches leave some of "
                f"{self.worker.world} workers without a row; raise it or lower placement.workers."
            )
        refusal = self.objective.refuses(self.placement.zero)
        if refusal:
            raise UserError(refusal)
        self.objective.join(self.worker)
        self.engines = {n: self._engine(m) for n, m in self.objective.networks().items()}
        self.forwards = {name: engine.forward for name, engine in self.engines.items()}
        self.phase_at = _phases(self.objective, self.config.steps)
        unit, sources = self.objective.unit, self.sources
        self.watch = Watch(self.placement.watch, self.config, self.worker, self.precision, sources, unit, self.phase_at)
        self.watchdog = Watchdog(self.stacks, self.worker, self.placement.watch.stuck_seconds)
        self.stopping = False
        self.latest: dict[str, float] = {}

    def _engine(self, module: torch.nn.Module) -> Engine:
        autocast_forward(module, self.worker.device, self.precision)
        if self.placement.activation_checkpointing:
            checkpoint_activations(module)
        if self.placement.compile:
            module.compile()
        elif self.worker.device.type == "cpu" and hasattr(module, "fuse_loss"):
            # Pretraining: the small batches of fine-tuning would lose by it.
            speed_up(module, self.precision)
        if self.placement.zero is None:
            return PlainEngine(module, self.config, self.worker)
        return DeepSpeedEngine(module, self.config, self.placement, self.worker, self.parts)

    def run(self) -> dict[str, Any]:
        """Train to the last step from the newest checkpoint there is; returns what was seen last.

        `stopped` says whether that was earlier because it was asked to stop; then a checkpoint is left at that step.
        """
        position = self._resume()
        started_at, began = position.step, time.perf_counter()
        self.watch.start(position.step, self.worker.sum([peak_flops(self.worker.device, self.precision)])[0])
        self._mode(train=True)
        with self.watchdog:
            for step, batches, work in self._batches(position.step):
                phase = self.phase_at(step)
                torch.manual_seed(key(self.seed, f"step {step}", f"rank {self.worker.rank}") >> 1)
                lr = learning_rate(step, self.config)
                updates = [self._take_turn(turn, batches, lr) for turn in self.objective.turns(phase)]
                if updated := all(updates):
                    self.objective.after_step()
                done = step + 1
                self.watch.stepped(done, updated, work)
                position = Position(done, done * self.config.global_batch, phase)
                last = done == self.config.steps
                if last or done % self.config.log_every == 0:
                    values, warnings = self.watch.record(done)
                    self._report(values, position, lr=lr, **({"warnings": warnings} if warnings else {}))
                if self._due(self.config.evaluate_every, done) and self.held_out is not None:
                    with self.watch.aside():
                        self._report(self.evaluate(), position)
                if self._due(self.placement.checkpoint_every, done) or self.stopping:
                    self.watchdog.at("writing a checkpoint")
                    with self.watch.aside():
                        self._save(position)
                if self.stopping:
                    break
        seconds = time.perf_counter() - began
        return {
            "step": position.step,
            "samples": position.samples,
            "stopped": position.step < self.config.steps,
            "resumed_from": started_at,
            "precision": self.precision,
            "train_seconds": seconds,
            "bytes_held": self.worker.gather({name: engine.bytes_held() for name, engine in self.engines.items()}),
            **self.latest,
        }

    def evaluate(self) -> dict[str, float]:
        """Mean of every term and metric over the held-out rows, the same on any number of workers."""
        if self.held_out is None or self.held_out_rows == 0:
            return {}
        self._mode(train=False)
        size = self.config.global_batch
        sums: dict[str, float] = defaultdict(float)
        weights: dict[str, float] = defaultdict(float)
        terms: set[str] = set()
        with torch.no_grad():
            for step in range(-(-self.held_out_rows // size)):
                for numbers in worker_samples(step, size, self.parts, self.worker.rank, self.worker.world):
                    self.watchdog.at("evaluating")
                    mine = numbers[numbers < self.held_out_rows]
                    # Under ZeRO-3 workers need each other in every pass: who has no row takes one that does not count.
                    read = self.held_out.read(mine if len(mine) else np.zeros(1, np.int64))
                    batch = self._to_device(self.objective.collate(read))
                    terms |= self._add_means(batch, sums, weights, counts=len(mine) > 0)
        self._mode(train=True)
        names = sorted(sums)
        totals = self.worker.sum([sums[n] for n in names] + [weights[n] for n in names])
        means = dict(zip(names, np.divide(*np.split(np.array(totals), 2)).tolist(), strict=True))
        loss = sum(means[name] for name in sorted(terms))
        return {"validation_loss": loss, **{f"validation_{name}": value for name, value in means.items()}}

    def export(self, path: Path) -> None:
        """Write the trained networks for others, from rank 0."""
        with _all_whole(list(self.engines.values())):
            if self.worker.leads:
                self.objective.export(path, self._seen(self.objective.export_rows))
        self.worker.barrier()

    def _seen(self, count: int) -> Iterator[Batch]:
        """The first `count` samples of training, a few at a time."""
        for start in range(0, count, EXPORT_BATCH):
            numbers = np.arange(start, min(start + EXPORT_BATCH, count))
            yield self._to_device(self._collate(self.stream.read(numbers)))

    def _take_turn(self, turn: Turn, batches: list[Batch], lr: float) -> bool:
        """Whether the player's update was made."""
        engine, zero = self.engines[turn.player], self.placement.zero
        frozen = [e.module for name, e in self.engines.items() if name != turn.player]
        for module in frozen:
            module.requires_grad_(False)
        parts = [turn.weights(batch) for batch in batches]
        names = sorted(parts[0])
        local = [sum(part[name] for part in parts) for name in names]
        self.watch.alone.stop()
        self.watchdog.at("adding up targets")
        *totals, asked = self.worker.sum([*local, float(self.stop())])
        self.stopping |= asked > 0
        weights = dict(zip(names, totals, strict=True))
        for batch in batches:
            self.watchdog.at("computing")
            if zero != 3:  # there, workers wait for each other in both passes, in 1 and 2 in the backward one
                self.watch.alone.start()
            loss = turn.loss(self.forwards, batch)
            paid: Tensor = sum(loss.sums[n] / (weights[n] or 1.0) for n in names)  # type: ignore[assignment]
            if zero is not None:
                self.watch.alone.stop()
            engine.backward(paid)
            self.watch.add(paid, loss, batch.get("source"))
        self.watch.alone.stop()
        self.watchdog.at("updating")
        norm = engine.step(lr)
        self.watch.alone.start()
        for module in frozen:
            module.requires_grad_(True)
        return self.watch.turned(dict(zip(names, local, strict=True)), norm)

    def _add_means(self, batch: Batch, sums: dict[str, float], weights: dict[str, float], counts: bool) -> set[str]:
        """Add what a batch gives; returns the names of the terms of the loss."""
        terms: set[str] = set()
        for turn in self.objective.turns(self.phase_at(self.config.steps - 1)):
            counted = turn.weights(batch)
            loss = turn.loss(self.forwards, batch)
            terms |= set(loss.sums)
            for name, value in loss.sums.items():
                sums[name] += float(value) * counts
                weights[name] += counted[name] * counts
            for name, (value, weight) in loss.metrics.items():
                sums[name] += float(value) * counts
                weights[name] += weight * counts
        return terms

    def _batches(self, start: int) -> Iterator[tuple[int, list[Batch], Work]]:
        def load(step: int) -> tuple[int, list[Batch], Work]:
            numbers = worker_samples(step, self.config.global_batch, self.parts, self.worker.rank, self.worker.world)
            batches = [self._collate(self.stream.read(part)) for part in numbers]
            # Counted here, on the CPU and beside the step: a device would have to be waited for.
            each = [(self.objective.tokens(b), self.objective.positions(b), self.objective.flops(b)) for b in batches]
            return step, batches, Work(*(sum(column) for column in zip(*each, strict=True)))

        jobs = (partial(load, step) for step in range(start, self.config.steps))
        for step, batches, work in ahead(jobs):
            self.watchdog.step = step + 1
            yield step, [self._to_device(batch) for batch in batches], work
            self.watchdog.at("loading")

    def _collate(self, rows: Rows) -> Batch:
        batch = self.objective.collate(rows)
        if "source" in rows:
            batch["source"] = torch.from_numpy(np.asarray(rows["source"]).astype(np.int64))
        return batch

    def _to_device(self, batch: Batch) -> Batch:
        return {k: v.to(self.worker.device, non_blocking=True) for k, v in batch.items()}

    def _due(self, every: int, done: int) -> bool:
        return done == self.config.steps or (every > 0 and done % every == 0)

    def _mode(self, train: bool) -> None:
        for engine in self.engines.values():
            engine.module.train(train)

    def _report(self, values: dict[str, float], position: Position, **more: Any) -> None:
        record = {"step": position.step, "samples": position.samples, **values, **more}
        self.latest.update({name: value for name, value in values.items() if name not in PASSING})
        if self.worker.leads:
            self.log(record)

    def _save(self, position: Position) -> None:
        if self.checkpoints is not None:
            checkpoints.save(
                self.checkpoints,
                position,
                self.engines,
                {**self.objective.state_dict(), **self.watch.state_dict()},
                self.identity,
                self.worker,
                self.placement.keep_checkpoints,
                self.placement.zero,
            )

    def _resume(self) -> Position:
        found = checkpoints.newest(self.checkpoints, self.identity, self.worker) if self.checkpoints else None
        if found is None and self.start:
            found = checkpoints.at(*self.start, self.worker)
            if found.position.samples != found.position.step * self.config.global_batch:
                raise UserError(
                    f"train.global_batch: {found.folder} was made with "
                    f"{found.position.samples // found.position.step} rows a step; keep that number to go on from it."
                )
        if found is None:
            return Position()
        state = checkpoints.load(found, self.engines)
        self.objective.load_state_dict({n: value for n, value in state.items() if not n.startswith(STATE)})
        self.watch.load_state_dict({n: value for n, value in state.items() if n.startswith(STATE)})
        return found.position


def _phases(objective: Objective, steps: int) -> Callable[[int], str]:
    names = [phase.name for phase in objective.phases(steps) for _ in range(phase.steps)]
    return lambda step: names[min(step, len(names) - 1)]


class _all_whole:  # noqa: N801 - reads as a function
    """Every engine's parameters whole, inside."""

    def __init__(self, engines: list[Engine]) -> None:
        self.contexts = [engine.whole() for engine in engines]

    def __enter__(self) -> None:
        for context in self.contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self.contexts):
            context.__exit__(*error)
