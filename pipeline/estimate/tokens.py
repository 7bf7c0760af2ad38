"""What training will need, before it starts: parameters, memory of a worker, time.

Memory comes from formulas (`training.cost.memory`), time from a few steps on few layers
(`pipeline.estimate.calibration`), or for GPUs from operations and what of a GPU's peak trainings reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.shards.rows import Specials
from pipeline.dag import Planned
from pipeline.estimate import calibration
from pipeline.estimate.cluster import UTILISATION
from pipeline.recipe.recipe import Recipe
from training.config import PlacementConfig
from training.cost.memory import Batch, Memory, memory
from training.cost.step_benchmark import Trial
from training.cost.transformer import BACKWARD, RECOMPUTED, shape_of
from training.hardware import has_gpu, resolve_precision
from training.launch import needs_ray


@dataclass(frozen=True)
class Phase:
    """Consecutive steps on rows of one length."""

    steps: int
    length: int
    targets: int  # of a row, at most
    rate: float
    max_predictions: int


@dataclass(frozen=True)
class Estimate:
    """What pretraining needs. `seconds` has two values where only a range is known."""

    parameters: int
    tokens: int  # of text; of tables and pictures, rows
    flops: float  # of all workers, without recomputation
    memory: Memory
    device: str
    precision: str
    seconds: tuple[float, float]
    measured: bool  # time, by trials on this machine
    fresh: bool  # just now
    busy: bool  # while the machine had other work: it may be much too long
    passes: float | None  # over the shards, where there are some


def estimate(recipe: Recipe, planned: Sequence[Planned], home: Path, peak: float) -> Estimate:
    """Of a recipe's pretraining; `peak` is what one GPU computes a second, for those that are not here."""
    from training.models.architectures import text_config

    by_name = {item.node.name: item.artifact for item in planned}
    made, shards = by_name["tokenizer"], by_name["shards"]
    vocabulary = made.summary["vocabulary"] if made else recipe.tokenizer.vocabulary
    device = chosen_device(recipe.placement)
    precision = resolve_precision(recipe.train.precision, device)
    shape = shape_of(text_config(recipe.network, made_up(vocabulary), device))
    parameters = count_parameters(recipe, vocabulary)
    phases = _phases(recipe)
    parts, rows = worker_rows(recipe.train.global_batch, recipe.placement)
    kind = "ray" if needs_ray(recipe.placement) else "flow"
    at_most = [
        memory(
            shape,
            parameters,
            Batch(rows, phase.length, rows * phase.targets, accumulated=parts > 1),
            recipe.placement,
            precision,
            device,
            kind,
        )
        for phase in phases
    ]
    batch = recipe.train.global_batch
    flops = sum(
        BACKWARD * phase.steps * batch * phase.length * shape.forward_flops(phase.length, phase.targets / phase.length)
        for phase in phases
    )
    fresh = busy = False
    if device == "cpu":
        seconds = 0.0
        for phase in phases:
            trial = _trial(recipe, vocabulary, precision, phase, rows)
            rhythm = calibration.rhythm(home, trial, shape.layers)
            evaluations = phase.steps // recipe.train.evaluate_every if recipe.train.evaluate_every else 0
            forward = rhythm.compute / BACKWARD * recipe.train.evaluate_rows / (rows * recipe.placement.workers)
            seconds += phase.steps * rhythm.step(parts) + (evaluations + 1) * forward
            fresh |= rhythm.fresh
            busy |= rhythm.busy
        times = (seconds, seconds)
    else:
        again = RECOMPUTED if recipe.placement.activation_checkpointing else 1.0
        slow, fast = (flops * again / (recipe.placement.workers * peak * share) for share in UTILISATION)
        times = (fast, slow)
    short = phases[0].steps * batch
    return Estimate(
        parameters=parameters,
        tokens=sum(phase.steps * batch * phase.length for phase in phases),
        flops=flops,
        memory=max(at_most, key=lambda one: one.total),
        device=device,
        precision=precision,
        seconds=times,
        measured=device == "cpu",
        fresh=fresh,
        busy=busy,
        passes=short / shards.summary["train"]["rows"] if shards else None,
    )


def count_parameters(recipe: Recipe, vocabulary: int) -> int:
    """Parameters of the network, built without memory for them."""
    import torch

    from training.models.architectures import text_config
    from training.models.masked_lm import masked_lm

    config: Any = text_config(recipe.network, made_up(vocabulary))
    sentence = recipe.objective.options.sentence != "none"
    with torch.device("meta"):
        model = masked_lm(config, sentence)
    return sum(parameter.numel() for parameter in model.parameters())


def made_up(vocabulary: int) -> Specials:
    """Special tokens of a tokenizer that is not there yet: only their number counts."""
    return Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=vocabulary)


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


def _phases(recipe: Recipe) -> list[Phase]:
    def phase(steps: int, length: int, max_predictions: int) -> Phase:
        rate = recipe.corruption.rate
        return Phase(steps, length, min(max_predictions, max(1, round(rate * length))), rate, max_predictions)

    train = recipe.train
    found = [phase(train.longer_from, recipe.compose.length, recipe.corruption.max_predictions)]
    if train.longer:
        corruption = train.longer.corruption(recipe.corruption)
        found.append(phase(train.steps - train.longer_from, train.longer.length, corruption.max_predictions))
    return found


def _trial(recipe: Recipe, vocabulary: int, precision: str, phase: Phase, rows: int) -> Trial:
    return Trial(
        network=recipe.network,
        objective=recipe.objective,
        vocabulary=vocabulary,
        length=phase.length,
        rate=phase.rate,
        max_predictions=phase.max_predictions,
        batch=rows * recipe.placement.workers,
        steps=1,  # calibration says how many
        precision=precision,
        placement=recipe.placement,
    )
