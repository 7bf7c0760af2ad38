"""The training loop: one for every objective, engine and number of workers.

    for each step:  take the global batch ─► micro-batches of this rank ─► prepare ─► each player's turn: losses,
                    backward, step ─► after_step ─► at intervals: log, evaluate, checkpoint, or stop on request

Everything random is keyed: the rows by their sample numbers, dropout by (seed, rank, step), what evaluation samples by
(seed, rank, batch). So a resumed run equals the uninterrupted one, bit for bit on the same number of CPU workers.

Batch statistics are refused where a worker sees a part of the step's rows: they would depend on the number of workers
and of micro-batches, and so would what is trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.errors import UserError
from data_prep.rng import Draws, key
from training.config import UNDIVIDED, PlacementConfig, TrainConfig
from training.data import BatchSplit, Samples, Stream, ahead, micro_batches
from training.distributed import Worker, compile_in_private, seed_torch
from training.engines import checkpoint as checkpoints
from training.engines.checkpoint import Position
from training.engines.deepspeed import DeepSpeedEngine
from training.engines.plain import Engine, FrozenEngine, PlainEngine, is_player
from training.engines.scopes import all_whole, batch_statistics, others_frozen, random_state, set_random_state
from training.evaluation import Evaluation, collated, to_device
from training.hardware import resolve_precision
from training.models.cpu_kernels import speed_up
from training.models.wrappers import autocast_forward, checkpoint_activations
from training.monitor.metrics import STATE, Monitor, Workload
from training.monitor.names import LEARNING_RATE, PASSING
from training.monitor.peak_flops import peak_flops
from training.monitor.watchdog import Watchdog
from training.objective import AnyTurn, Batch, Loss, Networks, Objective, Turn, WholeBatchTurn, phase_at
from training.schedule import learning_rate

Log = Callable[[dict[str, Any]], None]
EXPORT_BATCH = 64  # rows
DRAWN = "objective"  # the stream of what objectives draw


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
    evaluate_first: bool = False  # before the first step, too: what the network knows that training starts from
    identity: dict[str, Any] = field(default_factory=dict)  # what a checkpoint must match
    log: Log = lambda record: None  # logs, and never changes state
    sources: Sequence[str] = ()  # of a mixture, as `source` in its rows counts them
    stop: Callable[[], bool] = lambda: False  # asked in every step; one worker that is to stop stops all of them
    goes_on: Callable[[int], bool] | None = None  # asked at evaluations, in evaluation mode, with the steps done
    stacks: Path | None = None  # where stacks go if a worker keeps the others waiting; None: they wait for ever

    def __post_init__(self) -> None:
        self.precision = resolve_precision(self.config.precision, self.worker.device.type)
        num_parts = micro_batches(self.config.global_batch, self.worker.world, self.placement.micro_batch)
        self.split = BatchSplit(self.config.global_batch, num_parts, self.worker)
        self.split.check(self.objective.group_rows)
        refusal = self.objective.refuses(self.placement.zero)
        if refusal:
            raise UserError(refusal)
        self.objective.join(self.worker)
        networks = self.objective.networks()
        self._check(networks)
        self.engines = {name: self._engine(name, network) for name, network in networks.items()}
        self.forwards = {name: engine.forward for name, engine in self.engines.items()}
        self.modules = {name: engine.module for name, engine in self.engines.items()}
        self.phase_at = partial(phase_at, self.objective.phases(self.config.steps))
        self.monitor = Monitor(
            self.placement.watch,
            self.config,
            self.worker,
            precision=self.precision,
            sources=self.sources,
            unit=self.objective.unit,
            phase_at=self.phase_at,
        )
        self.watchdog = Watchdog(self.stacks, self.worker, self.placement.watch.stuck_seconds)
        self.stopping = False
        self.latest: dict[str, float] = {}

    def _check(self, networks: Mapping[str, nn.Module]) -> None:
        """Raises UserError where networks cannot be trained with these settings."""
        for name in self.config.players:
            if name not in networks:
                raise UserError(
                    f"train.players.{name}: the objective has no such network; it has {', '.join(networks)}."
                )
            optimizer = self.config.of(name).optimizer
            if self.placement.zero is not None and optimizer in UNDIVIDED:
                raise UserError(
                    f"train.players.{name}.optimizer: {optimizer} {UNDIVIDED[optimizer]}; set placement.zero to null."
                )
        for name, network in networks.items():
            place = batch_statistics(network)
            if place is not None and (self.worker.world > 1 or self.split.num_parts > 1):
                raise UserError(
                    f"network: {place} of {name!r} computes statistics of a batch, and each of {self.worker.world} "
                    f"workers sees a part of it, in {self.split.num_parts} micro-batches; set placement.workers to 1 "
                    "and placement.micro_batch to null, or use group norms."
                )

    def _engine(self, name: str, module: torch.nn.Module) -> Engine:
        autocast_forward(module, self.worker.device, self.precision)
        if self.placement.activation_checkpointing:
            checkpoint_activations(module)
        if self.placement.compile:
            compile_in_private()
            module.compile()
        elif self.worker.device.type == "cpu" and hasattr(module, "fuse_loss"):
            # Pretraining: the small batches of fine-tuning would lose by it.
            speed_up(module, self.precision)
        if not is_player(module):
            return FrozenEngine(module, self.worker)
        config = self.config.of(name)
        if self.placement.zero is None:
            return PlainEngine(module, config, self.worker)
        return DeepSpeedEngine(module, config, self.placement, self.worker, self.split.num_parts)

    def run(self) -> dict[str, Any]:
        """Train to the last step from the newest checkpoint or from the start; returns a summary with the last metrics.

        `stopped` in it: training ended before the last step, as `stop` or `goes_on` asked, with a checkpoint.
        Raises UserError where too many updates in a row are skipped, or a checkpoint belongs to another run.
        """
        position = self._resume()
        started_at, began = position.step, time.perf_counter()
        self.monitor.start(position.step, self.worker.sum([peak_flops(self.worker.device, self.precision)])[0])
        self._mode(train=True)
        with self.watchdog:
            if self.evaluate_first and position.step == 0 and self.held_out is not None:
                with self.monitor.aside():
                    self._report(self.evaluate(), position)
            for step, batches, draws, work in self._batches(position.step):
                phase = self.phase_at(step)
                seed_torch(key(self.seed, f"step {step}", f"rank {self.worker.rank}") >> 1)
                self.objective.before_step(step, self.config.steps)
                batches = self._prepared(batches, draws)
                updates = [self._take_turn(turn, batches, step) for turn in self.objective.turns(phase, step)]
                if updated := all(updates):
                    self.objective.after_step(step, self.config.steps)
                done = step + 1
                self.monitor.stepped(done, updated, work)
                position = Position(done, done * self.config.global_batch, phase)
                last = done == self.config.steps
                if last or done % self.config.log_every == 0:
                    values, warnings = self.monitor.record(done)
                    lr = learning_rate(step, self.config)
                    extras = {"warnings": warnings} if warnings else {}
                    self._report({**values, LEARNING_RATE: lr}, position, **extras)
                if self._due(self.config.evaluate_every, done):
                    self._evaluated(position)
                if self._due(self.placement.checkpoint_every, done) or self.stopping:
                    self.watchdog.at("writing a checkpoint")
                    with self.monitor.aside():
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
            "shown": list(self.objective.shown),
            "bytes_held": self.worker.gather({name: engine.bytes_held() for name, engine in self.engines.items()}),
            **self.latest,
        }

    def _evaluated(self, position: Position) -> None:
        """Report on held-out rows, and ask whether training goes on: the answer is the same on every worker."""
        with self.monitor.aside():
            if self.held_out is not None:
                self._report(self.evaluate(), position)
            if self.goes_on is not None:
                self._mode(train=False)
                self.stopping |= not self.goes_on(position.step)
                self._mode(train=True)

    def evaluate(self) -> dict[str, float]:
        """Mean of every term and metric over the held-out rows; see `training.evaluation`."""
        if self.held_out is None or self.held_out_rows == 0:
            return {}
        last_step = self.config.steps - 1
        evaluation = Evaluation(
            objective=self.objective,
            forwards=self.forwards,
            modules=self.modules,
            held_out=self.held_out,
            num_rows=self.held_out_rows,
            split=self.split,
            worker=self.worker,
            watchdog=self.watchdog,
            seed=self.seed,
            sources=self.sources,
        )
        self._mode(train=False)
        means = evaluation.means(self.phase_at(last_step), last_step)
        self._mode(train=True)
        return means

    def export(self, path: Path) -> None:
        """Write the trained networks for others, from rank 0; what was written is opened again and compared."""
        from training.inference.opening import check_export

        with all_whole(self.engines.values()):
            if self.worker.leads:
                self.objective.export(path, self._first_samples(self.objective.export_rows))
                exported = self.objective.exported()
                if exported is not None:
                    check_export(path, exported)
        self.worker.barrier()

    def _first_samples(self, count: int) -> Iterator[Batch]:
        """The first `count` samples of training, a few at a time."""
        for start in range(0, count, EXPORT_BATCH):
            numbers = np.arange(start, min(start + EXPORT_BATCH, count))
            yield to_device(self._read(numbers)[0], self.worker.device)

    def _prepared(self, batches: list[Batch], draws: list[Draws]) -> list[Batch]:
        """The batches with what all turns of the step share."""
        with torch.no_grad():
            return [self.objective.prepare(self.modules, *pair) for pair in zip(batches, draws, strict=True)]

    def _take_turn(self, turn: AnyTurn, batches: list[Batch], step: int) -> bool:
        """Train one player on the batches; returns whether its update was made."""
        engine = self.engines[turn.player]
        with others_frozen([e.module for e in self.engines.values()], engine.module):
            weights = (
                self._backward_whole(turn, batches, step)
                if isinstance(turn, WholeBatchTurn)
                else self._backward(turn, batches)
            )
            self.monitor.busy.stop()
            self.watchdog.at("updating")
            norm = engine.step(learning_rate(step, self.config.of(turn.player)))
            self.monitor.busy.start()
        return self.monitor.turned(weights, norm)

    def _networks(self, player: str) -> Networks:
        """The networks by name: the player through its engine, which handles the backward pass; the others directly."""
        return {**self.modules, player: self.forwards[player]}

    def _summed(self, local: list[float]) -> list[float]:
        """Numbers summed over all workers; the same call shares whether one of them is asked to stop."""
        self.monitor.busy.stop()
        self.watchdog.at("adding up targets")
        *totals, num_asking = self.worker.sum([*local, float(self.stop())])
        self.stopping |= num_asking > 0
        return totals

    def _backward(self, turn: Turn, batches: list[Batch]) -> dict[str, float]:
        """Gradients of a loss that is a sum over targets; returns how many this worker has, by term."""
        engine, networks, zero = self.engines[turn.player], self._networks(turn.player), self.placement.zero
        batch_weights = [turn.weights(batch) for batch in batches]
        names = sorted(batch_weights[0])
        local = [sum(by_term[name] for by_term in batch_weights) for name in names]
        totals = zip(names, self._summed(local), strict=True)
        weights = {name: total + turn.extra.get(name, 0.0) for name, total in totals}
        for batch in batches:
            self.watchdog.at("computing")
            if zero != 3:  # ZeRO 3 waits for other workers in both passes, 1 and 2 in the backward pass
                self.monitor.busy.start()
            loss = turn.loss(networks, batch)
            paid: Tensor = sum(loss.sums[n] / (weights[n] or 1.0) for n in names)  # type: ignore[assignment]
            if zero is not None:
                self.monitor.busy.stop()
            engine.backward(sum(loss.sums.values()) if turn.adds else paid)  # type: ignore[arg-type]
            self.monitor.add(paid, loss, batch.get("source"))
        return dict(zip(names, local, strict=True))

    def _backward_whole(self, turn: WholeBatchTurn, batches: list[Batch], step: int) -> dict[str, float]:
        """Gradients of a loss of the whole batch; see `WholeBatchTurn`.

        Returns weights by term. They only count on one worker, as all of them have the same loss.
        """
        engine, networks = self.engines[turn.player], self._networks(turn.player)
        self._summed([])
        states: list[dict[str, Any]] = []
        batch_features: list[dict[str, Tensor]] = []
        buffers = [(buffer, buffer.clone()) for e in self.engines.values() for buffer in e.module.buffers()]
        with torch.no_grad():
            for batch in batches:
                self.watchdog.at("computing features")
                states.append(random_state(self.worker.device))
                batch_features.append(turn.features(networks, batch))
            for buffer, before in buffers:  # the second pass changes them
                buffer.copy_(before)
        counts = self.split.counts(step, (step + 1) * self.config.global_batch)
        leaves = {name: value.detach() for name, value in self.split.gathered(batch_features, counts).items()}
        differentiable = [name for name, value in leaves.items() if value.is_floating_point()]
        for name in differentiable:
            leaves[name].requires_grad_()
        seed_torch(key(self.seed, f"step {step}", "whole") >> 1)
        loss = turn.loss(leaves)
        paid: Tensor = sum(loss.sums[name] for name in sorted(loss.sums))  # type: ignore[assignment]
        gradient_list = torch.autograd.grad(paid, [leaves[name] for name in differentiable], allow_unused=True)
        gradients = {name: g for name, g in zip(differentiable, gradient_list, strict=True) if g is not None}
        starts = np.cumsum([0, *(sum(row) for row in counts)])
        for number, (batch, state) in enumerate(zip(batches, states, strict=True)):
            self.watchdog.at("computing")
            set_random_state(state, self.worker.device)
            features = turn.features(networks, batch)
            start = int(starts[number]) + sum(counts[number][: self.worker.rank])
            mine = slice(start, start + counts[number][self.worker.rank])
            shares = [(features[name] * gradient[mine]).sum() for name, gradient in gradients.items()]
            engine.backward(sum(shares))  # type: ignore[arg-type]
        counts_once = float(self.worker.leads)  # all workers have the same loss
        metrics = {name: (value * counts_once, weight * counts_once) for name, (value, weight) in loss.metrics.items()}
        sums = {name: value.detach() * counts_once for name, value in loss.sums.items()}
        self.monitor.add(paid.detach() * counts_once, Loss(sums, metrics), None)
        return dict.fromkeys(loss.sums, counts_once)

    def _batches(self, start: int) -> Iterator[tuple[int, list[Batch], list[Draws], Workload]]:
        def load(step: int) -> tuple[int, list[Batch], list[Draws], Workload]:
            samples = self.split.samples(step)
            batches, draws = (list(column) for column in zip(*map(self._read, samples), strict=True))
            # Counted here, on the CPU and in parallel to the step: counting on a device would mean waiting for it.
            measures = [
                (self.objective.num_units(b), self.objective.num_positions(b), self.objective.flops(b)) for b in batches
            ]
            return step, batches, draws, Workload(*(sum(column) for column in zip(*measures, strict=True)))

        jobs = (partial(load, step) for step in range(start, self.config.steps))
        for step, batches, draws, work in ahead(jobs):
            self.watchdog.step = step + 1
            yield step, [to_device(batch, self.worker.device) for batch in batches], draws, work
            self.watchdog.at("loading")

    def _read(self, numbers: np.ndarray) -> tuple[Batch, Draws]:
        """Samples of training as a batch, and the draws that their numbers name."""
        draws = Draws(key(self.seed, DRAWN), 0, numbers)
        rows = self.objective.drawn(self.stream.read(numbers), draws)
        return collated(self.objective, rows), draws

    def _due(self, every: int, done: int) -> bool:
        return done == self.config.steps or (every > 0 and done % every == 0)

    def _mode(self, train: bool) -> None:
        for engine in self.engines.values():
            engine.module.train(train)

    def _report(self, values: dict[str, float], position: Position, **extras: Any) -> None:
        record = {"step": position.step, "samples": position.samples, **values, **extras}
        self.latest.update({name: value for name, value in values.items() if name not in PASSING})
        if self.worker.leads:
            self.log(record)

    def _save(self, position: Position) -> None:
        if self.checkpoints is not None:
            checkpoints.save(
                self.checkpoints,
                position,
                self.engines,
                {**self.objective.state_dict(), **self.monitor.state_dict()},
                self.identity,
                self.worker,
                self.placement.keep_checkpoints,
                self.placement.zero,
            )

    def _resume(self) -> Position:
        checkpoint = checkpoints.newest(self.checkpoints, self.identity, self.worker) if self.checkpoints else None
        if checkpoint is None and self.start:
            checkpoint = checkpoints.at(*self.start, self.worker)
            if checkpoint.position.samples != checkpoint.position.step * self.config.global_batch:
                rows = checkpoint.position.samples // checkpoint.position.step
                raise UserError(
                    f"train.global_batch: {checkpoint.folder} was made with {rows} rows a step; keep that number to go "
                    "on from it."
                )
        if checkpoint is None:
            return Position()
        state = checkpoints.load(checkpoint, self.engines)
        self.objective.load_state_dict({n: value for n, value in state.items() if not n.startswith(STATE)})
        self.monitor.load_state_dict({n: value for n, value in state.items() if n.startswith(STATE)})
        return checkpoint.position
