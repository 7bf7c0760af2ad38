"""What training on tables or pictures will need: parameters, memory of a worker, time, as `pipeline.estimate.tokens`
has it.

The network is counted (`training.cost.counted`) and tried (`pipeline.estimate.calibration`) as soon as it is known what
a row is: by the shards, or by a recipe that says how large its pictures are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_prep.facts import DataFacts
from pipeline.dag import Planned
from pipeline.estimate import calibration
from pipeline.estimate.cluster import UTILISATION
from pipeline.estimate.tokens import Estimate, chosen_device, worker_rows
from pipeline.recipe.recipe import Recipe
from training.config import PlacementConfig
from training.cost.counted import price
from training.cost.memory import counted_memory
from training.cost.step_benchmark import ArrayTrial
from training.cost.transformer import BACKWARD
from training.hardware import resolve_precision
from training.launch import needs_ray

MOST_ROWS = 4096  # that a trial reads from: of more, reading one is no dearer


def estimate(recipe: Recipe, planned: Sequence[Planned], home: Path, peak: float) -> Estimate | None:
    """Of a recipe's pretraining, None where nobody knows yet what a row is. `peak`: as for text."""
    shards = next(item.artifact for item in planned if item.node.name == "shards")
    shape = tuple(shards.summary["train"]["shape"]) if shards else shape_asked(recipe)
    if shape is None:
        return None
    train, placement = recipe.train, recipe.placement
    device = chosen_device(placement)
    precision = resolve_precision(train.precision, device)
    parts, rows = worker_rows(train.global_batch, placement)
    facts = DataFacts(recipe.data.kind, ("input",), shape)
    cost = price(recipe.objective, {"model": recipe.network}, facts, recipe.corruption, rows, precision, device)
    kind = "ray" if needs_ray(placement) else "flow"
    samples = train.steps * train.global_batch
    table = shards.summary["train"]["rows"] if shards else MOST_ROWS
    fresh = busy = False
    peak_bytes, share = None, 1.0
    if device == "cpu":
        rhythm = calibration.array_rhythm(home, _trial(recipe, shape, rows, table, precision), cost.row_flops)
        evaluations = (train.steps // train.evaluate_every if train.evaluate_every else 0) + 1
        held_out = min(train.evaluate_rows, shards.summary.get("validation", {"rows": 0})["rows"]) if shards else 0
        forward = rhythm.compute / BACKWARD * held_out / (rows * placement.workers)
        seconds = train.steps * rhythm.step(parts) + evaluations * forward
        times, fresh, busy = (seconds, seconds), rhythm.fresh, rhythm.busy
        peak_bytes, share = rhythm.peak_bytes, rhythm.share
    else:
        slow, fast = (samples * cost.row_flops / (placement.workers * peak * share) for share in UTILISATION)
        times = (fast, slow)
    return Estimate(
        parameters=cost.parameters,
        tokens=samples,
        flops=samples * cost.row_flops,
        memory=counted_memory(cost, placement, train.optimizer, parts > 1, kind, peak_bytes, share),
        device=device,
        precision=precision,
        seconds=times,
        measured=device == "cpu",
        fresh=fresh,
        busy=busy,
        passes=samples / table if shards else None,
    )


def shape_asked(recipe: Recipe) -> tuple[int, ...] | None:
    """[C, H, W] of pictures, if the recipe says how large they are made."""
    images = getattr(recipe.data, "images", None)
    side = images and (images.patch or images.size)
    return (images.channels, side, side) if images and side else None


def _trial(recipe: Recipe, shape: tuple[int, ...], rows: int, table: int, precision: str) -> ArrayTrial:
    """Of so many rows a worker, from a `table` of so many."""
    placement: PlacementConfig = recipe.placement
    return ArrayTrial(
        network=recipe.network,
        objective=recipe.objective,
        shape=list(shape),
        rows=min(table, MOST_ROWS),
        order=recipe.order,
        augment=recipe.augment,
        corruption=recipe.corruption,
        optimizer=recipe.train.optimizer,
        log_every=recipe.train.log_every,
        batch=rows * placement.workers,
        steps=1,  # calibration says how many
        precision=precision,
        placement=placement,
    )
