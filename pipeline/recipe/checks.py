"""What a recipe's sections must agree on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipeline import downstream
from training.config import PACKABLE, TEXT_OBJECTIVES, placement_problems

if TYPE_CHECKING:
    from pipeline.array_recipe import ArrayRecipe
    from pipeline.recipe.recipe import Recipe

Problem = tuple[str, str]
"""(path of a key, what is wrong with it beside the others)"""

STAGES = ("ingest", "tokenizer", "shards", "pretrain", "report")  # nodes that every flow has


def problems(recipe: Recipe) -> list[Problem]:
    """Every disagreement, in the order of the sections."""
    return [
        *_order(recipe),
        *_network(recipe),
        *_objective(recipe),
        *_longer(recipe),
        *train(recipe),
        *names(recipe.downstream),
        *downstream.problems(recipe),
        *placement(recipe),
    ]


def _order(recipe: Recipe) -> Iterator[Problem]:
    order, parts = recipe.order, {source.corpus for source in recipe.data.sources}
    if None in parts and len(parts) > 1:
        yield "data.sources", "of a mixture each source needs a corpus, and some have none"
    ways = [name for name in ("weights", "epochs") if getattr(order, name)]
    if len(ways) + (order.temperature != 1) > 1:
        yield "order", "found several of temperature, weights and epochs; choose one way to mix"
    for way in ways:
        given = set(getattr(order, way))
        if given != parts:
            names = ", ".join(sorted(filter(None, parts))) or "none; give data.sources a corpus each"
            yield f"order.{way}", f"names {', '.join(sorted(given))}; the corpora of data.sources are {names}"
        if min(getattr(order, way).values()) <= 0:
            yield f"order.{way}", "must be above 0; leave out a source that is not to be read"


def _network(recipe: Recipe) -> Iterator[Problem]:
    config = recipe.network.config
    for name in ("vocab_size", "pad_token_id"):
        if name in config:
            yield (
                f"network.config.{name}",
                "comes from the tokenizer; set tokenizer.vocabulary instead",
            )
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if isinstance(hidden, int) and isinstance(heads, int) and (heads < 1 or hidden % heads):
        yield (
            "network.config.hidden_size",
            f"{hidden} is not a multiple of num_attention_heads {heads}",
        )
    if recipe.compose.pack and recipe.network.architecture not in PACKABLE:
        text = f"{recipe.network.architecture!r} cannot keep apart the sequences of a packed row"
        yield "network.architecture", f"{text}; set compose.pack to false or use one of {', '.join(sorted(PACKABLE))}"
    positions, longer = config.get("max_position_embeddings"), recipe.train.longer
    lengths = {"compose.length": recipe.compose.length, "train.longer.length": longer.length if longer else 0}
    for name, length in lengths.items():
        if isinstance(positions, int) and positions < length:
            yield "network.config.max_position_embeddings", f"{positions} positions are fewer than {name} {length}"


def _objective(recipe: Recipe) -> Iterator[Problem]:
    if recipe.objective.name not in TEXT_OBJECTIVES:
        known = ", ".join(sorted(TEXT_OBJECTIVES))
        yield "objective.name", f"{recipe.objective.name!r} does not learn from text; choose {known}"
    sentence, kind = recipe.objective.options.get("sentence", "none"), recipe.compose.kind
    if sentence in ("nsp", "sop") and sentence != kind:
        yield (
            "objective.options.sentence",
            f"{sentence} needs compose.kind {sentence}, found {kind}",
        )


def _longer(recipe: Recipe) -> Iterator[Problem]:
    longer = recipe.train.longer
    if longer and longer.length <= recipe.compose.length:
        yield "train.longer.length", f"{longer.length} is not longer than compose.length {recipe.compose.length}"


def train(recipe: Recipe | ArrayRecipe) -> Iterator[Problem]:
    """Disagreements about the budget."""
    train = recipe.train
    if train.warmup_steps > train.steps:
        yield "train.warmup_steps", f"{train.warmup_steps} exceeds train.steps {train.steps}"
    if train.evaluate_every and recipe.data.split.validation == 0:
        yield "train.evaluate_every", "needs held-out documents; set data.split.validation above 0"
    if (train.schedule == "warmup-stable-decay") != (train.decay_steps > 0):
        text = f"found {train.decay_steps} with schedule {train.schedule}; it belongs to warmup-stable-decay"
        yield "train.decay_steps", text
    if train.decay_steps > max(0, train.steps - train.warmup_steps):
        yield "train.decay_steps", f"{train.decay_steps} exceeds the steps after warm-up"
    if train.start and train.start.step >= train.steps:
        yield "train.steps", f"{train.steps} leaves nothing to train after train.start.step {train.start.step}"
    if train.optimizer == "sgd" and recipe.placement.zero is not None:
        yield "train.optimizer", "sgd has no state for ZeRO to divide; set placement.zero to null, or use adamw"
    for index, beta in enumerate(train.betas):
        if not 0 <= beta < 1:
            yield f"train.betas.{index}", f"found {beta}; allowed: at least 0 and less than 1"


def names(jobs: Sequence[Any]) -> Iterator[Problem]:
    """Jobs that cannot be told apart."""
    seen: set[str] = set()
    for index, job in enumerate(jobs):
        if job.name in seen:
            yield f"downstream.{index}.name", f"{job.name!r} is the name of an earlier job, too"
        if job.name in STAGES:
            yield f"downstream.{index}.name", f"{job.name!r} is the name of a stage; choose another"
        seen.add(job.name)


def placement(recipe: Recipe | ArrayRecipe) -> Iterator[Problem]:
    """Disagreements about where it runs."""
    placement, rows = recipe.placement, recipe.train.global_batch
    if placement.workers > rows:
        yield (
            "placement.workers",
            f"{placement.workers} exceeds train.global_batch {rows}; each needs a row",
        )
    yield from ((f"placement.{name}", text) for name, text in placement_problems(placement))
