"""The training loop: one for every objective, engine and number of workers.

    for each step:  take the global batch ─► micro-batches of this rank ─► each player's turn: losses, backward, step
                    ─► after_step ─► now and then: log, evaluate, checkpoint

Everything random is keyed: the rows by their sample numbers, dropout by (seed, rank, step). So a run that stops and
goes on is the run that never stopped, bit for bit on the same number of CPU workers.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.errors import UserError
from data_prep.keyed import key
from training import checkpoint as checkpoints
from training.checkpoint import Position
from training.config import PlacementConfig, TrainConfig
from training.data import Samples, Stream, ahead, micro_batches, worker_samples
from training.deepspeed_engine import DeepSpeedEngine
from training.distributed import Worker
from training.engine import Engine, PlainEngine
from training.flops import peak_flops
from training.hardware import resolve_precision
from training.networks import autocast_forward, checkpoint_activations
from training.objective import Batch, Objective, Turn
from training.schedule import learning_rate

Log = Callable[[dict[str, Any]], None]


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
    identity: dict[str, Any] = field(default_factory=dict)  # what a checkpoint must match
    log: Log = lambda record: None  # logs, and never changes state

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
        self.engines = {n: self._engine(m) for n, m in self.objective.networks().items()}
        self.forwards = {name: engine.forward for name, engine in self.engines.items()}
        self.phase_at = _phases(self.objective, self.config.steps)
        self.tally = _Tally()
        self.latest: dict[str, float] = {}

    def _engine(self, module: torch.nn.Module) -> Engine:
        autocast_forward(module, self.worker.device, self.precision)
        if self.placement.activation_checkpointing:
            checkpoint_activations(module)
        if self.placement.compile:
            module.compile()
        if self.placement.zero is None:
            return PlainEngine(module, self.config, self.worker)
        return DeepSpeedEngine(module, self.config, self.placement, self.worker, self.parts)

    def run(self) -> dict[str, Any]:
        """Train to the last step from the newest checkpoint there is; returns what was seen last."""
        position = self._resume()
        started_at, began = position.step, time.perf_counter()
        self.peak = self.worker.sum([peak_flops(self.worker.device, self.precision)])[0]
        self._mode(train=True)
        for step, batches in self._batches(position.step):
            phase = self.phase_at(step)
            torch.manual_seed(key(self.seed, f"step {step}", f"rank {self.worker.rank}") >> 1)
            lr = learning_rate(step, self.config)
            for turn in self.objective.turns(phase):
                self._take_turn(turn, batches, lr)
            self.objective.after_step()
            done = step + 1
            position = Position(done, done * self.config.global_batch, phase)
            last = done == self.config.steps
            if last or done % self.config.log_every == 0:
                self._report(self.tally.close(self), position, lr=lr)
            if self._due(self.config.evaluate_every, done) and self.held_out is not None:
                self._report(self.evaluate(), position)
            if self._due(self.placement.checkpoint_every, done):
                self._save(position)
        seconds = time.perf_counter() - began
        return {
            "step": position.step,
            "samples": position.samples,
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
        with torch.no_grad():
            for step in range(-(-self.held_out_rows // size)):
                for numbers in worker_samples(step, size, self.parts, self.worker.rank, self.worker.world):
                    numbers = numbers[numbers < self.held_out_rows]
                    if len(numbers):
                        batch = self._to_device(self.objective.collate(self.held_out.read(numbers)))
                        self._add_means(batch, sums, weights)
        self._mode(train=True)
        # A worker may have held no row at all, but every worker must bring the same names to the sum.
        names = sorted({name for part in self.worker.gather(sorted(sums)) for name in part})
        totals = self.worker.sum([sums[n] for n in names] + [weights[n] for n in names])
        means = dict(zip(names, np.divide(*np.split(np.array(totals), 2)).tolist(), strict=True))
        return {f"validation_{name}": value for name, value in means.items()}

    def export(self, path: Path) -> None:
        """Write the trained networks for others, from rank 0."""
        with _all_whole(list(self.engines.values())):
            if self.worker.leads:
                self.objective.export(path)
        self.worker.barrier()

    def _take_turn(self, turn: Turn, batches: list[Batch], lr: float) -> None:
        engine = self.engines[turn.player]
        frozen = [e.module for name, e in self.engines.items() if name != turn.player]
        for module in frozen:
            module.requires_grad_(False)
        parts = [turn.weights(batch) for batch in batches]
        names = sorted(parts[0])
        local = [sum(part[name] for part in parts) for name in names]
        weights = dict(zip(names, self.worker.sum(local), strict=True))
        for batch in batches:
            loss = turn.loss(self.forwards, batch)
            engine.backward(
                sum(loss.sums[n] / max(weights[n], 1.0) for n in names)  # type: ignore[arg-type]
            )
            self.tally.add(loss.sums, loss.metrics)
        norm = engine.step(lr)
        for module in frozen:
            module.requires_grad_(True)
        self.tally.add_weights(dict(zip(names, local, strict=True)), norm)
        self.tally.add_work(
            sum(self.objective.tokens(batch) for batch in batches),
            sum(self.objective.flops(batch) for batch in batches),
        )

    def _add_means(self, batch: Batch, sums: dict[str, float], weights: dict[str, float]) -> None:
        for turn in self.objective.turns(self.phase_at(self.config.steps - 1)):
            counted = turn.weights(batch)
            loss = turn.loss(self.forwards, batch)
            for name, value in loss.sums.items():
                sums[name] += float(value)
                weights[name] += counted[name]
            for name, (value, weight) in loss.metrics.items():
                sums[name] += float(value)
                weights[name] += weight

    def _batches(self, start: int) -> Iterator[tuple[int, list[Batch]]]:
        def load(step: int) -> tuple[int, list[Batch]]:
            numbers = worker_samples(step, self.config.global_batch, self.parts, self.worker.rank, self.worker.world)
            return step, [self.objective.collate(self.stream.read(part)) for part in numbers]

        jobs = (partial(load, step) for step in range(start, self.config.steps))
        for step, batches in ahead(jobs):
            yield step, [self._to_device(batch) for batch in batches]

    def _to_device(self, batch: Batch) -> Batch:
        return {k: v.to(self.worker.device, non_blocking=True) for k, v in batch.items()}

    def _due(self, every: int, done: int) -> bool:
        return done == self.config.steps or (every > 0 and done % every == 0)

    def _mode(self, train: bool) -> None:
        for engine in self.engines.values():
            engine.module.train(train)

    def _report(self, values: dict[str, float], position: Position, **more: float) -> None:
        record = {"step": position.step, "samples": position.samples, **values, **more}
        self.latest.update(values)
        if self.worker.leads:
            self.log(record)

    def _save(self, position: Position) -> None:
        if self.checkpoints is not None:
            checkpoints.save(
                self.checkpoints,
                position,
                self.engines,
                self.objective.state_dict(),
                self.identity,
                self.worker,
                self.placement.keep_checkpoints,
            )

    def _resume(self) -> Position:
        found = checkpoints.committed(self.checkpoints) if self.checkpoints else []
        # All ranks must agree, also while another run of the same stage is writing.
        newest = self.worker.gather(found[-1].folder if found else None)[0]
        for candidate in found:
            if candidate.folder == newest:
                state = checkpoints.load(candidate, self.engines, self.identity, self.worker)
                self.objective.load_state_dict(state)
                return candidate.position
        return Position()


class _Tally:
    """Sums between two log records, kept on the device until they are wanted."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = defaultdict(float)
        self.weights: dict[str, float] = defaultdict(float)
        self.terms: set[str] = set()
        self.tokens = 0
        self.flops = 0.0
        self.norm = 0.0
        self.began = time.perf_counter()

    def add(self, sums: dict[str, Any], metrics: dict[str, tuple[Any, float]]) -> None:
        for name, value in sums.items():
            self.sums[name] += value.detach()
        for name, (value, weight) in metrics.items():
            self.sums[name] += value.detach()
            self.weights[name] += weight

    def add_weights(self, weights: dict[str, float], norm: float) -> None:
        for name, weight in weights.items():
            self.weights[name] += weight
            self.terms.add(name)
        self.norm = norm

    def add_work(self, tokens: int, flops: float) -> None:
        self.tokens += tokens
        self.flops += flops

    def close(self, training: Training) -> dict[str, float]:
        """Means since the last record, over all workers; begins anew."""
        names = sorted(self.sums)
        local = [float(self.sums[n]) for n in names] + [self.weights[n] for n in names]
        totals = training.worker.sum([*local, float(self.tokens), self.flops])
        seconds = max(time.perf_counter() - self.began, 1e-9)
        means = {name: totals[i] / max(totals[len(names) + i], 1.0) for i, name in enumerate(names)}
        values = {
            "loss": sum(means[name] for name in sorted(self.terms)),
            **means,
            "grad_norm": self.norm,
            "tokens_per_second": totals[-2] / seconds,
        }
        if totals[-1] and training.peak:
            values["mfu"] = totals[-1] / seconds / training.peak
        self.__init__()
        return values


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
