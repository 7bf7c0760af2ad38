"""What training will need, before it starts: parameters, memory, time. Of any objective, on any kind of data.

    facts of the data ─► the objective on rows of its `example` ─► cost ─► memory, time

Facts are those of the shards if they are stored, else what the recipe says of its rows. Memory comes from formulas
where the network is a transformer, else it is counted or measured (`training.cost`). Time comes from a few timed steps
(`pipeline.estimate.calibration`), or for GPUs from operations and what of a GPU's peak trainings reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_prep.corruptions import CorruptionConfig
from data_prep.facts import DataFacts
from data_prep.kinds import facts_of, kind_of
from data_prep.shards.remote import open_shards
from data_prep.sources.files import below
from pipeline.artifact import Artifact
from pipeline.dag import Planned
from pipeline.estimate import calibration
from pipeline.estimate.cluster import UTILISATION
from pipeline.recipe.recipe import Recipe
from training.config import PlacementConfig
from training.cost.counted import Cost, price
from training.cost.memory import Batch, Memory, counted_memory, memory
from training.cost.step_benchmark import MOST_ROWS, PlainFacts, StepBenchmark
from training.cost.transformer import BACKWARD, RECOMPUTED
from training.hardware import has_gpu, resolve_precision
from training.launch import needs_ray


@dataclass(frozen=True)
class Part:
    """Consecutive steps on rows of one length."""

    steps: int
    facts: DataFacts
    corruption: CorruptionConfig


@dataclass(frozen=True)
class Estimate:
    """What pretraining needs. `seconds` has two values where only a range is known."""

    parameters: int
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


def estimate(recipe: Recipe, planned: Sequence[Planned], home: Path, peak: float) -> Estimate | None:
    """Of a recipe's pretraining, None where nobody knows yet what a row is.

    peak: what one GPU computes a second, for those that are not here.
    """
    stored = {item.node.name: item.artifact for item in planned if item.artifact}
    facts = known_facts(recipe, stored, home)
    if facts is None:
        return None
    train, placement = recipe.train, recipe.placement
    device = chosen_device(placement)
    precision = resolve_precision(train.precision, device)
    micro_batches, rows = worker_rows(train.global_batch, placement)
    parts = _parts(recipe, facts)
    costs = [_price(recipe, part, rows, precision, device) for part in parts]
    samples = [part.steps * train.global_batch for part in parts]
    flops = sum(count * cost.row_flops for count, cost in zip(samples, costs, strict=True))
    shards = stored["shards"].summary if "shards" in stored else None
    num_stored = shards["train"]["rows"] if shards else None
    step_times = []
    if device == "cpu":
        benchmarks = [_benchmark(recipe, part, rows, num_stored, precision) for part in parts]
        step_times = [calibration.step_time(home, *both) for both in zip(benchmarks, costs, strict=True)]
        held_out = _held_out(recipe, shards)
        seconds = 0.0
        for part, time in zip(parts, step_times, strict=True):
            evaluations = (part.steps // train.evaluate_every if train.evaluate_every else 0) + 1
            forward = time.compute / BACKWARD * held_out / (rows * placement.workers)
            seconds += part.steps * time.step(micro_batches) + evaluations * forward
        times = (seconds, seconds)
    else:
        again = RECOMPUTED if placement.activation_checkpointing else 1.0
        slow, fast = (flops * again / (placement.workers * peak * share) for share in UTILISATION)
        times = (fast, slow)
    process = "ray" if needs_ray(placement) else "flow"
    at_most: list[Memory] = []
    for number, (part, cost) in enumerate(zip(parts, costs, strict=True)):
        if cost.shape is not None:
            length = part.facts.length or round(cost.row_units)
            batch = Batch(rows, length, math.ceil(rows * cost.row_targets), accumulated=micro_batches > 1)
            at_most.append(memory(cost.shape, cost.parameters, batch, placement, precision, device, process))
            continue
        watched = (step_times[number].peak_bytes, step_times[number].share) if step_times else (None, 1.0)
        at_most.append(counted_memory(cost, placement, train.optimizer, micro_batches > 1, process, *watched))
    return Estimate(
        parameters=costs[0].parameters,
        unit=costs[0].unit,
        units=round(sum(count * cost.row_units for count, cost in zip(samples, costs, strict=True))),
        rows=sum(samples),
        flops=flops,
        memory=max(at_most, key=lambda needed: needed.total),
        device=device,
        precision=precision,
        seconds=times,
        measured=device == "cpu",
        fresh=any(time.fresh for time in step_times),
        busy=any(time.busy for time in step_times),
        passes=samples[0] / num_stored if num_stored else None,
    )


def known_facts(recipe: Recipe, stored: Mapping[str, Artifact], home: Path) -> DataFacts | None:
    """Of the shards if they are stored, else as the recipe and a stored preprocessor tell; None if they do not."""
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
    """Micro-batches of a step, and the most rows that a worker takes in one."""
    at_once = placement.micro_batch or global_batch
    parts = -(-global_batch // (at_once * placement.workers))
    return parts, -(-global_batch // (parts * placement.workers))


def chosen_device(placement: PlacementConfig) -> str:
    """What `placement.device` comes to here."""
    if placement.device == "auto":
        return "cuda" if has_gpu() else "cpu"
    return placement.device


def _parts(recipe: Recipe, facts: DataFacts) -> list[Part]:
    train = recipe.train
    parts = [Part(train.longer_from, facts, recipe.corruption)]
    if train.longer:
        longer = replace(facts, length=train.longer.length)
        parts.append(Part(train.steps - train.longer_from, longer, train.longer.corruption(recipe.corruption)))
    return parts


def _price(recipe: Recipe, part: Part, rows: int, precision: str, device: str) -> Cost:
    networks = {"model": recipe.network}
    return price(recipe.objective, networks, part.facts, part.corruption, rows, precision, device)


def _benchmark(recipe: Recipe, part: Part, rows: int, num_stored: int | None, precision: str) -> StepBenchmark:
    """Steps of one micro-batch; calibration says how many."""
    return StepBenchmark(
        objective=recipe.objective,
        network=recipe.network,
        facts=PlainFacts.of(part.facts),
        corruption=part.corruption,
        augment=recipe.augment,
        order=recipe.order,
        optimizer=recipe.train.optimizer,
        log_every=recipe.train.log_every,
        rows=min(num_stored or MOST_ROWS, MOST_ROWS),
        batch=rows * recipe.placement.workers,
        steps=1,
        precision=precision,
        placement=recipe.placement,
    )


def _held_out(recipe: Recipe, shards: Mapping[str, Any] | None) -> int:
    """Rows of an evaluation: before shards are made, as many as are asked for."""
    if shards is None:
        return recipe.train.evaluate_rows if recipe.data.split.validation else 0
    validation = shards.get("validation", {"rows": 0})
    return min(recipe.train.evaluate_rows, validation["rows"])
