"""Estimates before training: parameters, memory, time; for any objective and kind of data.

    facts of the data ─► the objective on rows of its `example` ─► cost ─► memory, time

Facts are those of the shards if they are stored, else those of the recipe. On the CPU, time and memory come from a few
steps that are timed and watched (`pipeline.estimate.calibration`). For GPUs time comes from operations and typical
utilisation, memory from formulas where the network is a transformer, else it is counted (`training.cost`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.corruptions import CorruptionConfig
from data_prep.facts import DataFacts
from data_prep.kinds import facts_of, kind_of
from data_prep.shards.remote import open_shards
from data_prep.sources.files import below
from pipeline.artifact import Artifact
from pipeline.dag import PlannedNode
from pipeline.estimate import calibration
from pipeline.estimate.cluster import UTILISATION
from pipeline.recipe.recipe import Recipe
from training.config import PlacementConfig
from training.cost.counted import Cost, price
from training.cost.memory import Batch, Memory, Trial, counted_memory, memory, watched_memory
from training.cost.step_benchmark import MOST_ROWS, PlainFacts, StepBenchmark
from training.cost.transformer import BACKWARD, RECOMPUTED
from training.hardware import has_gpu, resolve_precision
from training.launch import needs_ray


@dataclass(frozen=True)
class TrainingPhase:
    """Consecutive steps on rows of one length."""

    steps: int
    facts: DataFacts
    corruption: CorruptionConfig


@dataclass(frozen=True)
class Estimate:
    """Needs of pretraining. `seconds` is a range, or one value twice."""

    parameters: int
    idle: int  # of them, those that do not process a given token: other experts
    unit: str  # of what is counted in `units`
    units: int  # at most, of all steps
    rows: int  # of all steps
    flops: float  # of all workers, without recomputation; 0: not known
    memory: Memory
    device: str
    precision: str
    seconds: tuple[float, float]
    measured: bool  # time, by steps on this machine
    fresh: bool  # just now
    busy: bool  # while the machine had other work: it may be much too long
    passes: float | None  # over the shards, where there are some


def estimate(
    recipe: Recipe,
    planned: Sequence[PlannedNode],
    home: Path,
    peak: float,
    measured: calibration.Measured | None = None,
) -> Estimate | None:
    """The needs of a recipe's pretraining; None while the shape of its rows is unknown.

    peak: operations per second of one GPU, for placements on GPUs. measured: see `calibration.step_time`.
    """
    stored = {item.node.name: item.artifact for item in planned if item.artifact}
    facts = known_facts(recipe, stored, home)
    if facts is None:
        return None
    train, placement = recipe.train, recipe.placement
    device = chosen_device(placement)
    precision = resolve_precision(train.precision, device)
    micro_batches, rows = worker_rows(train.global_batch, placement)
    phases = _phases(recipe, facts)
    costs = [_price(recipe, phase, rows, precision, device) for phase in phases]
    samples = [phase.steps * train.global_batch for phase in phases]
    flops = sum(count * cost.row_flops for count, cost in zip(samples, costs, strict=True))
    shards = stored["shards"].summary if "shards" in stored else None
    num_stored = shards["train"]["rows"] if shards else None
    step_times = []
    if device == "cpu":
        benchmarks = [_benchmark(recipe, phase, rows, num_stored, precision) for phase in phases]
        step_times = [
            calibration.step_time(home, *benchmark_and_cost, measured)
            for benchmark_and_cost in zip(benchmarks, costs, strict=True)
        ]
        held_out = _held_out(recipe, shards)
        seconds = 0.0
        for phase, time in zip(phases, step_times, strict=True):
            evaluations = (phase.steps // train.evaluate_every if train.evaluate_every else 0) + 1
            forward = time.compute / BACKWARD * held_out / (rows * placement.workers)
            seconds += phase.steps * time.step(micro_batches) + evaluations * forward
        times = (seconds, seconds)
    else:
        recomputed = RECOMPUTED if placement.activation_checkpointing else 1.0
        slow, fast = (flops * recomputed / (placement.workers * peak * share) for share in UTILISATION)
        times = (fast, slow)
    trials = [time.trial for time in step_times] or [None] * len(costs)
    needs = map(partial(_memory, recipe, precision), phases, costs, trials)
    return Estimate(
        parameters=costs[0].parameters,
        idle=costs[0].idle,
        unit=costs[0].unit,
        units=round(sum(count * cost.row_units for count, cost in zip(samples, costs, strict=True))),
        rows=sum(samples),
        flops=flops,
        memory=max(needs, key=lambda needed: needed.total),
        device=device,
        precision=precision,
        seconds=times,
        measured=device == "cpu",
        fresh=any(time.fresh for time in step_times),
        busy=any(time.busy for time in step_times),
        passes=samples[0] / num_stored if num_stored else None,
    )


def _memory(recipe: Recipe, precision: str, phase: TrainingPhase, cost: Cost, trial: Trial | None) -> Memory:
    """Memory of a worker, by a trial on the CPU or else of its GPU."""
    placement, optimizer = recipe.placement, recipe.train.optimizer
    micro_batches, rows = worker_rows(recipe.train.global_batch, placement)
    if trial is not None:
        process = "ray" if needs_ray(placement) else "flow"
        return watched_memory(cost, placement, optimizer, micro_batches > 1, process, trial)
    if cost.shape is None:
        return counted_memory(cost, placement, optimizer, micro_batches > 1)
    batch = Batch(rows, phase.facts.length or round(cost.row_units), math.ceil(rows * cost.row_targets))
    return memory(cost.shape, cost.parameters, batch, placement, precision, cost.beside, cost.experts)


def known_facts(recipe: Recipe, stored: Mapping[str, Artifact], home: Path) -> DataFacts | None:
    """Facts of stored shards, else those known from the recipe and a stored preprocessor; None if unknown."""
    kind = kind_of(recipe.data.kind)
    expected = kind.expected(recipe)
    preprocessor = stored[kind.fits].path if kind.fits and kind.fits in stored else None
    if "shards" in stored:
        folder = below(stored["shards"].uri, next(iter(stored["shards"].summary["parts"]["train"])))
        facts = facts_of(recipe.data.kind, open_shards(folder, home / "downloads" / "shards"), preprocessor)
        return replace(facts, length=expected.length) if expected else facts
    if expected and preprocessor:
        return replace(expected, specials=kind.specials(preprocessor))
    return expected


def worker_rows(global_batch: int, placement: PlacementConfig) -> tuple[int, int]:
    """Micro-batches of a step, and the most rows of a worker in one."""
    at_once = placement.micro_batch or global_batch
    parts = -(-global_batch // (at_once * placement.workers))
    return parts, -(-global_batch // (parts * placement.workers))


def chosen_device(placement: PlacementConfig) -> str:
    """The device that `placement.device` selects on this machine."""
    if placement.device == "auto":
        return "cuda" if has_gpu() else "cpu"
    return placement.device


def _phases(recipe: Recipe, facts: DataFacts) -> list[TrainingPhase]:
    train = recipe.train
    phases = [TrainingPhase(train.longer_from, facts, recipe.corruption)]
    if train.longer:
        longer = replace(facts, length=train.longer.length)
        phases.append(
            TrainingPhase(train.steps - train.longer_from, longer, train.longer.corruption(recipe.corruption))
        )
    return phases


def _price(recipe: Recipe, phase: TrainingPhase, rows: int, precision: str, device: str) -> Cost:
    networks = {"model": recipe.network, **recipe.networks}
    return price(recipe.objective, networks, phase.facts, phase.corruption, rows, precision, device)


def _benchmark(
    recipe: Recipe, phase: TrainingPhase, rows: int, num_stored: int | None, precision: str
) -> StepBenchmark:
    """A benchmark of one micro-batch; calibration sets the number of steps."""
    return StepBenchmark(
        objective=recipe.objective,
        network=recipe.network,
        networks=recipe.networks,
        facts=PlainFacts.of(phase.facts),
        corruption=phase.corruption,
        augment=recipe.augment,
        order=recipe.order,
        optimizer=recipe.train.optimizer,
        weight_decay=recipe.train.weight_decay,
        log_every=recipe.train.log_every,
        rows=min(num_stored or MOST_ROWS, MOST_ROWS),
        batch=rows * recipe.placement.workers,
        steps=1,
        precision=precision,
        placement=recipe.placement,
    )


def _held_out(recipe: Recipe, shards: Mapping[str, Any] | None) -> int:
    """Rows of an evaluation; before shards are made, as many as the recipe asks for."""
    if shards is None:
        return recipe.train.evaluate_rows if recipe.data.split.validation else 0
    validation = shards.get("validation", {"rows": 0})
    return min(recipe.train.evaluate_rows, validation["rows"])
